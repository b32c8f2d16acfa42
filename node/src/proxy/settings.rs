//! What a node tells its data plane at start, and what it can be asked.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::config::model::Name;

/// How the data plane runs on this node.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Worker threads; one per core the data plane may use.
    pub workers: usize,
    /// Workers look for bytes instead of sleeping, while few sessions speak: some latency less, for a core each.
    pub busy_poll: bool,
    /// Where this node stands: backends there are preferred.
    pub zone: Option<Name>,
    /// What clients and backends are held to.
    pub limits: Limits,
}

/// What clients and backends are held to. Timers before and after the upgrade are different ones.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most bytes of a request's head; more is answered 431.
    pub head_bytes: usize,
    /// A head must be complete this long after its first byte, else 408; a new connection must begin one this soon.
    pub head: Duration,
    /// From one piece of a request's body to the next, else 408.
    pub body: Duration,
    /// How long a client's connection may wait for its next request.
    pub keep_alive: Duration,
    /// For a connection to a backend.
    pub dial: Duration,
    /// For a backend's answer to a WebSocket handshake; then the next backend is tried.
    pub upgrade: Duration,
    /// For a backend's answer to a plain request. Long polls, the fallback of most WebSocket libraries, hold theirs for
    /// half a minute; so this one is not the upgrade's.
    pub response: Duration,
    /// Backends tried for one request.
    pub tries: usize,
    /// A session with no byte for this long is ended.
    pub session_idle: Duration,
    /// The same for a session one side has already closed.
    pub session_closing: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 32 * 1024,
            head: Duration::from_secs(10),
            body: Duration::from_secs(60),
            keep_alive: Duration::from_secs(75),
            dial: Duration::from_secs(1),
            upgrade: Duration::from_secs(10),
            response: Duration::from_secs(60),
            tries: 3,
            session_idle: Duration::from_secs(3600),
            session_closing: Duration::from_secs(60),
        }
    }
}

/// Which virtual addresses are on other nodes now, and what that means here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Virtual addresses this node does not hold.
    pub away: BTreeSet<IpAddr>,
    /// What their absence means.
    pub absent: Absent,
}

/// What the absence of a virtual address means for listeners and sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// Another process may need the address (provider `bind`): stop listening on it. Its sessions go on.
    CannotListen,
    /// The address is not on this machine (provider `linux`): keep listening, but end its connections at once, since no
    /// packet of theirs arrives here any more.
    CannotServe,
}

/// What the data plane of this node does now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// One per listener of the config.
    pub listeners: Vec<ListenerReport>,
    /// One per backend of the config.
    pub backends: Vec<BackendReport>,
    /// Open sessions, also those whose backend is no longer in the config.
    pub sessions: u64,
}

/// One listener on this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerReport {
    /// Its name in the config.
    pub name: Name,
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether it does.
    pub state: Listening,
}

/// Whether a listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listening {
    /// Clients can connect.
    Bound,
    /// Its virtual address is on another node.
    Away,
    /// The operator must act: the text says what on. Tried again each second.
    Failed(String),
}

/// One backend as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendReport {
    /// Its upstream.
    pub upstream: Name,
    /// Its address.
    pub address: SocketAddr,
    /// Whether the checks find it healthy.
    pub up: bool,
    /// Why it is down, or the last failure.
    pub error: Option<String>,
    /// Open sessions.
    pub sessions: u64,
    /// Sessions since this node started.
    pub sessions_total: u64,
    /// Plain requests answered since this node started.
    pub requests_total: u64,
}
