//! Whether this node may hold the addresses now, and what is to be done about it. Pure.
//!
//! ```text
//!          lease good, room left, nobody answers            added
//!   (not ours) ──── Probe ─ Add ───────────▶ … ──────────────────────────▶ Held ─┐ Renew, Announce
//!        ▲                                   │ failed: it may have landed    │ ◀──┘
//!        │              gone                 ▼                               │ lease over, unwanted, asked away, stopping,
//!        └─────────────────────────────── Leaving ◀──────────────────────────┘ lost from the interface
//!                                     Remove, again and again
//! ```
//!
//! One action a decision: the shell looks at the clock and at consensus anew before each thing it does, so nothing is sent
//! on the strength of a lease that has run out meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::proof::{Proofs, Verdict};

/// The kernel drops an address by itself this long after the last renewal: the backstop, not the fence.
pub(super) const LIFETIME: Duration = Duration::from_secs(2);
/// How often the kernel's lifetime is renewed: four chances before it ends.
pub(super) const RENEW_EVERY: Duration = Duration::from_millis(500);
/// After a renewal that stayed unanswered, the next try.
const RENEW_AGAIN: Duration = Duration::from_millis(50);
/// Unanswered renewals for this long: the kernel is about to drop the address, so we no longer say that we hold it.
const NEARLY_DROPPED: Duration = Duration::from_millis(1500);
/// With less of the lease left than this nothing new is begun: it might end after the lease.
const ROOM: Duration = Duration::from_millis(20);
/// When neighbours are told after a claim: at once, twice for those that lost it, past their 1 s lock, and when all is calm.
const ANNOUNCE_AT: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_millis(1200),
    Duration::from_millis(5000),
];
/// And then for as long as it is held: a switch or neighbour that missed them all heals within this.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(60);
/// Announcements begin anew for a rival no more often than this.
const DEFEND_EVERY: Duration = Duration::from_secs(1);
/// Pause after a claim that failed, doubled with each failure in a row.
const CLAIM_AGAIN: Duration = Duration::from_millis(100);
/// The longest such pause.
pub(super) const CLAIM_AGAIN_MAX: Duration = Duration::from_secs(5);
/// Pause after a removal that failed, doubled with each failure in a row.
const REMOVE_AGAIN: Duration = Duration::from_millis(20);
/// The longest such pause: what cannot be removed may already be another node's.
const REMOVE_AGAIN_MAX: Duration = Duration::from_millis(200);

/// What the decision is made from, besides what is held.
#[derive(Debug, Clone)]
pub(super) struct View {
    /// The clock, read just now.
    pub now: Instant,
    /// The current term.
    pub term: u64,
    /// Until when this node may hold anything: the end of its lease less the margin; `None` if it does not lead.
    pub fence: Option<Instant>,
    /// It has applied all that was committed before its term, so that it serves no older config than its predecessor.
    pub caught_up: bool,
    /// What it should hold while it may.
    pub wanted: BTreeSet<IpAddr>,
    /// Whoever held it before has said that it let go; otherwise the network is asked.
    pub vacated: bool,
}

/// The next thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Take this address off the interface; clients were told already that it is gone. Never waits for a lease.
    Remove(IpAddr, Why),
    /// Ask the network who has this address; an answer is news.
    Probe(IpAddr),
    /// Put this address on the interface, with a lifetime.
    Add(IpAddr),
    /// Begin its lifetime anew.
    Renew(IpAddr),
    /// Tell the neighbours that it is here.
    Announce(IpAddr),
    /// Nothing now; decide again at this time, or when something of the view changes.
    Wait(Option<Instant>),
}

/// What happened to the addresses without our doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// Their guard is another one, or cannot be.
    Guard,
    /// Somebody took this one off the interface.
    Gone(IpAddr),
    /// The interface carries again, or under another Ethernet address.
    Carries,
    /// Whoever has this Ethernet address says to have this address too.
    Rival(IpAddr, [u8; 6]),
}

/// How an action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Done.
    Well,
    /// The kernel refused: it is not done.
    Refused,
    /// No answer: it may be done, or be done later.
    InDoubt,
}

/// Why an address is not, or no longer, held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// This node is being stopped.
    Stopping,
    /// This node does not lead.
    NotLeader,
    /// No majority has acknowledged this leader lately enough.
    LeaseOver {
        /// Since the fence: more than a few ms means that this process did not run.
        ago: Duration,
    },
    /// A planned move.
    AskedAway,
    /// The config gives this node no such address (any more).
    Unwanted,
    /// The claim or the renewal failed.
    Failed,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopping => f.write_str("this node stops"),
            Self::NotLeader => f.write_str("this node no longer leads"),
            Self::LeaseOver { ago } => write!(f, "the lease, less its margin, ran out {} ms ago", ago.as_millis()),
            Self::AskedAway => f.write_str("a planned move"),
            Self::Unwanted => f.write_str("the config no longer gives it to this node"),
            Self::Failed => f.write_str("it could not be kept on the interface"),
        }
    }
}

/// What this node holds, and what it is about to.
#[derive(Debug, Default)]
pub(super) struct Holding {
    addresses: BTreeMap<IpAddr, Phase>,
    failures: BTreeMap<IpAddr, Failures>,
    proofs: Proofs,
    away: Option<Away>,
    stopping: bool,
}

#[derive(Debug)]
enum Phase {
    Held(Held),
    /// It may be on the interface, and must not be.
    Leaving(Leaving),
}

#[derive(Debug)]
struct Leaving {
    why: Why,
    remove_at: Instant,
    failures: u32,
}

#[derive(Debug)]
struct Held {
    term: u64,
    renewed_at: Instant,
    renew_at: Instant,
    announced_from: Instant,
    announce_at: Instant,
}

#[derive(Debug)]
struct Failures {
    in_a_row: u32,
    claim_at: Instant,
}

/// Asked to leave the addresses to others, in this term and until then.
#[derive(Debug)]
struct Away {
    term: u64,
    until: Instant,
}

impl Holding {
    /// What clients can be told is here.
    pub(super) fn held(&self) -> BTreeSet<IpAddr> {
        let held = |(address, phase): (&IpAddr, &Phase)| matches!(phase, Phase::Held(_)).then_some(*address);
        self.addresses.iter().filter_map(held).collect()
    }

    /// What is, or may still be, on the interface.
    pub(super) fn present(&self) -> BTreeSet<IpAddr> {
        self.addresses.keys().copied().collect()
    }

    /// Leave everything to another node until `until`. If this node is elected anew before that, the move is over and it claims.
    pub(super) fn release(&mut self, term: u64, until: Instant) {
        self.away = Some(Away { term, until });
    }

    /// Leave everything for good.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
    }

    /// Something happened without our doing; whether it concerns this node. `lease` is L: within it of an answer, everyone
    /// without a majority has let go.
    pub(super) fn heard(&mut self, news: &News, lease: Duration, now: Instant) -> bool {
        match news {
            // A renewal asks the guard, and nothing is held without one.
            News::Guard => {
                let all = self.all_held();
                all.fold(false, |_, held| {
                    held.renew_at = now;
                    true
                })
            }
            News::Carries => {
                let all = self.all_held();
                all.fold(false, |_, held| {
                    held.announce_anew(now);
                    true
                })
            }
            News::Gone(address) => self.held_mut(*address).is_some_and(|held| {
                held.renew_at = now;
                held.announce_anew(now);
                true
            }),
            News::Rival(address, _) => {
                // Two that announce against each other would never end: so often is enough.
                let defended = self.held_mut(*address).is_some_and(|held| {
                    let rested = now >= held.announced_from + DEFEND_EVERY;
                    if rested {
                        held.announce_anew(now);
                    }
                    rested
                });
                defended || self.proofs.answered(*address, now, lease)
            }
        }
    }

    /// What to do next. After doing it say how it ended ([`Holding::ended`]), then ask again with a new view.
    pub(super) fn decide(&mut self, view: &View) -> Action {
        self.let_go(view);
        self.failures.retain(|address, _| view.wanted.contains(address));
        self.next_removal(view.now)
            .or_else(|| self.next_claim(view))
            .or_else(|| self.next_care(view))
            .unwrap_or_else(|| Action::Wait(self.wake(view)))
    }

    /// How an action ended, and when.
    pub(super) fn ended(&mut self, action: &Action, ended: Ended, view: &View, now: Instant) {
        match (action, ended) {
            (Action::Wait(_), _) => {}
            // Whether it could be asked or not: an answer that does not come is none.
            (Action::Probe(address), _) => self.proofs.asked(*address, view.term, now),
            (Action::Add(address), Ended::Well) => {
                self.proofs.forget(*address);
                self.failures.remove(address);
                self.addresses.insert(*address, Phase::Held(Held::new(view.term, now)));
            }
            // It may have landed all the same: see that it is not there before trying again.
            (Action::Add(address), Ended::Refused | Ended::InDoubt) => self.fail(*address, now),
            (Action::Remove(address, _), Ended::Well) => {
                self.addresses.remove(address);
            }
            (Action::Remove(address, _), Ended::Refused | Ended::InDoubt) => {
                if let Some(Phase::Leaving(leaving)) = self.addresses.get_mut(address) {
                    leaving.remove_at = now + doubled(REMOVE_AGAIN, leaving.failures, REMOVE_AGAIN_MAX);
                    leaving.failures += 1;
                }
            }
            (Action::Renew(address), Ended::Refused) => self.fail(*address, now),
            (Action::Renew(address), _) => {
                if self.held_mut(*address).is_some_and(|held| !held.renewed(ended, now)) {
                    self.fail(*address, now);
                }
            }
            // A lost announcement is mended by the next one.
            (Action::Announce(address), _) => {
                if let Some(held) = self.held_mut(*address) {
                    held.announce_at = next_announcement(held.announced_from, now);
                }
            }
        }
    }

    fn all_held(&mut self) -> impl Iterator<Item = &mut Held> {
        self.addresses.values_mut().filter_map(|phase| if let Phase::Held(held) = phase { Some(held) } else { None })
    }

    fn held_mut(&mut self, address: IpAddr) -> Option<&mut Held> {
        match self.addresses.get_mut(&address) {
            Some(Phase::Held(held)) => Some(held),
            _ => None,
        }
    }

    fn fail(&mut self, address: IpAddr, now: Instant) {
        self.proofs.forget(address);
        self.addresses.insert(address, Phase::leaving(Why::Failed, now));
        let failures = self.failures.entry(address).or_insert(Failures { in_a_row: 0, claim_at: now });
        failures.claim_at = now + doubled(CLAIM_AGAIN, failures.in_a_row, CLAIM_AGAIN_MAX);
        failures.in_a_row += 1;
    }

    /// Why `address` must not be held now; `None` if it may be.
    fn against(&self, address: IpAddr, view: &View) -> Option<Why> {
        if self.stopping {
            return Some(Why::Stopping);
        }
        match view.fence {
            None => return Some(Why::NotLeader),
            Some(fence) if view.now >= fence => return Some(Why::LeaseOver { ago: view.now - fence }),
            Some(_) => {}
        }
        if self.away.as_ref().is_some_and(|away| away.lasts(view)) {
            return Some(Why::AskedAway);
        }
        (!view.wanted.contains(&address)).then_some(Why::Unwanted)
    }

    /// All that must go stops being held in this very step, however long the removals take.
    fn let_go(&mut self, view: &View) {
        let going: Vec<(IpAddr, Why)> =
            self.held().into_iter().filter_map(|address| Some((address, self.against(address, view)?))).collect();
        for (address, why) in going {
            self.addresses.insert(address, Phase::leaving(why, view.now));
        }
    }

    fn next_removal(&self, now: Instant) -> Option<Action> {
        self.addresses.iter().find_map(|(address, phase)| match phase {
            Phase::Leaving(leaving) if leaving.remove_at <= now => Some(Action::Remove(*address, leaving.why)),
            Phase::Leaving(_) | Phase::Held(_) => None,
        })
    }

    fn next_claim(&self, view: &View) -> Option<Action> {
        if !view.caught_up || !view.has_room() {
            return None;
        }
        let claim = |address: &IpAddr| match self.verdict(*address, view) {
            Verdict::Ask => Some(Action::Probe(*address)),
            Verdict::Claim => Some(Action::Add(*address)),
            Verdict::Wait(_) => None,
        };
        view.wanted.iter().filter(|address| self.free(**address, view)).find_map(claim)
    }

    /// Whether nothing here is against claiming it now.
    fn free(&self, address: IpAddr, view: &View) -> bool {
        let rested = self.failures.get(&address).is_none_or(|failures| failures.claim_at <= view.now);
        rested && !self.addresses.contains_key(&address) && self.against(address, view).is_none()
    }

    /// Whether the network may have something against it.
    fn verdict(&self, address: IpAddr, view: &View) -> Verdict {
        if view.vacated { Verdict::Claim } else { self.proofs.verdict(address, view.term, view.now) }
    }

    /// Renewals before announcements; neither without room in the lease.
    fn next_care(&mut self, view: &View) -> Option<Action> {
        if !view.has_room() {
            return None;
        }
        let mut announce = None;
        for (address, phase) in &mut self.addresses {
            let Phase::Held(held) = phase else { continue };
            if held.term != view.term {
                // Elected anew: someone else may have held it in between, so neighbours may point elsewhere.
                *held = Held { renewed_at: held.renewed_at, renew_at: view.now, ..Held::new(view.term, view.now) };
            }
            if held.renew_at <= view.now {
                return Some(Action::Renew(*address));
            }
            if held.announce_at <= view.now && announce.is_none() {
                announce = Some(Action::Announce(*address));
            }
        }
        announce
    }

    /// When the decision may come out otherwise with the same view at a later time.
    fn wake(&self, view: &View) -> Option<Instant> {
        let mut wakes: Vec<Instant> = Vec::new();
        for phase in self.addresses.values() {
            match phase {
                Phase::Leaving(leaving) => wakes.push(leaving.remove_at),
                Phase::Held(held) => {
                    wakes.extend(view.fence);
                    if view.has_room() {
                        wakes.extend([held.renew_at, held.announce_at]);
                    }
                }
            }
        }
        if view.caught_up && view.has_room() {
            wakes.extend(self.failures.values().map(|failures| failures.claim_at));
            let free = view.wanted.iter().filter(|address| self.free(**address, view));
            wakes.extend(free.filter_map(|address| match self.verdict(*address, view) {
                Verdict::Wait(until) => Some(until),
                Verdict::Ask | Verdict::Claim => None,
            }));
            wakes.extend(self.away.as_ref().filter(|away| away.lasts(view)).map(|away| away.until));
        }
        wakes.into_iter().filter(|wake| *wake > view.now).min()
    }
}

impl View {
    fn has_room(&self) -> bool {
        self.fence.is_some_and(|fence| self.now + ROOM <= fence)
    }
}

impl Phase {
    fn leaving(why: Why, now: Instant) -> Self {
        Self::Leaving(Leaving { why, remove_at: now, failures: 0 })
    }
}

impl Held {
    fn new(term: u64, now: Instant) -> Self {
        Self { term, renewed_at: now, renew_at: now + RENEW_EVERY, announced_from: now, announce_at: now }
    }

    fn announce_anew(&mut self, now: Instant) {
        (self.announced_from, self.announce_at) = (now, now);
    }

    /// Whether the kernel can still be trusted to have the address.
    fn renewed(&mut self, ended: Ended, now: Instant) -> bool {
        if ended == Ended::Well {
            self.renewed_at = now;
            self.renew_at = now + RENEW_EVERY;
        } else {
            self.renew_at = now + RENEW_AGAIN;
        }
        now < self.renewed_at + NEARLY_DROPPED
    }
}

impl Away {
    fn lasts(&self, view: &View) -> bool {
        self.term == view.term && view.now < self.until
    }
}

/// The first planned announcement after `now`; those that were slept through are not made up for.
fn next_announcement(from: Instant, now: Instant) -> Instant {
    let planned = ANNOUNCE_AT.iter().map(|after| from + *after).find(|at| *at > now);
    planned.unwrap_or(now + ANNOUNCE_EVERY)
}

/// `first`, twice that after one failure, and so on.
fn doubled(first: Duration, failures: u32, longest: Duration) -> Duration {
    first.saturating_mul(1 << failures.min(10)).min(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_are_close_at_first_and_then_one_a_minute() {
        let claimed = Instant::now();
        let mut at = vec![claimed];
        for _ in 0..7 {
            at.push(next_announcement(claimed, at[at.len() - 1]));
        }
        let ms: Vec<u128> = at.iter().map(|at| (*at - claimed).as_millis()).collect();
        assert_eq!(ms, [0, 100, 300, 1200, 5000, 65_000, 125_000, 185_000]);
    }
}
