//! Answers those who form a cluster or come to one: who we are, that we take an identity, whether a newcomer may come.

use std::sync::{Arc, OnceLock};

use tandem_proto::raft::v1 as pb;
use tonic::{Request, Response, Status};

use super::admission::{Denial, newcomer};
use super::asking::LEADER;
use super::formation::Founding;
use super::handle::{Control, Error};
use super::level::{LEVEL, said};
use super::receiving::Sender;
use super::store::Store;

/// The service of the node port.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) founding: Founding,
    pub(super) store: Store,
    /// Set once consensus runs here.
    pub(super) running: Arc<OnceLock<Control>>,
}

#[tonic::async_trait]
impl pb::formation_server::Formation for Service {
    async fn probe(&self, request: Request<pb::ProbeRequest>) -> Result<Response<pb::ProbeReply>, Status> {
        let ask = request.into_inner();
        let identity = self.store.identity();
        if identity.is_none() && self.store.unfit().is_some() {
            // Neither empty nor formed, as far as anybody can tell: whoever asks must not conclude from it.
            return Err(Status::unavailable("its disk does not work; see its log"));
        }
        let ours = identity.as_ref().is_some_and(|i| !ask.cluster_id.is_empty() && i.cluster_id == ask.cluster_id);
        let now = self.running.get().map(Control::now);
        let removed = ours && now.as_ref().is_some_and(|state| state.roll.is_removed(ask.node));
        Ok(Response::new(pb::ProbeReply {
            cluster: self.founding.cluster.clone(),
            name: self.founding.name.clone(),
            identity,
            formed: self.store.formed(),
            peers: self.founding.peers_out(),
            lease_ms: self.founding.lease_ms(),
            removed,
            level: LEVEL,
            history_from: now.map_or(0, |state| state.history.begins_with(state.revision)),
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
        if (&offered.cluster, &offered.name) != (&self.founding.cluster, &self.founding.name) {
            return refuse("this node has another name or cluster in its node.toml");
        }
        let founds = offered.node == self.founding.my_id() && offered.founders == self.founding.peers_out();
        if !offered.admitted && !founds {
            return refuse("[peers] differ; make them the same on all nodes");
        }
        self.store.adopt(offered).await.map_err(|e| Status::internal(e.to_string()))?;
        Ok(Response::new(pb::AdoptReply {}))
    }

    async fn join(&self, request: Request<pb::JoinRequest>) -> Result<Response<pb::JoinReply>, Status> {
        if request.extensions().get::<Sender>().is_some() {
            let why = "this cluster has certificates: a machine joins it with a token";
            return Err(Status::permission_denied(format!("{why}: tandemctl token create, then tandemd join")));
        }
        let starting = || Status::unavailable(format!("{} is starting", self.founding.name));
        let control = self.running.get().ok_or_else(starting)?;
        let level = said(control.now().level);
        let newcomer = newcomer(request.into_inner(), &self.founding.cluster, self.founding.lease_ms(), level);
        let identity = control.admit(newcomer.map_err(Status::invalid_argument)?).await.map_err(|e| denied(&e))?;
        Ok(Response::new(pb::JoinReply { identity: Some(identity) }))
    }
}

/// How a newcomer learns that it is not let in: it goes to the leader, tries again later, or gives up.
fn denied(denial: &Denial) -> Status {
    match denial {
        Denial::Control(Error::NotLeader(leader)) => {
            let mut status = Status::failed_precondition(denial.to_string());
            if let Ok(address) = leader.address.parse() {
                status.metadata_mut().insert(LEADER, address);
            }
            status
        }
        Denial::Control(Error::Busy | Error::NoQuorum(_) | Error::Fatal(_)) => Status::unavailable(denial.to_string()),
        Denial::Unfit(_) | Denial::Refused(_) | Denial::Control(Error::Members(_) | Error::Old { .. }) => {
            Status::invalid_argument(denial.to_string())
        }
    }
}
