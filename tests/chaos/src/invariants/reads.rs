//! Linearizable where it is promised: who holds the address knows every change that anybody was told is done, so it never
//! serves an older config than its predecessor.

use crate::client::Memories;
use crate::lan::Lan;
use crate::world::Look;

#[derive(Default)]
pub(super) struct Reads {
    /// The newest revision anybody had been told a ms ago.
    told: u64,
}

impl Reads {
    pub(super) fn check(&mut self, looks: &[Look], lan: &Lan, memories: &Memories) -> Result<(), String> {
        let holders: Vec<usize> = lan.holders().into_values().flatten().collect();
        for look in looks.iter().filter(|look| holders.contains(&look.host)) {
            let Some(part) = &look.part else { continue };
            if part.state.revision < self.told {
                return Err(format!(
                    "reads: n{} holds the address and has revision {}, while revision {} was acknowledged",
                    look.host, part.state.revision, self.told
                ));
            }
        }
        self.told = memories.kept().newest;
        Ok(())
    }
}
