//! Who gets the next session. Pure: the rotation is handed in and out.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;

use crate::config::model::Balance;

/// One that may be chosen now: up, active and not tried yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its identity within the upstream.
    pub(super) address: SocketAddr,
    /// Its share, relative to the others.
    pub(super) weight: NonZeroU32,
    /// Sessions and requests it has now.
    pub(super) load: u32,
}

/// How far each backend's turn has come: the smooth weighted round robin of nginx. Those that are not candidates keep
/// their place.
#[derive(Debug, Default)]
pub(super) struct Rotation(BTreeMap<SocketAddr, i64>);

impl Rotation {
    /// The index of the one to take; `None` if there is none.
    pub(super) fn pick(&mut self, balance: Balance, candidates: &[Candidate]) -> Option<usize> {
        match balance {
            Balance::RoundRobin => self.next(candidates, |_| true),
            Balance::LeastSessions => {
                let least = candidates.iter().min_by(|a, b| busy(a, b))?;
                // Among equals the rotation decides, so that an idle set is spread by weight.
                self.next(candidates, |c| busy(c, least).is_eq())
            }
        }
    }

    fn next(&mut self, candidates: &[Candidate], among: impl Fn(&Candidate) -> bool) -> Option<usize> {
        let (mut total, mut best) = (0, None);
        for (i, c) in candidates.iter().enumerate().filter(|(_, c)| among(c)) {
            let turn = self.0.entry(c.address).or_default();
            *turn += i64::from(c.weight.get());
            total += i64::from(c.weight.get());
            if best.is_none_or(|(_, most)| *turn > most) {
                best = Some((i, *turn));
            }
        }
        let (i, _) = best?;
        if let Some(turn) = self.0.get_mut(&candidates[i].address) {
            *turn -= total;
        }
        Some(i)
    }

    /// Forgets those that are gone.
    pub(super) fn keep(&mut self, is_there: impl Fn(&SocketAddr) -> bool) {
        self.0.retain(|address, _| is_there(address));
    }
}

/// Compares load/weight without dividing.
fn busy(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    let cross = |x: &Candidate, y: &Candidate| u64::from(x.load) * u64::from(y.weight.get());
    cross(a, b).cmp(&cross(b, a))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn candidates(all: &[(u32, u32)]) -> Vec<Candidate> {
        all.iter()
            .zip(1u16..)
            .map(|(&(weight, load), port)| Candidate {
                address: SocketAddr::from(([10, 0, 0, 1], port)),
                weight: NonZeroU32::new(weight).unwrap(),
                load,
            })
            .collect()
    }

    #[test]
    fn turns_are_smooth() {
        let (c, mut r) = (candidates(&[(5, 0), (1, 0), (1, 0)]), Rotation::default());
        let turns: Vec<usize> = (0..7).map(|_| r.pick(Balance::RoundRobin, &c).unwrap()).collect();
        assert_eq!(turns, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn nobody_is_picked_from_none() {
        assert_eq!(Rotation::default().pick(Balance::RoundRobin, &[]), None);
        assert_eq!(Rotation::default().pick(Balance::LeastSessions, &[]), None);
    }

    proptest! {
        #[test]
        fn shares_stay_close_to_the_weights(weights in prop::collection::vec(1u32..1000, 1..6), rounds in 1u32..500) {
            let c = candidates(&weights.iter().map(|w| (*w, 0)).collect::<Vec<_>>());
            let (mut r, mut got) = (Rotation::default(), vec![0u32; c.len()]);
            for _ in 0..rounds {
                got[r.pick(Balance::RoundRobin, &c).unwrap()] += 1;
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
                got[r.pick(Balance::RoundRobin, &c).unwrap()] += 1;
            }
            prop_assert_eq!(got, weights);
        }

        #[test]
        fn never_a_busier_one(all in prop::collection::vec((1u32..1000, 0u32..100_000), 1..8), turns in 1usize..20) {
            let (c, mut r) = (candidates(&all), Rotation::default());
            for _ in 0..turns {
                let chosen = c[r.pick(Balance::LeastSessions, &c).unwrap()];
                prop_assert!(c.iter().all(|other| busy(&chosen, other).is_le()));
            }
        }

        #[test]
        fn an_idle_set_is_spread(n in 2usize..8) {
            let (c, mut r) = (candidates(&vec![(100, 0); n]), Rotation::default());
            let mut seen: Vec<usize> = (0..n).map(|_| r.pick(Balance::LeastSessions, &c).unwrap()).collect();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..n).collect::<Vec<_>>());
        }
    }
}
