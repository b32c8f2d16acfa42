//! A cluster of one, made of what a survivor has on disk, when the quorum is gone for good.
//!
//! Nothing that this node ever stored is lost by it; what a majority without it acknowledged may be. So it is for an operator
//! to say, on a stopped node, and refused while another member answers. The cluster gets a new epoch, in which the old
//! members are strangers, and this node a new number.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use tandem_proto::raft::v1 as pb;
use tokio::sync::watch;

use super::asking;
use super::dial::Dial;
use super::machine::Machine;
use super::raft::{Membership, SnapshotMeta, StoredMembership};
use super::standing::{Member, NodeId};
use super::store::Store;
use super::wire;

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forced {
    /// Name of the cluster.
    pub cluster: String,
    /// Its epoch.
    pub epoch: u64,
    /// Name of this node.
    pub name: String,
    /// Its number.
    pub node: NodeId,
    /// The config's.
    pub revision: u64,
    /// Names of those who are out.
    pub out: Vec<String>,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing to make a cluster of.
    #[error(
        "this data directory belongs to no cluster: nothing to recover here; use the node that has the newest config"
    )]
    Empty,
    /// The quorum may not be gone.
    #[error(
        "nothing was changed: {0} answers, so the quorum may come back by itself. Stop it there for good, or name each that must be \
         left behind: --dead NAME"
    )]
    Alive(String),
    /// Nobody is called so.
    #[error("nothing was changed: no other member is called {name:?}; known: {known}")]
    Unknown {
        /// As named.
        name: String,
        /// Those there are.
        known: String,
    },
    /// The store.
    #[error("the store cannot be read or written: {0}; nothing is half done, run it again")]
    Store(#[from] std::io::Error),
}

/// Makes this node the only member of its cluster. Members that answer must be among the `dead`.
///
/// # Errors
/// Nothing was changed; or the disk failed half way, and the same call ends it.
pub async fn force(store: &Store, dial: &Dial, dead: &[String]) -> Result<Forced, Error> {
    if let Some(why) = store.unfit() {
        return Err(Error::Store(std::io::Error::other(why)));
    }
    let old = store.identity().ok_or(Error::Empty)?;
    let (publish, _) = watch::channel(std::sync::Arc::default());
    let mut machine = Machine::restored(store.clone(), publish)?;
    machine.replay()?;
    let members: Vec<Member> = match machine.members() {
        none if none.is_empty() => old.founders.iter().cloned().map(wire::member_in).collect(),
        some => some.into_values().collect(),
    };
    let (mine, others): (Vec<Member>, Vec<Member>) = members.into_iter().partition(|m| m.name == old.name);
    let mine = mine.into_iter().max_by_key(|m| m.id).ok_or(Error::Empty)?;
    named(&others, dead)?;
    let answers = join_all(others.iter().map(|m| asking::probe(dial, &m.address, &old))).await;
    let member = |reply: pb::ProbeReply| reply.identity.is_some_and(|i| i.cluster_id == old.cluster_id);
    let mut alive: Vec<&str> = others
        .iter()
        .zip(answers)
        .filter(|(m, answer)| !dead.contains(&m.name) && answer.clone().is_ok_and(member))
        .map(|(m, _)| m.name.as_str())
        .collect();
    alive.sort_unstable();
    if !alive.is_empty() {
        return Err(Error::Alive(alive.join(", ")));
    }

    let mut state = machine.state().clone();
    let node = state.roll.take();
    state.roll.members_are([node]);
    let me = Member { id: node, to_vote: false, ..mine };
    let identity =
        pb::Identity { epoch: old.epoch + 1, node, founders: vec![(&me).into()], admitted: true, ..old.clone() };
    let last = store.last();
    let membership = Membership::new(vec![BTreeSet::from([node])], BTreeMap::from([(node, me)]))
        .map_err(|e| std::io::Error::other(e.to_string()))?;
    let meta = SnapshotMeta { last_log_id: last, last_membership: StoredMembership::new(last, membership) };
    // In this order: until the identity is written the node is nobody's member, and the same call begins anew.
    let data = prost::Message::encode_to_vec(&wire::state_out(&state));
    store.save_snapshot(wire::snapshot_meta_out(&meta), data).await?;
    if let Some(last) = last {
        store.purge(last).await?;
    }
    store.adopt(identity).await?;
    let out = others.into_iter().map(|m| m.name).collect();
    let (epoch, revision) = (old.epoch + 1, state.revision);
    Ok(Forced { cluster: old.cluster, epoch, name: old.name, node, revision, out })
}

fn named(others: &[Member], dead: &[String]) -> Result<(), Error> {
    match dead.iter().find(|name| !others.iter().any(|m| m.name == **name)) {
        None => Ok(()),
        Some(name) => {
            let known: Vec<&str> = others.iter().map(|m| m.name.as_str()).collect();
            Err(Error::Unknown { name: name.clone(), known: known.join(", ") })
        }
    }
}
