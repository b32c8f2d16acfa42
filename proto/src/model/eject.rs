//! Passive ejection: when what clients meet takes a backend out for a while.

use std::time::Duration;

use super::words;
use crate::config::v1 as pb;
use crate::{Problems, Table};

/// When failed connections and handshakes of clients take a backend out for a while, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eject {
    /// Failures in a row; 0: never.
    pub after: u32,
    /// The first time out; each further one is twice as long.
    pub base: Duration,
    /// The longest time out.
    pub max: Duration,
    /// Percent of the upstream's backends that may be out at once; one always may, and never the last one.
    pub share: u32,
}

impl Default for Eject {
    fn default() -> Self {
        Self { after: 5, base: Duration::from_secs(10), max: Duration::from_secs(300), share: 50 }
    }
}

impl Eject {
    /// `given` over this one: what is zero or absent keeps its value.
    pub(super) fn merged(&self, path: &str, given: Option<&pb::Eject>, problems: &mut Problems) -> Self {
        let Some(given) = given else { return self.clone() };
        let time = |ms: u32, base: Duration| if ms == 0 { base } else { Duration::from_millis(ms.into()) };
        let eject = Self {
            after: given.after.unwrap_or(self.after),
            base: time(given.base_ms, self.base),
            max: time(given.max_ms, self.max),
            share: if given.share_percent == 0 { self.share } else { given.share_percent },
        };
        if eject.base > eject.max {
            let why = format!("is longer than max, {}", words::time(eject.max));
            problems.add(format!("{path}.base"), words::time(eject.base), why, "make base shorter, or max longer");
        }
        if eject.share > 100 {
            problems.add(format!("{path}.share"), eject.share, "is more than all", "use a percentage from 1 to 100");
        }
        eject
    }

    /// `None` if it is the default.
    pub(super) fn message(&self) -> Option<pb::Eject> {
        (*self != Self::default()).then(|| pb::Eject {
            after: Some(self.after),
            base_ms: words::millis(self.base),
            max_ms: words::millis(self.max),
            share_percent: self.share,
        })
    }

    pub(super) fn read(mut t: Table, problems: &mut Problems) -> pb::Eject {
        let eject = pb::Eject {
            after: t.count("after", problems),
            base_ms: words::read_ms(&mut t, "base", problems),
            max_ms: words::read_ms(&mut t, "max", problems),
            share_percent: t.number("share", problems).unwrap_or(0),
        };
        t.finish(problems);
        eject
    }

    /// `None` if it is the default.
    pub(super) fn table(&self) -> Option<toml::Table> {
        (*self != Self::default()).then(|| {
            toml::toml! {
                after = (i64::from(self.after))
                base = (words::time(self.base))
                max = (words::time(self.max))
                share = (i64::from(self.share))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let said = |given: pb::Eject| {
            let mut problems = Problems::default();
            Eject::default().merged("e", Some(&given), &mut problems);
            problems.to_string()
        };
        assert_eq!(said(pb::Eject { after: Some(0), share_percent: 100, ..Default::default() }), "");
        let expected = r#"e.share = "101": is more than all; use a percentage from 1 to 100"#;
        assert_eq!(said(pb::Eject { share_percent: 101, ..Default::default() }), expected);
        let expected = r#"e.base = "6m": is longer than max, 5m; make base shorter, or max longer"#;
        assert_eq!(said(pb::Eject { base_ms: 360_000, ..Default::default() }), expected);
    }
}
