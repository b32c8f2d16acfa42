//! Counts what is done while it counts, beside what that costs.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::order::{Figure, Figures};
use crate::meter::Meter;

/// How long a message or an upgrade may take before the run is called broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// What all workers of one load tell; theirs alone, on one thread.
#[derive(Default)]
pub(super) struct Tally {
    counts: Cell<bool>,
    stopped: Cell<bool>,
    took: RefCell<Vec<u32>>,
}

impl Tally {
    /// One more is done.
    pub(super) fn add(&self, begun: Instant) {
        if self.counts.get() {
            self.took.borrow_mut().push(u32::try_from(begun.elapsed().as_nanos()).unwrap_or(u32::MAX));
        }
    }

    /// Whether workers should go on.
    pub(super) fn goes_on(&self) -> bool {
        !self.stopped.get()
    }
}

/// Workers, and what they have done.
pub(super) struct Crew {
    tally: Rc<Tally>,
    workers: JoinSet<anyhow::Result<()>>,
}

/// What was done in a while.
pub(super) struct Span {
    seconds: f64,
    processor: Option<Duration>,
    // Nanoseconds, ascending.
    took: Vec<u32>,
}

impl Crew {
    /// Nobody yet.
    pub(super) fn new() -> Self {
        Self { tally: Rc::default(), workers: JoinSet::new() }
    }

    /// One more worker, which is given the tally. Must be called inside a `LocalSet`.
    pub(super) fn add<F>(&mut self, work: impl FnOnce(Rc<Tally>) -> F)
    where
        F: Future<Output = anyhow::Result<()>> + 'static,
    {
        self.workers.spawn_local(work(Rc::clone(&self.tally)));
    }

    /// Lets them work, and counts.
    ///
    /// # Errors
    /// A worker fails, nothing at all gets done, or the metered process ends.
    pub(super) async fn span(&mut self, meter: Option<&Meter>, length: Duration) -> anyhow::Result<Span> {
        self.tally.took.borrow_mut().clear();
        self.tally.counts.set(true);
        let (before, start) = (meter.map(Meter::processor).transpose()?, Instant::now());
        self.work(length).await?;
        let (after, end) = (meter.map(Meter::processor).transpose()?, Instant::now());
        self.tally.counts.set(false);
        let mut took = self.tally.took.take();
        took.sort_unstable();
        anyhow::ensure!(!took.is_empty(), "nothing got done in {length:?}");
        let processor = after.zip(before).map(|(after, before)| after.saturating_sub(before));
        Ok(Span { seconds: (end - start).as_secs_f64(), processor, took })
    }

    /// Lets them work, and fails if one of them does.
    ///
    /// # Errors
    /// That failure.
    pub(super) async fn work(&mut self, length: Duration) -> anyhow::Result<()> {
        tokio::select! {
            () = sleep(length) => Ok(()),
            Some(ended) = self.workers.join_next() => {
                ended??;
                anyhow::bail!("a worker ended by itself")
            }
        }
    }

    /// Lets each finish what is on its way.
    ///
    /// # Errors
    /// One of them fails, or does not finish.
    pub(super) async fn finish(mut self) -> anyhow::Result<()> {
        self.tally.stopped.set(true);
        let all = async {
            while let Some(ended) = self.workers.join_next().await {
                ended??;
            }
            Ok(())
        };
        timeout(PATIENCE, all).await.context("some work was never answered")?
    }
}

impl Span {
    /// Done a second.
    pub(super) fn rate(&self) -> f64 {
        self.took.len() as f64 / self.seconds
    }

    /// Microseconds that this share of them took no longer than.
    pub(super) fn quantile(&self, share: f64) -> f64 {
        let last = self.took.len().saturating_sub(1);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a place within the list
        let at = (last as f64 * share).round() as usize;
        self.took.get(at).map_or(0.0, |nanos| f64::from(*nanos) / 1_000.0)
    }

    /// All of it, for messages with so many bytes of payload.
    pub(super) fn figures(&self, bytes: usize) -> Figures {
        let mut figures = Figures::from([
            (Figure::PerSecond, self.rate()),
            (Figure::P50Micros, self.quantile(0.5)),
            (Figure::P99Micros, self.quantile(0.99)),
        ]);
        if bytes > 0 {
            figures.insert(Figure::Megabytes, self.rate() * bytes as f64 / 1e6);
        }
        if let Some(processor) = self.processor {
            figures.insert(Figure::CpuMicros, processor.as_secs_f64() * 1e6 / self.took.len() as f64);
        }
        figures
    }
}
