//! What is on a node's disk, in the words of the protocol: for whoever checks that nodes agree.

use tandem_proto::raft::v1 as pb;

use super::store::Store;
use super::wire;

impl Store {
    /// The ids of the log entries from this index on, oldest first.
    pub fn ids(&self, from: u64) -> Vec<pb::LogId> {
        self.kept().log.range(from..).map(|(_, entry)| wire::log_id_out(&entry.log_id)).collect()
    }

    /// The log entries from this index on, oldest first.
    pub fn entries(&self, from: u64) -> Vec<pb::Entry> {
        self.kept().log.range(from..).map(|(_, entry)| wire::entry_out(entry.clone())).collect()
    }

    /// The newest entry that is no longer in the log, because a snapshot stands for it.
    pub fn purged(&self) -> Option<pb::LogId> {
        self.kept().purged.as_ref().map(wire::log_id_out)
    }

    /// The newest entry known to be committed.
    pub fn committed(&self) -> Option<pb::LogId> {
        self.kept().committed.as_ref().map(wire::log_id_out)
    }

    /// The newest vote.
    pub fn vote(&self) -> Option<pb::Vote> {
        self.kept().vote.as_ref().map(wire::vote_out)
    }
}
