//! Where things listen and where backends are.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use crate::Problems;

/// Where a backend is, and who it is within its upstream: the text as it was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// `ip:port`: one server.
    Ip(SocketAddr),
    /// `name:port`: every address that the name has (A and AAAA records).
    Name {
        /// A DNS name.
        host: Arc<str>,
        /// The port of each of them; never zero.
        port: u16,
    },
    /// `srv:name`: the servers, ports and weights that the name's SRV records tell (RFC 2782).
    Service(Arc<str>),
}

impl Address {
    /// The DNS name that stands for it; `None` if it is an IP address.
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::Ip(_) => None,
            Self::Name { host, .. } | Self::Service(host) => Some(host),
        }
    }

    /// The name that its certificate must hold; `None` if it is an IP address. Of a service that is the domain, not a
    /// target of its records: whoever forges an answer of DNS must not choose it (RFC 6125 section 6.2.1).
    pub fn identity(&self) -> Option<&str> {
        let mut name = self.host()?;
        if matches!(self, Self::Service(_)) {
            while let Some((_, domain)) = name.split_once('.').filter(|(label, _)| label.starts_with('_')) {
                name = domain;
            }
        }
        Some(name.strip_suffix('.').unwrap_or(name))
    }

    pub(super) fn check(path: String, given: &str, problems: &mut Problems) -> Option<Self> {
        if given.is_empty() {
            problems.add(path, "", "is missing", "write it like \"10.0.0.11:9000\" or \"chat.internal:9000\"");
            return None;
        }
        given.parse().map_err(|mistake: Mistake| problems.add(path, given, mistake.why, mistake.mend)).ok()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => f.pad(&address.to_string()),
            Self::Name { host, port } => f.pad(&format!("{host}:{port}")),
            Self::Service(name) => f.pad(&format!("srv:{name}")),
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self::Ip(address)
    }
}

/// Why a text is no address, and what to write instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mistake {
    why: &'static str,
    mend: &'static str,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.why, self.mend)
    }
}

impl std::error::Error for Mistake {}

const PORT: Mistake = Mistake { why: "has no port to connect to", mend: "use a port from 1 to 65535" };
const ADDRESS: Mistake = Mistake {
    why: "is neither an IP address nor a name with a port",
    mend: "write it like \"10.0.0.11:9000\", \"[fd00::11]:9000\", \"chat.internal:9000\" or \"srv:_chat._tcp.internal\"",
};
const SERVICE: Mistake = Mistake { why: "names no service", mend: "write it like \"srv:_chat._tcp.internal\"" };

impl FromStr for Address {
    type Err = Mistake;

    fn from_str(given: &str) -> Result<Self, Mistake> {
        if let Ok(address) = given.parse::<SocketAddr>() {
            return if address.port() == 0 { Err(PORT) } else { Ok(Self::Ip(address)) };
        }
        if let Some(name) = given.strip_prefix("srv:") {
            return if is_name(name) { Ok(Self::Service(name.into())) } else { Err(SERVICE) };
        }
        let (host, port) = given.rsplit_once(':').unwrap_or((given, ""));
        if !is_name(host) {
            return Err(ADDRESS);
        }
        // Said once more in text: "+80" and "080" are numbers too, but no address prints like that.
        let port = port.parse::<u16>().ok().filter(|n| *n > 0 && n.to_string() == port).ok_or(PORT)?;
        Ok(Self::Name { host: host.into(), port })
    }
}

/// Whether DNS may know it (RFC 1035 section 2.3.4, and the underscores of RFC 8552): labels of 1 to 63 bytes, 253 in
/// all. A last label of digits alone would be a mistyped IP address.
fn is_name(text: &str) -> bool {
    let bare = text.strip_suffix('.').unwrap_or(text);
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    bare.len() <= 253
        && bare.split('.').all(label)
        && bare.rsplit('.').next().is_some_and(|last| !last.bytes().all(|b| b.is_ascii_digit()))
}

/// An IP address and port to listen on.
pub(super) fn check(path: String, given: &str, problems: &mut Problems) -> Option<SocketAddr> {
    if given.is_empty() {
        problems.add(path, "", "is missing", "write it like \"10.0.0.11:9000\"");
        return None;
    }
    match given.parse::<SocketAddr>() {
        Ok(a) if a.port() == 0 => {
            problems.add(path, given, PORT.why, PORT.mend);
            None
        }
        Ok(a) => Some(a),
        Err(_) => {
            problems.add(
                path,
                given,
                "is not an IP address and port",
                "write it like \"10.0.0.11:9000\" or \"[fd00::11]:9000\"",
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_an_address_and_what_is_not() {
        let read = |text: &str| text.parse::<Address>();
        assert_eq!(read("10.0.0.1:80"), Ok(Address::Ip(([10, 0, 0, 1], 80).into())));
        assert_eq!(read("chat.internal:9000"), Ok(Address::Name { host: "chat.internal".into(), port: 9000 }));
        assert_eq!(read("localhost:1").unwrap().host(), Some("localhost"));
        assert_eq!(read("Chat.example.org.:9000").unwrap().to_string(), "Chat.example.org.:9000", "as written");
        assert_eq!(read("srv:_chat._tcp.internal"), Ok(Address::Service("_chat._tcp.internal".into())));
        for portless in ["10.0.0.1:0", "chat.internal", "chat:0", "chat:", "chat:65536", "chat:080", "chat:+80"] {
            assert_eq!(read(portless), Err(PORT), "{portless}");
        }
        for nothing in ["10.0.1:80", "10.0.0.1", "10.0.0.256:80", "http://chat:80", "a b:80", "-a:80", "a..b:80", ":80"]
        {
            assert_eq!(read(nothing), Err(ADDRESS), "{nothing}");
        }
        assert!(read(&format!("{}.internal:80", "a".repeat(63))).is_ok());
        assert_eq!(read(&format!("{}.internal:80", "a".repeat(64))), Err(ADDRESS), "a label too long");
        assert_eq!(read(&format!("{}com:80", "a.".repeat(126))), Err(ADDRESS), "a name too long");
        for nothing in ["srv:", "srv:a b", "srv:chat:80", "srv:10.0.0.1"] {
            assert_eq!(read(nothing), Err(SERVICE), "{nothing}");
        }
    }

    #[test]
    fn a_certificate_must_hold_the_name_or_the_domain_of_a_service() {
        let identity = |text: &str| text.parse::<Address>().unwrap().identity().map(str::to_owned);
        assert_eq!(identity("10.0.0.1:80"), None);
        for (given, name) in [
            ("chat.internal:9000", "chat.internal"),
            ("Chat.example.:9000", "Chat.example"),
            ("_odd.internal:9000", "_odd.internal"),
            ("srv:_chat._tcp.example.org", "example.org"),
            ("srv:chat.service.consul", "chat.service.consul"),
        ] {
            assert_eq!(identity(given).as_deref(), Some(name), "{given}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_printed_as_written(text in "(srv:)?[a-z0-9_.-]{1,12}(:[0-9]{1,5})?") {
            if let Ok(address) = text.parse::<Address>() {
                prop_assert_eq!(address.to_string(), text);
            }
        }
    }
}
