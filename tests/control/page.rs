//! A node's metrics as numbers.

use std::net::SocketAddr;

use anyhow::Context;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// One page of metrics.
pub(crate) struct Page(String);

impl Page {
    pub(crate) async fn of(address: SocketAddr) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok(Self(text))
    }

    pub(crate) fn value(&self, name: &str) -> anyhow::Result<f64> {
        let line = self.0.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
        line.with_context(|| format!("no {name} on the page"))?.parse().context("a metric that is no number")
    }
}

/// What a histogram gained between two pages: how many, their mean in milliseconds, and how many within `bound` seconds.
pub(crate) fn gained(before: &Page, after: &Page, name: &str, bound: &str) -> anyhow::Result<(f64, f64, f64)> {
    let diff = |suffix: &str| {
        let name = format!("{name}{suffix}");
        Ok::<_, anyhow::Error>(after.value(&name)? - before.value(&name)?)
    };
    let count = diff("_count")?;
    Ok((count, diff("_sum")? * 1000.0 / count.max(1.0), diff(&format!("_bucket{{le=\"{bound}\"}}"))?))
}
