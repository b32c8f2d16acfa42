//! When a side is pinged, and when it is given up. Pure: looked at now and then, told the time of one clock.
//!
//! ```text
//!  resting ── its time has come ──► asked ── the ping is written ──► waiting ── a pong with our payload ──► resting
//!                                                                     ▲ │
//!                                                       a sign of life└─┤
//!                                                                       └─ none for too long ──► gone
//! ```
//! A side that says something else is there, if busy: only silence counts. While nobody listens to it (the other side takes
//! nothing, or it may not say more) its silence is ours.

use std::time::Duration;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pulse {
    /// Until this time.
    Resting(Duration),
    /// To be written where a frame ends.
    Asked,
    /// Since this time, without a sign of life.
    Waiting(Duration),
    /// Nobody is there.
    Gone,
}

impl Pulse {
    /// What it is now. `life`: there was a sign of it since the last look.
    pub(super) fn looked_at(self, now: Duration, life: bool, timeout: Duration) -> Self {
        match self {
            Self::Resting(until) if now >= until => Self::Asked,
            Self::Waiting(_) if life => Self::Waiting(now),
            Self::Waiting(since) if now.saturating_sub(since) >= timeout => Self::Gone,
            other => other,
        }
    }

    /// It answered, and rests for `interval`, or a fifth less at most: `chance` is from 0 to 1.
    pub(super) fn rested(now: Duration, interval: Duration, chance: f64) -> Self {
        Self::Resting(now + interval.mul_f64(1.0 - 0.2 * chance.clamp(0.0, 1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    const TIMEOUT: Duration = s(10);

    #[test]
    fn the_story_of_one_that_answers() {
        let pulse = Pulse::rested(s(100), s(25), 0.0);
        assert_eq!(pulse, Pulse::Resting(s(125)));
        assert_eq!(pulse.looked_at(s(124), false, TIMEOUT), pulse);
        assert_eq!(pulse.looked_at(s(125), false, TIMEOUT), Pulse::Asked);
        assert_eq!(Pulse::Asked.looked_at(s(999), false, TIMEOUT), Pulse::Asked, "it cannot answer what was not said");
    }

    #[test]
    fn the_story_of_a_ghost() {
        let mut pulse = Pulse::Waiting(s(125));
        // Not an answer, but not nothing either.
        pulse = pulse.looked_at(s(130), true, TIMEOUT);
        assert_eq!(pulse, Pulse::Waiting(s(130)));
        assert_eq!(pulse.looked_at(s(139), false, TIMEOUT), pulse);
        assert_eq!(pulse.looked_at(s(140), false, TIMEOUT), Pulse::Gone);
        assert_eq!(Pulse::Gone.looked_at(s(141), true, TIMEOUT), Pulse::Gone);
    }

    #[test]
    fn not_all_are_pinged_at_once_and_none_too_late() {
        assert_eq!(Pulse::rested(s(0), s(25), 1.0), Pulse::Resting(s(20)));
        assert_eq!(Pulse::rested(s(0), s(25), 0.5), Pulse::Resting(Duration::from_millis(22_500)));
    }
}
