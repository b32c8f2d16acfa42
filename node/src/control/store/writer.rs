//! Writes what was given, in that order: everything that waits goes into one transaction.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Builder;
use std::time::{Duration, Instant};

use redb::{Database, Table};
use tokio::runtime;
use tokio::sync::mpsc::UnboundedReceiver;

use super::album::Album;
use super::mark::Mark;
use super::records::{LOG, META, SEQUENCE, sealed};
use super::{Job, Kept, Op, Waiter, give_up, locked};
use crate::control::disk::Disk;
use crate::control::timings::Timings;

/// What nobody waits for comes to disk with the next transaction, or after this.
const LINGER: Duration = Duration::from_millis(5);

/// Who writes: vote and log here, snapshots beside it. Run it on threads, or among the tasks of a simulation; the file closes with it.
#[must_use = "nothing is written, and nothing acknowledged, unless it runs"]
pub struct Writer<D: Disk> {
    pub(super) pen: Pen<D>,
    pub(super) album: Album<D>,
}

/// The only one who writes to the file of vote and log.
pub(super) struct Pen<D: Disk> {
    /// What the disk is called.
    pub(super) dir: PathBuf,
    /// Absent where nothing can be written.
    pub(super) books: Option<Books<D>>,
    pub(super) inbox: UnboundedReceiver<Job>,
    /// What nobody waits for: it goes into the next transaction.
    pub(super) later: Vec<Op>,
    pub(super) kept: Arc<Mutex<Kept>>,
    pub(super) timings: Arc<Timings>,
}

impl<D: Disk> Writer<D> {
    /// Writes on threads of its own until the last [`Store`](super::Store) is gone.
    ///
    /// # Errors
    /// The system has no more threads.
    pub fn start(self) -> io::Result<()> {
        let Self { pen, album } = self;
        let alone = || runtime::Builder::new_current_thread().enable_time().build();
        let (writing, keeping) = (alone()?, alone()?);
        let at_once = || std::future::ready(());
        Builder::new().name("store".into()).spawn(move || writing.block_on(pen.attend(at_once)))?;
        Builder::new().name("snapshots".into()).spawn(move || keeping.block_on(album.attend(at_once)))?;
        Ok(())
    }

    /// The same as a task, which blocks while it writes and waits for `pause()` before: for disks of a simulation, which
    /// take no real time and any amount of simulated time.
    pub async fn attend<F: Future<Output = ()>>(self, pause: impl FnMut() -> F) {
        let Self { pen, album } = self;
        let pause = Mutex::new(pause);
        // What it guards is a closure, which is never half-done.
        let pause = || (pause.lock().unwrap_or_else(PoisonError::into_inner))();
        tokio::join!(pen.attend(pause), album.attend(pause));
    }
}

impl<D: Disk> Pen<D> {
    async fn attend<F: Future<Output = ()>>(mut self, pause: impl Fn() -> F) {
        loop {
            let next = if self.later.is_empty() {
                Ok(self.inbox.recv().await)
            } else {
                tokio::time::timeout(LINGER, self.inbox.recv()).await
            };
            match next {
                Ok(Some(first)) => {
                    pause().await;
                    self.take(first);
                }
                Ok(None) => return self.catch_up(),
                Err(_) => self.catch_up(),
            }
        }
    }

    fn take(&mut self, first: Job) {
        let mut jobs = vec![first];
        while let Ok(next) = self.inbox.try_recv() {
            jobs.push(next);
        }
        if jobs.iter().all(|job| matches!(job.waiter, Waiter::Nobody)) {
            // Only the newest of each is worth writing, and nobody waits for that.
            self.later = jobs.pop().map(|newest| newest.ops).unwrap_or_default();
            return;
        }
        let later = std::mem::take(&mut self.later);
        let begun = Instant::now();
        let failed = self.write(later.iter().chain(jobs.iter().flat_map(|job| &job.ops)));
        self.timings.write.observe(begun.elapsed());
        for job in jobs {
            finish(job.waiter, failed.as_deref());
        }
    }

    /// Writes what nobody waits for.
    fn catch_up(&mut self) {
        let later = std::mem::take(&mut self.later);
        if !later.is_empty() {
            // Whoever comes next is told if it fails.
            let _ = self.write(later.iter());
        }
    }

    /// Why it is not written, if it is not.
    fn write<'a>(&mut self, ops: impl Iterator<Item = &'a Op>) -> Option<String> {
        let unfit = locked(&self.kept).unfit.clone();
        match &mut self.books {
            Some(books) if unfit.is_none() => {
                books.write(ops).err().map(|e| give_up(&self.kept, &self.dir, &e).to_string())
            }
            _ => unfit,
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
    /// All of `ops`, safe when this returns: the records, then the mark.
    pub(super) fn write<'a>(&mut self, ops: impl Iterator<Item = &'a Op>) -> Result<(), Failed> {
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
                }
            }
        }
        txn.commit().map_err(redb::Error::from)?;
        self.sequence = sequence;
        self.mark.move_to(sequence)?;
        Ok(())
    }
}

fn put(meta: &mut Table<'_, &'static str, &'static [u8]>, key: &str, value: &[u8]) -> Result<(), redb::Error> {
    meta.insert(key, sealed(key.as_bytes(), value).as_slice())?;
    Ok(())
}
