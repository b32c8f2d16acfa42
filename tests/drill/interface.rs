//! A network namespace seen from inside: does it have the address, and is its link up?

use std::ffi::CString;
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use anyhow::{Context, ensure};
use tandem_tests::clock::now;

use crate::talk::Sample;

/// How often the holder is looked for.
pub(crate) const EVERY: Duration = Duration::from_millis(20);

/// What becomes of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Link {
    /// Carries frames.
    Up,
    /// Carries none.
    Down,
}

/// Tells every 20 ms whether this namespace has `address`, until nobody listens.
///
/// # Errors
/// The kernel does not say.
pub(crate) async fn sample(address: IpAddr) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tick.tick().await;
        let before = now();
        let holds = addresses()?.contains(&address);
        let line = serde_json::to_string(&Sample { before, after: now(), holds })?;
        if writeln!(std::io::stdout(), "{line}").is_err() {
            return Ok(());
        }
    }
}

/// Every IPv4 address of this network namespace.
///
/// # Errors
/// The kernel does not say.
pub(crate) fn addresses() -> anyhow::Result<Vec<IpAddr>> {
    let mut all = Vec::new();
    let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: getifaddrs fills `first` with a list that stays valid until freeifaddrs; each node and its `ifa_addr` is
    // checked for null, and read as IPv4 only when its family says that it is.
    #[allow(unsafe_code)]
    unsafe {
        ensure!(libc::getifaddrs(&raw mut first) == 0, "getifaddrs: {}", std::io::Error::last_os_error());
        let mut next = first;
        while let Some(entry) = next.as_ref() {
            if let Some(address) = entry.ifa_addr.as_ref()
                && i32::from(address.sa_family) == libc::AF_INET
            {
                let address = entry.ifa_addr.cast::<libc::sockaddr_in>().read_unaligned();
                all.push(Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)).into());
            }
            next = entry.ifa_next;
        }
        libc::freeifaddrs(first);
    }
    Ok(all)
}

/// Takes an interface up or down, as pulling its cable would.
///
/// # Errors
/// There is none of that name, or no right to do it.
pub(crate) fn set(interface: &str, link: Link) -> anyhow::Result<()> {
    let name = CString::new(interface)?;
    ensure!(name.as_bytes_with_nul().len() <= libc::IFNAMSIZ, "{interface} is no interface name");
    let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
    // SAFETY: `request` is a zeroed ifreq with a name that fits and ends in zero; the kernel reads and writes only within
    // it, and `ifru_flags` is the member that both calls use.
    #[allow(unsafe_code)]
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(name.as_bytes()) {
            *to = from.cast_signed();
        }
        let socket = std::os::fd::AsRawFd::as_raw_fd(&socket);
        let get = libc::ioctl(socket, libc::SIOCGIFFLAGS, &raw mut request);
        ensure!(get == 0, "{interface}: {}", std::io::Error::last_os_error());
        let up = i16::try_from(libc::IFF_UP).context("a flag fits")?;
        match link {
            Link::Up => request.ifr_ifru.ifru_flags |= up,
            Link::Down => request.ifr_ifru.ifru_flags &= !up,
        }
        let set = libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw mut request);
        ensure!(set == 0, "{interface}: {}", std::io::Error::last_os_error());
    }
    Ok(())
}
