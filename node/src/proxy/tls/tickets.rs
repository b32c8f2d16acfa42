//! Session tickets (RFC 8446 section 4.6.1, RFC 5077) that every node with the same secret opens.
//!
//! Their key comes from the secret, from what the listener asks of its clients, and from the day; so no node must tell
//! another, a client that was let in where no certificate is asked for does not get in elsewhere, and a key that leaks is
//! worth two days of tickets.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use rustls::server::ProducesTickets;

/// How long one key seals. It opens for as long again.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Bytes of the day's number, before the ticket's nonce.
const NUMBER: usize = size_of::<u64>();

/// See the module.
pub(super) struct Tickets {
    /// What the keys of all days come from.
    from: Prk,
    now: fn() -> SystemTime,
}

impl Tickets {
    /// With a key that is for this alone.
    pub(super) fn new(key: &[u8; 32], now: fn() -> SystemTime) -> Self {
        Self { from: Salt::new(HKDF_SHA256, b"tandem session tickets").extract(key), now }
    }

    /// The number of today.
    fn today(&self) -> u64 {
        (self.now)().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / DAY.as_secs())
    }

    fn key_of(&self, day: u64) -> Option<RandomizedNonceKey> {
        let mut key = [0; 32];
        self.from.expand(&[&day.to_be_bytes()], &AES_256_GCM).ok()?.fill(&mut key).ok()?;
        RandomizedNonceKey::new(&AES_256_GCM, &key).ok()
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(DAY.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let day = self.today();
        let (mut sealed, number) = (plain.to_vec(), day.to_be_bytes());
        let nonce = self.key_of(day)?.seal_in_place_append_tag(Aad::from(number), &mut sealed).ok()?;
        Some([&number[..], nonce.as_ref(), &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        let (number, rest) = ticket.split_first_chunk::<NUMBER>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let day = u64::from_be_bytes(*number);
        // Tomorrow's: the other node's clock is a little ahead.
        if self.today().abs_diff(day) > 1 {
            return None;
        }
        let mut sealed = sealed.to_vec();
        let key = self.key_of(day)?;
        let n = key.open_in_place(Nonce::from(nonce), Aad::from(*number), &mut sealed).ok()?.len();
        sealed.truncate(n);
        Some(sealed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn at(key: u8, now: fn() -> SystemTime) -> Tickets {
        Tickets::new(&[key; 32], now)
    }

    fn day(n: u32) -> SystemTime {
        UNIX_EPOCH + DAY * n + Duration::from_secs(7)
    }

    #[test]
    fn whoever_has_the_key_opens_it_until_the_end_of_the_next_day() {
        let ticket = at(1, || day(20_000)).encrypt(b"the session").unwrap();
        let opened = |tickets: Tickets| tickets.decrypt(&ticket);
        assert_eq!(opened(at(1, || day(20_000))).unwrap(), b"the session");
        assert_eq!(opened(at(1, || day(20_001))).unwrap(), b"the session");
        assert_eq!(opened(at(1, || day(19_999))).unwrap(), b"the session", "a clock that is behind");
        assert_eq!(opened(at(1, || day(20_002))), None);
        assert_eq!(opened(at(2, || day(20_000))), None, "another key");
    }

    #[test]
    fn a_ticket_that_was_changed_is_none() {
        let tickets = at(1, || day(20_000));
        let ticket = tickets.encrypt(b"the session").unwrap();
        for i in 0..ticket.len() {
            let mut bad = ticket.clone();
            bad[i] ^= 1;
            assert_eq!(tickets.decrypt(&bad), None, "byte {i}");
            assert_eq!(tickets.decrypt(&ticket[..i]), None, "{i} bytes");
        }
    }
}
