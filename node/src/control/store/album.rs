//! Keeps snapshots, one after the other, beside the writer: votes and entries do not wait for the bytes of a whole config.
//!
//! ```text
//!   file safe ──▶ its name goes to the writer, as a record like any other ──▶ record safe ──▶ older files go
//! ```
//! A file without a record is removed at the next start; a record without its file would be damage.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tandem_proto::raft::v1 as pb;
use tokio::sync::mpsc::{UnboundedReceiver, WeakUnboundedSender};
use tokio::sync::oneshot;

use super::records::SNAPSHOT;
use super::{FORMAT, Job, Kept, Op, Waiter, give_up, locked, snapshots};
use crate::control::disk::Disk;

/// A snapshot on its way to disk.
pub(super) struct Shot {
    pub(super) meta: pb::SnapshotMeta,
    pub(super) state: Arc<Vec<u8>>,
    pub(super) done: oneshot::Sender<io::Result<()>>,
}

/// The only one who adds to the files of snapshots, and removes from them.
pub(super) struct Album<D> {
    pub(super) disk: Arc<D>,
    /// What the disk is called.
    pub(super) dir: PathBuf,
    pub(super) inbox: UnboundedReceiver<Shot>,
    /// Weak: the writer ends with the last store, not with us.
    pub(super) jobs: WeakUnboundedSender<Job>,
    pub(super) kept: Arc<Mutex<Kept>>,
}

impl<D: Disk> Album<D> {
    /// Works until the last [`Store`](super::Store) is gone; waits for `pause()` before each.
    pub(super) async fn attend<F: Future<Output = ()>>(mut self, pause: impl Fn() -> F) {
        while let Some(shot) = self.inbox.recv().await {
            pause().await;
            let outcome = match self.developed(&shot) {
                Ok(Some((name, recorded))) => recorded.await.map(|safe| safe.map(|()| self.shown(&shot, &name))),
                Ok(None) => Ok(Ok(())),
                Err(e) => Ok(Err(e)),
            };
            answer(shot, outcome);
        }
    }

    /// Writes the file, and gives its name to the writer; nothing if there is a newer one: it would bring back what it stands for.
    fn developed(&self, shot: &Shot) -> io::Result<Option<(String, oneshot::Receiver<io::Result<()>>)>> {
        let identity = {
            let kept = locked(&self.kept);
            if let Some(why) = &kept.unfit {
                return Err(io::Error::other(why.clone()));
            }
            let index = |meta: &pb::SnapshotMeta| meta.last.map(|last| last.index);
            if kept.snapshot.as_ref().is_some_and(|(newest, _)| index(newest) > index(&shot.meta)) {
                return Ok(None);
            }
            kept.identity.clone()
        };
        let file =
            pb::SnapshotFile { format: FORMAT, identity, meta: Some(shot.meta.clone()), state: shot.state.to_vec() };
        let name = snapshots::put(&*self.disk, &file).map_err(|e| give_up(&self.kept, &self.dir, &e))?;
        let (done, recorded) = oneshot::channel();
        let job = Job { ops: vec![Op::Meta(SNAPSHOT, name.clone().into_bytes())], waiter: Waiter::Caller(done) };
        // Without a writer nobody answers, which is the answer.
        self.jobs.upgrade().map(|jobs| jobs.send(job));
        Ok(Some((name, recorded)))
    }

    /// From now on it is the newest.
    fn shown(&self, shot: &Shot, name: &str) {
        locked(&self.kept).snapshot = Some((shot.meta.clone(), Arc::clone(&shot.state)));
        if let Err(e) = snapshots::prune(&*self.disk, Some(name)) {
            tracing::warn!("old snapshots cannot be removed: {e}");
        }
    }
}

fn answer(shot: Shot, outcome: Result<io::Result<()>, oneshot::error::RecvError>) {
    let ended = |_| Err(io::Error::other("the store's writer has ended"));
    // Who asked may be gone.
    let _ = shot.done.send(outcome.unwrap_or_else(ended));
}
