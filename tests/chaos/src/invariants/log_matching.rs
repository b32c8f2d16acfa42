//! Log matching: two logs that have the same entry at an index are the same up to there; an id has one content.

use std::collections::BTreeMap;

use prost::Message as _;
use tandem_proto::raft::v1::LogId;

use crate::world::Look;

#[derive(Default)]
pub(super) struct LogMatching {
    /// Index, term, node → content.
    contents: BTreeMap<(u64, u64, u64), Vec<u8>>,
    /// What each node's log was when last looked at.
    seen: BTreeMap<usize, (u64, Vec<LogId>)>,
}

impl LogMatching {
    pub(super) fn check(&mut self, looks: &[Look]) -> Result<(), String> {
        for look in looks {
            let ids = look.store.ids(0);
            let before = self.seen.get(&look.host).filter(|(life, _)| *life == look.life);
            let same = before.map_or(0, |(_, before)| ids.iter().zip(before).take_while(|(a, b)| a == b).count());
            if let Some(first) = ids.get(same) {
                self.look_into(look, first.index)?;
            }
            self.seen.insert(look.host, (look.life, ids));
        }
        let logs: Vec<(usize, &Vec<LogId>)> =
            looks.iter().filter_map(|look| Some((look.host, &self.seen.get(&look.host)?.1))).collect();
        for (at, (one, ids)) in logs.iter().enumerate() {
            for (other, others) in &logs[at + 1..] {
                matching(ids, others)
                    .map_err(|at| format!("log matching: n{one} and n{other} differ before {at:?}"))?;
            }
        }
        Ok(())
    }

    fn look_into(&mut self, look: &Look, from: u64) -> Result<(), String> {
        for entry in look.store.entries(from) {
            let Some(id) = entry.log_id else { continue };
            let content = entry.encode_to_vec();
            let known = self.contents.entry((id.index, id.term, id.node)).or_insert_with(|| content.clone());
            if *known != content {
                return Err(format!("log matching: {id:?} on n{} is not what it was elsewhere", look.host));
            }
        }
        Ok(())
    }
}

/// Equal at an index, so equal below; the index where they are not, otherwise.
fn matching(one: &[LogId], other: &[LogId]) -> Result<(), LogId> {
    let (Some(first), Some(second)) = (one.first(), other.first()) else { return Ok(()) };
    let from = first.index.max(second.index);
    let skip = |log: &[LogId]| log.iter().position(|id| id.index == from).unwrap_or(log.len());
    let pairs: Vec<(&LogId, &LogId)> = one[skip(one)..].iter().zip(&other[skip(other)..]).collect();
    let Some(last) = pairs.iter().rposition(|(a, b)| a == b) else { return Ok(()) };
    match pairs[..last].iter().find(|(a, b)| a != b) {
        Some(_) => Err(*pairs[last].0),
        None => Ok(()),
    }
}
