//! Binds the sockets that clients connect to.

use std::io;
use std::net::{SocketAddr, TcpListener};

use socket2::{Domain, Protocol, Socket, Type};

/// Connections that may wait to be accepted, per worker.
const BACKLOG: i32 = 4096;

/// Whether others may listen at the same place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// No: whoever else is there is found.
    Alone,
    /// With our own sockets, which spread the clients among themselves (SO_REUSEPORT).
    WithOurs,
}

/// Whether an address must be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// It must belong to this machine.
    Here,
    /// It may come later (IP_FREEBIND): a virtual one.
    Sometime,
}

/// Could this node listen at `address`?
///
/// # Errors
/// Why not, for the operator.
pub(super) fn try_bind(address: SocketAddr, sharing: Sharing, presence: Presence) -> io::Result<()> {
    bound(address, sharing, presence).map(drop).map_err(|e| explain(address, &e))
}

/// `count` sockets at one place, among which the kernel spreads the clients.
///
/// # Errors
/// Why not, for the operator.
pub(super) fn bind(address: SocketAddr, count: usize, presence: Presence) -> io::Result<Vec<TcpListener>> {
    let one = || {
        let socket = bound(address, Sharing::WithOurs, presence)?;
        // Inherited by every accepted socket.
        socket.set_tcp_nodelay(true)?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    (0..count).map(|_| one()).collect::<io::Result<Vec<_>>>().map_err(|e| explain(address, &e))
}

fn bound(address: SocketAddr, sharing: Sharing, presence: Presence) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(sharing == Sharing::WithOurs)?;
    if presence == Presence::Sometime && address.is_ipv4() {
        socket.set_freebind_v4(true)?;
    }
    if presence == Presence::Sometime && address.is_ipv6() {
        socket.set_freebind_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

fn explain(address: SocketAddr, error: &io::Error) -> io::Error {
    let text = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!(
                "port {} of {} is in use by another process; stop it or choose another port",
                address.port(),
                address.ip()
            )
        }
        io::ErrorKind::AddrNotAvailable => {
            format!("{} is no address of this machine; add it, or declare it a virtual IP", address.ip())
        }
        io::ErrorKind::PermissionDenied => {
            format!("port {} needs the capability CAP_NET_BIND_SERVICE, or choose one from 1024 up", address.port())
        }
        _ => format!("cannot listen on {address}: {error}"),
    };
    io::Error::new(error.kind(), text)
}

/// Whether two listeners would meet: the same port, and one address that covers the other.
pub(super) fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    a.port() == b.port() && (a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified())
}
