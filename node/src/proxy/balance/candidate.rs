//! What a choice knows of each backend it may choose.

use std::cmp::Ordering;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::Duration;

/// One that may be chosen now: up, active and not tried yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) struct Candidate {
    /// Which member of its upstream it is.
    pub(in crate::proxy) member: usize,
    /// Its identity within the upstream.
    pub(in crate::proxy) address: SocketAddr,
    /// The same identity as a number, alike on every node.
    pub(in crate::proxy) mark: u64,
    /// Its share, relative to the others.
    pub(in crate::proxy) weight: NonZeroU32,
    /// Sessions and requests it has now.
    pub(in crate::proxy) load: u32,
    /// How long it takes to answer; `None`: not known, or nobody asks.
    pub(in crate::proxy) latency: Option<Duration>,
}

/// Compares load/weight without dividing.
pub(super) fn busy(a: &Candidate, b: &Candidate) -> Ordering {
    let cross = |x: &Candidate, y: &Candidate| u64::from(x.load) * u64::from(y.weight.get());
    cross(a, b).cmp(&cross(b, a))
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Candidates at 10.0.0.1, ports 1, 2, …, with these weights and loads.
    pub(in super::super) fn candidates(all: &[(u32, u32)]) -> Vec<Candidate> {
        all.iter()
            .zip(1u16..)
            .enumerate()
            .map(|(member, (&(weight, load), port))| {
                let address = SocketAddr::from(([10, 0, 0, 1], port));
                let (weight, mark) = (NonZeroU32::new(weight).unwrap(), super::super::mark(address));
                Candidate { member, address, mark, weight, load, latency: None }
            })
            .collect()
    }
}
