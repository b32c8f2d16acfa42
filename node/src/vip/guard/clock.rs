//! The clock of the ends: CLOCK_BOOTTIME, the same for all processes of a machine, which also counts while it sleeps.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Now, in ns.
pub(super) fn now() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let nanos = Duration::new(now.tv_sec.cast_unsigned(), u32::try_from(now.tv_nsec).unwrap_or(0));
    u64::try_from(nanos.as_nanos()).unwrap_or(u64::MAX)
}

/// The same point of time as `at`. The two clocks are read one after the other, in the order that errs to the early side
/// if this process is stopped in between.
pub(super) fn at(at: Instant) -> u64 {
    let boot = now();
    let left = at.saturating_duration_since(Instant::now());
    boot.saturating_add(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_has_passed_is_now_and_one_to_come_is_to_come() {
        let (before, moment) = (now(), Instant::now());
        assert!(at(moment) >= before);
        let later = at(Instant::now() + Duration::from_secs(5));
        assert!(later > now() + 4_000_000_000 && later <= now() + 5_000_000_000);
    }
}
