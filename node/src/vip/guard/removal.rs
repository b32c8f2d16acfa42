//! Takes an address off through a netlink socket of its own: no runtime, no memory taken, nothing to wait for but the kernel.

use std::io::{self, Read as _};
use std::net::IpAddr;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

/// The kernel has answered when the request is sent; this is for one that does not.
const PATIENCE: Duration = Duration::from_millis(100);
/// A header of 16 bytes, `ifaddrmsg` of 8, two attributes of 4 + 16.
const LONGEST: usize = 64;

/// A connection to the kernel.
#[derive(Debug)]
pub(super) struct Kernel(Socket);

impl Kernel {
    /// Opens it, and sees that it may take addresses off.
    ///
    /// # Errors
    /// What the kernel says; EPERM: no CAP_NET_ADMIN.
    pub(super) fn open() -> io::Result<Self> {
        let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(Protocol::from(libc::NETLINK_ROUTE)))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let kernel = Self(socket);
        // Nobody has this address. It is a rehearsal too: what a removal touches is in memory from now on.
        kernel.remove(0, IpAddr::from([0, 0, 0, 0]))?;
        Ok(kernel)
    }

    /// Takes it off; that it is not there is as good.
    ///
    /// # Errors
    /// What the kernel says; it may still be there.
    pub(super) fn remove(&self, index: u32, address: IpAddr) -> io::Result<()> {
        let (bytes, length) = request(index, address);
        self.0.send(&bytes[..length])?;
        let mut answer = [0; 512];
        let got = (&self.0).read(&mut answer)?;
        match errno(&answer[..got]) {
            Some(0 | libc::EADDRNOTAVAIL | libc::ENODEV | libc::ENOENT) => Ok(()),
            Some(code) => Err(io::Error::from_raw_os_error(code)),
            None => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// RTM_DELADDR with NLM_F_REQUEST | NLM_F_ACK (RFC 3549 section 2.3.3, rtnetlink(7)).
fn request(index: u32, address: IpAddr) -> ([u8; LONGEST], usize) {
    let (family, prefix) = match address {
        IpAddr::V4(_) => (libc::AF_INET, 32),
        IpAddr::V6(_) => (libc::AF_INET6, 128),
    };
    let octets: &[u8] = match &address {
        IpAddr::V4(v4) => &v4.octets(),
        IpAddr::V6(v6) => &v6.octets(),
    };
    let mut bytes = [0; LONGEST];
    let mut at = 4;
    let mut put = |more: &[u8]| {
        bytes[at..at + more.len()].copy_from_slice(more);
        at += more.len();
    };
    put(&libc::RTM_DELADDR.to_ne_bytes());
    put(&u16::try_from(libc::NLM_F_REQUEST | libc::NLM_F_ACK).expect("two low bits").to_ne_bytes());
    put(&[0; 8]); // Sequence and port: one question at a time, and ours is the only socket of its port.
    put(&[u8::try_from(family).expect("families are small numbers"), prefix, 0, 0]);
    put(&index.to_ne_bytes());
    for kind in [libc::IFA_LOCAL, libc::IFA_ADDRESS] {
        put(&u16::try_from(4 + octets.len()).expect("20 at most").to_ne_bytes());
        put(&kind.to_ne_bytes());
        put(octets);
    }
    bytes[..4].copy_from_slice(&u32::try_from(at).expect("64 at most").to_ne_bytes());
    (bytes, at)
}

/// The code in an NLMSG_ERROR, positive; zero is an acknowledgement.
fn errno(answer: &[u8]) -> Option<i32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    let code = i32::from_ne_bytes(answer.get(16..20)?.try_into().ok()?);
    (libc::c_int::from(kind) == libc::NLMSG_ERROR).then_some(-code)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
    use rtnetlink::packet_route::RouteNetlinkMessage;
    use rtnetlink::packet_route::address::AddressAttribute;

    use super::*;

    #[test]
    fn the_request_reads_as_what_it_means() {
        for (address, prefix) in [("10.0.0.100", 32), ("2001:db8::100", 128)] {
            let address: IpAddr = address.parse().unwrap();
            let (bytes, length) = request(7, address);
            let read = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&bytes[..length]).unwrap();
            assert_eq!(usize::try_from(read.header.length).unwrap(), length);
            assert_eq!(i32::from(read.header.flags), libc::NLM_F_REQUEST | libc::NLM_F_ACK);
            let NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelAddress(read)) = read.payload else {
                unreachable!("{read:?}")
            };
            assert_eq!((read.header.index, read.header.prefix_len), (7, prefix));
            assert_eq!(read.attributes, [AddressAttribute::Local(address), AddressAttribute::Address(address)]);
        }
    }
}
