//! Committed entries → State; publishes each new one; snapshots.

use std::collections::BTreeMap;
use std::io::{self, Cursor};
use std::sync::Arc;
use std::time::Instant;

use futures_util::{Stream, TryStreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use prost::Message;
use tandem_proto::raft::v1 as pb;
use tokio::sync::watch;

use super::raft::{Change, Entry, LogId, Snapshot, SnapshotData, SnapshotMeta, StoredMembership, Types};
use super::standing::{Member, NodeId};
use super::state::{Outcome, State};
use super::store::Store;
use super::wire;

/// The state machine openraft drives.
pub(super) struct Machine {
    state: State,
    applied: Option<LogId>,
    membership: StoredMembership,
    store: Store,
    publish: watch::Sender<Arc<State>>,
}

fn broken(e: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, e.to_string())
}

fn state_of(data: &[u8]) -> io::Result<State> {
    wire::state_in(pb::State::decode(data).map_err(broken)?).map_err(broken)
}

impl Machine {
    /// Begins where the newest snapshot on disk ends; openraft replays the log after it.
    pub(super) fn restored(store: Store, publish: watch::Sender<Arc<State>>) -> io::Result<Self> {
        let mut machine =
            Self { state: State::default(), applied: None, membership: StoredMembership::default(), store, publish };
        let snapshot = machine.store.kept().snapshot.clone();
        if let Some((meta, data)) = snapshot {
            let meta = wire::snapshot_meta_in(meta).map_err(broken)?;
            machine.replace(&meta, state_of(&data)?);
        }
        Ok(machine)
    }

    /// Everyone in the cluster, as of the last entry applied.
    pub(super) fn members(&self) -> BTreeMap<NodeId, Member> {
        self.membership.membership().nodes().map(|(id, node)| (*id, node.clone())).collect()
    }

    fn replace(&mut self, meta: &SnapshotMeta, state: State) {
        self.state = state;
        // A snapshot from before there were newcomers has no roll; its members are the founders.
        self.state.roll.members_are(meta.last_membership.membership().nodes().map(|(id, _)| *id));
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        self.publish.send_replace(Arc::new(self.state.without_requests()));
    }

    /// What an entry does.
    fn step(&mut self, entry: Entry) -> Outcome {
        let outcome = match entry.payload {
            EntryPayload::Normal(Change(command)) => {
                let begun = Instant::now();
                let outcome = self.state.apply(&command);
                self.store.timings().apply.observe(begun.elapsed());
                outcome
            }
            EntryPayload::Membership(membership) => {
                self.state.roll.members_are(membership.nodes().map(|(id, _)| *id));
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                Outcome::Done { revision: self.state.revision }
            }
            EntryPayload::Blank => Outcome::Done { revision: self.state.revision },
        };
        self.applied = Some(entry.log_id);
        outcome
    }

    /// Applies all of the log, committed or not.
    pub(super) fn replay(&mut self) -> io::Result<()> {
        let next = self.applied.map_or(0, |id| id.index + 1);
        let entries: Vec<Entry> = self.store.kept().log.range(next..).map(|(_, entry)| entry.clone()).collect();
        if let Some(first) = entries.first().filter(|e| self.applied.is_some() && e.log_id.index != next) {
            return Err(broken(format!("the log begins at {}, the snapshot ends before {next}", first.log_id.index)));
        }
        for entry in entries {
            self.step(entry);
        }
        Ok(())
    }

    pub(super) fn state(&self) -> &State {
        &self.state
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Picture;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let seen = |state: &State| (state.revision, state.roll.next(), state.level, Arc::clone(&state.trust));
            let (before, membered) = (seen(&self.state), matches!(entry.payload, EntryPayload::Membership(_)));
            let outcome = self.step(entry);
            // Live before it is acknowledged: who is told "done" finds it done.
            if membered || before != seen(&self.state) {
                self.publish.send_replace(Arc::new(self.state.without_requests()));
            }
            if let Some(responder) = responder {
                responder.send(outcome);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Picture {
        Picture {
            state: self.state.clone(),
            meta: SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() },
            store: self.store.clone(),
        }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> io::Result<()> {
        let data = snapshot.into_inner();
        // Checked before it is stored: a snapshot this version cannot read must not replace a good one.
        let state = state_of(&data)?;
        self.store.save_snapshot(wire::snapshot_meta_out(meta), data).await?;
        self.replace(meta, state);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let Some((meta, data)) = self.store.kept().snapshot.clone() else { return Ok(None) };
        let meta = wire::snapshot_meta_in(meta).map_err(broken)?;
        Ok(Some(Snapshot { meta, snapshot: Cursor::new(data.to_vec()) }))
    }
}

/// The state at one moment, on its way to disk.
pub(super) struct Picture {
    state: State,
    meta: SnapshotMeta,
    store: Store,
}

impl RaftSnapshotBuilder<Types> for Picture {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let begun = Instant::now();
        let data = wire::state_out(&self.state).encode_to_vec();
        self.store.save_snapshot(wire::snapshot_meta_out(&self.meta), data.clone()).await?;
        self.store.timings().snapshot.observe(begun.elapsed());
        Ok(Snapshot { meta: self.meta.clone(), snapshot: Cursor::new(data) })
    }
}
