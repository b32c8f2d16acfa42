//! How the frames of a route's WebSockets are looked after.

use std::num::NonZeroU32;
use std::time::Duration;

use super::super::words;
use crate::config::v1 as pb;
use crate::{Problems, Table};

/// How the frames of a route's WebSockets are looked after (RFC 6455).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frames {
    /// Who is pinged.
    pub ping: PingTo,
    /// From one ping to the next; a fifth of it sooner at most, so that not all sessions are pinged at once.
    pub ping_interval: Duration,
    /// Whoever has not answered one for so long is gone.
    pub pong_timeout: Duration,
    /// The most bytes of a frame's payload as it is on the wire.
    pub max_frame: Option<NonZeroU32>,
    /// The most bytes of all frames of a message, as they are on the wire.
    pub max_message: Option<NonZeroU32>,
    /// Messages a client may send in a second, and at once after a quiet one.
    pub messages_per_second: Option<NonZeroU32>,
    /// Bytes a client may send in a second, and at once after a quiet one.
    pub bytes_per_second: Option<NonZeroU32>,
    /// What becomes of a client that sends more.
    pub over_rate: OverRate,
    /// Sessions end at this age; a tenth of it sooner at most, so that not all end at once.
    pub max_age: Option<Duration>,
}

/// Who is pinged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PingTo {
    /// Client and backend.
    #[default]
    Both,
    /// The client.
    Client,
    /// The backend.
    Backend,
    /// Nobody.
    Off,
}

words::words!(PingTo = pb::PingTo { Both = "both", Client = "client", Backend = "backend", Off = "off" });

/// What becomes of a client that sends more than it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OverRate {
    /// It is read no faster.
    #[default]
    Delay,
    /// Its session is ended (1008).
    Close,
}

words::words!(OverRate = pb::OverRate { Delay = "delay", Close = "close" });

impl Default for Frames {
    fn default() -> Self {
        Self {
            ping: PingTo::default(),
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(10),
            max_frame: None,
            max_message: None,
            messages_per_second: None,
            bytes_per_second: None,
            over_rate: OverRate::default(),
            max_age: None,
        }
    }
}

/// Sessions are looked at once a second: less could not be kept.
const SOONEST: Duration = Duration::from_secs(1);
/// A control frame's payload must always fit (RFC 6455 section 5.5).
const SMALLEST: u32 = 125;

impl Frames {
    pub(super) fn check(path: &str, given: &pb::Frames, problems: &mut Problems) -> Self {
        let usual = Self::default();
        let mut time = |key: &str, ms: u32, usual: Duration| {
            let time = words::unless_zero(ms).unwrap_or(usual);
            if time < SOONEST {
                let why = "is too short: sessions are looked at once a second";
                problems.add(format!("{path}.{key}"), words::time(time), why, "use \"1s\" or more");
            }
            time
        };
        let ping_interval = time("ping_interval", given.ping_interval_ms, usual.ping_interval);
        let pong_timeout = time("pong_timeout", given.pong_timeout_ms, usual.pong_timeout);
        let max_age = words::unless_zero(given.max_age_ms).map(|age| time("max_age", given.max_age_ms, age));
        for (key, most) in [("max_frame", given.max_frame), ("max_message", given.max_message)] {
            if (1..SMALLEST).contains(&most) {
                let why = "is less than a control frame may have";
                problems.add(format!("{path}.{key}"), most, why, format!("use {SMALLEST} bytes or more"));
            }
        }
        Self {
            ping: PingTo::said(given.ping).unwrap_or_default(),
            ping_interval,
            pong_timeout,
            max_frame: NonZeroU32::new(given.max_frame),
            max_message: NonZeroU32::new(given.max_message),
            messages_per_second: NonZeroU32::new(given.messages_per_second),
            bytes_per_second: NonZeroU32::new(given.bytes_per_second),
            over_rate: OverRate::said(given.over_rate).unwrap_or_default(),
            max_age,
        }
    }

    pub(super) fn message(&self) -> pb::Frames {
        let number = |n: Option<NonZeroU32>| n.map_or(0, NonZeroU32::get);
        pb::Frames {
            ping: self.ping.into(),
            ping_interval_ms: words::millis(self.ping_interval),
            pong_timeout_ms: words::millis(self.pong_timeout),
            max_frame: number(self.max_frame),
            max_message: number(self.max_message),
            messages_per_second: number(self.messages_per_second),
            bytes_per_second: number(self.bytes_per_second),
            over_rate: self.over_rate.into(),
            max_age_ms: self.max_age.map_or(0, words::millis),
        }
    }

    pub(super) fn read(mut t: Table, problems: &mut Problems) -> pb::Frames {
        let said = pb::Frames {
            ping: words::read(&mut t, "ping", PingTo::WORDS, problems),
            ping_interval_ms: words::read_ms(&mut t, "ping_interval", problems),
            pong_timeout_ms: words::read_ms(&mut t, "pong_timeout", problems),
            max_frame: t.number("max_frame", problems).unwrap_or_default(),
            max_message: t.number("max_message", problems).unwrap_or_default(),
            messages_per_second: t.number("messages_per_second", problems).unwrap_or_default(),
            bytes_per_second: t.number("bytes_per_second", problems).unwrap_or_default(),
            over_rate: words::read(&mut t, "over_rate", OverRate::WORDS, problems),
            max_age_ms: words::read_ms(&mut t, "max_age", problems),
        };
        t.finish(problems);
        said
    }

    /// What is as usual is left out.
    pub(super) fn table(&self) -> toml::Table {
        let usual = Self::default();
        let mut t = toml::Table::new();
        if self.ping != usual.ping {
            t.insert("ping".to_owned(), self.ping.word().into());
        }
        for (key, time, usual) in [
            ("ping_interval", self.ping_interval, usual.ping_interval),
            ("pong_timeout", self.pong_timeout, usual.pong_timeout),
        ] {
            if time != usual {
                t.insert(key.to_owned(), words::time(time).into());
            }
        }
        for (key, number) in [
            ("max_frame", self.max_frame),
            ("max_message", self.max_message),
            ("messages_per_second", self.messages_per_second),
            ("bytes_per_second", self.bytes_per_second),
        ] {
            if let Some(number) = number {
                t.insert(key.to_owned(), i64::from(number.get()).into());
            }
        }
        if self.over_rate != usual.over_rate {
            t.insert("over_rate".to_owned(), self.over_rate.word().into());
        }
        if let Some(age) = self.max_age {
            t.insert("max_age".to_owned(), words::time(age).into());
        }
        t
    }
}
