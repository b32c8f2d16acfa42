//! What openraft is told about us: the types of one cluster, named in one place.

use std::fmt;
use std::io::Cursor;

use openraft::alias;
use tandem_proto::config::v1::Command;

use super::machine::Machine;
use super::standing::{Member, NodeId};
use super::state::Outcome;

/// A command as a log entry's payload.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Change(pub(super) Command);

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} edits by {} ({})", self.0.edits.len(), self.0.actor, self.0.request_id)
    }
}

openraft::declare_raft_types!(
    /// Our types.
    pub(super) Types:
        D = Change,
        R = Outcome,
        NodeId = NodeId,
        Node = Member,
);

pub(super) type Raft = openraft::Raft<Types, Machine>;
pub(super) type Entry = alias::EntryOf<Types>;
pub(super) type LogId = alias::LogIdOf<Types>;
pub(super) type Vote = alias::VoteOf<Types>;
pub(super) type LeaderId = alias::LeaderIdOf<Types>;
pub(super) type Membership = openraft::Membership<NodeId, Member>;
pub(super) type StoredMembership = alias::StoredMembershipOf<Types>;
pub(super) type SnapshotMeta = alias::SnapshotMetaOf<Types>;
pub(super) type SnapshotData = Cursor<Vec<u8>>;
pub(super) type Snapshot = alias::SnapshotOf<Types, SnapshotData>;
