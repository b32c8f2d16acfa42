//! No acknowledged change is lost: the log has it at the revision that was told, in the end every node has what was added
//! and has not what was removed, and what was asked after another change was done has a later revision.

use std::collections::BTreeMap;

use super::committed::Committed;
use crate::client::{Kept, Memories, Wish};
use crate::world::Look;

pub(super) fn check(looks: &[Look], committed: &Committed, memories: &Memories) -> Result<(), String> {
    let kept = memories.kept();
    in_log(&kept, committed)?;
    in_order(&kept)?;
    let there = there(&kept);
    for look in looks {
        let Some(part) = &look.part else { return Err(format!("acknowledged: n{} does not take part", look.host)) };
        for (name, must) in &there {
            let is = part.state.config.upstreams.contains_key(*name);
            if must.is_some_and(|must| must != is) {
                let word = if is { "still there" } else { "lost" };
                return Err(format!("acknowledged: {name} is {word} on n{}", look.host));
            }
        }
    }
    Ok(())
}

fn in_log(kept: &Kept, committed: &Committed) -> Result<(), String> {
    for (id, memory) in &kept.all {
        let Some((at, told)) = memory.done else { continue };
        let made = committed.made.get(id);
        if made.and_then(|made| made.first()) != Some(&told) {
            return Err(format!("acknowledged: {id} was told revision {told} at {at} ms; the log says {made:?}"));
        }
    }
    Ok(())
}

/// Whether each name must be there; nobody knows while a removal's fate is unknown.
fn there(kept: &Kept) -> BTreeMap<&str, Option<bool>> {
    let mut there: BTreeMap<&str, Option<bool>> = BTreeMap::new();
    for memory in kept.all.values() {
        match (&memory.wish, memory.done.is_some()) {
            (Wish::Add(name), true) => drop(there.entry(name).or_insert(Some(true))),
            (Wish::Remove(name), done) => drop(there.insert(name, done.then_some(false))),
            (Wish::Add(_), false) | (Wish::Vip, _) => {}
        }
    }
    there
}

fn in_order(kept: &Kept) -> Result<(), String> {
    let mut done: Vec<(u64, u64, &String)> =
        kept.all.iter().filter_map(|(id, memory)| memory.done.map(|(at, revision)| (at, revision, id))).collect();
    done.sort();
    for (id, memory) in &kept.all {
        let Some((_, revision)) = memory.done else { continue };
        let earlier = done.iter().take_while(|(at, ..)| *at < memory.sent_at).max_by_key(|(_, revision, _)| *revision);
        if let Some((_, before, other)) = earlier.filter(|(_, before, _)| *before >= revision) {
            return Err(format!("in order: {other} was done at revision {before} before {id}, which got {revision}"));
        }
    }
    Ok(())
}
