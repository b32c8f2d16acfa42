//! Where this node stands in its cluster now. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Number of a node, given when it joined; never reused.
pub type NodeId = u64;

pub use crate::config::Role;

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
    /// Index of the last applied log entry.
    pub applied: u64,
    /// Everyone in the cluster.
    pub members: Arc<BTreeMap<NodeId, Member>>,
    /// Those of them who vote.
    pub voters: Arc<Vec<NodeId>>,
    /// Consensus stopped on this node, and why.
    pub fatal: Option<String>,
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
        self.quorum_acked.map(|acked| acked + lease)
    }

    /// The leader, with its name and address.
    pub fn leader_member(&self) -> Option<&Member> {
        self.members.get(&self.leader?)
    }
}
