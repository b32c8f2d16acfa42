//! How fast a silent leader is noticed. Pure.

use std::time::Duration;

/// Heartbeat and election times. Equal on all nodes: every message carries the lease and a receiver refuses another.
///
/// Failover takes `lease + U(election_min, lease) − age of the last heartbeat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timers {
    /// From one heartbeat of the leader to the next.
    pub heartbeat: Duration,
    /// The shortest a follower waits, after the lease, before it asks for votes.
    pub election_min: Duration,
    /// The longest; also the lease: within it of a heartbeat, a follower votes for nobody else.
    pub lease: Duration,
}

impl Timers {
    /// Measured failover 458-605 ms.
    pub const DEFAULT: Self = Self::new(50, 150, 300);
    /// Measured failover 256-311 ms; lower flaps on virtual machines.
    pub const FAST: Self = Self::new(30, 100, 150);

    const fn new(heartbeat: u64, election_min: u64, lease: u64) -> Self {
        Self {
            heartbeat: Duration::from_millis(heartbeat),
            election_min: Duration::from_millis(election_min),
            lease: Duration::from_millis(lease),
        }
    }
}
