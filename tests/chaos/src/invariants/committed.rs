//! What is committed, as the nodes' own disks tell: at an index there is one entry, for good.

use std::collections::BTreeMap;

use tandem_node::control::state::{Outcome, State};
use tandem_proto::raft::v1::entry::Payload;
use tandem_proto::raft::v1::{Entry, LogId};

use crate::world::Look;

#[derive(Default)]
pub(super) struct Committed {
    ids: BTreeMap<u64, LogId>,
    /// The state that follows, by the product's own pure `apply`.
    state: State,
    /// The revisions each request made: one, or it was applied twice.
    pub(super) made: BTreeMap<String, Vec<u64>>,
}

impl Committed {
    pub(super) fn learn(&mut self, looks: &[Look]) -> Result<(), String> {
        for look in looks {
            let Some(upto) = look.store.committed() else { continue };
            if let Some(id) = self.ids.get(&upto.index)
                && *id != upto
            {
                return Err(format!("committed once: n{} has {upto:?}, others {id:?}", look.host));
            }
            let next = self.ids.last_key_value().map_or(0, |(index, _)| index + 1);
            if upto.index < next {
                continue;
            }
            let entries = look.store.entries(next);
            for entry in entries.iter().filter(|e| e.log_id.is_some_and(|id| id.index <= upto.index)) {
                self.append(entry);
            }
        }
        Ok(())
    }

    fn append(&mut self, entry: &Entry) {
        let Some(id) = entry.log_id else { return };
        self.ids.insert(id.index, id);
        let Some(Payload::Command(command)) = &entry.payload else { return };
        let before = self.state.revision;
        if let Outcome::Done { revision } = self.state.apply(command)
            && revision > before
        {
            self.made.entry(command.request_id.clone()).or_default().push(revision);
        }
    }

    /// All ids, oldest first.
    pub(super) fn ids(&self) -> impl DoubleEndedIterator<Item = &LogId> {
        self.ids.values()
    }
}
