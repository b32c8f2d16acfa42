//! Before there is a log: nodes with empty disks agree on a cluster id and on who is who.
//!
//! ```text
//!   empty ──(all peers answer: empty, same peers, same timers)──▶ the first by name makes an identity
//!         ──Adopt to each peer, each writes it down──▶ adopted ──initialize on the first──▶ formed
//!   empty while a peer is formed: this disk was lost. A node that forgot its vote must not vote: refuse to start.
//! ```

use std::time::Duration;

use tandem_proto::raft::v1 as pb;
use tandem_proto::raft::v1::formation_client::FormationClient;
use tonic::{Request, Response, Status};

use super::network::{Dial, Line};
use super::standing::{Member, NodeId};
use super::store::Store;

/// What this node was told of its cluster, by its own file.
#[derive(Debug, Clone)]
pub struct Founding {
    /// Name of the cluster.
    pub cluster: String,
    /// Name of this node.
    pub name: String,
    /// Everyone, this node included, sorted by name; ids by that order, from 1.
    pub peers: Vec<Member>,
    /// The lease, as everyone must have it.
    pub lease: Duration,
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
    /// The disk is empty, but the cluster knows this node.
    #[error(
        "this node's disk is empty, but {peer} says the cluster was formed with node {name:?} in it. A node that forgot its votes \
         must not vote again: restore its data directory, or form the cluster anew with all data directories empty"
    )]
    Wiped {
        /// Who knows.
        peer: String,
        /// Our name.
        name: String,
    },
    /// The disk did not take the identity.
    #[error("cannot write this node's identity: {0}; mend the disk under data_dir")]
    Disk(#[from] std::io::Error),
}

impl Founding {
    fn lease_ms(&self) -> u32 {
        u32::try_from(self.lease.as_millis()).unwrap_or(u32::MAX)
    }

    fn peers_out(&self) -> Vec<pb::Member> {
        self.peers.iter().map(Into::into).collect()
    }

    fn my_id(&self) -> NodeId {
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
        } else {
            match all_empty(founding, dial).await {
                Ok(()) if founding.my_id() == 1 => store.adopt(found(founding)).await?,
                Ok(()) => told.say(&format!("{} to found the cluster", founding.peers[0].name)),
                Err(NotYet::Formed { peer }) => return Err(Error::Wiped { peer, name: founding.name.clone() }),
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
    }
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
            tracing::info!("forming the cluster: waiting for {what}");
        }
        what.clone_into(&mut self.last);
    }
}

enum NotYet {
    Formed { peer: String },
    Waiting(String),
}

fn client(dial: &Dial, address: &str) -> Result<FormationClient<Line>, String> {
    dial.line(address).map(FormationClient::new).map_err(|e| e.to_string())
}

async fn probe(founding: &Founding, dial: &Dial, peer: &Member) -> Result<pb::ProbeReply, String> {
    let mut client = client(dial, &peer.address)?;
    let ask = pb::ProbeRequest { cluster: founding.cluster.clone(), from: founding.name.clone() };
    match tokio::time::timeout(Duration::from_millis(500), client.probe(ask)).await {
        Ok(Ok(reply)) => Ok(reply.into_inner()),
        Ok(Err(status)) => Err(status.message().to_owned()),
        Err(_) => Err("no answer".to_owned()),
    }
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
        let mut client = client(dial, &peer.address)?;
        client
            .adopt(pb::AdoptRequest { identity: Some(theirs) })
            .await
            .map_err(|e| format!("{at}: {}", e.message()))?;
    }
    Ok(false)
}

/// Answers the others' probes, and writes down who we are when the founder says it.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) founding: Founding,
    pub(super) store: Store,
}

#[tonic::async_trait]
impl pb::formation_server::Formation for Service {
    async fn probe(&self, _: Request<pb::ProbeRequest>) -> Result<Response<pb::ProbeReply>, Status> {
        Ok(Response::new(pb::ProbeReply {
            cluster: self.founding.cluster.clone(),
            name: self.founding.name.clone(),
            identity: self.store.identity(),
            formed: self.store.formed(),
            peers: self.founding.peers_out(),
            lease_ms: self.founding.lease_ms(),
        }))
    }

    async fn adopt(&self, request: Request<pb::AdoptRequest>) -> Result<Response<pb::AdoptReply>, Status> {
        let refuse = |why: &str| Err(Status::failed_precondition(why));
        let Some(offered) = request.into_inner().identity else { return refuse("no identity") };
        if let Some(known) = self.store.identity() {
            return if known == offered {
                Ok(Response::new(pb::AdoptReply {}))
            } else {
                refuse("this node belongs to another cluster already; empty its data directory if that one is gone")
            };
        }
        let ours = (offered.cluster.as_str(), offered.name.as_str(), offered.node);
        if ours != (&self.founding.cluster, &self.founding.name, self.founding.my_id())
            || offered.founders != self.founding.peers_out()
        {
            return refuse("[peers] differ; make them the same on all nodes");
        }
        self.store.adopt(offered).await.map_err(|e| Status::internal(e.to_string()))?;
        Ok(Response::new(pb::AdoptReply {}))
    }
}
