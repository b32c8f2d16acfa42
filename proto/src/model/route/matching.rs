//! Which requests a route takes.

use std::collections::BTreeSet;
use std::fmt;

use http::Method;
use http::header::HeaderName;

use super::condition::{Condition, Place};
use super::{Host, Pattern};
use crate::config::v1 as pb;
use crate::model::{Name, words};
use crate::{Problems, Table};

/// Which requests a route takes: those for which all of this holds. Two routes with the same would be in each other's way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Matching {
    /// The host that is asked.
    pub host: Host,
    /// The path that is asked for.
    pub path: Path,
    /// Any of these listeners; none means all.
    pub listeners: BTreeSet<Name>,
    /// Any of these methods; none means all.
    pub methods: BTreeSet<String>,
    /// All of these, of the header fields.
    pub headers: BTreeSet<Condition>,
    /// All of these, of the decoded query.
    pub query: BTreeSet<Condition>,
    /// Any of these is offered in `Sec-WebSocket-Protocol`; none means no matter.
    pub protocols: BTreeSet<String>,
    /// Handshakes, plain requests, or both.
    pub websocket: WebSocketUse,
}

/// Which paths a route takes. They are compared as sent: nothing is decoded.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// This one.
    Exact(String),
    /// This and what is below it, on segment borders: `/a` takes `/a` and `/a/b`, not `/ab`; `/a/` only what is below it.
    Prefix(String),
    /// Those that fit.
    Regex(Pattern),
}

impl Default for Path {
    fn default() -> Self {
        Self::Prefix("/".to_owned())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => f.pad(&format!("= {path}")),
            Self::Prefix(path) => f.pad(path),
            Self::Regex(pattern) => f.pad(&format!("~ {pattern}")),
        }
    }
}

/// Whether a route takes WebSocket handshakes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum WebSocketUse {
    /// And plain requests.
    #[default]
    Any,
    /// And nothing else.
    Only,
    /// Everything else.
    Never,
}

words::words!(WebSocketUse = pb::WebSocketUse { Any = "any", Only = "only", Never = "never" });

impl Matching {
    pub(super) fn check(path: &str, given: &pb::Route, problems: &mut Problems) -> Option<Self> {
        let host = Host::check(&format!("{path}.host"), &given.host, problems);
        let found = which_path(path, given, problems);
        let listeners = each(path, "listeners", &given.listeners, problems, Name::check);
        let methods = each(path, "methods", &given.methods, problems, method);
        let headers =
            each(path, "headers", &given.headers, problems, |p, t, all| Condition::check(p, t, Place::Header, all));
        let query = each(path, "query", &given.query, problems, |p, t, all| Condition::check(p, t, Place::Query, all));
        let protocols = each(path, "protocols", &given.protocols, problems, protocol);
        let websocket = WebSocketUse::said(given.websocket).unwrap_or_default();
        Some(Self { host: host?, path: found?, listeners, methods, headers, query, protocols, websocket })
    }

    /// Writes itself into a route's message.
    pub(super) fn say(&self, said: &mut pb::Route) {
        said.host = self.host.to_string();
        match &self.path {
            Path::Exact(path) => said.path_exact.clone_from(path),
            Path::Prefix(path) => said.path.clone_from(path),
            Path::Regex(pattern) => said.path_regex = pattern.to_string(),
        }
        said.listeners = self.listeners.iter().map(ToString::to_string).collect();
        said.methods = self.methods.iter().cloned().collect();
        said.headers = self.headers.iter().map(|c| c.text(Place::Header)).collect();
        said.query = self.query.iter().map(|c| c.text(Place::Query)).collect();
        said.protocols = self.protocols.iter().cloned().collect();
        // Any is what silence means.
        said.websocket = if self.websocket == WebSocketUse::Any { 0 } else { self.websocket.into() };
    }

    pub(super) fn read(said: &mut pb::Route, t: &mut Table, problems: &mut Problems) {
        said.host = t.text("host", problems).unwrap_or_default();
        said.path = t.text("path", problems).unwrap_or_default();
        said.path_exact = t.text("path_exact", problems).unwrap_or_default();
        said.path_regex = t.text("path_regex", problems).unwrap_or_default();
        said.listeners = t.text_list("listeners", problems);
        said.methods = t.text_list("methods", problems);
        said.headers = t.text_list("headers", problems);
        said.query = t.text_list("query", problems);
        said.protocols = t.text_list("protocols", problems);
        said.websocket = words::read(t, "websocket", WebSocketUse::WORDS, problems);
    }

    /// How many matchers there are beside host and path.
    pub fn others(&self) -> usize {
        let lists = [!self.listeners.is_empty(), !self.methods.is_empty(), !self.protocols.is_empty()];
        lists.iter().filter(|there| **there).count()
            + usize::from(self.websocket != WebSocketUse::Any)
            + self.headers.len()
            + self.query.len()
    }
}

/// A checked set of what each text means.
fn each<T: Ord>(
    path: &str,
    key: &str,
    texts: &[String],
    problems: &mut Problems,
    check: impl Fn(&str, &str, &mut Problems) -> Option<T>,
) -> BTreeSet<T> {
    let one = |(i, text): (usize, &String)| check(&format!("{path}.{key}[{i}]"), text, problems);
    texts.iter().enumerate().filter_map(one).collect()
}

fn which_path(path: &str, given: &pb::Route, problems: &mut Problems) -> Option<Path> {
    let said = [&given.path, &given.path_exact, &given.path_regex].into_iter().filter(|p| !p.is_empty());
    if said.count() > 1 {
        problems.add(path, "", "has more than one of path, path_exact and path_regex", "keep one of them");
        return None;
    }
    if !given.path_exact.is_empty() {
        return written(&format!("{path}.path_exact"), &given.path_exact, problems).map(Path::Exact);
    }
    if !given.path_regex.is_empty() {
        return Pattern::check(&format!("{path}.path_regex"), &given.path_regex, problems).map(Path::Regex);
    }
    if given.path.is_empty() {
        return Some(Path::default());
    }
    written(&format!("{path}.path"), &given.path, problems).map(Path::Prefix)
}

/// A path as it can stand in a request.
pub(super) fn written(path: &str, given: &str, problems: &mut Problems) -> Option<String> {
    let ok = given.starts_with('/') && !given.contains(['?', '#']) && given.bytes().all(|b| b.is_ascii_graphic());
    if !ok {
        let kind = if path.ends_with("exact") { "is no path" } else { "is no path prefix" };
        problems.add(path, given, kind, "begin with / and leave out blanks, ? and #");
    }
    ok.then(|| given.to_owned())
}

fn method(path: &str, given: &str, problems: &mut Problems) -> Option<String> {
    let known = Method::from_bytes(given.as_bytes()).ok().filter(|_| !given.bytes().any(|b| b.is_ascii_lowercase()));
    if known.is_none() {
        problems.add(path, given, "is no method", "write it in capitals, like \"GET\"");
    }
    known.map(|m| m.as_str().to_owned())
}

/// A subprotocol is a token, as a header's name is (RFC 6455 section 4.1), but in its own letters.
fn protocol(path: &str, given: &str, problems: &mut Problems) -> Option<String> {
    let ok = HeaderName::from_bytes(given.as_bytes()).is_ok();
    if !ok {
        problems.add(path, given, "is no WebSocket subprotocol", "write one, like \"mqtt\"");
    }
    ok.then(|| given.to_owned())
}
