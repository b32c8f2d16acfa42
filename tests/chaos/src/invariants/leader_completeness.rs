//! Leader completeness: who leads a term has everything that was committed in it or before.

use super::committed::Committed;
use crate::world::Look;

pub(super) fn check(looks: &[Look], committed: &Committed) -> Result<(), String> {
    for look in looks {
        let Some(part) = look.part.as_ref().filter(|part| part.leads()) else { continue };
        let (term, log) = (part.standing.term, look.store.ids(0));
        let Some(first) = log.first() else { continue };
        for id in committed.ids().rev().take_while(|id| id.index >= first.index).filter(|id| id.term <= term) {
            let at = usize::try_from(id.index - first.index).unwrap_or(usize::MAX);
            if log.get(at) != Some(id) {
                return Err(format!("leader completeness: n{} leads term {term} without {id:?}", look.host));
            }
        }
    }
    Ok(())
}
