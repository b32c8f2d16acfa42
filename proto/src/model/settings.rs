//! What holds for all clients, at each node by itself: limits and timers.

use std::num::NonZeroU32;
use std::time::Duration;

use super::words;
use crate::config::v1 as pb;
use crate::{Problems, Table};

/// What holds for all clients. A change holds for connections that come after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The most sessions of one client address (IPv6: of one /64) at a node. Those that were open before there was a limit
    /// do not count.
    pub sessions_per_client_ip: Option<NonZeroU32>,
    /// Handshakes that one client address (IPv6: one /64) may ask of a node in a second.
    pub upgrades_per_second_per_ip: Option<NonZeroU32>,
    /// Handshakes that all clients together may ask of a node in a second. After a failover it paces those who come back.
    pub upgrades_per_second: Option<NonZeroU32>,
    /// How many handshakes may come at once after a quiet time, of one client as of all; `None`: one second's worth.
    pub upgrade_burst: Option<NonZeroU32>,
    /// The most sessions of a node.
    pub max_sessions: Option<NonZeroU32>,
    /// A request's head must be complete this long after its first byte, else 408; a new connection must begin one, and
    /// send its PROXY header, this soon.
    pub head_timeout: Duration,
    /// The most bytes of a request's head; more is answered 431.
    pub head_max_bytes: u32,
    /// From one piece of a request's body to the next, else 408.
    pub body_timeout: Duration,
    /// How long a client's connection may wait for its next request.
    pub keep_alive: Duration,
    /// A session that one side has closed may be silent for this long before it is ended.
    pub close_timeout: Duration,
    /// How long sent data may stay unacknowledged, or find no room at the receiver, before the connection is given up
    /// (TCP_USER_TIMEOUT, RFC 5482); `None`: as the system does it.
    pub tcp_user_timeout: Option<Duration>,
    /// A connection silent for this long is asked whether its other end is still there (SO_KEEPALIVE); `None`: never.
    pub tcp_keepalive: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sessions_per_client_ip: None,
            upgrades_per_second_per_ip: None,
            upgrades_per_second: None,
            upgrade_burst: None,
            max_sessions: None,
            head_timeout: Duration::from_secs(10),
            head_max_bytes: 32 * 1024,
            body_timeout: Duration::from_secs(60),
            keep_alive: Duration::from_secs(75),
            close_timeout: Duration::from_secs(60),
            tcp_user_timeout: Some(Duration::from_secs(60)),
            tcp_keepalive: Some(Duration::from_secs(120)),
        }
    }
}

/// Smaller and no browser gets in; larger and one client's head is a worker's memory.
const HEAD_BYTES: std::ops::RangeInclusive<u32> = 1024..=1024 * 1024;
/// Linux keeps TCP_KEEPIDLE in 15 bits of seconds.
const MOST_KEEPALIVE: Duration = Duration::from_secs(32_767);
/// Beyond it a handshake's share of a second is less than the clock can tell apart.
const MOST_PER_SECOND: u32 = 1_000_000;

impl Settings {
    /// `given` over these: what it leaves out keeps its value.
    pub(super) fn merged(&self, given: &pb::Settings, problems: &mut Problems) -> Self {
        let number = |given: Option<u32>, kept| given.map_or(kept, NonZeroU32::new);
        let mut time = |key: &str, given: Option<u32>, kept| match given {
            None => kept,
            Some(0) => {
                problems.add(format!("settings.{key}"), "0", "would leave no time", "write it like \"10s\"");
                kept
            }
            Some(ms) => Duration::from_millis(ms.into()),
        };
        let all = Self {
            sessions_per_client_ip: number(given.sessions_per_client_ip, self.sessions_per_client_ip),
            upgrades_per_second_per_ip: number(given.upgrades_per_second_per_ip, self.upgrades_per_second_per_ip),
            upgrades_per_second: number(given.upgrades_per_second, self.upgrades_per_second),
            upgrade_burst: number(given.upgrade_burst, self.upgrade_burst),
            max_sessions: number(given.max_sessions, self.max_sessions),
            head_timeout: time("head_timeout", given.head_timeout_ms, self.head_timeout),
            head_max_bytes: given.head_max_bytes.unwrap_or(self.head_max_bytes),
            body_timeout: time("body_timeout", given.body_timeout_ms, self.body_timeout),
            keep_alive: time("keep_alive", given.keep_alive_ms, self.keep_alive),
            close_timeout: time("close_timeout", given.close_timeout_ms, self.close_timeout),
            tcp_user_timeout: given.tcp_user_timeout_ms.map_or(self.tcp_user_timeout, words::unless_zero),
            tcp_keepalive: given.tcp_keepalive_ms.map_or(self.tcp_keepalive, words::unless_zero),
        };
        all.check(problems);
        all
    }

    fn check(&self, problems: &mut Problems) {
        if !HEAD_BYTES.contains(&self.head_max_bytes) {
            let mend = format!("use {} to {}", HEAD_BYTES.start(), HEAD_BYTES.end());
            problems.add("settings.head_max_bytes", self.head_max_bytes, "is no size for a head", mend);
        }
        let rates = [
            ("upgrades_per_second", self.upgrades_per_second),
            ("upgrades_per_second_per_ip", self.upgrades_per_second_per_ip),
        ];
        for (key, rate) in rates {
            if let Some(rate) = rate.filter(|rate| rate.get() > MOST_PER_SECOND) {
                let mend = format!("use 1 to {MOST_PER_SECOND}, or leave it out");
                problems.add(format!("settings.{key}"), rate, "is too fast to be a limit", mend);
            }
        }
        if let Some(burst) = self.upgrade_burst.filter(|_| rates.iter().all(|(_, rate)| rate.is_none())) {
            let mend = "set upgrades_per_second or upgrades_per_second_per_ip too, or leave it out";
            problems.add("settings.upgrade_burst", burst, "is the burst of no rate", mend);
        }
        let second = Duration::from_secs(1);
        if let Some(time) = self.tcp_keepalive.filter(|time| *time < second || *time > MOST_KEEPALIVE) {
            let mend = format!("use 1s to {}, or \"off\"", words::time(MOST_KEEPALIVE));
            problems.add("settings.tcp_keepalive", words::time(time), "is no time the system can keep", mend);
        }
        if let Some(time) = self.tcp_user_timeout.filter(|time| *time < second) {
            let mend = "use 1s or more, or \"off\"";
            problems.add("settings.tcp_user_timeout", words::time(time), "is shorter than networks need", mend);
        }
    }

    pub(super) fn message(&self) -> pb::Settings {
        let number = |n: Option<NonZeroU32>| Some(n.map_or(0, NonZeroU32::get));
        let time = |d: Duration| Some(words::millis(d));
        pb::Settings {
            sessions_per_client_ip: number(self.sessions_per_client_ip),
            upgrades_per_second_per_ip: number(self.upgrades_per_second_per_ip),
            upgrades_per_second: number(self.upgrades_per_second),
            upgrade_burst: number(self.upgrade_burst),
            max_sessions: number(self.max_sessions),
            head_timeout_ms: time(self.head_timeout),
            head_max_bytes: Some(self.head_max_bytes),
            body_timeout_ms: time(self.body_timeout),
            keep_alive_ms: time(self.keep_alive),
            close_timeout_ms: time(self.close_timeout),
            tcp_user_timeout_ms: Some(self.tcp_user_timeout.map_or(0, words::millis)),
            tcp_keepalive_ms: Some(self.tcp_keepalive.map_or(0, words::millis)),
        }
    }

    pub(super) fn read(mut t: Table, problems: &mut Problems) -> pb::Settings {
        let settings = pb::Settings {
            sessions_per_client_ip: t.count("sessions_per_client_ip", problems),
            upgrades_per_second_per_ip: t.count("upgrades_per_second_per_ip", problems),
            upgrades_per_second: t.count("upgrades_per_second", problems),
            upgrade_burst: t.count("upgrade_burst", problems),
            max_sessions: t.count("max_sessions", problems),
            head_timeout_ms: words::read_some_ms(&mut t, "head_timeout", problems),
            head_max_bytes: t.number("head_max_bytes", problems),
            body_timeout_ms: words::read_some_ms(&mut t, "body_timeout", problems),
            keep_alive_ms: words::read_some_ms(&mut t, "keep_alive", problems),
            close_timeout_ms: words::read_some_ms(&mut t, "close_timeout", problems),
            tcp_user_timeout_ms: words::read_ms_or_off(&mut t, "tcp_user_timeout", problems),
            tcp_keepalive_ms: words::read_ms_or_off(&mut t, "tcp_keepalive", problems),
        };
        t.finish(problems);
        settings
    }

    /// All of them, as people write them; `settings show` prints this.
    pub fn words(&self) -> Vec<(&'static str, String)> {
        let number = |n: Option<NonZeroU32>| n.map_or_else(|| "0".to_owned(), |n| n.to_string());
        let time = |d: Duration| words::time(d);
        vec![
            ("sessions_per_client_ip", number(self.sessions_per_client_ip)),
            ("upgrades_per_second_per_ip", number(self.upgrades_per_second_per_ip)),
            ("upgrades_per_second", number(self.upgrades_per_second)),
            ("upgrade_burst", number(self.upgrade_burst)),
            ("max_sessions", number(self.max_sessions)),
            ("head_timeout", time(self.head_timeout)),
            ("head_max_bytes", self.head_max_bytes.to_string()),
            ("body_timeout", time(self.body_timeout)),
            ("keep_alive", time(self.keep_alive)),
            ("close_timeout", time(self.close_timeout)),
            ("tcp_user_timeout", words::time_or_off(self.tcp_user_timeout)),
            ("tcp_keepalive", words::time_or_off(self.tcp_keepalive)),
        ]
    }

    /// What is as usual is left out.
    pub(super) fn table(&self) -> toml::Table {
        let value = |text: String| match text.parse::<i64>() {
            Ok(number) => toml::Value::from(number),
            Err(_) => toml::Value::from(text),
        };
        let pairs = self.words().into_iter().zip(Self::default().words());
        pairs.filter(|(now, usual)| now != usual).map(|((key, text), _)| (key.to_owned(), value(text))).collect()
    }
}
