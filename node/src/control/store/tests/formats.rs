//! Stores of other versions: the last one's is taken over, a newer one's is refused.

use std::path::Path;

use tandem_proto::raft::v1 as pb;

use super::rough::{Fate, Rough};
use super::story::{Step, open, settle, take};
use crate::control::raft::{LeaderId, LogId, Vote};
use crate::control::store::{Error, FORMAT, Op, Store, records};
use crate::control::wire;
use prost::Message as _;

/// Written by the last tandemd of format 1: node b of three, who voted in term 8, with a log from 4 to 8 after a snapshot at 5.
const FORMAT_1: &[u8] = include_bytes!("../fixtures/format-1.redb");

fn format_1() -> Rough {
    Rough::with([("tandem.redb".to_owned(), FORMAT_1.to_vec())])
}

fn check_taken_over(store: &Store) {
    assert_eq!(store.unfit(), None);
    let identity = store.identity().unwrap();
    assert_eq!((identity.node, identity.name.as_str(), identity.cluster.as_str()), (2, "b", "chat"));
    assert_eq!(identity.founders.len(), 3);
    let kept = store.kept();
    let at = |index| LogId { leader_id: LeaderId { term: 7, node_id: 1 }, index };
    assert_eq!(kept.vote, Some(Vote { leader_id: LeaderId { term: 8, node_id: 1 }, committed: true }));
    assert_eq!((kept.purged, kept.committed), (Some(at(3)), Some(at(7))));
    assert_eq!(kept.log.values().map(|e| e.log_id).collect::<Vec<_>>(), (4..=8).map(at).collect::<Vec<_>>());
    let (meta, state) = kept.snapshot.clone().unwrap();
    assert_eq!(meta.last.map(|id| id.index), Some(5));
    assert_eq!(meta.membership.map(|m| m.members.len()), Some(3));
    let state = wire::state_in(pb::State::decode(state.as_slice()).unwrap()).unwrap();
    assert_eq!((state.revision, state.changed_by.as_str()), (5, "ada"));
    assert_eq!(state.config.upstreams["chat"].backends.len(), 4);
    assert_eq!(state.already("request-5"), Some(5));
}

#[tokio::test]
async fn a_store_of_format_1_is_taken_over() {
    let disk = format_1();
    let store = open(&disk);
    check_taken_over(&store);
    take(&store, Step::Vote(9)).await.unwrap();
    drop(store);
    settle().await;
    assert!(disk.files().keys().any(|name| name.starts_with("snapshot-")), "{:?}", disk.files().keys());
    let again = open(&disk);
    assert_eq!(again.kept().vote.map(|v| v.leader_id.term), Some(9));
    assert_eq!(again.kept().log.len(), 5);
}

#[tokio::test]
async fn power_lost_while_it_is_taken_over_changes_nothing() {
    let calm = format_1();
    drop(open(&calm));
    settle().await;
    for at in 1..=calm.calls() {
        for seed in 0..4 {
            let disk = format_1().destined(at, Fate::PowerLoss);
            let _ = Store::on(disk.clone(), Path::new("rough"));
            let found = open(&disk.after_power_loss(seed));
            check_taken_over(&found);
            drop(found);
            settle().await;
        }
    }
}

#[tokio::test]
async fn a_newer_format_is_refused_and_left_as_it_is() {
    let disk = Rough::default();
    let store = open(&disk);
    take(&store, Step::Vote(1)).await.unwrap();
    let newer = (FORMAT + 1).to_le_bytes().to_vec();
    store.write(vec![Op::Meta(records::FORMAT_KEY, newer)]).await.unwrap();
    drop(store);
    settle().await;
    let before = disk.files();
    let Err(e) = Store::on(disk.clone(), Path::new("/var/lib/tandem")) else { unreachable!("it is newer") };
    assert!(matches!(e, Error::Newer { .. }));
    assert_eq!(
        e.to_string(),
        "/var/lib/tandem/tandem.redb has format 3, this tandemd knows 2; start the newer tandemd again"
    );
    assert_eq!(disk.files()["tandem.mark"], before["tandem.mark"]);
}
