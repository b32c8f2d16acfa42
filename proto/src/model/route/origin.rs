//! Who may open WebSockets: browsers let any page do so with the user's cookies, and only `Origin` tells which page
//! (RFC 6455 section 10.2).

use std::collections::BTreeSet;
use std::fmt;

use http::HeaderMap;
use http::header::ORIGIN;

use super::host::{Host, bare, without_port};
use crate::Problems;

/// Who may open WebSockets.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origins {
    /// Any of these; none means anybody.
    pub allowed: BTreeSet<Origin>,
    /// Whether those without `Origin`, which no browser is, are refused too.
    pub required: bool,
}

/// One of those who may.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Pages of the host that was asked.
    SameHost,
    /// Pages without an origin of their own: from a file, or sandboxed.
    Null,
    /// Pages of a host.
    Site {
        /// In lower case; `None`: any.
        scheme: Option<String>,
        /// Exact or wildcard.
        host: Host,
        /// Never the scheme's default; `None`: that default, or any if the scheme is any.
        port: Option<u16>,
    },
}

/// Why a WebSocket may not be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unwelcome {
    /// There is no `Origin`.
    Missing,
    /// This one is not among the allowed.
    Foreign(String),
    /// There are several.
    Several,
}

impl Origins {
    pub(super) fn check(path: &str, given: &[String], required: bool, problems: &mut Problems) -> Self {
        let mut allowed = BTreeSet::new();
        for (i, text) in given.iter().enumerate() {
            match Origin::read(text) {
                Some(origin) => drop(allowed.insert(origin)),
                None => problems.add(
                    format!("{path}[{i}]"),
                    text,
                    "is no origin",
                    "write \"https://chat.example.com\", \"https://*.example.com\", \"*.example.com\", \"same-host\" or \"null\"",
                ),
            }
        }
        Self { allowed, required }
    }

    /// As people write them.
    pub(super) fn texts(&self) -> Vec<String> {
        self.allowed.iter().map(ToString::to_string).collect()
    }

    /// May the page that these header fields name open a WebSocket at `host`, which is as the client wrote it?
    ///
    /// # Errors
    /// Why it may not.
    pub fn admit(&self, headers: &HeaderMap, host: &str) -> Result<(), Unwelcome> {
        if self.allowed.is_empty() && !self.required {
            return Ok(());
        }
        let mut all = headers.get_all(ORIGIN).iter();
        let given = match (all.next(), all.next()) {
            (None, _) if self.required => return Err(Unwelcome::Missing),
            (None, _) => return Ok(()),
            (Some(_), Some(_)) => return Err(Unwelcome::Several),
            (Some(given), None) => String::from_utf8_lossy(given.as_bytes()).trim().to_ascii_lowercase(),
        };
        let fits = |allowed: &Origin| allowed.is(&given, host);
        if self.allowed.is_empty() || self.allowed.iter().any(fits) { Ok(()) } else { Err(Unwelcome::Foreign(given)) }
    }
}

impl Origin {
    fn read(text: &str) -> Option<Self> {
        match text {
            "same-host" => return Some(Self::SameHost),
            "null" => return Some(Self::Null),
            _ => {}
        }
        let text = text.to_ascii_lowercase();
        let (scheme, authority) = match text.split_once("://") {
            Some((scheme, authority)) => (Some(scheme), authority),
            None => (None, text.as_str()),
        };
        if scheme.is_some_and(|s| s.is_empty() || !s.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)))
        {
            return None;
        }
        let (name, port) = split_port(authority)?;
        let host = Host::read(name).filter(|host| *host != Host::Any)?;
        let port = port.filter(|p| Some(*p) != scheme.and_then(default_port));
        Some(Self::Site { scheme: scheme.map(str::to_owned), host, port })
    }

    /// `given` in lower case.
    fn is(&self, given: &str, asked: &str) -> bool {
        if *self == Self::Null {
            return given == "null";
        }
        // Serialized by a browser: scheme, host, and a port that is not the default one (RFC 6454 section 6.2).
        let Some((scheme, authority)) = given.split_once("://") else { return false };
        let Some((name, port)) = split_port(authority) else { return false };
        let usual = default_port(scheme);
        match self {
            Self::Null => false,
            Self::SameHost => {
                let Some((own, own_port)) = split_port(asked) else { return false };
                bare(name).eq_ignore_ascii_case(bare(own)) && port.or(usual) == own_port.or(usual)
            }
            Self::Site { scheme: None, host, port: None } => host.takes(bare(name)),
            Self::Site { scheme: None, host, port: wanted } => host.takes(bare(name)) && port.or(usual) == *wanted,
            Self::Site { scheme: Some(own), host, port: wanted } => {
                own == scheme && host.takes(bare(name)) && port.or(usual) == wanted.or(usual)
            }
        }
    }
}

/// `None` if the port is none.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let name = without_port(authority);
    match authority[name.len()..].strip_prefix(':') {
        None | Some("") => Some((name, None)),
        Some(port) => Some((name, Some(port.parse().ok()?))),
    }
}

fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" | "ws" => Some(80),
        "https" | "wss" => Some(443),
        _ => None,
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameHost => f.write_str("same-host"),
            Self::Null => f.write_str("null"),
            Self::Site { scheme, host, port } => {
                if let Some(scheme) = scheme {
                    write!(f, "{scheme}://")?;
                }
                write!(f, "{host}")?;
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
        }
    }
}

/// For the client, who may be the operator's own page.
impl fmt::Display for Unwelcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("Origin is missing, and the route requires one"),
            Self::Foreign(origin) => write!(f, "pages of {origin:?} may not open WebSockets here"),
            Self::Several => f.write_str("Origin is there several times"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use http::HeaderValue;

    use super::*;

    fn admits(allowed: &[&str], required: bool, origin: Option<&str>) -> bool {
        let mut problems = Problems::default();
        let texts: Vec<String> = allowed.iter().map(|a| (*a).to_owned()).collect();
        let origins = Origins::check("origins", &texts, required, &mut problems);
        assert!(problems.is_empty(), "{problems}");
        let headers = origin.map(|o| (ORIGIN, HeaderValue::from_str(o).unwrap())).into_iter().collect();
        origins.admit(&headers, "Chat.example.com:8080").is_ok()
    }

    #[test]
    fn only_the_listed_may() {
        for (allowed, origin, expected) in [
            ("https://a.example", "https://a.example", true),
            ("https://a.example", "https://A.EXAMPLE:443", true),
            ("https://a.example:443", "https://a.example", true),
            ("https://a.example", "http://a.example", false),
            ("https://a.example", "https://a.example:444", false),
            ("https://a.example", "https://a.example.evil", false),
            ("https://a.example", "https://evil-a.example", false),
            ("https://a.example", "https://a.example@evil", false),
            ("https://a.example", "null", false),
            ("https://a.example", "a.example", false),
            ("https://a.example", "", false),
            ("https://*.a.example", "https://x.y.a.example", true),
            ("https://*.a.example", "https://a.example", false),
            ("https://*.a.example", "https://evila.example", false),
            ("*.a.example", "http://x.a.example:81", true),
            ("*.a.example:81", "http://x.a.example:81", true),
            ("*.a.example:81", "http://x.a.example", false),
            ("same-host", "http://chat.example.com:8080", true),
            ("same-host", "http://chat.example.com", false),
            ("same-host", "http://other.example.com:8080", false),
            ("null", "null", true),
            ("null", "https://null", false),
            ("https://[::1]:8", "https://[::1]:8", true),
        ] {
            assert_eq!(admits(&[allowed], false, Some(origin)), expected, "{allowed} asked by {origin:?}");
        }
    }

    #[test]
    fn programs_have_no_origin_and_may_unless_one_is_required() {
        assert!(admits(&["same-host"], false, None) && !admits(&["same-host"], true, None));
        assert!(admits(&[], false, Some("https://anybody")) && admits(&[], true, Some("https://anybody")));
        assert!(!admits(&[], true, None));
    }

    #[test]
    fn two_origins_are_none() {
        let origins = Origins { allowed: [Origin::Null].into(), required: false };
        let mut headers = HeaderMap::new();
        headers.append(ORIGIN, HeaderValue::from_static("null"));
        headers.append(ORIGIN, HeaderValue::from_static("null"));
        assert_eq!(origins.admit(&headers, "h"), Err(Unwelcome::Several));
    }

    #[test]
    fn what_is_no_origin_is_not_taken() {
        for text in ["", "*", "https://", "https://*", "https://a/b", "https://a:x", "://a", "https://a b"] {
            assert_eq!(Origin::read(text), None, "{text}");
        }
    }
}
