//! Why this node leads: because another one handed over to it, or because it was elected.

use std::sync::{Arc, Mutex, PoisonError};

use super::raft::LeaderId;
use super::standing::NodeId;

/// Who handed the leadership over to this node last, and in which term that one led.
#[derive(Debug, Clone, Default)]
pub(super) struct Handed(Arc<Mutex<Option<(u64, NodeId)>>>);

impl Handed {
    /// This leader hands over.
    pub(super) fn by(&self, leader: LeaderId) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((leader.term, leader.node_id));
    }

    /// Who made this node the leader of `term` by that.
    pub(super) fn led_to(&self, term: u64) -> Option<NodeId> {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.filter(|(before, _)| before + 1 == term).map(|(_, from)| from)
    }
}
