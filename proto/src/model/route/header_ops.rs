//! What a route does to the header fields of requests or answers.

use http::header::{HeaderName, HeaderValue};

use super::Template;
use crate::config::v1 as pb;
use crate::{Problems, Table};

/// What a route does to header fields; in this order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeaderOps {
    /// These go.
    pub remove: Vec<HeaderName>,
    /// These stand instead of what is there.
    pub set: Vec<(HeaderName, Template<Var>)>,
    /// These stand beside what is there.
    pub add: Vec<(HeaderName, Template<Var>)>,
}

/// What a header value may speak of: the request as the client made it, never as it was rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Var {
    /// The client's IP address, without its port.
    ClientIp,
    /// The host that was asked, without its port.
    Host,
    /// The path.
    Path,
    /// The query with its `?`, or nothing.
    Query,
    /// The listener's name.
    Listener,
    /// The route's name.
    Route,
}

impl Var {
    const WORDS: [(&str, Self); 6] = [
        ("client_ip", Self::ClientIp),
        ("host", Self::Host),
        ("path", Self::Path),
        ("query", Self::Query),
        ("listener", Self::Listener),
        ("route", Self::Route),
    ];

    /// Which one `{word}` is.
    pub(super) fn read(word: &str) -> Option<Self> {
        Self::WORDS.iter().find(|(known, _)| *known == word).map(|(_, var)| *var)
    }
}

/// Fields that speak of one connection, frame the body, name the host or belong to the handshake: whoever changes them
/// changes what the message is (RFC 9110 section 7.6.1, RFC 9112 section 6, RFC 6455 section 4).
const OURS: [&str; 13] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

impl HeaderOps {
    pub(super) fn check(path: &str, given: Option<&pb::HeaderOps>, problems: &mut Problems) -> Self {
        let Some(given) = given else { return Self::default() };
        let each = |key: &str, texts: &[String], problems: &mut Problems| {
            let at = |(i, text): (usize, &String)| field(&format!("{path}.{key}[{i}]"), text, problems);
            texts.iter().enumerate().filter_map(at).collect()
        };
        let remove = |(i, text): (usize, &String)| name(&format!("{path}.remove[{i}]"), text, text, problems);
        Self {
            remove: given.remove.iter().enumerate().filter_map(remove).collect(),
            set: each("set", &given.set, problems),
            add: each("add", &given.add, problems),
        }
    }

    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }

    pub(super) fn message(&self) -> Option<pb::HeaderOps> {
        let texts = |all: &[(HeaderName, Template<Var>)]| all.iter().map(|(n, v)| format!("{n}: {v}")).collect();
        (!self.is_empty()).then(|| pb::HeaderOps {
            remove: self.remove.iter().map(ToString::to_string).collect(),
            set: texts(&self.set),
            add: texts(&self.add),
        })
    }

    pub(super) fn read(mut t: Table, problems: &mut Problems) -> pb::HeaderOps {
        let ops = pb::HeaderOps {
            remove: t.text_list("remove", problems),
            set: t.text_list("set", problems),
            add: t.text_list("add", problems),
        };
        t.finish(problems);
        ops
    }
}

fn field(path: &str, text: &str, problems: &mut Problems) -> Option<(HeaderName, Template<Var>)> {
    let Some((field, value)) = text.split_once(':') else {
        problems.add(path, text, "has no colon", "write \"name: value\"");
        return None;
    };
    let name = name(path, field.trim(), text, problems)?;
    match Template::parse(value.trim(), Var::read) {
        // What is filled in later has been in a header field or a request line before.
        Ok(value) if value.texts().all(|t| HeaderValue::from_str(t).is_ok()) => Some((name, value)),
        Ok(_) => {
            problems.add(path, text, "has a value no header field can have", "leave out control characters");
            None
        }
        Err(why) => {
            let known: Vec<String> = Var::WORDS.iter().map(|(word, _)| format!("{{{word}}}")).collect();
            problems.add(path, text, why, format!("known: {}; a brace itself is {{{{", known.join(", ")));
            None
        }
    }
}

fn name(path: &str, name: &str, text: &str, problems: &mut Problems) -> Option<HeaderName> {
    let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
        problems.add(path, text, "does not begin with the name of a header field", "write \"name: value\"");
        return None;
    };
    if OURS.contains(&name.as_str()) || name.as_str().starts_with("sec-websocket-") {
        let mend = if name == "host" { "use rewrite.host" } else { "leave it out: the proxy must write it itself" };
        problems.add(path, text, format!("touches {name}, which says what the message is"), mend);
        return None;
    }
    Some(name)
}
