//! The two gRPC services of the node port that are not consensus: Admin for operators, Peer for the other nodes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tandem_proto::Problems;
use tandem_proto::admin::v1 as pb;
use tandem_proto::admin::v1::peer_client::PeerClient;
use tandem_proto::config::v1::{Backup, Command, Listener};
use tandem_proto::trust::v1 as trust;
use tokio::sync::{Semaphore, watch};
use tonic::{Request, Response, Status};

use crate::config::model::Config;
use crate::control::state::Outcome;
use crate::control::{Control, Dial, Error, Line, Member, Role, level_said, ranked};
use crate::logs::Levels;
use crate::proxy;
use crate::secrets::Secrets;
use crate::vip::Keeper;

use super::caller::Caller;
use super::leaving::Leaving;
use super::past;
use super::peers::Peers;
use super::report::report;
use super::rights::{Needs, check, may_certify};
use super::sealing::{plain_keys, seal};
use super::signing::Desk;
use super::stamp::{actor, stamp, unix_ms, unix_s, wordy};
use super::status::{self, Gathered};

/// How long the new holder gets to take over in a move, before the old one takes the address back.
const MOVE_PATIENCE: Duration = Duration::from_secs(1);
/// A command holds a whole document at most.
const MAX_MESSAGE: usize = 16 << 20;

/// Who this node is to an operator.
#[derive(Debug, Clone)]
pub struct Who {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of this node.
    pub name: String,
    /// What it logs.
    pub levels: Levels,
    /// Where its store is.
    pub data_dir: PathBuf,
    /// What opens the keys of certificates; absent on a witness, and where nobody needs them.
    pub secrets: Option<Arc<Secrets>>,
    /// How it comes to the others.
    pub dial: Dial,
    /// Its timers, as node.toml calls them.
    pub timers: String,
    /// Its certificates; absent where the node port authenticates nobody.
    pub desk: Option<Arc<Desk>>,
}

/// The rooms below, once they run.
pub struct Rooms {
    /// Consensus.
    pub control: Control,
    /// The lease length.
    pub lease: Duration,
    /// Absent on a witness.
    pub plane: Option<Plane>,
}

/// What a proxy has and a witness has not.
#[derive(Clone)]
pub struct Plane {
    /// The data plane.
    pub proxy: proxy::Handle,
    /// The keeper of the virtual addresses.
    pub keeper: Keeper,
}

/// The services. Until [`Admin::open`] they answer UNAVAILABLE.
#[derive(Clone)]
pub struct Admin {
    shared: Arc<Shared>,
}

struct Shared {
    who: Who,
    started: Instant,
    rooms: OnceLock<Rooms>,
    peers: Peers,
    leaving: watch::Sender<Leaving>,
    watchers: Arc<Semaphore>,
}

impl Admin {
    /// Services of a node that is still starting.
    pub fn new(who: Who) -> Self {
        let (rooms, peers, leaving) = (OnceLock::new(), Peers::new(who.dial.clone()), watch::Sender::default());
        let watchers = Arc::new(Semaphore::new(past::WATCHERS));
        let shared = Shared { who, started: Instant::now(), rooms, peers, leaving, watchers };
        Self { shared: Arc::new(shared) }
    }

    /// From now on they answer.
    pub fn open(&self, rooms: Rooms) {
        // A node opens once in its life.
        let _ = self.shared.rooms.set(rooms);
    }

    /// Adds the services to a gRPC router.
    pub fn serve(&self, mut router: tonic::service::RoutesBuilder) -> tonic::service::RoutesBuilder {
        let admin = pb::admin_server::AdminServer::new(self.clone());
        router.add_service(admin.max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE));
        router.add_service(pb::peer_server::PeerServer::new(self.clone()));
        router
    }

    /// Where this node's store is.
    pub(super) fn data_dir(&self) -> &Path {
        &self.shared.who.data_dir
    }

    pub(super) fn rooms(&self) -> Result<&Rooms, Status> {
        let starting = || Status::unavailable(format!("{} is starting: it waits for its peers", self.shared.who.name));
        self.shared.rooms.get().ok_or_else(starting)
    }

    pub(super) fn who(&self) -> &Who {
        &self.shared.who
    }

    /// Where its certificates are.
    pub(super) fn desk(&self) -> Option<&Desk> {
        self.shared.who.desk.as_deref()
    }

    /// Whether this node leaves.
    pub(super) fn leaving(&self) -> &watch::Sender<Leaving> {
        &self.shared.leaving
    }

    pub(super) fn peers(&self) -> &Peers {
        &self.shared.peers
    }

    fn report(&self, rooms: &Rooms, ask: &pb::ReportRequest) -> pb::NodeReport {
        report(&self.shared.who, self.shared.started, *self.leaving().borrow(), rooms, ask)
    }

    /// The other proxies that answer now, the one with the longest log first.
    pub(super) async fn standbys(&self, rooms: &Rooms) -> Vec<Member> {
        let candidates = ranked(&rooms.control);
        let answers =
            self.shared.peers.ask(&candidates, |mut c| async move { c.report(pb::ReportRequest::brief()).await }).await;
        let fit = |(m, answer): (Member, Result<pb::NodeReport, Status>)| answer.is_ok_and(|r| r.is_fit()).then_some(m);
        candidates.into_iter().zip(answers).filter_map(fit).collect()
    }

    /// Release here → transfer → the other claims. The addresses are nobody's in between, about 10 ms.
    pub(super) async fn move_to(&self, rooms: &Rooms, to: &Member) -> Result<Duration, Status> {
        let start = Instant::now();
        if let Some(plane) = &rooms.plane {
            // While it may still be here nobody else may claim it, and a transfer does not wait for the lease.
            plane.keeper.release(MOVE_PATIENCE).await.map_err(|e| Status::unavailable(e.to_string()))?;
        }
        // Its fate is unknown: asking again could move the address back.
        let unsure = |e: Error| Status::aborted(format!("{}: {e}", self.shared.who.name));
        rooms.control.transfer(to.id, MOVE_PATIENCE).await.map_err(unsure)?;
        Ok(start.elapsed())
    }

    fn set_levels_here(&self, set: &pb::SetLevelsRequest) -> Result<pb::SetLevelsReply, Status> {
        let ours = &self.shared.who.levels;
        if !set.levels.is_empty() {
            ours.set(&set.levels).map_err(Status::invalid_argument)?;
            tracing::info!(levels = %set.levels, "log levels changed");
        }
        Ok(pb::SetLevelsReply { levels: ours.now() })
    }

    /// The leader, or where to find it.
    pub(super) fn as_leader(&self) -> Result<&Rooms, Status> {
        let rooms = self.rooms()?;
        rooms.control.leads().map_err(|e| self.refusal(&e))?;
        Ok(rooms)
    }

    pub(super) fn refusal(&self, e: &Error) -> Status {
        match e {
            Error::NotLeader(leader) => {
                let mut status = Status::failed_precondition(e.to_string());
                if let Ok(address) = leader.address.parse() {
                    status.metadata_mut().insert("tandem-leader", address);
                }
                status
            }
            Error::NoQuorum(_) | Error::Fatal(_) | Error::Busy => {
                Status::unavailable(format!("{}: {e}", self.shared.who.name))
            }
            Error::Members(_) | Error::Old { .. } => Status::invalid_argument(e.to_string()),
        }
    }

    /// Every member with what it says of itself, as `ask` asks it.
    pub(super) async fn gather(&self, rooms: &Rooms, ask: &pb::ReportRequest) -> Vec<pb::NodeStatus> {
        let here = rooms.control.here();
        let mut members: Vec<Member> = here.members.values().cloned().collect();
        if !here.members.contains_key(&here.me) {
            // It was removed, or knows nobody yet: what it has to say of itself is to be seen all the same.
            let name = rooms.control.identity().name.clone();
            members.push(Member { id: here.me, name, ..Member::default() });
        }
        let others: Vec<Member> = members.iter().filter(|m| m.id != here.me).cloned().collect();
        let question = |mut c: PeerClient<Line>| {
            let ask = ask.clone();
            async move { c.report(ask).await }
        };
        let answers = self.shared.peers.ask(&others, question).await;
        let mut reports: BTreeMap<u64, pb::NodeReport> =
            others.iter().zip(answers).filter_map(|(m, answer)| Some((m.id, answer.ok()?))).collect();
        // One that is older than this question tells everything.
        for report in reports.values_mut() {
            report.count();
            report.keep(ask);
        }
        reports.insert(here.me, self.report(rooms, ask));
        let mut status = |m: &Member| {
            let report = reports.remove(&m.id);
            pb::NodeStatus {
                member: Some(m.into()),
                reachable: report.is_some(),
                voter: here.voters.contains(&m.id),
                report,
                lagging: false,
            }
        };
        members.iter().map(&mut status).collect()
    }

    /// Asks every proxy whether it could listen there. Nothing is changed yet.
    pub(super) async fn try_listeners(&self, rooms: &Rooms, new: &[Listener]) -> (Problems, Vec<String>) {
        let here = rooms.control.here();
        let proxies: Vec<Member> =
            here.members.values().filter(|m| m.role == Role::Proxy && m.id != here.me).cloned().collect();
        let ask = pb::TryBindRequest { listeners: new.to_vec() };
        let answers = self.shared.peers.ask(&proxies, |mut c| {
            let ask = ask.clone();
            async move { c.try_bind(ask).await }
        });
        let mut problems = Problems::from(self.try_here(rooms, new));
        let mut notes = Vec::new();
        for (m, answer) in proxies.iter().zip(answers.await) {
            match answer {
                Ok(reply) => problems.append(reply.problems.into()),
                Err(e) => {
                    notes.push(format!("{} could not be asked whether it can listen there: {}", m.name, e.message()))
                }
            }
        }
        (problems, notes)
    }

    fn try_here(&self, rooms: &Rooms, new: &[Listener]) -> Vec<tandem_proto::config::v1::Problem> {
        let mut problems = Problems::default();
        let Some(plane) = &rooms.plane else { return problems.into_vec() };
        for l in new {
            let Ok(address) = l.address.parse() else { continue };
            if let Err(e) = plane.proxy.try_bind(address) {
                let why = format!("cannot be listened on by node {}: {e}", self.shared.who.name);
                problems.add(
                    format!("listeners.{}.address", l.name),
                    address,
                    why,
                    "free the port there, or choose another",
                );
            }
        }
        problems.into_vec()
    }
}

/// Listeners that `next` brings and that can be tried now: one on a virtual address cannot, before it is here.
pub(super) fn new_listeners(now: &Config, next: &Config) -> Vec<Listener> {
    let same = |address| now.listeners.values().any(|l| l.address == address);
    let on_vip = |ip| next.vips.values().any(|v| v.address == ip);
    let fresh = next.listeners.iter().filter(|(_, l)| !same(l.address) && !on_vip(l.address.ip()));
    fresh
        .map(|(name, l)| Listener { name: name.to_string(), address: l.address.to_string(), ..Default::default() })
        .collect()
}

pub(super) fn refused(problems: Problems, revision: u64) -> pb::ChangeReply {
    let refused = pb::change_reply::Refused { problems: problems.into_vec(), revision };
    pb::ChangeReply { outcome: Some(pb::change_reply::Outcome::Refused(refused)) }
}

#[tonic::async_trait]
impl pb::admin_server::Admin for Admin {
    async fn status(&self, ask: Request<pb::StatusRequest>) -> Result<Response<pb::StatusReply>, Status> {
        let rooms = self.rooms()?;
        let mut nodes = self.gather(rooms, &ask.into_inner().reports.unwrap_or_default()).await;
        let (state, now_ms) = (rooms.control.now(), unix_ms());
        let revision = nodes.iter().filter_map(|n| n.report.as_ref()).map(|r| r.revision).max().unwrap_or(0);
        status::tell_lagging(&mut nodes, now_ms);
        let g = Gathered { nodes: &nodes, config: &state.config, revision, now_s: unix_s() };
        let here = rooms.control.here();
        let leading = status::leading(&nodes);
        let leader = leading.and_then(|l| nodes.iter().find(|n| n.member.as_ref().is_some_and(|m| m.name == l.name)));
        Ok(Response::new(pb::StatusReply {
            cluster: self.shared.who.cluster.clone(),
            revision,
            leader: leader.and_then(|n| n.member.as_ref()).map_or(0, |m| m.id),
            term: leading.map_or(here.term, |l| l.term),
            quorum: leading.is_some(),
            vips: status::vips(&g),
            warnings: status::warnings(&g),
            next_failure: status::next_failure(&g),
            answered_by: self.shared.who.name.clone(),
            level: level_said(state.level),
            nodes,
        }))
    }

    async fn get_config(&self, ask: Request<pb::GetConfigRequest>) -> Result<Response<pb::GetConfigReply>, Status> {
        past::config(&self.rooms()?.control.now(), ask.get_ref()).map(Response::new)
    }

    async fn history(&self, ask: Request<pb::HistoryRequest>) -> Result<Response<pb::HistoryReply>, Status> {
        Ok(Response::new(past::history(&self.rooms()?.control.now(), ask.get_ref())))
    }

    type WatchStream = past::Revisions;

    async fn watch(&self, ask: Request<pb::WatchRequest>) -> Result<Response<past::Revisions>, Status> {
        let rooms = self.rooms()?;
        let Ok(leave) = Arc::clone(&self.shared.watchers).try_acquire_owned() else {
            let why = format!("{} has its {} watchers; watch another node", self.shared.who.name, past::WATCHERS);
            return Err(Status::resource_exhausted(why));
        };
        Ok(Response::new(past::watch(&rooms.control, ask.get_ref().after, leave)))
    }

    async fn backup(&self, _: Request<pb::BackupRequest>) -> Result<Response<Backup>, Status> {
        Ok(Response::new(past::backup(&self.shared.who.cluster, &self.rooms()?.control.now())))
    }

    async fn plan(&self, request: Request<Command>) -> Result<Response<pb::PlanReply>, Status> {
        let rooms = self.as_leader()?;
        Ok(Response::new(self.planned(rooms, &stamp(request)).await))
    }

    async fn change(&self, request: Request<Command>) -> Result<Response<pb::ChangeReply>, Status> {
        let rooms = self.as_leader()?;
        let caller = request.extensions().get::<Caller>().cloned();
        if request.get_ref().restore.is_some() {
            check(caller.as_ref(), "restore, which replaces the history too", Needs::Admin)?;
        }
        let command = stamp(request);
        let state = rooms.control.now();
        let mut screened = plain_keys(&command);
        screened.append(wordy(&command));
        if !screened.is_empty() {
            return Ok(Response::new(refused(screened, state.revision)));
        }
        let mut notes = Vec::new();
        let planned = state.plan(&command);
        let certifies = match &planned {
            Ok(next) => next.certificates != state.config.certificates,
            Err(_) => may_certify(&state, &command),
        };
        if certifies {
            check(caller.as_ref(), "a change of certificates", Needs::Admin)?;
        }
        // One that cannot be planned is refused: saying why is apply's part.
        if let Ok(next) = planned {
            let (problems, more) = self.try_new(rooms, &state.config, &next).await;
            if !problems.is_empty() {
                return Ok(Response::new(refused(problems, state.revision)));
            }
            notes = more;
        }
        match rooms.control.propose(command).await {
            Ok(Outcome::Done { revision }) => {
                let done = pb::change_reply::Done { revision, notes };
                Ok(Response::new(pb::ChangeReply { outcome: Some(pb::change_reply::Outcome::Done(done)) }))
            }
            Ok(Outcome::Admitted { .. }) => Err(Status::internal("a change admitted a node")),
            Ok(Outcome::Refused { problems, revision }) => Ok(Response::new(refused(problems, revision))),
            Err(e) => Err(self.refusal(&e)),
        }
    }

    async fn create_token(
        &self,
        request: Request<trust::CreateTokenRequest>,
    ) -> Result<Response<trust::CreateTokenReply>, Status> {
        let actor = actor(&request, &request.get_ref().actor);
        self.new_token(trust::CreateTokenRequest { actor, ..request.into_inner() }).await.map(Response::new)
    }

    async fn tokens(&self, _: Request<trust::TokensRequest>) -> Result<Response<trust::TokensReply>, Status> {
        self.known_tokens().map(Response::new)
    }

    async fn remove_token(
        &self,
        request: Request<trust::RemoveTokenRequest>,
    ) -> Result<Response<trust::RemoveTokenReply>, Status> {
        let actor = actor(&request, &request.get_ref().actor);
        self.drop_token(trust::RemoveTokenRequest { actor, ..request.into_inner() }).await.map(Response::new)
    }

    async fn authorities(
        &self,
        _: Request<trust::AuthoritiesRequest>,
    ) -> Result<Response<trust::AuthoritiesReply>, Status> {
        self.known_authorities().await.map(Response::new)
    }

    async fn rotate_authority(
        &self,
        request: Request<trust::RotateRequest>,
    ) -> Result<Response<trust::RotateReply>, Status> {
        self.rotate(actor(&request, &request.get_ref().actor)).await.map(Response::new)
    }

    async fn retire_authority(
        &self,
        request: Request<trust::RetireRequest>,
    ) -> Result<Response<trust::RetireReply>, Status> {
        self.retire(actor(&request, &request.get_ref().actor)).await.map(Response::new)
    }

    async fn seal(&self, request: Request<pb::SealRequest>) -> Result<Response<pb::SealReply>, Status> {
        seal(&self.shared.who.name, self.shared.who.secrets.as_deref(), request).map(Response::new)
    }

    async fn move_vip(&self, request: Request<pb::MoveVipRequest>) -> Result<Response<pb::MoveVipReply>, Status> {
        let rooms = self.as_leader()?;
        let ask = request.into_inner();
        let vips = &rooms.control.now().config.vips;
        if !ask.name.is_empty() && !vips.contains_key(ask.name.as_str()) {
            return Err(Status::invalid_argument(format!(
                "no virtual IP is called {:?}; see: tandemctl vip ls",
                ask.name
            )));
        }
        if vips.is_empty() {
            return Err(Status::invalid_argument("there is no virtual IP; add one: tandemctl vip add NAME ADDRESS"));
        }
        if ask.to == self.shared.who.name {
            return Err(Status::invalid_argument(format!("{} holds it already", ask.to)));
        }
        let standbys = self.standbys(rooms).await;
        let chosen = standbys.iter().find(|m| ask.to.is_empty() || m.name == ask.to);
        let Some(to) = chosen else {
            let fit: Vec<&str> = standbys.iter().map(|m| m.name.as_str()).collect();
            let known = if fit.is_empty() {
                "no other proxy answers".to_owned()
            } else {
                format!("it could go to: {}", fit.join(", "))
            };
            let whom =
                if ask.to.is_empty() { "nobody can take it".to_owned() } else { format!("{} cannot take it", ask.to) };
            return Err(Status::invalid_argument(format!("{whom}; {known}")));
        };
        let took = self.move_to(rooms, to).await?;
        Ok(Response::new(pb::MoveVipReply {
            from: self.shared.who.name.clone(),
            to: to.name.clone(),
            took_ms: u32::try_from(took.as_millis()).unwrap_or(u32::MAX),
        }))
    }

    async fn levels(&self, request: Request<pb::LevelsRequest>) -> Result<Response<pb::LevelsReply>, Status> {
        let rooms = self.rooms()?;
        let pb::LevelsRequest { levels, node } = request.into_inner();
        let here = rooms.control.here();
        let asked: Vec<Member> = here.members.values().filter(|m| node.is_empty() || m.name == node).cloned().collect();
        if asked.is_empty() {
            let known: Vec<&str> = here.members.values().map(|m| m.name.as_str()).collect();
            return Err(Status::invalid_argument(format!("no node is called {node:?}; known: {}", known.join(", "))));
        }
        if !levels.is_empty() {
            crate::logs::check(&levels).map_err(Status::invalid_argument)?;
        }
        let set = pb::SetLevelsRequest { levels };
        let others: Vec<Member> = asked.iter().filter(|m| m.id != here.me).cloned().collect();
        let answers = self.shared.peers.ask(&others, |mut c| {
            let set = set.clone();
            async move { c.set_levels(set).await }
        });
        let mut nodes: Vec<pb::NodeLevels> = others
            .iter()
            .zip(answers.await)
            .map(|(m, answer)| {
                let (levels, error) = match answer {
                    Ok(reply) => (reply.levels, String::new()),
                    Err(e) => (String::new(), e.message().to_owned()),
                };
                pb::NodeLevels { name: m.name.clone(), levels, error }
            })
            .collect();
        if let Some(me) = asked.iter().find(|m| m.id == here.me) {
            let reply = self.set_levels_here(&set)?;
            nodes.push(pb::NodeLevels { name: me.name.clone(), levels: reply.levels, error: String::new() });
        }
        nodes.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Response::new(pb::LevelsReply { nodes }))
    }

    async fn drain(&self, request: Request<pb::DrainRequest>) -> Result<Response<pb::DrainReply>, Status> {
        self.drain_anywhere(self.rooms()?, request.into_inner()).await.map(Response::new)
    }

    async fn set_member(&self, request: Request<pb::SetMemberRequest>) -> Result<Response<pb::SetMemberReply>, Status> {
        Self::set_member(self, request.into_inner()).await.map(Response::new)
    }
}

#[tonic::async_trait]
impl pb::peer_server::Peer for Admin {
    async fn set_levels(&self, request: Request<pb::SetLevelsRequest>) -> Result<Response<pb::SetLevelsReply>, Status> {
        self.set_levels_here(&request.into_inner()).map(Response::new)
    }

    async fn renew(&self, request: Request<trust::RenewRequest>) -> Result<Response<trust::RenewReply>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        self.renew_for(caller.as_ref(), &request.into_inner()).map(Response::new)
    }

    async fn drain_here(&self, request: Request<pb::DrainRequest>) -> Result<Response<pb::DrainReply>, Status> {
        Self::drain_here(self, &request.into_inner()).map(Response::new)
    }

    async fn report(&self, ask: Request<pb::ReportRequest>) -> Result<Response<pb::NodeReport>, Status> {
        Ok(Response::new(self.report(self.rooms()?, ask.get_ref())))
    }

    async fn try_bind(&self, request: Request<pb::TryBindRequest>) -> Result<Response<pb::TryBindReply>, Status> {
        let problems = self.try_here(self.rooms()?, &request.into_inner().listeners);
        Ok(Response::new(pb::TryBindReply { problems }))
    }
}
