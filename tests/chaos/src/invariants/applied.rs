//! The config is the same on all nodes at the same revision, and never goes back while a node runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use tandem_node::control::state::State;

use crate::world::Look;

#[derive(Default)]
pub(super) struct Applied {
    states: BTreeMap<u64, Arc<State>>,
    last: BTreeMap<(usize, u64), u64>,
}

impl Applied {
    pub(super) fn check(&mut self, looks: &[Look]) -> Result<(), String> {
        for look in looks {
            let Some(state) = look.part.as_ref().map(|part| &part.state) else { continue };
            let last = self.last.insert((look.host, look.life), state.revision);
            if last == Some(state.revision) {
                continue;
            }
            if let Some(last) = last.filter(|last| *last > state.revision) {
                return Err(format!("applied: n{} went from revision {last} back to {}", look.host, state.revision));
            }
            let known = self.states.entry(state.revision).or_insert_with(|| Arc::clone(state));
            let said = |state: &State| (state.changed_at_unix_ms, state.changed_by.clone());
            // Who is a member changes without a revision of the config.
            if known.config != state.config || said(known) != said(state) {
                return Err(format!("applied: revision {} is another one on n{}", state.revision, look.host));
            }
        }
        Ok(())
    }
}
