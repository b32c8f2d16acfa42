//! How sessions are shared out among the backends of an upstream.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{Upstream, words};
use crate::config::v1 as pb;
use crate::{Problems, Table};

/// Who gets the next session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    /// Each in turn, in proportion to weight.
    #[default]
    RoundRobin,
    /// The one with the fewest sessions for its weight.
    LeastSessions,
    /// Of two drawn by weight, the one that answers sooner: by its latency (a moving average) and what it has to do.
    P2c,
    /// The same one for the same key: [`HashOn`] says what that is.
    Hash,
}

words::words!(
    Balance = pb::Balance { RoundRobin = "round_robin", LeastSessions = "least_sessions", P2c = "p2c", Hash = "hash" }
);

/// What [`Balance::Hash`] looks at. A request that has nothing of the kind goes where the fewest sessions are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum HashOn {
    /// The client's IP address; of IPv6 the first 64 bits.
    #[default]
    ClientIp,
    /// The first header field of this name, which is in lower case.
    Header(String),
    /// The first cookie of this name.
    Cookie(String),
    /// The first query parameter of this name, as it was sent.
    Query(String),
    /// The path, without the query.
    Path,
}

impl FromStr for HashOn {
    type Err = &'static str;

    /// From text such as `header:X-User`; the error says what is wrong with it.
    fn from_str(given: &str) -> Result<Self, Self::Err> {
        match given.split_once(':') {
            None if given == "client_ip" => Ok(Self::ClientIp),
            None if given == "path" => Ok(Self::Path),
            Some(("header" | "cookie", name)) if !is_token(name) => Err("does not name a header field or cookie"),
            Some(("header", name)) => Ok(Self::Header(name.to_ascii_lowercase())),
            Some(("cookie", name)) => Ok(Self::Cookie(name.to_owned())),
            Some(("query", name)) if is_parameter(name) => Ok(Self::Query(name.to_owned())),
            Some(("query", _)) => Err("does not name a query parameter"),
            _ => Err("is nothing to hash"),
        }
    }
}

impl fmt::Display for HashOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClientIp => f.write_str("client_ip"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Path => f.write_str("path"),
        }
    }
}

impl HashOn {
    /// What each way to write it is like.
    pub const FORMS: &str = "client_ip, header:NAME, cookie:NAME, query:NAME, path";

    /// Empty text means the default.
    pub(super) fn check(path: &str, given: &str, problems: &mut Problems) -> Self {
        if given.is_empty() {
            return Self::default();
        }
        given.parse().unwrap_or_else(|why| {
            problems.add(format!("{path}.hash_on"), given, why, format!("use one of: {}", Self::FORMS));
            Self::default()
        })
    }
}

/// RFC 9110 section 5.6.2; also what a cookie's name is.
fn is_token(name: &str) -> bool {
    let sign = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !name.is_empty() && name.len() <= 64 && name.bytes().all(sign)
}

fn is_parameter(name: &str) -> bool {
    !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_graphic() && !b"&=#?".contains(&b))
}

/// How sessions stick to the backend that had the first of them: a cookie names it to every node alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sticky {
    /// The cookie's name, a token.
    pub cookie: String,
    /// How long browsers keep it, in whole seconds; `None`: until they are closed. It is not renewed.
    pub ttl: Option<Duration>,
    /// Browsers send it over TLS only.
    pub secure: bool,
}

impl Sticky {
    /// `given` over what was before; what it does not say stays.
    pub(super) fn merged(
        before: Option<Self>,
        path: &str,
        given: &pb::Sticky,
        problems: &mut Problems,
    ) -> Option<Self> {
        let cookie = if given.cookie.is_empty() {
            before.as_ref().map(|b| b.cookie.clone())
        } else {
            Some(given.cookie.clone())
        };
        let Some(cookie) = cookie else {
            problems.add(format!("{path}.sticky.cookie"), "", "is missing", "name the cookie that Tandem shall set");
            return None;
        };
        if !is_token(&cookie) {
            let mend = "use 1 to 64 letters, digits, - _ and .";
            problems.add(format!("{path}.sticky.cookie"), cookie, "is no cookie's name", mend);
            return None;
        }
        let (ttl, secure) = before.map_or((None, false), |b| (b.ttl, b.secure));
        let ttl = match given.ttl_s {
            None => ttl,
            Some(0) => None,
            Some(seconds) => Some(Duration::from_secs(seconds.into())),
        };
        Some(Self { cookie, ttl, secure: given.secure.unwrap_or(secure) })
    }

    pub(super) fn message(&self) -> pb::Sticky {
        let ttl_s = self.ttl.map(|ttl| u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX));
        pb::Sticky { cookie: self.cookie.clone(), ttl_s, secure: self.secure.then_some(true) }
    }

    pub(super) fn read(mut t: Table, problems: &mut Problems) -> pb::Sticky {
        let sticky = pb::Sticky {
            cookie: t.text("cookie", problems).unwrap_or_default(),
            ttl_s: t.duration("ttl", problems).map(|ttl| {
                if ttl.subsec_nanos() > 0 {
                    problems.add(t.path("ttl"), words::time(ttl), "is not in whole seconds", "write it like \"8h\"");
                }
                u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX)
            }),
            secure: t.flag("secure", problems),
        };
        t.finish(problems);
        sticky
    }

    pub(super) fn table(&self) -> toml::Table {
        let mut t = toml::toml! { cookie = (self.cookie.clone()) };
        if let Some(ttl) = self.ttl {
            t.insert("ttl".to_owned(), words::time(ttl).into());
        }
        if self.secure {
            t.insert("secure".to_owned(), true.into());
        }
        t
    }
}

/// The most a backend may have under `hash`, in percent of its fair share, where nothing else is said.
pub const DEFAULT_HASH_BOUND: u32 = 125;
/// So far above any fair share that no key ever moves.
pub const MAX_HASH_BOUND: u32 = 1_000_000;
/// The part of a zone's weight that must be up for the zone to be preferred, in percent, where nothing else is said.
pub const DEFAULT_ZONE_MIN_SHARE: u32 = 50;

/// Zero means the default.
pub(super) fn hash_bound(path: &str, given: u32, problems: &mut Problems) -> u32 {
    if given != 0 && !(101..=MAX_HASH_BOUND).contains(&given) {
        let why = "is no percentage of the fair share that all can keep";
        let mend = format!("use 101 to {MAX_HASH_BOUND}; the last never moves a key");
        problems.add(format!("{path}.hash_bound"), given, why, mend);
    }
    if given == 0 { DEFAULT_HASH_BOUND } else { given }
}

/// Zero means the default.
pub(super) fn zone_min_share(path: &str, given: u32, problems: &mut Problems) -> u32 {
    if given > 100 {
        problems.add(format!("{path}.zone_min_share"), given, "is more than all", "use a percentage from 1 to 100");
    }
    if given == 0 { DEFAULT_ZONE_MIN_SHARE } else { given }
}

impl Upstream {
    /// What an edit says of balance; what it does not name stays.
    pub(super) fn set_balance(&mut self, path: &str, set: &pb::SetUpstream, problems: &mut Problems) {
        if let Some(balance) = set.balance {
            self.balance = Balance::said(balance).unwrap_or_default();
        }
        if let Some(on) = &set.hash_on {
            self.hash_on = HashOn::check(path, on, problems);
        }
        if let Some(bound) = set.hash_bound {
            self.hash_bound = hash_bound(path, bound, problems);
        }
        if set.no_sticky {
            self.sticky = None;
        }
        if let Some(sticky) = &set.sticky {
            self.sticky = Sticky::merged(self.sticky.take(), path, sticky, problems);
        }
        if let Some(ms) = set.slow_start_ms {
            self.slow_start = Duration::from_millis(ms.into());
        }
        if let Some(share) = set.zone_min_share {
            self.zone_min_share = zone_min_share(path, share, problems);
        }
    }
}
