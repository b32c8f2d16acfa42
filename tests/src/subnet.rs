//! A piece of loopback for one cluster alone, so that tests beside each other never meet on a port.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context;

/// A /24 of 127.0.0.0/8. A socket bound in it says that it is taken, and frees it with the process.
pub struct Subnet {
    second: u8,
    third: u8,
    _claim: TcpListener,
}

impl Subnet {
    /// Takes one that nobody else on this machine uses.
    ///
    /// # Errors
    /// None is left, or loopback cannot be bound at all.
    pub fn claim() -> anyhow::Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let start = std::process::id().wrapping_mul(97);
        for _ in 0..1000 {
            let n = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
            let second = u8::try_from(1 + (n / 250) % 250).context("below 251")?;
            let third = u8::try_from(1 + n % 250).context("below 251")?;
            let marker = SocketAddr::from((Ipv4Addr::new(127, second, third, 254), 7440));
            if let Ok(claim) = TcpListener::bind(marker) {
                return Ok(Self { second, third, _claim: claim });
            }
        }
        anyhow::bail!("no free /24 in 127.0.0.0/8: can this machine bind 127.1.1.254:7440?")
    }

    /// The address with this last byte.
    pub fn ip(&self, last: u8) -> IpAddr {
        Ipv4Addr::new(127, self.second, self.third, last).into()
    }

    /// The same with a port.
    pub fn at(&self, last: u8, port: u16) -> SocketAddr {
        (self.ip(last), port).into()
    }
}
