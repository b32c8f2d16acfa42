//! The members as the leader sees them: what may be changed, and what is still to be done. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::standing::{Member, NodeId};

/// What the leader knows of its members at one moment.
#[derive(Debug, Clone, Default)]
pub struct Roster {
    /// Everyone.
    pub members: BTreeMap<NodeId, Member>,
    /// Those who vote.
    pub voters: BTreeSet<NodeId>,
    /// A change of voters is half done: two sets of them must agree.
    pub joint: bool,
    /// Who has answered within the last second, the leader included.
    pub alive: BTreeSet<NodeId>,
    /// Who has all of the log but its last few entries.
    pub caught_up: BTreeSet<NodeId>,
}

/// What is left to do, one at a time. The members themselves tell, so that it is done even if the leader dies meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Chore {
    /// A change of voters was begun: end it.
    Settle,
    /// A newcomer has caught up: it votes from now on, and those whose place it takes go.
    Promote { node: NodeId, instead_of: BTreeSet<NodeId> },
    /// Those whose place a newcomer has taken go.
    Drop(BTreeSet<NodeId>),
}

/// Why a change of members is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such member.
    #[error("no node is called {name:?}; known: {known}")]
    Unknown {
        /// As asked.
        name: String,
        /// Those there are.
        known: String,
    },
    /// Fewer than a majority of the voters after the change answer.
    #[error(
        "the cluster would lose its quorum: of the voters then ({voters}) only {alive} of the {majority} needed would answer; \
         bring {missing} back, or remove it first"
    )]
    Quorum {
        /// By name.
        voters: String,
        /// How many answer.
        alive: usize,
        /// How many must.
        majority: usize,
        /// Those who do not answer.
        missing: String,
    },
    /// It is what it shall become.
    #[error("{0} votes already")]
    Votes(String),
    /// It is what it shall become.
    #[error("{0} is a learner already")]
    Learns(String),
    /// It would count before it can.
    #[error("{0} has not caught up with the log; see that it runs, then ask again: tandemctl node ls")]
    Behind(String),
    /// Somebody must vote.
    #[error("{0} is the last voter; let another one join first: tandemctl token create")]
    Last(String),
}

impl Refusal {
    /// Whether it says no more than that somebody has not been heard.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Quorum { .. } | Self::Behind(_))
    }
}

impl Roster {
    /// The member called `name`; the newest where one is about to take another's place.
    ///
    /// # Errors
    /// There is none.
    pub fn named(&self, name: &str) -> Result<&Member, Refusal> {
        self.members
            .values()
            .rfind(|m| m.name == name)
            .ok_or_else(|| Refusal::Unknown { name: name.to_owned(), known: self.names(self.members.keys()) })
    }

    /// Everyone called `name`.
    pub fn all_named(&self, name: &str) -> BTreeSet<NodeId> {
        self.members.values().filter(|m| m.name == name).map(|m| m.id).collect()
    }

    /// May these leave, or stop voting?
    ///
    /// # Errors
    /// The rest could decide nothing.
    pub fn may_lose(&self, gone: &BTreeSet<NodeId>) -> Result<(), Refusal> {
        if self.voters.is_disjoint(gone) {
            return Ok(());
        }
        let left: BTreeSet<NodeId> = self.voters.difference(gone).copied().collect();
        if left.is_empty() {
            return Err(Refusal::Last(self.names(&self.voters)));
        }
        self.would_decide(&left)
    }

    /// May this learner vote?
    ///
    /// # Errors
    /// It does, or is not ready, or the others are too few.
    pub fn may_vote(&self, node: NodeId) -> Result<(), Refusal> {
        let name = || self.names([&node]);
        if self.voters.contains(&node) {
            return Err(Refusal::Votes(name()));
        }
        if !self.ready(node) {
            return Err(Refusal::Behind(name()));
        }
        self.would_decide(&self.voters.iter().copied().chain([node]).collect())
    }

    /// May this voter become a learner?
    ///
    /// # Errors
    /// It is one, or the rest could decide nothing.
    pub fn may_learn(&self, node: NodeId) -> Result<(), Refusal> {
        if !self.voters.contains(&node) {
            return Err(Refusal::Learns(self.names([&node])));
        }
        self.may_lose(&BTreeSet::from([node]))
    }

    /// What is to be done next. Where two have one name, the newer takes the older's place once it has caught up.
    pub(super) fn chore(&self) -> Option<Chore> {
        if self.joint {
            return Some(Chore::Settle);
        }
        let newest = |m: &&Member| self.all_named(&m.name).last() == Some(&m.id);
        self.members.values().filter(newest).filter(|m| self.ready(m.id)).find_map(|m| {
            let mut older = self.all_named(&m.name);
            older.remove(&m.id);
            let left: BTreeSet<NodeId> = self.voters.difference(&older).copied().collect();
            if m.to_vote && !self.voters.contains(&m.id) {
                let then = left.into_iter().chain([m.id]).collect();
                self.would_decide(&then).is_ok().then_some(Chore::Promote { node: m.id, instead_of: older })
            } else {
                (!older.is_empty() && self.may_lose(&older).is_ok()).then_some(Chore::Drop(older))
            }
        })
    }

    fn ready(&self, node: NodeId) -> bool {
        self.alive.contains(&node) && self.caught_up.contains(&node)
    }

    fn would_decide(&self, voters: &BTreeSet<NodeId>) -> Result<(), Refusal> {
        let (alive, majority) = (voters.intersection(&self.alive).count(), voters.len() / 2 + 1);
        if alive >= majority {
            return Ok(());
        }
        Err(Refusal::Quorum {
            voters: self.names(voters),
            alive,
            majority,
            missing: self.names(voters.difference(&self.alive)),
        })
    }

    fn names<'a>(&self, nodes: impl IntoIterator<Item = &'a NodeId>) -> String {
        let name = |id: &NodeId| self.members.get(id).map_or_else(|| format!("node {id}"), |m| m.name.clone());
        nodes.into_iter().map(name).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `a1 b2! -w3`: a, b, w with their numbers; `!` is behind, `-` does not answer. The voters are numbers.
    fn roster(members: &str, voters: &[NodeId]) -> Roster {
        let mut roster = Roster { voters: voters.iter().copied().collect(), ..Roster::default() };
        for word in members.split_whitespace() {
            let bare = word.trim_start_matches('-').trim_end_matches('!');
            let (name, id) = bare.split_at(1);
            let id = id.parse().expect("a name of one letter and a number");
            roster.members.insert(id, Member { id, name: name.into(), to_vote: id > 3, ..Member::default() });
            if !word.starts_with('-') {
                roster.alive.insert(id);
            }
            if !word.ends_with('!') {
                roster.caught_up.insert(id);
            }
        }
        roster
    }

    fn ids(all: &[NodeId]) -> BTreeSet<NodeId> {
        all.iter().copied().collect()
    }

    #[test]
    fn nobody_leaves_whose_vote_is_needed() {
        let all = roster("a1 b2 w3", &[1, 2, 3]);
        assert_eq!(all.may_lose(&ids(&[3])), Ok(()));
        let one_down = roster("a1 -b2 w3", &[1, 2, 3]);
        assert_eq!(one_down.may_lose(&ids(&[2])), Ok(()), "the dead one may go");
        let why = one_down.may_lose(&ids(&[3])).expect_err("a alone is no majority of a and b").to_string();
        assert!(why.contains("(a, b) only 1 of the 2") && why.contains("bring b back"), "{why}");
        assert_eq!(roster("a1 b2", &[1]).may_lose(&ids(&[1])), Err(Refusal::Last("a".into())));
        assert_eq!(roster("a1 -b2", &[1]).may_lose(&ids(&[2])), Ok(()), "a learner's vote is none");
    }

    #[test]
    fn a_learner_votes_when_it_can() {
        assert_eq!(roster("a1 b2 w3 c4", &[1, 2, 3]).may_vote(4), Ok(()));
        assert_eq!(roster("a1 b2 w3 c4!", &[1, 2, 3]).may_vote(4), Err(Refusal::Behind("c".into())));
        assert_eq!(roster("a1 b2 w3 -c4", &[1, 2, 3]).may_vote(4), Err(Refusal::Behind("c".into())));
        assert_eq!(roster("a1 b2 w3", &[1, 2, 3]).may_vote(3), Err(Refusal::Votes("w".into())));
        assert_eq!(roster("a1 b2 w3", &[1, 2]).may_learn(3), Err(Refusal::Learns("w".into())));
    }

    #[test]
    fn a_newcomer_votes_once_it_has_caught_up() {
        assert_eq!(roster("a1 b2 w3 c4!", &[1, 2, 3]).chore(), None);
        let promote = Chore::Promote { node: 4, instead_of: ids(&[]) };
        assert_eq!(roster("a1 b2 w3 c4", &[1, 2, 3]).chore(), Some(promote));
        assert_eq!(roster("a1 b2 w3 c4", &[1, 2, 3, 4]).chore(), None);
    }

    #[test]
    fn a_newcomer_takes_the_place_of_the_dead_one_in_one_step() {
        assert_eq!(roster("a1 -b2 w3 b4!", &[1, 2, 3]).chore(), None, "not before it has caught up");
        let replace = Chore::Promote { node: 4, instead_of: ids(&[2]) };
        assert_eq!(roster("a1 -b2 w3 b4", &[1, 2, 3]).chore(), Some(replace));
        // It crashed before it knew its number, and came again.
        let twice = Chore::Promote { node: 5, instead_of: ids(&[2, 4]) };
        assert_eq!(roster("a1 -b2 w3 -b4! b5", &[1, 2, 3]).chore(), Some(twice));
        assert_eq!(roster("a1 -b4 w3 b5", &[1, 3, 5]).chore(), Some(Chore::Drop(ids(&[4]))));
    }

    #[test]
    fn what_a_dead_leader_began_is_ended_first() {
        let half = Roster { joint: true, ..roster("a1 b2 w3 c4", &[1, 2, 3]) };
        assert_eq!(half.chore(), Some(Chore::Settle));
    }
}
