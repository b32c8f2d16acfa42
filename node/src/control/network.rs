//! Carries Raft messages: one channel per peer out, one service in, and a check of who speaks for which cluster.

use std::future::Future;
use std::io::Cursor;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::{AnyError, OptionalSend, RaftNetworkFactory};
use tandem_proto::papers::{self, Current, Expect};
use tandem_proto::raft::v1 as pb;
use tandem_proto::raft::v1::raft_client::RaftClient;
use tokio::sync::watch;
use tokio_stream::StreamExt as _;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};
use tower::BoxError;
use tower::ServiceExt as _;
use tower::util::BoxCloneSyncService;

use super::raft::{Raft, Snapshot, SnapshotData, Types, Vote};
use super::standing::{Member, NodeId, Role};
use super::state::State;
use super::watchman::{Halt, Halted};
use super::wire;

/// A message holds a few hundred config edits at most; a snapshot comes in chunks.
const MAX_MESSAGE: usize = 16 << 20;
const CHUNK: usize = 1 << 20;

/// Which cluster we speak for: on every message, checked by every receiver.
#[derive(Debug, Clone)]
pub(super) struct Seal {
    pub(super) cluster_id: Vec<u8>,
    pub(super) epoch: u64,
    pub(super) me: NodeId,
    pub(super) lease: Duration,
}

impl Seal {
    fn lease_ms(&self) -> u32 {
        u32::try_from(self.lease.as_millis()).unwrap_or(u32::MAX)
    }

    fn envelope(&self, to: NodeId) -> pb::Envelope {
        pb::Envelope {
            cluster_id: self.cluster_id.clone(),
            epoch: self.epoch,
            from: self.me,
            to,
            lease_ms: self.lease_ms(),
        }
    }

    /// A stranger's message is refused before consensus sees it.
    fn check(&self, envelope: Option<&pb::Envelope>) -> Result<(), Status> {
        let e = envelope.ok_or_else(|| Status::invalid_argument("no envelope"))?;
        let refuse = |why: String| Err(Status::failed_precondition(why));
        if e.cluster_id != self.cluster_id {
            return refuse(format!("node {} speaks for another cluster; look at [peers] in its node.toml", e.from));
        }
        if e.epoch != self.epoch {
            return refuse(format!(
                "node {} is of epoch {}, this one of {}: a survivor formed the cluster anew (force-quorum). The older one comes back so: \
                 stop tandemd, empty data_dir, start it, and from the newer one: tandemctl node add NAME --address HOST:PORT",
                e.from, e.epoch, self.epoch
            ));
        }
        if e.to != self.me {
            return refuse(format!("this is node {}, not {}; look at the addresses in [peers]", self.me, e.to));
        }
        if e.lease_ms != self.lease_ms() {
            let (theirs, ours) = (e.lease_ms, self.lease_ms());
            return refuse(format!(
                "node {} has a lease of {theirs} ms, this one {ours} ms; set the same control.timers on all nodes",
                e.from
            ));
        }
        Ok(())
    }
}

/// The way to a node port: connects when first used, again after each loss, and notices a silent peer.
///
/// # Errors
/// An address that is none.
fn channel(address: &str) -> Result<Channel, tonic::transport::Error> {
    Ok(port(address)?.connect_timeout(Duration::from_millis(250)).connect_lazy())
}

fn port(address: &str) -> Result<Endpoint, tonic::transport::Error> {
    Ok(papers::endpoint(address)?
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(1))
        .keep_alive_timeout(Duration::from_secs(1))
        .keep_alive_while_idle(true))
}

/// Over TLS, and nobody but this member may answer; one without a number is whoever is a node at its address.
fn secured(member: &Member, papers: Current) -> Result<Channel, tonic::transport::Error> {
    let who = match member.role {
        Role::Proxy => papers::Who::Node(member.id),
        Role::Witness => papers::Who::Witness(member.id),
    };
    let expect = if member.id == 0 { Expect::AnyNode } else { Expect::Exactly(who) };
    // A handshake is a few milliseconds of work at both ends, and a machine may be busy.
    let port = port(&member.address)?.connect_timeout(Duration::from_secs(1));
    Ok(papers::channel(&port, papers, expect))
}

/// A way to one node port: a gRPC request in, its reply out, and again after each loss.
pub type Line = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, Status>;

type Dialled = Result<Line, BoxError>;

/// How this node comes to a line to another; a simulation brings its own network.
#[derive(Clone)]
pub struct Dial(Arc<dyn Fn(&Member) -> Dialled + Send + Sync>);

impl Dial {
    /// Lines are what `dial` makes of an address.
    pub fn by(dial: impl Fn(&str) -> Dialled + Send + Sync + 'static) -> Self {
        Self(Arc::new(move |member| dial(&member.address)))
    }

    /// Over TCP, see [`channel`].
    pub fn tcp() -> Self {
        Self::by(|address| Ok(line(channel(address)?)))
    }

    /// Over TLS: each side shows the papers of the moment, and knows the other by them.
    pub fn secured(papers: Current) -> Self {
        Self(Arc::new(move |member| Ok(line(secured(member, papers.clone())?))))
    }

    /// To whatever node is there.
    pub(super) fn line(&self, address: &str) -> Dialled {
        self.to(&Member { address: address.to_owned(), ..Member::default() })
    }

    /// To this member.
    ///
    /// # Errors
    /// An address that is none.
    pub fn to(&self, member: &Member) -> Dialled {
        (self.0)(member)
    }
}

impl std::fmt::Debug for Dial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dial")
    }
}

fn line(channel: Channel) -> Line {
    Line::new(channel.map_err(|e| Status::from_error(e.into())))
}

/// Makes a connection per peer for openraft.
pub(super) struct Network {
    pub(super) seal: Seal,
    pub(super) dial: Dial,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, id: NodeId, member: &Member) -> Peer {
        Peer {
            id,
            seal: self.seal.clone(),
            // An address that is none was refused long before; a peer that cannot be dialled is a peer that is away.
            client: self.dial.to(member).ok().map(|c| {
                RaftClient::new(c).max_decoding_message_size(MAX_MESSAGE).max_encoding_message_size(MAX_MESSAGE)
            }),
            refusals: Refusals::default(),
        }
    }
}

/// The way to one peer.
pub(super) struct Peer {
    id: NodeId,
    seal: Seal,
    client: Option<RaftClient<Line>>,
    refusals: Refusals,
}

/// A peer that refuses us does so twenty times a second: each reason is said once.
#[derive(Default)]
struct Refusals(Arc<Mutex<String>>);

impl Refusals {
    fn say(&self, peer: NodeId, status: &Status) {
        if status.code() != tonic::Code::FailedPrecondition {
            return;
        }
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != status.message() {
            status.message().clone_into(&mut last);
            tracing::error!(peer, "refused by a peer: {}", status.message());
        }
    }
}

fn away(e: impl std::fmt::Display) -> RPCError<Types> {
    RPCError::Unreachable(Unreachable::new(&AnyError::error(e)))
}

impl Peer {
    async fn call<T, F>(
        &mut self,
        option: &RPCOption,
        ask: impl FnOnce(RaftClient<Line>) -> F,
    ) -> Result<T, RPCError<Types>>
    where
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let client = self.client.clone().ok_or_else(|| away("no usable address"))?;
        match tokio::time::timeout(option.hard_ttl(), ask(client)).await {
            Err(_) => Err(RPCError::Network(NetworkError::new(&AnyError::error("no answer in time")))),
            Ok(Err(status)) => {
                self.refusals.say(self.id, &status);
                Err(away(status.message()))
            }
            Ok(Ok(reply)) => Ok(reply.into_inner()),
        }
    }
}

impl RaftNetworkV2<Types> for Peer {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let message = wire::append_out(self.seal.envelope(self.id), rpc);
        let reply = self.call(&option, |mut c| async move { c.append(message).await }).await?;
        wire::append_reply_in(reply).map_err(away)
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let message = wire::vote_request_out(self.seal.envelope(self.id), &rpc);
        let reply = self.call(&option, |mut c| async move { c.request_vote(message).await }).await?;
        wire::vote_reply_in(reply).map_err(away)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let message = wire::vote_request_out(self.seal.envelope(self.id), &rpc);
        let reply = self.call(&option, |mut c| async move { c.pre_vote(message).await }).await?;
        wire::vote_reply_in(reply).map_err(away)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let head = pb::SnapshotHead {
            envelope: Some(self.seal.envelope(self.id)),
            vote: Some(wire::vote_out(&vote)),
            meta: Some(wire::snapshot_meta_out(&snapshot.meta)),
        };
        let chunks = chunked(head, snapshot.snapshot.into_inner());
        let send = self.call(&option, |mut c| async move { c.install_snapshot(tokio_stream::iter(chunks)).await });
        let reply = tokio::select! {
            closed = cancel => return Err(StreamingError::Closed(closed)),
            reply = send => reply,
        };
        let failed = |e: &dyn std::fmt::Display| StreamingError::Unreachable(Unreachable::new(&AnyError::error(e)));
        let reply = reply.map_err(|e| failed(&e))?;
        Ok(SnapshotResponse { vote: wire::vote_in(reply.vote).map_err(|e| failed(&e))? })
    }

    async fn transfer_leader(
        &mut self,
        rpc: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let message = wire::transfer_out(self.seal.envelope(self.id), &rpc);
        let reply = self.call(&option, |mut c| async move { c.transfer(message).await }).await?;
        wire::transfer_reply_in(reply).map_err(away)
    }
}

fn chunked(head: pb::SnapshotHead, data: Vec<u8>) -> Vec<pb::SnapshotChunk> {
    let first = pb::SnapshotChunk { head: Some(head), data: Vec::new() };
    let rest = data.chunks(CHUNK).map(|c| pb::SnapshotChunk { head: None, data: c.to_vec() });
    std::iter::once(first).chain(rest).collect()
}

/// Which node the connection proved to come from: in the extensions of each request, where connections prove anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender(pub NodeId);

fn sender<T>(request: &Request<T>) -> Option<Sender> {
    request.extensions().get().copied()
}

/// The receiving side. Until consensus runs here (booting, forming) it answers UNAVAILABLE.
#[derive(Clone, Default)]
pub(super) struct Service {
    running: Arc<OnceLock<Result<Running, String>>>,
}

/// What messages are for, and checked against.
pub(super) struct Running {
    pub(super) raft: Raft,
    pub(super) seal: Seal,
    pub(super) state: watch::Receiver<Arc<State>>,
    pub(super) halt: Halt,
}

impl Running {
    /// A stranger's message, and that of one who is a member no more, is refused before consensus sees it.
    fn check(&self, envelope: Option<&pb::Envelope>) -> Result<(), Status> {
        self.seal.check(envelope)?;
        let from = envelope.map_or(0, |e| e.from);
        if self.state.borrow().roll.is_removed(from) {
            return Err(Status::failed_precondition(format!("node {from} was removed from this cluster")));
        }
        Ok(())
    }

    /// An entry beyond what this build knows: it would be written down without what makes it new.
    fn unreadable(&self, why: &wire::Malformed) -> Status {
        if let wire::Malformed::Newer(_) = why {
            self.halt.because(Halted { why: why.to_string(), removed: false });
            return Status::failed_precondition(why.to_string());
        }
        malformed(why)
    }
}

impl Service {
    pub(super) fn start(&self, running: Running) {
        // A second start cannot happen: a node runs consensus once in its life.
        let _ = self.running.set(Ok(running));
    }

    /// Consensus will not run here: whoever asks is told why.
    pub(super) fn refuse(&self, why: String) {
        let _ = self.running.set(Err(why));
    }

    fn running(&self, envelope: Option<&pb::Envelope>, sender: Option<Sender>) -> Result<&Running, Status> {
        let running = self.running.get().ok_or_else(|| Status::unavailable("this node is starting"))?;
        let running = running.as_ref().map_err(Status::failed_precondition)?;
        running.check(envelope)?;
        match (sender, envelope) {
            (Some(Sender(id)), Some(e)) if e.from != id => {
                Err(Status::permission_denied(format!("node {id} says that it is node {}", e.from)))
            }
            _ => Ok(running),
        }
    }

    fn raft(&self, envelope: Option<&pb::Envelope>, sender: Option<Sender>) -> Result<&Raft, Status> {
        self.running(envelope, sender).map(|running| &running.raft)
    }
}

fn malformed(e: impl std::fmt::Display) -> Status {
    Status::invalid_argument(e.to_string())
}

fn failed(e: impl std::fmt::Display) -> Status {
    Status::internal(e.to_string())
}

#[tonic::async_trait]
impl pb::raft_server::Raft for Service {
    async fn append(&self, request: Request<pb::AppendRequest>) -> Result<Response<pb::AppendReply>, Status> {
        let sender = sender(&request);
        let message = request.into_inner();
        let running = self.running(message.envelope.as_ref(), sender)?;
        let message = wire::append_in(message).map_err(|e| running.unreadable(&e))?;
        let reply = running.raft.append_entries(message).await.map_err(failed)?;
        Ok(Response::new(wire::append_reply_out(reply)))
    }

    async fn request_vote(&self, request: Request<pb::VoteRequest>) -> Result<Response<pb::VoteReply>, Status> {
        let sender = sender(&request);
        let message = request.into_inner();
        let raft = self.raft(message.envelope.as_ref(), sender)?;
        let reply = raft.vote(wire::vote_request_in(message).map_err(malformed)?).await.map_err(failed)?;
        Ok(Response::new(wire::vote_reply_out(&reply)))
    }

    async fn pre_vote(&self, request: Request<pb::VoteRequest>) -> Result<Response<pb::VoteReply>, Status> {
        let sender = sender(&request);
        let message = request.into_inner();
        let raft = self.raft(message.envelope.as_ref(), sender)?;
        let reply = raft.pre_vote(wire::vote_request_in(message).map_err(malformed)?).await.map_err(failed)?;
        Ok(Response::new(wire::vote_reply_out(&reply)))
    }

    async fn transfer(&self, request: Request<pb::TransferRequest>) -> Result<Response<pb::TransferReply>, Status> {
        let sender = sender(&request);
        let message = request.into_inner();
        let raft = self.raft(message.envelope.as_ref(), sender)?;
        let reply =
            raft.handle_transfer_leader(wire::transfer_in(message).map_err(malformed)?).await.map_err(failed)?;
        Ok(Response::new(wire::transfer_reply_out(reply)))
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<pb::SnapshotChunk>>,
    ) -> Result<Response<pb::SnapshotReply>, Status> {
        let sender = sender(&request);
        let mut chunks = request.into_inner();
        let head = chunks
            .next()
            .await
            .transpose()?
            .and_then(|c| c.head)
            .ok_or_else(|| malformed("a snapshot without head"))?;
        let running = self.running(head.envelope.as_ref(), sender)?;
        let mut data = Vec::new();
        while let Some(chunk) = chunks.next().await.transpose()? {
            data.extend_from_slice(&chunk.data);
        }
        let meta = wire::snapshot_meta_in(head.meta.ok_or_else(|| malformed("a snapshot without meta"))?)
            .map_err(malformed)?;
        if let Err(newer @ wire::Malformed::Newer(_)) = wire::readable(&data) {
            return Err(running.unreadable(&newer));
        }
        let snapshot = Snapshot { meta, snapshot: Cursor::new(data) };
        let vote = wire::vote_in(head.vote).map_err(malformed)?;
        let reply = running.raft.install_full_snapshot(vote, snapshot).await.map_err(failed)?;
        Ok(Response::new(pb::SnapshotReply { vote: Some(wire::vote_out(&reply.vote)) }))
    }
}

impl Service {
    pub(super) fn server(self) -> pb::raft_server::RaftServer<Self> {
        pb::raft_server::RaftServer::new(self)
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }
}
