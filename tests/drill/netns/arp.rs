//! Asks the clients' Ethernet all the time who has the virtual address, and hears what is said unasked (RFC 826).

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tandem_tests::clock::{Micros, now};

/// From one question to the next.
pub(crate) const EVERY: Duration = Duration::from_millis(5);
const ETHERTYPE: u16 = 0x0806;
const LENGTH: usize = 42;

/// An Ethernet address.
pub(crate) type Mac = [u8; 6];

/// Somebody said that the address is at `mac`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) at: Micros,
    pub(crate) mac: Mac,
    /// To everybody, and not as an answer.
    pub(crate) unasked: bool,
}

/// Asks on the interface `lan` of the calling thread's network until told to stop, on a thread of its own.
///
/// # Errors
/// No right to (CAP_NET_RAW), or no such interface.
pub(crate) fn ask(
    asker: (Mac, Ipv4Addr),
    address: Ipv4Addr,
    hear: Sender<Claim>,
    stop: Arc<AtomicBool>,
) -> io::Result<()> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(ETHERTYPE.to_be()))))?;
    let to = broadcast(index("lan")?)?;
    let question = question(asker, address);
    std::thread::Builder::new().name("arp".into()).spawn(move || {
        let mut next = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            // Nobody may be there: the cable is out, say. The next question comes soon.
            let _ = socket.send_to(&question, &to);
            next += EVERY;
            if next < Instant::now() {
                next = Instant::now() + EVERY;
            }
            while let Some(left) = next.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                if let Some(claim) = heard(&socket, left, asker.0, address)
                    && hear.send(claim).is_err()
                {
                    return;
                }
            }
        }
    })?;
    Ok(())
}

fn heard(socket: &Socket, within: Duration, asker: Mac, address: Ipv4Addr) -> Option<Claim> {
    socket.set_read_timeout(Some(within.max(Duration::from_micros(100)))).ok()?;
    let mut frame = [std::mem::MaybeUninit::<u8>::uninit(); 64];
    let (length, _) = socket.recv_from(&mut frame).ok()?;
    let at = now();
    let mut bytes = [0; LENGTH];
    if length < LENGTH {
        return None;
    }
    for (to, from) in bytes.iter_mut().zip(&frame) {
        // SAFETY: the kernel has written the first `length` bytes, and LENGTH is no more than that.
        #[allow(unsafe_code)]
        unsafe {
            *to = from.assume_init();
        }
    }
    claim(at, &bytes, asker, address)
}

/// What a frame says of `address`, if it does.
fn claim(at: Micros, frame: &[u8; LENGTH], asker: Mac, address: Ipv4Addr) -> Option<Claim> {
    let is_arp = frame[12..14] == ETHERTYPE.to_be_bytes();
    let mac: Mac = frame[22..28].try_into().ok()?;
    let says = is_arp && frame[28..32] == address.octets() && mac != asker;
    says.then_some(Claim { at, mac, unasked: frame[..6] == [0xff; 6] })
}

fn question((mac, ip): (Mac, Ipv4Addr), address: Ipv4Addr) -> [u8; LENGTH] {
    let mut frame = [0; LENGTH];
    frame[..6].fill(0xff);
    frame[6..12].copy_from_slice(&mac);
    // ARP for IPv4 over Ethernet, a request.
    frame[12..22].copy_from_slice(&[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&ip.octets());
    frame[38..].copy_from_slice(&address.octets());
    frame
}

fn index(interface: &str) -> io::Result<i32> {
    let name = std::ffi::CString::new(interface)?;
    // SAFETY: the name ends in zero and outlives the call.
    #[allow(unsafe_code)]
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 { Err(io::Error::last_os_error()) } else { i32::try_from(index).map_err(io::Error::other) }
}

fn broadcast(index: i32) -> io::Result<SockAddr> {
    // SAFETY: the storage comes zeroed and is large enough for every socket address; all zeros is a valid `sockaddr_ll`.
    // Family and length written here are those of the type written.
    #[allow(unsafe_code)]
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let link = &mut *storage.cast::<libc::sockaddr_ll>();
            link.sll_family = libc::sa_family_t::try_from(libc::AF_PACKET).map_err(io::Error::other)?;
            link.sll_ifindex = index;
            link.sll_halen = 6;
            link.sll_addr[..6].fill(0xff);
            *length = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).map_err(io::Error::other)?;
            Ok(())
        })
    }?;
    Ok(address)
}

/// The time of each frame that comes in on the interface `ctl` of the calling thread's network from `sender`, until
/// nobody listens any more.
///
/// # Errors
/// No right to (CAP_NET_RAW).
pub(crate) fn overhear(sender: Mac, hear: Sender<Micros>) -> io::Result<()> {
    const IP: u16 = 0x0800;
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(IP.to_be()))))?;
    socket.set_read_timeout(Some(Duration::from_millis(100)))?;
    std::thread::Builder::new().name("ear".into()).spawn(move || {
        let mut frame = [0_u8; 14];
        loop {
            // SAFETY: the buffer is ours and as long as said; a longer frame is cut.
            #[allow(unsafe_code)]
            let got = unsafe { libc::recv(socket.as_raw_fd(), frame.as_mut_ptr().cast(), frame.len(), 0) };
            let from_sender = got == 14 && frame[6..12] == sender;
            if from_sender && hear.send(now()).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);
    const ME: Mac = [2, 0, 0, 0, 0x77, 31];
    const NODE: Mac = [2, 0, 0, 0, 0x77, 11];

    #[test]
    fn an_answer_an_announcement_and_our_own_question_are_told_apart() {
        let question = question((ME, Ipv4Addr::new(10, 77, 0, 31)), VIP);
        assert_eq!(claim(7, &question, ME, VIP), None, "a question claims nothing");
        let mut said = question;
        said[..6].copy_from_slice(&ME);
        said[22..28].copy_from_slice(&NODE);
        said[28..32].copy_from_slice(&VIP.octets());
        assert_eq!(claim(7, &said, ME, VIP), Some(Claim { at: 7, mac: NODE, unasked: false }));
        said[..6].fill(0xff);
        assert_eq!(claim(8, &said, ME, VIP), Some(Claim { at: 8, mac: NODE, unasked: true }));
        assert_eq!(claim(8, &said, ME, Ipv4Addr::new(10, 77, 0, 1)), None, "of another address");
    }
}
