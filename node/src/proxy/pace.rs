//! How many sessions end in a turn, so that those of a drain end evenly over its time. Pure.
//!
//! Of those that are left, a turn ends its share of the time that is left: `sessions × turn ÷ left`. What is less than a whole
//! session is owed to the next turn, so that few sessions in a long time are as even as many in a short one. The pace falls
//! when sessions leave by themselves, the last one may stay until the end, and in the last turn all must go.

use std::collections::HashMap;
use std::time::Duration;

/// Sessions that must end by the same time: in each turn counted first, then taken.
#[derive(Debug)]
pub(super) struct Pace {
    groups: HashMap<Group, Share>,
    ahead: f64,
}

/// Who drains, by a number of its own, and how its sessions end: these two can have different times.
pub(super) type Group = (usize, bool);

#[derive(Debug)]
struct Share {
    sessions: usize,
    left: Duration,
    /// How many must still end by now. A part of one at the end of a turn.
    owed: f64,
    /// That of this turn has been added.
    begun: bool,
}

impl Pace {
    /// `ahead`, 0 to 1: the part of a session that each group owes to begin with. Workers with different ones do not end
    /// theirs in the same turn.
    pub(super) fn new(ahead: f64) -> Self {
        Self { groups: HashMap::new(), ahead }
    }

    /// A new turn: nobody is counted yet, and groups that nobody was of in the last one are forgotten.
    pub(super) fn turn(&mut self) {
        self.groups.retain(|_, share| std::mem::take(&mut share.sessions) > 0);
    }

    /// One more session of a group that has so much time left.
    pub(super) fn count(&mut self, group: Group, left: Duration) {
        let new = Share { sessions: 0, left, owed: self.ahead, begun: false };
        let share = self.groups.entry(group).or_insert(new);
        share.sessions += 1;
        (share.left, share.begun) = (left, false);
    }

    /// Whether nobody drains.
    pub(super) fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Whether another session of this group must end in this turn.
    pub(super) fn take(&mut self, group: Group, turn: Duration) -> bool {
        let Some(share) = self.groups.get_mut(&group) else { return false };
        if !share.begun {
            share.owed = owed(share.sessions, share.owed, share.left, turn);
            share.begun = true;
        }
        let must = share.owed >= 1.0;
        share.owed -= f64::from(u8::from(must));
        must
    }
}

/// How many of `sessions` must end by the end of a turn, when all must within `left`, and this many must already.
fn owed(sessions: usize, already: f64, left: Duration, turn: Duration) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "a worker has far fewer than 2^52 sessions")]
    let sessions = sessions as f64;
    if left <= turn {
        return sessions;
    }
    already + (sessions - already).max(0.0) * turn.as_secs_f64() / left.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TURN: Duration = Duration::from_secs(1);

    /// How many end in each second of a drain; `leave`: how many leave by themselves after each.
    fn drained(sessions: usize, seconds: u64, leave: usize) -> Vec<usize> {
        drained_by(&mut Pace::new(0.0), sessions, seconds, leave)
    }

    fn drained_by(pace: &mut Pace, mut sessions: usize, seconds: u64, leave: usize) -> Vec<usize> {
        let mut each = Vec::new();
        for second in 0..seconds {
            pace.turn();
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
    fn a_drain_of_few_is_even_too_and_workers_are_not_in_step() {
        let (workers, each, seconds) = (16, 20, 600);
        let mut ended = vec![0; 600];
        for worker in 0..workers {
            let mut pace = Pace::new(f64::from(worker) / f64::from(workers));
            for (sum, n) in ended.iter_mut().zip(drained_by(&mut pace, each, seconds, 0)) {
                *sum += n;
            }
        }
        assert_eq!(ended.iter().sum::<usize>(), 320);
        let minutes: Vec<usize> = ended.chunks(60).map(|minute| minute.iter().sum()).collect();
        assert!(minutes.iter().all(|n| (26..=38).contains(n)), "32 a minute would be even: {minutes:?}");
        assert!(ended[..60].iter().all(|n| *n <= 2), "{ended:?}");
    }

    #[test]
    fn a_drain_that_begins_again_owes_nothing_of_the_last_one() {
        let mut pace = Pace::new(0.0);
        for _ in 0..3 {
            pace.turn();
            pace.count((7, false), Duration::from_secs(4));
            assert!(!pace.take((7, false), TURN));
        }
        // Nobody is left in a turn, or nobody drains.
        pace.turn();
        pace.turn();
        assert!(pace.is_empty());
        assert_eq!(drained_by(&mut pace, 1, 5, 0), [0, 0, 0, 0, 1]);
    }

    #[test]
    fn those_who_leave_by_themselves_slow_it_down_and_the_last_stays_to_the_end() {
        assert_eq!(drained(1, 5, 0), [0, 0, 0, 0, 1]);
        assert_eq!(drained(2, 4, 0), [0, 1, 0, 1]);
        let each = drained(100, 10, 5);
        assert!(each.windows(2).all(|two| two[1] <= two[0]), "{each:?}");
        assert_eq!(drained(0, 3, 0), [0, 0, 0]);
    }
}
