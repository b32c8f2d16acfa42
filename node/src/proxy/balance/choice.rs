//! Each way to balance, by its name.

use super::candidate::Candidate;
use super::rotation::Rotation;
use super::{hash, two};
use crate::config::model::Balance;

/// What a choice depends on beside the candidates and the rotation.
#[derive(Debug, Clone, Copy)]
pub(in crate::proxy) struct Choice {
    pub(in crate::proxy) balance: Balance,
    /// `hash`: the most a backend may have, in percent of its fair share.
    pub(in crate::proxy) bound: u32,
    /// `hash`: what it hashes, hashed; `None`: the request has nothing of the kind.
    pub(in crate::proxy) key: Option<u64>,
    /// `p2c`: a random number.
    pub(in crate::proxy) chance: u64,
}

/// The index of the one to take; `None` if there is none.
pub(in crate::proxy) fn choose(how: Choice, rotation: &mut Rotation, candidates: &[Candidate]) -> Option<usize> {
    match (how.balance, how.key) {
        (Balance::RoundRobin, _) => rotation.in_turn(candidates),
        (Balance::P2c, _) => two::pick(how.chance, candidates),
        (Balance::Hash, Some(key)) => hash::pick(key, how.bound, candidates),
        // Without a key any will do; the least busy one evens out what the keys make uneven.
        (Balance::LeastSessions, _) | (Balance::Hash, None) => rotation.least(candidates),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::proxy::balance::candidate::tests::candidates;

    #[test]
    fn nobody_is_chosen_from_none_and_the_only_one_always() {
        for (_, balance) in Balance::WORDS {
            for key in [None, Some(7)] {
                let how = Choice { balance: *balance, bound: 125, key, chance: u64::MAX };
                assert_eq!(choose(how, &mut Rotation::default(), &[]), None, "{balance}");
                let one = candidates(&[(1, 1_000_000)]);
                assert_eq!(choose(how, &mut Rotation::default(), &one), Some(0), "{balance}");
            }
        }
    }

    #[test]
    fn a_request_without_a_key_goes_to_the_least_busy() {
        let c = candidates(&[(100, 3), (100, 1), (100, 2)]);
        let how = Choice { balance: Balance::Hash, bound: 125, key: None, chance: 0 };
        assert_eq!(choose(how, &mut Rotation::default(), &c), Some(1));
    }
}
