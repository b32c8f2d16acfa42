//! Whom to ask next on the way to the leader. Pure.

use std::collections::{BTreeMap, BTreeSet};

/// More nodes than a cluster has: a chain of false hints ends here.
const MOST_NODES: usize = 32;

/// A walk over the nodes, round by round; in a round each node is asked once.
#[derive(Debug)]
pub(crate) struct Search {
    known: Vec<String>,
    hint: Option<String>,
    asked: BTreeSet<String>,
    said: BTreeMap<String, String>,
}

impl Search {
    /// Begins with the nodes the operator named.
    pub(crate) fn new(nodes: &[String]) -> Self {
        let mut search = Self { known: Vec::new(), hint: None, asked: BTreeSet::new(), said: BTreeMap::new() };
        search.learned(nodes.iter().cloned());
        search
    }

    /// The node to ask now; `None` when this round has asked them all.
    pub(crate) fn next(&mut self) -> Option<String> {
        let hinted = self.hint.take().filter(|h| !self.asked.contains(h));
        let next = hinted.or_else(|| self.known.iter().find(|n| !self.asked.contains(*n)).cloned())?;
        self.asked.insert(next.clone());
        Some(next)
    }

    /// A node named the leader: it is asked next, unless it was asked in this round.
    pub(crate) fn leader(&mut self, address: &str) {
        self.learned([address.to_owned()]);
        self.hint = self.known.iter().find(|n| *n == address).cloned();
    }

    /// More nodes of the cluster.
    pub(crate) fn learned(&mut self, addresses: impl IntoIterator<Item = String>) {
        for address in addresses {
            if self.known.len() < MOST_NODES && !address.is_empty() && !self.known.contains(&address) {
                self.known.push(address);
            }
        }
    }

    /// Why a node was no help; its newest word stands.
    pub(crate) fn no_help(&mut self, node: &str, why: String) {
        self.said.insert(node.to_owned(), why);
    }

    /// A new round: all may be asked again.
    pub(crate) fn again(&mut self) {
        self.asked.clear();
        self.hint = None;
    }

    /// Every node that was asked and its newest word, in the order they became known.
    pub(crate) fn tried(self) -> Vec<(String, String)> {
        let Self { known, mut said, .. } = self;
        known.into_iter().filter_map(|node| said.remove(&node).map(|why| (node, why))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(nodes: &[&str]) -> Search {
        Search::new(&nodes.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn goes_to_the_named_leader_before_the_others() {
        let mut s = search(&["a:1", "b:1"]);
        assert_eq!(s.next().as_deref(), Some("a:1"));
        s.leader("c:1");
        assert_eq!(s.next().as_deref(), Some("c:1"));
        assert_eq!(s.next().as_deref(), Some("b:1"));
        assert_eq!(s.next(), None);
    }

    #[test]
    fn two_nodes_that_name_each_other_end_the_round() {
        let mut s = search(&["a:1", "b:1"]);
        assert_eq!(s.next().as_deref(), Some("a:1"));
        s.leader("b:1");
        assert_eq!(s.next().as_deref(), Some("b:1"));
        s.leader("a:1");
        assert_eq!(s.next(), None);
        s.again();
        assert_eq!(s.next().as_deref(), Some("a:1"));
    }

    #[test]
    fn a_chain_of_ever_new_leaders_ends() {
        let mut s = search(&["a:1"]);
        let mut hops = 0;
        while s.next().is_some() {
            hops += 1;
            s.leader(&format!("x:{hops}"));
        }
        assert_eq!(hops, MOST_NODES);
    }

    #[test]
    fn tells_who_was_asked_and_the_newest_word_of_each() {
        let mut s = search(&["b:1", "a:1", "a:1", "never:1"]);
        s.no_help("a:1", "first".into());
        s.no_help("a:1", "second".into());
        s.no_help("b:1", "only".into());
        assert_eq!(s.tried(), [("b:1".into(), "only".into()), ("a:1".into(), "second".into())]);
    }
}
