//! Whether an address is free before it is claimed. Pure.
//!
//! The lease proves it, if clocks run and machines do as told. Where the last holder did not say that it let go, the network is
//! asked too: an answer delays the claim by one more lease, in which every holder without a majority has let go.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How long an answer is waited for. The kernel of whoever has the address gives it, within 1 ms on a LAN, also where tandemd hangs.
const PATIENCE: Duration = Duration::from_millis(30);
/// What was found is not believed longer.
const FRESH: Duration = Duration::from_secs(1);

/// What to do about an address that should be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Ask who has it.
    Ask,
    /// Not before then.
    Wait(Instant),
    /// Claim it.
    Claim,
}

/// What is known of addresses that are about to be claimed.
#[derive(Debug, Default)]
pub(super) struct Proofs(BTreeMap<IpAddr, Proof>);

#[derive(Debug)]
struct Proof {
    term: u64,
    free_at: Instant,
    answered: bool,
}

impl Proofs {
    /// What to do about it in this term.
    pub(super) fn verdict(&self, address: IpAddr, term: u64, now: Instant) -> Verdict {
        match self.0.get(&address) {
            Some(proof) if proof.term == term && now < proof.free_at => Verdict::Wait(proof.free_at),
            Some(proof) if proof.term == term && now < proof.free_at + FRESH => Verdict::Claim,
            _ => Verdict::Ask,
        }
    }

    /// The network was asked.
    pub(super) fn asked(&mut self, address: IpAddr, term: u64, now: Instant) {
        self.0.insert(address, Proof { term, free_at: now + PATIENCE, answered: false });
    }

    /// Somebody has it; whether that is news.
    pub(super) fn answered(&mut self, address: IpAddr, now: Instant, lease: Duration) -> bool {
        match self.0.get_mut(&address) {
            Some(proof) if !proof.answered && now < proof.free_at => {
                (proof.answered, proof.free_at) = (true, now + lease);
                true
            }
            _ => false,
        }
    }

    /// It was claimed, or is not to be.
    pub(super) fn forget(&mut self, address: IpAddr) {
        self.0.remove(&address);
    }
}
