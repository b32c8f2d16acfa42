//! The invariant of this room: nothing is held without a lease, whatever happens; with one, in the end, all that is wanted.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::lease::{Action, CLAIM_AGAIN_MAX, Ended, Holding, News, View};

const START: Duration = Duration::from_secs(3600);

#[derive(Debug, Clone)]
enum Event {
    Later(u64),
    Acked { ago: u64 },
    Elected { caught_up: bool, vacated: bool },
    Lost,
    Wanted(u8),
    Release(u64),
    Kernel(Ended),
    Slow(u64),
    Heard(News),
    Stop,
}

fn event() -> impl Strategy<Value = Event> {
    let ended = prop_oneof![4 => Just(Ended::Well), 1 => Just(Ended::Refused), 1 => Just(Ended::InDoubt)];
    prop_oneof![
        8 => (0_u64..120).prop_map(Event::Later),
        1 => (0_u64..4000).prop_map(Event::Later),
        8 => (0_u64..300).prop_map(|ago| Event::Acked { ago }),
        2 => any::<(bool, bool)>().prop_map(|(caught_up, vacated)| Event::Elected { caught_up, vacated }),
        1 => Just(Event::Lost),
        2 => (0_u8..8).prop_map(Event::Wanted),
        1 => (0_u64..1000).prop_map(Event::Release),
        2 => ended.prop_map(Event::Kernel),
        1 => (0_u64..40).prop_map(Event::Slow),
        2 => news().prop_map(Event::Heard),
        1 => prop_oneof![20 => Just(Event::Later(1)), 1 => Just(Event::Stop)],
    ]
}

fn news() -> impl Strategy<Value = News> {
    let address = || (0_u8..4).prop_map(|i| IpAddr::from([10, 0, 0, 100 + i]));
    prop_oneof![
        Just(News::Guard),
        Just(News::Carries),
        address().prop_map(News::Gone),
        address().prop_map(|address| News::Rival(address, [2, 0, 0, 0, 0, 9])),
    ]
}

fn addresses(bits: u8) -> BTreeSet<IpAddr> {
    (0..3).filter(|i| bits >> i & 1 == 1).map(|i| IpAddr::from([10, 0, 0, 100 + i])).collect()
}

/// A kernel that does as told, or not, after some time; and the rules that no history may break.
struct World {
    view: View,
    lease: Duration,
    kernel: Ended,
    slow: Duration,
    holding: Holding,
    /// What may be on the interface.
    interface: BTreeSet<IpAddr>,
}

impl World {
    fn new() -> Self {
        let now = Instant::now() + START;
        Self {
            view: View { now, term: 1, fence: None, caught_up: false, wanted: addresses(1), vacated: false },
            lease: Duration::from_millis(240),
            kernel: Ended::Well,
            slow: Duration::ZERO,
            holding: Holding::default(),
            interface: BTreeSet::new(),
        }
    }

    fn happen(&mut self, event: &Event) {
        let view = &mut self.view;
        match event {
            Event::Later(ms) => view.now += Duration::from_millis(*ms),
            Event::Acked { ago } if view.fence.is_some() => {
                // Acknowledgements never take a lease back.
                view.fence = view.fence.max(Some(view.now - Duration::from_millis(*ago) + self.lease));
            }
            Event::Acked { .. } => {}
            Event::Elected { caught_up, vacated } => {
                view.term += 1;
                view.vacated = *vacated;
                view.caught_up = *caught_up;
                view.fence = Some(view.now + self.lease);
            }
            Event::Lost => view.fence = None,
            Event::Wanted(bits) => view.wanted = addresses(*bits),
            Event::Release(ms) => self.holding.release(view.term, view.now + Duration::from_millis(*ms)),
            Event::Kernel(ended) => self.kernel = *ended,
            Event::Slow(ms) => self.slow = Duration::from_millis(*ms),
            Event::Heard(news) => drop(self.holding.heard(news, Duration::from_millis(300), view.now)),
            Event::Stop => self.holding.stop(),
        }
    }

    fn may(&self) -> bool {
        self.view.fence.is_some_and(|fence| self.view.now < fence)
    }

    /// Decides and acts until there is nothing to do for now.
    fn settle(&mut self) -> Option<Instant> {
        for _ in 0..200 {
            let action = self.holding.decide(&self.view);
            let held = self.holding.held();
            assert!(held.is_empty() || self.may(), "holds {held:?} without a lease");
            assert!(held.is_subset(&self.view.wanted), "holds {held:?}, which nobody wants");
            assert!(self.interface.is_subset(&self.holding.present()), "forgot what is on the interface");
            match &action {
                Action::Wait(wake) => {
                    let fence = self.view.fence.filter(|_| !held.is_empty());
                    assert!(fence.is_none_or(|fence| wake.is_some_and(|wake| wake <= fence)), "sleeps past its lease");
                    assert!(wake.is_none_or(|wake| wake > self.view.now), "does not sleep at all");
                    return *wake;
                }
                Action::Remove(address, _) => {
                    assert!(!held.contains(address), "removes what it says it holds");
                    if self.kernel == Ended::Well {
                        self.interface.remove(address);
                    }
                }
                Action::Probe(address) => {
                    assert!(self.may() && !held.contains(address), "{action:?} without need");
                }
                Action::Add(address) | Action::Renew(address) => {
                    assert!(self.may(), "{action:?} without a lease");
                    if self.kernel != Ended::Refused {
                        self.interface.insert(*address);
                    }
                }
                Action::Announce(address) => {
                    assert!(self.may() && held.contains(address), "{action:?} of what is not held");
                }
            }
            let before = self.view.clone();
            self.view.now += self.slow;
            self.holding.ended(&action, self.kernel, &before, self.view.now);
        }
        panic!("never comes to rest: {:?}", self.holding);
    }

    /// With a good lease and a good kernel everything wanted comes to be held.
    fn heal(&mut self) {
        (self.kernel, self.slow) = (Ended::Well, Duration::ZERO);
        (self.view.term, self.view.caught_up) = (self.view.term + 1, true);
        let healed = self.view.now + CLAIM_AGAIN_MAX;
        while self.view.now <= healed {
            self.view.fence = Some(self.view.now + self.lease);
            let next = self.view.now + Duration::from_millis(50);
            self.view.now = self.settle().map_or(next, |wake| wake.min(next));
        }
    }
}

proptest! {
    #[test]
    fn nothing_is_held_without_a_lease_and_everything_wanted_with_one(
        events in proptest::collection::vec(event(), 1..120),
    ) {
        let mut world = World::new();
        for event in &events {
            world.happen(event);
            world.settle();
        }
        world.heal();
        let stopped = events.iter().any(|event| matches!(event, Event::Stop));
        let expected = if stopped { BTreeSet::new() } else { world.view.wanted.clone() };
        prop_assert_eq!(world.holding.held(), expected);
    }
}
