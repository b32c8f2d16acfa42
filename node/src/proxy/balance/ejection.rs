//! Ejection: whether a backend that fails clients may go out, and how long it stays out. Pure.

use std::time::Duration;

use crate::config::model::Eject;

/// More would be longer than anybody waits.
const MOST_TIMES: u16 = 32;
/// How many bits of a word tell the time, in milliseconds: enough for 8900 years.
const TIME_BITS: u32 = 48;

/// How often a backend was out lately, and until when it is. Times are since the process began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::proxy) struct Ejection {
    /// Times in a row; zero: it never was out.
    times: u16,
    until_ms: u64,
}

impl Ejection {
    /// Out once more, from `now` on: twice as long as the last time, or as the first time if it then stayed in for as
    /// long as it had been out.
    #[must_use]
    pub(in crate::proxy) fn again(self, eject: &Eject, now: Duration) -> Self {
        let relapsed = self.times > 0 && now < self.until() + length(eject, self.times);
        let times = if relapsed { MOST_TIMES.min(self.times + 1) } else { 1 };
        let until = now.saturating_add(length(eject, times)).as_millis();
        Self { times, until_ms: u64::try_from(until).unwrap_or(u64::MAX).min((1 << TIME_BITS) - 1) }
    }

    /// For how long it is still out; `None`: it is not.
    pub(in crate::proxy) fn left(self, now: Duration) -> Option<Duration> {
        self.until().checked_sub(now).filter(|left| !left.is_zero())
    }

    /// When it comes, or came, back.
    pub(in crate::proxy) fn until(self) -> Duration {
        Duration::from_millis(self.until_ms)
    }

    /// In one word, so that threads can share it without a lock.
    pub(in crate::proxy) fn to_bits(self) -> u64 {
        u64::from(self.times) << TIME_BITS | self.until_ms
    }

    /// From [`Self::to_bits`].
    #[allow(clippy::cast_possible_truncation, reason = "the upper 16 bits are one of the two numbers")]
    pub(in crate::proxy) fn from_bits(bits: u64) -> Self {
        Self { times: (bits >> TIME_BITS) as u16, until_ms: bits & ((1 << TIME_BITS) - 1) }
    }
}

/// How long the `times`th time is.
fn length(eject: &Eject, times: u16) -> Duration {
    let factor = 1_u32 << times.saturating_sub(1).min(31);
    eject.base.saturating_mul(factor).min(eject.max)
}

/// Whom a backend would leave behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::proxy) struct Company {
    /// The upstream's active backends, this one too.
    pub(in crate::proxy) all: usize,
    /// How many of them are out.
    pub(in crate::proxy) out: usize,
    /// How many others take sessions.
    pub(in crate::proxy) able: usize,
}

/// Whether one more may go out, where `share` percent may be: one always may, unless nobody would be left.
pub(in crate::proxy) fn may_go(share: u32, company: Company) -> bool {
    let most = company.all.saturating_mul(share as usize) / 100;
    company.able > 0 && company.out < most.max(1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn eject(base: u64, max: u64) -> Eject {
        Eject { base: Duration::from_secs(base), max: Duration::from_secs(max), ..Eject::default() }
    }

    #[test]
    fn each_time_is_twice_as_long_until_it_stays_in() {
        let (eject, mut one) = (eject(10, 60), Ejection::default());
        let mut story = Vec::new();
        // It fails at 0; soon after each return; then after it stayed in for just as long as it was out, and a little less.
        for at in [0, 15, 40, 85, 146, 266, 286] {
            one = one.again(&eject, Duration::from_secs(at));
            story.push((at, one.until().as_secs()));
        }
        let expected = [(0, 10), (15, 35), (40, 80), (85, 145), (146, 206), (266, 276), (286, 296)];
        assert_eq!(story, expected);
        assert_eq!(one.again(&eject, Duration::from_secs(305)).until().as_secs(), 325, "it came back at 296");
    }

    #[test]
    fn it_is_out_until_its_time_and_not_longer() {
        let one = Ejection::default().again(&eject(10, 60), Duration::from_secs(5));
        let left = |ms| one.left(Duration::from_millis(ms)).map(|left| left.as_millis());
        assert_eq!([left(5000), left(14_999), left(15_000), left(99_999)], [Some(10_000), Some(1), None, None]);
        assert_eq!(Ejection::default().left(Duration::ZERO), None, "at the very beginning nobody is out");
    }

    #[test]
    fn who_may_go() {
        let may = |share, all, out, able| may_go(share, Company { all, out, able });
        assert!(may(50, 2, 0, 1) && !may(50, 2, 1, 0), "one of two");
        assert!(may(50, 5, 1, 3) && !may(50, 5, 2, 2), "two of five");
        assert!(may(1, 3, 0, 2) && !may(1, 3, 1, 1), "one always may");
        assert!(!may(100, 1, 0, 0), "never the last");
        assert!(!may(100, 3, 0, 0), "nor the last that is up");
        assert!(may(100, 3, 1, 1) && !may(100, 3, 2, 0));
    }

    proptest! {
        #[test]
        fn a_word_tells_it_all(times in 0_u16..=MOST_TIMES, until_ms in 0_u64..1 << TIME_BITS) {
            let one = Ejection { times, until_ms };
            prop_assert_eq!(Ejection::from_bits(one.to_bits()), one);
        }

        #[test]
        fn it_is_never_out_for_less_than_base_or_more_than_max(
            base in 1_u64..1000, more in 0_u64..100_000, gaps in prop::collection::vec(0_u64..10_000, 1..60),
        ) {
            let eject = eject(base, base + more);
            let (mut one, mut now) = (Ejection::default(), Duration::ZERO);
            for gap in gaps {
                now = now.max(one.until()) + Duration::from_secs(gap);
                one = one.again(&eject, now);
                let left = one.left(now).unwrap_or_default();
                prop_assert!(eject.base <= left && left <= eject.max, "{left:?}");
            }
        }

        /// Backends fail and return in any order: the share is kept, and somebody is always left.
        #[test]
        fn an_upstream_keeps_its_share(
            all in 1_usize..20, share in 1_u32..=100, story in prop::collection::vec((0_usize..20, 0_u64..30), 0..200),
        ) {
            let eject = Eject { share, ..eject(10, 40) };
            let (mut backends, mut now) = (vec![Ejection::default(); all], Duration::ZERO);
            for (who, later) in story {
                now += Duration::from_secs(later);
                let who = who % all;
                if backends[who].left(now).is_some() {
                    continue;
                }
                let out = backends.iter().filter(|b| b.left(now).is_some()).count();
                if may_go(share, Company { all, out, able: all - out - 1 }) {
                    backends[who] = backends[who].again(&eject, now);
                }
                let out = backends.iter().filter(|b| b.left(now).is_some()).count();
                prop_assert!(out < all && (out <= 1 || out * 100 <= all * share as usize), "{out} of {all}");
            }
        }
    }
}
