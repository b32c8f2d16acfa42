//! Tells the neighbours on an Ethernet where an IPv4 address is now: gratuitous ARP (RFC 826, RFC 5227, RFC 5944 section 4.6).

use std::io;
use std::net::Ipv4Addr;

use socket2::{Domain, SockAddr, Socket, Type};

use super::Error;

/// An Ethernet address.
pub(super) type Mac = [u8; 6];

const BROADCAST: Mac = [0xff; 6];
const LENGTH: usize = 42;

/// The two forms of an announcement; some neighbours heed only one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// "Who has my own address?": an ARP announcement (RFC 5227 section 3), target hardware address zero.
    Request,
    /// "I have it", unasked: target hardware address as RFC 5944 section 4.6 wants it.
    Reply,
}

/// A raw socket that only sends.
#[derive(Debug)]
pub(super) struct Announcer {
    socket: Socket,
}

impl Announcer {
    /// Opens the socket.
    ///
    /// # Errors
    /// [`Error::NoRight`] without CAP_NET_RAW.
    pub(super) fn open() -> Result<Self, Error> {
        const WHAT: &str = "open a raw socket for announcements (AF_PACKET)";
        // No protocol: with one, every such packet of the machine would be queued here.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None).map_err(|source| match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Error::NoRight { what: WHAT },
            _ => Error::Refused { what: WHAT, source },
        })?;
        socket.set_nonblocking(true).map_err(|source| Error::Refused { what: WHAT, source })?;
        Ok(Self { socket })
    }

    /// Says on the interface of this index that `address` is at `mac`, in both forms.
    ///
    /// # Errors
    /// What the kernel answers, e.g. that the interface is down or gone.
    pub(super) fn announce(&self, index: i32, mac: Mac, address: Ipv4Addr) -> io::Result<()> {
        let to = link_address(index)?;
        for form in [Form::Request, Form::Reply] {
            self.socket.send_to(&frame(form, mac, address), &to)?;
        }
        Ok(())
    }
}

/// The whole Ethernet frame; the driver pads it.
fn frame(form: Form, mac: Mac, address: Ipv4Addr) -> [u8; LENGTH] {
    let (operation, target) = match form {
        Form::Request => (1, [0; 6]),
        Form::Reply => (2, mac),
    };
    let mut frame = [0; LENGTH];
    frame[..6].copy_from_slice(&BROADCAST);
    frame[6..12].copy_from_slice(&mac);
    // ARP (0x0806) for IPv4 (0x0800) over Ethernet (1), address lengths 6 and 4.
    frame[12..21].copy_from_slice(&[0x08, 0x06, 0x00, 0x01, 0x08, 0x00, 6, 4, 0]);
    frame[21] = operation;
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&address.octets());
    frame[32..38].copy_from_slice(&target);
    frame[38..].copy_from_slice(&address.octets());
    frame
}

#[allow(unsafe_code)]
fn link_address(index: i32) -> io::Result<SockAddr> {
    // SAFETY: the storage comes zeroed and is aligned for and larger than every socket address; all zeros is a valid
    // `sockaddr_ll`. Family and length written here are those of the type written.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let link = &mut *storage.cast::<libc::sockaddr_ll>();
            link.sll_family = family();
            link.sll_ifindex = index;
            link.sll_halen = 6;
            link.sll_addr[..6].copy_from_slice(&BROADCAST);
            *length = socklen();
            Ok(())
        })
    }?;
    Ok(address)
}

fn family() -> libc::sa_family_t {
    libc::sa_family_t::try_from(libc::AF_PACKET).expect("address families are small numbers")
}

fn socklen() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).expect("it has 20 bytes")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [0x02, 0x42, 0x0a, 0x00, 0x00, 0x07];
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 100);

    #[test]
    fn a_request_asks_everyone_for_our_own_address() {
        #[rustfmt::skip]
        let expected: [u8; 42] = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x42, 0x0a, 0x00, 0x00, 0x07, 0x08, 0x06, // Ethernet
            0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01,                                     // ARP request
            0x02, 0x42, 0x0a, 0x00, 0x00, 0x07, 10, 0, 0, 100,                                  // sender
            0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 10, 0, 0, 100,                                  // target
        ];
        assert_eq!(frame(Form::Request, MAC, ADDRESS), expected);
    }

    #[test]
    fn a_reply_tells_everyone_unasked() {
        #[rustfmt::skip]
        let expected: [u8; 42] = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0x42, 0x0a, 0x00, 0x00, 0x07, 0x08, 0x06,
            0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x02,
            0x02, 0x42, 0x0a, 0x00, 0x00, 0x07, 10, 0, 0, 100,
            0x02, 0x42, 0x0a, 0x00, 0x00, 0x07, 10, 0, 0, 100,
        ];
        assert_eq!(frame(Form::Reply, MAC, ADDRESS), expected);
    }
}
