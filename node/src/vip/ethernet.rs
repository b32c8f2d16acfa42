//! Frames out of an interface and into it, past the kernel's own protocols: AF_PACKET.

use std::io::{self, Read as _};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, RawFd};

use socket2::{Domain, SockAddr, SockFilter, Socket, Type};

use super::Error;
use super::{arp, neighbour};

/// An Ethernet address.
pub(super) type Mac = [u8; 6];

/// Everyone.
pub(super) const BROADCAST: Mac = [0xff; 6];

/// As people write it.
pub(super) fn text(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// A raw socket that only sends.
#[derive(Debug)]
pub(super) struct Mouth {
    socket: Socket,
}

impl Mouth {
    /// Opens the socket.
    ///
    /// # Errors
    /// [`Error::NoRight`] without CAP_NET_RAW.
    pub(super) fn open() -> Result<Self, Error> {
        // No protocol: with one, every such packet of the machine would be queued here.
        let socket = raw().map_err(|source| explain("open a raw socket for announcements (AF_PACKET)", source))?;
        Ok(Self { socket })
    }

    /// Says on the interface of this index that `address` is at `mac`, in all forms there are.
    ///
    /// # Errors
    /// What the kernel answers, e.g. that the interface is down or gone.
    pub(super) fn announce(&self, index: i32, mac: Mac, address: IpAddr) -> io::Result<()> {
        let to = link_address(index, 0)?;
        match address {
            IpAddr::V4(address) => {
                for frame in arp::announcements(mac, address) {
                    self.socket.send_to(&frame, &to)?;
                }
            }
            IpAddr::V6(address) => {
                self.socket.send_to(&neighbour::advertisement(mac, address), &to)?;
            }
        }
        Ok(())
    }

    /// Asks, as nobody, who has `address`.
    ///
    /// # Errors
    /// What the kernel answers.
    pub(super) fn probe(&self, index: i32, mac: Mac, address: IpAddr) -> io::Result<()> {
        let to = link_address(index, 0)?;
        match address {
            IpAddr::V4(address) => self.socket.send_to(&arp::probe(mac, address), &to)?,
            IpAddr::V6(address) => self.socket.send_to(&neighbour::probe(mac, address), &to)?,
        };
        Ok(())
    }
}

/// A raw socket that hears who else says to have one address. The kernel drops all else before it gets here.
#[derive(Debug)]
pub(super) struct Ear {
    socket: Socket,
    address: IpAddr,
}

impl Ear {
    /// Listens on the interface of this index.
    ///
    /// # Errors
    /// [`Error::NoRight`] without CAP_NET_RAW, or what the kernel says.
    pub(super) fn open(index: i32, address: IpAddr) -> Result<Self, Error> {
        const WHAT: &str = "listen for others with the same address (AF_PACKET)";
        let open = || {
            // Without a protocol nothing is queued before the filter is there.
            let socket = raw()?;
            match address {
                IpAddr::V4(address) => {
                    socket.attach_filter(&claims_v4(address.octets()))?;
                    socket.bind(&link_address(index, libc::ETH_P_ARP)?)?;
                }
                IpAddr::V6(address) => {
                    socket.attach_filter(&claims_v6(address.octets()))?;
                    socket.bind(&link_address(index, libc::ETH_P_IPV6)?)?;
                }
            }
            Ok(socket)
        };
        Ok(Self { socket: open().map_err(|source| explain(WHAT, source))?, address })
    }

    /// Who said it, if anybody has since the last time; `WouldBlock` then. Other errors are the interface's, and pass.
    ///
    /// # Errors
    /// As said.
    pub(super) fn hear(&self) -> io::Result<Option<Mac>> {
        let mut frame = [0; 128];
        let length = (&self.socket).read(&mut frame)?;
        Ok(match self.address {
            IpAddr::V4(address) => arp::claimant(&frame[..length], address),
            IpAddr::V6(address) => neighbour::claimant(&frame[..length], address),
        })
    }
}

impl AsRawFd for Ear {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn raw() -> io::Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn explain(what: &'static str, source: io::Error) -> Error {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => Error::NoRight { what },
        _ => Error::Refused { what, source },
    }
}

/// Classic BPF for [`arp::claimant`].
fn claims_v4(address: [u8; 4]) -> [SockFilter; 4] {
    [load_word(arp::SENDER), unless(u32::from_be_bytes(address), 1), take(ALL), take(NOTHING)]
}

/// Classic BPF for [`neighbour::claimant`].
fn claims_v6(address: [u8; 16]) -> [SockFilter; 14] {
    let word = |n: usize| {
        let [a, b, c, d] = [0, 1, 2, 3].map(|i| address[4 * n + i]);
        u32::from_be_bytes([a, b, c, d])
    };
    let target = |n: usize| load_word(neighbour::TARGET + 4 * n);
    [
        load_byte(neighbour::NEXT_HEADER),
        unless(u32::from(neighbour::ICMPV6), 11),
        load_byte(neighbour::TYPE),
        unless(u32::from(neighbour::ADVERTISES), 9),
        target(0),
        unless(word(0), 7),
        target(1),
        unless(word(1), 5),
        target(2),
        unless(word(2), 3),
        target(3),
        unless(word(3), 1),
        take(ALL),
        take(NOTHING),
    ]
}

const ALL: u32 = u32::MAX;
const NOTHING: u32 = 0;

fn load_word(at: usize) -> SockFilter {
    load(libc::BPF_W, at)
}

fn load_byte(at: usize) -> SockFilter {
    load(libc::BPF_B, at)
}

fn load(size: u32, at: usize) -> SockFilter {
    instruction(libc::BPF_LD | size | libc::BPF_ABS, 0, u32::try_from(at).expect("within a frame"))
}

/// Skips so many instructions unless what was loaded is this.
fn unless(is: u32, skip: u8) -> SockFilter {
    instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, skip, is)
}

fn take(bytes: u32) -> SockFilter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, bytes)
}

fn instruction(code: u32, otherwise: u8, k: u32) -> SockFilter {
    SockFilter::new(u16::try_from(code).expect("codes are small numbers"), 0, otherwise, k)
}

#[allow(unsafe_code)]
fn link_address(index: i32, protocol: libc::c_int) -> io::Result<SockAddr> {
    // SAFETY: the storage comes zeroed and is aligned for and larger than every socket address; all zeros is a valid
    // `sockaddr_ll`. Family and length written here are those of the type written.
    let ((), address) = unsafe {
        SockAddr::try_init(|storage, length| {
            let link = &mut *storage.cast::<libc::sockaddr_ll>();
            link.sll_family = u16::try_from(libc::AF_PACKET).expect("address families are small numbers");
            link.sll_protocol = u16::try_from(protocol).expect("protocols are 16 bits").to_be();
            link.sll_ifindex = index;
            link.sll_halen = 6;
            link.sll_addr[..6].copy_from_slice(&BROADCAST);
            *length = u32::try_from(size_of::<libc::sockaddr_ll>()).expect("it has 20 bytes");
            Ok(())
        })
    }?;
    Ok(address)
}
