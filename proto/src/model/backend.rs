//! A backend: one server behind the proxy.

use std::num::NonZeroU32;

use super::{Address, words};
use crate::config::v1 as pb;
use crate::{Problems, Table};

/// One server behind the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backend {
    /// Its share, relative to the others: 1..=1000.
    pub weight: NonZeroU32,
    /// Whether it takes new sessions.
    pub state: State,
}

impl Default for Backend {
    fn default() -> Self {
        Self { weight: DEFAULT_WEIGHT, state: State::default() }
    }
}

/// Whether a backend takes new sessions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// Takes new sessions.
    #[default]
    Active,
    /// Keeps those it has, takes no new ones.
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
        Some((address?, Self { weight: weight?, state: State::said(given.state).unwrap_or_default() }))
    }

    pub(super) fn message(&self, address: &Address) -> pb::Backend {
        pb::Backend { address: address.to_string(), weight: self.weight.get(), state: self.state.into() }
    }

    pub(super) fn read(mut t: Table, problems: &mut Problems) -> pb::Backend {
        let backend = pb::Backend {
            address: t.text("address", problems).unwrap_or_default(),
            weight: t.number("weight", problems).unwrap_or(0),
            state: words::read(&mut t, "state", State::WORDS, problems),
        };
        t.finish(problems);
        backend
    }

    pub(super) fn table(&self, address: &Address) -> toml::Table {
        toml::toml! {
            address = (address.to_string())
            weight = (i64::from(self.weight.get()))
            state = (self.state.word())
        }
    }
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
