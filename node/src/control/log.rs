//! The store as openraft wants to see it: vote and log, safe on disk when it says so.

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;

use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{OptionalSend, RaftLogReader};
use prost::Message;

use super::raft::{Entry, LogId, Types, Vote};
use super::store::{Op, Store, Waiter};
use super::wire;

impl RaftLogReader<Types> for Store {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> io::Result<Vec<Entry>> {
        Ok(self.kept().log.range(range).map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.kept().vote)
    }
}

impl RaftLogStorage<Types> for Store {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<Types>> {
        let last_log_id = self.last();
        Ok(LogState { last_purged_log_id: self.kept().purged, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        Self::save_vote(self, vote).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        if let Some(committed) = committed {
            Self::save_committed(self, committed);
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.kept().committed)
    }

    async fn append<I>(&mut self, entries: I, flushed: IOFlushed<Types>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut ops = Vec::new();
        {
            let mut kept = self.kept();
            for entry in entries {
                ops.push(Op::Append(entry.log_id.index, wire::entry_out(entry.clone()).encode_to_vec()));
                kept.log.insert(entry.log_id.index, entry);
            }
        }
        // Readable at once, acknowledged by the writer thread after the fsync.
        self.submit(ops, Waiter::Raft(flushed));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |id| id.index + 1);
        self.kept().log.split_off(&from);
        self.write(vec![Op::Truncate(from)]).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        Self::purge(self, upto).await
    }
}
