//! A newcomer gets a number that nobody had, and becomes a learner; the leader does the rest when it has caught up.

use std::collections::BTreeSet;

use tandem_proto::config::v1::Command;
use tandem_proto::raft::v1 as pb;

use super::asking;
use super::handle::{Control, Error};
use super::standing::{Member, NodeId, Role};
use super::state::Outcome;
use crate::config::model::Name;

/// Who wants to become a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newcomer {
    /// What people shall call it. Where a member with this name no longer lives, the newcomer takes its place.
    pub name: String,
    /// host:port at which the others reach its node port.
    pub address: String,
    /// What it does.
    pub role: Role,
    /// It shall vote once it has caught up; else it stays a learner.
    pub voter: bool,
}

/// Why a newcomer does not become a member.
#[derive(Debug, thiserror::Error)]
pub enum Denial {
    /// What it says of itself cannot be.
    #[error("{0}")]
    Unfit(String),
    /// The command that came with it was refused.
    #[error("{0}")]
    Refused(tandem_proto::Problems),
    /// Nobody here can decide now, or another node does.
    #[error(transparent)]
    Control(#[from] Error),
}

impl Control {
    /// Makes `newcomer` a member, and says with which identity it starts. Leader only. It is a learner when this returns;
    /// the leader, whoever that is by then, makes it a voter when it has caught up.
    ///
    /// # Errors
    /// It cannot be a member, or this node cannot decide it.
    pub async fn admit(&self, newcomer: Newcomer) -> Result<pb::Identity, Denial> {
        self.admit_with(newcomer, Command::default()).await
    }

    /// The same with more that is to happen by the log entry that gives the number, or not at all.
    ///
    /// # Errors
    /// As [`Control::admit`]; or the rest of `command` is refused.
    pub async fn admit_with(&self, newcomer: Newcomer, command: Command) -> Result<pb::Identity, Denial> {
        let _one = self.one_change()?;
        let roster = self.roster()?;
        let Newcomer { name, address, role, voter } = newcomer;
        fit(&name, &address, &roster.members.values().collect::<Vec<_>>()).map_err(Denial::Unfit)?;
        for id in roster.all_named(&name) {
            let Some(old) = roster.members.get(&id) else { continue };
            if self.lives(old).await {
                let why =
                    format!("{name} is up at {} as node {id}: stop it first, or choose another name", old.address);
                return Err(Denial::Unfit(why));
            }
        }
        let node = match self.propose(Command { admit: true, ..command }).await? {
            Outcome::Admitted { node } => node,
            Outcome::Refused { problems, .. } => return Err(Denial::Refused(problems)),
            Outcome::Done { .. } => {
                return Err(Denial::Unfit("this request was made before; ask with a new id".into()));
            }
        };
        let member = Member { id: node, name: name.clone(), address, role, to_vote: voter };
        self.add(member.clone()).await?;
        tracing::info!(node, %name, address = %member.address, voter, "admitted");
        let found = roster.members.values().chain([&member]).map(Into::into).collect();
        Ok(pb::Identity { node, name, founders: found, admitted: true, ..(*self.identity).clone() })
    }

    /// With which identity the member `node` starts, told a second time.
    pub fn identity_of(&self, node: NodeId) -> Option<pb::Identity> {
        let here = self.here();
        let name = here.members.get(&node)?.name.clone();
        let founders = here.members.values().map(Into::into).collect();
        Some(pb::Identity { node, name, founders, admitted: true, ..(*self.identity).clone() })
    }

    /// Whether the member still runs as what it was. Where another one answers, or one with an empty disk, it does not.
    async fn lives(&self, member: &Member) -> bool {
        let reply = asking::probe(&self.dial, &member.address, &self.identity).await.ok();
        reply.and_then(|r| r.identity).is_some_and(|i| i.cluster_id == self.identity.cluster_id && i.node == member.id)
    }
}

fn fit(name: &str, address: &str, members: &[&Member]) -> Result<(), String> {
    if Name::new(name).is_none() {
        return Err(format!("{name:?} is no name: use 1 to 63 of a-z 0-9 . _ - and begin with a letter or digit"));
    }
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).and_then(|(_, p)| p.parse::<u16>().ok());
    if port.is_none_or(|p| p == 0) {
        return Err(format!("{address:?} is not where others could reach it: write it like 10.0.0.4:7440"));
    }
    let taken: BTreeSet<&str> =
        members.iter().filter(|m| m.address == address && m.name != name).map(|m| m.name.as_str()).collect();
    match taken.first() {
        Some(other) => Err(format!("{address} is the address of {other}: give each node its own, or remove {other}")),
        None => Ok(()),
    }
}

/// The newcomer of a request.
///
/// # Errors
/// It is not of this cluster, or could not be part of it.
pub(super) fn newcomer(ask: pb::JoinRequest, cluster: &str, lease_ms: u32, level: u32) -> Result<Newcomer, String> {
    let name = ask.name.clone();
    if ask.cluster != cluster {
        return Err(format!("this is cluster {cluster:?}, not {:?}: mend cluster in {name}'s node.toml", ask.cluster));
    }
    if ask.lease_ms != lease_ms {
        let (theirs, ours) = (ask.lease_ms, lease_ms);
        return Err(format!(
            "{name} has a lease of {theirs} ms, this cluster of {ours} ms: set the same control.timers on all nodes"
        ));
    }
    if ask.level < level {
        return Err(format!(
            "{name}'s tandemd is too old for this cluster (level {}, here {level}): upgrade it",
            ask.level
        ));
    }
    let role = super::wire::role_in(ask.role());
    Ok(Newcomer { name: ask.name, address: ask.address, role, voter: !ask.learner })
}
