//! A route: which requests it takes, and what it does with them.

mod condition;
mod frames;
mod header_ops;
mod host;
mod matching;
mod origin;
mod pattern;
mod rewrite;
mod template;

use std::sync::Arc;

use http::header::HeaderValue;

pub use condition::{Condition, Place, Test};
pub use frames::{Frames, OverRate, PingTo};
pub use header_ops::{HeaderOps, Var};
pub use host::{Host, without_port};
pub use matching::{Matching, Path, WebSocketUse};
pub use origin::{Origin, Origins, Unwelcome};
pub use pattern::Pattern;
pub use rewrite::{NewHost, NewPath, Rewrite};
pub use template::Template;

pub(crate) use condition::Value;
pub(crate) use host::bare;

use super::Name;
use crate::config::v1 as pb;
use crate::{Problems, Table};

/// Which requests it takes, and what it does with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Which requests it takes.
    pub matching: Matching,
    /// Whose pages may open WebSockets.
    pub origins: Origins,
    /// What it does.
    pub action: Action,
    /// What a backend is asked instead; nothing where there is no upstream.
    pub rewrite: Rewrite,
    /// What changes on a request's way to a backend; nothing where there is no upstream.
    pub request_headers: HeaderOps,
    /// What changes on any answer, ours too.
    pub response_headers: HeaderOps,
    /// How its sessions' frames are looked after; `None`: its sessions are bytes. Nothing where there is no upstream.
    pub frames: Option<Arc<Frames>>,
}

/// What a route does with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Takes it to an upstream that exists.
    Upstream(Name),
    /// Sends the client elsewhere.
    Redirect(Redirect),
    /// Answers it.
    Respond(Respond),
}

/// Where a client is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// A URL, or a path. Of the places only host, path and query.
    pub to: Template<Var>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// What a client is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Respond {
    /// 200 to 599.
    pub status: u16,
    /// What the body is.
    pub content_type: HeaderValue,
    /// At most [`MAX_BODY`] bytes; empty with a status that has none.
    pub body: String,
}

/// The largest body of a fixed answer, in bytes.
pub const MAX_BODY: usize = 16 * 1024;
/// The body of a fixed answer is this if nothing else is said.
const PLAIN: &str = "text/plain; charset=utf-8";
/// Permanent, and the method stays.
const REDIRECT: u16 = 308;
const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];

impl Route {
    /// One that takes everything to `upstream`.
    pub fn to(upstream: Name) -> Self {
        Self {
            matching: Matching::default(),
            origins: Origins::default(),
            action: Action::Upstream(upstream),
            rewrite: Rewrite::default(),
            request_headers: HeaderOps::default(),
            response_headers: HeaderOps::default(),
            frames: None,
        }
    }

    /// Where it takes requests, if it does.
    pub fn upstream(&self) -> Option<&Name> {
        if let Action::Upstream(name) = &self.action { Some(name) } else { None }
    }

    pub(super) fn check(path: &str, given: &pb::Route, problems: &mut Problems) -> Option<Self> {
        let matching = Matching::check(path, given, problems);
        let origins = Origins::check(&format!("{path}.origins"), &given.origins, given.origin_required, problems);
        let action = Action::check(path, given, problems);
        let request_headers =
            HeaderOps::check(&format!("{path}.request_headers"), given.request_headers.as_ref(), problems);
        let response_headers =
            HeaderOps::check(&format!("{path}.response_headers"), given.response_headers.as_ref(), problems);
        let rewrite = given.rewrite.clone().unwrap_or_default();
        let rewrite =
            Rewrite::check(&format!("{path}.rewrite"), &rewrite, matching.as_ref().map(|m| &m.path), problems);
        let frames = given.frames.as_ref().map(|f| Arc::new(Frames::check(&format!("{path}.frames"), f, problems)));
        let action = action?;
        if !matches!(action, Action::Upstream(_)) {
            if frames.is_some() {
                let why = "looks after sessions, and the route opens none";
                problems.add(format!("{path}.frames"), "", why, "leave it out");
            }
            for (key, idle) in [("rewrite", rewrite.is_empty()), ("request_headers", request_headers.is_empty())] {
                if !idle {
                    let why = "changes what a backend is asked, and the route asks none";
                    problems.add(format!("{path}.{key}"), "", why, "leave it out");
                }
            }
        }
        Some(Self { matching: matching?, origins, action, rewrite, request_headers, response_headers, frames })
    }

    pub(super) fn message(&self, name: &Name) -> pb::Route {
        let mut said = pb::Route {
            name: name.to_string(),
            origins: self.origins.texts(),
            origin_required: self.origins.required,
            rewrite: self.rewrite.message(),
            request_headers: self.request_headers.message(),
            response_headers: self.response_headers.message(),
            frames: self.frames.as_ref().map(|frames| frames.message()),
            ..Default::default()
        };
        self.matching.say(&mut said);
        self.action.say(&mut said);
        said
    }

    pub(super) fn read(name: String, t: &mut Table, problems: &mut Problems) -> pb::Route {
        let mut said = pb::Route { name, ..Default::default() };
        Matching::read(&mut said, t, problems);
        said.origins = t.text_list("origins", problems);
        said.origin_required = t.flag("origin_required", problems).unwrap_or_default();
        said.upstream = t.text("upstream", problems).unwrap_or_default();
        said.redirect = t.table("redirect", problems).map(|t| Redirect::read(t, problems));
        said.respond = t.table("respond", problems).map(|t| Respond::read(t, problems));
        said.rewrite = t.table("rewrite", problems).map(|t| Rewrite::read(t, problems));
        said.request_headers = t.table("request_headers", problems).map(|t| HeaderOps::read(t, problems));
        said.response_headers = t.table("response_headers", problems).map(|t| HeaderOps::read(t, problems));
        said.frames = t.table("frames", problems).map(|t| Frames::read(t, problems));
        said
    }

    /// What its message says, without what it does not say.
    pub(super) fn table(&self) -> toml::Table {
        let nameless = Name::new("x").expect("x is a name");
        let said = self.message(&nameless);
        let mut t = toml::Table::new();
        let texts = |pairs: &[(&str, &String)], t: &mut toml::Table| {
            for (key, text) in pairs.iter().filter(|(_, text)| !text.is_empty()) {
                t.insert((*key).to_owned(), (*text).clone().into());
            }
        };
        let lists = |pairs: &[(&str, &Vec<String>)], t: &mut toml::Table| {
            for (key, list) in pairs.iter().filter(|(_, list)| !list.is_empty()) {
                t.insert((*key).to_owned(), (*list).clone().into());
            }
        };
        let tables = [("host", &said.host), ("path", &said.path), ("path_exact", &said.path_exact)];
        texts(&tables, &mut t);
        texts(&[("path_regex", &said.path_regex)], &mut t);
        lists(
            &[
                ("listeners", &said.listeners),
                ("methods", &said.methods),
                ("headers", &said.headers),
                ("query", &said.query),
                ("protocols", &said.protocols),
            ],
            &mut t,
        );
        if self.matching.websocket != WebSocketUse::Any {
            t.insert("websocket".to_owned(), self.matching.websocket.word().into());
        }
        lists(&[("origins", &said.origins)], &mut t);
        if said.origin_required {
            t.insert("origin_required".to_owned(), true.into());
        }
        texts(&[("upstream", &said.upstream)], &mut t);
        if let Some(redirect) = &said.redirect {
            let of = toml::toml! { to = (redirect.to.clone()) status = (i64::from(redirect.status)) };
            t.insert("redirect".to_owned(), of.into());
        }
        if let Some(respond) = &said.respond {
            let mut of = toml::toml! { status = (i64::from(respond.status)) };
            texts(&[("content_type", &respond.content_type), ("body", &respond.body)], &mut of);
            t.insert("respond".to_owned(), of.into());
        }
        if let Some(rewrite) = &said.rewrite {
            let mut of = toml::Table::new();
            texts(&[("strip_prefix", &rewrite.strip_prefix), ("replace_prefix", &rewrite.replace_prefix)], &mut of);
            texts(&[("regex", &rewrite.regex), ("to", &rewrite.to), ("host", &rewrite.host)], &mut of);
            t.insert("rewrite".to_owned(), of.into());
        }
        for (key, ops) in [("request_headers", &said.request_headers), ("response_headers", &said.response_headers)] {
            if let Some(ops) = ops {
                let mut of = toml::Table::new();
                lists(&[("remove", &ops.remove), ("set", &ops.set), ("add", &ops.add)], &mut of);
                t.insert(key.to_owned(), of.into());
            }
        }
        if let Some(frames) = &self.frames {
            t.insert("frames".to_owned(), frames.table().into());
        }
        t
    }
}

impl Action {
    fn check(path: &str, given: &pb::Route, problems: &mut Problems) -> Option<Self> {
        let redirect = given.redirect.as_ref().map(|r| Redirect::check(&format!("{path}.redirect"), r, problems));
        let respond = given.respond.as_ref().map(|r| Respond::check(&format!("{path}.respond"), r, problems));
        let upstream =
            (!given.upstream.is_empty()).then(|| Name::check(&format!("{path}.upstream"), &given.upstream, problems));
        match (upstream, redirect, respond) {
            (Some(upstream), None, None) => upstream.map(Self::Upstream),
            (None, Some(redirect), None) => redirect.map(Self::Redirect),
            (None, None, Some(respond)) => respond.map(Self::Respond),
            (None, None, None) => {
                let mend = "name one of the upstreams, or a redirect or respond";
                problems.add(format!("{path}.upstream"), "", "is missing", mend);
                None
            }
            _ => {
                problems.add(path, "", "has more than one of upstream, redirect and respond", "keep one of them");
                None
            }
        }
    }

    fn say(&self, said: &mut pb::Route) {
        match self {
            Self::Upstream(name) => said.upstream = name.to_string(),
            Self::Redirect(to) => {
                said.redirect = Some(pb::Redirect { to: to.to.to_string(), status: to.status.into() });
            }
            Self::Respond(with) => {
                said.respond = Some(pb::Respond {
                    status: with.status.into(),
                    content_type: String::from_utf8_lossy(with.content_type.as_bytes()).into_owned(),
                    body: with.body.clone(),
                });
            }
        }
    }
}

impl Redirect {
    fn check(path: &str, given: &pb::Redirect, problems: &mut Problems) -> Option<Self> {
        let status = match given.status {
            0 => Some(REDIRECT),
            status => u16::try_from(status).ok().filter(|s| REDIRECTS.contains(s)),
        };
        if status.is_none() {
            let why = "is no redirect's status";
            problems.add(format!("{path}.status"), given.status, why, "use 301, 302, 303, 307 or 308");
        }
        let known = |name: &str| Var::read(name).filter(|v| matches!(v, Var::Host | Var::Path | Var::Query));
        let begins = ["http://", "https://", "/", "{path}"].iter().any(|b| given.to.starts_with(b));
        let mend = "write it like \"https://{host}{path}{query}\" or \"/elsewhere\"";
        let at = format!("{path}.to");
        let to = match Template::parse(&given.to, known) {
            Ok(to) if begins && to.texts().all(|t| t.bytes().all(|b| b.is_ascii_graphic())) => Some(to),
            Ok(_) => {
                problems.add(at, &given.to, "is neither an http URL nor a path", mend);
                None
            }
            Err(why) => {
                problems.add(at, &given.to, why, mend);
                None
            }
        };
        Some(Self { to: to?, status: status? })
    }

    fn read(mut t: Table, problems: &mut Problems) -> pb::Redirect {
        let redirect = pb::Redirect {
            to: t.text("to", problems).unwrap_or_default(),
            status: t.number("status", problems).unwrap_or_default(),
        };
        t.finish(problems);
        redirect
    }
}

impl Respond {
    fn check(path: &str, given: &pb::Respond, problems: &mut Problems) -> Option<Self> {
        let status = u16::try_from(given.status).ok().filter(|s| (200..=599).contains(s));
        if status.is_none() {
            problems.add(format!("{path}.status"), given.status, "is no answer's status", "use 200 to 599");
        }
        let content_type = if given.content_type.is_empty() { PLAIN } else { &given.content_type };
        let content_type = HeaderValue::from_str(content_type).ok();
        if content_type.is_none() {
            let mend = "write it like \"text/html; charset=utf-8\"";
            problems.add(format!("{path}.content_type"), &given.content_type, "is no content type", mend);
        }
        let at = format!("{path}.body");
        if given.body.len() > MAX_BODY {
            let why = format!("is {} bytes long", given.body.len());
            problems.add(at, "", why, format!("keep to {MAX_BODY} bytes; a larger page belongs on a backend"));
            return None;
        }
        if !given.body.is_empty() && matches!(status, Some(204 | 205 | 304)) {
            problems.add(at, "", format!("cannot be sent with {}", given.status), "leave it out");
            return None;
        }
        Some(Self { status: status?, content_type: content_type?, body: given.body.clone() })
    }

    fn read(mut t: Table, problems: &mut Problems) -> pb::Respond {
        let respond = pb::Respond {
            status: t.number("status", problems).unwrap_or_default(),
            content_type: t.text("content_type", problems).unwrap_or_default(),
            body: t.text("body", problems).unwrap_or_default(),
        };
        t.finish(problems);
        respond
    }
}
