//! How long from one check to the next: shorter or longer by chance, so that the checks of many nodes do not come all at
//! once. Pure.

use std::time::Duration;

/// The interval, give or take `jitter` percent. `chance`: evenly from all numbers.
pub(super) fn pause(interval: Duration, jitter: u32, chance: u32) -> Duration {
    let spread = f64::from(jitter) / 100.0;
    let swing = 2.0 * f64::from(chance) / f64::from(u32::MAX) - 1.0;
    interval.mul_f64(1.0 + spread * swing)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn chance_moves_it_from_one_end_to_the_other() {
        let at = |jitter, chance| pause(SECOND, jitter, chance).as_millis();
        assert_eq!([at(10, 0), at(10, u32::MAX / 2), at(10, u32::MAX)], [900, 1000, 1100]);
        assert_eq!([at(50, 0), at(50, u32::MAX)], [500, 1500]);
        assert_eq!([at(0, 0), at(0, u32::MAX)], [1000, 1000]);
    }

    proptest! {
        #[test]
        fn it_stays_within_its_share(ms in 50_u64..3_600_000, jitter in 0_u32..=50, chance: u32) {
            let interval = Duration::from_millis(ms);
            let off = pause(interval, jitter, chance).abs_diff(interval);
            prop_assert!(off <= interval * jitter / 100 + Duration::from_nanos(1), "{off:?}");
        }
    }
}
