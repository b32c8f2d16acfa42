//! A request is applied at most once, however often it was sent, and each answer to it tells the same revision.

use super::committed::Committed;
use crate::client::Memories;

pub(super) fn check(committed: &Committed, memories: &Memories) -> Result<(), String> {
    if let Some((id, made)) = committed.made.iter().find(|(_, made)| made.len() > 1) {
        return Err(format!("once: request {id} made the revisions {made:?}"));
    }
    let kept = memories.kept();
    if let Some(wrong) = &kept.wrong {
        return Err(format!("once: {wrong}"));
    }
    match kept.all.iter().find(|(_, memory)| memory.refused) {
        Some((id, memory)) => Err(format!("once: {id} ({:?}) can be refused only if it is applied again", memory.wish)),
        None => Ok(()),
    }
}
