//! Bytes rot, files shrink and vanish: what is read back is right, or this node does not vote and serves an older config.

use std::collections::BTreeMap;

use super::rough::Rough;
use super::story::{View, life, live, open, settle, view};

type Files = BTreeMap<String, Vec<u8>>;

/// The files after the whole story: as SIGKILL leaves them, and as a calm end does. And what is to be seen in both.
async fn files() -> ([Files; 2], View) {
    let disk = Rough::default();
    let (_, views) = live(&disk, &life()).await;
    let killed = disk.files();
    settle().await;
    let closed = disk.files();
    assert_ne!(killed, closed, "one of them is not what it says");
    ([killed, closed], views.last().unwrap().clone())
}

/// Either all is there, or the store is unfit and offers a snapshot that once was right.
async fn check(files: Files, expected: &View, what: &str) -> bool {
    let store = open(&Rough::with(files));
    let seen = view(&store);
    let unfit = store.unfit();
    match &unfit {
        None => assert_eq!(&seen, expected, "{what}: a silent wrong answer"),
        Some(why) => {
            assert!(why.contains("is damaged (") && why.contains("move it away"), "{what}: {why}");
            assert!(matches!(seen.revision, None | Some(70 | 80 | 100)), "{what}: {seen:?} was never true");
        }
    }
    drop(store);
    settle().await;
    unfit.is_some()
}

#[tokio::test]
async fn a_flipped_byte_on_any_page_is_never_read_back() {
    let (images, expected) = files().await;
    for files in images {
        let mut refused = 0;
        for (name, bytes) in &files {
            for at in places(name, bytes.len()) {
                // Single bits decide things only in redb's first bytes.
                let flips: &[u8] = if at < 16 { &[0x01, 0x02, 0x04, 0x08, 0x55, 0xff] } else { &[0x55] };
                for flip in flips {
                    let mut bytes = bytes.clone();
                    bytes[at] ^= flip;
                    let mut files = files.clone();
                    files.insert(name.clone(), bytes);
                    refused += usize::from(check(files, &expected, &format!("{name} byte {at} ^ {flip:#x}")).await);
                }
            }
        }
        assert!(refused > 100, "only {refused} flips were noticed: the test looks at the wrong bytes");
    }
}

/// Every byte that decides where all others are read, and some of every page.
fn places(name: &str, length: usize) -> Vec<usize> {
    if name.ends_with(".redb") {
        (0..320).chain((512..length).step_by(509)).collect()
    } else {
        (0..length).step_by(if length > 4096 { 1 + length / 400 } else { 1 }).collect()
    }
}

#[tokio::test]
async fn a_file_cut_anywhere_or_gone_is_noticed() {
    let (images, expected) = files().await;
    for files in images {
        for (name, bytes) in &files {
            for length in (0..bytes.len()).step_by(1 + bytes.len() / 60) {
                let mut files = files.clone();
                files.insert(name.clone(), bytes[..length].to_vec());
                check(files, &expected, &format!("{name} cut to {length}")).await;
            }
            let mut fewer = files.clone();
            fewer.remove(name);
            check(fewer, &expected, &format!("{name} gone")).await;
            let mut longer = files.clone();
            longer.insert(name.clone(), [bytes.as_slice(), &[0; 100]].concat());
            check(longer, &expected, &format!("{name} with zeros behind it")).await;
        }
    }
}

#[tokio::test]
async fn an_older_copy_of_a_file_beside_newer_ones_is_noticed() {
    let disk = Rough::default();
    let (_, views) = live(&disk, &life()).await;
    settle().await;
    let old = Rough::default();
    live(&old, &life()[..life().len() - 1]).await;
    settle().await;
    let mut files = disk.files();
    files.insert("tandem.redb".into(), old.files()["tandem.redb"].clone());
    assert!(check(files, views.last().unwrap(), "the last vote is forgotten").await);
}

#[tokio::test]
async fn the_newest_whole_snapshot_is_served() {
    let ([mut files, _], _) = files().await;
    let snapshots: Vec<String> = files.keys().filter(|name| name.starts_with("snapshot-")).cloned().collect();
    assert_eq!(snapshots.len(), 3, "three are kept");
    for (newest, next) in snapshots.iter().rev().zip([Some(80), Some(70), None]) {
        files.get_mut(newest).unwrap()[3] ^= 1;
        let store = open(&Rough::with(files.clone()));
        assert!(store.unfit().is_some_and(|why| why.contains("another hash")));
        assert_eq!(view(&store).revision, next);
        assert!(store.formed(), "it must not form a cluster anew");
        drop(store);
        settle().await;
    }
}
