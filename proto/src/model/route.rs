//! A route: which request goes to which upstream.

use std::fmt;
use std::net::IpAddr;

use super::Name;
use crate::config::v1 as pb;
use crate::{Problems, Table};

/// host + path prefix → upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Which `Host` it takes.
    pub host: Host,
    /// Prefix on segment borders; begins with `/`.
    pub path: String,
    /// An upstream that exists.
    pub upstream: Name,
}

/// Which hosts a route takes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// This one, in lower case, without a port.
    Exact(String),
    /// Any, also none.
    Any,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.pad(host),
            Self::Any => f.pad("*"),
        }
    }
}

impl Route {
    /// One that takes everything to `upstream`.
    pub fn to(upstream: Name) -> Self {
        Self { host: Host::Any, path: "/".to_owned(), upstream }
    }

    pub(super) fn check(path: &str, given: &pb::Route, problems: &mut Problems) -> Option<Self> {
        let host = host(format!("{path}.host"), &given.host, problems);
        let prefix = match given.path.as_str() {
            "" => Some("/".to_owned()),
            p if p.starts_with('/') && !p.contains(['?', '#']) && p.bytes().all(|b| b.is_ascii_graphic()) => {
                Some(p.to_owned())
            }
            p => {
                problems.add(
                    format!("{path}.path"),
                    p,
                    "is no path prefix",
                    "begin with / and leave out blanks, ? and #",
                );
                None
            }
        };
        if given.upstream.is_empty() {
            problems.add(format!("{path}.upstream"), "", "is missing", "name one of the upstreams");
            return None;
        }
        let upstream = Name::check(&format!("{path}.upstream"), &given.upstream, problems)?;
        Some(Self { host: host?, path: prefix?, upstream })
    }

    pub(super) fn message(&self, name: &Name) -> pb::Route {
        pb::Route {
            name: name.to_string(),
            host: self.host.to_string(),
            path: self.path.clone(),
            upstream: self.upstream.to_string(),
        }
    }

    pub(super) fn read(name: String, t: &mut Table, problems: &mut Problems) -> pb::Route {
        pb::Route {
            name,
            host: t.text("host", problems).unwrap_or_default(),
            path: t.text("path", problems).unwrap_or_default(),
            upstream: t.text("upstream", problems).unwrap_or_default(),
        }
    }

    pub(super) fn table(&self) -> toml::Table {
        toml::toml! {
            host = (self.host.to_string())
            path = (self.path.clone())
            upstream = (self.upstream.to_string())
        }
    }
}

fn host(path: String, given: &str, problems: &mut Problems) -> Option<Host> {
    if given.is_empty() || given == "*" {
        return Some(Host::Any);
    }
    let bare = given.strip_prefix('[').and_then(|g| g.strip_suffix(']')).unwrap_or(given);
    let address = bare.parse::<IpAddr>().is_ok();
    let named = given.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if address || named {
        return Some(Host::Exact(given.to_ascii_lowercase()));
    }
    problems.add(
        path,
        given,
        "is no host name",
        "write the name alone, without scheme, port or path, or \"*\" for any",
    );
    None
}
