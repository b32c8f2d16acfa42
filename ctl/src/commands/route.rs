//! Routes: said, changed, listed, and tried.

use std::time::Duration;

use serde_json::{Value, json};
use tandem_proto::Problems;
use tandem_proto::admin::v1::GetConfigReply;
use tandem_proto::config::v1 as pb;
use tandem_proto::config::v1::edit::Edit;
use tandem_proto::model::{Action, Config, Matching, Name, NewPath, Place, Route, WebSocketUse};
use tandem_proto::routing::{Head, Verdict, explain};
use tonic::codegen::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::document::{as_json, checked};
use super::task::Change;
use super::words;
use crate::args::{Part, RouteFrames, RouteRequest, RouteWhat};
use crate::client::Client;
use crate::output::{Error, Told, table};

/// A route that is not there yet.
pub(super) fn add(name: String, what: RouteWhat) -> Change {
    let mut route = pb::Route { name, host: "*".to_owned(), ..Default::default() };
    overlay(&mut route, what);
    if route.path_exact.is_empty() && route.path_regex.is_empty() && route.path.is_empty() {
        "/".clone_into(&mut route.path);
    }
    let path = [("", &route.path), ("= ", &route.path_exact), ("~ ", &route.path_regex)];
    let path: String = path.iter().filter(|(_, p)| !p.is_empty()).map(|(sign, p)| format!("{sign}{p}")).collect();
    let done = format!("route {} added: {}{path} to {}", route.name, route.host, goal(&route));
    Change { edits: vec![Edit::AddRoute(route)], done, ..Default::default() }
}

fn goal(route: &pb::Route) -> String {
    match (&route.redirect, &route.respond) {
        (Some(redirect), _) => redirect.to.clone(),
        (_, Some(respond)) => format!("answer {}", respond.status),
        _ => route.upstream.clone(),
    }
}

/// The change that makes a route what it is with `what` over it. `seen` is the config it is in: another change in between
/// would be undone.
pub(super) fn set(seen: &GetConfigReply, name: &str, what: RouteWhat, cleared: &[Part]) -> Result<Change, Error> {
    let refused = |why: &str, mend: String| {
        let problems = Problems::one(format!("routes.{name}"), name, why, mend);
        Err(Error::Refused { problems, revision: Some(seen.revision) })
    };
    let routes = seen.config.as_ref().map(|config| config.routes.as_slice()).unwrap_or_default();
    let Some(before) = routes.iter().find(|r| r.name == name) else {
        let known: Vec<&str> = routes.iter().map(|r| r.name.as_str()).take(8).collect();
        let known = if known.is_empty() { "there is none".to_owned() } else { format!("known: {}", known.join(", ")) };
        return refused("is not there", known);
    };
    let mut route = before.clone();
    cleared.iter().for_each(|part| clear(&mut route, *part));
    overlay(&mut route, what);
    if route == *before {
        return refused("is like that already", "name what shall change: tandemctl route set --help".to_owned());
    }
    Ok(Change { edits: vec![Edit::SetRoute(route)], done: format!("route {name} set"), ..Default::default() })
}

fn clear(route: &mut pb::Route, part: Part) {
    match part {
        Part::Listeners => route.listeners.clear(),
        Part::Methods => route.methods.clear(),
        Part::Headers => route.headers.clear(),
        Part::Query => route.query.clear(),
        Part::Protocols => route.protocols.clear(),
        Part::WebSocket => route.websocket = 0,
        Part::Origins => {
            route.origins.clear();
            route.origin_required = false;
        }
        Part::Rewrite => route.rewrite = None,
        Part::RequestHeaders => route.request_headers = None,
        Part::ResponseHeaders => route.response_headers = None,
        Part::Frames => route.frames = None,
    }
}

/// What is said takes the place of what is there.
fn overlay(route: &mut pb::Route, what: RouteWhat) {
    overlay_action(route, &what);
    if what.path.is_some() || what.path_exact.is_some() || what.path_regex.is_some() {
        route.path = what.path.unwrap_or_default();
        route.path_exact = what.path_exact.unwrap_or_default();
        route.path_regex = what.path_regex.unwrap_or_default();
    }
    if let Some(host) = what.host {
        route.host = host;
    }
    if let Some(websocket) = what.websocket {
        route.websocket = websocket.into();
    }
    route.origin_required |= what.origin_required;
    let lists = [
        (what.listeners, &mut route.listeners),
        (what.methods, &mut route.methods),
        (what.headers, &mut route.headers),
        (what.query, &mut route.query),
        (what.protocols, &mut route.protocols),
        (what.origins, &mut route.origins),
    ];
    for (said, there) in lists {
        replace(said, there);
    }
    let mut rewrite = route.rewrite.clone().unwrap_or_default();
    if what.strip_prefix.is_some() || what.replace_prefix.is_some() || what.rewrite_regex.is_some() {
        rewrite = pb::Rewrite {
            strip_prefix: what.strip_prefix.unwrap_or_default(),
            replace_prefix: what.replace_prefix.unwrap_or_default(),
            regex: what.rewrite_regex.unwrap_or_default(),
            to: what.rewrite_to.unwrap_or_default(),
            host: rewrite.host,
        };
    }
    if let Some(host) = what.set_host {
        rewrite.host = host;
    }
    route.rewrite = Some(rewrite).filter(|r| *r != pb::Rewrite::default());
    overlay_ops(&mut route.request_headers, what.remove_request, what.set_request, what.add_request);
    overlay_ops(&mut route.response_headers, what.remove_response, what.set_response, what.add_response);
    overlay_frames(&mut route.frames, &what.frames);
}

fn overlay_frames(there: &mut Option<pb::Frames>, said: &RouteFrames) {
    let before = there.unwrap_or_default();
    let time = |said: Option<Duration>, before: u32| said.map_or(before, words::millis_or_off);
    let frames = pb::Frames {
        ping: said.ping.map_or(before.ping, Into::into),
        ping_interval_ms: time(said.ping_interval, before.ping_interval_ms),
        pong_timeout_ms: time(said.pong_timeout, before.pong_timeout_ms),
        max_frame: said.max_frame.unwrap_or(before.max_frame),
        max_message: said.max_message.unwrap_or(before.max_message),
        messages_per_second: said.messages_per_second.unwrap_or(before.messages_per_second),
        bytes_per_second: said.bytes_per_second.unwrap_or(before.bytes_per_second),
        over_rate: said.over_rate.map_or(before.over_rate, Into::into),
        max_age_ms: time(said.max_age, before.max_age_ms),
    };
    if said.frames || there.is_some() || frames != before {
        *there = Some(frames);
    }
}

fn overlay_action(route: &mut pb::Route, what: &RouteWhat) {
    if let Some(upstream) = &what.upstream {
        route.upstream.clone_from(upstream);
        (route.redirect, route.respond) = (None, None);
    }
    if what.redirect.is_some() {
        (route.upstream, route.respond) = (String::new(), None);
    }
    if what.redirect.is_some() || what.redirect_status.is_some() {
        let redirect = route.redirect.get_or_insert_default();
        what.redirect.iter().for_each(|to| redirect.to.clone_from(to));
        redirect.status = what.redirect_status.unwrap_or(redirect.status);
    }
    if what.respond.is_some() {
        (route.upstream, route.redirect) = (String::new(), None);
    }
    if what.respond.is_some() || what.respond_body.is_some() || what.respond_type.is_some() {
        let respond = route.respond.get_or_insert_default();
        respond.status = what.respond.unwrap_or(respond.status);
        what.respond_body.iter().for_each(|body| respond.body.clone_from(body));
        what.respond_type.iter().for_each(|kind| respond.content_type.clone_from(kind));
    }
}

fn overlay_ops(there: &mut Option<pb::HeaderOps>, remove: Vec<String>, set: Vec<String>, add: Vec<String>) {
    let mut ops = there.take().unwrap_or_default();
    replace(remove, &mut ops.remove);
    replace(set, &mut ops.set);
    replace(add, &mut ops.add);
    *there = Some(ops).filter(|ops| *ops != pb::HeaderOps::default());
}

fn replace(said: Vec<String>, there: &mut Vec<String>) {
    if !said.is_empty() {
        *there = said;
    }
}

/// `route ls`.
pub(super) async fn list(client: &Client) -> Result<Told, Error> {
    let reply = client.config().await?;
    let config = checked(&reply)?;
    let row = |(name, r): (&Name, &std::sync::Arc<Route>)| {
        vec![name.to_string(), r.matching.host.to_string(), r.matching.path.to_string(), also(&r.matching), does(r)]
    };
    let people = table(&["ROUTE", "HOST", "PATH", "ALSO", "TO"], config.routes.iter().map(row).collect());
    let programs = json!({"revision": reply.revision, "routes": as_json(&config)["routes"].take()});
    Ok(Told { people, programs, notes: Vec::new() })
}

/// The matchers beside host and path, in one cell.
fn also(m: &Matching) -> String {
    let mut all: Vec<String> = Vec::new();
    if !m.listeners.is_empty() {
        let names: Vec<&str> = m.listeners.iter().map(Name::as_str).collect();
        all.push(format!("on {}", names.join("|")));
    }
    if !m.methods.is_empty() {
        all.push(m.methods.iter().map(String::as_str).collect::<Vec<_>>().join("|"));
    }
    all.extend(m.headers.iter().map(|c| c.text(Place::Header)));
    all.extend(m.query.iter().map(|c| format!("?{}", c.text(Place::Query))));
    if !m.protocols.is_empty() {
        all.push(format!("protocol {}", m.protocols.iter().map(String::as_str).collect::<Vec<_>>().join("|")));
    }
    if m.websocket != WebSocketUse::Any {
        all.push(format!("websocket {}", m.websocket));
    }
    if all.is_empty() { "-".to_owned() } else { all.join(", ") }
}

/// What a route does, in one cell.
fn does(route: &Route) -> String {
    let mut what = match &route.action {
        Action::Upstream(name) => name.to_string(),
        Action::Redirect(redirect) => format!("{} {}", redirect.status, redirect.to),
        Action::Respond(respond) => format!("answer {}", respond.status),
    };
    match &route.rewrite.path {
        NewPath::Same => {}
        NewPath::Without(prefix) => what += &format!(", without {prefix}"),
        NewPath::Instead(prefix) => what += &format!(", as {prefix}"),
        NewPath::Made(_, to) => what += &format!(", as {to}"),
    }
    let some = |there: bool, word: &str| if there { format!(", {word}") } else { String::new() };
    what += &some(!route.origins.allowed.is_empty() || route.origins.required, "origins");
    what += &some(!route.request_headers.is_empty() || !route.response_headers.is_empty(), "headers");
    what + &some(route.frames.is_some(), "frames")
}

/// `route test`: thought through here, by the rules the proxies follow.
pub(super) async fn test(client: &Client, asked: &RouteRequest) -> Result<Told, Error> {
    let reply = client.config().await?;
    let config = checked(&reply)?;
    let refused = |problems| Error::Refused { problems, revision: Some(reply.revision) };
    let request = Request::read(asked, &config).map_err(refused)?;
    let head = request.head();
    let verdicts = explain(config.routes.iter(), &head);
    let mut rows = Vec::new();
    let mut all = Vec::new();
    for (name, route, verdict) in &verdicts {
        let why = match verdict {
            Verdict::Takes => "takes it".to_owned(),
            Verdict::Later => "comes later".to_owned(),
            Verdict::Not(mismatch) => format!("no: {mismatch}"),
        };
        all.push(json!({"route": name.as_str(), "takes": *verdict == Verdict::Takes, "why": why}));
        rows.push(vec![name.to_string(), route.matching.host.to_string(), route.matching.path.to_string(), why]);
    }
    let taken = verdicts.iter().find(|(_, _, verdict)| *verdict == Verdict::Takes);
    let unwelcome = taken.filter(|_| head.websocket).and_then(|(_, route, _)| {
        route.origins.admit(&request.headers, &request.host).err().map(|why| why.to_string())
    });
    let outcome = match (taken, &unwelcome) {
        (None, _) => "no route takes it: 404".to_owned(),
        (Some((name, ..)), Some(why)) => format!("route {name} takes it, and refuses: 403, {why}"),
        (Some((name, route, _)), None) => format!("route {name} takes it: {}", does(route)),
    };
    let people = format!("{outcome}\n\n{}", table(&["ROUTE", "HOST", "PATH", "VERDICT"], rows));
    let programs = json!({
        "revision": reply.revision,
        "route": taken.map(|(name, ..)| name.as_str()),
        "to": taken.map(|(_, route, _)| does(route)),
        "refused": unwelcome,
        "routes": Value::Array(all),
    });
    Ok(Told { people, programs, notes: Vec::new() })
}

/// A request that owns what it says.
struct Request {
    listener: Name,
    host: String,
    url: Uri,
    method: Method,
    headers: HeaderMap,
    websocket: bool,
}

impl Request {
    /// Every mistake of the command line at once.
    fn read(asked: &RouteRequest, config: &Config) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let listener = listener(asked.listener.as_deref(), config, &mut problems);
        let url = asked.url.parse::<Uri>().ok().filter(|u| u.authority().is_some());
        let scheme = url.as_ref().and_then(|u| u.scheme_str()).map(str::to_ascii_lowercase);
        let websocket = match scheme.as_deref() {
            Some("ws" | "wss") => Some(true),
            Some("http" | "https") => Some(false),
            _ => None,
        };
        if url.is_none() || websocket.is_none() {
            problems.add("URL", &asked.url, "is no URL of a proxy", "write it like \"wss://chat.example.org/ws\"");
        }
        let method = asked.method.parse::<Method>();
        if method.is_err() {
            problems.add("--method", &asked.method, "is no method", "write it like \"GET\"");
        }
        let mut headers = HeaderMap::new();
        for field in &asked.headers {
            let pair = field.split_once(':').and_then(|(name, value)| {
                let name = HeaderName::from_bytes(name.trim().as_bytes()).ok()?;
                Some((name, HeaderValue::from_str(value.trim()).ok()?))
            });
            match pair {
                Some((name, value)) => drop(headers.append(name, value)),
                None => problems.add(
                    "--header",
                    field,
                    "is no header field",
                    "write it like \"Origin: https://example.org\"",
                ),
            }
        }
        let asked = (listener, url, method.ok(), websocket);
        let (Some(listener), Some(url), Some(method), Some(websocket)) = asked else { return Err(problems) };
        problems.into_result()?;
        // A Host field overrules the URL's, as it would where the URL is only an address.
        let named = headers.get("host").and_then(|h| h.to_str().ok()).map(str::to_owned);
        let host = named.or_else(|| url.authority().map(|a| a.as_str().to_owned())).unwrap_or_default();
        Ok(Self { listener, host, url, method, headers, websocket })
    }

    fn head(&self) -> Head<'_> {
        Head {
            listener: &self.listener,
            host: &self.host,
            path: self.url.path(),
            query: self.url.query(),
            method: &self.method,
            headers: &self.headers,
            websocket: self.websocket,
        }
    }
}

fn listener(named: Option<&str>, config: &Config, problems: &mut Problems) -> Option<Name> {
    let known: Vec<&str> = config.listeners.keys().map(Name::as_str).collect();
    let mend = if known.is_empty() {
        "there is none; add one first".to_owned()
    } else {
        format!("known: {}", known.join(", "))
    };
    match named {
        Some(name) => {
            let found = config.listeners.keys().find(|k| k.as_str() == name);
            if found.is_none() {
                problems.add("--listener", name, "is no listener here", mend);
            }
            found.cloned()
        }
        None if config.listeners.len() == 1 => config.listeners.keys().next().cloned(),
        None => {
            problems.add("--listener", "", "is missing, and there is not just one", mend);
            None
        }
    }
}
