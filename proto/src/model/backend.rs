//! A backend: one server behind the proxy.

use std::num::NonZeroU32;
use std::time::Duration;

use super::{Address, Name, words};
use crate::config::v1 as pb;
use crate::{Problems, Table};

/// One server behind the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Its share, relative to the others: 1..=1000.
    pub weight: NonZeroU32,
    /// Whether it takes new sessions.
    pub state: State,
    /// It takes new sessions only while no other backend can.
    pub backup: bool,
    /// Where it stands; `None`: far from every proxy that has a zone.
    pub zone: Option<Name>,
    /// The most sessions open to it at a node.
    pub max_sessions: Option<NonZeroU32>,
    /// While it drains: how long after a node learnt of that the sessions it still has are ended there; `None`: never.
    pub drain_within: Option<Duration>,
}

impl Default for Backend {
    fn default() -> Self {
        Self {
            weight: DEFAULT_WEIGHT,
            state: State::default(),
            backup: false,
            zone: None,
            max_sessions: None,
            drain_within: None,
        }
    }
}

/// Whether a backend or a listener takes new sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// Takes new sessions.
    #[default]
    Active,
    /// Takes no new ones, keeps those it has: for a while, or until they end by themselves.
    Draining,
}

words::words!(State = pb::BackendState { Active = "active", Draining = "draining" });

/// Weight of a backend that names none.
pub const DEFAULT_WEIGHT: NonZeroU32 = NonZeroU32::new(100).expect("100 is not zero");
/// The largest weight.
pub const MAX_WEIGHT: u32 = 1000;

impl Backend {
    pub(super) fn check(path: &str, given: &pb::Backend, problems: &mut Problems) -> Option<(Address, Self)> {
        let address = Address::check(format!("{path}.address"), &given.address, problems);
        let weight = weight(path, given.weight, problems);
        let zone = zone(path, &given.zone, problems);
        let state = State::said(given.state).unwrap_or_default();
        let drain_within = drain_within(path, state, given.drain_within_ms, problems);
        let backend = Self {
            weight: weight?,
            state,
            backup: given.backup,
            zone,
            max_sessions: NonZeroU32::new(given.max_sessions),
            drain_within,
        };
        Some((address?, backend))
    }

    pub(super) fn message(&self, address: &Address) -> pb::Backend {
        pb::Backend {
            address: address.to_string(),
            weight: self.weight.get(),
            state: self.state.into(),
            backup: self.backup,
            zone: self.zone.as_ref().map(Name::to_string).unwrap_or_default(),
            max_sessions: self.max_sessions.map_or(0, NonZeroU32::get),
            drain_within_ms: self.drain_within.map_or(0, words::millis),
        }
    }

    pub(super) fn read(mut t: Table, problems: &mut Problems) -> pb::Backend {
        let backend = pb::Backend {
            address: t.text("address", problems).unwrap_or_default(),
            weight: t.number("weight", problems).unwrap_or(0),
            state: words::read(&mut t, "state", State::WORDS, problems),
            backup: t.flag("backup", problems).unwrap_or(false),
            zone: t.text("zone", problems).unwrap_or_default(),
            max_sessions: t.count("max_sessions", problems).unwrap_or(0),
            drain_within_ms: words::read_ms(&mut t, "drain_within", problems),
        };
        t.finish(problems);
        backend
    }

    pub(super) fn table(&self, address: &Address) -> toml::Table {
        let mut t = toml::toml! {
            address = (address.to_string())
            weight = (i64::from(self.weight.get()))
            state = (self.state.word())
        };
        if self.backup {
            t.insert("backup".to_owned(), true.into());
        }
        if let Some(zone) = &self.zone {
            t.insert("zone".to_owned(), zone.as_str().into());
        }
        if let Some(most) = self.max_sessions {
            t.insert("max_sessions".to_owned(), i64::from(most.get()).into());
        }
        if let Some(within) = self.drain_within {
            t.insert("drain_within".to_owned(), words::time(within).into());
        }
        t
    }
}

/// Empty means none.
pub(super) fn zone(path: &str, given: &str, problems: &mut Problems) -> Option<Name> {
    if given.is_empty() { None } else { Name::check(&format!("{path}.zone"), given, problems) }
}

/// How long what drains keeps its sessions, in milliseconds; zero means as long as they like.
pub(super) fn drain_within(path: &str, state: State, given: u32, problems: &mut Problems) -> Option<Duration> {
    let within = words::unless_zero(given);
    if let Some(within) = within.filter(|_| state == State::Active) {
        let mend = "set state to \"draining\", or leave drain_within out";
        let why = "is used by nobody while state is active";
        problems.add(format!("{path}.drain_within"), words::time(within), why, mend);
    }
    within
}

/// State and time after a set that names them, or one of them; a state without a time takes the time away.
pub(super) fn drained(
    path: &str,
    before: State,
    state: Option<i32>,
    within_ms: Option<u32>,
    problems: &mut Problems,
) -> Option<(State, Option<Duration>)> {
    if state.is_none() && within_ms.is_none() {
        return None;
    }
    let state = state.map_or(before, |state| State::said(state).unwrap_or_default());
    Some((state, drain_within(path, state, within_ms.unwrap_or(0), problems)))
}

/// Zero means the default.
pub(super) fn weight(path: &str, given: u32, problems: &mut Problems) -> Option<NonZeroU32> {
    match NonZeroU32::new(given) {
        None => Some(DEFAULT_WEIGHT),
        Some(w) if w.get() <= MAX_WEIGHT => Some(w),
        Some(w) => {
            let mend = format!("use 1 to {MAX_WEIGHT}; to take no new sessions, drain it");
            problems.add(format!("{path}.weight"), w, "is too large", mend);
            None
        }
    }
}
