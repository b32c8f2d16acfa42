//! Power of two choices: of two drawn by weight, the one that would answer sooner.

use super::candidate::Candidate;

/// Below this, in microseconds, answers are equally fast and the load decides.
const FAST: u32 = 100;
/// What a backend counts, in microseconds, that has been asked and has not answered yet: one question is enough to find
/// out how fast it is.
const UNKNOWN: u32 = 1_000_000;

/// The index of the one to take. `chance`: its upper half draws the first, its lower half the second.
pub(super) fn pick(chance: u64, candidates: &[Candidate]) -> Option<usize> {
    let (first, second) = draw(chance, candidates)?;
    let second = second.filter(|second| is_better(&candidates[*second], &candidates[first]));
    Some(second.unwrap_or(first))
}

/// Two different ones, each with a chance in proportion to its weight; one, if there is no more.
fn draw(chance: u64, candidates: &[Candidate]) -> Option<(usize, Option<usize>)> {
    let total = candidates.iter().map(weight).sum();
    let first = nth(chance >> 32, total, candidates, None)?;
    let rest = total - weight(&candidates[first]);
    Some((first, nth(chance & 0xffff_ffff, rest, candidates, Some(first))))
}

/// Whom `chance`, out of 2³², falls on, as all but `without` lie side by side, each as wide as its weight.
fn nth(chance: u64, total: u64, candidates: &[Candidate], without: Option<usize>) -> Option<usize> {
    // Weights are 100 000 at most: 2³¹ of them fit.
    let mut left = (u128::from(chance) * u128::from(total)) >> 32;
    candidates.iter().enumerate().filter(|(i, _)| Some(*i) != without).find_map(|(i, c)| {
        let width = u128::from(weight(c));
        if left < width {
            return Some(i);
        }
        left -= width;
        None
    })
}

fn weight(c: &Candidate) -> u64 {
    c.weight.get().into()
}

/// Compares latency × (load + 1) / weight without dividing.
fn is_better(a: &Candidate, b: &Candidate) -> bool {
    let cross = |x: &Candidate, y: &Candidate| wait(x) * u128::from(y.weight.get());
    cross(a, b) < cross(b, a)
}

/// What the next one would wait there, in microseconds.
fn wait(c: &Candidate) -> u128 {
    let latency = match c.latency {
        Some(latency) => latency.as_micros().max(FAST.into()),
        None if c.load == 0 => 0,
        None => UNKNOWN.into(),
    };
    latency * (u128::from(c.load) + 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::num::NonZeroU32;
    use std::time::Duration;

    use proptest::prelude::*;
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;
    use crate::proxy::balance::candidate::tests::candidates;

    fn known(all: &[(u32, u32, u64)]) -> Vec<Candidate> {
        let mut c = candidates(&all.iter().map(|(w, l, _)| (*w, *l)).collect::<Vec<_>>());
        c.iter_mut().zip(all).for_each(|(c, (_, _, ms))| c.latency = Some(Duration::from_millis(*ms)));
        c
    }

    #[test]
    fn the_slow_one_of_two_is_avoided_until_the_fast_one_is_full() {
        let c = known(&[(100, 0, 200), (100, 0, 10)]);
        assert!((0..64).all(|i| pick(1 << i, &c) == Some(1)));
        let c = known(&[(100, 0, 200), (100, 20, 10)]);
        assert!((0..64).all(|i| pick(1 << i, &c) == Some(0)));
    }

    #[test]
    fn one_nobody_knows_is_asked_once() {
        let mut c = known(&[(100, 5, 10), (100, 0, 10)]);
        c[1].latency = None;
        assert_eq!(pick(7, &c), Some(1));
        c[1].load = 1;
        assert_eq!(pick(7, &c), Some(0), "and not again before it has answered");
    }

    #[test]
    fn nobody_starves_who_is_as_good() {
        let c = known(&[(100, 0, 1); 5]);
        let mut chance = StdRng::seed_from_u64(1);
        let mut got = [0; 5];
        for _ in 0..10_000 {
            got[pick(chance.random(), &c).unwrap()] += 1;
        }
        assert!(got.iter().all(|n| (1800..2200).contains(n)), "{got:?}");
    }

    proptest! {
        #[test]
        fn never_the_worse_of_its_two(
            all in prop::collection::vec((1u32..100_000, 0u32..1000, 0u64..5000), 2..10),
            chance in any::<u64>(),
        ) {
            let c = known(&all);
            let (first, second) = draw(chance, &c).unwrap();
            let (chosen, second) = (pick(chance, &c).unwrap(), second.unwrap());
            prop_assert_ne!(first, second);
            let other = if chosen == first { second } else { first };
            prop_assert!(chosen == first || chosen == second);
            prop_assert!(!is_better(&c[other], &c[chosen]));
        }

        #[test]
        fn sessions_that_stay_are_shared_by_weight(weights in prop::collection::vec(1u32..20, 2..6), seed in any::<u64>()) {
            let mut c = known(&weights.iter().map(|w| (*w, 0, 5)).collect::<Vec<_>>());
            let mut chance = StdRng::seed_from_u64(seed);
            let (n, sum) = (4000u32, weights.iter().sum::<u32>());
            for _ in 0..n {
                let chosen = pick(chance.random(), &c).unwrap();
                c[chosen].load += 1;
            }
            for c in &c {
                let fair = f64::from(n) * f64::from(c.weight.get()) / f64::from(sum);
                prop_assert!((f64::from(c.load) - fair).abs() < fair * 0.1 + 20.0, "{} of {fair}", c.load);
            }
        }

        #[test]
        fn the_first_draw_follows_weight(weights in prop::collection::vec(1u32..20, 1..6)) {
            let c = candidates(&weights.iter().map(|w| (*w, 0)).collect::<Vec<_>>());
            let (n, sum) = (10_000u64, weights.iter().sum::<u32>());
            let mut got = vec![0u32; c.len()];
            // Evenly over all chances instead of at random: then it is exact but for rounding.
            for i in 0..n {
                got[draw(((i << 32) / n) << 32, &c).unwrap().0] += 1;
            }
            for (got, c) in got.iter().zip(&c) {
                let fair = 10_000.0 * f64::from(NonZeroU32::get(c.weight)) / f64::from(sum);
                prop_assert!((f64::from(*got) - fair).abs() <= 1.0, "{got} of {fair}");
            }
        }
    }
}
