//! Which hosts a route takes.

use std::fmt;
use std::net::IpAddr;

use crate::Problems;

/// Which hosts a route takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Host {
    /// This one, in lower case, without a port.
    Exact(String),
    /// One or more labels before this name, which is in lower case: `example.com` for `*.example.com`.
    Wildcard(String),
    /// Any, also none.
    #[default]
    Any,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.pad(host),
            Self::Wildcard(domain) => f.pad(&format!("*.{domain}")),
            Self::Any => f.pad("*"),
        }
    }
}

impl Host {
    /// `None` if it is none.
    pub fn read(given: &str) -> Option<Self> {
        if given.is_empty() || given == "*" {
            return Some(Self::Any);
        }
        let named = |name: &str| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        };
        if let Some(domain) = given.strip_prefix("*.") {
            let ok = named(domain) && !domain.starts_with('.');
            return ok.then(|| Self::Wildcard(domain.trim_end_matches('.').to_ascii_lowercase()));
        }
        let address = bare(given).parse::<IpAddr>().is_ok();
        (address || named(given)).then(|| Self::Exact(given.to_ascii_lowercase()))
    }

    pub(super) fn check(path: &str, given: &str, problems: &mut Problems) -> Option<Self> {
        let host = Self::read(given);
        if host.is_none() {
            let mend =
                "write the name alone, without scheme, port or path; \"*.example.com\" for all below it, \"*\" for any";
            problems.add(path, given, "is no host name", mend);
        }
        host
    }

    /// `host` in lower case and [`bare`].
    pub(crate) fn takes(&self, host: &str) -> bool {
        match self {
            Self::Exact(own) => bare(own) == host,
            Self::Wildcard(domain) => {
                host.strip_suffix(domain.as_str()).is_some_and(|h| h.len() > 1 && h.ends_with('.'))
            }
            Self::Any => true,
        }
    }
}

/// The host of a `Host` field, which may have a port.
pub fn without_port(host: &str) -> &str {
    let Some((name, port)) = host.rsplit_once(':') else { return host };
    // An IPv6 address in brackets has colons of its own.
    if port.bytes().all(|b| b.is_ascii_digit()) && (!name.contains(':') || name.ends_with(']')) { name } else { host }
}

/// A config may name an IPv6 host with or without brackets; a trailing dot is the same name (RFC 9110 says nothing, DNS does).
pub(crate) fn bare(host: &str) -> &str {
    let host = host.strip_suffix('.').unwrap_or(host);
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host)
}
