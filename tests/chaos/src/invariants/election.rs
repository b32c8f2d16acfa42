//! Election safety: who is elected comes after all who were elected before. In openraft the order is that of term and node:
//! a term may have two leaders, one after the other, the one with the higher number last, and never the first again.

use crate::world::Look;

#[derive(Default)]
pub(super) struct Election {
    /// In the order they were first seen to lead, by themselves.
    leaders: Vec<(u64, u64)>,
}

impl Election {
    pub(super) fn check(&mut self, looks: &[Look]) -> Result<(), String> {
        for standing in looks.iter().filter_map(|look| Some(&look.part.as_ref()?.standing)) {
            let leader = (standing.term, standing.me);
            if standing.leader != Some(standing.me) || self.leaders.contains(&leader) {
                continue;
            }
            if let Some(last) = self.leaders.last().filter(|last| **last > leader) {
                return Err(format!("election safety: {leader:?} (term, node) leads after {last:?}"));
            }
            self.leaders.push(leader);
        }
        Ok(())
    }
}
