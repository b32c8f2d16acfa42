//! Asking the other nodes: one channel each, all at once, and nobody waits long for a dead one.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tandem_proto::admin::v1::peer_client::PeerClient;
use tonic::Status;

use crate::control::{Dial, Line, Member, NodeId};

/// A node that takes longer is as good as away, for an operator who waits.
const PATIENCE: Duration = Duration::from_millis(400);

/// Clients to the node ports of the others.
pub(super) struct Peers {
    dial: Dial,
    known: Mutex<BTreeMap<(NodeId, String), PeerClient<Line>>>,
}

impl Peers {
    pub(super) fn new(dial: Dial) -> Self {
        Self { dial, known: Mutex::default() }
    }

    fn client(&self, member: &Member) -> Result<PeerClient<Line>, Status> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (member.id, member.address.clone());
        if let Some(client) = known.get(&key) {
            return Ok(client.clone());
        }
        let client = PeerClient::new(self.dial.to(member).map_err(|e| Status::internal(e.to_string()))?);
        known.insert(key, client.clone());
        Ok(client)
    }

    /// The same question to each of `members`, at once; answers in their order.
    pub(super) async fn ask<T, F>(
        &self,
        members: &[Member],
        question: impl Fn(PeerClient<Line>) -> F,
    ) -> Vec<Result<T, Status>>
    where
        F: Future<Output = Result<tonic::Response<T>, Status>>,
    {
        let asked = members.iter().map(|m| {
            let answer = self.client(m).map(&question);
            async move {
                match tokio::time::timeout(PATIENCE, answer?).await {
                    Ok(reply) => reply.map(tonic::Response::into_inner),
                    Err(_) => Err(Status::deadline_exceeded("no answer in time")),
                }
            }
        });
        join_all(asked).await
    }
}
