//! Taking turns: the smooth weighted round robin of nginx, among all or among the least busy.

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

use super::candidate::{Candidate, busy};

/// How far each backend's turn has come, by its mark. Those that are not candidates keep their place.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Rotation(HashMap<u64, i64, BuildHasherDefault<AsItIs>>);

/// A mark is a hash already, and each choice looks up all of them.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn write(&mut self, bytes: &[u8]) {
        // Not for marks; but right for whatever comes.
        self.0 = bytes.iter().fold(self.0, |all, byte| all.rotate_left(8) ^ u64::from(*byte));
    }

    fn write_u64(&mut self, mark: u64) {
        self.0 = mark;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl Rotation {
    /// The index of the one whose turn it is; `None` if there is none.
    pub(super) fn in_turn(&mut self, candidates: &[Candidate]) -> Option<usize> {
        self.next(candidates, |_| true)
    }

    /// The index of one with the least load for its weight; `None` if there is none.
    pub(super) fn least(&mut self, candidates: &[Candidate]) -> Option<usize> {
        let least = candidates.iter().min_by(|a, b| busy(a, b))?;
        // Among equals the rotation decides, so that an idle set is spread by weight.
        self.next(candidates, |c| busy(c, least).is_eq())
    }

    fn next(&mut self, candidates: &[Candidate], among: impl Fn(&Candidate) -> bool) -> Option<usize> {
        let (mut total, mut best) = (0, None);
        for (i, c) in candidates.iter().enumerate().filter(|(_, c)| among(c)) {
            let turn = self.0.entry(c.mark).or_default();
            *turn += i64::from(c.weight.get());
            total += i64::from(c.weight.get());
            if best.is_none_or(|(_, most)| *turn > most) {
                best = Some((i, *turn));
            }
        }
        let (i, _) = best?;
        if let Some(turn) = self.0.get_mut(&candidates[i].mark) {
            *turn -= total;
        }
        Some(i)
    }

    /// Forgets those that are gone, once it knows more than are `there`.
    pub(in crate::proxy) fn keep(&mut self, there: impl ExactSizeIterator<Item = u64>) {
        if self.0.len() > there.len() {
            let there: BTreeSet<u64> = there.collect();
            self.0.retain(|mark, _| there.contains(mark));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::proxy::balance::candidate::tests::candidates;

    #[test]
    fn turns_are_smooth() {
        let (c, mut r) = (candidates(&[(5, 0), (1, 0), (1, 0)]), Rotation::default());
        let turns: Vec<usize> = (0..7).map(|_| r.in_turn(&c).unwrap()).collect();
        assert_eq!(turns, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn who_is_gone_is_forgotten_and_who_stays_keeps_its_place() {
        let (c, mut r) = (candidates(&[(1, 0), (1, 0), (1, 0)]), Rotation::default());
        assert_eq!(r.in_turn(&c), Some(0));
        r.keep(c.iter().map(|c| c.mark));
        assert_eq!(r.in_turn(&c), Some(1), "all are there");
        r.keep(c[1..].iter().map(|c| c.mark));
        assert_eq!((r.0.len(), r.in_turn(&c[1..])), (2, Some(1)), "it is the third one's turn still");
    }

    proptest! {
        #[test]
        fn shares_stay_close_to_the_weights(weights in prop::collection::vec(1u32..1000, 1..6), rounds in 1u32..500) {
            let c = candidates(&weights.iter().map(|w| (*w, 0)).collect::<Vec<_>>());
            let (mut r, mut got) = (Rotation::default(), vec![0u32; c.len()]);
            for _ in 0..rounds {
                got[r.in_turn(&c).unwrap()] += 1;
            }
            let sum: u32 = weights.iter().sum();
            for (got, weight) in got.iter().zip(&weights) {
                let fair = f64::from(rounds) * f64::from(*weight) / f64::from(sum);
                // Over all weights tried it strays 1.08 turns at most.
                prop_assert!((f64::from(*got) - fair).abs() < 1.5, "{got} of {fair}");
            }
        }

        #[test]
        fn one_full_turn_gives_exactly_the_weights(weights in prop::collection::vec(1u32..50, 1..6)) {
            let c = candidates(&weights.iter().map(|w| (*w, 0)).collect::<Vec<_>>());
            let (mut r, mut got) = (Rotation::default(), vec![0u32; c.len()]);
            for _ in 0..weights.iter().sum() {
                got[r.in_turn(&c).unwrap()] += 1;
            }
            prop_assert_eq!(got, weights);
        }

        #[test]
        fn never_a_busier_one(all in prop::collection::vec((1u32..1000, 0u32..100_000), 1..8), turns in 1usize..20) {
            let (c, mut r) = (candidates(&all), Rotation::default());
            for _ in 0..turns {
                let chosen = c[r.least(&c).unwrap()];
                prop_assert!(c.iter().all(|other| busy(&chosen, other).is_le()));
            }
        }

        #[test]
        fn an_idle_set_is_spread(n in 2usize..8) {
            let (c, mut r) = (candidates(&vec![(100, 0); n]), Rotation::default());
            let mut seen: Vec<usize> = (0..n).map(|_| r.least(&c).unwrap()).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..n).collect::<Vec<_>>());
        }
    }
}
