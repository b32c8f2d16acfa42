//! How many sessions end in a turn, so that those of a drain end evenly over its time. Pure.
//!
//! Of those that are left, a turn ends its share of the time that is left: `sessions × turn ÷ left`. So it needs no memory, the
//! pace falls when sessions leave by themselves, the last one may stay until the end, and in the last turn all must go.

use std::collections::HashMap;
use std::time::Duration;

/// Sessions that must end by the same time, counted first, then taken.
#[derive(Debug, Default)]
pub(super) struct Pace(HashMap<Group, Share>);

/// Who drains, by a number of its own, and how its sessions end: these two can have different times.
pub(super) type Group = (usize, bool);

#[derive(Debug)]
struct Share {
    sessions: usize,
    left: Duration,
    ended: usize,
}

impl Pace {
    /// One more session of a group that has so much time left.
    pub(super) fn count(&mut self, group: Group, left: Duration) {
        self.0.entry(group).or_insert(Share { sessions: 0, left, ended: 0 }).sessions += 1;
    }

    /// Whether nobody drains.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether another session of this group must end in this turn.
    pub(super) fn take(&mut self, group: Group, turn: Duration) -> bool {
        let Some(share) = self.0.get_mut(&group) else { return false };
        let must = share.ended < due(share.sessions, share.left, turn);
        share.ended += usize::from(must);
        must
    }
}

/// How many of `sessions` end in a turn, when all must within `left`.
fn due(sessions: usize, left: Duration, turn: Duration) -> usize {
    if left <= turn {
        return sessions;
    }
    let share = sessions as u128 * turn.as_millis() / left.as_millis().max(1);
    usize::try_from(share).unwrap_or(sessions)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURN: Duration = Duration::from_secs(1);

    /// How many end in each second of a drain; `leave`: how many leave by themselves after each.
    fn drained(mut sessions: usize, seconds: u64, leave: usize) -> Vec<usize> {
        let mut each = Vec::new();
        for second in 0..seconds {
            let mut pace = Pace::default();
            let left = Duration::from_secs(seconds - second);
            (0..sessions).for_each(|_| pace.count((7, false), left));
            let ended = (0..sessions).filter(|_| pace.take((7, false), TURN)).count();
            assert!(!pace.take((8, false), TURN), "another group's");
            each.push(ended);
            sessions = (sessions - ended).saturating_sub(leave);
        }
        assert_eq!(sessions, 0, "all have ended");
        each
    }

    #[test]
    fn a_drain_is_flat() {
        for (sessions, seconds) in [(2_000, 60), (1_000, 60), (200, 10), (100, 10), (5_000, 7)] {
            let even = sessions as f64 / seconds as f64;
            for (second, ended) in drained(sessions, seconds, 0).into_iter().enumerate() {
                let far = (ended as f64 - even).abs();
                assert!(far <= even * 0.2, "{ended} of {sessions} end in second {second} of {seconds}");
            }
        }
    }

    #[test]
    fn those_who_leave_by_themselves_slow_it_down_and_the_last_stays_to_the_end() {
        assert_eq!(drained(1, 5, 0), [0, 0, 0, 0, 1]);
        assert_eq!(drained(2, 4, 0), [0, 0, 1, 1]);
        let each = drained(100, 10, 5);
        assert!(each.windows(2).all(|two| two[1] <= two[0]), "{each:?}");
        assert_eq!(drained(0, 3, 0), [0, 0, 0]);
    }
}
