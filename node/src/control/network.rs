//! Sends Raft messages for openraft: one line per peer, and each refusal said once.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::{AnyError, OptionalSend, RaftNetworkFactory};
use tandem_proto::raft::v1 as pb;
use tandem_proto::raft::v1::raft_client::RaftClient;
use tonic::{Response, Status};

use super::dial::{Dial, Line};
use super::raft::{Snapshot, SnapshotData, Types, Vote};
use super::seal::Seal;
use super::standing::{Member, NodeId};
use super::wire;

/// A message holds a few hundred config edits at most; a snapshot comes in chunks.
pub(super) const MAX_MESSAGE: usize = 16 << 20;
const CHUNK: usize = 1 << 20;

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
