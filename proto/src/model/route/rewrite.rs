//! What a backend is asked instead of what the client asked.

use http::HeaderValue;
use http::uri::Authority;

use super::matching::{Path, written};
use super::{Pattern, Template};
use crate::config::v1 as pb;
use crate::{Problems, Table};

/// What a backend is asked instead.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rewrite {
    /// Its path.
    pub path: NewPath,
    /// Its `Host`.
    pub host: NewHost,
}

/// The path a backend is asked for. The query stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NewPath {
    /// As the client wrote it.
    #[default]
    Same,
    /// Without this prefix, where it has it.
    Without(String),
    /// With this in place of the route's prefix.
    Instead(String),
    /// What becomes of the groups of a pattern, where it fits. A query in it comes before the request's own.
    Made(Pattern, Template<usize>),
}

/// The host a backend is told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum NewHost {
    /// As the client wrote it.
    #[default]
    Same,
    /// The backend's own address.
    Backend,
    /// This.
    Named(HeaderValue),
}

/// How people write [`NewHost::Backend`].
const BACKEND: &str = "{backend}";

impl Rewrite {
    /// `taken`: what path the route takes, if that is known.
    pub(super) fn check(path: &str, given: &pb::Rewrite, taken: Option<&Path>, problems: &mut Problems) -> Self {
        let ways = [&given.strip_prefix, &given.replace_prefix, &given.regex];
        if ways.iter().filter(|w| !w.is_empty()).count() > 1 {
            problems.add(path, "", "has more than one of strip_prefix, replace_prefix and regex", "keep one of them");
        }
        if given.regex.is_empty() != given.to.is_empty() {
            problems.add(path, "", "has only one of regex and to", "name both, or neither");
        }
        if !given.replace_prefix.is_empty() && taken.is_some_and(|taken| !matches!(taken, Path::Prefix(_))) {
            let why = "replaces a prefix, and the route's path is none";
            problems.add(format!("{path}.replace_prefix"), &given.replace_prefix, why, "use regex and to");
        }
        Self { path: new_path(path, given, problems).unwrap_or_default(), host: new_host(path, &given.host, problems) }
    }

    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn message(&self) -> Option<pb::Rewrite> {
        if self.is_empty() {
            return None;
        }
        let mut said = pb::Rewrite::default();
        match &self.path {
            NewPath::Same => {}
            NewPath::Without(prefix) => said.strip_prefix.clone_from(prefix),
            NewPath::Instead(prefix) => said.replace_prefix.clone_from(prefix),
            NewPath::Made(pattern, to) => (said.regex, said.to) = (pattern.to_string(), to.to_string()),
        }
        match &self.host {
            NewHost::Same => {}
            NewHost::Backend => BACKEND.clone_into(&mut said.host),
            NewHost::Named(host) => said.host = String::from_utf8_lossy(host.as_bytes()).into_owned(),
        }
        Some(said)
    }

    pub(super) fn read(mut t: Table, problems: &mut Problems) -> pb::Rewrite {
        let mut text = |key| t.text(key, problems).unwrap_or_default();
        let rewrite = pb::Rewrite {
            strip_prefix: text("strip_prefix"),
            replace_prefix: text("replace_prefix"),
            regex: text("regex"),
            to: text("to"),
            host: text("host"),
        };
        t.finish(problems);
        rewrite
    }
}

fn new_path(path: &str, given: &pb::Rewrite, problems: &mut Problems) -> Option<NewPath> {
    if !given.strip_prefix.is_empty() {
        return written(&format!("{path}.strip_prefix"), &given.strip_prefix, problems).map(NewPath::Without);
    }
    if !given.replace_prefix.is_empty() {
        return written(&format!("{path}.replace_prefix"), &given.replace_prefix, problems).map(NewPath::Instead);
    }
    if given.regex.is_empty() {
        return None;
    }
    let pattern = Pattern::check(&format!("{path}.regex"), &given.regex, problems)?;
    let at = format!("{path}.to");
    let ok = |t: &str| t.bytes().all(|b| b.is_ascii_graphic() && b != b'#');
    match Template::parse(&given.to, |name| pattern.group(name)) {
        Ok(to) if to.texts().all(ok) => Some(NewPath::Made(pattern, to)),
        Ok(_) => {
            problems.add(at, &given.to, "is no path", "leave out blanks and #");
            None
        }
        Err(why) => {
            problems.add(at, &given.to, why, "{1} is the first group of regex, {name} the one written (?<name>…)");
            None
        }
    }
}

fn new_host(path: &str, given: &str, problems: &mut Problems) -> NewHost {
    if given.is_empty() || given == BACKEND {
        return if given.is_empty() { NewHost::Same } else { NewHost::Backend };
    }
    let authority = given.parse::<Authority>().ok().filter(|a| !a.as_str().contains('@'));
    let value = authority.and_then(|_| HeaderValue::from_str(given).ok());
    value.map_or_else(
        || {
            let mend = format!("write a host, with a port if it needs one, or \"{BACKEND}\"");
            problems.add(format!("{path}.host"), given, "is no host", mend);
            NewHost::Same
        },
        NewHost::Named,
    )
}
