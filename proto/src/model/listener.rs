//! A listener: an address and port that clients connect to.

use std::net::SocketAddr;

use super::{Name, address, words};
use crate::config::v1 as pb;
use crate::{Problems, Table};

/// An address and port that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// May name a virtual IP, or an unspecified address for all.
    pub address: SocketAddr,
    /// `None`: as [`Listener::speaks_http2`] says.
    pub http2: Option<Http2>,
}

/// Whether a listener speaks HTTP/2, WebSocket over it (RFC 8441) included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Http2 {
    /// HTTP/1.1 only.
    Off,
    /// With TLS the client chooses by ALPN; without, it must know beforehand (RFC 9113 section 3.3).
    On,
}

words::words!(Http2 = pb::Http2 { Off = "off", On = "on" });

impl Listener {
    /// One that does nothing special.
    pub fn at(address: SocketAddr) -> Self {
        Self { address, http2: None }
    }

    /// Whether a client may speak HTTP/2 here. Where nothing is said it may where it asks by ALPN, so with TLS; a plain
    /// listener would have to look at every client's first bytes to find out.
    pub fn speaks_http2(&self, tls: bool) -> bool {
        self.http2.map_or(tls, |said| said == Http2::On)
    }

    pub(super) fn check(path: &str, given: &pb::Listener, problems: &mut Problems) -> Option<Self> {
        let address = address::check(format!("{path}.address"), &given.address, problems)?;
        Some(Self { address, http2: Http2::said(given.http2) })
    }

    pub(super) fn message(&self, name: &Name) -> pb::Listener {
        pb::Listener {
            name: name.to_string(),
            address: self.address.to_string(),
            http2: self.http2.map_or(0, Into::into),
        }
    }

    pub(super) fn read(name: String, t: &mut Table, problems: &mut Problems) -> pb::Listener {
        pb::Listener {
            name,
            address: t.text("address", problems).unwrap_or_default(),
            http2: words::read(t, "http2", Http2::WORDS, problems),
        }
    }

    pub(super) fn table(&self) -> toml::Table {
        let mut table = toml::toml! { address = (self.address.to_string()) };
        if let Some(http2) = self.http2 {
            table.insert("http2".to_owned(), http2.word().into());
        }
        table
    }
}
