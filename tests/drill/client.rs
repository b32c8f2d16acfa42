//! Inside the client container: holds, probes and writes, and tells everything to the drill outside.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use tandem_proto::papers::{Current, Papers};
use tandem_tests::admin::Admin;
use tandem_tests::clock::{now, until};
use tandem_tests::peers;
use tokio::process::Command;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex, watch};

use crate::talk::{Ask, Told};

/// Sessions that are held.
pub(crate) const HELD: usize = 20;
/// From one new connection to the next.
pub(crate) const PROBE_EVERY: Duration = Duration::from_millis(10);
/// A new connection is given up after this.
const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// Each held session echoes this often.
const PACE: Duration = Duration::from_millis(100);
/// From one change of the config to the next.
const WRITE_EVERY: Duration = Duration::from_millis(100);
/// What the changes add.
pub(crate) const WRITTEN: &str = "written-";

/// Runs until stdin ends.
///
/// # Errors
/// Something is asked that it does not know.
pub(crate) async fn run(target: SocketAddr) -> anyhow::Result<()> {
    let (tell, mut told) = unbounded_channel();
    std::thread::spawn(move || {
        use std::io::Write as _;
        let mut out = std::io::stdout().lock();
        while let Some(line) = told.blocking_recv() {
            let line = serde_json::to_string(&line).unwrap_or_default();
            if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
                return;
            }
        }
    });
    let (see, mut seen) = unbounded_channel();
    let _probe = peers::probe(target, PROBE_EVERY, PROBE_LIMIT, see.clone());
    let _held = peers::hold(target, HELD, PACE, see);
    let forward = tell.clone();
    let _forward = peers::Running::start(async move {
        while let Some(seen) = seen.recv().await {
            let _ = forward.send(Told::Saw(seen));
        }
    });
    let writer = Writer::default();
    let _writing = peers::Running::start(writer.clone().run(tell.clone()));

    let (said, mut asked) = unbounded_channel();
    std::thread::spawn(move || std::io::stdin().lines().map_while(Result::ok).try_for_each(|line| said.send(line)));
    while let Some(line) = asked.recv().await {
        match serde_json::from_str(&line).with_context(|| line.clone())? {
            Ask::Write => writer.on.store(true, Ordering::Relaxed),
            Ask::Rest => {
                writer.on.store(false, Ordering::Relaxed);
                let _through = writer.busy.lock().await;
                let _ = tell.send(Told::Rested);
            }
            Ask::Run(words) => {
                let _ = tell.send(tandemctl(&words).await);
            }
            Ask::Agree => {
                let _ = tell.send(Told::Agreed(agree().await.map_err(|e| format!("{e:#}"))));
            }
            Ask::Read => {
                let _ = tell.send(Told::Written(read().await?));
            }
        }
    }
    Ok(())
}

async fn tandemctl(words: &[String]) -> Told {
    let started = now();
    let output = Command::new("tandemctl").args(words).stdin(Stdio::null()).output().await;
    let ended = now();
    match output {
        Ok(output) => Told::Ran {
            started,
            ended,
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        },
        Err(e) => Told::Ran { started, ended, code: -1, out: String::new(), err: e.to_string() },
    }
}

fn nodes() -> anyhow::Result<Vec<SocketAddr>> {
    let given = std::env::var("TANDEM_NODES").context("TANDEM_NODES names the nodes")?;
    given.split(',').map(|node| node.parse().with_context(|| node.to_owned())).collect()
}

/// The one revision of all nodes.
async fn agree() -> anyhow::Result<u64> {
    let nodes = nodes()?;
    let admin = Admin::with(nodes.iter().copied(), Some(papers()?))?;
    let agreed = until("all nodes are at one revision", Duration::from_secs(20), || async {
        let mut revisions = Vec::new();
        for node in &nodes {
            revisions.push(admin.config_of(*node).await.ok()?.0);
        }
        revisions.windows(2).all(|pair| pair[0] == pair[1]).then(|| revisions[0])
    })
    .await;
    if agreed.is_err() {
        let mut said = Vec::new();
        for node in &nodes {
            match admin.config_of(*node).await {
                Ok((revision, _)) => said.push(format!("{node}: revision {revision}")),
                Err(e) => said.push(format!("{node}: {e:#}")),
            }
        }
        anyhow::bail!("{}", said.join(", "));
    }
    agreed
}

async fn read() -> anyhow::Result<Vec<(String, u64, Vec<String>)>> {
    let nodes = nodes()?;
    let admin = Admin::with(nodes.iter().copied(), Some(papers()?))?;
    let mut all = Vec::new();
    for node in nodes {
        let (revision, config) = admin.config_of(node).await?;
        let routes = config.routes.into_iter().map(|r| r.name).filter(|name| name.starts_with(WRITTEN)).collect();
        all.push((node.to_string(), revision, routes));
    }
    Ok(all)
}

/// An operator who never stops changing things, through tandemctl like any other.
#[derive(Clone, Default)]
struct Writer {
    on: Arc<AtomicBool>,
    busy: Arc<Mutex<()>>,
    count: Arc<AtomicU64>,
}

impl Writer {
    async fn run(self, tell: UnboundedSender<Told>) {
        loop {
            tokio::time::sleep(WRITE_EVERY).await;
            let _busy = self.busy.lock().await;
            if !self.on.load(Ordering::Relaxed) {
                continue;
            }
            let name = format!("{WRITTEN}{}", self.count.fetch_add(1, Ordering::Relaxed));
            let host = format!("{name}.example");
            let words = ["route", "add", &name, "--upstream", "chat", "--host", &host, "--timeout", "10s"];
            let words: Vec<String> = words.iter().map(ToString::to_string).collect();
            if let Told::Ran { code: 0, .. } = tandemctl(&words).await {
                let _ = tell.send(Told::Acknowledged(name));
            }
        }
    }
}

/// The administrator's certificate that the first node keeps: its directory is mounted here.
fn papers() -> anyhow::Result<Current> {
    let text = std::fs::read_to_string("/var/lib/tandem/admin.pem").context("the first node keeps no certificate")?;
    Ok(watch::channel(Arc::new(Papers::parse(&text)?)).1)
}
