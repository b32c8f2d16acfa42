//! The demo itself: starts the cluster, shows it in one live line, does what keys or a script say.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Serialize;
use tandem_proto::admin::v1::admin_client::AdminClient;
use tandem_proto::admin::v1::{StatusReply, StatusRequest};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tonic::transport::Endpoint;

use super::clients::{Notes, hold, probe};
use super::cluster::{ADDRESS, Cluster};
use super::script::{self, Step};

/// How many sessions are held.
const SESSIONS: usize = 20;
/// Until it must stand.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the demo takes.
#[derive(clap::Args)]
pub struct Args {
    /// Steps instead of keys, then a JSON summary: "wait 3; kill; wait 5; revive; wait 3; move; add; quit"
    #[arg(long)]
    script: Option<String>,
}

/// One thing that was done, and what clients noticed.
#[derive(Debug, Serialize)]
struct Event {
    event: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    node: String,
    /// New connections were out for this long.
    #[serde(skip_serializing_if = "Option::is_none")]
    outage_ms: Option<u128>,
    /// From tandemctl's return to the first session on the added backend.
    #[serde(skip_serializing_if = "Option::is_none")]
    first_session_ms: Option<u128>,
    /// Held sessions that broke through it.
    broken: usize,
}

#[derive(Debug, Serialize)]
struct Summary {
    ready_ms: u128,
    revision: u64,
    holder: String,
    held: usize,
    broken: usize,
    reconnected: usize,
    kills: usize,
    kill_outage_p50_ms: Option<u128>,
    kill_outage_max_ms: Option<u128>,
    events: Vec<Event>,
}

/// Runs the demo.
///
/// # Errors
/// If the machine refuses a process or a port, or the cluster does not stand within 10 s.
pub fn run(args: Args) -> anyhow::Result<()> {
    let steps = args.script.as_deref().map(script::parse).transpose().map_err(anyhow::Error::msg)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        tokio::select! {
            done = show(steps) => done,
            // Dropping the cluster kills its processes and removes its files.
            () = asked_to_stop() => Ok(()),
        }
    })
}

async fn asked_to_stop() {
    let Ok(mut term) = signal(SignalKind::terminate()) else { return };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = term.recv() => {}
    }
}

async fn show(steps: Option<Vec<Step>>) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut demo = Demo::start().await?;
    demo.ready_ms = start.elapsed().as_millis();
    demo.introduce();
    let Some(steps) = steps else { return demo.interact().await };
    for step in steps {
        if step == Step::Quit {
            break;
        }
        demo.step(step).await?;
    }
    println!("{}", serde_json::to_string_pretty(&demo.summary().await)?);
    Ok(())
}

struct Demo {
    cluster: Cluster,
    notes: Notes,
    events: Vec<Event>,
    ready_ms: u128,
}

impl Demo {
    async fn start() -> anyhow::Result<Self> {
        let cluster = Cluster::start()?;
        let deadline = Instant::now() + PATIENCE;
        let demo = Self { cluster, notes: Notes::default(), events: Vec::new(), ready_ms: 0 };
        let config = demo.cluster.config().display().to_string();
        let mut apply = demo.cluster.tandemctl();
        apply.extend(["--timeout".into(), "8s".into(), "config".into(), "apply".into(), config]);
        command(&apply).await.with_context(|| demo.where_to_look())?;
        for number in 0..SESSIONS {
            tokio::spawn(hold(demo.cluster.front, demo.notes.clone(), number));
        }
        tokio::spawn(probe(demo.cluster.front, demo.notes.clone()));
        while demo.notes.now().held < SESSIONS {
            if Instant::now() > deadline {
                bail!("{} of {SESSIONS} sessions stand after 10 s; {}", demo.notes.now().held, demo.where_to_look());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(demo)
    }

    fn where_to_look(&self) -> String {
        let logs = std::fs::read_to_string(self.cluster.dir().join("a.log")).unwrap_or_default();
        format!("the log of node a says:\n{logs}")
    }

    fn introduce(&self) {
        let c = &self.cluster;
        // With a script stdout is the summary's alone.
        let mut out = std::io::stderr().lock();
        let _ = writeln!(out, "Tandem demo, ready in {} ms\n", self.ready_ms);
        let _ = writeln!(
            out,
            "  clients   ws://{}/ and http://{}/   ({SESSIONS} WebSockets held through it)",
            c.front, c.front
        );
        for n in &c.nodes {
            let _ = writeln!(out, "  node {}    {:<8} {}   pid {}", n.name, n.role, n.port, n.pid().unwrap_or(0));
        }
        let backends: Vec<String> = c.backends.iter().map(ToString::to_string).collect();
        let _ = writeln!(out, "  backends  {}; one more waits on {}", backends.join(" "), c.spare);
        let _ = writeln!(out, "  logs      {}/*.log", c.dir().display());
        let _ = writeln!(out, "\nAdd the waiting backend, from another terminal:\n  {}\n", c.add_spare().join(" "));
    }

    async fn interact(&mut self) -> anyhow::Result<()> {
        let mut keys = std::io::stdin().is_terminal().then(Keys::listen).transpose()?;
        if keys.is_some() {
            eprint!("k kills the holder   r revives it   m moves the address   q quits\r\n\r\n");
        }
        loop {
            let seen = self.status().await;
            self.live_line(seen.as_ref(), keys.is_some());
            let key = match &mut keys {
                Some(keys) => tokio::time::timeout(Duration::from_millis(250), keys.next()).await.unwrap_or(None),
                None => {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    None
                }
            };
            let step = match key {
                Some('k') => Step::Kill,
                Some('r') => Step::Revive,
                Some('m') => Step::Move,
                Some('q') => break,
                _ => continue,
            };
            if let Err(e) = self.step(step).await {
                eprint!("\r\n{e:#}\r\n");
            }
        }
        eprint!("\r\n");
        Ok(())
    }

    fn live_line(&self, status: Option<&StatusReply>, in_place: bool) {
        let seen = self.notes.now();
        let revision = status.map_or("?".to_owned(), |s| s.revision.to_string());
        let holder = status.and_then(holder).unwrap_or_else(|| "nobody".to_owned());
        let outage = match (seen.out_since, seen.outages.last()) {
            (Some(since), _) => format!("OUT for {} ms", since.elapsed().as_millis()),
            (None, Some(last)) => format!("last outage {} ms", last.as_millis()),
            (None, None) => "no outage".to_owned(),
        };
        let line = format!(
            "revision {revision} | {ADDRESS} on {holder} | sessions {} held, {} broken, {} reconnected | {outage}",
            seen.held, seen.broken, seen.reconnected
        );
        if in_place {
            eprint!("\r\x1b[K{line}");
        } else {
            eprintln!("{line}");
        }
    }

    async fn status(&self) -> Option<StatusReply> {
        for node in self.cluster.nodes.iter().filter(|n| n.pid().is_some()) {
            let endpoint = Endpoint::from_shared(format!("http://{}", node.port)).ok()?;
            let asked = async {
                let channel = endpoint.connect_timeout(Duration::from_millis(200)).connect().await.ok()?;
                Some(AdminClient::new(channel).status(StatusRequest::default()).await.ok()?.into_inner())
            };
            if let Ok(Some(status)) = tokio::time::timeout(Duration::from_millis(800), asked).await {
                return Some(status);
            }
        }
        None
    }

    /// The node that holds the address, waiting for one while it moves.
    async fn holder(&self) -> anyhow::Result<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(holder) = self.status().await.as_ref().and_then(holder) {
                return Ok(holder);
            }
            if Instant::now() > deadline {
                bail!("nobody holds {ADDRESS} (r revives a killed node)");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn step(&mut self, step: Step) -> anyhow::Result<()> {
        let before = self.notes.now();
        match step {
            Step::Wait(d) => tokio::time::sleep(d).await,
            Step::Quit => {}
            Step::Kill => {
                let node = self.holder().await?;
                self.cluster.kill(&node)?;
                self.settle("kill", node, before.outages.len(), before.broken).await?;
            }
            Step::Revive => {
                let names = self.cluster.revive()?.join(" ");
                self.events.push(Event {
                    event: "revive",
                    node: names,
                    outage_ms: None,
                    first_session_ms: None,
                    broken: 0,
                });
            }
            Step::Move => {
                let node = self.holder().await?;
                let mut words = self.cluster.tandemctl();
                words.extend(["vip".into(), "move".into()]);
                command(&words).await?;
                tokio::time::sleep(Duration::from_millis(500)).await;
                let seen = self.notes.now();
                let outage =
                    (seen.outages.len() > before.outages.len()).then(|| seen.outages.last().map(Duration::as_millis));
                let broken = seen.broken - before.broken;
                let outage_ms = Some(outage.flatten().unwrap_or(0));
                self.events.push(Event { event: "move", node, outage_ms, first_session_ms: None, broken });
            }
            Step::Add => self.add(before.broken).await?,
        }
        Ok(())
    }

    /// Waits until new connections are answered again.
    async fn settle(&mut self, event: &'static str, node: String, outages: usize, broken: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = self.notes.now();
            if let Some(outage) = seen.outages.get(outages) {
                // Let the held sessions come back before they are counted.
                tokio::time::sleep(Duration::from_millis(300)).await;
                let broken = self.notes.now().broken - broken;
                let outage_ms = Some(outage.as_millis());
                self.events.push(Event { event, node, outage_ms, first_session_ms: None, broken });
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("{ADDRESS} has not answered for 10 s after the {event} of {node}; {}", self.where_to_look());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn add(&mut self, broken: usize) -> anyhow::Result<()> {
        let spare = format!("chat-{}", self.cluster.backends.len() + 1);
        command(&self.cluster.add_spare()).await?;
        let returned = Instant::now();
        let deadline = returned + PATIENCE;
        let first = loop {
            if let Some(first) = self.notes.now().first.get(&spare) {
                break *first;
            }
            if Instant::now() > deadline {
                bail!("no session reached the added backend within 10 s");
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        let first_session_ms = Some(first.saturating_duration_since(returned).as_millis());
        let broken = self.notes.now().broken - broken;
        self.events.push(Event { event: "add", node: String::new(), outage_ms: None, first_session_ms, broken });
        Ok(())
    }

    async fn summary(&mut self) -> Summary {
        let status = self.status().await;
        let seen = self.notes.now();
        let mut kills: Vec<u128> =
            self.events.iter().filter(|e| e.event == "kill").filter_map(|e| e.outage_ms).collect();
        kills.sort_unstable();
        Summary {
            ready_ms: self.ready_ms,
            revision: status.as_ref().map_or(0, |s| s.revision),
            holder: status.as_ref().and_then(holder).unwrap_or_default(),
            held: seen.held,
            broken: seen.broken,
            reconnected: seen.reconnected,
            kills: kills.len(),
            kill_outage_p50_ms: kills.get(kills.len() / 2).copied(),
            kill_outage_max_ms: kills.last().copied(),
            events: std::mem::take(&mut self.events),
        }
    }
}

fn holder(status: &StatusReply) -> Option<String> {
    status.vips.first()?.holders.first().cloned()
}

/// Runs a command line as a user would; its stderr is the error.
async fn command(words: &[String]) -> anyhow::Result<()> {
    let (program, arguments) = words.split_first().context("no command")?;
    let output = tokio::process::Command::new(program).args(arguments).output().await?;
    if !output.status.success() {
        bail!("{}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// Keys as they are pressed; the terminal is given back at the end.
struct Keys(mpsc::Receiver<char>);

impl Keys {
    fn listen() -> anyhow::Result<Self> {
        crossterm::terminal::enable_raw_mode()?;
        let (send, keys) = mpsc::channel(8);
        std::thread::spawn(move || {
            use crossterm::event::{Event, KeyCode, KeyModifiers, poll, read};
            while !send.is_closed() {
                if !poll(Duration::from_millis(100)).unwrap_or(false) {
                    continue;
                }
                if let Ok(Event::Key(key)) = read()
                    && let KeyCode::Char(c) = key.code
                {
                    // Raw mode takes Ctrl-C from the kernel.
                    let c = if c == 'c' && key.modifiers.contains(KeyModifiers::CONTROL) { 'q' } else { c };
                    if send.blocking_send(c).is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Self(keys))
    }

    async fn next(&mut self) -> Option<char> {
        self.0.recv().await
    }
}

impl Drop for Keys {
    fn drop(&mut self) {
        // Nothing more can be done about a terminal that is gone.
        let _ = crossterm::terminal::disable_raw_mode();
    }
}
