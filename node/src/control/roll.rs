//! Who is a member, and who was: node numbers are given once and never again. Pure.

use std::collections::BTreeSet;

use super::standing::NodeId;

/// How a machine comes back whose number counts no more, with and without certificates.
pub(super) const COME_BACK: &str = "to come back under a new number: stop tandemd, move its data_dir and node.toml away, on a member \
    tandemctl token create, and here what that prints (without certificates: only empty data_dir, start tandemd, and on a member \
    tandemctl node add NAME --address HOST:PORT)";

/// The roll of a cluster; part of its state, the same on every node after the same log entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Roll {
    next: NodeId,
    members: BTreeSet<NodeId>,
    removed: BTreeSet<NodeId>,
}

impl Default for Roll {
    /// Nobody yet; the first number is 1.
    fn default() -> Self {
        Self { next: 1, members: BTreeSet::new(), removed: BTreeSet::new() }
    }
}

impl Roll {
    /// A roll read back from a snapshot.
    pub fn restored(
        next: NodeId,
        members: impl IntoIterator<Item = NodeId>,
        removed: impl IntoIterator<Item = NodeId>,
    ) -> Self {
        Self { next: next.max(1), members: members.into_iter().collect(), removed: removed.into_iter().collect() }
    }

    /// Gives out the next number.
    pub fn take(&mut self) -> NodeId {
        let node = self.next;
        self.next += 1;
        node
    }

    /// These are the members from now on; whoever was one and is not named is removed for good.
    pub fn members_are(&mut self, now: impl IntoIterator<Item = NodeId>) {
        let now: BTreeSet<NodeId> = now.into_iter().collect();
        let gone = self.members.difference(&now);
        self.removed.extend(gone);
        // Founders have their numbers from their files, not from here.
        self.next = self.next.max(now.last().map_or(0, |last| last + 1));
        self.members = now;
    }

    /// It was a member once and is none now.
    pub fn is_removed(&self, node: NodeId) -> bool {
        self.removed.contains(&node)
    }

    /// The number the next newcomer gets.
    pub fn next(&self) -> NodeId {
        self.next
    }

    /// Everyone who is a member.
    pub fn members(&self) -> impl Iterator<Item = NodeId> {
        self.members.iter().copied()
    }

    /// Everyone who was and is none now.
    pub fn removed(&self) -> impl Iterator<Item = NodeId> {
        self.removed.iter().copied()
    }
}
