//! Which cluster a message is of, and who sent it: checked before consensus sees it. Pure.

use std::time::Duration;

use tandem_proto::raft::v1 as pb;
use tonic::Status;

use super::roll::COME_BACK;
use super::standing::NodeId;

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

    pub(super) fn envelope(&self, to: NodeId) -> pb::Envelope {
        pb::Envelope {
            cluster_id: self.cluster_id.clone(),
            epoch: self.epoch,
            from: self.me,
            to,
            lease_ms: self.lease_ms(),
        }
    }

    /// Whether a message is for this node, of this cluster, by the same rules.
    ///
    /// # Errors
    /// It is not: who must mend what.
    pub(super) fn check(&self, envelope: Option<&pb::Envelope>) -> Result<(), Status> {
        let e = envelope.ok_or_else(|| Status::invalid_argument("no envelope"))?;
        let refuse = |why: String| Err(Status::failed_precondition(why));
        if e.cluster_id != self.cluster_id {
            return refuse(format!("node {} speaks for another cluster; look at [peers] in its node.toml", e.from));
        }
        if e.epoch != self.epoch {
            return refuse(format!(
                "node {} is of epoch {}, this one of {}: a survivor formed the cluster anew (force-quorum); the older one is out, {COME_BACK}",
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
