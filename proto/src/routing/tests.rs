//! The order of precedence, told by a script and held against a naive reading of it.
#![allow(clippy::unwrap_used, clippy::panic)]

use http::{HeaderName, HeaderValue, Uri};
use proptest::prelude::*;

use super::*;
use crate::Problems;
use crate::config::v1 as pb;

/// A request that owns what it says.
#[derive(Debug, Clone)]
struct Asked {
    listener: Name,
    host: String,
    path: String,
    query: Option<String>,
    method: Method,
    headers: HeaderMap,
    websocket: bool,
}

impl Asked {
    fn head(&self) -> Head<'_> {
        let Self { listener, host, path, query, method, headers, websocket } = self;
        Head { listener, host, path, query: query.as_deref(), method, headers, websocket: *websocket }
    }
}

type All = Vec<(Name, Arc<Route>)>;

fn named(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn route(given: &pb::Route) -> (Name, Arc<Route>) {
    let mut config = pb::Config { routes: vec![given.clone()], ..Default::default() };
    config.upstreams.push(pb::Upstream { name: "u".into(), ..Default::default() });
    config.listeners.push(pb::Listener { name: "inner".into(), address: "10.0.0.1:1".into(), ..Default::default() });
    config.listeners.push(pb::Listener { name: "outer".into(), address: "10.0.0.1:2".into(), ..Default::default() });
    let config: Result<crate::model::Config, Problems> = (&config).try_into();
    config.unwrap_or_else(|p| panic!("{p}")).routes.pop_first().unwrap()
}

fn table(all: &All) -> Routes<Name> {
    Routes::new(all.iter().map(|(name, route)| (name, route, name.clone())))
}

/// Who fits, in the order of precedence; the table must agree on the first, and on the rest once those before are gone.
fn takers(all: &All, asked: &Asked) -> Vec<String> {
    let mut told = Vec::new();
    for (name, _, verdict) in explain(all.iter().map(|(n, r)| (n, r)), &asked.head()) {
        match verdict {
            Verdict::Takes => assert!(told.is_empty(), "two take it"),
            Verdict::Later => assert!(!told.is_empty(), "nobody takes it, and yet {name} is too late"),
            Verdict::Not(_) => continue,
        }
        told.push(name.to_string());
    }
    let mut left = all.clone();
    let mut found = Vec::new();
    while let Some(name) = table(&left).find(&asked.head()) {
        found.push(name.to_string());
        left.retain(|(n, _)| n != name);
    }
    assert_eq!(found, told, "the table and the explanation differ about {asked:?}");
    found
}

#[test]
fn the_script_of_precedence_holds() {
    let mut all: All = Vec::new();
    let mut out = String::new();
    let script = include_str!("precedence.txt");
    for line in script.lines() {
        if line.starts_with("##") {
            all.clear();
        } else if let Some(said) = line.strip_prefix("route ") {
            all.push(route(&scripted(said)));
        } else if !line.is_empty() && !line.starts_with('#') {
            let (request, _) = line.split_once('>').unwrap();
            let line = format!("{request}> {}", takers(&all, &request_of(request)).join(" "));
            out.push_str(line.trim_end());
            out.push('\n');
            continue;
        }
        out.push_str(line);
        out.push('\n');
    }
    assert_eq!(out, script);
}

fn scripted(said: &str) -> pb::Route {
    let mut words = said.split_whitespace();
    let mut route = pb::Route { name: words.next().unwrap().into(), upstream: "u".into(), ..Default::default() };
    route.host = words.next().unwrap().into();
    for word in words {
        if word.starts_with('/') {
            route.path = word.into();
        } else if let Some(path) = word.strip_prefix('=') {
            route.path_exact = path.into();
        } else if let Some(pattern) = word.strip_prefix('~') {
            route.path_regex = pattern.into();
        } else {
            let (key, value) = word.split_once('=').unwrap();
            // Words have no blanks.
            let value = value.replace('~', " ~ ");
            match key {
                "method" => route.methods.push(value),
                "header" => route.headers.push(value),
                "query" => route.query.push(value),
                "protocol" => route.protocols.push(value),
                "listener" => route.listeners.push(value),
                "websocket" => {
                    route.websocket =
                        if value == "only" { pb::WebSocketUse::Only } else { pb::WebSocketUse::Never }.into();
                }
                _ => panic!("{word}"),
            }
        }
    }
    route
}

fn request_of(line: &str) -> Asked {
    let (listener, line) = line.split_once('|').unwrap_or(("outer", line));
    let mut words = line.split_whitespace();
    let method = words.next().unwrap().parse().unwrap();
    let url: Uri = words.next().unwrap().parse().unwrap();
    let mut headers = HeaderMap::new();
    while let Some(field) = words.next() {
        let name: HeaderName = field.trim_end_matches(':').parse().unwrap();
        headers.append(name, HeaderValue::from_str(words.next().unwrap()).unwrap());
    }
    Asked {
        listener: named(listener),
        host: url.authority().unwrap().to_string(),
        path: url.path().to_owned(),
        query: url.query().map(str::to_owned),
        method,
        headers,
        websocket: url.scheme_str() == Some("ws"),
    }
}

fn any_route() -> impl Strategy<Value = pb::Route> {
    let host = prop_oneof![Just("*"), Just("a"), Just("b.a"), Just("*.a"), Just("*.b.a"), Just("[::1]"),];
    let segment = "(/[ab]{0,2}){1,3}";
    let path = (0..3, segment);
    let lists = (0..3usize, 0..4usize, 0..4usize, 0..3usize, 0..3i32, any::<bool>());
    (host, path, lists).prop_map(|(host, (kind, path), (methods, headers, query, protocols, websocket, listener))| {
        let mut route = pb::Route { host: host.into(), upstream: "u".into(), ..Default::default() };
        match kind {
            0 => route.path = path,
            1 => route.path_exact = path,
            _ => route.path_regex = format!("{path}[ab/]*"),
        }
        let some = |all: &[&str], n: usize| all[n].split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        route.methods = some(&["", "GET", "POST PUT"], methods);
        route.headers = some(&["", "x", "!x", "x:1"], headers);
        route.query = some(&["", "q", "!q", "q=1"], query);
        route.protocols = some(&["", "p", "p r"], protocols);
        route.websocket = websocket;
        route.listeners = if listener { vec!["inner".into()] } else { Vec::new() };
        route
    })
}

fn any_request() -> impl Strategy<Value = Asked> {
    let host = prop::sample::select(vec!["a", "b.a", "c.b.a", "A:80", "c", "", "[::1]:8", "b.a."]);
    let parts = (any::<bool>(), any::<bool>(), 0..3usize, 0..3usize, 0..3usize);
    (host, "(/[ab]{0,2}){1,4}", parts).prop_map(|(host, path, (inner, websocket, x, q, p))| {
        let value = [None, Some("1"), Some("2")];
        let mut headers = HeaderMap::new();
        if let Some(x) = value[x] {
            headers.insert("x", HeaderValue::from_static(x));
        }
        if let Some(p) = [None, Some("r"), Some("o, p")][p] {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(p));
        }
        Asked {
            listener: named(if inner { "inner" } else { "outer" }),
            host: host.to_owned(),
            path,
            query: value[q].map(|q| format!("q={q}")),
            method: if websocket { Method::GET } else { Method::POST },
            headers,
            websocket,
        }
    })
}

/// The rules once more, written for reading: every route is looked at, the best that fits is kept.
fn naive(all: &All, asked: &Asked) -> Option<Name> {
    let host = asked.host.to_lowercase().replace(":80", "").replace(":8", "");
    let host = if asked.host.starts_with('[') { "::1".to_owned() } else { host.trim_end_matches('.').to_owned() };
    let mut best: Option<([usize; 5], Name)> = None;
    for (name, route) in all {
        let m = &route.matching;
        let by_host = match &m.host {
            Host::Any => Some(0),
            Host::Wildcard(d) => host.ends_with(&format!(".{d}")).then(|| 1 + d.len()),
            Host::Exact(h) => (h.trim_matches(['[', ']']) == host).then_some(1000),
        };
        let (by_kind, by_length) = match &m.path {
            Path::Exact(p) => (if *p == asked.path { 3 } else { 0 }, 0),
            Path::Prefix(p) => {
                let below = if p.ends_with('/') { p.clone() } else { format!("{p}/") };
                (if *p == asked.path || asked.path.starts_with(&below) { 2 } else { 0 }, p.len())
            }
            Path::Regex(p) => {
                let own = p.as_str().trim_end_matches("[ab/]*");
                (usize::from(asked.path.starts_with(own)), 0)
            }
        };
        let has = |values: Vec<&str>, test: &crate::model::Test| match test {
            crate::model::Test::Present => !values.is_empty(),
            crate::model::Test::Absent => values.is_empty(),
            crate::model::Test::Is(v) => values.contains(&v.as_str()),
            crate::model::Test::Fits(_) => unreachable!("not generated"),
        };
        let x = asked.headers.get("x").map(|v| v.to_str().unwrap()).into_iter().collect::<Vec<_>>();
        let q = asked.query.as_deref().map(|q| &q[2..]).into_iter().collect::<Vec<_>>();
        let offer = asked.headers.get(SEC_WEBSOCKET_PROTOCOL).map_or("", |v| v.to_str().unwrap());
        let fits = (m.listeners.is_empty() || m.listeners.contains(&asked.listener))
            && (m.methods.is_empty() || m.methods.contains(asked.method.as_str()))
            && m.headers.iter().all(|c| has(x.clone(), &c.test))
            && m.query.iter().all(|c| has(q.clone(), &c.test))
            && (m.protocols.is_empty() || offer.split(", ").any(|p| m.protocols.contains(p)))
            && match m.websocket {
                WebSocketUse::Any => true,
                WebSocketUse::Only => asked.websocket,
                WebSocketUse::Never => !asked.websocket,
            };
        let Some(by_host) = by_host.filter(|_| fits && by_kind > 0) else { continue };
        let others = m.headers.len()
            + m.query.len()
            + usize::from(!m.listeners.is_empty())
            + usize::from(!m.methods.is_empty())
            + usize::from(!m.protocols.is_empty())
            + usize::from(m.websocket != WebSocketUse::Any);
        let score = [by_host, by_kind, by_length, others, 0];
        // Names come in order: the first of equals stays.
        if best.as_ref().is_none_or(|(known, _)| score > *known) {
            best = Some((score, name.clone()));
        }
    }
    best.map(|(_, name)| name)
}

proptest! {
    #[test]
    fn the_table_finds_what_the_rules_say(
        routes in prop::collection::vec(any_route(), 0..24),
        requests in prop::collection::vec(any_request(), 1..16),
    ) {
        let give = |(i, mut r): (usize, pb::Route)| { r.name = format!("r{i:02}"); route(&r) };
        let all: All = routes.into_iter().enumerate().map(give).collect();
        let table = table(&all);
        for asked in requests {
            let found = table.find(&asked.head());
            let expected = naive(&all, &asked);
            prop_assert_eq!(found, expected.as_ref(), "{:?}", asked);
            let told = explain(all.iter().map(|(n, r)| (n, r)), &asked.head());
            let told = told.into_iter().find(|(_, _, v)| *v == Verdict::Takes).map(|(n, ..)| n);
            prop_assert_eq!(found, told);
        }
    }
}

#[test]
fn many_prefixes_inside_each_other_are_walked_once() {
    let path = |n: usize| "/a".repeat(n);
    let one = |n: usize| {
        let said = pb::Route { name: format!("r{n}"), path: path(n), upstream: "u".into(), ..Default::default() };
        route(&said)
    };
    let all: All = (1..60).map(one).collect();
    let table = table(&all);
    for n in 1..80 {
        let asked = request_of(&format!("GET http://x{}/b", path(n)));
        assert_eq!(table.find(&asked.head()), Some(&named(&format!("r{}", n.min(59)))));
    }
}
