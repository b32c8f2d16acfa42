//! Bugs on purpose, planted around the product and never in it: the suite that does not find them proves nothing.

use tandem_node::control::{Standing, now};
use tandem_proto::raft::v1 as pb;
use tokio::sync::watch;

use crate::network::Message;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mutant {
    /// Disks say that it is safe before it is.
    AckBeforeFsync,
    /// Each request for a vote says that the leader itself asked for it, so no lease stands in its way.
    VoteInsideLease,
    /// The lease of the address counts from when the acknowledgement was noticed, not from when the heartbeat was sent.
    LeaseFromApply,
}

impl Mutant {
    /// What becomes of a request on its way.
    pub(crate) fn on_the_way(self, request: &mut Message) {
        if self == Self::VoteInsideLease && request.uri.path() == "/tandem.raft.v1.Raft/RequestVote" {
            edit(request, |vote: &mut pb::VoteRequest| vote.transfer = true);
        }
    }

    /// What becomes of a reply on its way.
    pub(crate) fn on_the_way_back(self, reply: &mut Message) {
        // A transfer knows no pre-vote, so this one must not stand in the way either.
        if self == Self::VoteInsideLease && reply.uri.path() == "/tandem.raft.v1.Raft/PreVote" {
            edit(reply, |vote: &mut pb::VoteReply| vote.granted = true);
        }
    }

    /// What the keeper is told of the lease.
    pub(crate) fn on_the_lease(self, mut standing: watch::Receiver<Standing>) -> watch::Receiver<Standing> {
        if self != Self::LeaseFromApply {
            return standing;
        }
        let (tell, told) = watch::channel(standing.borrow_and_update().clone());
        tokio::spawn(async move {
            while standing.changed().await.is_ok() {
                let mut heard = standing.borrow_and_update().clone();
                heard.quorum_acked = heard.quorum_acked.map(|_| now());
                tell.send_replace(heard);
            }
        });
        told
    }
}

/// Changes the one message in a body of gRPC: a byte of flags, four of length, the message.
fn edit<M: prost::Message + Default>(message: &mut Message, change: impl FnOnce(&mut M)) {
    let Some((_, bytes)) = message.body.split_at_checked(5) else { return };
    let Ok(mut inner) = M::decode(bytes) else { return };
    change(&mut inner);
    let mut body = vec![0];
    body.extend(u32::try_from(inner.encoded_len()).unwrap_or(u32::MAX).to_be_bytes());
    body.extend(inner.encode_to_vec());
    message.body = body.into();
}
