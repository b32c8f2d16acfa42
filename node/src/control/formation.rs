//! How a node comes to know who it is: it has it on disk, founds a cluster with its peers, or is let into one there is.
//!
//! ```text
//!   empty ──(all peers answer: empty, same peers, same timers)──▶ the first by name makes an identity
//!         ──Adopt to each peer, each writes it down──▶ adopted ──initialize on the first──▶ formed
//!   empty while a peer is formed: this disk was lost. A node that forgot its vote must not vote: it waits until it is
//!   taken in anew, under another number (Adopt, by `node replace`)
//!   empty, with certificates: it had a number once, and comes back with another by a token (`tandemd join`)
//!   empty, told whom to join ──Join, at the leader──▶ admitted: the log gave it a number ──▶ adopted
//! ```

use std::time::Duration;

use tandem_proto::raft::v1 as pb;
use tonic::Code;

use super::asking;
use super::dial::Dial;
use super::level::LEVEL;
use super::standing::{Member, NodeId, Role};
use super::store::Store;
use super::wire;

/// What this node was told of its cluster, by its own file.
#[derive(Debug, Clone)]
pub struct Founding {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of this node.
    pub name: String,
    /// What this node does.
    pub role: Role,
    /// Everyone, this node included, sorted by name; ids by that order, from 1. None where `join` says how to come in.
    pub peers: Vec<Member>,
    /// How to come into a cluster that there is.
    pub join: Option<Joining>,
    /// The lease, as everyone must have it.
    pub lease: Duration,
}

/// How a node with an empty disk comes into a cluster that there is.
#[derive(Debug, Clone)]
pub struct Joining {
    /// host:port of members' node ports, asked in this order.
    pub members: Vec<String>,
    /// host:port at which they reach this node.
    pub address: String,
    /// It shall not vote.
    pub learner: bool,
}

/// Why this node cannot take part in its cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory is another node's or another cluster's.
    #[error(
        "the data directory belongs to {found}, node.toml says {told}; point data_dir to this node's own directory"
    )]
    OtherOwner {
        /// Whose it is.
        found: String,
        /// Who node.toml says we are.
        told: String,
    },
    /// The cluster does not let it in.
    #[error("{by} does not let this node in: {why}")]
    Denied {
        /// Who said so.
        by: String,
        /// Why.
        why: String,
    },
    /// `tandemd init` or `tandemd join` said who this node is, once, and its disk has forgotten it.
    #[error(
        "this disk is empty, and a node that forgot its votes must not vote again. Move node.toml and data_dir away, and let this machine \
         join anew, as {0}: tandemctl token create on a member, then tandemd join here"
    )]
    Forgotten(String),
    /// The disk did not take the identity.
    #[error("cannot write this node's identity: {0}; mend the disk under data_dir")]
    Disk(#[from] std::io::Error),
}

impl Founding {
    pub(super) fn lease_ms(&self) -> u32 {
        u32::try_from(self.lease.as_millis()).unwrap_or(u32::MAX)
    }

    pub(super) fn peers_out(&self) -> Vec<pb::Member> {
        self.peers.iter().map(Into::into).collect()
    }

    pub(super) fn my_id(&self) -> NodeId {
        self.peers.iter().find(|m| m.name == self.name).map_or(0, |m| m.id)
    }

    /// The identity on disk must be the one node.toml tells of.
    pub(super) fn check_owner(&self, found: &pb::Identity) -> Result<(), Error> {
        if found.cluster == self.cluster && found.name == self.name {
            return Ok(());
        }
        Err(Error::OtherOwner {
            found: format!("node {:?} of cluster {:?}", found.name, found.cluster),
            told: format!("node {:?} of cluster {:?}", self.name, self.cluster),
        })
    }
}

/// What is left to do once a node knows who it is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// Join in: the others, or our own log, know the rest.
    Follow,
    /// We are the first and all have adopted the identity: write the first membership.
    Initialize,
}

/// Waits until this node knows who it is.
///
/// # Errors
/// If it must not take part. Peers that do not answer yet are waited for, and named in the log.
pub(super) async fn form(founding: &Founding, dial: &Dial, store: &Store) -> Result<(pb::Identity, Start), Error> {
    let mut told = Told::default();
    loop {
        if let Some(identity) = store.identity() {
            founding.check_owner(&identity)?;
            let founder = identity.node == 1 && !store.formed();
            if !founder {
                return Ok((identity, Start::Follow));
            }
            match adopted_by_all(founding, dial, &identity).await {
                Ok(formed) => return Ok((identity, if formed { Start::Follow } else { Start::Initialize })),
                Err(waiting) => told.say(&waiting),
            }
        } else if store.formed() {
            // A log without an identity: the first write of all is lost, so is the order of writes.
            return Err(Error::Disk(std::io::Error::other("the store has a log but no identity")));
        } else if let Some(joining) = &founding.join {
            match ask(founding, dial, joining).await? {
                Ok(identity) => store.adopt(identity).await?,
                Err(waiting) => told.say(&waiting),
            }
        } else if founding.peers.is_empty() {
            return Err(Error::Forgotten(founding.name.clone()));
        } else {
            match all_empty(founding, dial).await {
                Ok(()) if founding.my_id() == 1 => store.adopt(found(founding)).await?,
                Ok(()) => told.say(&format!("{} to found the cluster", founding.peers[0].name)),
                // The founder may have told us meanwhile: whoever is formed by now is so because all had adopted.
                Err(NotYet::Formed { .. }) if store.identity().is_some() => {}
                Err(NotYet::Formed { peer }) => told.say(&format!(
                    "an operator: this disk is empty, but {peer} says the cluster was formed with {name} in it, and a node that \
                     forgot its votes must not vote again. Take it in under a new number: tandemctl node replace {name}",
                    name = founding.name
                )),
                Err(NotYet::Waiting(what)) => told.say(&what),
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn found(founding: &Founding) -> pb::Identity {
    pb::Identity {
        cluster_id: rand::random::<[u8; 16]>().to_vec(),
        epoch: 1,
        cluster: founding.cluster.clone(),
        node: founding.my_id(),
        name: founding.name.clone(),
        founders: founding.peers_out(),
        admitted: false,
    }
}

/// Asks the members one after the other, and the leader where one names it. `Ok(Err)`: nobody could say yes or no yet.
async fn ask(founding: &Founding, dial: &Dial, joining: &Joining) -> Result<Result<pb::Identity, String>, Error> {
    let request = pb::JoinRequest {
        cluster: founding.cluster.clone(),
        name: founding.name.clone(),
        address: joining.address.clone(),
        role: wire::role_out(founding.role).into(),
        learner: joining.learner,
        lease_ms: founding.lease_ms(),
        level: LEVEL,
    };
    let mut waiting = Vec::new();
    for member in &joining.members {
        let mut by = member.clone();
        let mut answer = asking::join(dial, &by, request.clone()).await;
        if let Err(status) = &answer
            && let Some(leader) = status.metadata().get(asking::LEADER).and_then(|v| v.to_str().ok())
        {
            leader.clone_into(&mut by);
            answer = asking::join(dial, &by, request.clone()).await;
        }
        match answer {
            Ok(pb::JoinReply { identity: Some(identity) }) => return Ok(Ok(identity)),
            Ok(pb::JoinReply { identity: None }) => waiting.push(format!("{by}: it gave no identity")),
            Err(status) if status.code() == Code::InvalidArgument => {
                return Err(Error::Denied { by, why: status.message().to_owned() });
            }
            Err(status) => waiting.push(format!("{by} to let this node in: {}", status.message())),
        }
    }
    Ok(Err(waiting.join("; ")))
}

/// What we wait for, said when it changes and every ten seconds.
#[derive(Default)]
struct Told {
    last: String,
    times: u32,
}

impl Told {
    fn say(&mut self, what: &str) {
        self.times = if self.last == what { self.times + 1 } else { 0 };
        if self.times.is_multiple_of(100) {
            tracing::info!("coming into the cluster: waiting for {what}");
        }
        what.clone_into(&mut self.last);
    }
}

enum NotYet {
    Formed { peer: String },
    Waiting(String),
}

async fn probe(founding: &Founding, dial: &Dial, peer: &Member) -> Result<pb::ProbeReply, String> {
    let nobody_yet =
        pb::Identity { cluster: founding.cluster.clone(), name: founding.name.clone(), ..Default::default() };
    asking::probe(dial, &peer.address, &nobody_yet).await
}

fn others(founding: &Founding) -> impl Iterator<Item = &Member> {
    founding.peers.iter().filter(|m| m.name != founding.name)
}

/// Are all the others up, empty, and told the same as we are?
async fn all_empty(founding: &Founding, dial: &Dial) -> Result<(), NotYet> {
    for peer in others(founding) {
        let at = format!("{} ({})", peer.name, peer.address);
        let reply = probe(founding, dial, peer).await.map_err(|e| NotYet::Waiting(format!("{at}: {e}")))?;
        if reply.cluster != founding.cluster || reply.name != peer.name {
            let who = format!("node {:?} of cluster {:?}", reply.name, reply.cluster);
            return Err(NotYet::Waiting(format!("{at}: {who} answers there; mend the addresses in [peers]")));
        }
        if reply.formed {
            return Err(NotYet::Formed { peer: at });
        }
        if reply.peers != founding.peers_out() {
            return Err(NotYet::Waiting(format!(
                "{at}: its [peers] differ from ours; make them the same on all nodes"
            )));
        }
        if reply.lease_ms != founding.lease_ms() {
            return Err(NotYet::Waiting(format!(
                "{at}: its control.timers differ from ours; make them the same on all nodes"
            )));
        }
    }
    Ok(())
}

/// Gives the identity to each peer. `Ok(true)`: someone is past that already.
async fn adopted_by_all(founding: &Founding, dial: &Dial, identity: &pb::Identity) -> Result<bool, String> {
    for peer in others(founding) {
        let at = format!("{} ({})", peer.name, peer.address);
        if probe(founding, dial, peer).await.map_err(|e| format!("{at}: {e}"))?.formed {
            return Ok(true);
        }
        let theirs = pb::Identity { node: peer.id, name: peer.name.clone(), ..identity.clone() };
        let ask = pb::AdoptRequest { identity: Some(theirs) };
        asking::adopt(dial, &peer.address, ask).await.map_err(|e| format!("{at}: {e}"))?;
    }
    Ok(false)
}
