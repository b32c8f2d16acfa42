//! What a load is told to do, and what it tells when it is done.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One piece of work.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    /// Whom to connect to.
    pub(crate) target: SocketAddr,
    /// By TLS.
    pub(crate) secure: Option<Secure>,
    /// The process whose tree is metered; none: nobody stands between.
    pub(crate) metered: Option<u32>,
    /// Where config changes go.
    pub(crate) admin: Option<SocketAddr>,
    /// How long everything runs before anything counts, milliseconds.
    pub(crate) warm_ms: u64,
    /// How long it counts, milliseconds.
    pub(crate) window_ms: u64,
    /// What to do.
    pub(crate) work: Work,
}

/// How to connect by TLS.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Secure {
    /// The certificate that is trusted, PEM.
    pub(crate) certificate: PathBuf,
    /// Resume a session when one is known, and fail if the server does not.
    pub(crate) resume: bool,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Work {
    /// So many sessions, each with one message of `bytes` on its way all the time.
    Echo { sessions: usize, bytes: usize },
    /// So many at once: connect, upgrade, close, again.
    Upgrades { at_once: usize },
    /// So many connections that stay, each with one request on its way all the time.
    Requests { connections: usize },
    /// So many sessions that have spoken once and say nothing more.
    Idle { sessions: usize },
    /// `busy` sessions as in [`Work::Echo`], first alone, then beside so many that say nothing.
    Held { held: usize, busy: usize },
    /// Sessions as in [`Work::Echo`], by turns alone and under so many config changes a second.
    Changes { sessions: usize, per_second: u32 },
}

/// A thing that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Figure {
    /// Processor time of the metered tree for one message, upgrade or request, microseconds.
    CpuMicros,
    /// Messages, upgrades or requests a second.
    PerSecond,
    /// Payload a second, one way, megabytes (10^6).
    Megabytes,
    /// Median of the time from sending to having all of the answer, microseconds.
    P50Micros,
    /// The time that one in a hundred takes longer than, microseconds.
    P99Micros,
    /// Userspace memory for one more idle session, bytes.
    SessionBytes,
    /// p99 beside held sessions, over p99 alone.
    HeldRatio,
    /// Throughput under changes, over throughput alone.
    ChangeRatio,
    /// Config changes acknowledged a second.
    Changes,
}

/// What was measured.
pub(crate) type Figures = BTreeMap<Figure, f64>;
