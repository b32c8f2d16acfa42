//! What tandemd and its guard say to each other: one datagram a word, all of one length. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes of each word: kind, family, powers, nothing, index, address, number.
pub(super) const LENGTH: usize = 32;

/// A word; times are ns of CLOCK_BOOTTIME, which also counts while a machine sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// The address may be on the interface of this index until then, and not longer. Replaces what was said of it before.
    Hold {
        /// As the kernel numbers interfaces.
        index: u32,
        /// Whose end it is.
        address: IpAddr,
        /// The end.
        until: u64,
    },
    /// It is off: nothing is left to guard.
    Forget(IpAddr),
    /// Are you there?
    Ask(u64),
    /// The answer to the question of that number; everything said before it was heard.
    Here(u64, Powers),
}

/// What the system permits a guard. Without them it does its work all the same, only later where a machine is in trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::vip) struct Powers {
    /// It runs before everything that is not real-time itself (CAP_SYS_NICE).
    pub(in crate::vip) realtime: bool,
    /// Its memory stays in memory (CAP_IPC_LOCK).
    pub(in crate::vip) locked: bool,
    /// The kernel kills others first when memory runs out (CAP_SYS_RESOURCE).
    pub(in crate::vip) spared: bool,
}

const HOLD: u8 = 1;
const FORGET: u8 = 2;
const ASK: u8 = 3;
const HERE: u8 = 4;

impl Word {
    /// The word as bytes.
    pub(super) fn bytes(self) -> [u8; LENGTH] {
        let (kind, index, address, number, powers) = match self {
            Self::Hold { index, address, until } => (HOLD, index, Some(address), until, 0),
            Self::Forget(address) => (FORGET, 0, Some(address), 0, 0),
            Self::Ask(number) => (ASK, 0, None, number, 0),
            Self::Here(number, powers) => (HERE, 0, None, number, powers.bits()),
        };
        let mut bytes = [0; LENGTH];
        (bytes[0], bytes[2]) = (kind, powers);
        bytes[4..8].copy_from_slice(&index.to_ne_bytes());
        match address {
            Some(IpAddr::V4(address)) => {
                bytes[1] = 4;
                bytes[8..12].copy_from_slice(&address.octets());
            }
            Some(IpAddr::V6(address)) => {
                bytes[1] = 6;
                bytes[8..24].copy_from_slice(&address.octets());
            }
            None => {}
        }
        bytes[24..].copy_from_slice(&number.to_ne_bytes());
        bytes
    }

    /// The word in these bytes; `None` if there is none in them.
    pub(super) fn of(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LENGTH] = bytes.try_into().ok()?;
        let number = u64::from_ne_bytes(bytes[24..].try_into().ok()?);
        match bytes[0] {
            HOLD => {
                let index = u32::from_ne_bytes(bytes[4..8].try_into().ok()?);
                Some(Self::Hold { index, address: address(bytes)?, until: number })
            }
            FORGET => Some(Self::Forget(address(bytes)?)),
            ASK => Some(Self::Ask(number)),
            HERE => Some(Self::Here(number, Powers::of(bytes[2]))),
            _ => None,
        }
    }
}

fn address(bytes: &[u8; LENGTH]) -> Option<IpAddr> {
    let octets: [u8; 16] = bytes[8..24].try_into().ok()?;
    match bytes[1] {
        4 => Some(Ipv4Addr::from([octets[0], octets[1], octets[2], octets[3]]).into()),
        6 => Some(Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

impl Powers {
    fn bits(self) -> u8 {
        u8::from(self.realtime) | u8::from(self.locked) << 1 | u8::from(self.spared) << 2
    }

    fn of(bits: u8) -> Self {
        Self { realtime: bits & 1 != 0, locked: bits & 2 != 0, spared: bits & 4 != 0 }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_said_is_heard_and_nothing_else() {
        let powers = Powers { realtime: true, locked: false, spared: true };
        for word in [
            Word::Hold { index: 7, address: "10.0.0.100".parse().unwrap(), until: u64::MAX - 1 },
            Word::Hold { index: 1, address: "2001:db8::100".parse().unwrap(), until: 1 },
            Word::Forget("10.0.0.100".parse().unwrap()),
            Word::Ask(12),
            Word::Here(12, powers),
        ] {
            assert_eq!(Word::of(&word.bytes()), Some(word));
        }
        assert_eq!(Word::of(&[0; LENGTH]), None);
        assert_eq!(Word::of(&Word::Ask(1).bytes()[1..]), None);
    }
}
