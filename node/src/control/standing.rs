//! Where this node stands in its cluster now. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Number of a node, given when it joined; never reused.
pub type NodeId = u64;

pub use crate::config::Role;

/// Longer than any process runs.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A node of the cluster, as the log knows it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Member {
    /// Its number.
    pub id: NodeId,
    /// What people call it.
    pub name: String,
    /// host:port of its node port.
    pub address: String,
    /// What it does.
    pub role: Role,
    /// A learner that becomes a voter as soon as it has caught up.
    pub to_vote: bool,
}

/// A snapshot of consensus as this node sees it; a new one is published at every acknowledged heartbeat.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// This node.
    pub me: NodeId,
    /// The current term.
    pub term: u64,
    /// Who leads, if that is known. That it is `me` is never permission to hold an address: see `lease_end`.
    pub leader: Option<NodeId>,
    /// While this node leads: the sending time of the newest heartbeat that a majority has acknowledged.
    pub quorum_acked: Option<Instant>,
    /// While this node leads: it has applied everything that was committed before its term.
    pub caught_up: bool,
    /// While this node leads: its predecessor handed over, which it does only after it let go of everything.
    pub handed_over: bool,
    /// Index of the last applied log entry.
    pub applied: u64,
    /// Everyone in the cluster.
    pub members: Arc<BTreeMap<NodeId, Member>>,
    /// Those of them who vote.
    pub voters: Arc<Vec<NodeId>>,
    /// Consensus stopped on this node, and why.
    pub fatal: Option<String>,
    /// That is because this node is no member any more: it must serve nobody new.
    pub removed: bool,
}

impl Standing {
    /// Until when nobody else can have been elected: `last_quorum_acked + L`, if this node leads.
    ///
    /// A follower refuses votes within L of the last heartbeat it got, and every later majority shares a node with the one
    /// that acknowledged. The time is that of *sending*, so network delay errs to the safe side.
    pub fn lease_end(&self, lease: Duration) -> Option<Instant> {
        if self.leader != Some(self.me) || self.fatal.is_some() {
            return None;
        }
        // Beside a sole voter there is nobody who could be elected, and nobody who would acknowledge anything.
        let lasts = if *self.voters == [self.me] { FOREVER } else { lease };
        self.quorum_acked.map(|acked| acked + lasts)
    }

    /// The leader, with its name and address.
    pub fn leader_member(&self) -> Option<&Member> {
        self.members.get(&self.leader?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leading(voters: &[NodeId], acked: Instant) -> Standing {
        Standing {
            me: 1,
            leader: Some(1),
            quorum_acked: Some(acked),
            voters: Arc::new(voters.to_vec()),
            ..Standing::default()
        }
    }

    #[test]
    fn a_lease_ends_with_the_quorums_acknowledgement_and_a_sole_voters_does_not() {
        let (acked, lease) = (Instant::now(), Duration::from_millis(300));
        assert_eq!(leading(&[1, 2, 3], acked).lease_end(lease), Some(acked + lease));
        assert_eq!(leading(&[1, 2], acked).lease_end(lease), Some(acked + lease));
        let alone = leading(&[1], acked).lease_end(lease);
        assert!(alone.is_some_and(|end| end > acked + Duration::from_secs(3600)));
        let follower = Standing { leader: Some(2), ..leading(&[1, 2, 3], acked) };
        assert_eq!(follower.lease_end(lease), None);
    }
}
