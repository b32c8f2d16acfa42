//! Peak EWMA: how long a backend takes to answer, quick to see that it has become slow, patient until it is fast again.

use std::time::Duration;

/// How long a figure counts: after this time without a new one, 37 % of it are left.
const DECAY: Duration = Duration::from_secs(10);

/// A moving average that a slower answer replaces at once and a faster one lowers bit by bit. It decays when read, so that
/// a backend once slow is tried again. Times are since the process began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::proxy) struct Latency {
    /// Zero: none known yet.
    micros: u32,
    /// When the last one came, modulo 49 days.
    at_ms: u32,
}

impl Latency {
    /// After one more answer, which `took` so long.
    #[must_use]
    pub(in crate::proxy) fn after(self, took: Duration, now: Duration) -> Self {
        let took = u32::try_from(took.as_micros()).unwrap_or(u32::MAX).max(1);
        let micros = if took >= self.micros {
            took
        } else {
            let (before, took, left) = (f64::from(self.micros), f64::from(took), self.left(now));
            whole(before * left + took * (1.0 - left))
        };
        Self { micros, at_ms: ms(now) }
    }

    /// What it is now; `None` before the first answer.
    pub(in crate::proxy) fn at(self, now: Duration) -> Option<Duration> {
        let micros = f64::from(self.micros) * self.left(now);
        (self.micros > 0).then(|| Duration::from_micros(whole(micros).into()))
    }

    /// How much of it is left: 1 at once, less and less later.
    fn left(self, now: Duration) -> f64 {
        let age = Duration::from_millis(ms(now).wrapping_sub(self.at_ms).into());
        (-age.as_secs_f64() / DECAY.as_secs_f64()).exp()
    }

    /// In one word, so that threads can share it without a lock.
    pub(in crate::proxy) fn to_bits(self) -> u64 {
        u64::from(self.micros) << 32 | u64::from(self.at_ms)
    }

    /// From [`Self::to_bits`].
    #[allow(clippy::cast_possible_truncation, reason = "each half is one of the two numbers")]
    pub(in crate::proxy) fn from_bits(bits: u64) -> Self {
        Self { micros: (bits >> 32) as u32, at_ms: bits as u32 }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "modulo 49 days is meant")]
fn ms(at: Duration) -> u32 {
    at.as_millis() as u32
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a mean of two u32 is one; a cast saturates"
)]
fn whole(micros: f64) -> u32 {
    micros.round() as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: fn(u64) -> Duration = Duration::from_millis;

    #[test]
    fn a_slow_answer_counts_at_once_and_a_fast_one_by_and_by() {
        let fast = Latency::default().after(MS(2), MS(0));
        assert_eq!(fast.at(MS(0)), Some(MS(2)));
        let slow = fast.after(MS(800), MS(100));
        assert_eq!(slow.at(MS(100)), Some(MS(800)));
        let calmer = slow.after(MS(2), MS(1100));
        let left = calmer.at(MS(1100)).expect("known");
        assert!((MS(700)..MS(750)).contains(&left), "a tenth of the time it counts has passed: {left:?}");
    }

    #[test]
    fn it_is_forgotten_when_nobody_asks() {
        let slow = Latency::default().after(MS(800), MS(0));
        let later = |ms| slow.at(MS(ms)).expect("known");
        assert!((MS(290)..MS(300)).contains(&later(10_000)), "{:?}", later(10_000));
        assert!(later(60_000) < MS(2), "{:?}", later(60_000));
        assert_eq!(Latency::default().at(MS(5)), None, "what was never known is not zero");
    }

    #[test]
    fn the_clock_may_turn_over() {
        let before = MS(u64::from(u32::MAX) - 1);
        let slow = Latency::default().after(MS(100), before);
        assert_eq!(slow.at(before + MS(2)), Some(Duration::from_micros(99_980)));
    }

    proptest! {
        #[test]
        fn it_lies_between_the_answers(all in prop::collection::vec((1u32..10_000_000, 0u64..1000), 1..50)) {
            let (mut latency, mut now) = (Latency::default(), Duration::ZERO);
            for (micros, pause) in &all {
                now += MS(*pause);
                latency = latency.after(Duration::from_micros((*micros).into()), now);
            }
            let least = all.iter().map(|(m, _)| *m).min().unwrap_or(0);
            let most = all.iter().map(|(m, _)| *m).max().unwrap_or(0);
            prop_assert!((least..=most).contains(&latency.micros));
            prop_assert_eq!(Latency::from_bits(latency.to_bits()), latency);
        }
    }
}
