//! One backend as this node knows it: its counters belong to its identity and outlive every revision of the config.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tandem_proto::millis;
use tokio::sync::Notify;

use super::balance::{Ejection, Latency, mark};
use super::dialing::Dialing;
use super::drain::Drain;
use super::limits::{Count, Limit};
use super::proxy_protocol::Addresses;
use super::stream::Stream;
use super::tls;
use crate::config::model::Name;

/// The time on the one clock that backends are told by, since it was first looked at.
pub(super) fn now() -> Duration {
    static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
    BEGAN.elapsed()
}

/// A server behind the proxy. `(upstream, address)` is who it is.
#[derive(Debug)]
pub(super) struct Backend {
    pub(super) upstream: Name,
    pub(super) address: SocketAddr,
    /// Its address as a number: in cookies, and for hashing.
    pub(super) mark: u64,
    up: AtomicBool,
    /// Since when, in milliseconds of [`now`].
    up_since: AtomicU64,
    latency: AtomicU64,
    load: AtomicU32,
    /// Clients that it failed since it last served one.
    failures: AtomicU32,
    ejection: AtomicU64,
    ejections: AtomicU64,
    /// Sessions, those still in their handshake too: what its limit is held against.
    pub(super) seats: Arc<Count>,
    /// Whether it drains, and when its sessions must end. What was said last before it was removed stays in force.
    pub(super) drain: Drain,
    /// Open sessions.
    pub(super) sessions: AtomicU64,
    /// Sessions ever opened.
    pub(super) sessions_total: AtomicU64,
    /// Plain requests ever answered by it.
    pub(super) requests_total: AtomicU64,
    failure: Mutex<Option<String>>,
    is_unmet: AtomicBool,
    /// Why the last client could not be taken to it over TLS, and by which [`Dialing::id`].
    unmet: Mutex<Option<(u64, String)>>,
    doubt: Notify,
}

impl Backend {
    /// One just met: nothing speaks against it, so it is up.
    pub(super) fn new(upstream: Name, address: SocketAddr) -> Self {
        Self {
            upstream,
            address,
            mark: mark(address),
            up: AtomicBool::new(true),
            up_since: AtomicU64::new(millis(now())),
            latency: AtomicU64::default(),
            load: AtomicU32::new(0),
            failures: AtomicU32::new(0),
            ejection: AtomicU64::default(),
            ejections: AtomicU64::new(0),
            seats: Arc::default(),
            drain: Drain::default(),
            sessions: AtomicU64::new(0),
            sessions_total: AtomicU64::new(0),
            requests_total: AtomicU64::new(0),
            failure: Mutex::new(None),
            is_unmet: AtomicBool::new(false),
            unmet: Mutex::new(None),
            doubt: Notify::new(),
        }
    }

    /// Whether the checks find it healthy.
    pub(super) fn is_up(&self) -> bool {
        self.up.load(Acquire)
    }

    /// Sessions and requests that were given to it and have not ended.
    pub(super) fn load(&self) -> u32 {
        self.load.load(Relaxed)
    }

    /// What its checks found. One that comes up is not held to what it did before.
    pub(super) fn set_up(&self, up: bool) {
        if up && !self.is_up() {
            // First: nobody shall see it up for longer than it is.
            self.up_since.store(millis(now()), Relaxed);
            self.ejection.store(Ejection::default().to_bits(), Relaxed);
            self.failures.store(0, Relaxed);
        }
        self.up.store(up, Release);
    }

    /// How long it has been up, or known if it never was down; since it came back, if it was ejected.
    pub(super) fn up_for(&self, now: Duration) -> Duration {
        let since = Duration::from_millis(self.up_since.load(Relaxed));
        now.saturating_sub(since.max(self.ejection().until()))
    }

    /// Whether it is out for failing clients.
    pub(super) fn ejection(&self) -> Ejection {
        Ejection::from_bits(self.ejection.load(Relaxed))
    }

    /// Takes it out.
    pub(super) fn eject(&self, ejection: Ejection) {
        self.ejection.store(ejection.to_bits(), Relaxed);
        self.failures.store(0, Relaxed);
        self.ejections.fetch_add(1, Relaxed);
    }

    /// How often it was taken out.
    pub(super) fn ejections(&self) -> u64 {
        self.ejections.load(Relaxed)
    }

    /// It served a client.
    pub(super) fn served(&self) {
        // Nearly always it is zero: to look is cheaper than to write what all workers share.
        if self.failures.load(Relaxed) != 0 {
            self.failures.store(0, Relaxed);
        }
    }

    /// It failed a client; how many in a row.
    pub(super) fn let_down(&self) -> u32 {
        self.failures.fetch_add(1, Relaxed).saturating_add(1)
    }

    /// How long it takes to answer; `None`: it has not answered yet.
    pub(super) fn latency(&self, now: Duration) -> Option<Duration> {
        Latency::from_bits(self.latency.load(Relaxed)).at(now)
    }

    /// The head of an answer came after this time. Where two workers tell it at once, one of them is not heard: the next
    /// will be.
    pub(super) fn answered(&self, after: Duration) {
        let before = Latency::from_bits(self.latency.load(Relaxed));
        self.latency.store(before.after(after, now()).to_bits(), Relaxed);
    }

    /// It did not answer, for this long. One that fails at once is not a fast one.
    pub(super) fn unanswered(&self, after: Duration) {
        self.answered(after.max(Duration::from_secs(1)));
    }

    /// Keeps the last failure for whoever asks.
    pub(super) fn failed(&self, why: String) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }

    /// The last failure; `None` if there never was one.
    pub(super) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A session could not reach it. That is a hint to check now, not a verdict: the trouble may be ours.
    fn doubt(&self) {
        self.doubt.notify_one();
    }

    /// Waits until somebody doubts it.
    pub(super) async fn doubted(&self) {
        self.doubt.notified().await;
    }

    /// Connects, for `said`, to whom the config calls `host`.
    ///
    /// # Errors
    /// As [`Dialing::open`]. If it may be the backend's fault, it is also to be checked now.
    pub(super) async fn dial(
        &self,
        how: &Dialing,
        host: Option<&str>,
        within: Duration,
        said: Option<Addresses>,
    ) -> io::Result<Stream> {
        let dialed = how.open(self.address, host, within, said).await;
        match &dialed {
            Ok(_) => self.reached(),
            Err(error) => {
                if tls::is_unmet(error) {
                    self.met(Some((how.id, error.to_string())));
                }
                if shortage(error).is_none() {
                    self.doubt();
                }
            }
        }
        dialed
    }

    fn met(&self, unmet: Option<(u64, String)>) {
        let mut known = self.unmet.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_unmet.store(unmet.is_some(), Relaxed);
        *known = unmet;
    }

    /// A client or a check got there, over TLS where that is spoken.
    pub(super) fn reached(&self) {
        // Nearly always there is nothing to forget: to look is cheaper than to lock.
        if self.is_unmet.load(Relaxed) {
            self.met(None);
        }
    }

    /// Why clients cannot be taken to it over TLS as `how` says; `None`: the last one could, or nobody tried.
    pub(super) fn unmet(&self, how: &Dialing) -> Option<String> {
        let known = self.unmet.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|(id, _)| *id == how.id).map(|(_, why)| why.clone())
    }
}

/// What a Host header says of a backend that the config calls so.
pub(super) fn authority(host: Option<&str>, address: SocketAddr) -> String {
    host.map_or_else(|| address.to_string(), |host| format!("{host}:{}", address.port()))
}

/// What this node lacks, if that is why a connection did not come about.
pub(super) fn shortage(error: &io::Error) -> Option<Limit> {
    match error.raw_os_error()? {
        libc::EMFILE | libc::ENFILE => Some(Limit::Descriptors),
        libc::EADDRNOTAVAIL => Some(Limit::Ports),
        _ => None,
    }
}

/// A session's or request's place at a backend, counted from the choice until it is dropped, so that many handshakes
/// at once do not all go to the same one.
#[derive(Debug)]
pub(super) struct Place(Arc<Backend>);

impl Place {
    /// Takes a place.
    pub(super) fn at(backend: &Arc<Backend>) -> Self {
        backend.load.fetch_add(1, Relaxed);
        Self(Arc::clone(backend))
    }

    /// Where.
    pub(super) fn backend(&self) -> &Backend {
        &self.0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.load.fetch_sub(1, Relaxed);
    }
}
