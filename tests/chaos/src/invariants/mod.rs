//! What must hold whatever happens: one promise, one file. That all comes back in the end is in `run`.

mod acknowledged;
mod applied;
mod committed;
mod election;
mod holder;
mod leader_completeness;
mod log_matching;
mod once;
mod reads;
mod starts;

use crate::world::{Look, World};

/// How often the logs are held against each other, in ms; what costs little is looked at each ms.
const LOGS_EVERY: u64 = 20;

/// All of them.
#[derive(Default)]
pub(crate) struct Invariants {
    election: election::Election,
    matching: log_matching::LogMatching,
    committed: committed::Committed,
    applied: applied::Applied,
    reads: reads::Reads,
}

impl Invariants {
    /// Looks at the world as it is.
    ///
    /// # Errors
    /// What is broken.
    pub(crate) fn check(&mut self, world: &World) -> Result<(), String> {
        let looks = world.look();
        holder::check(&world.lan)?;
        starts::check(&world.machines)?;
        self.election.check(&looks)?;
        self.applied.check(&looks)?;
        self.reads.check(&looks, &world.lan, &world.memories)?;
        if world.now.is_multiple_of(LOGS_EVERY) { self.check_logs(&looks, world) } else { Ok(()) }
    }

    fn check_logs(&mut self, looks: &[Look], world: &World) -> Result<(), String> {
        self.matching.check(looks)?;
        self.committed.learn(looks)?;
        leader_completeness::check(looks, &self.committed)?;
        once::check(&self.committed, &world.memories)
    }

    /// When all is calm and every node had the time to catch up.
    ///
    /// # Errors
    /// What is broken.
    pub(crate) fn check_end(&mut self, world: &World) -> Result<(), String> {
        let looks = world.look();
        self.check_logs(&looks, world)?;
        acknowledged::check(&looks, &self.committed, &world.memories)
    }
}
