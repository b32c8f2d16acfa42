//! Snapshots are kept beside votes and entries, which do not wait for them.

use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;

use super::rough::{Rough, RoughFile};
use super::story::{Step, id, open, settle, take, view};
use crate::control::disk::Disk;
use crate::control::store::Store;

/// A disk on which a snapshot's file cannot be begun before somebody opens the gate.
#[derive(Clone)]
struct Gated {
    disk: Rough,
    open: Arc<(Mutex<bool>, Condvar)>,
    reached: mpsc::UnboundedSender<()>,
}

impl Disk for Gated {
    type File = RoughFile;

    fn open(&self, name: &str) -> io::Result<RoughFile> {
        if name == "snapshot.tmp" {
            let _ = self.reached.send(());
            let (open, opened) = &*self.open;
            drop(opened.wait_while(open.lock().unwrap(), |open| !*open).unwrap());
        }
        self.disk.open(name)
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.disk.read(name)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.disk.names()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.disk.sync_names()
    }
}

#[tokio::test]
async fn a_vote_does_not_wait_for_a_snapshot() {
    let (reached, mut gate) = mpsc::unbounded_channel();
    let disk = Gated { disk: Rough::default(), open: Arc::default(), reached };
    let (store, writer) = Store::on(disk.clone(), Path::new("gated")).unwrap();
    writer.start().unwrap();
    take(&store, Step::Vote(1)).await.unwrap();
    let twin = store.clone();
    let snapshot = tokio::spawn(async move { take(&twin, Step::Snapshot(5, 50)).await });
    gate.recv().await.unwrap();
    take(&store, Step::Vote(2)).await.unwrap();
    assert!(!snapshot.is_finished() && view(&store).revision.is_none());
    *disk.open.0.lock().unwrap() = true;
    disk.open.1.notify_all();
    snapshot.await.unwrap().unwrap();
    assert_eq!(view(&store).revision, Some(50));
}

#[tokio::test]
async fn an_older_snapshot_does_not_take_the_place_of_a_newer_one() {
    let disk = Rough::default();
    let store = open(&disk);
    for step in [Step::Vote(1), Step::Snapshot(8, 80), Step::Snapshot(5, 50)] {
        take(&store, step).await.unwrap();
    }
    assert_eq!(view(&store).revision, Some(80));
    drop(store);
    settle().await;
    assert_eq!(view(&open(&Rough::with(disk.files()))).revision, Some(80));
}

/// The clock stands while there is anything to do.
#[tokio::test(start_paused = true)]
async fn what_is_committed_comes_to_disk_with_what_is_written_next_or_soon_or_last() {
    let disk = Rough::default();
    let store = open(&disk);
    take(&store, Step::Vote(1)).await.unwrap();
    let calls = disk.calls();
    store.save_committed(id(3));
    settle().await;
    assert_eq!(disk.calls(), calls, "that alone is worth no write");
    take(&store, Step::Vote(2)).await.unwrap();
    let committed = |disk: &Rough| open(&Rough::with(disk.files())).committed().map(|id| id.index);
    assert_eq!(committed(&disk), Some(3));
    store.save_committed(id(4));
    tokio::time::sleep(Duration::from_millis(5 + 1)).await;
    assert_eq!(committed(&disk), Some(4), "nothing else is written, and the store is open");
    store.save_committed(id(5));
    drop(store);
    settle().await;
    assert_eq!(committed(&disk), Some(5));
}
