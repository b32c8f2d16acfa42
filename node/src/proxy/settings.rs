//! What a node tells its data plane at start, and what it can be asked.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::tls::Keys;
use crate::config::model::{Address, Name};

/// How the data plane runs on this node.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Worker threads; one per core the data plane may use.
    pub workers: usize,
    /// Workers look for bytes instead of sleeping, while few sessions speak: some latency less, for a core each.
    pub busy_poll: bool,
    /// Where this node stands: backends there are preferred.
    pub zone: Option<Name>,
    /// What opens the keys of certificates; `None`: no TLS can be spoken with them here.
    pub keys: Option<Arc<dyn Keys>>,
    /// Who is asked for the addresses of backends that are names; none: whom `/etc/resolv.conf` names.
    pub dns: Vec<SocketAddr>,
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
    /// One per backend of the config, and per server behind one that is a name.
    pub backends: Vec<BackendReport>,
    /// One per name among the backends.
    pub names: Vec<NameReport>,
    /// Open sessions, also those whose backend is no longer in the config.
    pub sessions: u64,
    /// It takes no new requests and sessions.
    pub draining: bool,
    /// When it drains: how long its sessions have left; `None`: as long as they like.
    pub drain_left: Option<Duration>,
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
    /// It takes no new requests and sessions.
    pub draining: bool,
    /// When it drains: how long its sessions have left; `None`: as long as they like.
    pub drain_left: Option<Duration>,
    /// Open sessions of clients that came in here.
    pub sessions: u64,
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
    /// How the config names it.
    pub said: Address,
    /// Its address.
    pub address: SocketAddr,
    /// Whether the checks find it healthy.
    pub up: bool,
    /// Why it is down, or the last failure.
    pub error: Option<String>,
    /// Why clients cannot be taken to it over TLS; `None`: the last one or a check could, or nobody tried.
    pub tls_error: Option<String>,
    /// For how much longer it gets no clients because it failed too many in a row; `None`: it may get them.
    pub ejected_for: Option<Duration>,
    /// How often that happened since this node started.
    pub ejections_total: u64,
    /// Open sessions.
    pub sessions: u64,
    /// Sessions since this node started.
    pub sessions_total: u64,
    /// Plain requests answered since this node started.
    pub requests_total: u64,
    /// When it drains: how long its sessions have left; `None`: as long as they like.
    pub drain_left: Option<Duration>,
}

/// What this node knows of a backend that is a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameReport {
    /// How the config names it.
    pub name: Address,
    /// How many servers stand behind it.
    pub servers: usize,
    /// Why they may not be those of now; `None`: they are.
    pub trouble: Option<String>,
}
