//! How long an upstream's backends may take, and how often another one is tried.

use std::time::Duration;

use super::words;
use crate::config::v1 as pb;
use crate::{Problems, Table};

/// How long an upstream's backends may take, and how often another one is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection to a backend.
    pub dial: Duration,
    /// For a backend's answer to a WebSocket handshake; then the next backend is tried.
    pub upgrade: Duration,
    /// For a backend's answer to a plain request. Long polls, the fallback of most WebSocket libraries, hold theirs for
    /// half a minute; so this one is not the upgrade's.
    pub response: Duration,
    /// A session with no byte either way for this long is ended; `None`: never. Looked at once a second.
    pub idle: Option<Duration>,
    /// Backends tried after the first one failed, as long as the client has no answer yet.
    pub retries: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            dial: Duration::from_secs(1),
            upgrade: Duration::from_secs(10),
            response: Duration::from_secs(60),
            idle: Some(Duration::from_secs(3600)),
            retries: 2,
        }
    }
}

/// More would keep a client waiting for an upstream that is down.
const MOST_RETRIES: u32 = 16;

impl Timeouts {
    /// An upstream's message.
    pub(super) fn check(path: &str, given: &pb::Upstream, problems: &mut Problems) -> Self {
        Self::default().merged(
            path,
            &pb::SetUpstream {
                dial_timeout_ms: Some(given.dial_timeout_ms),
                upgrade_timeout_ms: Some(given.upgrade_timeout_ms),
                response_timeout_ms: Some(given.response_timeout_ms),
                idle_timeout_ms: given.idle_timeout_ms,
                retries: given.retries,
                ..Default::default()
            },
            problems,
        )
    }

    /// `set` over this one: what is absent keeps its value.
    pub(super) fn merged(&self, path: &str, set: &pb::SetUpstream, problems: &mut Problems) -> Self {
        let usual = Self::default();
        let time = |given: Option<u32>, kept: Duration, usual: Duration| match given {
            None => kept,
            Some(0) => usual,
            Some(ms) => Duration::from_millis(ms.into()),
        };
        let retries = set.retries.unwrap_or(self.retries);
        if retries > MOST_RETRIES {
            problems.add(format!("{path}.retries"), retries, "is too many", format!("use 0 to {MOST_RETRIES}"));
        }
        Self {
            dial: time(set.dial_timeout_ms, self.dial, usual.dial),
            upgrade: time(set.upgrade_timeout_ms, self.upgrade, usual.upgrade),
            response: time(set.response_timeout_ms, self.response, usual.response),
            idle: set.idle_timeout_ms.map_or(self.idle, words::unless_zero),
            retries,
        }
    }

    pub(super) fn write(&self, to: &mut pb::Upstream) {
        to.dial_timeout_ms = words::millis(self.dial);
        to.upgrade_timeout_ms = words::millis(self.upgrade);
        to.response_timeout_ms = words::millis(self.response);
        to.idle_timeout_ms = Some(self.idle.map_or(0, words::millis));
        to.retries = Some(self.retries);
    }

    pub(super) fn read(t: &mut Table, to: &mut pb::Upstream, problems: &mut Problems) {
        to.dial_timeout_ms = words::read_ms(t, "dial_timeout", problems);
        to.upgrade_timeout_ms = words::read_ms(t, "upgrade_timeout", problems);
        to.response_timeout_ms = words::read_ms(t, "response_timeout", problems);
        to.idle_timeout_ms = words::read_ms_or_off(t, "idle_timeout", problems);
        to.retries = t.count("retries", problems);
    }

    /// What is as usual is left out.
    pub(super) fn put(&self, t: &mut toml::Table) {
        let usual = Self::default();
        let times = [
            ("dial_timeout", self.dial, usual.dial),
            ("upgrade_timeout", self.upgrade, usual.upgrade),
            ("response_timeout", self.response, usual.response),
        ];
        for (key, time, _) in times.into_iter().filter(|(_, time, usual)| time != usual) {
            t.insert(key.to_owned(), words::time(time).into());
        }
        if self.idle != usual.idle {
            t.insert("idle_timeout".to_owned(), words::time_or_off(self.idle).into());
        }
        if self.retries != usual.retries {
            t.insert("retries".to_owned(), i64::from(self.retries).into());
        }
    }
}
