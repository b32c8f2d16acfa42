//! Everything consensus must not forget: vote and log in one redb file behind one writer, snapshots beside it.
//!
//! Vote and log are written in the order they were given and acknowledged after the fsync, never before. The first write
//! that fails is the last: everything after it is refused, and consensus stops on this node. A store that does not check
//! opens all the same, with what its newest whole snapshot says: enough to serve traffic, and [`Store::unfit`] to vote.

mod album;
mod boot;
mod mark;
mod records;
mod snapshots;
mod writer;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::storage::IOFlushed;
use prost::Message;
use tandem_proto::raft::v1 as pb;
use tokio::sync::{mpsc, oneshot};

use super::disk::{Directory, Disk};
use super::raft::{Entry, LogId, Types, Vote};
use super::timings::Timings;
use super::wire;

use album::{Album, Shot};
use boot::Unfit;
use writer::Pen;

pub use writer::Writer;

/// The file of vote and log.
const FILE: &str = "tandem.redb";
const IDENTITY: &str = "identity";
const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const PURGED: &str = "purged";

/// Version of the layout of everything here; a newer one is refused. 1 had no mark, and its snapshot in two records.
const FORMAT: u32 = 2;

/// Why the store cannot be used. Each names the mend.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory cannot be made or a file not opened.
    #[error(
        "cannot open {path}: {why}; see that the directory exists, belongs to tandemd, and no other tandemd uses it"
    )]
    Open {
        /// It.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// Written by a newer tandemd.
    #[error("{path} has format {found}, this tandemd knows {FORMAT}; start the newer tandemd again")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
}

/// What was read at boot and is kept in step with the disk.
#[derive(Default)]
pub(super) struct Kept {
    pub(super) identity: Option<pb::Identity>,
    pub(super) vote: Option<Vote>,
    pub(super) committed: Option<LogId>,
    pub(super) purged: Option<LogId>,
    pub(super) log: BTreeMap<u64, Entry>,
    pub(super) snapshot: Option<(pb::SnapshotMeta, Arc<Vec<u8>>)>,
    /// Why this node must not vote; then only identity and snapshot are known, and nothing can be written.
    unfit: Option<String>,
}

/// A change of the file.
pub(super) enum Op {
    Meta(&'static str, Vec<u8>),
    Forget(&'static str),
    Append(u64, Vec<u8>),
    /// Removes the log from this index on.
    Truncate(u64),
    /// Removes the log up to and with this index.
    Purge(u64),
}

/// Who waits for the fsync.
pub(super) enum Waiter {
    Raft(IOFlushed<Types>),
    Caller(oneshot::Sender<io::Result<()>>),
    /// Nobody waits: it is written with what comes next.
    Nobody,
}

struct Job {
    ops: Vec<Op>,
    waiter: Waiter,
}

/// The store; clones share it. The file closes when the last one is dropped.
#[derive(Clone)]
pub struct Store {
    kept: Arc<Mutex<Kept>>,
    jobs: mpsc::UnboundedSender<Job>,
    shots: mpsc::UnboundedSender<Shot>,
    timings: Arc<Timings>,
}

impl Store {
    /// Opens or makes the store in `dir`, checks every page and record, and starts its threads.
    ///
    /// # Errors
    /// If it cannot be opened, or was written by a newer version.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let cannot = |e: io::Error| Error::Open { path: dir.to_owned(), why: e.to_string() };
        let (store, writer) = Self::on(Directory::new(dir).map_err(cannot)?, dir)?;
        writer.start().map_err(cannot)?;
        Ok(store)
    }

    /// The same on any disk, which errors call `dir`, with the writer still to be run.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn on<D: Disk>(disk: D, dir: &Path) -> Result<(Self, Writer<D>), Error> {
        let (books, kept) = match boot::boot(&disk, dir) {
            Ok((books, kept)) => (Some(books), kept),
            Err(Unfit::Refused(e)) => return Err(e),
            Err(Unfit::MustNotVote(why)) => (None, boot::salvaged(&disk, why)),
        };
        let (jobs, inbox) = mpsc::unbounded_channel();
        let (shots, shot) = mpsc::unbounded_channel();
        let store = Self { kept: Arc::new(Mutex::new(kept)), jobs, shots, timings: Arc::default() };
        let (dir, kept) = (dir.to_owned(), || Arc::clone(&store.kept));
        let jobs = store.jobs.downgrade();
        let album = Album { disk: Arc::new(disk), dir: dir.clone(), inbox: shot, jobs, kept: kept() };
        let pen = Pen { dir, books, inbox, later: Vec::new(), kept: kept(), timings: store.timings() };
        Ok((store, Writer { pen, album }))
    }

    /// Why this node must not vote, if it must not: it may have forgotten what it promised, or cannot write down what it would.
    pub fn unfit(&self) -> Option<String> {
        self.kept().unfit.clone()
    }

    pub(super) fn timings(&self) -> Arc<Timings> {
        Arc::clone(&self.timings)
    }

    pub(super) fn kept(&self) -> MutexGuard<'_, Kept> {
        locked(&self.kept)
    }

    pub(super) fn submit(&self, ops: Vec<Op>, waiter: Waiter) {
        if let Err(mpsc::error::SendError(job)) = self.jobs.send(Job { ops, waiter }) {
            writer::finish(job.waiter, Some("the store's writer has ended"));
        }
    }

    pub(super) async fn write(&self, ops: Vec<Op>) -> io::Result<()> {
        let (done, safe) = oneshot::channel();
        self.submit(ops, Waiter::Caller(done));
        safe.await.map_err(|_| io::Error::other("the store's writer has ended"))?
    }

    /// Who this node is, once it has been told.
    pub fn identity(&self) -> Option<pb::Identity> {
        self.kept().identity.clone()
    }

    /// True once there is a vote or a log: this node has taken part.
    pub fn formed(&self) -> bool {
        let kept = self.kept();
        kept.unfit.is_some() || kept.vote.is_some() || !kept.log.is_empty() || kept.snapshot.is_some()
    }

    /// The newest entry it has or had.
    pub(super) fn last(&self) -> Option<LogId> {
        let kept = self.kept();
        kept.log.last_key_value().map(|(_, entry)| entry.log_id).or(kept.purged)
    }

    /// Writes down who this node is.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub async fn adopt(&self, identity: pb::Identity) -> io::Result<()> {
        self.write(vec![Op::Meta(IDENTITY, identity.encode_to_vec())]).await?;
        self.kept().identity = Some(identity);
        Ok(())
    }

    pub(super) async fn save_vote(&self, vote: &Vote) -> io::Result<()> {
        self.write(vec![Op::Meta(VOTE, wire::vote_out(vote).encode_to_vec())]).await?;
        self.kept().vote = Some(*vote);
        Ok(())
    }

    /// What is known to be committed: a node that restarts and finds no leader serves its config up to here. It goes to disk
    /// with what comes next, or a moment later.
    pub(super) fn save_committed(&self, committed: LogId) {
        self.kept().committed = Some(committed);
        self.submit(vec![Op::Meta(COMMITTED, wire::log_id_out(&committed).encode_to_vec())], Waiter::Nobody);
    }

    pub(super) async fn purge(&self, upto: LogId) -> io::Result<()> {
        {
            let mut kept = self.kept();
            kept.log = kept.log.split_off(&(upto.index + 1));
            kept.purged = Some(upto);
        }
        let purged = Op::Meta(PURGED, wire::log_id_out(&upto).encode_to_vec());
        self.write(vec![purged, Op::Purge(upto.index)]).await
    }

    pub(super) async fn save_snapshot(&self, meta: pb::SnapshotMeta, data: Vec<u8>) -> io::Result<()> {
        let (done, safe) = oneshot::channel();
        let ended = || io::Error::other("the store's album has ended");
        self.shots.send(Shot { meta, state: Arc::new(data), done }).map_err(|_| ended())?;
        safe.await.map_err(|_| ended())?
    }
}

/// Nothing is written any more: the first write that fails is the last. Says so to whoever asks, and once in the log.
fn give_up(kept: &Mutex<Kept>, dir: &Path, e: &dyn std::error::Error) -> io::Error {
    let why = boot::no_writes(dir, e);
    let mut kept = locked(kept);
    if kept.unfit.is_none() {
        tracing::error!("consensus stops on this node, traffic goes on: {why}");
        kept.unfit = Some(why.clone());
    }
    io::Error::other(why)
}

fn locked(kept: &Mutex<Kept>) -> MutexGuard<'_, Kept> {
    // The values are replaced whole: a panic elsewhere leaves none half-written.
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
