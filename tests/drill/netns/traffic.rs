//! Clients outside: they connect all the time, hold sessions, and an operator among them never stops changing the config.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tandem_proto::config::v1::edit::Edit;
use tandem_proto::config::v1::{Command, Config, Route};
use tandem_proto::papers::Current;
use tandem_tests::admin::{Admin, command};
use tandem_tests::clock::{Micros, millis, now, until};
use tandem_tests::peers::{self, Running};
use tandem_tests::story::{self, Seen, Story};
use tokio::task::JoinSet;

use super::ground::{Ground, TARGET, control};
use super::nodes::{NODES, PATIENCE};

/// Sessions that are held.
pub(crate) const HELD: usize = 20;
/// From one new connection to the next.
pub(crate) const PROBE_EVERY: Duration = Duration::from_millis(5);
/// A new connection is given up after this.
const PROBE_LIMIT: Duration = Duration::from_secs(2);
/// Each held session echoes this often.
const PACE: Duration = Duration::from_millis(100);
/// From an acknowledged change to the next.
const WRITE_EVERY: Duration = Duration::from_millis(25);
/// The route that is changed all the time; its host is a number.
const WRITTEN: &str = "written";
/// Times are good when new connections were answered this long without a pause.
const CALM: Micros = 500_000;
/// A pause longer than this is no calm.
const PAUSE_MS: u64 = 100;

/// Those at work. They end when dropped.
pub(crate) struct Traffic {
    story: Mutex<Story>,
    _work: Vec<Running>,
}

impl Traffic {
    /// Sends them to work.
    pub(crate) fn start(ground: &Ground) -> Self {
        let story = Story::default();
        let _here = ground.at("client").enter();
        let work = vec![
            peers::probe(TARGET, PROBE_EVERY, PROBE_LIMIT, story.teller()),
            peers::hold(TARGET, HELD, PACE, story.teller()),
        ];
        Self { story: Mutex::new(story), _work: work }
    }

    /// Busy sessions beside them, until dropped.
    pub(crate) fn hurry(&self, ground: &Ground, count: usize) -> Running {
        let _here = ground.at("client").enter();
        // What becomes of them is not counted.
        let (tell, _) = tokio::sync::mpsc::unbounded_channel();
        peers::hurry(TARGET, count, 125, Duration::ZERO, tell)
    }

    /// What they saw so far.
    pub(crate) fn seen<T>(&self, see: impl FnOnce(&[Seen]) -> T) -> T {
        see(self.story.lock().unwrap_or_else(PoisonError::into_inner).read())
    }

    /// Forgets new connections that ended before `then`.
    pub(crate) fn forget(&self, then: Micros) {
        let mut story = self.story.lock().unwrap_or_else(PoisonError::into_inner);
        story.read();
        story.forget(then);
    }

    /// Waits until they have been served without a pause since `since`, for a while, and all sessions are held.
    ///
    /// # Errors
    /// That does not come about within `limit`.
    pub(crate) async fn calm(&self, since: Micros, limit: Duration) -> anyhow::Result<()> {
        let calm = || async {
            let now = now();
            let from = now.saturating_sub(CALM);
            let good = |seen: &[Seen]| {
                from >= since
                    && story::held(seen) == HELD
                    && story::broken(seen, from, now) == 0
                    && story::unanswered(seen, from, now) == 0
                    && story::longest_silence(seen, from, now) < PAUSE_MS
            };
            self.seen(good).then_some(())
        };
        until("clients are served without a pause", limit, calm).await
    }
}

/// The operator.
pub(crate) struct Writer {
    admin: Admin,
    acknowledged: Arc<Mutex<Vec<(Micros, u64)>>>,
    overwritten: Arc<Mutex<Vec<String>>>,
    _work: Running,
}

impl Writer {
    /// Sends him to work.
    ///
    /// # Errors
    /// The cluster does not take his first change.
    pub(crate) async fn start(ground: &Ground, papers: Current) -> anyhow::Result<Self> {
        let place = ground.at("desk");
        let admin = place.run(async move { Admin::with(addresses(), Some(papers)) }).await??;
        let first = admin.clone();
        place.run(async move { first.change(Edit::AddRoute(route(0))).await }).await??;
        let acknowledged = Arc::new(Mutex::new(vec![(now(), 0)]));
        let overwritten: Arc<Mutex<Vec<String>>> = Arc::default();
        let work = {
            let _here = place.enter();
            Running::start(write(admin.clone(), Arc::clone(&acknowledged), Arc::clone(&overwritten)))
        };
        Ok(Self { admin, acknowledged, overwritten, _work: work })
    }

    fn last(&self) -> u64 {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).last().map_or(0, |(_, n)| *n)
    }

    /// The longest time in `span` without an acknowledged change, less the time between two.
    pub(crate) fn longest_gap(&self, span: &Range<Micros>) -> u64 {
        let mut times = vec![span.start, span.end];
        let all = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        times.extend(all.iter().map(|(at, _)| *at).filter(|at| span.contains(at)));
        times.sort_unstable();
        let longest = times.windows(2).map(|pair| millis(pair[0], pair[1])).max().unwrap_or(0);
        longest.saturating_sub(u64::try_from(WRITE_EVERY.as_millis()).unwrap_or(0))
    }

    /// Forgets what was acknowledged before `then`, save the last.
    pub(crate) fn forget(&self, then: Micros) {
        let mut all = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        let keep = all.partition_point(|(at, _)| *at < then).min(all.len().saturating_sub(1));
        all.drain(..keep);
    }

    /// Waits until every node has the newest change that was acknowledged by now; `None`, or what is missing where, and
    /// which acknowledged changes were overwritten since it was asked last.
    ///
    /// # Errors
    /// The drill itself failed.
    pub(crate) async fn lost(&self, ground: &Ground) -> anyhow::Result<Option<String>> {
        let (admin, last) = (self.admin.clone(), self.last());
        let mut missing = std::mem::take(&mut *self.overwritten.lock().unwrap_or_else(PoisonError::into_inner));
        let ask = async move {
            for (name, address) in NODES.into_iter().zip(addresses()) {
                let has = || async { admin.config_of(address).await.ok().filter(|(_, c)| number(c) >= Some(last)) };
                if until("it has the change", PATIENCE / 6, has).await.is_err() {
                    let there = admin.config_of(address).await.map(|(revision, c)| (revision, number(&c)));
                    missing.push(format!("change {last} was acknowledged and {name} has {there:?}"));
                }
            }
            (!missing.is_empty()).then(|| missing.join("; "))
        };
        ground.at("desk").run(ask).await
    }
}

fn addresses() -> Vec<SocketAddr> {
    NODES.iter().filter_map(|n| Some(SocketAddr::new(control(n)?.into(), 7440))).collect()
}

fn route(number: u64) -> Route {
    Route {
        name: WRITTEN.to_owned(),
        host: format!("{number}.example"),
        upstream: "chat".to_owned(),
        ..Route::default()
    }
}

fn number(config: &Config) -> Option<u64> {
    let route = config.routes.iter().find(|r| r.name == WRITTEN)?;
    route.host.strip_suffix(".example")?.parse().ok()
}

async fn write(admin: Admin, acknowledged: Arc<Mutex<Vec<(Micros, u64)>>>, overwritten: Arc<Mutex<Vec<String>>>) {
    let mut newest = 0;
    for n in 1.. {
        let change = command(Edit::SetRoute(route(n)));
        if let Ok(revision) = take(&admin, &change).await {
            // The next change would hide that the one before is gone: its revision, given out once more, does not.
            if revision <= newest {
                let what = format!("change {n} is revision {revision}, and an earlier one had revision {newest}");
                overwritten.lock().unwrap_or_else(PoisonError::into_inner).push(what);
            }
            newest = revision;
            acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push((now(), n));
        }
        tokio::time::sleep(WRITE_EVERY).await;
    }
}

/// Asks all nodes at once until one has taken it: a leader that is cut off says nothing for seconds. It applies once.
async fn take(admin: &Admin, change: &Command) -> anyhow::Result<u64> {
    let mut asked = JoinSet::new();
    for address in addresses() {
        let (admin, change) = (admin.clone(), change.clone());
        asked.spawn(async move {
            loop {
                if let Ok(revision) = admin.change_at(address, &change).await {
                    return revision;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        });
    }
    let taken = asked.join_next().await.context("nobody was asked")?;
    taken.context("a job of the drill panicked")
}
