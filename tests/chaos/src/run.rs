//! One seed: a calm start or none, a storm, the mending, and then everything must come back, soon.

use tandem_proto::millis;

use crate::chance::Chance;
use crate::faults::Faults;
use crate::invariants::Invariants;
use crate::mutants::Mutant;
use crate::trace::Trace;
use crate::world::{Look, World};

/// A storm's length in ms.
const STORM: u64 = 5000;
/// After the mending, all works again within so many of the longest election timeouts.
const ELECTIONS: u32 = 10;

/// What one seed came to.
pub(crate) struct Story {
    /// What is broken, and when.
    pub(crate) broken: Option<String>,
    /// Packets, syncs and what else was traced.
    pub(crate) events: u64,
    pub(crate) digest: u64,
    /// Changes that were acknowledged.
    pub(crate) acknowledged: usize,
    pub(crate) syncs: u64,
    /// From the mending until all worked again, in ms.
    pub(crate) recovered: u64,
}

/// Runs it.
///
/// # Errors
/// This machine does not let it.
pub(crate) fn run(seed: u64, mutant: Option<Mutant>, aloud: bool) -> anyhow::Result<Story> {
    let mut chance = Chance::new(seed, 0);
    let trace = Trace::new(aloud);
    let mut world = World::new(&mut chance, mutant, trace.clone())?;
    let mut invariants = Invariants::default();
    let end = play(&mut world, &mut invariants, &mut chance)?;
    let (events, digest) = trace.sum();
    let acknowledged = world.memories.kept().all.values().filter(|memory| memory.done.is_some()).count();
    let syncs = world.machines.iter().map(|machine| machine.disk.syncs()).sum();
    let (broken, recovered) = match end {
        Ok(recovered) => (None, recovered),
        Err(why) => (Some(format!("at {} ms: {why}", world.now)), 0),
    };
    Ok(Story { broken, events, digest, acknowledged, syncs, recovered })
}

/// The inner result: how long it took to recover, or what is broken.
fn play(world: &mut World, invariants: &mut Invariants, chance: &mut Chance) -> anyhow::Result<Result<u64, String>> {
    let start = if chance.percent(30) { 0 } else { 1500 };
    let mut faults = Faults::from(start, Chance::new(chance.number(), 6));
    while world.now < start + STORM {
        if world.now >= start {
            faults.tick(world)?;
        }
        if let Err(why) = step(world, invariants, true) {
            return Ok(Err(why));
        }
    }
    world.trace.say(|| "all is mended".to_owned());
    faults.heal(world)?;
    Ok(recover(world, invariants))
}

fn recover(world: &mut World, invariants: &mut Invariants) -> Result<u64, String> {
    let (mended, patience) = (world.now, millis(world.timers.lease * ELECTIONS));
    while !works(world, mended) {
        if world.now - mended >= patience {
            return Err(format!("recovery: not within {ELECTIONS} election timeouts ({patience} ms): {}", why(world)));
        }
        step(world, invariants, true)?;
    }
    let recovered = world.now - mended;
    world.trace.say(|| format!("all works again, {recovered} ms after"));
    // A peer that was away is tried again at growing intervals: it may be the last to hear.
    let quiet = world.now;
    while !agrees(world) && world.now - quiet < patience {
        step(world, invariants, false)?;
    }
    world.trace.say(|| format!("all agree, {} ms after the last change", world.now - quiet));
    invariants.check_end(world)?;
    Ok(recovered)
}

fn step(world: &mut World, invariants: &mut Invariants, clients: bool) -> Result<(), String> {
    world.tick();
    if clients {
        world.clients.tick();
    }
    invariants.check(world)
}

/// Somebody leads by a good lease, one machine holds the address, all nodes follow, and a change goes through.
fn works(world: &World, mended: u64) -> bool {
    let looks = world.look();
    let parts: Vec<_> = looks.iter().filter_map(|look| look.part.as_ref()).collect();
    let leader = parts.iter().find(|part| part.leased && part.standing.caught_up).map(|part| part.standing.me);
    let held = world.lan.holders().values().any(|machines| machines.len() == 1);
    let written = world.memories.kept().all.values().any(|memory| memory.done.is_some_and(|(at, _)| at > mended));
    let follow = parts.iter().all(|part| part.standing.leader == leader);
    leader.is_some() && held && written && follow && parts.len() == world.machines.len()
}

/// Every node has all that anybody was told is done.
fn agrees(world: &World) -> bool {
    let newest = world.memories.kept().newest;
    world.look().iter().all(|look| look.part.as_ref().is_some_and(|part| part.state.revision >= newest))
}

fn why(world: &World) -> String {
    let word = |look: &Look| match &look.part {
        None => format!("n{} takes no part", look.host),
        Some(part) => {
            let s = &part.standing;
            format!("n{} term {} leader {:?} leased {} fatal {:?}", look.host, s.term, s.leader, part.leased, s.fatal)
        }
    };
    let nodes: Vec<String> = world.look().iter().map(word).collect();
    format!("{}; held by {:?}", nodes.join("; "), world.lan.holders())
}
