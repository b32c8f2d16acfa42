//! Takes Raft messages in: checked, made sense of, handed to consensus, and answered.

use std::io::Cursor;
use std::sync::{Arc, OnceLock};

use tandem_proto::raft::v1 as pb;
use tokio::sync::watch;
use tokio_stream::StreamExt as _;
use tonic::{Request, Response, Status, Streaming};

use super::handed::Handed;
use super::network::MAX_MESSAGE;
use super::raft::{Raft, Snapshot};
use super::seal::Seal;
use super::standing::NodeId;
use super::state::State;
use super::watchman::{Halt, Halted};
use super::wire;

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
    pub(super) handed: Handed,
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
        let running = self.running(message.envelope.as_ref(), sender)?;
        let message = wire::transfer_in(message).map_err(malformed)?;
        // Before the election it starts: whoever sees this node lead must see why.
        running.handed.by(message.from_leader().leader_id);
        let reply = running.raft.handle_transfer_leader(message).await.map_err(failed)?;
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
