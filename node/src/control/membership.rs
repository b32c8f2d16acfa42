//! How consensus starts on this node, once it knows who it is.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use openraft::async_runtime::WatchReceiver;
use openraft::{Config, Instant as _, ServerState, SnapshotPolicy, TokioInstant};
use tandem_proto::millis;
use tandem_proto::raft::v1 as pb;
use tokio::sync::watch;

use super::clock;
use super::compaction::Compaction;
use super::dial::Dial;
use super::formation::{self, Founding, Start};
use super::handed::Handed;
use super::handle::Control;
use super::machine::Machine;
use super::network::Network;
use super::raft::{Raft, Types};
use super::receiving;
use super::recent;
use super::seal::Seal;
use super::standing::{Member, NodeId, Role, Standing};
use super::state::State;
use super::steward;
use super::store::Store;
use super::succession;
use super::timers::Timers;
use super::watchman::{self, Halt, Halted};
use super::welcome;
use super::wire;

/// Why consensus does not run here.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This node must not take part.
    #[error(transparent)]
    Formation(#[from] formation::Error),
    /// openraft did not start.
    #[error("consensus does not start: {0}")]
    Raft(String),
}

/// The services of the node port that belong to consensus. Serve them before [`Doors::enter`]: forming needs them.
#[derive(Clone)]
pub struct Doors {
    founding: Founding,
    timers: Timers,
    compaction: Compaction,
    store: Store,
    dial: Dial,
    raft: receiving::Service,
    running: Arc<OnceLock<Control>>,
}

impl Doors {
    /// Doors to a node that was told `founding`, remembers `store`, and comes to the others by `dial`.
    pub fn new(founding: Founding, timers: Timers, store: Store, dial: Dial) -> Self {
        let (compaction, raft) = (Compaction::DEFAULT, receiving::Service::default());
        Self { founding, timers, compaction, store, dial, raft, running: Arc::default() }
    }

    /// The same with another compaction of the log.
    #[must_use]
    pub fn compacting(self, compaction: Compaction) -> Self {
        Self { compaction, ..self }
    }

    /// Adds the services to a gRPC router.
    pub fn serve(&self, router: tonic::service::RoutesBuilder) -> tonic::service::RoutesBuilder {
        let mut router = router;
        let formation = welcome::Service {
            founding: self.founding.clone(),
            store: self.store.clone(),
            running: Arc::clone(&self.running),
        };
        router.add_service(self.raft.clone().server());
        router.add_service(pb::formation_server::FormationServer::new(formation));
        router
    }

    /// Forms or re-enters the cluster; returns when consensus runs on this node (which may be before there is a leader).
    ///
    /// # Errors
    /// If this node must not take part, or its store is unusable.
    pub async fn enter(self) -> Result<Control, Error> {
        if let Some(why) = self.store.unfit() {
            return self.look_on(why);
        }
        let returning = self.store.formed();
        let (identity, start) = formation::form(&self.founding, &self.dial, &self.store).await?;
        if returning {
            // A restart forgets the lease that this node granted by acknowledging a heartbeat: sit it out, or the address
            // could be claimed by a new leader while the old one still holds it.
            tokio::time::sleep(self.timers.lease).await;
        }
        let seal = Seal {
            cluster_id: identity.cluster_id.clone(),
            epoch: identity.epoch,
            me: identity.node,
            lease: self.timers.lease,
        };
        let (publish, state) = watch::channel(Arc::new(State::default()));
        let machine = Machine::restored(self.store.clone(), publish).map_err(|e| Error::Raft(e.to_string()))?;
        let config = config(&self.founding.cluster, self.timers, self.compaction).map_err(Error::Raft)?;
        let network = Network { seal: seal.clone(), dial: self.dial.clone() };
        let raft = Raft::new(identity.node, config, network, self.store.clone(), machine)
            .await
            .map_err(|e| Error::Raft(e.to_string()))?;
        let halt = Halt::default();
        let handed = Handed::default();
        let standing = publish_standing(&raft, self.store.clone(), handed.clone(), halt.watch());
        let me = Arc::new(identity.clone());
        self.raft.start(receiving::Running {
            raft: raft.clone(),
            seal,
            state: state.clone(),
            halt: halt.clone(),
            handed,
        });
        if start == Start::Initialize {
            let founders: BTreeMap<NodeId, Member> =
                identity.founders.into_iter().map(|m| (m.id, wire::member_in(m))).collect();
            let nodes = founders.len();
            raft.initialize(founders).await.map_err(|e| Error::Raft(e.to_string()))?;
            tracing::info!(cluster = %self.founding.cluster, nodes, "the cluster is formed");
        }
        tokio::spawn(recent::keep(raft.clone()));
        let timings = self.store.timings();
        let control = Control {
            raft: Some(raft),
            state,
            standing,
            timings,
            dial: self.dial,
            identity: me,
            changing: Arc::default(),
        };
        if self.founding.role == Role::Witness {
            tokio::spawn(succession::hand_on(control.clone()));
        }
        tokio::spawn(steward::attend(control.clone()));
        tokio::spawn(end_when_halted(control.clone(), halt.watch()));
        tokio::spawn(watchman::ask(control.clone(), halt));
        // A node enters once in its life.
        let _ = self.running.set(control.clone());
        Ok(control)
    }

    /// A node with an unfit store takes no part: its traffic is served by the newest whole snapshot, and everybody is told.
    fn look_on(self, why: String) -> Result<Control, Error> {
        let identity = self.store.identity().unwrap_or_default();
        if !identity.name.is_empty() {
            self.founding.check_owner(&identity)?;
        }
        let (publish, state) = watch::channel(Arc::new(State::default()));
        let machine = Machine::restored(self.store.clone(), publish).map_err(|e| Error::Raft(e.to_string()))?;
        tracing::error!(
            revision = state.borrow().revision,
            "this node does not vote, and serves what its newest snapshot says: {why}"
        );
        self.raft.refuse(format!("{} does not vote: {why}", self.founding.name));
        let standing = Standing {
            me: identity.node,
            members: Arc::new(machine.members()),
            fatal: Some(why),
            ..Standing::default()
        };
        let (said, standing) = watch::channel(standing);
        tokio::spawn(async move {
            // Nothing new will come, and those who watch must not take that for the end of the node.
            let _open = (machine, said);
            std::future::pending::<()>().await;
        });
        let (dial, identity) = (self.dial, Arc::new(identity));
        Ok(Control {
            raft: None,
            state,
            standing,
            timings: self.store.timings(),
            dial,
            identity,
            changing: Arc::default(),
        })
    }
}

fn config(cluster: &str, timers: Timers, compaction: Compaction) -> Result<Arc<Config>, String> {
    let config = Config {
        cluster_name: cluster.to_owned(),
        heartbeat_interval: millis(timers.heartbeat),
        election_timeout_min: millis(timers.election_min),
        election_timeout_max: millis(timers.lease),
        max_payload_entries: 64,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(compaction.every),
        max_in_snapshot_log_to_keep: compaction.keep,
        // A returning peer is caught up soon; the default begins at 200 ms.
        backoff: "50ms 100ms 200ms 500ms".to_owned(),
        api_channel_size: Some(1024),
        notification_channel_size: Some(1024),
        state_machine_channel_size: Some(1024),
        enable_pre_vote: Some(true),
        // A restarted leader must win an election: its old lease is nobody's.
        enable_leader_restore: Some(false),
        ..Config::default()
    };
    config.validate().map(Arc::new).map_err(|e| e.to_string())
}

/// Consensus ends on a node that must not take part; what else it does goes on.
async fn end_when_halted(control: Control, mut halted: watch::Receiver<Option<Halted>>) {
    let mut standing = control.standing();
    tokio::select! {
        _ = halted.wait_for(Option::is_some) => {}
        // It ends by itself, or because of that.
        _ = standing.wait_for(|s| s.fatal.is_some()) => {}
    }
    let must = halted.borrow().is_some();
    if must {
        control.stop().await;
    }
}

/// openraft's metrics as [`Standing`], one for each change.
fn publish_standing(
    raft: &Raft,
    store: Store,
    handed: Handed,
    mut halted: watch::Receiver<Option<Halted>>,
) -> watch::Receiver<Standing> {
    let mut metrics = raft.metrics();
    let (publish, standing) = watch::channel(look(&metrics.borrow_watched().clone(), &store, &handed));
    tokio::spawn(async move {
        loop {
            let ended = tokio::select! {
                changed = metrics.changed() => changed.is_err(),
                _ = halted.changed() => false,
            };
            let mut now = look(&metrics.borrow_watched().clone(), &store, &handed);
            if let Some(halted) = halted.borrow().clone() {
                (now.fatal, now.removed) = (Some(halted.why), halted.removed);
            }
            publish.send_replace(now);
            if ended {
                return;
            }
        }
    });
    standing
}

fn look(m: &openraft::RaftMetrics<Types>, store: &Store, handed: &Handed) -> Standing {
    let leads = m.state == ServerState::Leader && m.vote.committed;
    let membership = m.membership_config.membership();
    Standing {
        me: m.id,
        term: m.current_term,
        leader: m.current_leader,
        quorum_acked: m.last_quorum_acked.as_ref().filter(|_| leads).and_then(|at| std_instant(at)),
        // The first entry of a term is the leader's own: once that is applied, all before it is.
        caught_up: leads && m.last_applied.as_ref().is_some_and(|id| id.leader_id == m.vote.leader_id),
        // A witness hands over at once, and not because whoever held before has let go.
        handed_over: handed
            .led_to(m.current_term)
            .and_then(|from| membership.get_node(&from))
            .is_some_and(|from| leads && from.role == Role::Proxy),
        applied: m.last_applied.as_ref().map_or(0, |id| id.index),
        members: Arc::new(membership.nodes().map(|(id, node)| (*id, node.clone())).collect()),
        voters: Arc::new(membership.voter_ids().collect()),
        // The store knows what mends it; openraft only that a write failed.
        fatal: m.running_state.as_ref().err().map(|e| store.unfit().unwrap_or_else(|| format!("{e}; restart tandemd"))),
        removed: false,
    }
}

/// openraft keeps its instants closed. Our clock is read before its age, so the result errs to the past: a shorter lease.
fn std_instant(at: &TokioInstant) -> Option<Instant> {
    let now = clock::now();
    now.checked_sub(at.elapsed())
}
