//! Slow start: a backend that came up gets its full share only by and by, while it fills caches and pools.

use std::num::NonZeroU32;
use std::time::Duration;

/// The share it begins with, in percent.
const FIRST: u32 = 10;

/// What `weight` counts now, in hundredths: 10 % at first, then rising evenly to all of it after `over`. Zero `over`: all
/// of it at once.
pub(in crate::proxy) fn ramped(weight: NonZeroU32, up_for: Duration, over: Duration) -> NonZeroU32 {
    let percent = if up_for >= over {
        100
    } else {
        let rise = u128::from(100 - FIRST) * up_for.as_micros() / over.as_micros().max(1);
        // Less than 90, since `up_for` is less than `over`.
        FIRST + u32::try_from(rise).unwrap_or(0)
    };
    NonZeroU32::new(percent).map_or(weight, |percent| weight.saturating_mul(percent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_a_tenth_to_all_of_it() {
        let over = Duration::from_secs(30);
        let at = |secs: f64| ramped(NonZeroU32::MIN.saturating_add(49), Duration::from_secs_f64(secs), over).get();
        assert_eq!([0.0, 10.0, 15.0, 29.999, 30.0, 1e6].map(at), [500, 2000, 2750, 4950, 5000, 5000]);
    }

    #[test]
    fn without_a_slow_start_all_of_it_at_once() {
        assert_eq!(ramped(NonZeroU32::MIN, Duration::ZERO, Duration::ZERO).get(), 100);
        assert_eq!(ramped(NonZeroU32::MAX, Duration::MAX, Duration::ZERO).get(), u32::MAX, "and never a panic");
    }

    #[test]
    fn it_never_falls() {
        let over = Duration::from_millis(977);
        let all: Vec<u32> =
            (0..1000).map(|ms| ramped(NonZeroU32::MIN, Duration::from_millis(ms), over).get()).collect();
        assert!(all.is_sorted());
    }
}
