//! What is said and heard of an IPv6 address on an Ethernet: neighbour discovery (RFC 4861 sections 4.3, 4.4 and 7.2.6). Pure.

use std::net::Ipv6Addr;

use super::ethernet::Mac;

/// Ethernet, IPv6, and the ICMPv6 message: with the option that names an Ethernet address, and without.
const ADVERTISEMENT: usize = 14 + 40 + 32;
const SOLICITATION: usize = 14 + 40 + 24;
/// Where things are in a frame.
pub(super) const NEXT_HEADER: usize = 20;
pub(super) const TYPE: usize = 54;
pub(super) const TARGET: usize = 62;
/// The kinds of message and of what is in an IPv6 packet.
pub(super) const ICMPV6: u8 = 58;
pub(super) const ADVERTISES: u8 = 136;
const SOLICITS: u8 = 135;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// "Replace what you have of it": without, a neighbour keeps the old holder's (RFC 4861 section 7.2.5).
const OVERRIDE: u8 = 0x20;

/// "It is here", to all, unasked.
pub(super) fn advertisement(mac: Mac, address: Ipv6Addr) -> [u8; ADVERTISEMENT] {
    let mut frame = [0; ADVERTISEMENT];
    frame[58] = OVERRIDE;
    // Option 2, the target's link-layer address, one unit of 8 bytes.
    frame[78..80].copy_from_slice(&[2, 1]);
    frame[80..].copy_from_slice(&mac);
    fill(&mut frame, ADVERTISES, mac, address, ALL_NODES, address);
    frame
}

/// "Who has it?", asked by nobody, as before an address is used (RFC 4862 section 5.4.2): whoever has it tells all.
pub(super) fn probe(mac: Mac, address: Ipv6Addr) -> [u8; SOLICITATION] {
    let mut frame = [0; SOLICITATION];
    let [.., a, b, c] = address.octets();
    let asked = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
    fill(&mut frame, SOLICITS, mac, Ipv6Addr::UNSPECIFIED, asked, address);
    frame
}

/// Who says in this frame that it has `address`.
pub(super) fn claimant(frame: &[u8], address: Ipv6Addr) -> Option<Mac> {
    let is_advertisement = frame.get(12..14) == Some(&[0x86, 0xdd])
        && frame.get(NEXT_HEADER) == Some(&ICMPV6)
        // One that came through a router is none (RFC 4861 section 7.1.2).
        && frame.get(21) == Some(&255)
        && frame.get(TYPE) == Some(&ADVERTISES);
    let says_so = frame.get(TARGET..TARGET + 16) == Some(&address.octets());
    if is_advertisement && says_so { frame.get(6..12)?.try_into().ok() } else { None }
}

/// The headers, and what is the same in both messages; the rest must be there before, for the checksum.
fn fill(frame: &mut [u8], kind: u8, mac: Mac, from: Ipv6Addr, to: Ipv6Addr, target: Ipv6Addr) {
    // A multicast address goes to 33:33 and its last four bytes (RFC 2464 section 7).
    frame[..2].copy_from_slice(&[0x33, 0x33]);
    frame[2..6].copy_from_slice(&to.octets()[12..]);
    frame[6..12].copy_from_slice(&mac);
    frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
    let length = u16::try_from(frame.len() - 54).expect("32 at most");
    frame[18..20].copy_from_slice(&length.to_be_bytes());
    (frame[NEXT_HEADER], frame[21]) = (ICMPV6, 255);
    frame[22..38].copy_from_slice(&from.octets());
    frame[38..54].copy_from_slice(&to.octets());
    frame[TYPE] = kind;
    frame[TARGET..TARGET + 16].copy_from_slice(&target.octets());
    let sum = checksum(&frame[22..], length);
    frame[56..58].copy_from_slice(&sum.to_be_bytes());
}

/// Over the addresses and the message, which follow one another, and what RFC 8200 section 8.1 puts between them.
fn checksum(addresses_and_message: &[u8], length: u16) -> u16 {
    let words = addresses_and_message.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
    let mut sum: u32 = words.sum::<u32>() + u32::from(length) + u32::from(ICMPV6);
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    !u16::try_from(sum).expect("folded to 16 bits")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const MAC: Mac = [0x02, 0x42, 0x0a, 0x00, 0x00, 0x07];

    fn address() -> Ipv6Addr {
        "fd00::1:2:abcd".parse().unwrap()
    }

    #[test]
    fn an_advertisement_overrides_and_adds_up() {
        let frame = advertisement(MAC, address());
        assert_eq!(frame[..14], [0x33, 0x33, 0, 0, 0, 1, 0x02, 0x42, 0x0a, 0, 0, 7, 0x86, 0xdd]);
        assert_eq!(frame[54..56], [136, 0]);
        assert_eq!(frame[58..62], [0x20, 0, 0, 0]);
        assert_eq!(frame[78..], [2, 1, 0x02, 0x42, 0x0a, 0, 0, 7]);
        // A sum over what has its own checksum in it is zero.
        assert_eq!(checksum(&frame[22..], 32), 0);
        assert_eq!(claimant(&frame, address()), Some(MAC));
        assert_eq!(claimant(&frame, Ipv6Addr::LOCALHOST), None);
    }

    #[test]
    fn a_probe_is_asked_by_nobody_of_those_who_may_have_it() {
        let frame = probe(MAC, address());
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0x02, 0xab, 0xcd]);
        assert_eq!(frame[22..38], [0; 16]);
        assert_eq!(Ipv6Addr::from(<[u8; 16]>::try_from(&frame[38..54]).unwrap()).to_string(), "ff02::1:ff02:abcd");
        assert_eq!(checksum(&frame[22..], 24), 0);
        assert_eq!(claimant(&frame, address()), None);
        let mut routed = advertisement(MAC, address());
        routed[21] = 64;
        assert_eq!(claimant(&routed, address()), None);
    }
}
