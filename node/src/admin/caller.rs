//! Who asks, as the connection proves it: a certificate, the socket's other end, or nobody.

use std::fmt;
use std::net::SocketAddr;

/// Who sent a request. In the extensions of each one that reached a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// A user's or node's name; for the socket `uid 1000`; empty where nobody is asked.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Where it is.
    pub source: Source,
}

/// What a caller is, which decides what it may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A person or program that looks.
    Viewer,
    /// That changes what is served, too.
    Operator,
    /// That changes who is trusted, too.
    Admin,
    /// The proxy with this id.
    Proxy(u64),
    /// The witness with this id.
    Witness(u64),
    /// Whoever reached a port that authenticates nobody, which is on loopback.
    Anyone,
}

/// Where a caller is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Beyond the network, or loopback.
    Address(SocketAddr),
    /// On this machine, through the socket.
    Socket,
}

impl Caller {
    /// A caller that nothing is known of.
    pub fn anyone(source: Source) -> Self {
        Self { name: String::new(), role: Role::Anyone, source }
    }

    /// Its proven name; `None`: nobody vouches for one.
    pub fn proven(&self) -> Option<&str> {
        (self.role != Role::Anyone).then_some(self.name.as_str())
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.role {
            Role::Viewer => write!(f, "{} (viewer)", self.name),
            Role::Operator => write!(f, "{} (operator)", self.name),
            Role::Admin => write!(f, "{} (admin)", self.name),
            Role::Proxy(id) => write!(f, "{} (proxy {id})", self.name),
            Role::Witness(id) => write!(f, "{} (witness {id})", self.name),
            Role::Anyone => f.write_str("a caller without a certificate"),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A port of a client says nothing an hour later.
            Self::Address(address) => write!(f, "{}", address.ip().to_canonical()),
            Self::Socket => f.write_str("the local socket"),
        }
    }
}
