//! How connections to an upstream's backends are made: from which address, how they are kept, what is said first.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt::IpBindAddressNoPort};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};

use super::keeping::Keeping;
use super::proxy_protocol::{Addresses, version_1_of, version_2_of};
use super::stream::Stream;
use super::tls;
use crate::config::model::{self, SendProxy};

/// How an upstream's connections are made, the same through every revision that says the same.
#[derive(Debug)]
pub(super) struct Dialing {
    /// No two are alike: a connection may be used again only by who would have made it in the same way.
    pub(super) id: u64,
    how: How,
    turn: AtomicUsize,
    complained: AtomicBool,
}

/// What a config says of it.
#[derive(Debug, PartialEq)]
struct How {
    keeping: Keeping,
    send_proxy: SendProxy,
    /// Local addresses in turn; none: the system chooses.
    sources: Vec<IpAddr>,
    /// In TLS, if so.
    secure: Option<Secure>,
}

/// How TLS is spoken to them.
#[derive(Debug)]
struct Secure {
    terms: Result<Arc<ClientConfig>, tls::Error>,
    /// Whom their certificates must name; `None`: each its own name or address.
    name: Option<ServerName<'static>>,
}

impl PartialEq for Secure {
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.terms, &other.terms) {
            (Ok(one), Ok(other)) => Arc::ptr_eq(one, other),
            (Err(one), Err(other)) => one == other,
            _ => false,
        };
        same && self.name == other.name
    }
}

impl Dialing {
    /// What a config says, with the terms that come of its `tls`; `known` if that says the same.
    pub(super) fn of(
        upstream: &model::Upstream,
        settings: &model::Settings,
        terms: Option<Result<Arc<ClientConfig>, tls::Error>>,
        known: Option<&Arc<Self>>,
    ) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let how = How {
            keeping: Keeping::of(settings),
            send_proxy: upstream.send_proxy,
            sources: upstream.source_addresses.clone(),
            secure: terms.map(|terms| Secure {
                terms,
                // The model takes no other names than these.
                name: upstream.tls.as_ref().and_then(|t| ServerName::try_from(t.server_name.clone()?).ok()),
            }),
        };
        known.filter(|known| known.how == how).cloned().unwrap_or_else(|| {
            let (turn, complained) = (AtomicUsize::new(0), AtomicBool::new(false));
            Arc::new(Self { id: NEXT.fetch_add(1, Relaxed), how, turn, complained })
        })
    }

    /// Whether a connection speaks for one client, so that no other may use it.
    pub(super) fn is_personal(&self) -> bool {
        self.how.send_proxy != SendProxy::Off
    }

    /// Connects, and says for whom: `None` for ourselves, as checks do.
    ///
    /// # Errors
    /// The network's; `TimedOut` after `within`; `AddrNotAvailable` if no local port is left.
    pub(super) async fn connect(
        &self,
        address: SocketAddr,
        within: Duration,
        said: Option<Addresses>,
    ) -> io::Result<TcpStream> {
        let connecting = async {
            let mut socket = self.reach(address).await?;
            socket.set_nodelay(true)?;
            self.how.keeping.apply(&socket);
            match self.how.send_proxy {
                SendProxy::Off => {}
                SendProxy::V1 => socket.write_all(&version_1_of(said)).await?,
                SendProxy::V2 => socket.write_all(&version_2_of(said)).await?,
            }
            Ok(socket)
        };
        tokio::time::timeout(within, connecting).await.map_err(|_| late(within))?
    }

    /// Connects, and where TLS is spoken makes sure of whom it has met, which is whom the upstream says, or else `host`,
    /// or else the address: then HTTP can begin.
    ///
    /// # Errors
    /// Those of [`Dialing::connect`], and those of TLS, which the operator must mend.
    pub(super) async fn open(
        &self,
        address: SocketAddr,
        host: Option<&str>,
        within: Duration,
        said: Option<Addresses>,
    ) -> io::Result<Stream> {
        let Some(secure) = &self.how.secure else {
            return self.connect(address, within, said).await.map(Stream::from);
        };
        let terms = secure.terms.as_ref().map_err(|error| io::Error::other(error.clone()))?;
        let name = match (&secure.name, host) {
            (Some(name), _) => name.clone(),
            (None, Some(host)) => ServerName::try_from(host.to_owned()).map_err(io::Error::other)?,
            (None, None) => ServerName::from(address.ip()),
        };
        // Boxed: it is in no other upstream's sessions.
        let opening = Box::pin(async {
            let socket = self.connect(address, within, said).await?;
            tls::connect(socket, terms, name).await.map(Stream::Tls).map_err(io::Error::other)
        });
        tokio::time::timeout(within, opening).await.map_err(|_| late(within))?
    }

    async fn reach(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let ours = self.how.sources.iter().filter(|source| source.is_ipv4() == address.is_ipv4());
        let ours: Vec<IpAddr> = ours.copied().collect();
        if ours.is_empty() {
            return TcpStream::connect(address).await;
        }
        let turn = self.turn.fetch_add(1, Relaxed);
        let mut used_up = None;
        for i in 0..ours.len() {
            let source = ours[turn.wrapping_add(i) % ours.len()];
            let Some(socket) = from(source)? else { continue };
            match socket.connect(address).await {
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => used_up = Some(error),
                connected => return connected,
            }
        }
        if let Some(error) = used_up {
            return Err(error);
        }
        // Service before order: the list may name the other node's addresses only.
        if !self.complained.swap(true, Relaxed) {
            tracing::warn!(sources = ?ours, "none of source_addresses is of this node: the system chooses; add its own");
        }
        TcpStream::connect(address).await
    }
}

fn late(within: Duration) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {within:?}"))
}

/// How many connections one local address can have to one backend; `None`: the system does not tell.
pub(super) fn ports() -> Option<u32> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ends = range.split_whitespace().map(str::parse::<u32>);
    let (first, last) = (ends.next()?.ok()?, ends.next()?.ok()?);
    last.checked_sub(first).map(|n| n + 1)
}

/// A socket that will connect from this address; `None` if it is not of this machine. The port is chosen when it connects,
/// so that one port serves towards many backends (IP_BIND_ADDRESS_NO_PORT).
fn from(source: IpAddr) -> io::Result<Option<TcpSocket>> {
    let socket = if source.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    setsockopt(&socket, IpBindAddressNoPort, &true)?;
    match socket.bind((source, 0).into()) {
        Ok(()) => Ok(Some(socket)),
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;

    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    use super::*;

    fn dialing(sources: &[&str], send_proxy: SendProxy) -> Arc<Dialing> {
        let source_addresses = sources.iter().map(|s| s.parse().unwrap()).collect();
        let upstream = model::Upstream { source_addresses, send_proxy, ..model::Upstream::default() };
        Dialing::of(&upstream, &model::Settings::default(), None, None)
    }

    const SOON: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn it_comes_from_each_address_in_turn_and_passes_over_those_of_others() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let dialing = dialing(&["127.81.0.1", "192.0.2.1", "::1", "127.81.0.2"], SendProxy::Off);
        let mut seen = BTreeSet::new();
        for _ in 0..6 {
            let _socket = dialing.connect(address, SOON, None).await.unwrap();
            seen.insert(listener.accept().await.unwrap().1.ip().to_string());
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["127.81.0.1", "127.81.0.2"]);
    }

    #[tokio::test]
    async fn with_no_address_of_its_own_it_still_connects() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dialing = dialing(&["192.0.2.1"], SendProxy::Off);
        dialing.connect(listener.local_addr().unwrap(), SOON, None).await.unwrap();
    }

    #[test]
    fn the_system_tells_its_ports() {
        assert!(ports().is_some_and(|n| (1..=65_535).contains(&n)));
    }

    #[tokio::test]
    async fn a_port_serves_towards_many_backends() {
        // More connections than one port each would allow in a moment is not cheap to show; that the port comes with the
        // connection is.
        let socket = from("127.0.0.1".parse().unwrap()).unwrap().unwrap();
        assert_eq!(socket.local_addr().unwrap().port(), 0, "no port is taken before it connects");
    }

    #[tokio::test]
    async fn it_says_for_whom_first() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let said = Addresses { source: "192.0.2.7:5".parse().unwrap(), destination: "192.0.2.8:80".parse().unwrap() };
        for (version, said, expected) in [
            (SendProxy::V1, Some(said), version_1_of(Some(said))),
            (SendProxy::V2, Some(said), version_2_of(Some(said))),
            (SendProxy::V1, None, version_1_of(None)),
            (SendProxy::V2, None, version_2_of(None)),
            (SendProxy::Off, Some(said), Vec::new()),
        ] {
            drop(dialing(&[], version).connect(address, SOON, said).await.unwrap());
            let mut all = Vec::new();
            listener.accept().await.unwrap().0.read_to_end(&mut all).await.unwrap();
            assert_eq!(all, expected);
        }
    }
}
