//! What was: configs of earlier revisions, who changed what, each revision as it comes, and all of it to take away.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, stream};
use tandem_proto::admin::v1 as pb;
use tandem_proto::config::v1 as config;
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;

use super::stamp::unix_ms;
use crate::control::Control;
use crate::control::history::Record;
use crate::control::state::State;

/// How many may watch a node at once: each costs it a little with every change.
pub(super) const WATCHERS: usize = 256;

/// Revisions, in order.
pub(super) type Revisions = Pin<Box<dyn Stream<Item = Result<config::Record, Status>> + Send>>;

/// The config now, or as it was.
///
/// # Errors
/// That revision is forgotten, or never was.
pub(super) fn config(state: &State, ask: &pb::GetConfigRequest) -> Result<pb::GetConfigReply, Status> {
    let revision = ask.revision.unwrap_or(state.revision);
    let record = state.history.record(revision).map(|r| r.message());
    if revision == state.revision {
        return Ok(pb::GetConfigReply {
            revision,
            config: Some((&*state.config).into()),
            changed_at_unix_ms: state.changed_at_unix_ms,
            changed_by: state.changed_by.clone(),
            record,
        });
    }
    let config = state.config_of(revision).map_err(|problems| Status::not_found(problems.to_string()))?;
    Ok(pb::GetConfigReply {
        revision,
        config: Some((&config).into()),
        changed_at_unix_ms: record.as_ref().map_or(0, |r| r.at_unix_ms),
        changed_by: record.as_ref().map(|r| r.actor.clone()).unwrap_or_default(),
        record,
    })
}

/// Who changed what, newest first.
pub(super) fn history(state: &State, ask: &pb::HistoryRequest) -> pb::HistoryReply {
    let older = |r: &&Arc<Record>| ask.before == 0 || r.revision < ask.before;
    let most = if ask.limit == 0 { usize::MAX } else { ask.limit as usize };
    pb::HistoryReply {
        records: state.history.records().rev().filter(older).take(most).map(|r| r.message()).collect(),
        oldest_config: state.history.oldest_config(state.revision),
    }
}

/// All that another cluster needs to become this one.
pub(super) fn backup(cluster: &str, state: &State) -> config::Backup {
    config::Backup {
        cluster: cluster.to_owned(),
        made_at_unix_ms: unix_ms(),
        revision: state.revision,
        config: Some((&*state.config).into()),
        history: state.history.messages(),
    }
}

/// Each revision after `after`, or after the one there is, none left out; until the node ends.
pub(super) fn watch(control: &Control, after: Option<u64>, leave: OwnedSemaphorePermit) -> Revisions {
    let mut states = control.state();
    let last = after.unwrap_or_else(|| states.borrow_and_update().revision);
    let begin = Watching { states, last, ready: VecDeque::new(), _leave: leave };
    Box::pin(stream::unfold(Some(begin), |watching| async { watching?.next().await }))
}

struct Watching {
    states: tokio::sync::watch::Receiver<Arc<State>>,
    last: u64,
    ready: VecDeque<Arc<Record>>,
    _leave: OwnedSemaphorePermit,
}

impl Watching {
    async fn next(mut self) -> Option<(Result<config::Record, Status>, Option<Self>)> {
        loop {
            if let Some(record) = self.ready.pop_front() {
                self.last = record.revision;
                return Some((Ok(record.message()), Some(self)));
            }
            // States may be passed over, revisions not: each state has the history of those before it.
            let state = Arc::clone(&self.states.borrow_and_update());
            match state.history.after(self.last, state.revision) {
                None => {
                    let why = format!("the history does not reach back to revision {}", self.last);
                    return Some((Err(Status::out_of_range(why)), None));
                }
                Some(records) if records.is_empty() => self.states.changed().await.ok()?,
                Some(records) => self.ready = records.into(),
            }
        }
    }
}
