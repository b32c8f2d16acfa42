//! Which addresses may stay until when. Pure; times are ns of CLOCK_BOOTTIME.

use std::net::IpAddr;

/// More than a node ever holds: beyond it the book takes memory anew, which is slower and no worse.
const ROOM: usize = 256;

/// One address to be taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Charge {
    /// The interface.
    pub(super) index: u32,
    /// The address.
    pub(super) address: IpAddr,
    /// When at the latest.
    pub(super) until: u64,
}

/// All of them.
#[derive(Debug)]
pub(super) struct Book(Vec<Charge>);

impl Book {
    /// An empty one that has its memory already.
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(ROOM))
    }

    /// The address may stay until then; what was said of it on this interface before is void.
    pub(super) fn hold(&mut self, charge: Charge) {
        let same = |c: &&mut Charge| c.address == charge.address && c.index == charge.index;
        match self.0.iter_mut().find(same) {
            Some(known) => known.until = charge.until,
            None => self.0.push(charge),
        }
    }

    /// It is off, wherever it was.
    pub(super) fn forget(&mut self, address: IpAddr) {
        self.0.retain(|c| c.address != address);
    }

    /// The earliest end.
    pub(super) fn earliest(&self) -> Option<u64> {
        self.0.iter().map(|c| c.until).min()
    }

    /// Tries to take off what is due, and keeps what could not be, to be tried again at `again`.
    pub(super) fn take_off(&mut self, now: u64, again: u64, mut off: impl FnMut(&Charge) -> bool) {
        self.0.retain_mut(|c| {
            if c.until > now || off(c) {
                return c.until > now;
            }
            c.until = again;
            true
        });
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn charge(last: u8, until: u64) -> Charge {
        Charge { index: 3, address: IpAddr::from([10, 0, 0, last]), until }
    }

    fn taken(book: &mut Book, now: u64) -> Vec<Charge> {
        let mut taken = Vec::new();
        book.take_off(now, now + 20, |c| {
            taken.push(*c);
            true
        });
        taken
    }

    #[test]
    fn each_address_goes_at_its_own_end_and_an_end_can_be_moved() {
        let mut book = Book::new();
        assert_eq!(book.earliest(), None);
        book.hold(charge(1, 100));
        book.hold(charge(2, 150));
        assert_eq!(book.earliest(), Some(100));
        book.hold(charge(1, 200));
        assert_eq!(book.earliest(), Some(150));
        assert_eq!(taken(&mut book, 149), []);
        assert_eq!(taken(&mut book, 150), [charge(2, 150)]);
        assert_eq!(taken(&mut book, 150), []);
        book.forget(charge(1, 0).address);
        assert!(book.is_empty());
    }

    #[test]
    fn what_does_not_go_is_tried_again() {
        let mut book = Book::new();
        book.hold(charge(1, 100));
        book.take_off(100, 120, |_| false);
        assert_eq!(book.earliest(), Some(120));
        assert_eq!(taken(&mut book, 120), [charge(1, 120)]);
    }

    #[test]
    fn an_interface_made_anew_has_its_own_end() {
        let mut book = Book::new();
        book.hold(charge(1, 100));
        book.hold(Charge { index: 4, ..charge(1, 300) });
        assert_eq!(taken(&mut book, 100), [charge(1, 100)]);
        assert_eq!(book.earliest(), Some(300));
    }
}
