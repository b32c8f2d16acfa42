//! Which route takes a request: the table and its explanation against a plain reading of the rules.
//!
//! An input is a config in TOML, a line of dashes, and a request: `METHOD listener host target`, its fields below it.

use std::cmp::Reverse;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use tandem_proto::document;
use tandem_proto::routing::{Head, Routes, Verdict, explain};

use super::engine;
use crate::config::model::{Condition, Config, Host, Matching, Name, Path, Route, Test, WebSocketUse};

const WORDS: [&str; 56] = [
    "\n",
    "\"",
    "*",
    "*.",
    "a.b",
    "A.B",
    "b.",
    ".",
    ":80",
    "[::1]",
    "::1",
    "/",
    "/a",
    "/a/",
    "/a/b",
    "/ab",
    "//",
    "%2f",
    "..",
    "?",
    "&",
    "=",
    "q=1",
    "q=%31",
    "q",
    "+",
    "%",
    "x: y\n",
    "x: z\n",
    "upgrade: websocket\n",
    "sec-websocket-protocol: p, q\n",
    "GET",
    "POST",
    "one",
    "two",
    " ",
    "\u{e4}",
    "\n[routes.y]\nupstream = \"u\"\n",
    "\n[routes.z]\nupstream = \"u\"\n",
    "host = \"a.b\"\n",
    "host = \"*.b\"\n",
    "host = \"*\"\n",
    "path = \"/a\"\n",
    "path = \"/a/\"\n",
    "path_exact = \"/a\"\n",
    "path_regex = \"/a.*\"\n",
    "methods = [\"GET\"]\n",
    "listeners = [\"one\"]\n",
    "headers = [\"x: y\"]\n",
    "headers = [\"!x\", \"y\"]\n",
    "headers = [\"x ~ y|z\"]\n",
    "query = [\"q=1\"]\n",
    "query = [\"!q\"]\n",
    "protocols = [\"p\"]\n",
    "websocket = \"only\"\n",
    "websocket = \"never\"\n",
];

const AROUND: &str =
    "[upstreams.u]\n[listeners.one]\naddress = \"10.0.0.1:1\"\n[listeners.two]\naddress = \"10.0.0.1:2\"\n";

#[test]
fn route() {
    engine::run("route", &WORDS, target);
}

struct Asked<'a> {
    method: Method,
    listener: Name,
    host: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    headers: HeaderMap,
}

impl Asked<'_> {
    fn websocket(&self) -> bool {
        self.headers.contains_key("upgrade")
    }

    fn head(&self) -> Head<'_> {
        let Self { method, listener, host, path, query, headers } = self;
        Head { listener, host, path, query: *query, method, headers, websocket: self.websocket() }
    }
}

/// Who takes it and how many fit, or what kept it from being a config or a request.
fn target(input: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(input) else { return "no text".to_owned() };
    let Some((config, request)) = text.split_once("\n---\n") else { return "one part".to_owned() };
    let said = match document::parse(&format!("{config}\n{AROUND}")) {
        Ok(said) => said,
        Err(problems) => return format!("{} problems in the text", problems.into_vec().len()),
    };
    let config = match Config::try_from(&said) {
        Ok(config) => config,
        Err(problems) => return format!("{} problems in the config", problems.into_vec().len()),
    };
    let Some(asked) = asked(request) else { return "no request".to_owned() };
    let head = asked.head();
    let table = Routes::new(config.routes.iter().map(|(name, route)| (name, route, name.clone())));
    let found = table.find(&head);
    let mut fit: Vec<(&Name, &Arc<Route>)> = config.routes.iter().filter(|(_, r)| fits(&r.matching, &asked)).collect();
    fit.sort_by_key(|(name, route)| rank(name, &route.matching));
    let fit: Vec<&Name> = fit.into_iter().map(|(name, _)| name).collect();
    assert_eq!(found, fit.first().copied(), "the table takes another than the rules say");
    let told = explain(config.routes.iter(), &head);
    let told: Vec<&Name> = told.into_iter().filter(|(.., v)| !matches!(v, Verdict::Not(_))).map(|(n, ..)| n).collect();
    assert_eq!(told, fit, "the explanation tells of others");
    let taken = found.map(|name| kind(&config.routes[name].matching));
    format!("{taken:?} of {} and {}", fit.len(), config.routes.len())
}

fn asked(text: &str) -> Option<Asked<'_>> {
    let mut lines = text.split('\n');
    let mut words = lines.next()?.split(' ');
    let method = words.next()?.parse().ok()?;
    let listener = Name::new(words.next()?)?;
    let (host, target) = (words.next()?, words.next()?);
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let mut headers = HeaderMap::new();
    for line in lines.filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':')?;
        let value = HeaderValue::from_str(value.trim()).ok()?;
        headers.append(name.parse::<HeaderName>().ok()?, value);
    }
    (path.starts_with('/') && words.next().is_none()).then_some(Asked { method, listener, host, path, query, headers })
}

/// The place of a route among those that fit, smallest first.
fn rank<'a>(name: &'a Name, m: &Matching) -> (usize, Reverse<usize>, usize, Reverse<usize>, Reverse<usize>, &'a Name) {
    let (host, longest) = match &m.host {
        Host::Exact(_) => (0, 0),
        Host::Wildcard(domain) => (1, domain.len()),
        Host::Any => (2, 0),
    };
    let (path, long) = match &m.path {
        Path::Exact(_) => (0, 0),
        Path::Prefix(path) => (1, path.len()),
        Path::Regex(_) => (2, 0),
    };
    let lists = [m.listeners.len(), m.methods.len(), m.protocols.len(), usize::from(m.websocket != WebSocketUse::Any)];
    let more = m.headers.len() + m.query.len() + lists.into_iter().filter(|n| *n > 0).count();
    (host, Reverse(longest), path, Reverse(long), Reverse(more), name)
}

fn kind(m: &Matching) -> (usize, usize, usize) {
    let (host, _, path, _, Reverse(more), _) = rank(&NAME, m);
    (host, path, more)
}

static NAME: std::sync::LazyLock<Name> = std::sync::LazyLock::new(|| Name::new("x").unwrap());

fn fits(m: &Matching, asked: &Asked<'_>) -> bool {
    let query: Vec<(Vec<u8>, Vec<u8>)> =
        asked.query.unwrap_or("").split('&').filter(|p| !p.is_empty()).map(pair).collect();
    let fields = |name: &str| asked.headers.get_all(name).iter().map(|v| v.as_bytes().to_vec()).collect::<Vec<_>>();
    let under =
        |name: &str| query.iter().filter(|(n, _)| n == name.as_bytes()).map(|(_, v)| v.clone()).collect::<Vec<_>>();
    let offered: Vec<String> = fields("sec-websocket-protocol")
        .iter()
        .flat_map(|line| String::from_utf8_lossy(line).split(',').map(|p| p.trim().to_owned()).collect::<Vec<_>>())
        .collect();
    host_fits(&m.host, asked.host)
        && path_fits(&m.path, asked.path)
        && (m.listeners.is_empty() || m.listeners.contains(&asked.listener))
        && (m.methods.is_empty() || m.methods.contains(asked.method.as_str()))
        && (m.protocols.is_empty() || m.protocols.iter().any(|p| offered.contains(p)))
        && (m.websocket == WebSocketUse::Any || (m.websocket == WebSocketUse::Only) == asked.websocket())
        && m.headers.iter().all(|c| holds(c, &fields(&c.name)))
        && m.query.iter().all(|c| holds(c, &under(&c.name)))
}

fn host_fits(wanted: &Host, given: &str) -> bool {
    // A port is what follows the last colon, if that is not within an address.
    let digits = given.trim_end_matches(|c: char| c.is_ascii_digit());
    let name = digits.strip_suffix(':').filter(|name| !name.contains(':') || name.ends_with(']')).unwrap_or(given);
    let plain = |name: &str| {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).map_or(name.clone(), str::to_owned)
    };
    match wanted {
        Host::Any => true,
        Host::Exact(own) => plain(own) == plain(name),
        Host::Wildcard(domain) => {
            plain(name).strip_suffix(&format!(".{domain}")).is_some_and(|labels| !labels.is_empty())
        }
    }
}

fn path_fits(wanted: &Path, given: &str) -> bool {
    match wanted {
        Path::Exact(path) => path == given,
        Path::Regex(pattern) => pattern.fits(given),
        Path::Prefix(path) if path.ends_with('/') => given.starts_with(path.as_str()),
        Path::Prefix(path) => given == path || given.starts_with(&format!("{path}/")),
    }
}

fn holds(condition: &Condition, values: &[Vec<u8>]) -> bool {
    match &condition.test {
        Test::Present => !values.is_empty(),
        Test::Absent => values.is_empty(),
        Test::Is(wanted) => values.iter().any(|v| v == wanted.as_bytes()),
        Test::Fits(pattern) => values.iter().any(|v| std::str::from_utf8(v).is_ok_and(|v| pattern.fits(v))),
    }
}

/// `name=value` of a query, decoded.
fn pair(text: &str) -> (Vec<u8>, Vec<u8>) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (decoded(name), decoded(value))
}

fn decoded(text: &str) -> Vec<u8> {
    let (mut out, bytes, mut at) = (Vec::new(), text.as_bytes(), 0);
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).filter(|h| bytes[at] == b'%' && h.iter().all(u8::is_ascii_hexdigit));
        match hex {
            Some(hex) => out.push(u8::from_str_radix(std::str::from_utf8(hex).unwrap(), 16).unwrap()),
            None => out.push(if bytes[at] == b'+' { b' ' } else { bytes[at] }),
        }
        at += if hex.is_some() { 3 } else { 1 };
    }
    out
}
