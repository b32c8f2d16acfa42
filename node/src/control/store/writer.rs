//! Writes what was given, in that order: everything that waits goes into one transaction, one fsync.

use std::future::Future;
use std::io;

use redb::Database;
use tokio::sync::mpsc::UnboundedReceiver;

use super::records::{LOG, META, sealed};
use super::{Job, Op, Waiter};

/// The only one who writes to the store. Run it on a thread, or among the tasks of a simulation; the file closes with it.
#[must_use = "nothing is written, and nothing acknowledged, unless it runs"]
pub struct Writer {
    pub(super) db: Database,
    pub(super) inbox: UnboundedReceiver<Job>,
    /// The first write that fails is the last.
    pub(super) failed: Option<String>,
}

impl Writer {
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
        if self.failed.is_none()
            && let Err(e) = commit(&self.db, &jobs)
        {
            tracing::error!(error = %e, "the disk did not take a write: consensus stops on this node, traffic goes on; mend the disk and restart tandemd");
            self.failed = Some(e.to_string());
        }
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
