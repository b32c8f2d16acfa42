//! What things are called.

use std::fmt;
use std::sync::Arc;

use crate::Problems;

/// The name of a listener, route, upstream or virtual IP: `[a-z0-9][a-z0-9._-]*`, at most 63 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// `None` if the text is no name.
    pub fn new(text: &str) -> Option<Self> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let ok = (1..=63).contains(&text.len())
            && plain(text.as_bytes()[0])
            && text.bytes().all(|b| plain(b) || matches!(b, b'.' | b'_' | b'-'));
        ok.then(|| Self(text.into()))
    }

    pub(super) fn check(path: &str, given: &str, problems: &mut Problems) -> Option<Self> {
        let name = Self::new(given);
        if name.is_none() {
            let mend = "use 1 to 63 of a-z 0-9 . _ - and begin with a letter or digit";
            problems.add(path, given, "is no name", mend);
        }
        name
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}
