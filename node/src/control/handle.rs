//! What other rooms hold of consensus: propose, watch, transfer.

use std::sync::Arc;
use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ClientWriteError, ForwardToLeader, RaftError};
use tandem_proto::config::v1::Command;
use tandem_proto::raft::v1 as pb;
use tokio::sync::{Mutex, watch};

use super::dial::Dial;
use super::level;
use super::raft::{Change, Raft, Types};
use super::roster::Refusal;
use super::standing::{Member, NodeId, Standing};
use super::state::{Outcome, State};
use super::timings::Timings;

/// How long a change may take: several elections long, and short enough for a person.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// Who has not answered for so long does not count.
pub(super) const FRESH: Duration = Duration::from_secs(1);

/// Why a change or a transfer did not happen here.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// Ask the leader.
    #[error("{} leads", .0.name)]
    NotLeader(Member),
    /// Nobody can decide now.
    #[error("no quorum: {0}")]
    NoQuorum(String),
    /// Consensus does not run on this node, and what mends that.
    #[error("consensus does not run on this node: {0}")]
    Fatal(String),
    /// Members are changed one at a time.
    #[error("another change of members is under way; ask again when it is done: tandemctl node ls")]
    Busy,
    /// The members must not be changed so.
    #[error(transparent)]
    Members(#[from] Refusal),
    /// Some member could not apply it.
    #[error("this needs level {needed} on every node; upgrade tandemd, or remove the node: {old}")]
    Old {
        /// The level it needs.
        needed: u32,
        /// Who is below, and why that is thought.
        old: String,
    },
}

/// The handle. Cheap to clone.
#[derive(Clone)]
pub struct Control {
    /// Absent where the store is unfit.
    pub(super) raft: Option<Raft>,
    pub(super) state: watch::Receiver<Arc<State>>,
    pub(super) standing: watch::Receiver<Standing>,
    pub(super) timings: Arc<Timings>,
    /// How it comes to the others.
    pub(super) dial: Dial,
    /// Who this node is.
    pub(super) identity: Arc<pb::Identity>,
    /// Held while members are changed from here.
    pub(super) changing: Arc<Mutex<()>>,
}

impl Control {
    /// Each new state, as it is applied.
    pub fn state(&self) -> watch::Receiver<Arc<State>> {
        self.state.clone()
    }

    /// Where this node stands, at each acknowledged heartbeat.
    pub fn standing(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// How long applying and writing took so far.
    pub fn timings(&self) -> &Timings {
        &self.timings
    }

    /// The state applied last.
    pub fn now(&self) -> Arc<State> {
        Arc::clone(&self.state.borrow())
    }

    /// Who this node is.
    pub fn identity(&self) -> &pb::Identity {
        &self.identity
    }

    /// Where this node stands now.
    pub fn here(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// Puts a command into the log and waits until it is applied here, which is after a majority has it on disk.
    ///
    /// # Errors
    /// `NotLeader` and `NoQuorum` before anything happened or with its fate unknown: ask again with the same request id.
    /// `Old` if some member could not apply it.
    pub async fn propose(&self, mut command: Command) -> Result<Outcome, Error> {
        command.level = level::needed(&command);
        self.all_know(command.level).await?;
        self.write(command).await
    }

    pub(super) async fn write(&self, command: Command) -> Result<Outcome, Error> {
        match tokio::time::timeout(PATIENCE, self.raft()?.client_write(Change(command))).await {
            Ok(Ok(written)) => Ok(written.data),
            Ok(Err(e)) => Err(self.refusal(&e)),
            Err(_) => Err(self.no_quorum()),
        }
    }

    pub(super) fn raft(&self) -> Result<&Raft, Error> {
        self.raft.as_ref().ok_or_else(|| Error::Fatal(self.here().fatal.unwrap_or_default()))
    }

    pub(super) fn refusal(&self, e: &RaftError<Types, ClientWriteError<Types>>) -> Error {
        let forward: &ForwardToLeader<Types> = match e {
            RaftError::Fatal(fatal) => return Error::Fatal(fatal.to_string()),
            RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => forward,
            RaftError::APIError(ClientWriteError::ChangeMembershipError(_)) => return Error::Busy,
            RaftError::APIError(_) => return self.no_quorum(),
        };
        match &forward.leader_node {
            Some(leader) if leader.id != self.here().me => Error::NotLeader(leader.clone()),
            _ => self.no_quorum(),
        }
    }

    /// Says how many voters are heard, and which are missing.
    pub fn no_quorum(&self) -> Error {
        let here = self.here();
        if let Some(why) = here.fatal {
            return Error::Fatal(why);
        }
        let heartbeat = self.raft.as_ref().and_then(|raft| raft.metrics().borrow_watched().heartbeat.clone());
        let total = here.voters.len();
        let name = |id: &NodeId| here.members.get(id).map_or_else(|| format!("node {id}"), |m| m.name.clone());
        let Some(heard) = heartbeat.filter(|_| here.leader == Some(here.me)) else {
            let all: Vec<String> = here.voters.iter().map(name).collect();
            return Error::NoQuorum(format!(
                "no leader is known here; {} of {} must be up and hear each other",
                total / 2 + 1,
                all.join(", ")
            ));
        };
        let fresh = |id: &NodeId| {
            *id == here.me || heard.get(id).and_then(|at| at.as_ref()).is_some_and(|at| at.elapsed() < FRESH)
        };
        let missing: Vec<String> = here.voters.iter().filter(|id| !fresh(id)).map(name).collect();
        let have = total - missing.len();
        Error::NoQuorum(format!(
            "have {have} of {total} voters; need {} more of: {}",
            (total / 2 + 1).saturating_sub(have),
            missing.join(", ")
        ))
    }

    /// Whether this node leads, and may do what only a leader does.
    ///
    /// # Errors
    /// `NotLeader`, `NoQuorum` or `Fatal`.
    pub fn leads(&self) -> Result<(), Error> {
        let here = self.here();
        match here.leader_member() {
            Some(leader) if leader.id != here.me => Err(Error::NotLeader(leader.clone())),
            Some(_) if here.fatal.is_none() => Ok(()),
            _ => Err(self.no_quorum()),
        }
    }

    /// Hands leadership to `to` and waits until it leads, at most `patience`. Bypasses the lease: release addresses first.
    ///
    /// # Errors
    /// `NotLeader` if this node does not lead; `NoQuorum` if `to` does not take over in time.
    pub async fn transfer(&self, to: NodeId, patience: Duration) -> Result<(), Error> {
        self.leads()?;
        self.raft()?.trigger().transfer_leader(to).await.map_err(|e| Error::Fatal(e.to_string()))?;
        let mut standing = self.standing();
        let leads = standing.wait_for(|s| s.leader == Some(to));
        match tokio::time::timeout(patience, leads).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::Fatal("this node is stopping".into())),
            Err(_) => Err(Error::NoQuorum(format!(
                "node {to} did not take over within {} ms; is it up?",
                patience.as_millis()
            ))),
        }
    }

    /// Stops consensus on this node.
    pub async fn stop(&self) {
        if let Some(raft) = &self.raft
            && let Err(e) = raft.shutdown().await
        {
            tracing::warn!("consensus ended badly: {e}");
        }
    }
}
