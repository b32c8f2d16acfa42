//! How many and how fast: sessions up to a limit, handshakes at a rate. Pure: time is an argument, chance is none.
//!
//! Shared by the workers of a node, so that a limit is the node's and never exceeded. Counting is one compare-and-swap;
//! only a limit per client takes a lock, a short one of one shard, and none of it happens once a session runs.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::model::Settings;

/// Sessions that are open or about to be.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU32);

impl Count {
    /// Counts one more, unless there are `most` already.
    pub(super) fn take(self: &Arc<Self>, most: Option<NonZeroU32>) -> Option<Taken> {
        let most = most.map_or(u32::MAX, NonZeroU32::get);
        self.0.fetch_update(Relaxed, Relaxed, |n| (n < most).then(|| n + 1)).ok()?;
        Some(Taken(Arc::clone(self)))
    }

    /// How many there are.
    pub(super) fn now(&self) -> u32 {
        self.0.load(Relaxed)
    }
}

/// One that is counted until it is dropped.
#[derive(Debug)]
pub(super) struct Taken(Arc<Count>);

impl Drop for Taken {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// So many a second, and so many at once after a quiet time.
#[derive(Debug, Clone, Copy)]
struct Rate {
    per_second: NonZeroU32,
    burst: NonZeroU32,
}

impl Rate {
    fn of(per_second: Option<NonZeroU32>, burst: Option<NonZeroU32>) -> Option<Self> {
        per_second.map(|per_second| Self { per_second, burst: burst.unwrap_or(per_second) })
    }

    /// The token bucket as one number (the generic cell rate algorithm): when the bucket will be full again. `full_at` and
    /// `now` in nanoseconds.
    ///
    /// # Errors
    /// How long until there is a token.
    fn after_one(self, full_at: u64, now: u64) -> Result<u64, Duration> {
        let token = 1_000_000_000 / u64::from(self.per_second.get());
        let next = full_at.max(now) + token;
        let bucket = token * u64::from(self.burst.get());
        match next.saturating_sub(now).checked_sub(bucket) {
            Some(wait) if wait > 0 => Err(Duration::from_nanos(wait)),
            _ => Ok(next),
        }
    }
}

/// Handshakes of all clients.
#[derive(Debug, Default)]
struct Bucket(AtomicU64);

impl Bucket {
    fn take(&self, rate: Rate, now: u64) -> Result<(), Duration> {
        let mut wait = Duration::ZERO;
        let one = |full_at| rate.after_one(full_at, now).map_err(|w| wait = w).ok();
        self.0.fetch_update(Relaxed, Relaxed, one).map(drop).map_err(|_| wait)
    }
}

/// Shards of the table of clients: as many workers can ask at once as there are.
const SHARDS: usize = 16;
/// The most clients in a shard that are known only for their rate. One more is not held to its own rate for a moment; that
/// of all clients together holds it.
const STRANGERS: usize = 4096;
/// How often a shard that is full may be looked through, nanoseconds.
const SWEEP: u64 = 100_000_000;

/// What is known of a client's address.
#[derive(Debug, Default)]
struct Client {
    open: u32,
    full_at: u64,
}

#[derive(Debug, Default)]
struct Shard {
    clients: HashMap<u64, Client>,
    /// Those without a session, at most; exact after a sweep.
    strangers: usize,
    swept_at: u64,
}

impl Shard {
    /// Forgets those without a session whose bucket is full. Whether there is room for one more stranger.
    fn room(&mut self, now: u64) -> bool {
        if self.strangers < STRANGERS {
            return true;
        }
        if now.saturating_sub(self.swept_at) >= SWEEP {
            self.swept_at = now;
            self.clients.retain(|_, c| c.open > 0 || c.full_at > now);
            self.strangers = self.clients.values().filter(|c| c.open == 0).count();
        }
        self.strangers < STRANGERS
    }
}

/// Clients by address, as far as a limit asks for it.
#[derive(Debug, Default)]
struct Clients([Mutex<Shard>; SHARDS]);

impl Clients {
    fn shard(&self, key: u64) -> MutexGuard<'_, Shard> {
        // Fibonacci hashing: neighbours go to different shards.
        let i = usize::try_from(key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60).expect("four bits");
        self.0[i].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(self: &Arc<Self>, client: IpAddr, settings: &Settings, now: u64) -> Result<Option<Guest>, Refusal> {
        let most = settings.sessions_per_client_ip;
        let rate = Rate::of(settings.upgrades_per_second_per_ip, settings.upgrade_burst);
        if most.is_none() && rate.is_none() {
            return Ok(None);
        }
        let key = key(client);
        let mut shard = self.shard(key);
        let known = shard.clients.get(&key);
        let (open, full_at) = known.map_or((0, 0), |c| (c.open, c.full_at));
        let is_new = known.is_none();
        if let Some(most) = most.filter(|most| open >= most.get()) {
            return Err(Refusal { limit: Limit::ClientSessions(most), after: Duration::ZERO });
        }
        let next = match rate {
            None => full_at,
            Some(rate) => rate
                .after_one(full_at, now)
                .map_err(|after| Refusal { limit: Limit::ClientRate(rate.per_second), after })?,
        };
        // A stranger that finds no room goes in unseen, unless its sessions count: those are never more than there are
        // sockets.
        if is_new && most.is_none() && !shard.room(now) {
            return Ok(None);
        }
        let guest = most.is_some();
        let client = shard.clients.entry(key).or_default();
        client.full_at = next;
        if guest {
            client.open += 1;
        } else if is_new {
            shard.strangers += 1;
        }
        Ok(guest.then(|| Guest { clients: Arc::clone(self), key }))
    }
}

/// IPv6 by /64: that is what one customer has. IPv4 lies where no such network is.
fn key(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(v4) => 1 << 32 | u64::from(v4.to_bits()),
        IpAddr::V6(v6) => u64::try_from(v6.to_bits() >> 64).expect("64 bits"),
    }
}

/// A session of a client whose sessions count.
#[derive(Debug)]
struct Guest {
    clients: Arc<Clients>,
    key: u64,
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut shard = self.clients.shard(self.key);
        let Some(client) = shard.clients.get_mut(&self.key) else { return };
        client.open = client.open.saturating_sub(1);
        if client.open > 0 {
            return;
        }
        // Its rate must outlive it: a client that comes and goes is not a new one each time. A sweep forgets it.
        if client.full_at == 0 {
            shard.clients.remove(&self.key);
        } else {
            shard.strangers += 1;
        }
    }
}

/// A limit that was reached. The text is for the client, and tells the operator which setting it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Limit {
    /// The client has too many.
    #[error("your address has its {0} sessions (sessions_per_client_ip); end one first")]
    ClientSessions(NonZeroU32),
    /// The client asks too often.
    #[error("your address asks for more than {0} sessions a second (upgrades_per_second_per_ip); wait a little")]
    ClientRate(NonZeroU32),
    /// All clients together ask too often.
    #[error("more than {0} sessions a second are asked for here (upgrades_per_second); wait a little")]
    Rate(NonZeroU32),
    /// This node has enough.
    #[error("this node has its {0} sessions (settings max_sessions); try again later")]
    Sessions(NonZeroU32),
    /// The listener has enough.
    #[error("this listener has its {0} sessions (listener max_sessions); try again later")]
    Listener(NonZeroU32),
    /// The upstream has enough.
    #[error("the upstream has its {0} sessions (upstream max_sessions); try again later")]
    Upstream(NonZeroU32),
    /// All backends that might take it have enough.
    #[error("every backend that is up has all its sessions (backend max_sessions); try again later")]
    Backends,
    /// The process cannot open more sockets.
    #[error("this node has no open files left (ulimit -n); try again later")]
    Descriptors,
    /// The system has no port left towards the backend.
    #[error("this node has no local ports left towards the backend (upstream source_addresses); try again later")]
    Ports,
}

/// The labels of [`Limit::index`].
pub(super) const LIMITS: [&str; 9] = [
    "sessions_per_client_ip",
    "upgrades_per_second_per_ip",
    "upgrades_per_second",
    "max_sessions",
    "listener_max_sessions",
    "upstream_max_sessions",
    "backend_max_sessions",
    "open_files",
    "local_ports",
];

impl Limit {
    /// Its place in [`LIMITS`].
    pub(super) fn index(self) -> usize {
        match self {
            Self::ClientSessions(_) => 0,
            Self::ClientRate(_) => 1,
            Self::Rate(_) => 2,
            Self::Sessions(_) => 3,
            Self::Listener(_) => 4,
            Self::Upstream(_) => 5,
            Self::Backends => 6,
            Self::Descriptors => 7,
            Self::Ports => 8,
        }
    }
}

/// Why a session is not opened now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{limit}")]
pub(super) struct Refusal {
    pub(super) limit: Limit,
    /// When it is worth trying again.
    pub(super) after: Duration,
}

impl From<Limit> for Refusal {
    fn from(limit: Limit) -> Self {
        Self { limit, after: Duration::ZERO }
    }
}

impl Refusal {
    /// `Retry-After` (RFC 9110 section 10.2.3): whole seconds, one at least.
    pub(super) fn retry_after(&self) -> u64 {
        self.after.as_secs() + u64::from(self.after.subsec_nanos() > 0 || self.after.is_zero())
    }
}

/// Where a session would be counted beside the node, and the most of them there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted<'a> {
    pub(super) count: &'a Arc<Count>,
    pub(super) most: Option<NonZeroU32>,
}

/// A session's leave, from its handshake to its end.
#[derive(Debug)]
pub(super) struct Permit {
    _node: Taken,
    _listener: Taken,
    _upstream: Taken,
    _guest: Option<Guest>,
}

/// All that a node limits.
#[derive(Debug, Default)]
pub(super) struct Limiter {
    node: Arc<Count>,
    handshakes: Bucket,
    clients: Arc<Clients>,
}

impl Limiter {
    /// Lets one more session in, or says which limit it would exceed. `now`: since any fixed moment. The client's own
    /// limits come first, so that one who asks too much does not use up what all share.
    ///
    /// # Errors
    /// The limit, and when to try again.
    pub(super) fn admit(
        &self,
        now: Duration,
        settings: &Settings,
        client: IpAddr,
        listener: Counted<'_>,
        upstream: Counted<'_>,
    ) -> Result<Permit, Refusal> {
        // Never zero, which means a client without a rate.
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX >> 1).max(1);
        let guest = self.clients.enter(client, settings, now)?;
        if let Some(rate) = Rate::of(settings.upgrades_per_second, settings.upgrade_burst) {
            let limit = Limit::Rate(rate.per_second);
            self.handshakes.take(rate, now).map_err(|after| Refusal { limit, after })?;
        }
        let take = |counted: Counted<'_>, limit: fn(NonZeroU32) -> Limit| {
            let most = counted.most.unwrap_or(NonZeroU32::MAX);
            counted.count.take(counted.most).ok_or_else(|| Refusal::from(limit(most)))
        };
        let node = Counted { count: &self.node, most: settings.max_sessions };
        Ok(Permit {
            _node: take(node, Limit::Sessions)?,
            _listener: take(listener, Limit::Listener)?,
            _upstream: take(upstream, Limit::Upstream)?,
            _guest: guest,
        })
    }
}

#[cfg(test)]
mod tests;
