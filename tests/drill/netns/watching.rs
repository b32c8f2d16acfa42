//! Everybody who watches while something happens, and what they saw of it: from good times to good times.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tandem_tests::clock::{Micros, millis, now, until};
use tandem_tests::story;

use super::eyes::Eyes;
use super::figures::Figures;
use super::ground::Ground;
use super::nodes::PATIENCE;
use super::traffic::{PROBE_EVERY, Traffic, Writer};

/// Seen before it happened: a pause that began then is part of it.
const BEFORE: Micros = 300_000;
/// A pause longer than this is when it happened, whatever the drill's own clock says.
const PAUSE: Micros = 50_000;

/// See the module.
pub(crate) struct Watching {
    pub(crate) eyes: Eyes,
    pub(crate) traffic: Traffic,
    /// There is none where nothing takes changes.
    pub(crate) writer: Option<Writer>,
    looks: AtomicUsize,
}

/// Whether to wait for good times first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum First {
    /// Yes: else what was before would be counted too.
    Calm,
    /// They will not come before it is done.
    Anyhow,
}

impl Watching {
    /// Begins; the address need not be held yet.
    ///
    /// # Errors
    /// No right to a raw socket.
    pub(crate) async fn begin(ground: &Ground) -> anyhow::Result<Self> {
        let eyes = Eyes::open(ground).await?;
        Ok(Self { eyes, traffic: Traffic::start(ground), writer: None, looks: AtomicUsize::new(0) })
    }

    /// What is seen of `act`, and of what comes within `linger` of it, until times are good or `limit` has passed.
    ///
    /// # Errors
    /// `act` failed, or times are not good to begin with.
    pub(crate) async fn measure<T>(
        &self,
        first: First,
        linger: Duration,
        limit: Duration,
        act: impl Future<Output = anyhow::Result<T>>,
    ) -> anyhow::Result<(Figures, T)> {
        if first == First::Calm {
            self.traffic.calm(0, PATIENCE).await?;
            // What an earlier fault left on an interface is that one's.
            let alone = || async { (self.eyes.holders().len() < 2).then_some(()) };
            until("one proxy at most has the address", PATIENCE, alone).await?;
        }
        let begun = now();
        self.forget(begun - 2 * BEFORE);
        let done = act.await?;
        let acted = now();
        tokio::time::sleep(linger).await;
        let good = self.traffic.calm(acted, limit).await.is_ok();
        Ok((self.figures(begun, now(), good), done))
    }

    fn figures(&self, begun: Micros, to: Micros, good: bool) -> Figures {
        let span = begun - BEFORE..to;
        let had = self.eyes.had_it(&(span.start..begun));
        let other = |span: Range<Micros>| self.eyes.had_it(&span).iter().any(|proxy| !had.contains(proxy));
        let own = u64::try_from(PROBE_EVERY.as_millis()).unwrap_or(0);
        self.traffic.seen(|seen| {
            let silence = story::silence(seen, span.start, span.end);
            let happened = if silence.end - silence.start > PAUSE { silence.start } else { begun };
            let (_, last) = story::reconnected(seen, begun, to);
            Figures {
                out_ms: millis(silence.start, silence.end).saturating_sub(own),
                for_good: !good,
                failed: story::unanswered(seen, span.start, span.end),
                broken: story::broken(seen, begun, to),
                back_ms: last.map(|at| millis(happened, at)),
                changes_ms: self.writer.as_ref().map_or(0, |w| w.longest_gap(&span)),
                left: other(begun..to),
                went: other(to.saturating_sub(BEFORE)..to),
                two_had_ms: self.eyes.two_had_it(&(begun..to)) / 1_000,
                two_answered_ms: self.eyes.two_answered(&(begun..to)) / 1_000,
            }
        })
    }

    /// Makes room.
    pub(crate) fn forget(&self, then: Micros) {
        self.traffic.forget(then);
        self.looks.fetch_add(self.eyes.forget(then), Ordering::Relaxed);
        if let Some(writer) = &self.writer {
            writer.forget(then);
        }
    }

    /// How often it was looked who has the address, and how often somebody said so.
    pub(crate) fn looks(&self) -> usize {
        self.looks.load(Ordering::Relaxed)
    }
}
