//! Changes of the members, one at a time: refused where they would cost the quorum.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::{ChangeMembers, Instant as _};
use tandem_proto::raft::v1 as pb;
use tokio::sync::OwnedMutexGuard;

use super::admission::{Denial, Newcomer};
use super::asking;
use super::handle::{Control, Error, FRESH, PATIENCE};
use super::roster::{Chore, Refusal, Roster};
use super::standing::{Member, NodeId};

/// So long a change waits for answers before it is refused for want of them: some heartbeats, on a busy machine too.
const NEWS: Duration = Duration::from_millis(1500);
/// A few entries are always on their way.
const ON_THE_WAY: u64 = 16;

/// A change of members.
type Members = ChangeMembers<NodeId, Member>;

/// Whether voters that leave stay as learners.
#[derive(Clone, Copy, PartialEq)]
enum Leavers {
    Stay,
    Go,
}

impl Control {
    /// The members as this leader sees them.
    ///
    /// # Errors
    /// This node does not lead.
    pub fn roster(&self) -> Result<Roster, Error> {
        self.leads()?;
        let m = self.raft()?.metrics().borrow_watched().clone();
        let membership = m.membership_config.membership();
        let answered = m.heartbeat.unwrap_or_default();
        let matched = m.replication.unwrap_or_default();
        let alive = |id: &NodeId| answered.get(id).and_then(Option::as_ref).is_some_and(|at| at.elapsed() < FRESH);
        let last = m.last_log_index.unwrap_or(0);
        let follows =
            |id: &NodeId| matched.get(id).and_then(Option::as_ref).is_some_and(|l| l.index + ON_THE_WAY >= last);
        let all = || membership.nodes().map(|(id, _)| *id);
        Ok(Roster {
            members: membership.nodes().map(|(id, member)| (*id, member.clone())).collect(),
            voters: membership.voter_ids().collect(),
            joint: membership.get_joint_config().len() > 1,
            alive: all().filter(|id| *id == m.id || alive(id)).collect(),
            caught_up: all().filter(|id| *id == m.id || follows(id)).collect(),
        })
    }

    /// What `judge` says of the roster. One who leads since a moment ago has not heard from the others yet: where news could
    /// change a refusal, it is waited for.
    ///
    /// # Errors
    /// Refused still when no such news came, or this node does not lead.
    pub async fn judged<T>(&self, judge: impl Fn(&Roster) -> Result<T, Refusal>) -> Result<T, Error> {
        let mut news = self.raft()?.metrics();
        let heard = async {
            loop {
                match judge(&self.roster()?) {
                    Err(refusal) if refusal.may_pass() => {
                        // What came since the metrics were read ends this at once.
                        if news.changed().await.is_err() {
                            return Err(refusal.into());
                        }
                    }
                    verdict => return Ok(verdict?),
                }
            }
        };
        match tokio::time::timeout(NEWS, heard).await {
            Ok(verdict) => verdict,
            Err(_) => Ok(judge(&self.roster()?)?),
        }
    }

    /// Takes a member out of the cluster for good: it is refused at once, and its number is never given again.
    ///
    /// # Errors
    /// The rest could decide nothing, or this node cannot decide it.
    pub async fn remove(&self, name: &str) -> Result<(), Error> {
        let _one = self.one_change()?;
        let (roster, gone) = self
            .judged(|roster| {
                roster.named(name)?;
                let gone = roster.all_named(name);
                roster.may_lose(&gone)?;
                Ok((roster.clone(), gone))
            })
            .await?;
        self.drop_members(&roster, gone).await
    }

    /// Makes a learner a voter.
    ///
    /// # Errors
    /// It is not ready, or this node cannot decide it.
    pub async fn promote(&self, name: &str) -> Result<(), Error> {
        let _one = self.one_change()?;
        let node = self
            .judged(|roster| {
                let node = roster.named(name)?.id;
                roster.may_vote(node).map(|()| node)
            })
            .await?;
        self.change(ChangeMembers::AddVoterIds(BTreeSet::from([node])), Leavers::Stay).await
    }

    /// Makes a voter a learner.
    ///
    /// # Errors
    /// The rest could decide nothing, or this node cannot decide it.
    pub async fn demote(&self, name: &str) -> Result<(), Error> {
        let _one = self.one_change()?;
        let learner = self
            .judged(|roster| {
                let member = roster.named(name)?;
                roster.may_learn(member.id)?;
                Ok(Member { to_vote: false, ..member.clone() })
            })
            .await?;
        let node = learner.id;
        let change = ChangeMembers::Batch(vec![
            ChangeMembers::SetNodes(BTreeMap::from([(node, learner)])),
            ChangeMembers::RemoveVoters(BTreeSet::from([node])),
        ]);
        self.change(change, Leavers::Stay).await
    }

    /// Admits the node that waits with an empty disk at the newcomer's address, and tells it so. Its number is returned.
    ///
    /// # Errors
    /// No such node waits there; or as [`Control::admit`].
    pub async fn fetch(&self, newcomer: Newcomer) -> Result<NodeId, Denial> {
        self.leads()?;
        let Newcomer { name, address, .. } = newcomer.clone();
        let away = |e: String| {
            let mend = format!(
                "start tandemd there with an empty data_dir, cluster = {:?} and name = {name:?}",
                self.identity.cluster
            );
            Denial::Unfit(format!("{name} does not answer at {address} ({e}); {mend}"))
        };
        let found = asking::probe(&self.dial, &address, &self.identity).await.map_err(away)?;
        if (found.cluster.as_str(), found.name.as_str()) != (self.identity.cluster.as_str(), name.as_str()) {
            let who = format!("node {:?} of cluster {:?}", found.name, found.cluster);
            return Err(Denial::Unfit(format!("{who} answers at {address}: mend the address, or its node.toml")));
        }
        if found.identity.is_some() || found.formed {
            return Err(Denial::Unfit(format!(
                "{name} at {address} belongs to a cluster already; to take it in anew stop it, empty its data_dir, start it and ask again"
            )));
        }
        let identity = self.admit(newcomer).await?;
        let node = identity.node;
        asking::adopt(&self.dial, &address, pb::AdoptRequest { identity: Some(identity) }).await.map_err(away)?;
        Ok(node)
    }

    /// Waits until `node` is what it is to become, and has taken the place of whoever had its name; false: not within `patience`.
    pub async fn settled(&self, node: NodeId, patience: Duration) -> bool {
        let mut standing = self.standing();
        let settled = standing.wait_for(|s| {
            s.members.get(&node).is_some_and(|m| {
                let alone = s.members.values().filter(|other| other.name == m.name).count() == 1;
                alone && (s.voters.contains(&node) || !m.to_vote)
            })
        });
        matches!(tokio::time::timeout(patience, settled).await, Ok(Ok(_)))
    }

    /// Only one change at a time is made from here; openraft refuses a second one from elsewhere.
    pub(super) fn one_change(&self) -> Result<OwnedMutexGuard<()>, Error> {
        self.changing.clone().try_lock_owned().map_err(|_| Error::Busy)
    }

    /// Adds a learner.
    pub(super) async fn add(&self, member: Member) -> Result<(), Error> {
        self.change(ChangeMembers::AddNodes(BTreeMap::from([(member.id, member)])), Leavers::Stay).await
    }

    /// Does what is next to be done; the leader's steward calls it again and again.
    pub(super) async fn do_chore(&self) -> Result<(), Error> {
        let Ok(_one) = self.one_change() else { return Ok(()) };
        let roster = self.roster()?;
        let Some(chore) = roster.chore() else { return Ok(()) };
        tracing::info!(?chore, "members change");
        match chore {
            Chore::Settle => self.change(ChangeMembers::AddVoterIds(BTreeSet::new()), Leavers::Stay).await,
            Chore::Drop(gone) => self.drop_members(&roster, gone).await,
            Chore::Promote { node, instead_of } => {
                let change = ChangeMembers::Batch(vec![
                    ChangeMembers::AddVoterIds(BTreeSet::from([node])),
                    ChangeMembers::RemoveVoters(instead_of.clone()),
                ]);
                self.change(change, Leavers::Go).await?;
                let learners: BTreeSet<NodeId> = instead_of.difference(&roster.voters).copied().collect();
                self.drop_members(&roster, learners).await
            }
        }
    }

    async fn drop_members(&self, roster: &Roster, gone: BTreeSet<NodeId>) -> Result<(), Error> {
        let (voters, learners): (BTreeSet<NodeId>, BTreeSet<NodeId>) =
            gone.into_iter().partition(|id| roster.voters.contains(id));
        if !voters.is_empty() {
            self.change(ChangeMembers::RemoveVoters(voters), Leavers::Go).await?;
        }
        if !learners.is_empty() {
            self.change(ChangeMembers::RemoveNodes(learners), Leavers::Stay).await?;
        }
        Ok(())
    }

    async fn change(&self, change: Members, leavers: Leavers) -> Result<(), Error> {
        let raft = self.raft()?;
        match tokio::time::timeout(PATIENCE, raft.change_membership(change, leavers == Leavers::Stay)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(e)) => Err(self.refusal(&e)),
            Err(_) => Err(self.no_quorum()),
        }
    }
}
