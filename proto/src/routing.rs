//! Which route takes a request. Pure: the proxy asks it for every request, tandemctl to explain.
//!
//! Of the routes that fit, one takes it, in this order:
//! 1. exact host, then the longest wildcard host, then any host;
//! 2. exact path, then the longest path prefix, then a path pattern;
//! 3. the larger number of other matchers: each header and query condition, and one each for listeners, methods,
//!    protocols, websocket;
//! 4. the first by name.
//!
//! Where none of the routes of the most specific host fits, those of the next one are asked.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{HeaderMap, Method};

use crate::model::{
    Condition, Host, Matching, Name, Path, Pattern, Place, Route, Value, WebSocketUse, bare, without_port,
};

/// What routes look at: the head of a request.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// The listener it came to.
    pub listener: &'a Name,
    /// As the client wrote it, perhaps with a port; empty if there was none.
    pub host: &'a str,
    /// Without the query, as the client wrote it.
    pub path: &'a str,
    /// Without its `?`.
    pub query: Option<&'a str>,
    /// GET for a WebSocket handshake of any HTTP version.
    pub method: &'a Method,
    /// All header fields.
    pub headers: &'a HeaderMap,
    /// Whether it asks for a WebSocket.
    pub websocket: bool,
}

/// The routes of one config, each leading to a `T`, ready to be asked. Asking allocates nothing, unless the client writes
/// its host in capitals or a pattern is held against an encoded query.
#[derive(Debug)]
pub struct Routes<T> {
    exact: HashMap<Box<str>, Paths<T>>,
    wildcard: HashMap<Box<str>, Paths<T>>,
    any: Paths<T>,
}

/// The routes of one host.
#[derive(Debug)]
struct Paths<T> {
    /// In order of their paths.
    places: Vec<Group<T>>,
    patterns: Vec<(Pattern, Entry<T>)>,
}

/// The routes of one path.
#[derive(Debug)]
struct Group<T> {
    path: Box<str>,
    /// The longest other path that this one begins with.
    shorter: Option<usize>,
    exact: Vec<Entry<T>>,
    prefix: Vec<Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    route: Arc<Route>,
    to: T,
}

impl<T> Routes<T> {
    /// Where each route leads is `T`.
    pub fn new<'a>(routes: impl Iterator<Item = (&'a Name, &'a Arc<Route>, T)>) -> Self {
        let mut all: Vec<(&Name, &Arc<Route>, T)> = routes.collect();
        all.sort_by(|(a, x, _), (b, y, _)| order(a, x).cmp(&order(b, y)));
        let mut this = Self { exact: HashMap::new(), wildcard: HashMap::new(), any: Paths::default() };
        for (_, route, to) in all {
            let paths = match &route.matching.host {
                Host::Exact(host) => this.exact.entry(bare(host).into()).or_default(),
                Host::Wildcard(domain) => this.wildcard.entry(domain.as_str().into()).or_default(),
                Host::Any => &mut this.any,
            };
            paths.add(Entry { route: Arc::clone(route), to });
        }
        let hosts = this.exact.values_mut().chain(this.wildcard.values_mut());
        hosts.chain([&mut this.any]).for_each(Paths::link);
        this
    }

    /// Where the request goes; `None`: no route takes it.
    pub fn find(&self, head: &Head<'_>) -> Option<&T> {
        if !self.exact.is_empty() || !self.wildcard.is_empty() {
            let host = plain(head.host);
            if let Some(found) = self.exact.get(&*host).and_then(|paths| paths.find(head)) {
                return Some(found);
            }
            if !self.wildcard.is_empty() {
                let labels = host.match_indices('.').filter(|(at, _)| *at > 0).map(|(at, _)| &host[at + 1..]);
                let found = labels.filter_map(|domain| self.wildcard.get(domain)).find_map(|paths| paths.find(head));
                if found.is_some() {
                    return found;
                }
            }
        }
        self.any.find(head)
    }
}

impl<T> Default for Paths<T> {
    fn default() -> Self {
        Self { places: Vec::new(), patterns: Vec::new() }
    }
}

impl<T> Paths<T> {
    /// Called in the order of precedence, then [`Paths::link`] once.
    fn add(&mut self, entry: Entry<T>) {
        let path = match &entry.route.matching.path {
            Path::Regex(pattern) => return self.patterns.push((pattern.clone(), entry)),
            Path::Exact(path) | Path::Prefix(path) => path.as_str().into(),
        };
        let at = self.places.binary_search_by(|p| p.path.cmp(&path)).unwrap_or_else(|at| {
            self.places.insert(at, Group { path, shorter: None, exact: Vec::new(), prefix: Vec::new() });
            at
        });
        let place = &mut self.places[at];
        let list =
            if matches!(entry.route.matching.path, Path::Exact(_)) { &mut place.exact } else { &mut place.prefix };
        list.push(entry);
    }

    fn link(&mut self) {
        for at in 1..self.places.len() {
            let mut shorter = Some(at - 1);
            while let Some(candidate) = shorter.filter(|s| !self.places[at].path.starts_with(&*self.places[*s].path)) {
                shorter = self.places[candidate].shorter;
            }
            self.places[at].shorter = shorter;
        }
    }

    fn find(&self, head: &Head<'_>) -> Option<&T> {
        // The last path that is not behind the asked one either begins it, or the longest that does is among its shorter ones.
        let mut at = self.places.partition_point(|p| *p.path <= *head.path).checked_sub(1);
        while let Some(place) = at.map(|at| &self.places[at]) {
            if is_prefix(&place.path, head.path) {
                let exact = if place.path.len() == head.path.len() { place.exact.as_slice() } else { &[] };
                if let Some(found) = exact.iter().chain(&place.prefix).find(|e| e.fits(head)) {
                    return Some(&found.to);
                }
            }
            at = place.shorter;
        }
        self.patterns.iter().find(|(pattern, e)| e.fits(head) && pattern.fits(head.path)).map(|(_, e)| &e.to)
    }
}

impl<T> Entry<T> {
    fn fits(&self, head: &Head<'_>) -> bool {
        other_mismatch(&self.route.matching, head).is_none()
    }
}

/// The order of precedence.
fn order<'a>(name: &'a Name, route: &'a Route) -> impl Ord + use<'a> {
    let Matching { host, path, .. } = &route.matching;
    let host = match host {
        Host::Exact(_) => (0, Reverse(0)),
        Host::Wildcard(domain) => (1, Reverse(domain.len())),
        Host::Any => (2, Reverse(0)),
    };
    let path = match path {
        Path::Exact(_) => (0, Reverse(0)),
        Path::Prefix(path) => (1, Reverse(path.len())),
        Path::Regex(_) => (2, Reverse(0)),
    };
    (host, path, Reverse(route.matching.others()), name)
}

/// Why a route does not take a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch<'a> {
    /// It is for other hosts.
    Host,
    /// It is for other paths.
    Path,
    /// It serves other listeners.
    Listener,
    /// It is for other methods.
    Method,
    /// It is for WebSocket handshakes only, or never.
    WebSocket,
    /// None of its subprotocols is offered.
    Protocol,
    /// This does not hold.
    Condition(&'a Condition, Place),
}

impl fmt::Display for Mismatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("another host"),
            Self::Path => f.write_str("another path"),
            Self::Listener => f.write_str("another listener"),
            Self::Method => f.write_str("another method"),
            Self::WebSocket => f.write_str("websocket"),
            Self::Protocol => f.write_str("none of its protocols is offered"),
            Self::Condition(condition, place) => write!(f, "{place} {}", condition.text(*place)),
        }
    }
}

/// What becomes of a request at one route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Takes it.
    Takes,
    /// Would take it, if another one did not come first.
    Later,
    /// Does not fit, for this first reason.
    Not(Mismatch<'a>),
}

/// What becomes of a request at every route, in the order of precedence.
pub fn explain<'a>(
    routes: impl Iterator<Item = (&'a Name, &'a Arc<Route>)>,
    head: &Head<'_>,
) -> Vec<(&'a Name, &'a Route, Verdict<'a>)> {
    let mut all: Vec<(&Name, &Route)> = routes.map(|(name, route)| (name, &**route)).collect();
    all.sort_by(|(a, x), (b, y)| order(a, x).cmp(&order(b, y)));
    let mut taken = false;
    let verdict = |(name, route): (&'a Name, &'a Route)| {
        let verdict = match mismatch(&route.matching, head) {
            Some(why) => Verdict::Not(why),
            None if std::mem::replace(&mut taken, true) => Verdict::Later,
            None => Verdict::Takes,
        };
        (name, route, verdict)
    };
    all.into_iter().map(verdict).collect()
}

fn mismatch<'a>(matching: &'a Matching, head: &Head<'_>) -> Option<Mismatch<'a>> {
    if !matching.host.takes(&plain(head.host)) {
        return Some(Mismatch::Host);
    }
    let fits = match &matching.path {
        Path::Exact(path) => path == head.path,
        Path::Prefix(path) => is_prefix(path, head.path),
        Path::Regex(pattern) => pattern.fits(head.path),
    };
    if fits { other_mismatch(matching, head) } else { Some(Mismatch::Path) }
}

/// Beside host and path.
fn other_mismatch<'a>(matching: &'a Matching, head: &Head<'_>) -> Option<Mismatch<'a>> {
    let Matching { listeners, methods, headers, query, protocols, websocket, .. } = matching;
    if !listeners.is_empty() && !listeners.contains(head.listener) {
        return Some(Mismatch::Listener);
    }
    let wanted = match websocket {
        WebSocketUse::Any => true,
        WebSocketUse::Only => head.websocket,
        WebSocketUse::Never => !head.websocket,
    };
    if !wanted {
        return Some(Mismatch::WebSocket);
    }
    if !methods.is_empty() && !methods.contains(head.method.as_str()) {
        return Some(Mismatch::Method);
    }
    if !protocols.is_empty() && !offered(head.headers).any(|p| protocols.contains(p)) {
        return Some(Mismatch::Protocol);
    }
    if let Some(broken) = headers.iter().find(|c| !c.holds(head.headers.get_all(&c.name).iter())) {
        return Some(Mismatch::Condition(broken, Place::Header));
    }
    let broken =
        query.iter().find(|c| !c.holds(parameters(head.query).filter(|p| p.name.is(&c.name)).map(|p| p.value)));
    broken.map(|c| Mismatch::Condition(c, Place::Query))
}

/// `/a` takes `/a` and `/a/b`, not `/ab`; `/a/` takes only what is below it.
fn is_prefix(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || prefix.ends_with('/') || rest.starts_with('/'))
}

/// The host in lower case, without port, brackets and trailing dot.
fn plain(host: &str) -> Cow<'_, str> {
    let host = bare(without_port(host));
    if host.bytes().any(|b| b.is_ascii_uppercase()) { host.to_ascii_lowercase().into() } else { host.into() }
}

/// The subprotocols a client offers.
fn offered(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(SEC_WEBSOCKET_PROTOCOL).iter();
    // One that is none does not take the others with it.
    let all = lines.flat_map(|line| line.as_bytes().split(|b| *b == b','));
    all.filter_map(|protocol| std::str::from_utf8(protocol.trim_ascii()).ok())
}

struct Parameter<'a> {
    name: Encoded<'a>,
    value: Encoded<'a>,
}

fn parameters(query: Option<&str>) -> impl Iterator<Item = Parameter<'_>> {
    query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Parameter { name: Encoded(name), value: Encoded(value) }
    })
}

/// Text of a query: `%20` and `+` are blanks (<https://url.spec.whatwg.org/#urlencoded-parsing>).
#[derive(Debug, Clone, Copy)]
struct Encoded<'a>(&'a str);

impl Encoded<'_> {
    fn bytes(&self) -> impl Iterator<Item = u8> {
        let mut rest = self.0.as_bytes();
        std::iter::from_fn(move || {
            let digit = |at: usize| rest.get(at).and_then(|b| char::from(*b).to_digit(16));
            let (byte, taken) = match (rest.first()?, digit(1), digit(2)) {
                (b'%', Some(high), Some(low)) => (u8::try_from(high * 16 + low).unwrap_or(b'%'), 3),
                (b'+', ..) => (b' ', 1),
                (other, ..) => (*other, 1),
            };
            rest = &rest[taken..];
            Some(byte)
        })
    }
}

impl Value for Encoded<'_> {
    fn is(&self, text: &str) -> bool {
        self.bytes().eq(text.bytes())
    }

    fn fits(&self, pattern: &Pattern) -> bool {
        if self.0.contains(['%', '+']) {
            return String::from_utf8(self.bytes().collect()).is_ok_and(|text| pattern.fits(&text));
        }
        pattern.fits(self.0)
    }
}

#[cfg(test)]
mod tests;
