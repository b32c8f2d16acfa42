//! Everything consensus must not forget, in one redb file behind one writer thread.
//!
//! Vote and log are written in the order they were given and acknowledged after the fsync, never before. Each record
//! carries a CRC32C of its key and value: a trial flipped bytes in a closed file and redb read them back silently.
//! The first write that fails is the last: the thread refuses everything after it, and consensus stops on this node.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};

use openraft::storage::IOFlushed;
use prost::Message;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tandem_proto::raft::v1 as pb;
use tokio::sync::oneshot;

use super::raft::{Entry, LogId, Types, Vote};
use super::wire;

const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");

const FORMAT_KEY: &str = "format";
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
    jobs: mpsc::Sender<Job>,
}

impl Store {
    /// Opens or makes `tandem.redb` in `dir`, checks every page and record, and starts the writer thread.
    ///
    /// # Errors
    /// If it cannot be opened, is damaged, or was written by a newer version.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("tandem.redb");
        let cannot = |why: String| Error::Open { path: path.clone(), why };
        std::fs::create_dir_all(dir).map_err(|e| cannot(e.to_string()))?;
        // redb asserts on some kinds of damage: that, too, is a damaged file and no bug of ours.
        let checked = std::panic::catch_unwind(|| open_checked(&path));
        let (db, kept) = checked.unwrap_or_else(|_| Err(damaged(&path, "redb could not make sense of it")))?;
        let (jobs, inbox) = mpsc::channel();
        std::thread::Builder::new()
            .name("store".into())
            .spawn(move || write_all(&db, &inbox))
            .map_err(|e| cannot(e.to_string()))?;
        Ok(Self { kept: Arc::new(Mutex::new(kept)), jobs })
    }

    pub(super) fn kept(&self) -> MutexGuard<'_, Kept> {
        // The values are replaced whole: a panic elsewhere leaves none half-written.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn submit(&self, ops: Vec<Op>, waiter: Waiter) {
        if let Err(mpsc::SendError(job)) = self.jobs.send(Job { ops, waiter }) {
            finish(job.waiter, Err(&io::Error::other("the store's writer has ended")));
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

fn damaged(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::Damaged { path: path.to_owned(), why: why.to_string() }
}

fn open_checked(path: &Path) -> Result<(Database, Kept), Error> {
    let cannot = |e: redb::DatabaseError| Error::Open { path: path.to_owned(), why: e.to_string() };
    let mut db = Database::create(path).map_err(|e| match e {
        redb::DatabaseError::Storage(redb::StorageError::Corrupted(why)) => damaged(path, why),
        other => cannot(other),
    })?;
    match db.check_integrity() {
        Ok(true) => {}
        Ok(false) => return Err(damaged(path, "pages did not match their checksums")),
        Err(e) => return Err(damaged(path, e)),
    }
    let kept = load(&db, path)?;
    Ok((db, kept))
}

fn finish(waiter: Waiter, result: Result<(), &io::Error>) {
    let result = result.map_err(|e| io::Error::new(e.kind(), e.to_string()));
    match waiter {
        Waiter::Raft(flushed) => flushed.io_completed(result),
        Waiter::Caller(done) => drop(done.send(result)),
        Waiter::Nobody => {}
    }
}

/// The writer thread: everything that waits goes into one transaction, one fsync.
fn write_all(db: &Database, inbox: &mpsc::Receiver<Job>) {
    let mut failed: Option<io::Error> = None;
    while let Ok(first) = inbox.recv() {
        let jobs: Vec<Job> = std::iter::once(first).chain(inbox.try_iter()).collect();
        if failed.is_none()
            && let Err(e) = commit(db, &jobs)
        {
            tracing::error!(error = %e, "the disk did not take a write: consensus stops on this node, traffic goes on; mend the disk and restart tandemd");
            failed = Some(io::Error::other(e.to_string()));
        }
        for job in jobs {
            finish(job.waiter, failed.as_ref().map_or(Ok(()), Err));
        }
    }
}

fn commit(db: &Database, jobs: &[Job]) -> Result<(), redb::Error> {
    let txn = db.begin_write()?;
    {
        let mut meta = txn.open_table(META)?;
        let mut log = txn.open_table(LOG)?;
        for op in jobs.iter().flat_map(|j| &j.ops) {
            match op {
                Op::Meta(key, value) => drop(meta.insert(*key, sealed(key.as_bytes(), value).as_slice())?),
                Op::Append(index, value) => drop(log.insert(index, sealed(&index.to_be_bytes(), value).as_slice())?),
                Op::Truncate(from) => log.retain_in(*from.., |_, _| false)?,
                Op::Purge(upto) => log.retain_in(..=*upto, |_, _| false)?,
            }
        }
    }
    txn.commit()?;
    Ok(())
}

/// crc32c(key ‖ value) ‖ value
fn sealed(key: &[u8], value: &[u8]) -> Vec<u8> {
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), value);
    [&crc.to_le_bytes(), value].concat()
}

fn unsealed<'a>(key: &[u8], record: &'a [u8]) -> Option<&'a [u8]> {
    let (crc, value) = record.split_first_chunk::<4>()?;
    (u32::from_le_bytes(*crc) == crc32c::crc32c_append(crc32c::crc32c(key), value)).then_some(value)
}

fn load(db: &Database, path: &Path) -> Result<Kept, Error> {
    let damaged = |why: String| damaged(path, why);
    let txn = db.begin_write().map_err(|e| damaged(e.to_string()))?;
    // Tables are made at the first open, so that reading finds them.
    drop(txn.open_table(LOG).map_err(|e| damaged(e.to_string()))?);
    {
        let mut meta = txn.open_table(META).map_err(|e| damaged(e.to_string()))?;
        let found = meta.get(FORMAT_KEY).map_err(|e| damaged(e.to_string()))?.map(|v| v.value().to_vec());
        match found {
            None => {
                let record = sealed(FORMAT_KEY.as_bytes(), &FORMAT.to_le_bytes());
                meta.insert(FORMAT_KEY, record.as_slice()).map_err(|e| damaged(e.to_string()))?;
            }
            Some(record) => {
                let value = unsealed(FORMAT_KEY.as_bytes(), &record).and_then(|v| v.try_into().ok());
                let found = u32::from_le_bytes(value.ok_or_else(|| damaged("record format".into()))?);
                if found > FORMAT {
                    return Err(Error::Newer { path: path.to_owned(), found });
                }
            }
        }
    }
    txn.commit().map_err(|e| damaged(e.to_string()))?;
    read(db).map_err(damaged)
}

fn read(db: &Database) -> Result<Kept, String> {
    let txn = db.begin_read().map_err(|e| e.to_string())?;
    let meta = txn.open_table(META).map_err(|e| e.to_string())?;
    let get = |key: &str| -> Result<Option<Vec<u8>>, String> {
        let Some(record) = meta.get(key).map_err(|e| e.to_string())? else { return Ok(None) };
        unsealed(key.as_bytes(), record.value()).map(|v| Some(v.to_vec())).ok_or_else(|| format!("record {key}"))
    };
    fn decode<M: Message + Default>(key: &str, value: Option<Vec<u8>>) -> Result<Option<M>, String> {
        value.map(|v| M::decode(v.as_slice()).map_err(|e| format!("record {key}: {e}"))).transpose()
    }
    let log_id = |key: &str| Ok::<_, String>(decode::<pb::LogId>(key, get(key)?)?.map(wire::log_id_in));
    let vote = decode::<pb::Vote>(VOTE, get(VOTE)?)?;
    let snapshot = match (decode::<pb::SnapshotMeta>(SNAPSHOT_HEAD, get(SNAPSHOT_HEAD)?)?, get(SNAPSHOT_DATA)?) {
        (Some(head), Some(data)) => Some((head, Arc::new(data))),
        (None, None) => None,
        _ => return Err("half a snapshot".into()),
    };
    Ok(Kept {
        identity: decode(IDENTITY, get(IDENTITY)?)?,
        vote: vote.map(|v| wire::vote_in(Some(v))).transpose().map_err(|e| e.to_string())?,
        committed: log_id(COMMITTED)?,
        purged: log_id(PURGED)?,
        log: read_log(&txn)?,
        snapshot,
    })
}

fn read_log(txn: &redb::ReadTransaction) -> Result<BTreeMap<u64, Entry>, String> {
    let table = txn.open_table(LOG).map_err(|e| e.to_string())?;
    let mut log = BTreeMap::new();
    for row in table.iter().map_err(|e| e.to_string())? {
        let (key, record) = row.map_err(|e| e.to_string())?;
        let index = key.value();
        let bad = || format!("log entry {index}");
        let value = unsealed(&index.to_be_bytes(), record.value()).ok_or_else(bad)?;
        let entry = pb::Entry::decode(value).ok().and_then(|e| wire::entry_in(e).ok()).ok_or_else(bad)?;
        if log.last_key_value().is_some_and(|(last, _)| last + 1 != index) {
            return Err(format!("a hole in the log before {index}"));
        }
        log.insert(index, entry);
    }
    Ok(log)
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
            if Database::open(&path).is_ok() {
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
