//! A health check: how a backend is found healthy or not.

use std::num::NonZeroU32;
use std::time::Duration;

use super::words;
use crate::config::v1 as pb;
use crate::{Problems, Table};

/// How a backend is found healthy or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What is tried.
    pub kind: CheckKind,
    /// From one try to the next.
    pub interval: Duration,
    /// A try that takes longer has failed.
    pub timeout: Duration,
    /// Successes in a row that bring it up.
    pub rise: NonZeroU32,
    /// Failures in a row that take it down.
    pub fall: NonZeroU32,
}

impl Default for Check {
    fn default() -> Self {
        Self {
            kind: CheckKind::Tcp,
            interval: Duration::from_secs(1),
            timeout: Duration::from_millis(500),
            rise: NonZeroU32::MIN,
            fall: NonZeroU32::MIN.saturating_add(1),
        }
    }
}

/// What a health check tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckKind {
    /// Nothing: always up.
    None,
    /// A TCP connection is accepted.
    Tcp,
}

words::words!(CheckKind = pb::CheckKind { None = "none", Tcp = "tcp" });

impl Check {
    /// `given` over this one: what is zero or absent keeps its value.
    pub(super) fn merged(&self, path: &str, given: Option<&pb::Check>, problems: &mut Problems) -> Self {
        let Some(given) = given else { return self.clone() };
        let time = |ms: u32, base: Duration| if ms == 0 { base } else { Duration::from_millis(ms.into()) };
        let check = Self {
            kind: CheckKind::said(given.kind).unwrap_or(self.kind),
            interval: time(given.interval_ms, self.interval),
            timeout: time(given.timeout_ms, self.timeout),
            rise: NonZeroU32::new(given.rise).unwrap_or(self.rise),
            fall: NonZeroU32::new(given.fall).unwrap_or(self.fall),
        };
        if check.interval < Duration::from_millis(50) {
            problems.add(format!("{path}.interval"), words::time(check.interval), "is too short", "use 50ms or more");
        }
        check
    }

    pub(super) fn message(&self) -> pb::Check {
        pb::Check {
            kind: self.kind.into(),
            interval_ms: words::millis(self.interval),
            timeout_ms: words::millis(self.timeout),
            rise: self.rise.get(),
            fall: self.fall.get(),
        }
    }

    pub(super) fn read(mut t: Table, problems: &mut Problems) -> pb::Check {
        let check = pb::Check {
            kind: words::read(&mut t, "kind", CheckKind::WORDS, problems),
            interval_ms: words::read_ms(&mut t, "interval", problems),
            timeout_ms: words::read_ms(&mut t, "timeout", problems),
            rise: t.number("rise", problems).unwrap_or(0),
            fall: t.number("fall", problems).unwrap_or(0),
        };
        t.finish(problems);
        check
    }

    pub(super) fn table(&self) -> toml::Table {
        toml::toml! {
            kind = (self.kind.word())
            interval = (words::time(self.interval))
            timeout = (words::time(self.timeout))
            rise = (i64::from(self.rise.get()))
            fall = (i64::from(self.fall.get()))
        }
    }
}
