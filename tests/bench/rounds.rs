//! Round by round, row by row: the contenders take turns, each in a fresh process.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::time::{Instant, sleep};

use crate::contender::{Contender, Stage};
use crate::load::{Figures, Order, Secure};
use crate::measured::{Measured, Round, number};
use crate::process::{LOAD_CORE, Process};
use crate::rows::{Row, Transport};
use crate::tracking;

/// This very program, even if a build has put another in its place meanwhile.
const MYSELF: &str = "/proc/self/exe";

/// How much, and how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Rounds of each row.
    pub(crate) rounds: usize,
    /// How long each figure is measured.
    pub(crate) window: Duration,
    /// How long everything runs before.
    pub(crate) warm: Duration,
}

/// Starts the backends; they last as long as the process.
///
/// # Errors
/// They do not start.
pub(crate) fn backends() -> anyhow::Result<(Process, Vec<SocketAddr>)> {
    let mut command = Command::new(MYSELF);
    command.arg("backends").stdin(Stdio::null()).stdout(Stdio::piped());
    let mut process = Process::start(&mut command, LOAD_CORE)?;
    let mut line = String::new();
    BufReader::new(process.output().context("no pipe")?).read_line(&mut line)?;
    let addresses = serde_json::from_str(&line).context("the backends do not say where they are")?;
    Ok((process, addresses))
}

/// Runs the rows.
///
/// # Errors
/// Only what is our own fault: a contender that fails is told in what was measured, and the others go on.
pub(crate) async fn run(stage: &Stage, rows: &[&'static Row], pace: Pace) -> anyhow::Result<Measured> {
    let mut measured =
        Measured { machine: machine(), window_ms: u64::try_from(pace.window.as_millis())?, ..Measured::default() };
    let able = able(rows, &mut measured);
    for row in rows {
        let mut rounds = vec![Round::new(); pace.rounds];
        for (n, round) in rounds.iter_mut().enumerate() {
            // Whoever is first in one round is last in the next.
            let mut order: Vec<Contender> =
                row.contenders.iter().copied().filter(|who| able.contains(&(row.id, *who))).collect();
            let first = n % order.len().max(1);
            order.rotate_left(first);
            for who in order {
                tracking::room().await;
                match turn(stage, row, who, pace).await {
                    Ok(figures) => {
                        tell(row.id, n, who, &figures);
                        round.insert(who, figures);
                    }
                    Err(e) => {
                        let failure = format!("{}, round {}: {}: {e:#}", row.id, n + 1, who.name());
                        eprintln!("bench-peers: FAILED {failure}");
                        measured.failures.push(failure);
                    }
                }
            }
        }
        measured.rows.insert(row.id.to_owned(), rounds);
    }
    Ok(measured)
}

/// Who can do which row. Whoever cannot is told of, loudly.
fn able(rows: &[&'static Row], measured: &mut Measured) -> BTreeSet<(&'static str, Contender)> {
    let mut able = BTreeSet::new();
    let all: BTreeSet<Contender> = rows.iter().flat_map(|row| row.contenders).copied().collect();
    for who in all {
        let rows = rows.iter().filter(|row| row.contenders.contains(&who)).map(|row| row.id);
        match who.version() {
            Ok(version) => {
                if who != Contender::Nobody {
                    measured.versions.insert(who.product().to_owned(), version);
                }
                able.extend(rows.map(|row| (row, who)));
            }
            Err(why) => {
                let rows: Vec<&str> = rows.collect();
                let absent = format!("{} is left out of {}: {why}", who.name(), rows.join(", "));
                eprintln!("bench-peers: MISSING {absent}");
                measured.absent.push(absent);
            }
        }
    }
    able
}

async fn turn(stage: &Stage, row: &Row, who: Contender, pace: Pace) -> anyhow::Result<Figures> {
    let secure = (row.transport != Transport::Plain)
        .then(|| Secure { certificate: stage.certificate.chain.clone(), resume: row.transport == Transport::Resumed });
    let ask = Order {
        target: *stage.backends.first().context("no backends")?,
        secure,
        metered: None,
        admin: None,
        warm_ms: u64::try_from(pace.warm.as_millis())?,
        window_ms: u64::try_from(pace.window.as_millis())?,
        work: row.work.within(stage.descriptors),
    };
    let running = stage.enter(who, &ask).await.context("it did not come to answer")?;
    let order = Order { target: running.target, metered: running.pid(), admin: running.admin, ..ask };
    let done = load(&order, pace).await.map_err(|e| running.blamed(&e));
    running.leave().await;
    done
}

/// Has a fresh process do it.
async fn load(order: &Order, pace: Pace) -> anyhow::Result<Figures> {
    let mut command = Command::new(MYSELF);
    command.arg("load").arg(serde_json::to_string(order)?);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = Process::start(&mut command, LOAD_CORE)?;
    let patience = Instant::now() + pace.window * 4 + Duration::from_secs(60);
    let status = loop {
        if let Some(status) = child.ended()? {
            break status;
        }
        ensure!(Instant::now() < patience, "the load does not come to an end");
        // Seldom: whoever waits on the load's core takes from it.
        sleep(Duration::from_millis(50)).await;
    };
    let (mut out, mut err) = (String::new(), String::new());
    child.output().context("no pipe")?.read_to_string(&mut out)?;
    child.errors().context("no pipe")?.read_to_string(&mut err)?;
    ensure!(status.success(), "{}", err.trim());
    Ok(serde_json::from_str(&out)?)
}

fn tell(row: &str, round: usize, who: Contender, figures: &Figures) {
    let figures: Vec<String> = figures.iter().map(|(f, value)| format!("{} {}", number(*value), f.unit())).collect();
    eprintln!("{row:<20} round {:<2} {:<24} {}", round + 1, who.name(), figures.join(" · "));
}

fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let facts: BTreeMap<&str, &str> =
        info.lines().filter_map(|line| line.split_once(':')).map(|(k, v)| (k.trim(), v.trim())).collect();
    let model = facts.get("model name").copied().unwrap_or("unknown processor");
    let cores = info.lines().filter(|line| line.starts_with("processor")).count();
    format!("{model}, {cores} cores, Linux {}", read("/proc/sys/kernel/osrelease").trim())
}
