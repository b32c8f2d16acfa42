//! Whether somebody drains, and when the sessions that are left must end. Told by one thread, read by all.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tandem_proto::millis;

use crate::config::model::State;

/// No time, and none to come.
const NEVER: u64 = u64::MAX;

/// What one that may drain was last told. All times are those of one clock that begins at zero, in milliseconds.
///
/// ```text
///  active ── drain ──► draining ── drain, another time ──► draining, its time begins anew
///     ▲                   │
///     └───── active ──────┘
/// ```
/// Told the same again, which each revision does, its time goes on.
#[derive(Debug)]
pub(super) struct Drain {
    /// How long it was given; [`NEVER`]: as long as it likes; zero: it does not drain.
    within: AtomicU64,
    ends_at: AtomicU64,
}

impl Default for Drain {
    fn default() -> Self {
        Self { within: AtomicU64::new(0), ends_at: AtomicU64::new(NEVER) }
    }
}

impl Drain {
    /// It shall be in this state; draining, it may keep its sessions for so long, or as long as they like.
    pub(super) fn tell(&self, state: State, within: Option<Duration>, now: Duration) {
        let given = match state {
            State::Active => 0,
            State::Draining => within.map_or(NEVER, |within| millis(within).max(1)),
        };
        if self.within.swap(given, Relaxed) != given {
            let ends_at = if given == 0 { NEVER } else { millis(now).saturating_add(given) };
            self.ends_at.store(ends_at, Relaxed);
        }
    }

    /// Whether it drains.
    pub(super) fn is_on(&self) -> bool {
        self.within.load(Relaxed) != 0
    }

    /// How long they have from now on; `None`: as long as they like.
    pub(super) fn left(&self, now: Duration) -> Option<Duration> {
        let ends_at = self.ends_at.load(Relaxed);
        (ends_at != NEVER).then(|| Duration::from_millis(ends_at).saturating_sub(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn is_over(drain: &Drain, now: Duration) -> bool {
        drain.left(now) == Some(Duration::ZERO)
    }

    #[test]
    fn its_time_begins_when_it_is_first_told_so() {
        let drain = Drain::default();
        assert!(!drain.is_on() && !is_over(&drain, s(1_000_000)));
        for now in [100, 110, 159] {
            drain.tell(State::Draining, Some(s(60)), s(now));
            assert!(drain.is_on() && !is_over(&drain, s(159)), "told at {now}");
            assert_eq!(drain.left(s(now)), Some(s(160 - now)));
        }
        assert!(is_over(&drain, s(160)));
        assert_eq!(drain.left(s(200)), Some(Duration::ZERO));
    }

    #[test]
    fn another_time_begins_anew() {
        let drain = Drain::default();
        drain.tell(State::Draining, None, s(1));
        assert!(drain.is_on() && !is_over(&drain, s(1_000_000)));
        assert_eq!(drain.left(s(2)), None);
        drain.tell(State::Draining, Some(s(60)), s(500));
        assert_eq!(drain.left(s(500)), Some(s(60)));
        drain.tell(State::Draining, Some(s(10)), s(520));
        assert_eq!(drain.left(s(520)), Some(s(10)));
        drain.tell(State::Active, None, s(525));
        assert!(!drain.is_on() && !is_over(&drain, s(1_000_000)));
        drain.tell(State::Draining, Some(s(10)), s(600));
        assert!(!is_over(&drain, s(609)) && is_over(&drain, s(610)));
    }
}
