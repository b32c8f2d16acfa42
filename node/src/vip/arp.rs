//! What is said and heard of an IPv4 address on an Ethernet: ARP frames (RFC 826, RFC 5227, RFC 5944 section 4.6). Pure.

use std::net::Ipv4Addr;

use super::ethernet::{BROADCAST, Mac};

const LENGTH: usize = 42;
/// Where the sender's protocol address is.
pub(super) const SENDER: usize = 28;

/// Who has this address, asked by it? "Neighbours, it is here" (RFC 5227 section 3), target hardware address zero; and the
/// answer to that, unasked (RFC 5944 section 4.6). Some neighbours heed only one of them.
pub(super) fn announcements(mac: Mac, address: Ipv4Addr) -> [[u8; LENGTH]; 2] {
    [frame(1, mac, address, [0; 6], address), frame(2, mac, address, mac, address)]
}

/// Who has this address, asked by nobody: no neighbour learns anything from it (RFC 5227 section 2.1.1).
pub(super) fn probe(mac: Mac, address: Ipv4Addr) -> [u8; LENGTH] {
    frame(1, mac, Ipv4Addr::UNSPECIFIED, [0; 6], address)
}

/// Who says in this frame that it has `address`.
pub(super) fn claimant(frame: &[u8], address: Ipv4Addr) -> Option<Mac> {
    let is_arp = frame.get(12..14) == Some(&[0x08, 0x06]);
    let says_so = frame.get(SENDER..SENDER + 4) == Some(&address.octets());
    if is_arp && says_so { frame.get(22..28)?.try_into().ok() } else { None }
}

/// The whole Ethernet frame; the driver pads it.
fn frame(operation: u8, mac: Mac, sender: Ipv4Addr, target_mac: Mac, target: Ipv4Addr) -> [u8; LENGTH] {
    let mut frame = [0; LENGTH];
    frame[..6].copy_from_slice(&BROADCAST);
    frame[6..12].copy_from_slice(&mac);
    // ARP (0x0806) for IPv4 (0x0800) over Ethernet (1), address lengths 6 and 4.
    frame[12..21].copy_from_slice(&[0x08, 0x06, 0x00, 0x01, 0x08, 0x00, 6, 4, 0]);
    frame[21] = operation;
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&sender.octets());
    frame[32..38].copy_from_slice(&target_mac);
    frame[38..].copy_from_slice(&target.octets());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [0x02, 0x42, 0x0a, 0x00, 0x00, 0x07];
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);

    #[rustfmt::skip]
    const REQUEST: [u8; 42] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x42, 0x0a, 0x00, 0x00, 0x07, 0x08, 0x06, // Ethernet
        0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01,                                     // ARP request
        0x02, 0x42, 0x0a, 0x00, 0x00, 0x07, 10, 0, 0, 100,                                  // sender
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 10, 0, 0, 100,                                  // target
    ];
    #[rustfmt::skip]
    const REPLY: [u8; 42] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x42, 0x0a, 0x00, 0x00, 0x07, 0x08, 0x06,
        0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x02,
        0x02, 0x42, 0x0a, 0x00, 0x00, 0x07, 10, 0, 0, 100,
        0x02, 0x42, 0x0a, 0x00, 0x00, 0x07, 10, 0, 0, 100,
    ];

    #[test]
    fn everyone_is_asked_for_our_own_address_and_told_unasked() {
        assert_eq!(announcements(MAC, ADDRESS), [REQUEST, REPLY]);
    }

    #[test]
    fn a_probe_is_asked_by_nobody() {
        let mut expected = REQUEST;
        expected[28..32].fill(0);
        assert_eq!(probe(MAC, ADDRESS), expected);
        assert_eq!(claimant(&expected, ADDRESS), None);
    }

    #[test]
    fn whoever_has_the_address_says_so_in_every_form() {
        assert_eq!(claimant(&REQUEST, ADDRESS), Some(MAC));
        assert_eq!(claimant(&REPLY, ADDRESS), Some(MAC));
        assert_eq!(claimant(&REPLY, Ipv4Addr::new(10, 0, 0, 1)), None);
        assert_eq!(claimant(&REPLY[..30], ADDRESS), None);
        assert_eq!(claimant(&[], ADDRESS), None);
    }
}
