//! Questions to a node that may not be a member yet: who are you, be this one, may I be one.

use std::time::Duration;

use tandem_proto::raft::v1 as pb;
use tandem_proto::raft::v1::formation_client::FormationClient;
use tonic::{Response, Status};

use super::dial::{Dial, Line};

/// Metadata in which a follower names the leader's host:port.
pub(super) const LEADER: &str = "tandem-leader";
/// A node that takes longer is as good as away.
const PATIENCE: Duration = Duration::from_millis(500);
/// A newcomer is looked at, gets its number from the log, and is added to it.
const PATIENCE_TO_JOIN: Duration = Duration::from_secs(8);

fn client(dial: &Dial, address: &str) -> Result<FormationClient<Line>, Status> {
    dial.line(address).map(FormationClient::new).map_err(|e| Status::unavailable(e.to_string()))
}

async fn within<T>(patience: Duration, call: impl Future<Output = Result<Response<T>, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(patience, call).await {
        Ok(reply) => reply.map(Response::into_inner),
        Err(_) => Err(Status::unavailable("no answer")),
    }
}

/// Who answers at `address`, and what it knows of the node that asks.
///
/// # Errors
/// Nobody does, in words.
pub(super) async fn probe(dial: &Dial, address: &str, me: &pb::Identity) -> Result<pb::ProbeReply, String> {
    let ask = pb::ProbeRequest {
        cluster: me.cluster.clone(),
        from: me.name.clone(),
        cluster_id: me.cluster_id.clone(),
        node: me.node,
    };
    let call = async { client(dial, address)?.probe(ask).await };
    within(PATIENCE, call).await.map_err(|status| status.message().to_owned())
}

/// Tells the node at `address` who it is.
///
/// # Errors
/// It does not take it, or does not answer, in words.
pub(super) async fn adopt(dial: &Dial, address: &str, ask: pb::AdoptRequest) -> Result<(), String> {
    let call = async { client(dial, address)?.adopt(ask).await };
    within(PATIENCE, call).await.map(drop).map_err(|status| status.message().to_owned())
}

/// Asks the node at `address` to be let in.
///
/// # Errors
/// It says no, or where to ask, or does not answer.
pub(super) async fn join(dial: &Dial, address: &str, ask: pb::JoinRequest) -> Result<pb::JoinReply, Status> {
    let call = async { client(dial, address)?.join(ask).await };
    within(PATIENCE_TO_JOIN, call).await
}
