//! Proto types ⇄ Raft types, and nothing else: what goes over the wire and to disk is ours, whatever openraft's own types become.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use openraft::EntryPayload;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use prost::Message;
use tandem_proto::model::Config;
use tandem_proto::raft::v1 as pb;

use super::history::History;
use super::level::LEVEL;
use super::raft::{Change, Entry, LeaderId, LogId, Membership, SnapshotMeta, StoredMembership, Types, Vote};
use super::roll::Roll;
use super::standing::{Member, NodeId, Role};
use super::state::State;
use super::trust::Trust;

/// A message that no node of this version would have sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum Malformed {
    /// It cannot be made sense of.
    #[error("malformed message: {0} (a bug, or a node of another version)")]
    Senseless(&'static str),
    /// It can, by a newer build.
    #[error("level {0} is needed and this tandemd knows {LEVEL}: upgrade tandemd on this node")]
    Newer(u32),
}

pub(super) fn vote_out(v: &Vote) -> pb::Vote {
    pb::Vote { term: v.leader_id.term, node: v.leader_id.node_id, committed: v.committed }
}

pub(super) fn vote_in(v: Option<pb::Vote>) -> Result<Vote, Malformed> {
    let v = v.ok_or(Malformed::Senseless("no vote"))?;
    Ok(Vote { leader_id: LeaderId { term: v.term, node_id: v.node }, committed: v.committed })
}

pub(super) fn log_id_out(id: &LogId) -> pb::LogId {
    pb::LogId { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
}

pub(super) fn log_id_in(id: pb::LogId) -> LogId {
    LogId { leader_id: LeaderId { term: id.term, node_id: id.node }, index: id.index }
}

impl From<&Member> for pb::Member {
    fn from(m: &Member) -> Self {
        let role = role_out(m.role);
        Self { id: m.id, name: m.name.clone(), address: m.address.clone(), role: role.into(), to_vote: m.to_vote }
    }
}

pub(super) fn role_out(role: Role) -> pb::Role {
    match role {
        Role::Proxy => pb::Role::Proxy,
        Role::Witness => pb::Role::Witness,
    }
}

pub(super) fn role_in(role: pb::Role) -> Role {
    match role {
        pb::Role::Witness => Role::Witness,
        pb::Role::Proxy | pb::Role::Unspecified => Role::Proxy,
    }
}

pub(super) fn member_in(m: pb::Member) -> Member {
    let role = role_in(m.role());
    Member { id: m.id, name: m.name, address: m.address, role, to_vote: m.to_vote }
}

pub(super) fn membership_out(m: &Membership) -> pb::Membership {
    let sets = m.get_joint_config().iter();
    pb::Membership {
        configs: sets.map(|ids| pb::VoterSet { ids: ids.iter().copied().collect() }).collect(),
        members: m.nodes().map(|(_, node)| node.into()).collect(),
    }
}

pub(super) fn membership_in(m: pb::Membership) -> Result<Membership, Malformed> {
    let configs: Vec<BTreeSet<NodeId>> = m.configs.into_iter().map(|set| set.ids.into_iter().collect()).collect();
    let nodes: BTreeMap<NodeId, Member> = m.members.into_iter().map(|m| (m.id, member_in(m))).collect();
    if configs.is_empty() {
        return Ok(Membership::default());
    }
    Membership::new(configs, nodes).map_err(|_| Malformed::Senseless("a voter that is no member"))
}

pub(super) fn entry_out(e: Entry) -> pb::Entry {
    let payload = match e.payload {
        EntryPayload::Blank => pb::entry::Payload::Blank(pb::Blank {}),
        EntryPayload::Normal(Change(command)) => pb::entry::Payload::Command(command),
        EntryPayload::Membership(m) => pb::entry::Payload::Membership(membership_out(&m)),
    };
    pb::Entry { log_id: Some(log_id_out(&e.log_id)), payload: Some(payload) }
}

pub(super) fn entry_in(e: pb::Entry) -> Result<Entry, Malformed> {
    let log_id = log_id_in(e.log_id.ok_or(Malformed::Senseless("an entry without a log id"))?);
    let payload = match e.payload.ok_or(Malformed::Senseless("an entry of an unknown kind"))? {
        pb::entry::Payload::Blank(pb::Blank {}) => EntryPayload::Blank,
        // Checked before it is stored: what this build does not know is lost as soon as it writes the entry down.
        pb::entry::Payload::Command(command) if command.level > LEVEL => return Err(Malformed::Newer(command.level)),
        pb::entry::Payload::Command(command) => EntryPayload::Normal(Change(command)),
        pb::entry::Payload::Membership(m) => EntryPayload::Membership(membership_in(m)?),
    };
    Ok(Entry { log_id, payload })
}

pub(super) fn append_out(envelope: pb::Envelope, r: AppendEntriesRequest<Types>) -> pb::AppendRequest {
    pb::AppendRequest {
        envelope: Some(envelope),
        vote: Some(vote_out(&r.vote)),
        prev: r.prev_log_id.as_ref().map(log_id_out),
        entries: r.entries.into_iter().map(entry_out).collect(),
        leader_commit: r.leader_commit.as_ref().map(log_id_out),
    }
}

pub(super) fn append_in(r: pb::AppendRequest) -> Result<AppendEntriesRequest<Types>, Malformed> {
    Ok(AppendEntriesRequest {
        vote: vote_in(r.vote)?,
        prev_log_id: r.prev.map(log_id_in),
        entries: r.entries.into_iter().map(entry_in).collect::<Result<_, _>>()?,
        leader_commit: r.leader_commit.map(log_id_in),
    })
}

pub(super) fn append_reply_out(r: AppendEntriesResponse<Types>) -> pb::AppendReply {
    use pb::append_reply::Outcome;
    let outcome = match r {
        // "All of it" and "nothing was sent" are one answer.
        AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(None) => Outcome::Success(pb::Blank {}),
        AppendEntriesResponse::PartialSuccess(Some(id)) => Outcome::Partial(log_id_out(&id)),
        AppendEntriesResponse::Conflict => Outcome::Conflict(pb::Blank {}),
        AppendEntriesResponse::HigherVote(v) => Outcome::HigherVote(vote_out(&v)),
    };
    pb::AppendReply { outcome: Some(outcome) }
}

pub(super) fn append_reply_in(r: pb::AppendReply) -> Result<AppendEntriesResponse<Types>, Malformed> {
    use pb::append_reply::Outcome;
    Ok(match r.outcome.ok_or(Malformed::Senseless("an append reply without outcome"))? {
        Outcome::Success(pb::Blank {}) => AppendEntriesResponse::Success,
        Outcome::Partial(id) => AppendEntriesResponse::PartialSuccess(Some(log_id_in(id))),
        Outcome::Conflict(pb::Blank {}) => AppendEntriesResponse::Conflict,
        Outcome::HigherVote(v) => AppendEntriesResponse::HigherVote(vote_in(Some(v))?),
    })
}

pub(super) fn vote_request_out(envelope: pb::Envelope, r: &VoteRequest<Types>) -> pb::VoteRequest {
    pb::VoteRequest {
        envelope: Some(envelope),
        vote: Some(vote_out(&r.vote)),
        last: r.last_log_id.as_ref().map(log_id_out),
        transfer: r.leadership_transfer,
    }
}

pub(super) fn vote_request_in(r: pb::VoteRequest) -> Result<VoteRequest<Types>, Malformed> {
    Ok(VoteRequest { vote: vote_in(r.vote)?, last_log_id: r.last.map(log_id_in), leadership_transfer: r.transfer })
}

pub(super) fn vote_reply_out(r: &VoteResponse<Types>) -> pb::VoteReply {
    pb::VoteReply {
        vote: Some(vote_out(&r.vote)),
        granted: r.vote_granted,
        last: r.last_log_id.as_ref().map(log_id_out),
    }
}

pub(super) fn vote_reply_in(r: pb::VoteReply) -> Result<VoteResponse<Types>, Malformed> {
    Ok(VoteResponse { vote: vote_in(r.vote)?, vote_granted: r.granted, last_log_id: r.last.map(log_id_in) })
}

pub(super) fn transfer_out(envelope: pb::Envelope, r: &TransferLeaderRequest<Types>) -> pb::TransferRequest {
    pb::TransferRequest {
        envelope: Some(envelope),
        from_leader: Some(vote_out(r.from_leader())),
        to: *r.to_node_id(),
        last: r.last_log_id().map(log_id_out),
    }
}

pub(super) fn transfer_in(r: pb::TransferRequest) -> Result<TransferLeaderRequest<Types>, Malformed> {
    Ok(TransferLeaderRequest::new(vote_in(r.from_leader)?, r.to, r.last.map(log_id_in)))
}

pub(super) fn transfer_reply_out(r: TransferLeaderResponse<Types>) -> pb::TransferReply {
    use pb::transfer_reply::{LogNotFlushed, Refusal, VoteChanged};
    let refusal = r.err().map(|e| match e {
        TransferLeaderError::VoteChanged { expected, actual } => {
            Refusal::VoteChanged(VoteChanged { expected: Some(vote_out(&expected)), actual: Some(vote_out(&actual)) })
        }
        TransferLeaderError::LogNotFlushed { expected, actual } => Refusal::LogNotFlushed(LogNotFlushed {
            expected: expected.as_ref().map(log_id_out),
            actual: actual.as_ref().map(log_id_out),
        }),
    });
    pb::TransferReply { refusal }
}

pub(super) fn transfer_reply_in(r: pb::TransferReply) -> Result<TransferLeaderResponse<Types>, Malformed> {
    use pb::transfer_reply::Refusal;
    Ok(match r.refusal {
        None => Ok(()),
        Some(Refusal::VoteChanged(r)) => {
            Err(TransferLeaderError::VoteChanged { expected: vote_in(r.expected)?, actual: vote_in(r.actual)? })
        }
        Some(Refusal::LogNotFlushed(r)) => Err(TransferLeaderError::LogNotFlushed {
            expected: r.expected.map(log_id_in),
            actual: r.actual.map(log_id_in),
        }),
    })
}

pub(super) fn snapshot_meta_out(m: &SnapshotMeta) -> pb::SnapshotMeta {
    pb::SnapshotMeta {
        last: m.last_log_id.as_ref().map(log_id_out),
        membership_at: m.last_membership.log_id().as_ref().map(log_id_out),
        membership: Some(membership_out(m.last_membership.membership())),
    }
}

pub(super) fn snapshot_meta_in(m: pb::SnapshotMeta) -> Result<SnapshotMeta, Malformed> {
    let membership = membership_in(m.membership.ok_or(Malformed::Senseless("a snapshot without membership"))?)?;
    Ok(SnapshotMeta {
        last_log_id: m.last.map(log_id_in),
        last_membership: StoredMembership::new(m.membership_at.map(log_id_in), membership),
    })
}

pub(super) fn state_out(s: &State) -> pb::State {
    pb::State {
        revision: s.revision,
        config: Some((&*s.config).into()),
        requests: s.requests().map(|(id, revision)| pb::Remembered { request_id: id.to_owned(), revision }).collect(),
        changed_at_unix_ms: s.changed_at_unix_ms,
        changed_by: s.changed_by.clone(),
        history: s.history.messages(),
        next_node: s.roll.next(),
        members: s.roll.members().collect(),
        removed: s.roll.removed().collect(),
        level: s.level,
        trust: Some(s.trust.written()),
    }
}

/// Whether this build knows everything in a state as it goes over the wire.
pub(super) fn readable(data: &[u8]) -> Result<(), Malformed> {
    let state = pb::State::decode(data).map_err(|_| Malformed::Senseless("a state that is none"))?;
    if state.level > LEVEL { Err(Malformed::Newer(state.level)) } else { Ok(()) }
}

pub(super) fn state_in(s: pb::State) -> Result<State, Malformed> {
    if s.level > LEVEL {
        return Err(Malformed::Newer(s.level));
    }
    let roll = Roll::restored(s.next_node, s.members, s.removed);
    let config = Config::try_from(&s.config.unwrap_or_default())
        .map_err(|_| Malformed::Senseless("a state whose config this version does not accept"))?;
    let history = History::try_from(s.history.as_slice())
        .map_err(|_| Malformed::Senseless("a state whose history this version does not accept"))?;
    let requests = s.requests.into_iter().map(|r| (r.request_id, r.revision));
    let trust = Arc::new(s.trust.as_ref().map(Trust::restored).unwrap_or_default());
    let mut state = State::restored(s.revision, config, (s.changed_at_unix_ms, s.changed_by), history, requests);
    (state.roll, state.level, state.trust) = (roll, s.level, trust);
    Ok(state)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tandem_proto::config::v1::Command;

    use super::*;

    fn id(term: u64, node: u64, index: u64) -> LogId {
        LogId { leader_id: LeaderId { term, node_id: node }, index }
    }

    fn membership() -> Membership {
        let witness =
            Member { id: 3, name: "w".into(), address: "10.0.0.3:7440".into(), role: Role::Witness, to_vote: true };
        let proxy =
            Member { id: 1, name: "a".into(), address: "10.0.0.1:7440".into(), role: Role::Proxy, to_vote: false };
        Membership::new(vec![BTreeSet::from([1]), BTreeSet::from([1, 3])], BTreeMap::from([(1, proxy), (3, witness)]))
            .unwrap()
    }

    #[test]
    fn every_kind_of_entry_comes_back_from_disk_as_it_was() {
        let command = Command { request_id: "r".into(), expect_revision: Some(0), ..Default::default() };
        for payload in
            [EntryPayload::Blank, EntryPayload::Normal(Change(command)), EntryPayload::Membership(membership())]
        {
            let entry = Entry { log_id: id(7, 2, 9), payload };
            let bytes = entry_out(entry.clone()).encode_to_vec();
            let back = entry_in(pb::Entry::decode(bytes.as_slice()).unwrap()).unwrap();
            assert_eq!(back, entry);
        }
    }

    #[test]
    fn an_entry_of_a_kind_from_the_future_is_refused_not_skipped() {
        let entry = pb::Entry { log_id: Some(log_id_out(&id(1, 1, 1))), payload: None };
        assert!(entry_in(entry).is_err());
    }

    #[test]
    fn what_needs_a_newer_build_is_refused_before_it_is_stored() {
        let command = Command { level: LEVEL + 1, ..Default::default() };
        let payload = Some(pb::entry::Payload::Command(command));
        let entry = pb::Entry { log_id: Some(log_id_out(&id(1, 1, 1))), payload };
        let why = append_in(pb::AppendRequest {
            vote: Some(pb::Vote { term: 1, node: 1, committed: true }),
            entries: vec![entry],
            ..Default::default()
        })
        .unwrap_err();
        assert!(why.to_string().contains("upgrade tandemd on this node"), "{why}");
        let state = pb::State { level: LEVEL + 1, ..Default::default() };
        assert!(matches!(state_in(state), Err(Malformed::Newer(level)) if level == LEVEL + 1));
    }

    #[test]
    fn a_state_from_before_there_were_newcomers_is_read() {
        let state = state_in(pb::State { revision: 7, ..Default::default() }).unwrap();
        assert_eq!((state.revision, state.level, state.roll), (7, 0, Roll::default()));
    }

    #[test]
    fn votes_and_replies_come_back_as_they_were() {
        let vote = Vote { leader_id: LeaderId { term: 3, node_id: 2 }, committed: true };
        assert_eq!(vote_in(Some(vote_out(&vote))).unwrap(), vote);
        for reply in [
            AppendEntriesResponse::Success,
            AppendEntriesResponse::PartialSuccess(Some(id(1, 2, 3))),
            AppendEntriesResponse::Conflict,
            AppendEntriesResponse::HigherVote(vote),
        ] {
            assert_eq!(append_reply_in(append_reply_out(reply.clone())).unwrap(), reply);
        }
        let request = VoteRequest { vote, last_log_id: Some(id(1, 1, 1)), leadership_transfer: true };
        assert_eq!(vote_request_in(vote_request_out(pb::Envelope::default(), &request)).unwrap(), request);
    }
}
