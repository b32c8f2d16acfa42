//! On a real directory.

use std::path::Path;
use std::time::{Duration, Instant};

use super::story::{Step, life, take, view};
use crate::control::store::{Error, Store};

#[tokio::test]
async fn what_was_acknowledged_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert!(!store.formed());
    for step in life() {
        take(&store, step).await.unwrap();
    }
    let before = view(&store);
    drop(store);
    let store = reopen(dir.path());
    assert_eq!(view(&store), before);
    assert!(store.formed());
}

/// The writer thread closes the file a moment after the last handle is gone.
pub(super) fn reopen(dir: &Path) -> Store {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match Store::open(dir) {
            Ok(store) => return store,
            Err(e) => assert!(Instant::now() < deadline, "{e}"),
        }
        std::thread::yield_now();
    }
}

#[test]
fn a_second_daemon_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Store::open(dir.path()).unwrap();
    let Err(e) = Store::open(dir.path()) else { unreachable!("the files are locked") };
    assert!(e.to_string().contains("no other tandemd uses it"), "{e}");
}

#[tokio::test]
async fn a_snapshots_name_is_what_sha256sum_says_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    take(&store, Step::Snapshot(7, 70)).await.unwrap();
    let name = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .find(|name| name.starts_with("snapshot-"))
        .unwrap();
    let said = std::process::Command::new("sha256sum").arg(dir.path().join(&name)).output().unwrap();
    let hash = String::from_utf8(said.stdout).unwrap().split(' ').next().unwrap().to_owned();
    assert!(hash.len() == 64 && name.ends_with(&hash), "{name}, {hash}");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(matches!(Store::open(&file.join("data")), Err(Error::Open { .. })));
}
