//! The power goes, or a call fails, at each call to the disk in turn: what was acknowledged is there afterwards.

use super::rough::{Fate, Rough};
use super::story::{life, live, open, settle, view};

/// How often each is tried: what survives of unsynced writes is chance.
const TRIES: u64 = 3;

#[tokio::test]
async fn power_lost_at_any_call_loses_nothing_acknowledged() {
    let steps = life();
    let calm = Rough::default();
    let (_, expected) = live(&calm, &steps).await;
    let calls = calm.calls();
    assert!(calls > 100, "the story is too short to prove anything: {calls} calls");
    for at in 1..=calls {
        for seed in 0..TRIES {
            let disk = Rough::default().destined(at, Fate::PowerLoss);
            let (acknowledged, _) = live(&disk, &steps).await;
            settle().await;
            let found = open(&disk.after_power_loss(seed));
            assert_eq!(found.unfit(), None, "call {at}, seed {seed}: a crash is no damage");
            let seen = view(&found);
            let may_be = &expected[acknowledged..expected.len().min(acknowledged + 2)];
            assert!(may_be.contains(&seen), "call {at}, seed {seed}: {seen:?} is none of {may_be:?}");
            drop(found);
            settle().await;
        }
    }
}

#[tokio::test]
async fn a_call_that_fails_is_the_last_and_a_restart_finds_everything() {
    let steps = life();
    let calm = Rough::default();
    let (_, expected) = live(&calm, &steps).await;
    for code in [libc::EIO, libc::ENOSPC] {
        for at in 1..=calm.calls() {
            let disk = Rough::default().destined(at, Fate::Error(code));
            let (acknowledged, _) = live(&disk, &steps).await;
            settle().await;
            // The disk is whole again, the operator restarts.
            let found = open(&Rough::with(disk.files()));
            assert_eq!(found.unfit(), None, "call {at}: a write that failed is no damage");
            let seen = view(&found);
            let may_be = &expected[acknowledged..expected.len().min(acknowledged + 2)];
            assert!(may_be.contains(&seen), "call {at}: {seen:?} is none of {may_be:?}");
            drop(found);
            settle().await;
        }
    }
}

#[tokio::test]
async fn after_a_failed_fsync_nothing_is_acknowledged_any_more() {
    let steps = life();
    let calm = Rough::default();
    live(&calm, &steps[..5]).await;
    let disk = Rough::default().destined(calm.calls(), Fate::Error(libc::EIO));
    let store = open(&disk);
    for step in &steps[..4] {
        super::story::take(&store, *step).await.unwrap();
    }
    for step in &steps[4..] {
        let said = super::story::take(&store, *step).await.unwrap_err().to_string();
        assert!(said.contains("takes no writes") && said.contains("then restart tandemd"), "{said}");
    }
    assert!(store.unfit().is_some(), "status must be able to say it");
}
