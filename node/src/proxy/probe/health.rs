//! When a backend is up: `rise` successes bring it up, `fall` failures take it down. Pure.
//!
//! ```text
//!            success                fall failures in a row
//!  unproven ─────────► up ─────────────────────────────────► down
//!     │ failure        ▲                                      ▲ │
//!     └────────────────│──────────────────────────────────────┘ │
//!                      └──────── rise successes in a row ───────┘
//! ```
//! An unproven backend counts as up, so that one just added serves at once; its first failure takes it down, because
//! nothing speaks for it yet.

use std::num::NonZeroU32;

/// What the checks of one backend have shown so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Health {
    /// Not checked yet.
    #[default]
    Unproven,
    /// Taking sessions, after this many failures in a row.
    Up(u32),
    /// Taking none, after this many successes in a row.
    Down(u32),
}

impl Health {
    /// Whether it takes sessions.
    pub(super) fn is_up(self) -> bool {
        !matches!(self, Self::Down(_))
    }

    /// After one more check.
    #[must_use]
    pub(super) fn after(self, passed: bool, rise: NonZeroU32, fall: NonZeroU32) -> Self {
        match (self, passed) {
            (Self::Unproven | Self::Up(_), true) => Self::Up(0),
            (Self::Unproven, false) => Self::Down(0),
            (Self::Up(failed), false) if failed + 1 >= fall.get() => Self::Down(0),
            (Self::Up(failed), false) => Self::Up(failed + 1),
            (Self::Down(passed), true) if passed + 1 >= rise.get() => Self::Up(0),
            (Self::Down(passed), true) => Self::Down(passed + 1),
            (Self::Down(_), false) => Self::Down(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each letter is a check (`+` passed, `-` failed); each answer says what holds after it (`U`p, `D`own).
    fn story(rise: u32, fall: u32, checks: &str) -> String {
        let n = |n| NonZeroU32::new(n).expect("not zero");
        let mut health = Health::default();
        checks
            .chars()
            .map(|c| {
                health = health.after(c == '+', n(rise), n(fall));
                if health.is_up() { 'U' } else { 'D' }
            })
            .collect()
    }

    #[test]
    fn stories() {
        assert!(Health::default().is_up(), "one just added serves at once");
        assert_eq!(story(1, 2, "+-+--+"), "UUUUDU");
        assert_eq!(story(1, 3, "-+"), "DU", "the first failure of an unproven one counts");
        assert_eq!(story(3, 2, "-++-+++--"), "DDDDDDUUD", "successes must be in a row");
        assert_eq!(story(2, 1, "+-+-++"), "UDDDDU");
    }
}
