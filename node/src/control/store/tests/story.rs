//! A life of a store in steps, and what is to be seen after each.

use std::path::Path;

use openraft::EntryPayload;
use tandem_proto::raft::v1 as pb;

use super::rough::Rough;
use crate::control::raft::{Entry, LeaderId, LogId, Vote};
use crate::control::store::{Op, Store};
use crate::control::{state::State, wire};
use prost::Message as _;

/// One thing that consensus does with its store.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Adopt,
    Vote(u64),
    Append(u64),
    Truncate(u64),
    Purge(u64),
    /// At this index, of a state at this revision.
    Snapshot(u64, u64),
}

/// Everything a store does, some of it often enough that records fill pages and snapshots replace each other.
pub(super) fn life() -> Vec<Step> {
    use Step::{Adopt, Append, Purge, Snapshot, Truncate, Vote};
    let mut steps = vec![Adopt, Vote(1)];
    steps.extend((0..8).map(Append));
    steps.extend([Snapshot(5, 50), Purge(3), Vote(2), Truncate(7), Append(7), Append(8)]);
    steps.extend([Snapshot(7, 70), Snapshot(8, 80), Purge(8), Vote(3)]);
    steps.extend((9..12).map(Append));
    steps.extend([Snapshot(10, 100), Vote(4)]);
    steps
}

pub(super) fn vote(term: u64) -> Vote {
    Vote { leader_id: LeaderId { term, node_id: 1 }, committed: true }
}

pub(super) fn id(index: u64) -> LogId {
    LogId { leader_id: LeaderId { term: 1, node_id: 1 }, index }
}

/// Takes one step, and returns when it is acknowledged.
pub(super) async fn take(store: &Store, step: Step) -> std::io::Result<()> {
    match step {
        Step::Adopt => store.adopt(pb::Identity { node: 3, name: "c".into(), ..Default::default() }).await,
        Step::Vote(term) => store.save_vote(&vote(term)).await,
        Step::Append(index) => {
            let entry = Entry { log_id: id(index), payload: EntryPayload::Blank };
            store.write(vec![Op::Append(index, wire::entry_out(entry.clone()).encode_to_vec())]).await?;
            store.kept().log.insert(index, entry);
            Ok(())
        }
        Step::Truncate(from) => {
            store.write(vec![Op::Truncate(from)]).await?;
            store.kept().log.split_off(&from);
            Ok(())
        }
        Step::Purge(upto) => store.purge(id(upto)).await,
        Step::Snapshot(index, revision) => {
            let membership = Some(pb::Membership::default());
            let meta = pb::SnapshotMeta { last: Some(wire::log_id_out(&id(index))), membership, ..Default::default() };
            let state = pb::State { revision, ..Default::default() };
            store.save_snapshot(meta, state.encode_to_vec()).await
        }
    }
}

/// What must not be forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct View {
    name: Option<String>,
    vote: Option<u64>,
    purged: Option<u64>,
    log: Vec<u64>,
    pub(super) revision: Option<u64>,
}

pub(super) fn view(store: &Store) -> View {
    let kept = store.kept();
    let revision = |data: &[u8]| wire::state_in(pb::State::decode(data).unwrap()).map(|s: State| s.revision).ok();
    View {
        name: kept.identity.as_ref().map(|i| i.name.clone()),
        vote: kept.vote.map(|v| v.leader_id.term),
        purged: kept.purged.map(|id| id.index),
        log: kept.log.keys().copied().collect(),
        revision: kept.snapshot.as_ref().and_then(|(_, data)| revision(data)),
    }
}

/// Opens the store; its writer runs as a task.
pub(super) fn open(disk: &Rough) -> Store {
    let (store, writer) = Store::on(disk.clone(), Path::new("rough")).unwrap();
    tokio::spawn(writer.attend(|| std::future::ready(())));
    store
}

/// Lives `steps` as far as the disk lets it: how many were acknowledged, and what was to be seen after each.
pub(super) async fn live(disk: &Rough, steps: &[Step]) -> (usize, Vec<View>) {
    let store = open(disk);
    let mut views = vec![view(&store)];
    for (taken, step) in steps.iter().enumerate() {
        if take(&store, *step).await.is_err() {
            return (taken, views);
        }
        views.push(view(&store));
    }
    (steps.len(), views)
}

/// Lets the writer's task see that its store is gone, and close the file.
pub(super) async fn settle() {
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
}
