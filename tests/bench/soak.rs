//! `cargo soak`: many sessions that come and go through one tandemd for minutes. Memory stays flat, descriptors come
//! back, no byte is wrong.

use std::fmt::Write as _;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use serde::Serialize;
use tandem_tests::clock::until;
use tokio::task::LocalSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::certificate::Certificate;
use crate::contender::{Contender, Stage};
use crate::load::{Crowd, Done, Order, Work};
use crate::meter::Meter;
use crate::process;
use crate::quartiles::Quartiles;
use crate::rounds;

/// From one look at the proxy to the next.
const LOOK: Duration = Duration::from_secs(5);
/// How long the crowd is there before the start is measured: what is kept for reuse is there by then.
const WARM: Duration = Duration::from_secs(10);
/// How long the proxy may take to notice that the last session has ended.
const SETTLING: Duration = Duration::from_secs(15);
/// Descriptors more than at the start: a worker keeps up to 8 empty pipes of two ends.
const FEW: usize = 20;
/// How much more memory the last third may take than the middle one.
const FLAT: f64 = 1.05;
/// Whom the proxy leads to.
const BACKENDS: usize = 2;

/// How long, and how many.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Length {
    /// Sessions at once.
    #[arg(long, value_name = "N", default_value_t = 2_000)]
    sessions: usize,
    /// How long they come and go.
    #[arg(long, value_name = "MINUTES", default_value_t = 10.0)]
    minutes: f64,
}

/// How the proxy was at one moment.
#[derive(Debug, Clone, Copy, Serialize)]
struct Look {
    seconds: f64,
    resident: u64,
    descriptors: usize,
}

/// Everything that came of it.
#[derive(Debug, Serialize)]
struct Outcome {
    sessions: u64,
    messages: u64,
    bytes: u64,
    corrupt: u64,
    broken: u64,
    failures: Vec<String>,
    start: Look,
    looks: Vec<Look>,
    end: Look,
}

/// Runs it and prints the report.
///
/// # Errors
/// It cannot be run, or a promise was broken: each is named.
pub(crate) async fn run(length: Length) -> anyhow::Result<()> {
    let lasting = Duration::try_from_secs_f64(length.minutes * 60.0).context("--minutes")?;
    // Before anything is pinned: a build may use every core.
    tandem_tests::binaries::path("tandemd")?;
    process::pin(process::LOAD_CORE).context("this needs two cores: one for the proxy, one for everybody else")?;
    let descriptors = process::descriptors();
    let dir = tempfile::Builder::new().prefix("soak-").tempdir()?;
    let (_backends, mut backends) = rounds::backends()?;
    backends.truncate(BACKENDS);
    let stage = Stage { backends, certificate: Certificate::make(dir.path())?, descriptors };
    let outcome = LocalSet::new().run_until(soak(&stage, length.sessions, lasting)).await?;
    print!("{}", outcome.report());
    let broken = outcome.broken_promises();
    ensure!(broken.is_empty(), "{}", broken.join("; "));
    Ok(())
}

async fn soak(stage: &Stage, sessions: usize, lasting: Duration) -> anyhow::Result<Outcome> {
    let mut order = Order {
        target: stage.backends[0],
        secure: None,
        metered: None,
        admin: None,
        warm_ms: 0,
        window_ms: 0,
        work: Work::Idle { sessions },
    };
    let running = stage.enter(Contender::Tandem, &order).await?;
    order.target = running.target;
    let meter = Meter::new(running.pid().context("tandemd does not run")?);
    let began = Instant::now();
    let look = || {
        let (resident, descriptors) = (meter.resident()?, meter.descriptors()?);
        anyhow::Ok(Look { seconds: began.elapsed().as_secs_f64(), resident, descriptors })
    };
    let empty = meter.descriptors()?;

    let warming = Crowd::gather(&order, sessions)?;
    sleep(WARM).await;
    let warmed = warming.leave().await?;
    settle(&meter, empty).await;
    let start = look()?;
    let crowd = Crowd::gather(&order, sessions)?;
    let mut looks = Vec::new();
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.tick().await;
    let end = Instant::now() + lasting;
    while Instant::now() < end {
        tick.tick().await;
        let seen = look().map_err(|e| running.blamed(&e))?;
        let done = crowd.done();
        eprintln!(
            "soak: {:4.0} s: {} sessions, {} messages, {} broken; tandemd: {} MiB, {} descriptors",
            seen.seconds,
            done.sessions.get(),
            done.messages.get(),
            done.broken.get(),
            seen.resident >> 20,
            seen.descriptors
        );
        looks.push(seen);
    }
    let done = crowd.leave().await?;
    settle(&meter, start.descriptors).await;
    let end = look()?;
    running.leave().await;
    Ok(Outcome::of([warmed, done], start, looks, end))
}

/// Waits for descriptors to come back; whether they did, the one who looks next will see.
async fn settle(meter: &Meter, before: usize) {
    let back = || async { meter.descriptors().ok().filter(|now| *now <= before) };
    let _ = until("descriptors come back", SETTLING, back).await;
}

impl Outcome {
    fn of(crowds: [Rc<Done>; 2], start: Look, looks: Vec<Look>, end: Look) -> Self {
        let all = |count: fn(&Done) -> u64| crowds.iter().map(|done| count(done)).sum();
        Self {
            sessions: all(|d| d.sessions.get()),
            messages: all(|d| d.messages.get()),
            bytes: all(|d| d.bytes.get()),
            corrupt: all(|d| d.corrupt.get()),
            broken: all(|d| d.broken.get()),
            failures: crowds.iter().flat_map(|d| d.failures.borrow().clone()).collect(),
            start,
            looks,
            end,
        }
    }

    /// Median memory of each third of the time.
    fn thirds(&self) -> Option<[f64; 3]> {
        let third = self.looks.len() / 3;
        let median = |looks: &[Look]| Quartiles::of(looks.iter().map(|l| l.resident as f64)).map(|q| q.median);
        let (first, rest) = self.looks.split_at(third);
        let (middle, last) = rest.split_at(third);
        Some([median(first)?, median(middle)?, median(last)?])
    }

    fn broken_promises(&self) -> Vec<String> {
        let mut all = Vec::new();
        if self.corrupt > 0 {
            all.push(format!("{} bytes came back wrong", self.corrupt));
        }
        if self.broken > 0 {
            all.push(format!("{} sessions broke, the first: {}", self.broken, self.failures.join(", ")));
        }
        if self.end.descriptors > self.start.descriptors + FEW {
            all.push(format!("{} descriptors did not come back", self.end.descriptors - self.start.descriptors));
        }
        match self.thirds() {
            Some([_, middle, last]) if last > middle * FLAT => all.push(format!(
                "memory grew by {:.1} % from the middle third to the last",
                (last / middle - 1.0) * 100.0
            )),
            Some(_) => {}
            None => all.push("it was too short to see whether memory is flat: give it more --minutes".to_owned()),
        }
        all
    }

    fn report(&self) -> String {
        let mib = |bytes: f64| format!("{:.1}", bytes / f64::from(1 << 20));
        let mut text = format!(
            "sessions opened   {}\nmessages echoed   {}\nGB each way       {:.1}\nbytes wrong       {}\nsessions broken   {}\n",
            self.sessions,
            self.messages,
            self.bytes as f64 / 1e9,
            self.corrupt,
            self.broken
        );
        let [first, middle, last] = self.thirds().unwrap_or([f64::NAN; 3]);
        let (start, end) = (mib(self.start.resident as f64), mib(self.end.resident as f64));
        let peak = self.looks.iter().map(|l| l.descriptors).max().unwrap_or(0);
        let _ = writeln!(
            text,
            "RSS MiB           start {start}, thirds {} / {} / {}, end {end}",
            mib(first),
            mib(middle),
            mib(last)
        );
        let _ = writeln!(
            text,
            "descriptors       start {}, peak {peak}, end {}",
            self.start.descriptors, self.end.descriptors
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(resident: impl Fn(u32) -> u64, end: usize) -> Outcome {
        let look = |n: u32| Look { seconds: f64::from(n), resident: resident(n), descriptors: 4_000 };
        let looks: Vec<Look> = (0..30).map(look).collect();
        let (start, end) = (Look { descriptors: 40, ..look(0) }, Look { descriptors: end, ..look(29) });
        Outcome::of([Rc::default(), Rc::default()], start, looks, end)
    }

    #[test]
    fn what_is_flat_and_back_keeps_the_promise() {
        let kept = outcome(|n| 50_000_000 + u64::from(n % 3) * 100_000, 41);
        assert_eq!(kept.broken_promises(), Vec::<String>::new());
        assert!(kept.report().contains("start 40, peak 4000, end 41"), "{}", kept.report());
    }

    #[test]
    fn what_grows_stays_open_or_is_wrong_breaks_it() {
        let mut leaking = outcome(|n| 50_000_000 + u64::from(n) * 500_000, 400);
        (leaking.corrupt, leaking.broken) = (3, 2);
        leaking.failures.push("closed".to_owned());
        let broken = leaking.broken_promises();
        let promises = ["3 bytes", "2 sessions broke, the first: closed", "360 descriptors", "memory grew by"];
        assert!(promises.iter().zip(&broken).all(|(said, found)| found.starts_with(said)), "{broken:?}");
        assert_eq!(broken.len(), promises.len());
        let short = Outcome { looks: Vec::new(), ..outcome(|_| 1, 40) };
        assert!(short.broken_promises()[0].contains("too short"));
    }
}
