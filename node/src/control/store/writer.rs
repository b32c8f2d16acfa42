//! Writes what was given, in that order: everything that waits goes into one transaction.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use redb::{Database, Table};
use tokio::sync::mpsc::UnboundedReceiver;

use super::mark::Mark;
use super::records::{LOG, META, SEQUENCE, SNAPSHOT, sealed};
use super::{Job, Kept, Op, Waiter, boot, locked, snapshots};
use crate::control::disk::Disk;
use crate::control::timings::Timings;

/// The only one who writes to the store. Run it on a thread, or among the tasks of a simulation; the file closes with it.
#[must_use = "nothing is written, and nothing acknowledged, unless it runs"]
pub struct Writer<D: Disk> {
    pub(super) disk: D,
    /// What the disk is called.
    pub(super) dir: PathBuf,
    /// Absent where nothing can be written.
    pub(super) books: Option<Books<D>>,
    pub(super) inbox: UnboundedReceiver<Job>,
    /// Why nothing is written any more: the first write that fails is the last.
    pub(super) failed: Option<String>,
    pub(super) kept: Arc<Mutex<Kept>>,
    pub(super) timings: Arc<Timings>,
}

impl<D: Disk> Writer<D> {
    /// Writes on this thread until the last [`Store`](super::Store) is gone.
    pub fn run(mut self) {
        while let Some(first) = self.inbox.blocking_recv() {
            self.take(first);
        }
    }

    /// The same as a task, which blocks while it writes and waits for `pause()` before: for disks of a simulation, which
    /// take no real time and any amount of simulated time.
    pub async fn attend<F: Future<Output = ()>>(mut self, mut pause: impl FnMut() -> F) {
        while let Some(first) = self.inbox.recv().await {
            pause().await;
            self.take(first);
        }
    }

    fn take(&mut self, first: Job) {
        let mut jobs = vec![first];
        while let Ok(next) = self.inbox.try_recv() {
            jobs.push(next);
        }
        let begun = Instant::now();
        if self.failed.is_none()
            && let Some(books) = &mut self.books
            && let Err(e) = books.write(&self.disk, jobs.iter().flat_map(|j| &j.ops))
        {
            let why = boot::no_writes(&self.dir, &e);
            tracing::error!("consensus stops on this node, traffic goes on: {why}");
            locked(&self.kept).unfit = Some(why.clone());
            self.failed = Some(why);
        }
        self.timings.write.observe(begun.elapsed());
        for job in jobs {
            finish(job.waiter, self.failed.as_deref());
        }
    }
}

/// Tells who waits; all get the same words, whoever's write it was.
pub(super) fn finish(waiter: Waiter, failed: Option<&str>) {
    let result = failed.map_or(Ok(()), |why| Err(io::Error::other(why.to_owned())));
    match waiter {
        Waiter::Raft(flushed) => flushed.io_completed(result),
        Waiter::Caller(done) => drop(done.send(result)),
        Waiter::Nobody => {}
    }
}

/// What is written to.
pub(super) struct Books<D: Disk> {
    pub(super) db: Database,
    pub(super) mark: Mark<D::File>,
    /// How many transactions there were.
    pub(super) sequence: u64,
}

/// A write that did not happen, or is not known to have.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failed {
    #[error(transparent)]
    Disk(#[from] io::Error),
    #[error(transparent)]
    Records(#[from] redb::Error),
}

impl<D: Disk> Books<D> {
    /// All of `ops`, safe when this returns: snapshots first (a file without a record is removed at the next start, a
    /// record without its file is damage), then the records, then the mark. Says the name of the last snapshot.
    pub(super) fn write<'a>(&mut self, disk: &D, ops: impl Iterator<Item = &'a Op>) -> Result<Option<String>, Failed> {
        let mut snapshot = None;
        let sequence = self.sequence + 1;
        let txn = self.db.begin_write().map_err(redb::Error::from)?;
        {
            let mut meta = txn.open_table(META).map_err(redb::Error::from)?;
            let mut log = txn.open_table(LOG).map_err(redb::Error::from)?;
            put(&mut meta, SEQUENCE, &sequence.to_le_bytes())?;
            for op in ops {
                match op {
                    Op::Meta(key, value) => put(&mut meta, key, value)?,
                    Op::Forget(key) => drop(meta.remove(*key).map_err(redb::Error::from)?),
                    Op::Append(index, value) => {
                        let record = sealed(&index.to_be_bytes(), value);
                        log.insert(index, record.as_slice()).map_err(redb::Error::from)?;
                    }
                    Op::Truncate(from) => log.retain_in(*from.., |_, _| false).map_err(redb::Error::from)?,
                    Op::Purge(upto) => log.retain_in(..=*upto, |_, _| false).map_err(redb::Error::from)?,
                    Op::Snapshot(file) => {
                        let name = snapshots::put(disk, file)?;
                        put(&mut meta, SNAPSHOT, name.as_bytes())?;
                        snapshot = Some(name);
                    }
                }
            }
        }
        txn.commit().map_err(redb::Error::from)?;
        self.sequence = sequence;
        self.mark.move_to(sequence)?;
        if snapshot.is_some()
            && let Err(e) = snapshots::prune(disk, snapshot.as_deref())
        {
            tracing::warn!("old snapshots cannot be removed: {e}");
        }
        Ok(snapshot)
    }
}

fn put(meta: &mut Table<'_, &'static str, &'static [u8]>, key: &str, value: &[u8]) -> Result<(), redb::Error> {
    meta.insert(key, sealed(key.as_bytes(), value).as_slice())?;
    Ok(())
}
