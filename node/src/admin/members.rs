//! Who is a member, and who votes, as an operator wants it.

use std::time::Duration;

use tandem_proto::admin::v1 as pb;
use tandem_proto::admin::v1::set_member_request::Change;
use tandem_proto::raft::v1::Role as PbRole;
use tonic::Status;

use super::service::{Admin, Rooms};
use super::status::even;
use crate::control::{Denial, Error, Newcomer, NodeId, Role};

/// How long an operator waits for a newcomer to catch up; after that it goes on without her.
const PATIENCE: Duration = Duration::from_millis(2500);

impl Admin {
    /// Makes one change of members.
    ///
    /// # Errors
    /// It is refused, or another node leads.
    pub(super) async fn set_member(&self, ask: pb::SetMemberRequest) -> Result<pb::SetMemberReply, Status> {
        let rooms = self.as_leader()?;
        let control = &rooms.control;
        let refusal = |e: Error| self.refusal(&e);
        let voters = control.roster().map_err(refusal)?.voters.len();
        let change = ask.change.ok_or_else(|| Status::invalid_argument("no change is named"))?;
        match change {
            Change::Add(new) => self.take_in(rooms, self.addition(rooms, new)?).await,
            Change::Replace(new) => self.take_in(rooms, self.replacement(rooms, new)?).await,
            Change::Promote(name) => {
                let node = self.id(rooms, &name)?;
                control.promote(&name).await.map_err(refusal)?;
                tracing::info!(%name, "a voter from now on");
                Ok(reply(node, voters + 1))
            }
            Change::Demote(name) => {
                let node = self.id(rooms, &name)?;
                control.judged(|roster| roster.may_learn(node)).await.map_err(refusal)?;
                self.not_by_itself(rooms, node).await?;
                control.demote(&name).await.map_err(refusal)?;
                tracing::info!(%name, "a learner from now on");
                Ok(reply(node, voters - 1))
            }
            Change::Remove(name) => {
                let node = self.id(rooms, &name)?;
                let gone = control.judged(|roster| {
                    let gone = roster.all_named(&name);
                    roster.may_lose(&gone)?;
                    Ok(roster.voters.intersection(&gone).count())
                });
                let gone = gone.await.map_err(refusal)?;
                self.not_by_itself(rooms, node).await?;
                control.remove(&name).await.map_err(refusal)?;
                tracing::info!(%name, node, "removed");
                Ok(reply(node, voters - gone))
            }
        }
    }

    fn id(&self, rooms: &Rooms, name: &str) -> Result<NodeId, Status> {
        rooms.control.roster().and_then(|r| Ok(r.named(name)?.id)).map_err(|e| self.refusal(&e))
    }

    fn addition(&self, rooms: &Rooms, new: pb::NewMember) -> Result<Newcomer, Status> {
        self.without_certificates()?;
        if self.id(rooms, &new.name).is_ok() {
            let why = format!("a node is called {0} already; if it is dead: tandemctl node replace {0}", new.name);
            return Err(Status::invalid_argument(why));
        }
        let role = if new.role() == PbRole::Witness { Role::Witness } else { Role::Proxy };
        Ok(Newcomer { name: new.name, address: new.address, role, voter: !new.learner.unwrap_or(false) })
    }

    fn replacement(&self, rooms: &Rooms, new: pb::NewMember) -> Result<Newcomer, Status> {
        self.without_certificates()?;
        let roster = rooms.control.roster().map_err(|e| self.refusal(&e))?;
        let old = roster.named(&new.name).map_err(|e| self.refusal(&e.into()))?;
        let role = match new.role() {
            PbRole::Unspecified => old.role,
            PbRole::Proxy => Role::Proxy,
            PbRole::Witness => Role::Witness,
        };
        let voted = old.to_vote || roster.all_named(&new.name).iter().any(|id| roster.voters.contains(id));
        let address = if new.address.is_empty() { old.address.clone() } else { new.address };
        Ok(Newcomer { name: new.name, address, role, voter: new.learner.map_or(voted, |learner| !learner) })
    }

    /// A number alone would be of no use to a newcomer where its certificate must bear the same one.
    fn without_certificates(&self) -> Result<(), Status> {
        if self.desk().is_none() {
            return Ok(());
        }
        let why = "this cluster has certificates: a machine joins it with a token, and one that has the name of a dead node \
                   takes its place";
        Err(Status::invalid_argument(format!("{why}: tandemctl token create, then tandemd join")))
    }

    async fn take_in(&self, rooms: &Rooms, newcomer: Newcomer) -> Result<pb::SetMemberReply, Status> {
        let control = &rooms.control;
        let (name, voter) = (newcomer.name.clone(), newcomer.voter);
        let node = control.fetch(newcomer).await.map_err(|denial| match denial {
            Denial::Control(e) => self.refusal(&e),
            other => Status::invalid_argument(other.to_string()),
        })?;
        let done = control.settled(node, PATIENCE).await;
        let mut reply = reply(node, control.here().voters.len());
        if !done {
            let then = if voter { "it votes as soon as it has" } else { "its predecessor goes as soon as it has" };
            reply.notes.insert(0, format!("{name} is a member and catches up; {then}: tandemctl node ls"));
        }
        reply.done = done;
        Ok(reply)
    }

    /// A leader does not send itself away: it hands over, and the one who leads then is asked.
    async fn not_by_itself(&self, rooms: &Rooms, node: NodeId) -> Result<(), Status> {
        if node != rooms.control.here().me {
            return Ok(());
        }
        let standbys = self.standbys(rooms).await;
        let Some(next) = standbys.first() else {
            let why = "it leads, and no other proxy that votes and answers can take over; promote or add one first";
            return Err(Status::invalid_argument(why));
        };
        self.move_to(rooms, next).await?;
        Err(self.refusal(&Error::NotLeader(next.clone())))
    }
}

fn reply(node: NodeId, voters: usize) -> pb::SetMemberReply {
    let notes = even(voters).into_iter().collect();
    pb::SetMemberReply { node, done: true, voters: u32::try_from(voters).unwrap_or(u32::MAX), notes }
}
