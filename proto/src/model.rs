//! The config as it is meant: checked types that cannot hold a mistake. Pure.

mod check;
mod edit;

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// The name of a listener, route, upstream or virtual IP: `[a-z0-9][a-z0-9._-]*`, at most 63 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// `None` if the text is no name.
    pub fn new(text: &str) -> Option<Self> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let ok = (1..=63).contains(&text.len())
            && plain(text.as_bytes()[0])
            && text.bytes().all(|b| plain(b) || matches!(b, b'.' | b'_' | b'-'));
        ok.then(|| Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// One checked config. Cheap to clone: upstreams, the only large part, are shared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Where clients connect to.
    pub listeners: BTreeMap<Name, Listener>,
    /// Which request goes where; each names an upstream that exists.
    pub routes: BTreeMap<Name, Route>,
    /// Who answers.
    pub upstreams: BTreeMap<Name, Arc<Upstream>>,
    /// Addresses that one node at a time holds.
    pub vips: BTreeMap<Name, Vip>,
}

/// An address and port that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// May name a virtual IP, or an unspecified address for all.
    pub address: SocketAddr,
}

/// host + path prefix → upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Which `Host` it takes.
    pub host: Host,
    /// Prefix on segment borders; begins with `/`.
    pub path: String,
    /// An upstream that exists.
    pub upstream: Name,
}

/// Which hosts a route takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// This one, in lower case, without a port.
    Exact(String),
    /// Any, also none.
    Any,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.pad(host),
            Self::Any => f.pad("*"),
        }
    }
}

/// A named group of backends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Upstream {
    /// Who gets the next session.
    pub balance: Balance,
    /// How health is found out.
    pub check: Check,
    /// Keyed by address: that is a backend's identity.
    pub backends: BTreeMap<SocketAddr, Backend>,
}

/// Who gets the next session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    /// Each in turn, in proportion to weight.
    #[default]
    RoundRobin,
    /// The one with the fewest sessions for its weight.
    LeastSessions,
}

/// How a backend is found healthy or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What is tried.
    pub kind: CheckKind,
    /// From one try to the next.
    pub interval: Duration,
    /// A try that takes longer has failed.
    pub timeout: Duration,
    /// Successes in a row that bring it up.
    pub rise: NonZeroU32,
    /// Failures in a row that take it down.
    pub fall: NonZeroU32,
}

impl Default for Check {
    fn default() -> Self {
        Self {
            kind: CheckKind::Tcp,
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(500),
            rise: NonZeroU32::MIN,
            fall: NonZeroU32::MIN.saturating_add(1),
        }
    }
}

/// What a health check tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckKind {
    /// Nothing: always up.
    None,
    /// A TCP connection is accepted.
    Tcp,
}

/// One server behind the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Its share, relative to the others: 1..=1000.
    pub weight: NonZeroU32,
    /// Whether it takes new sessions.
    pub state: State,
}

/// Whether a backend takes new sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// Takes new sessions.
    #[default]
    Active,
    /// Keeps those it has, takes no new ones.
    Draining,
}

/// An address that one node at a time holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vip {
    /// IPv4 for now.
    pub address: IpAddr,
}

/// Weight of a backend that names none.
pub const DEFAULT_WEIGHT: NonZeroU32 = NonZeroU32::new(100).expect("100 is not zero");
/// The largest weight.
pub const MAX_WEIGHT: u32 = 1000;

macro_rules! words {
    ($($type:ident { $($variant:ident = $word:literal),+ })+) => {$(
        impl $type {
            /// How people write each of them.
            pub const WORDS: &[(&str, Self)] = &[$(($word, Self::$variant)),+];

            /// How people write this one.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }
    )+};
}

words! {
    Balance { RoundRobin = "round_robin", LeastSessions = "least_sessions" }
    CheckKind { None = "none", Tcp = "tcp" }
    State { Active = "active", Draining = "draining" }
}
