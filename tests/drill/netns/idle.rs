//! Nothing happens, for long: and nothing may come of it.

use std::time::Duration;

use serde::Serialize;
use tandem_tests::clock::{millis, now};
use tandem_tests::story;

use super::stage::Stage;

/// A new connection may take two seconds to fail, and is told of then: what is younger than this is looked at next time.
const SETTLED: u64 = 3_000_000;
/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(10);
/// Busy sessions, where it is not to be idle: enough for both cores.
const BUSY: usize = 64;

/// What came of it.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Quiet {
    pub(crate) seconds: u64,
    /// Busy sessions took all cores meanwhile.
    pub(crate) loaded: bool,
    /// Elections.
    pub(crate) elections: u64,
    /// Changes of the holder.
    pub(crate) failovers: usize,
    /// Longest time without an answered new connection.
    pub(crate) out_ms: u64,
    pub(crate) failed: usize,
    pub(crate) broken_sessions: usize,
}

impl Quiet {
    /// Nothing was seen yet.
    pub(crate) fn new(loaded: bool) -> Self {
        Self { loaded, ..Self::default() }
    }

    pub(crate) fn line(&self) -> String {
        format!(
            "{} for {} s: {} false failovers, {} elections, longest time without an answer {} ms, {} new connections failed, {} sessions broke",
            if self.loaded { "loaded" } else { "idle" },
            self.seconds,
            self.failovers,
            self.elections,
            self.out_ms,
            self.failed,
            self.broken_sessions
        )
    }

    pub(crate) fn broken(&self) -> Vec<String> {
        let none = self.elections == 0 && self.failovers == 0 && self.failed == 0 && self.broken_sessions == 0;
        if none || self.loaded { Vec::new() } else { vec![self.line()] }
    }
}

/// Watches for so long.
///
/// # Errors
/// The cluster does not say how it is.
pub(crate) async fn watch(stage: &mut Stage, told: &mut Quiet, time: Duration) -> anyhow::Result<()> {
    let _busy = told.loaded.then(|| stage.watching.traffic.hurry(&stage.ground, BUSY));
    let mut holder = stage.split().1.roles().0;
    let term = stage.nodes.term(&stage.ground).await?;
    let begun = now();
    let mut from = begun;
    while millis(begun, from) < u64::try_from(time.as_millis())? {
        tokio::time::sleep(EVERY).await;
        let to = now().saturating_sub(SETTLED);
        stage.watching.traffic.seen(|seen| {
            told.out_ms = told.out_ms.max(story::longest_silence(seen, from.saturating_sub(SETTLED).max(begun), to));
            told.failed += story::unanswered(seen, from, to);
            told.broken_sessions += story::broken(seen, from, to);
        });
        let has = stage.split().1.roles().0;
        told.failovers += usize::from(has != holder);
        holder = has;
        // What began before `to` and is under way yet, and a silence across it, belong to the next look as well.
        stage.watching.forget(to.saturating_sub(SETTLED));
        from = to;
        told.seconds = millis(begun, to) / 1_000;
    }
    told.elections = stage.nodes.term(&stage.ground).await?.saturating_sub(term);
    Ok(())
}
