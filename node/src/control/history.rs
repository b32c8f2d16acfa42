//! Who changed what, when, from where and why; and what takes it back. Pure, and bounded in number and size.

use std::collections::VecDeque;
use std::sync::Arc;

use prost::Message;
use tandem_proto::Problems;
use tandem_proto::config::v1 as pb;

use crate::config::model::{Config, Touch, Undo};

/// How many revisions are told of.
pub const RECORDS: usize = 1000;
/// How many of the newest can be taken back.
pub const UNDOS: usize = 100;
/// What these may take in a snapshot, in bytes: whole documents applied again and again would fill it.
pub const UNDO_BYTES: usize = 4 << 20;
/// A record names so many of the things it touched.
const NAMED: usize = 8;

/// One revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record {
    /// Its number.
    pub revision: u64,
    /// When the leader took the change, ms since 1970 by its clock.
    pub at_unix_ms: u64,
    /// Who asked for it.
    pub actor: String,
    /// A certificate says that it was `actor`; false: whoever asked said so.
    pub actor_proven: bool,
    /// The address it came from; empty: unknown.
    pub source: String,
    /// Why, in the words of who asked.
    pub reason: String,
    /// Its request id.
    pub request_id: String,
    /// It went back to this revision, before its edits.
    pub rollback_to: Option<u64>,
    /// It restored a backup of this cluster; empty: it did not.
    pub restored_from: String,
    /// The first few things it touched.
    pub touched: Vec<Touch>,
    /// How many more.
    pub touched_more: u32,
}

impl Record {
    /// What is to be told of the revision that `command` made, which `undo` takes back from `after`.
    pub(super) fn of(command: &pb::Command, revision: u64, undo: &Undo, after: &Config) -> Self {
        let mut touched = undo.touched(after);
        let more = touched.len().saturating_sub(NAMED);
        touched.truncate(NAMED);
        Self {
            revision,
            at_unix_ms: command.at_unix_ms,
            actor: command.actor.clone(),
            actor_proven: command.actor_proven,
            source: command.source.clone(),
            reason: command.reason.clone(),
            request_id: command.request_id.clone(),
            rollback_to: command.rollback_to,
            restored_from: command.restore.as_ref().map(|backup| backup.cluster.clone()).unwrap_or_default(),
            touched,
            touched_more: u32::try_from(more).unwrap_or(u32::MAX),
        }
    }

    /// As a message, without what takes it back.
    pub fn message(&self) -> pb::Record {
        pb::Record {
            revision: self.revision,
            at_unix_ms: self.at_unix_ms,
            actor: self.actor.clone(),
            actor_proven: self.actor_proven,
            source: self.source.clone(),
            reason: self.reason.clone(),
            request_id: self.request_id.clone(),
            touched: self.touched.iter().map(Into::into).collect(),
            touched_more: self.touched_more,
            rollback_to: self.rollback_to,
            restored_from: self.restored_from.clone(),
            undo: None,
        }
    }

    fn read(r: &pb::Record) -> Self {
        Self {
            revision: r.revision,
            at_unix_ms: r.at_unix_ms,
            actor: r.actor.clone(),
            actor_proven: r.actor_proven,
            source: r.source.clone(),
            reason: r.reason.clone(),
            request_id: r.request_id.clone(),
            rollback_to: r.rollback_to,
            restored_from: r.restored_from.clone(),
            touched: r.touched.iter().cloned().map(Into::into).collect(),
            touched_more: r.touched_more,
        }
    }
}

/// The newest revisions, oldest first. Cheap to clone: the records are shared.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    records: VecDeque<Arc<Record>>,
    /// Those of the last records, with their size as messages.
    undos: VecDeque<(Arc<Undo>, usize)>,
    undo_bytes: usize,
}

impl History {
    /// Adds the newest revision, and what takes it back; forgets the oldest.
    pub(super) fn push(&mut self, record: Record, undo: Undo) {
        let size = undo.message().encoded_len();
        self.add(record, undo, size);
    }

    fn add(&mut self, record: Record, undo: Undo, size: usize) {
        self.records.push_back(Arc::new(record));
        self.undos.push_back((Arc::new(undo), size));
        self.undo_bytes += size;
        while self.undos.len() > UNDOS || self.undo_bytes > UNDO_BYTES {
            let Some((_, size)) = self.undos.pop_front() else { break };
            self.undo_bytes -= size;
        }
        if self.records.len() > RECORDS {
            self.records.pop_front();
        }
    }

    /// Forgets what came before `revision`.
    pub(super) fn begin_with(&mut self, revision: u64) {
        while self.records.front().is_some_and(|r| r.revision < revision) {
            self.records.pop_front();
        }
        while self.undos.len() > self.records.len() {
            self.undo_bytes -= self.undos.pop_front().map_or(0, |(_, size)| size);
        }
    }

    /// The first revision it tells of, or the next one if it tells of none. `now`: the newest revision.
    pub(super) fn begins_with(&self, now: u64) -> u64 {
        self.records.front().map_or(now + 1, |first| first.revision)
    }

    /// What is told, oldest first.
    pub fn records(&self) -> impl DoubleEndedIterator<Item = &Arc<Record>> + ExactSizeIterator {
        self.records.iter()
    }

    /// Those after `revision`, oldest first; `None` if some of them are forgotten. `now`: the newest revision.
    pub fn after(&self, revision: u64, now: u64) -> Option<Vec<Arc<Record>>> {
        let first = self.records.partition_point(|r| r.revision <= revision);
        let known = first > 0 || revision >= now || self.reaches_back_to() == Some(revision);
        known.then(|| self.records.range(first..).cloned().collect())
    }

    /// The revision before the oldest record, if it is known: a restored one may have any.
    fn reaches_back_to(&self) -> Option<u64> {
        let first = self.records.front().filter(|first| first.restored_from.is_empty())?;
        first.revision.checked_sub(1)
    }

    /// What is told of a revision.
    pub fn record(&self, revision: u64) -> Option<&Arc<Record>> {
        let at = self.records.binary_search_by_key(&revision, |r| r.revision).ok()?;
        self.records.get(at)
    }

    /// The config of `revision`, taken back from `config`, that of `now`; `None` if that is forgotten or never was.
    pub fn config(&self, revision: u64, config: &Config, now: u64) -> Option<Config> {
        let mut config = config.clone();
        if revision == now {
            return Some(config);
        }
        for (record, before, undo) in self.backwards() {
            if record.revision <= revision {
                return None;
            }
            undo.apply(&mut config);
            if before == Some(revision) {
                return Some(config);
            }
        }
        None
    }

    /// From which revision on configs can be had. `now`: the newest revision.
    pub fn oldest_config(&self, now: u64) -> u64 {
        self.backwards().filter_map(|(_, before, _)| before).last().unwrap_or(now)
    }

    /// Each record that can be taken back, newest first, with the revision that this leads to.
    fn backwards(&self) -> impl Iterator<Item = (&Arc<Record>, Option<u64>, &Arc<Undo>)> {
        let before = self.records.iter().rev().skip(1).map(|r| Some(r.revision)).chain([self.reaches_back_to()]);
        self.records.iter().rev().zip(before).zip(self.undos.iter().rev()).map(|((r, before), (u, _))| (r, before, u))
    }

    /// As messages, with what takes each back.
    pub fn messages(&self) -> Vec<pb::Record> {
        let forgotten = self.records.len() - self.undos.len();
        let undos = std::iter::repeat_n(None, forgotten).chain(self.undos.iter().map(|(undo, _)| Some(undo.message())));
        self.records.iter().zip(undos).map(|(r, undo)| pb::Record { undo, ..r.message() }).collect()
    }
}

impl TryFrom<&[pb::Record]> for History {
    type Error = Problems;

    fn try_from(all: &[pb::Record]) -> Result<Self, Problems> {
        let mut history = Self::default();
        for r in all {
            let record = Record::read(r);
            let order = history.records.back().is_none_or(|last| last.revision < record.revision);
            // Undos belong to the newest: after the first there is none missing.
            let whole = r.undo.is_some() || history.undos.is_empty();
            if !(order && whole) {
                return Err(Problems::one("history", record.revision, "is out of order", "take another backup"));
            }
            match &r.undo {
                Some(undo) => history.add(record, Undo::try_from(undo)?, undo.encoded_len()),
                None => history.records.push_back(Arc::new(record)),
            }
        }
        Ok(history)
    }
}

#[cfg(test)]
mod tests;
