//! How many files the process may have open, and how near that is. Sockets are files.
//!
//! The kernel gives a new socket the lowest number that is free: a socket with number n proves that n others are open. So
//! the number of an accepted socket is the measure, and nothing has to be counted.

use std::os::fd::{AsRawFd, RawFd};

use rustix::process::{Resource, getrlimit, setrlimit};

/// What clients leave for the rest: consensus, the log, operators, and dials of clients that are in already.
const RESERVE: std::ops::RangeInclusive<u64> = 16..=512;

/// How many files may be open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Descriptors {
    most: u64,
    reserve: u64,
}

/// What is to become of a client that just came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Room {
    /// It may stay.
    Enough,
    /// It must go, with a word of why.
    Little,
    /// It must go at once.
    None,
}

impl Descriptors {
    /// Raises the soft limit to the hard one, which needs no right, and takes what is then in force.
    pub(super) fn claim() -> Self {
        let before = getrlimit(Resource::Nofile);
        let mut now = before;
        now.current = before.maximum;
        match setrlimit(Resource::Nofile, now) {
            Ok(()) => Self::of(before.maximum),
            Err(error) => {
                tracing::warn!(%error, "the limit of open files stays where it is");
                Self::of(before.current)
            }
        }
    }

    fn of(most: Option<u64>) -> Self {
        // The kernel's own bound where there is no other (fs.nr_open).
        let most = most.unwrap_or(1 << 20);
        Self { most, reserve: (most / 64).clamp(*RESERVE.start(), *RESERVE.end()) }
    }

    /// The limit.
    pub(super) fn most(self) -> u64 {
        self.most
    }

    /// How many are kept from clients.
    pub(super) fn reserve(self) -> u64 {
        self.reserve
    }

    /// How many sessions fit: each has two sockets.
    pub(super) fn sessions(self) -> u64 {
        self.most.saturating_sub(self.reserve) / 2
    }

    /// What a socket that was just opened tells.
    pub(super) fn room(self, socket: &impl AsRawFd) -> Room {
        self.room_at(socket.as_raw_fd())
    }

    fn room_at(self, number: RawFd) -> Room {
        let open = u64::try_from(number).unwrap_or(0) + 1;
        if open <= self.most.saturating_sub(self.reserve) {
            Room::Enough
        } else if open <= self.most.saturating_sub(self.reserve / 2) {
            Room::Little
        } else {
            Room::None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_kept_for_the_rest() {
        let limits = Descriptors::of(Some(1024));
        assert_eq!((limits.reserve(), limits.sessions()), (16, 504));
        let rooms = [1006, 1007, 1008, 1015, 1016, 1023].map(|n| limits.room_at(n));
        use Room::{Enough, Little, None};
        assert_eq!(rooms, [Enough, Enough, Little, Little, None, None]);
        assert_eq!(Descriptors::of(Some(20_000)).sessions(), 9844);
        assert_eq!(Descriptors::of(Option::None).reserve(), 512);
    }

    #[test]
    fn the_soft_limit_rises_to_the_hard_one() {
        let claimed = Descriptors::claim();
        let now = getrlimit(Resource::Nofile);
        assert_eq!(now.current, now.maximum);
        assert_eq!(claimed, Descriptors::of(now.maximum));
    }
}
