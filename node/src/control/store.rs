//! Everything consensus must not forget, in one redb file behind one writer thread.
//!
//! Vote and log are written in the order they were given and acknowledged after the fsync, never before. Each record
//! carries a CRC32C of its key and value: a trial flipped bytes in a closed file and redb read them back silently.
//! The first write that fails is the last: the thread refuses everything after it, and consensus stops on this node.

mod records;
mod writer;

use std::collections::BTreeMap;
use std::io;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::storage::IOFlushed;
use prost::Message;
use tandem_proto::raft::v1 as pb;
use tokio::sync::{mpsc, oneshot};

use super::disk::{Directory, Disk};
use super::raft::{Entry, LogId, Types, Vote};
use super::wire;

pub use writer::Writer;

/// The file of vote and log.
const FILE: &str = "tandem.redb";
const IDENTITY: &str = "identity";
const VOTE: &str = "vote";
const COMMITTED: &str = "committed";
const PURGED: &str = "purged";
const SNAPSHOT_HEAD: &str = "snapshot_head";
const SNAPSHOT_DATA: &str = "snapshot_data";

/// Version of this file's layout; a newer one is refused.
const FORMAT: u32 = 1;

/// Why the store cannot be used. Each names the mend.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The directory cannot be made or the file not opened.
    #[error(
        "cannot open {path}: {why}; see that the directory exists, belongs to tandemd, and no other tandemd uses it"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// A checksum does not hold.
    #[error(
        "{path} is damaged ({why}): this node must not vote any more. Move the data directory away, then replace the node: \
         the other nodes have the config"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Which record, or what redb found.
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
}

/// A change of the file.
pub(super) enum Op {
    Meta(&'static str, Vec<u8>),
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
    /// Nobody waits, but it is written like everything else.
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
}

impl Store {
    /// Opens or makes `tandem.redb` in `dir`, checks every page and record, and starts the writer thread.
    ///
    /// # Errors
    /// If it cannot be opened, is damaged, or was written by a newer version.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let cannot = |e: io::Error| Error::Open { path: dir.join(FILE), why: e.to_string() };
        let disk = Directory::new(dir).map_err(cannot)?;
        let (store, writer) = Self::on(&disk, dir)?;
        std::thread::Builder::new().name("store".into()).spawn(move || writer.run()).map_err(cannot)?;
        Ok(store)
    }

    /// The same on any disk, which errors call `dir`, with the writer still to be run.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn on(disk: &impl Disk, dir: &Path) -> Result<(Self, Writer), Error> {
        let path = dir.join(FILE);
        let cannot = |e: io::Error| Error::Open { path: path.clone(), why: e.to_string() };
        let file = disk.open(FILE).map_err(cannot)?;
        // A file whose name is lost with the power is an empty disk, which forgot its vote.
        disk.sync_names().map_err(cannot)?;
        // redb asserts on some kinds of damage: that, too, is a damaged file and no bug of ours.
        let checked = std::panic::catch_unwind(AssertUnwindSafe(|| records::open(file, &path)));
        let garbled = |_| Err(records::damaged(&path, "redb could not make sense of it"));
        let (db, kept) = checked.unwrap_or_else(garbled)?;
        let (jobs, inbox) = mpsc::unbounded_channel();
        let store = Self { kept: Arc::new(Mutex::new(kept)), jobs };
        Ok((store, Writer { db, inbox, failed: None }))
    }

    pub(super) fn kept(&self) -> MutexGuard<'_, Kept> {
        // The values are replaced whole: a panic elsewhere leaves none half-written.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
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
        kept.vote.is_some() || !kept.log.is_empty() || kept.snapshot.is_some()
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

    /// What is known to be committed: a node that restarts and finds no leader serves its config up to here.
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
        let head = Op::Meta(SNAPSHOT_HEAD, meta.encode_to_vec());
        self.write(vec![head, Op::Meta(SNAPSHOT_DATA, data.clone())]).await?;
        self.kept().snapshot = Some((meta, Arc::new(data)));
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::control::raft::LeaderId;

    fn vote(term: u64) -> Vote {
        Vote { leader_id: LeaderId { term, node_id: 1 }, committed: true }
    }

    #[tokio::test]
    async fn what_was_acknowledged_is_there_after_reopening() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        assert!(!store.formed());
        store.save_vote(&vote(7)).await.unwrap();
        store.adopt(pb::Identity { node: 3, name: "c".into(), ..Default::default() }).await.unwrap();
        drop(store);
        let store = reopen(dir.path());
        assert_eq!(store.kept().vote, Some(vote(7)));
        assert_eq!(store.identity().unwrap().name, "c");
        assert!(store.formed());
    }

    /// The writer thread closes the file a moment after the last handle is gone.
    fn reopen(dir: &Path) -> Store {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
        loop {
            match Store::open(dir) {
                Ok(store) => return store,
                Err(e) => assert!(std::time::Instant::now() < deadline, "{e}"),
            }
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_second_daemon_on_the_same_directory_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let _first = Store::open(dir.path()).unwrap();
        let Err(e) = Store::open(dir.path()) else { unreachable!("the file is locked") };
        assert!(e.to_string().contains("no other tandemd uses it"), "{e}");
    }

    #[tokio::test]
    async fn a_flipped_byte_anywhere_in_the_records_is_never_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        for term in 1..40 {
            store.save_vote(&vote(term)).await.unwrap();
        }
        drop(store);
        drop(reopen(dir.path()));
        let path = dir.path().join("tandem.redb");
        let whole = loop {
            // Wait for the lock's owner to be gone, then take the bytes.
            if redb::Database::open(&path).is_ok() {
                break std::fs::read(&path).unwrap();
            }
        };
        for at in (0..whole.len()).step_by(997) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            let elsewhere = tempfile::tempdir().unwrap();
            std::fs::write(elsewhere.path().join("tandem.redb"), &bytes).unwrap();
            // Either refused, or the flip hit nothing that holds data.
            if let Ok(store) = Store::open(elsewhere.path()) {
                assert_eq!(store.kept().vote, Some(vote(39)), "byte {at} changed what is read");
            }
        }
    }
}
