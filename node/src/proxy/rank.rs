//! Which backends the balance chooses among: near ones first, then all, then the backups, at last those that are ejected.

use std::net::SocketAddr;
use std::time::Duration;

use super::balance::{Affinity, Candidate, ramped};
use super::table::{Member, Upstream};
use crate::config::model::{self, Balance, Name};

/// Whom the balance chooses among: the first rank of which anybody is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// In this node's zone.
    Near,
    /// Elsewhere, or this node has no zone.
    Far,
    /// Only when nobody else can.
    Backup,
}

impl Rank {
    /// Of a backend, as a node in this zone sees it.
    pub(super) fn of(backend: &model::Backend, zone: Option<&Name>) -> Self {
        match &backend.zone {
            _ if backend.backup => Self::Backup,
            Some(there) if zone == Some(there) => Self::Near,
            _ => Self::Far,
        }
    }
}

impl Member {
    /// Whether it would take new sessions.
    fn is_able(&self) -> bool {
        self.active && self.backend.is_up()
    }
}

impl Upstream {
    /// Whether it takes new sessions.
    fn is_open(&self, m: &Member, now: Duration) -> bool {
        m.is_able() && self.out_for(&m.backend, now).is_none()
    }

    /// Puts those who may take a session now among `into`, which was empty or is emptied. `now`: see [`super::backend::now`].
    pub(super) fn candidates(&self, tried: &[SocketAddr], now: Duration, into: &mut Vec<Candidate>) {
        let near = self.near_suffice(now).then_some(Rank::Near..=Rank::Near);
        // Those that were tried are no more there than those that are down: a retry goes further, even to a backup.
        let ranks = near.into_iter().chain([Rank::Near..=Rank::Far, Rank::Backup..=Rank::Backup]);
        for ranks in ranks {
            self.gather(tried, now, into, |m| ranks.contains(&m.rank) && self.is_open(m, now));
            if !into.is_empty() {
                return;
            }
        }
        // Rather one that failed of late than nobody.
        self.gather(tried, now, into, Member::is_able);
    }

    fn gather(&self, tried: &[SocketAddr], now: Duration, into: &mut Vec<Candidate>, fits: impl Fn(&Member) -> bool) {
        into.clear();
        let fitting = self.members.iter().enumerate().filter(|(_, m)| fits(m) && !tried.contains(&m.backend.address));
        into.extend(fitting.map(|(i, m)| self.candidate(i, m, now)));
    }

    fn candidate(&self, member: usize, m: &Member, now: Duration) -> Candidate {
        let up_for = if self.slow_start.is_zero() { Duration::ZERO } else { m.backend.up_for(now) };
        Candidate {
            member,
            address: m.backend.address,
            mark: m.backend.mark,
            weight: ramped(m.weight, up_for, self.slow_start),
            load: m.backend.load(),
            latency: if self.balance == Balance::P2c { m.backend.latency(now) } else { None },
        }
    }

    /// Whether those in this node's zone are so many that they can do without the others.
    fn near_suffice(&self, now: Duration) -> bool {
        let Some(share) = self.near_share else { return false };
        let (mut all, mut able) = (0, 0);
        for m in self.members.iter().filter(|m| m.rank == Rank::Near) {
            all += u64::from(m.weight.get());
            able += if self.is_open(m, now) { u64::from(m.weight.get()) } else { 0 };
        }
        able > 0 && able * 100 >= all * u64::from(share)
    }

    /// Where a request is stuck to, while it takes new sessions; also a backup, as long as it lasts.
    pub(super) fn stuck(&self, affinity: Affinity, tried: &[SocketAddr], now: Duration) -> Option<&Member> {
        let mark = affinity.stuck?;
        let member = self.members.iter().find(|m| m.backend.mark == mark)?;
        (self.is_open(member, now) && !tried.contains(&member.backend.address)).then_some(member)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use super::*;
    use crate::config::model::{Address, Config, State};
    use crate::proxy::table::Registry;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    /// Each backend is said in a few words, after its port: `draining`, `backup`, `zone`=text, a weight.
    fn upstream(all: &[(u16, &str)], change: impl FnOnce(&mut model::Upstream)) -> Arc<Upstream> {
        let mut given = model::Upstream::default();
        for (port, words) in all {
            let mut b = model::Backend::default();
            for word in words.split_whitespace() {
                match word {
                    "draining" => b.state = State::Draining,
                    "backup" => b.backup = true,
                    weight if weight.parse::<u32>().is_ok() => b.weight = weight.parse().unwrap(),
                    zone => b.zone = Some(name(zone)),
                }
            }
            given.backends.insert(Address::Ip(([10, 0, 0, 1], *port).into()), b);
        }
        change(&mut given);
        let config = Config { upstreams: [(name("u"), Arc::new(given))].into(), ..Config::default() };
        Arc::clone(&Registry::new(Some(name("here")), None, Arc::default()).compile(&config).upstreams[&name("u")])
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    fn down(upstream: &Upstream, port: u16) {
        upstream.members.iter().find(|m| m.backend.address == at(port)).unwrap().backend.set_up(false);
    }

    /// Out for a minute from then on.
    fn eject(upstream: &Upstream, port: u16, now: Duration) {
        let eject = model::Eject { base: Duration::from_secs(60), ..model::Eject::default() };
        let backend = &upstream.members.iter().find(|m| m.backend.address == at(port)).unwrap().backend;
        backend.eject(backend.ejection().again(&eject, now));
    }

    fn ports(upstream: &Upstream, tried: &[u16]) -> Vec<u16> {
        let tried: Vec<SocketAddr> = tried.iter().map(|p| at(*p)).collect();
        let mut candidates = Vec::new();
        upstream.candidates(&tried, Duration::ZERO, &mut candidates);
        candidates.iter().map(|c| c.address.port()).collect()
    }

    #[test]
    fn only_those_up_active_and_untried_are_candidates() {
        let u = upstream(&[(1, "draining"), (2, ""), (3, ""), (4, "")], |_| ());
        down(&u, 2);
        assert_eq!(ports(&u, &[3]), [4]);
        assert_eq!(ports(&u, &[3, 4]), [0u16; 0]);
    }

    #[test]
    fn backups_are_asked_only_when_nobody_else_is_left() {
        let u = upstream(&[(1, ""), (2, "draining"), (3, "backup"), (4, "backup here")], |_| ());
        assert_eq!(ports(&u, &[]), [1]);
        assert_eq!(ports(&u, &[1]), [3, 4], "one that failed a moment ago is as good as down");
        down(&u, 1);
        assert_eq!(ports(&u, &[]), [3, 4]);
        u.members[0].backend.set_up(true);
        assert_eq!(ports(&u, &[]), [1]);
    }

    #[test]
    fn the_ejected_are_asked_last_of_all() {
        let u = upstream(&[(1, ""), (2, ""), (3, "backup"), (4, "draining")], |_| ());
        eject(&u, 1, Duration::ZERO);
        eject(&u, 4, Duration::ZERO);
        assert_eq!(ports(&u, &[]), [2]);
        assert_eq!(ports(&u, &[2]), [3]);
        assert_eq!(ports(&u, &[2, 3]), [1], "rather one that failed of late than nobody");
        assert_eq!(ports(&u, &[1, 2, 3]), [0u16; 0]);
        let mut later = Vec::new();
        u.candidates(&[], Duration::from_secs(60), &mut later);
        assert_eq!(later.iter().map(|c| c.address.port()).collect::<Vec<_>>(), [1, 2], "its time is over");
        let stuck = Affinity { stuck: Some(super::super::balance::mark(at(1))), ..Affinity::default() };
        assert!(u.stuck(stuck, &[], Duration::ZERO).is_none());
        assert!(u.stuck(stuck, &[], Duration::from_secs(60)).is_some());

        let zoned = upstream(&[(1, "here"), (2, "here"), (3, "here"), (4, "there")], |_| ());
        eject(&zoned, 1, Duration::ZERO);
        assert_eq!(ports(&zoned, &[]), [2, 3]);
        eject(&zoned, 2, Duration::ZERO);
        assert_eq!(ports(&zoned, &[]), [3, 4], "too few are left to carry it all");
    }

    #[test]
    fn the_own_zone_is_preferred_while_enough_of_it_is_up() {
        let all = [(1, "here"), (2, "here"), (3, "here 200"), (4, "there"), (5, "")];
        let u = upstream(&all, |_| ());
        assert_eq!(ports(&u, &[]), [1, 2, 3]);
        down(&u, 3);
        assert_eq!(ports(&u, &[]), [1, 2], "half of its weight");
        assert_eq!(ports(&u, &[1, 2]), [4, 5], "a retry goes further");
        down(&u, 2);
        assert_eq!(ports(&u, &[]), [1, 4, 5], "too few to carry it all");
        down(&u, 1);
        assert_eq!(ports(&u, &[]), [4, 5]);

        let u = upstream(&all, |u| u.zone_min_share = 100);
        assert_eq!(ports(&u, &[]), [1, 2, 3]);
        down(&u, 1);
        assert_eq!(ports(&u, &[]), [2, 3, 4, 5]);
        let drained = upstream(&[(1, "here"), (2, "here 300 draining"), (3, "there")], |_| ());
        assert_eq!(ports(&drained, &[]), [1, 3], "what drains carries nothing");
        assert_eq!(ports(&upstream(&[(1, "there"), (2, "")], |_| ()), &[]), [1, 2], "nobody is near");
    }

    #[test]
    fn one_that_comes_up_begins_with_a_tenth() {
        let u = upstream(&[(1, ""), (2, "50")], |u| u.slow_start = Duration::from_secs(30));
        let weights = |after: u64| {
            let mut candidates = Vec::new();
            u.candidates(&[], crate::proxy::backend::now() + Duration::from_secs(after), &mut candidates);
            candidates.iter().map(|c| c.weight.get()).collect::<Vec<_>>()
        };
        // A test may be slow, but not by a tenth of the ramp.
        let near = |found: Vec<u32>, expected: [u32; 2]| {
            let close = |(found, expected): (&u32, u32)| found.abs_diff(expected) <= expected / 3;
            assert!(found.iter().zip(expected).all(close), "{found:?} is not {expected:?}");
        };
        near(weights(0), [1000, 500]);
        near(weights(15), [5500, 2750]);
        assert_eq!(weights(30), [10_000, 5000]);
        u.members[0].backend.set_up(true);
        assert_eq!(weights(30), [10_000, 5000], "one that stays up does not begin anew");
        eject(&u, 1, crate::proxy::backend::now());
        near(weights(60), [1000, 5000]);
        near(weights(75), [5500, 5000]);
    }

    #[test]
    fn latency_is_looked_at_where_it_counts() {
        let latency = |balance| {
            let u = upstream(&[(1, "")], |u| u.balance = balance);
            u.members[0].backend.answered(Duration::from_millis(5));
            let mut candidates = Vec::new();
            u.candidates(&[], crate::proxy::backend::now(), &mut candidates);
            candidates[0].latency.is_some()
        };
        assert!(latency(Balance::P2c));
        assert!(!latency(Balance::RoundRobin));
    }

    #[test]
    fn a_request_sticks_while_its_backend_takes_sessions() {
        let u = upstream(&[(1, ""), (2, "backup"), (3, "draining")], |_| ());
        let stuck = |port, tried: &[SocketAddr]| {
            let mark = super::super::balance::mark(at(port));
            u.stuck(Affinity { stuck: Some(mark), ..Affinity::default() }, tried, Duration::ZERO)
                .map(|m| m.backend.address.port())
        };
        assert_eq!(stuck(1, &[]), Some(1));
        assert_eq!(stuck(2, &[]), Some(2), "a backup too, once it has the client");
        assert_eq!(stuck(3, &[]), None, "draining takes no new sessions");
        assert_eq!(stuck(1, &[at(1)]), None, "one that failed a moment ago");
        assert_eq!(stuck(4, &[]), None, "one that is no more");
        down(&u, 1);
        assert_eq!(stuck(1, &[]), None);
        assert_eq!(u.stuck(Affinity::default(), &[], Duration::ZERO).map(|m| m.backend.address), None);
    }
}
