//! Who has the virtual address: what the kernels of both proxies say every 5 ms, and who answers for it on the Ethernet.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use tandem_tests::clock::{Micros, now};
use tandem_tests::peers::Running;

use super::arp::{self, Claim};
use super::ground::{EYE, Ground, VIP, mac};
use super::spans::{self, Span};
use crate::interface;
use crate::talk::Sample;

/// The two machines that may hold it.
pub(crate) const PROXIES: [&str; 2] = ["a", "b"];
/// From one look to the next.
const EVERY: Duration = Duration::from_millis(5);

/// One look at a proxy's addresses, or one claim on the Ethernet, is kept until it is forgotten.
#[derive(Default)]
struct Seen {
    samples: [Vec<Sample>; 2],
    claims: Vec<Claim>,
}

/// See the module. Closed when dropped.
pub(crate) struct Eyes {
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    _looking: Vec<Running>,
}

impl Drop for Eyes {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Eyes {
    /// Opens them.
    ///
    /// # Errors
    /// No right to a raw socket.
    pub(crate) async fn open(ground: &Ground) -> anyhow::Result<Self> {
        let seen: Arc<Mutex<Seen>> = Arc::default();
        let mut looking = Vec::new();
        for (n, proxy) in PROXIES.iter().enumerate() {
            let _here = ground.at(proxy).enter();
            looking.push(Running::start(look(n, Arc::clone(&seen))));
        }
        let stop: Arc<AtomicBool> = Arc::default();
        let (hear, heard) = channel();
        let stopped = Arc::clone(&stop);
        let asker = (mac("eye").context("a machine")?, EYE);
        ground.at("eye").run(async move { arp::ask(asker, VIP, hear, stopped) }).await?.context("a raw socket")?;
        let note = Arc::clone(&seen);
        std::thread::Builder::new().name("claims".into()).spawn(move || {
            for claim in heard {
                note.lock().unwrap_or_else(PoisonError::into_inner).claims.push(claim);
            }
        })?;
        Ok(Self { seen, stop, _looking: looking })
    }

    fn with<T>(&self, see: impl FnOnce(&mut Seen) -> T) -> T {
        see(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The proxies that have it now.
    pub(crate) fn holders(&self) -> Vec<&'static str> {
        let fresh = now().saturating_sub(100_000);
        self.with(|seen| {
            let holds = |n: usize| seen.samples[n].last().is_some_and(|s| s.holds && s.after > fresh);
            PROXIES.iter().enumerate().filter(|(n, _)| holds(*n)).map(|(_, name)| *name).collect()
        })
    }

    /// For how long both had it by their kernels, in `span`.
    pub(crate) fn two_had_it(&self, span: &Range<Micros>) -> Micros {
        self.with(|seen| {
            let [a, b] = [0, 1].map(|n| spans::held(within(&seen.samples[n], span, |s| s.before)));
            spans::both(&a, &b)
        })
    }

    /// For how long both answered for it on the Ethernet, in `span`.
    pub(crate) fn two_answered(&self, span: &Range<Micros>) -> Micros {
        self.with(|seen| {
            let claims = within(&seen.claims, span, |c| c.at);
            let [a, b] = PROXIES.map(|p| spans::answered(claims, mac(p).unwrap_or_default()));
            spans::both(&a, &b)
        })
    }

    /// When a proxy had it, in `span`.
    pub(crate) fn held(&self, proxy: &str, span: &Range<Micros>) -> Vec<Span> {
        let n = usize::from(proxy == PROXIES[1]);
        self.with(|seen| spans::held(within(&seen.samples[n], span, |s| s.before)))
    }

    /// The proxies that had it at any time in `span`, by their kernels.
    pub(crate) fn had_it(&self, span: &Range<Micros>) -> Vec<&'static str> {
        PROXIES.into_iter().filter(|proxy| !self.held(proxy, span).is_empty()).collect()
    }

    /// The first claim of a proxy that nobody asked for, in `span`.
    pub(crate) fn announced(&self, proxy: &str, span: &Range<Micros>) -> Option<Micros> {
        let mac = mac(proxy)?;
        self.with(|seen| within(&seen.claims, span, |c| c.at).iter().find(|c| c.unasked && c.mac == mac).map(|c| c.at))
    }

    /// Looks and claims so far, and forgets those before `then`.
    pub(crate) fn forget(&self, then: Micros) -> usize {
        self.with(|seen| {
            let before = seen.samples.iter().map(Vec::len).sum::<usize>() + seen.claims.len();
            for samples in &mut seen.samples {
                samples.retain(|s| s.before >= then);
            }
            seen.claims.retain(|c| c.at >= then);
            before - seen.samples.iter().map(Vec::len).sum::<usize>() - seen.claims.len()
        })
    }
}

async fn look(n: usize, seen: Arc<Mutex<Seen>>) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tick.tick().await;
        let before = now();
        let Ok(all) = interface::addresses() else { continue };
        let sample = Sample { before, after: now(), holds: all.contains(&VIP.into()) };
        seen.lock().unwrap_or_else(PoisonError::into_inner).samples[n].push(sample);
    }
}

/// Those of `all`, which are in order of time, that are in `span`.
fn within<'a, T>(all: &'a [T], span: &Range<Micros>, at: impl Fn(&T) -> Micros) -> &'a [T] {
    let from = all.partition_point(|one| at(one) < span.start);
    let to = all.partition_point(|one| at(one) < span.end);
    &all[from..to.max(from)]
}
