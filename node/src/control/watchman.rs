//! Asks the others, now and then, whether this node still is a member: one that was removed hears of it from nobody else.

use std::sync::Arc;
use std::time::Duration;

use tandem_proto::raft::v1 as pb;
use tokio::sync::watch;

use super::asking;
use super::handle::Control;
use super::roll::COME_BACK;
use super::wire;

/// From one question to the next.
const EVERY: Duration = Duration::from_secs(1);

/// Why this node takes part no more, although its disk is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Halted {
    pub(super) why: String,
    /// It is no member any more.
    pub(super) removed: bool,
}

/// Whoever finds a reason says it here, once.
#[derive(Debug, Clone)]
pub(super) struct Halt(Arc<watch::Sender<Option<Halted>>>);

impl Default for Halt {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Halt {
    /// Consensus ends here. The first reason stays.
    pub(super) fn because(&self, halted: Halted) {
        self.0.send_if_modified(|now| {
            let first = now.is_none();
            if first {
                tracing::error!("this node takes part no more: {}", halted.why);
                *now = Some(halted);
            }
            first
        });
    }

    pub(super) fn watch(&self) -> watch::Receiver<Option<Halted>> {
        self.0.subscribe()
    }
}

/// Runs on every node until it is removed.
pub(super) async fn ask(control: Control, halt: Halt) {
    let mut standing = control.standing();
    for turn in 0usize.. {
        let here = standing.borrow_and_update().clone();
        let others: Vec<String> = match here.members.is_empty() {
            true => control.identity.founders.iter().cloned().map(wire::member_in).map(|m| (m.id, m.address)).collect(),
            false => here.members.values().map(|m| (m.id, m.address.clone())).collect::<Vec<_>>(),
        }
        .into_iter()
        .filter(|(id, _)| *id != here.me)
        .map(|(_, address)| address)
        .collect();
        if let Some(address) = others.get(turn.checked_rem(others.len()).unwrap_or(0))
            && let Ok(reply) = asking::probe(&control.dial, address, &control.identity).await
            && let Some(why) = verdict(&control.identity, &reply)
        {
            return halt.because(Halted { why, removed: true });
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            // The node ends.
            _ = standing.wait_for(|s| s.fatal.is_some()) => return,
        }
    }
}

/// What another member's answer means for this one.
fn verdict(me: &pb::Identity, reply: &pb::ProbeReply) -> Option<String> {
    let theirs = reply.identity.as_ref().filter(|i| i.cluster_id == me.cluster_id)?;
    if theirs.epoch > me.epoch {
        return Some(format!(
            "the cluster was formed anew without this node (force-quorum, epoch {}; this node is of {}); {COME_BACK}",
            theirs.epoch, me.epoch
        ));
    }
    (reply.removed && theirs.epoch == me.epoch).then(|| {
        format!("{} says that this node, number {}, was removed from the cluster; {COME_BACK}", reply.name, me.node)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_own_cluster_can_send_a_node_away() {
        let me = pb::Identity { cluster_id: vec![1], epoch: 2, node: 3, ..Default::default() };
        let reply = |cluster_id: u8, epoch, removed| pb::ProbeReply {
            name: "a".into(),
            identity: Some(pb::Identity { cluster_id: vec![cluster_id], epoch, ..Default::default() }),
            removed,
            ..Default::default()
        };
        assert_eq!(verdict(&me, &reply(1, 2, false)), None);
        assert_eq!(verdict(&me, &reply(9, 3, true)), None, "strangers have no say");
        assert_eq!(verdict(&me, &reply(1, 1, true)), None, "nor has one that is out itself");
        assert!(verdict(&me, &reply(1, 2, true)).is_some_and(|why| why.contains("number 3, was removed")));
        assert!(verdict(&me, &reply(1, 3, false)).is_some_and(|why| why.contains("epoch 3")));
        assert_eq!(verdict(&me, &pb::ProbeReply { removed: true, ..Default::default() }), None);
    }
}
