//! A health check: how a backend is found healthy or not.

use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use http::uri::PathAndQuery;

use super::statuses::Statuses;
use super::words;
use crate::config::v1 as pb;
use crate::{Problems, Table};

/// How a backend is found healthy or not. What its kind does not use has its default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What is tried.
    pub kind: CheckKind,
    /// From one try to the next.
    pub interval: Duration,
    /// A try that takes longer has failed.
    pub timeout: Duration,
    /// Successes in a row that bring it up.
    pub rise: NonZeroU32,
    /// Failures in a row that take it down.
    pub fall: NonZeroU32,
    /// Percent of the interval by which each pause is shorter or longer, by chance: 0..=50.
    pub jitter: u32,
    /// Where to connect instead of the backend's own port.
    pub port: Option<NonZeroU16>,
    /// HTTP: how to ask.
    pub method: CheckMethod,
    /// HTTP and WebSocket: path and query to ask for; begins with `/`.
    pub path: String,
    /// HTTP and WebSocket: the Host header; `None`: the backend's name, or its address.
    pub host: Option<String>,
    /// HTTP: the statuses that are good.
    pub statuses: Statuses,
    /// HTTP: must be found in the first 64 KiB of the body.
    pub body: Option<String>,
    /// WebSocket: is asked for, and must be agreed to (RFC 6455 section 1.9).
    pub subprotocol: Option<String>,
    /// WebSocket: a text message that must come back.
    pub echo: Option<String>,
}

impl Default for Check {
    fn default() -> Self {
        Self {
            kind: CheckKind::Tcp,
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(500),
            rise: NonZeroU32::MIN,
            fall: NonZeroU32::MIN.saturating_add(1),
            jitter: JITTER,
            port: None,
            method: CheckMethod::Get,
            path: "/".to_owned(),
            host: None,
            statuses: Statuses::default(),
            body: None,
            subprotocol: None,
            echo: None,
        }
    }
}

/// Enough to keep the checks of many nodes from coming all at once, little enough to be found in an access log.
const JITTER: u32 = 10;
/// More would be another interval.
const MAX_JITTER: u32 = 50;
/// The longest text to send or to look for, in bytes.
const MAX_TEXT: usize = 1024;

/// What a health check tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckKind {
    /// Nothing: always up.
    None,
    /// A TCP connection is accepted.
    Tcp,
    /// A request is answered with an expected status, and body where one is named.
    Http,
    /// A handshake is answered with 101 and the right Sec-WebSocket-Accept, then a ping with a pong.
    Websocket,
    /// A TLS handshake with the upstream's TLS settings is completed.
    Tls,
}

words::words!(CheckKind = pb::CheckKind {
    None = "none",
    Tcp = "tcp",
    Http = "http",
    Websocket = "websocket",
    Tls = "tls",
});

impl CheckKind {
    /// Whether it looks at the setting of this name.
    fn uses(self, key: &str) -> bool {
        match key {
            "path" | "host" => matches!(self, Self::Http | Self::Websocket),
            "method" | "statuses" | "body" => self == Self::Http,
            "subprotocol" | "echo" => self == Self::Websocket,
            _ => true,
        }
    }
}

/// How an HTTP check asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckMethod {
    /// For the head and the body.
    Get,
    /// For the head alone.
    Head,
}

words::words!(CheckMethod = pb::CheckMethod { Get = "GET", Head = "HEAD" });

/// One message's word on a check, under the kind it will have.
struct Given<'a> {
    path: &'a str,
    kind: CheckKind,
    problems: &'a mut Problems,
}

impl Given<'_> {
    /// The value of a setting: what is given and good, else what there was. A setting that the kind does not use may not
    /// be given, for whoever gives it expects something of it; and it falls back to its default.
    fn merged<G: std::fmt::Display, T>(
        &mut self,
        key: &str,
        given: Option<G>,
        before: &T,
        default: T,
        read: impl FnOnce(&G) -> Result<T, (&'static str, &'static str)>,
    ) -> T
    where
        T: Clone,
    {
        let uses = self.kind.uses(key);
        let before = if uses { before.clone() } else { default };
        let Some(given) = given else { return before };
        let read = if uses { read(&given) } else { Err(("is not used by this kind of check", "leave it out")) };
        read.unwrap_or_else(|(why, mend)| {
            let mend = if uses { mend.to_owned() } else { format!("{mend}, or set {}.kind", self.path) };
            self.problems.add(format!("{}.{key}", self.path), given, why, mend);
            before
        })
    }
}

impl Check {
    /// `given` over this one: what is zero or absent keeps its value.
    pub(super) fn merged(&self, path: &str, given: Option<&pb::Check>, problems: &mut Problems) -> Self {
        let Some(given) = given else { return self.clone() };
        let time = |ms: u32, base: Duration| if ms == 0 { base } else { Duration::from_millis(ms.into()) };
        let kind = CheckKind::said(given.kind).unwrap_or(self.kind);
        let none = Self::default();
        let text = given.statuses.join(", ");
        let mut over = Given { path, kind, problems };
        let check = Self {
            kind,
            interval: time(given.interval_ms, self.interval),
            timeout: time(given.timeout_ms, self.timeout),
            rise: NonZeroU32::new(given.rise).unwrap_or(self.rise),
            fall: NonZeroU32::new(given.fall).unwrap_or(self.fall),
            jitter: over.merged("jitter", given.jitter_percent, &self.jitter, none.jitter, |j| {
                if *j <= MAX_JITTER { Ok(*j) } else { Err(("is too much", "use a percentage from 0 to 50")) }
            }),
            port: over.merged("port", given.port, &self.port, none.port, |p| match u16::try_from(*p) {
                Ok(p) => Ok(NonZeroU16::new(p)),
                Err(_) => Err(("is no port", "use a port from 1 to 65535")),
            }),
            method: over.merged("method", CheckMethod::said(given.method), &self.method, none.method, |m| Ok(*m)),
            path: over.merged("path", given.path.as_ref(), &self.path, none.path, |p| target(p)),
            host: over.merged("host", given.host.as_ref(), &self.host, none.host, |h| {
                optional(h, !h.contains(['/', '@', '?', '#']) && h.bytes().all(|b| b.is_ascii_graphic()), HOST)
            }),
            statuses: over.merged(
                "statuses",
                Some(text).filter(|t| !t.is_empty()),
                &self.statuses,
                none.statuses,
                |s| s.parse().map_err(|()| ("are no statuses", "write them like \"204\" or [\"200-299\", \"404\"]")),
            ),
            body: over.merged("body", given.body.as_ref(), &self.body, none.body, |b| optional(b, true, "")),
            subprotocol: over.merged(
                "subprotocol",
                given.subprotocol.as_ref(),
                &self.subprotocol,
                none.subprotocol,
                |s| optional(s, s.bytes().all(is_token), "write one name, without blanks and commas"),
            ),
            echo: over.merged("echo", given.echo.as_ref(), &self.echo, none.echo, |e| optional(e, true, "")),
        };
        if check.interval < Duration::from_millis(50) {
            problems.add(format!("{path}.interval"), words::time(check.interval), "is too short", "use 50ms or more");
        }
        if let (CheckMethod::Head, Some(body)) = (check.method, &check.body) {
            let mend = "use method GET, or leave the body out";
            problems.add(format!("{path}.body"), body, "is never sent in answer to HEAD", mend);
        }
        check
    }

    pub(super) fn message(&self) -> pb::Check {
        let used = |key| self.kind.uses(key);
        let text = |value: &Option<String>| value.clone();
        pb::Check {
            kind: self.kind.into(),
            interval_ms: words::millis(self.interval),
            timeout_ms: words::millis(self.timeout),
            rise: self.rise.get(),
            fall: self.fall.get(),
            jitter_percent: (self.jitter != JITTER).then_some(self.jitter),
            port: self.port.map(|p| p.get().into()),
            method: if used("method") { self.method.into() } else { 0 },
            path: used("path").then(|| self.path.clone()),
            host: text(&self.host),
            statuses: if used("statuses") { self.statuses.texts() } else { Vec::new() },
            body: text(&self.body),
            subprotocol: text(&self.subprotocol),
            echo: text(&self.echo),
        }
    }

    pub(super) fn read(mut t: Table, problems: &mut Problems) -> pb::Check {
        let check = pb::Check {
            kind: words::read(&mut t, "kind", CheckKind::WORDS, problems),
            interval_ms: words::read_ms(&mut t, "interval", problems),
            timeout_ms: words::read_ms(&mut t, "timeout", problems),
            rise: t.number("rise", problems).unwrap_or(0),
            fall: t.number("fall", problems).unwrap_or(0),
            jitter_percent: t.count("jitter", problems),
            port: t.number("port", problems),
            method: words::read(&mut t, "method", CheckMethod::WORDS, problems),
            path: t.text("path", problems),
            host: t.text("host", problems),
            statuses: t.text_list("statuses", problems),
            body: t.text("body", problems),
            subprotocol: t.text("subprotocol", problems),
            echo: t.text("echo", problems),
        };
        t.finish(problems);
        check
    }

    pub(super) fn table(&self) -> toml::Table {
        let mut t = toml::toml! {
            kind = (self.kind.word())
            interval = (words::time(self.interval))
            timeout = (words::time(self.timeout))
            rise = (i64::from(self.rise.get()))
            fall = (i64::from(self.fall.get()))
        };
        let mut put = |key: &str, value: Option<toml::Value>| {
            if let Some(value) = value {
                t.insert(key.to_owned(), value);
            }
        };
        let used = |key| self.kind.uses(key);
        put("jitter", (self.jitter != JITTER).then(|| i64::from(self.jitter).into()));
        put("port", self.port.map(|p| i64::from(p.get()).into()));
        put("method", used("method").then(|| self.method.word().into()));
        put("path", used("path").then(|| self.path.clone().into()));
        put("host", self.host.clone().map(Into::into));
        put("statuses", used("statuses").then(|| self.statuses.texts().into()));
        put("body", self.body.clone().map(Into::into));
        put("subprotocol", self.subprotocol.clone().map(Into::into));
        put("echo", self.echo.clone().map(Into::into));
        t
    }
}

const HOST: &str = "write the name alone, with a port if it needs one";

/// A text that may be cleared by an empty one.
fn optional(given: &str, good: bool, mend: &'static str) -> Result<Option<String>, (&'static str, &'static str)> {
    match given {
        "" => Ok(None),
        long if long.len() > MAX_TEXT => Err(("is too long", "use 1024 bytes or less")),
        given if good => Ok(Some(given.to_owned())),
        _ => Err(("cannot be sent", mend)),
    }
}

/// Path and query, as a request line carries them (RFC 9112 section 3.2.1).
fn target(given: &str) -> Result<String, (&'static str, &'static str)> {
    match given {
        "" => Ok("/".to_owned()),
        p if p.starts_with('/') && !p.contains('#') && p.is_ascii() && p.parse::<PathAndQuery>().is_ok() => {
            Ok(p.to_owned())
        }
        _ => Err(("is no path", "begin with /, leave out #, and write blanks and other signs like %20")),
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

#[cfg(test)]
mod tests;
