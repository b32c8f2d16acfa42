//! What must be said under one name: of a header field, or of a query parameter.

use std::fmt;

use http::header::{HeaderName, HeaderValue};

use super::Pattern;
use crate::Problems;

/// What must be said under one name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Condition {
    /// In lower case for header fields.
    pub name: String,
    /// What must be true of its values.
    pub test: Test,
}

/// What must be true of the values of one name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Test {
    /// There is one.
    Present,
    /// There is none.
    Absent,
    /// One of them is this.
    Is(String),
    /// One of them fits this.
    Fits(Pattern),
}

/// Where the names stand; decides how a condition is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `name: value`
    Header,
    /// `name=value`
    Query,
}

impl Condition {
    pub(super) fn check(path: &str, given: &str, place: Place, problems: &mut Problems) -> Option<Self> {
        let (name, test) = split(given, place);
        let mend = match place {
            Place::Header => "write \"name: value\", \"name\", \"!name\" or \"name ~ pattern\"",
            Place::Query => "write \"name=value\", \"name\", \"!name\" or \"name ~ pattern\"",
        };
        let name = match place {
            Place::Header => HeaderName::from_bytes(name.as_bytes()).ok().map(|n| n.as_str().to_owned()),
            Place::Query => (!name.is_empty() && !name.contains(char::is_whitespace)).then(|| name.to_owned()),
        };
        let Some(name) = name else {
            problems.add(path, given, "does not begin with a name", mend);
            return None;
        };
        let test = match test {
            Split::Present => Test::Present,
            Split::Absent => Test::Absent,
            Split::Is(value) if place == Place::Header && HeaderValue::from_str(value).is_err() => {
                problems.add(path, given, "has a value no header field can have", "leave out control characters");
                return None;
            }
            Split::Is(value) => Test::Is(value.to_owned()),
            Split::Fits(pattern) => Test::Fits(Pattern::check(path, pattern, problems)?),
        };
        Some(Self { name, test })
    }

    /// As people write it.
    pub fn text(&self, place: Place) -> String {
        let Self { name, test } = self;
        match (test, place) {
            (Test::Present, _) => name.clone(),
            (Test::Absent, _) => format!("!{name}"),
            (Test::Is(value), Place::Header) => format!("{name}: {value}"),
            (Test::Is(value), Place::Query) => format!("{name}={value}"),
            (Test::Fits(pattern), _) => format!("{name} ~ {pattern}"),
        }
    }

    /// Whether `values`, all that is there under the name, are as they must be.
    pub(crate) fn holds<V: Value>(&self, mut values: impl Iterator<Item = V>) -> bool {
        match &self.test {
            Test::Present => values.next().is_some(),
            Test::Absent => values.next().is_none(),
            Test::Is(value) => values.any(|v| v.is(value)),
            Test::Fits(pattern) => values.any(|v| v.fits(pattern)),
        }
    }
}

/// One value, in whatever form it stands in a request.
pub(crate) trait Value {
    fn is(&self, text: &str) -> bool;
    fn fits(&self, pattern: &Pattern) -> bool;
}

impl Value for &HeaderValue {
    fn is(&self, text: &str) -> bool {
        self.as_bytes().trim_ascii() == text.as_bytes()
    }

    fn fits(&self, pattern: &Pattern) -> bool {
        std::str::from_utf8(self.as_bytes()).is_ok_and(|text| pattern.fits(text.trim_ascii()))
    }
}

enum Split<'a> {
    Present,
    Absent,
    Is(&'a str),
    Fits(&'a str),
}

fn split(text: &str, place: Place) -> (&str, Split<'_>) {
    let text = text.trim();
    if let Some(name) = text.strip_prefix('!') {
        return (name.trim(), Split::Absent);
    }
    let sign = if place == Place::Header { ':' } else { '=' };
    let tilde = " ~ ";
    match (text.find(sign), text.find(tilde)) {
        (Some(at), None) => (text[..at].trim(), Split::Is(text[at + 1..].trim())),
        (Some(at), Some(other)) if at < other => (text[..at].trim(), Split::Is(text[at + 1..].trim())),
        (_, Some(at)) => (text[..at].trim(), Split::Fits(text[at + tilde.len()..].trim())),
        (None, None) => (text, Split::Present),
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Header => "header",
            Self::Query => "query",
        })
    }
}
