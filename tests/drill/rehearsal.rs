//! The events, one after another, and what clients saw of each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde::de::DeserializeOwned;
use tandem_tests::clock::{Micros, millis, now, until};
use tandem_tests::peers::Running;
use tandem_tests::story::{self, Seen};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::client::{HELD, PROBE_EVERY};
use crate::engine::{Stack, docker, inside};
use crate::report::{Changes, Report, Round, Row, two_holders};
use crate::talk::{Ask, Sample, Told};

const VIP: &str = "172.31.77.100";
const CLIENT_TARGET: &str = "172.31.77.100:80";
const THIRD: (&str, &str) = ("three", "172.31.77.23:9000");
const PROXIES: [&str; 2] = ["a", "b"];

/// How long the stack may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);
/// Times are good when new connections were answered this long without a pause.
const CALM: Micros = 700_000;
/// A pause longer than this is no calm: the probes go out every 10 ms.
const PAUSE: Micros = 100_000;

/// Runs them all.
///
/// # Errors
/// The stack does not come up, or does not recover: then there is nothing to report on.
pub(crate) async fn run(stack: &Stack, begun: Micros, rounds: usize) -> anyhow::Result<Report> {
    let mut stage = Stage::open(stack, begun).await?;
    let mut rows = Vec::new();

    eprintln!("drill: a backend is added under traffic");
    rows.push(Row::new("backend added", vec![stage.add_backend().await?]));

    let (mut killed, mut revived) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        eprintln!("drill: the holder is killed, {round} of {rounds}");
        let holder = stage.holder().await?;
        killed.push(stage.lose_holder(holder, &["kill"], &[]).await?);
        revived.push(stage.restore(holder, &["start"], &[]).await?);
    }
    rows.push(Row::new("holder killed", killed));
    rows.push(Row::new("killed node revived", revived));

    let mut moved = Vec::new();
    for round in 1..=rounds {
        eprintln!("drill: the address is moved, {round} of {rounds}");
        moved.push(stage.move_vip().await?);
    }
    rows.push(Row::new("vip move", moved));

    eprintln!("drill: a backend is killed");
    rows.push(Row::new("backend killed", vec![stage.kill_backend().await?]));

    eprintln!("drill: the holder is cut off its network");
    let holder = stage.holder().await?;
    let link = |state| ["drill", "link", "eth0", state];
    let cut = stage.lose_holder(holder, &["exec"], &link("down")).await?;
    let healed = stage.restore(holder, &["exec"], &link("up")).await?;
    rows.push(Row::new("holder cut off", vec![cut]));
    rows.push(Row::new("network healed", vec![healed]));

    let changes = stage.changes().await?;
    let samples = PROXIES.map(|p| stage.samples[p].lock().unwrap_or_else(PoisonError::into_inner).clone());
    let double = two_holders(&samples[0], &samples[1]);
    Ok(Report { rows, changes, samples: samples.iter().map(Vec::len).sum(), two_holders: double })
}

/// What has been heard from the client.
#[derive(Default)]
struct Heard {
    seen: Vec<Seen>,
    acknowledged: Vec<String>,
}

/// The stack with everyone at his place.
struct Stage {
    containers: BTreeMap<&'static str, String>,
    heard: Arc<Mutex<Heard>>,
    answers: UnboundedReceiver<Told>,
    ask: ChildStdin,
    samples: BTreeMap<&'static str, Arc<Mutex<Vec<Sample>>>>,
    _client: Child,
    _listeners: Vec<Running>,
}

impl Stage {
    async fn open(stack: &Stack, begun: Micros) -> anyhow::Result<Self> {
        let mut containers = BTreeMap::new();
        for service in ["a", "b", "two", "client"] {
            containers.insert(service, stack.container(service).await?);
        }
        let took = millis(begun, formed(&containers["client"]).await?);
        eprintln!("drill: from empty disks to a secured cluster of three in {took} ms");
        ensure!(took < 15_000, "fresh machines to a secured cluster: more than 15 s");
        configure(&containers["client"]).await?;

        let mut listeners = Vec::new();
        let mut samples = BTreeMap::new();
        for proxy in PROXIES {
            let log = Arc::new(Mutex::new(Vec::new()));
            listeners.push(Running::start(sample(containers[proxy].clone(), Arc::clone(&log))));
            samples.insert(proxy, log);
        }

        let mut client = inside(&containers["client"], &["drill", "client", CLIENT_TARGET])?;
        let ask = client.stdin.take().context("a pipe was asked for")?;
        let out = client.stdout.take().context("a pipe was asked for")?;
        let heard = Arc::new(Mutex::new(Heard::default()));
        let (answer, answers) = unbounded_channel();
        let ear = Arc::clone(&heard);
        listeners.push(Running::start(listen(out, move |told: Told| {
            let mut heard = ear.lock().unwrap_or_else(PoisonError::into_inner);
            match told {
                Told::Saw(seen) => heard.seen.push(seen),
                Told::Acknowledged(route) => heard.acknowledged.push(route),
                Told::Rested | Told::Ran { .. } | Told::Agreed(_) | Told::Written(_) => {
                    let _ = answer.send(told);
                }
            }
        })));
        let mut stage = Self { containers, heard, answers, ask, samples, _client: client, _listeners: listeners };
        stage.calm(0).await?;
        stage.ask(&Ask::Write).await?;
        Ok(stage)
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&mut self, ask: &Ask) -> anyhow::Result<()> {
        let mut line = serde_json::to_string(ask)?;
        line.push('\n');
        self.ask.write_all(line.as_bytes()).await.context("the client container is gone")
    }

    async fn answer(&mut self, ask: Ask) -> anyhow::Result<Told> {
        self.ask(&ask).await?;
        let answer = tokio::time::timeout(PATIENCE, self.answers.recv()).await;
        answer.with_context(|| format!("the client does not answer {ask:?}"))?.context("the client container is gone")
    }

    /// Runs tandemctl in the client container, which must succeed; when it ended.
    async fn tandemctl(&mut self, words: &[&str]) -> anyhow::Result<Micros> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        match self.answer(Ask::Run(words.clone())).await? {
            Told::Ran { code: 0, ended, .. } => Ok(ended),
            other => bail!("tandemctl {}: {other:?}", words.join(" ")),
        }
    }

    /// Which proxy has the address, by what their kernels say.
    async fn holder(&self) -> anyhow::Result<&'static str> {
        until("one proxy has the address", PATIENCE, || async {
            let fresh = now().saturating_sub(300_000);
            let mut holders = PROXIES.into_iter().filter(|p| {
                let samples = self.samples[p].lock().unwrap_or_else(PoisonError::into_inner);
                samples.last().is_some_and(|s| s.holds && s.after > fresh)
            });
            let holder = holders.next()?;
            holders.next().is_none().then_some(holder)
        })
        .await
    }

    /// Waits until clients have been served without a pause since `since`, for a while, and all sessions are held.
    async fn calm(&self, since: Micros) -> anyhow::Result<()> {
        let calm = || async {
            let heard = self.heard();
            let now = now();
            let from = now - CALM;
            let good = from >= since
                && story::held(&heard.seen) == HELD
                && story::broken(&heard.seen, from, now) == 0
                && story::unanswered(&heard.seen, from, now) == 0
                && story::longest_silence(&heard.seen, from, now) < PAUSE / 1_000;
            good.then_some(())
        };
        until("clients are served without a pause", PATIENCE, calm).await
    }

    /// What clients see of `act`: from good times to good times, at least `linger` later.
    async fn measure<T>(
        &mut self,
        linger: Duration,
        act: impl AsyncFnOnce(&mut Self) -> anyhow::Result<T>,
    ) -> anyhow::Result<(Round, T)> {
        self.calm(0).await?;
        let begun = now();
        let from = begun - 300_000;
        let done = act(self).await?;
        let acted = now();
        tokio::time::sleep(linger).await;
        self.calm(acted).await?;
        let to = now();
        let heard = self.heard();
        let silence = story::silence(&heard.seen, from, to);
        let (reconnected, last) = story::reconnected(&heard.seen, begun, to);
        // docker needs a while to do as told: the clients know better when it happened.
        let happened = if silence.end - silence.start > PAUSE { silence.start } else { begun };
        let round = Round {
            out_ms: millis(silence.start, silence.end).saturating_sub(u64::try_from(PROBE_EVERY.as_millis())?),
            failed: story::unanswered(&heard.seen, from, to),
            held: HELD,
            broken: story::broken(&heard.seen, begun, to),
            reconnected,
            within_ms: last.map(|at| millis(happened, at)),
            first_session_ms: None,
            revision: None,
        };
        drop(heard);
        Ok((round, done))
    }

    /// The revision of all nodes, with the writer at rest.
    async fn agreed(&mut self) -> anyhow::Result<Result<u64, String>> {
        self.answer(Ask::Rest).await?;
        let Told::Agreed(agreed) = self.answer(Ask::Agree).await? else { bail!("an answer to another question") };
        self.ask(&Ask::Write).await?;
        Ok(agreed)
    }

    async fn add_backend(&mut self) -> anyhow::Result<Round> {
        let (name, address) = THIRD;
        let (mut round, added) = self
            .measure(Duration::from_secs(1), async |stage| stage.tandemctl(&["backend", "add", "chat", address]).await)
            .await?;
        round.first_session_ms = self
            .heard()
            .seen
            .iter()
            .filter_map(|s| match s {
                Seen::Answered { ended, backend, .. } if backend == name => Some(millis(added, *ended)),
                _ => None,
            })
            .min();
        round.revision = Some(self.agreed().await?);
        Ok(round)
    }

    /// Takes the holder away by `docker VERB CONTAINER REST`; ends when the other one has the address.
    async fn lose_holder(&mut self, holder: &str, verb: &[&str], rest: &[&str]) -> anyhow::Result<Round> {
        let line = self.line(holder, verb, rest);
        let (round, ()) = self
            .measure(Duration::from_secs(1), async |stage| {
                docker(&line.iter().map(String::as_str).collect::<Vec<_>>()).await?;
                stage.holder_but(holder).await.map(|_| ())
            })
            .await?;
        Ok(round)
    }

    /// Brings it back in the same way; ends when it has caught up. The address stays where it is.
    async fn restore(&mut self, node: &str, verb: &[&str], rest: &[&str]) -> anyhow::Result<Round> {
        let line = self.line(node, verb, rest);
        let before = self.holder().await?;
        let (mut round, agreed) = self
            .measure(Duration::from_secs(2), async |stage| {
                docker(&line.iter().map(String::as_str).collect::<Vec<_>>()).await?;
                stage.agreed().await
            })
            .await?;
        let after = self.holder().await?;
        ensure!(before == after, "{node} came back and the address went from {before} to {after}");
        round.revision = Some(agreed);
        Ok(round)
    }

    async fn move_vip(&mut self) -> anyhow::Result<Round> {
        let from = self.holder().await?;
        let (mut round, ()) = self
            .measure(Duration::from_secs(1), async |stage| {
                stage.tandemctl(&["vip", "move"]).await?;
                stage.holder_but(from).await.map(|_| ())
            })
            .await?;
        round.revision = Some(self.agreed().await?);
        Ok(round)
    }

    async fn kill_backend(&mut self) -> anyhow::Result<Round> {
        let two = self.containers["two"].clone();
        // A dead host sends no RST: its sessions are missed only when an echo is.
        let (mut round, ()) =
            self.measure(Duration::from_secs(4), async |_| docker(&["kill", &two]).await.map(|_| ())).await?;
        round.revision = Some(self.agreed().await?);
        docker(&["start", &two]).await?;
        Ok(round)
    }

    async fn holder_but(&self, gone: &str) -> anyhow::Result<&'static str> {
        let changed = || async { self.holder().await.ok().filter(|h| *h != gone) };
        until("the other proxy has the address", PATIENCE, changed).await
    }

    fn line(&self, service: &str, verb: &[&str], rest: &[&str]) -> Vec<String> {
        verb.iter().chain([&self.containers[service].as_str()]).chain(rest).map(ToString::to_string).collect()
    }

    /// What became of the acknowledged changes, on every node.
    async fn changes(&mut self) -> anyhow::Result<Changes> {
        self.answer(Ask::Rest).await?;
        let Told::Agreed(agreed) = self.answer(Ask::Agree).await? else { bail!("an answer to another question") };
        let Told::Written(nodes) = self.answer(Ask::Read).await? else { bail!("an answer to another question") };
        let heard = self.heard();
        let mut lost = Vec::new();
        for (node, _, routes) in &nodes {
            let missing = heard.acknowledged.iter().filter(|route| !routes.contains(route));
            lost.extend(missing.map(|route| format!("{route} on {node}")));
        }
        Ok(Changes { acknowledged: heard.acknowledged.len(), lost, agreed })
    }
}

/// Waits until three nodes vote; when that was.
async fn formed(client: &str) -> anyhow::Result<Micros> {
    let ask = || async {
        let said = docker(&["exec", client, "tandemctl", "--json", "--timeout", "1s", "status"]).await.ok()?;
        let status: serde_json::Value = serde_json::from_slice(&said.stdout).ok()?;
        let voters = status["nodes"].as_array()?.iter().filter(|n| n["voter"] == true && n["reachable"] == true);
        (voters.count() == 3).then_some(now())
    };
    until("three nodes have joined and vote", PATIENCE, ask).await
}

/// Gives the stack its config as an operator would; retried while the nodes are still finding each other.
async fn configure(client: &str) -> anyhow::Result<()> {
    let start = std::time::Instant::now();
    loop {
        match docker(&["exec", client, "tandemctl", "config", "apply", "/etc/tandem/chat.toml"]).await {
            Ok(_) => return Ok(()),
            Err(e) => ensure!(start.elapsed() < PATIENCE, "the cluster takes no config: {e:#}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Looks at a proxy's addresses for as long as the drill runs, through all its lives.
async fn sample(container: String, log: Arc<Mutex<Vec<Sample>>>) {
    loop {
        if let Ok(mut sampler) = inside(&container, &["drill", "sample", VIP])
            && let Some(out) = sampler.stdout.take()
        {
            let log = Arc::clone(&log);
            listen(out, move |sample| log.lock().unwrap_or_else(PoisonError::into_inner).push(sample)).await;
        }
        // The container is down: that is part of the play.
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn listen<T: DeserializeOwned>(out: impl AsyncRead + Unpin, mut hear: impl FnMut(T)) {
    let mut lines = BufReader::new(out).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if let Ok(told) = serde_json::from_str(&line) {
            hear(told);
        }
    }
}
