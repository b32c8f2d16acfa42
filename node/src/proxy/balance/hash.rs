//! Consistent hashing: weighted rendezvous (highest random weight), with bounded loads.
//!
//! Each backend gets a score from key and address; the best score wins. So a backend that goes moves only its own keys, and
//! one that comes takes only those it wins, with no ring to build and nothing to share between nodes. A backend that has
//! its bound already is passed over (Mirrokni, Thorup, Zadimoghaddam: Consistent Hashing with Bounded Loads, 2016).

use std::net::{IpAddr, SocketAddr};

use super::candidate::Candidate;

/// So few sessions are no load: they never move a key, or the second guest of a room would meet nobody there.
const FEW: u64 = 16;

/// The index of the one to take; with a `bound` of 100 percent or more there always is one, if there is any at all.
pub(super) fn pick(key: u64, bound: u32, candidates: &[Candidate]) -> Option<usize> {
    let load: u64 = candidates.iter().map(|c| u64::from(c.load)).sum();
    let weight: u64 = candidates.iter().map(|c| u64::from(c.weight.get())).sum();
    let open = candidates.iter().enumerate().filter(|(_, c)| u64::from(c.load) < most(c, load, weight, bound));
    open.map(|(i, c)| (i, score(key, c))).min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(i, _)| i)
}

/// The most it may have once one more has come: `bound` percent of its fair share, rounded up.
fn most(c: &Candidate, load: u64, weight: u64, bound: u32) -> u64 {
    let share = (u128::from(load) + 1) * u128::from(c.weight.get()) * u128::from(bound);
    u64::try_from(share.div_ceil(u128::from(weight) * 100)).unwrap_or(u64::MAX).max(FEW)
}

/// Less is better. The first of exponential clocks with these rates is each one with a chance in proportion to its rate;
/// a rate that changes moves only keys to or from its own clock.
#[allow(clippy::cast_precision_loss, reason = "53 bits are what a double holds")]
fn score(key: u64, c: &Candidate) -> f64 {
    let uniform = ((mixed(key ^ c.mark) >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    -uniform.ln() / f64::from(c.weight.get())
}

/// A key or address as a number: FNV-1a, then mixed. It must never change: nodes of different versions have to agree.
pub(super) fn hashed(bytes: &[u8]) -> u64 {
    mixed(bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, b| (hash ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3)))
}

/// The finalizer of splitmix64: every bit of the input turns about half of the bits.
fn mixed(mut x: u64) -> u64 {
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

/// A backend's address as a number, alike on every node. Not a secret: whoever guesses the address can work it out.
pub(in crate::proxy) fn mark(address: SocketAddr) -> u64 {
    let mut bytes = [0; 18];
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    bytes[..16].copy_from_slice(&ip.octets());
    bytes[16..].copy_from_slice(&address.port().to_be_bytes());
    hashed(&bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;
    use crate::proxy::balance::candidate::tests::candidates;

    const UNBOUND: u32 = 1_000_000;

    fn keys(n: u64) -> impl Iterator<Item = u64> {
        (0..n).map(|i| hashed(&i.to_be_bytes()))
    }

    fn choices(c: &[Candidate]) -> Vec<SocketAddr> {
        keys(2000).map(|key| c[pick(key, UNBOUND, c).unwrap()].address).collect()
    }

    /// Nodes of other versions must come to the same: these may never change.
    #[test]
    fn the_numbers_are_for_ever() {
        assert_eq!(hashed(b"room-7"), 0xc0cc_6827_64b7_3509);
        assert_eq!(mark(SocketAddr::from(([10, 0, 0, 11], 9000))), 0x2a4f_56eb_ba8f_0980);
        let c = candidates(&[(100, 0), (100, 0), (50, 0)]);
        let chosen: Vec<usize> =
            ["a", "b", "c", "d", "e", "f"].map(|k| pick(hashed(k.as_bytes()), 125, &c).unwrap()).into();
        assert_eq!(chosen, [1, 2, 2, 0, 0, 1]);
    }

    #[test]
    fn few_sessions_do_not_part_a_room() {
        let mut c = candidates(&[(100, 0); 10]);
        let key = hashed(b"room");
        let room = pick(key, 125, &c).unwrap();
        for _ in 0..FEW {
            assert_eq!(pick(key, 125, &c), Some(room));
            c[room].load += 1;
        }
        assert_ne!(pick(key, 125, &c), Some(room), "a crowd does");
        assert_eq!(pick(key, UNBOUND, &c), Some(room), "unless the bound is far away");
    }

    proptest! {
        #[test]
        fn shares_follow_weight(weights in prop::collection::vec(1u32..20, 1..6)) {
            let c = candidates(&weights.iter().map(|w| (*w, 0)).collect::<Vec<_>>());
            let mut got = vec![0u32; c.len()];
            keys(10_000).for_each(|key| got[pick(key, UNBOUND, &c).unwrap()] += 1);
            let sum: u32 = weights.iter().sum();
            for (got, weight) in got.iter().zip(&weights) {
                let share = f64::from(*weight) / f64::from(sum);
                // Five times the standard deviation of 10 000 independent draws.
                let far = 5.0 * (10_000.0 * share * (1.0 - share)).sqrt();
                prop_assert!((f64::from(*got) - 10_000.0 * share).abs() <= far + 1.0, "{got} of {}", 10_000.0 * share);
            }
        }

        #[test]
        fn only_keys_of_the_one_that_goes_move(weights in prop::collection::vec(1u32..1000, 2..8), gone in any::<prop::sample::Index>()) {
            let all = candidates(&weights.iter().map(|w| (*w, 0)).collect::<Vec<_>>());
            let mut fewer = all.clone();
            let gone = fewer.remove(gone.index(all.len())).address;
            // Read the other way round: one that comes takes keys, and no other key moves.
            for (before, after) in choices(&all).into_iter().zip(choices(&fewer)) {
                prop_assert!(before == after || before == gone);
            }
        }

        #[test]
        fn only_keys_of_the_one_whose_weight_changes_move(
            weights in prop::collection::vec(1u32..1000, 2..8),
            which in any::<prop::sample::Index>(),
            to in 1u32..1000,
        ) {
            let before = candidates(&weights.iter().map(|w| (*w, 0)).collect::<Vec<_>>());
            let mut after = before.clone();
            let changed = &mut after[which.index(before.len())];
            let heavier = to > changed.weight.get();
            changed.weight = to.try_into().unwrap();
            let changed = changed.address;
            for (before, after) in choices(&before).into_iter().zip(choices(&after)) {
                let taker = if heavier { after } else { before };
                prop_assert!(before == after || taker == changed);
            }
        }

        #[test]
        fn the_bound_is_never_exceeded(
            weights in prop::collection::vec(1u32..100, 1..8),
            bound in 101u32..300,
            n in 1u64..600,
            hot in 1u64..20,
        ) {
            let mut c = candidates(&weights.iter().map(|w| (*w, 0)).collect::<Vec<_>>());
            let sum: u64 = weights.iter().map(|w| u64::from(*w)).sum();
            for i in 0..n {
                // Few keys, so that they crowd.
                let chosen = pick(hashed(&(i % hot).to_be_bytes()), bound, &c);
                prop_assert!(chosen.is_some(), "there is always one below its bound");
                c[chosen.unwrap()].load += 1;
                for c in &c {
                    let share = (i + 1) as f64 * f64::from(c.weight.get()) / sum as f64;
                    let most = (share * f64::from(bound) / 100.0).ceil().max(FEW as f64);
                    // Those that were at their bound when there were fewer are below it now.
                    prop_assert!(f64::from(c.load) <= most, "{} of {most}", c.load);
                }
            }
        }
    }
}
