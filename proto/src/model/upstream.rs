//! An upstream: a named group of backends.

use std::collections::BTreeMap;

use super::{Address, Backend, Check, Eject, Name, words};
use crate::config::v1 as pb;
use crate::{Problems, Table};

/// A named group of backends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Upstream {
    /// Who gets the next session.
    pub balance: Balance,
    /// How health is found out.
    pub check: Check,
    /// What takes a backend out that its checks find healthy.
    pub eject: Eject,
    /// Keyed by address as written: that is a backend's identity.
    pub backends: BTreeMap<Address, Backend>,
}

/// Who gets the next session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    /// Each in turn, in proportion to weight.
    #[default]
    RoundRobin,
    /// The one with the fewest sessions for its weight.
    LeastSessions,
}

words::words!(Balance = pb::Balance { RoundRobin = "round_robin", LeastSessions = "least_sessions" });

impl Upstream {
    pub(super) fn check(path: &str, given: &pb::Upstream, problems: &mut Problems) -> Self {
        let mut backends = BTreeMap::new();
        for (i, b) in given.backends.iter().enumerate() {
            let path = format!("{path}.backends[{i}]");
            let Some((address, backend)) = Backend::check(&path, b, problems) else { continue };
            if backends.insert(address, backend).is_some() {
                let path = format!("{path}.address");
                problems.add(path, &b.address, "is there twice in this upstream", "keep one of them");
            }
        }
        Self {
            balance: Balance::said(given.balance).unwrap_or_default(),
            check: Check::default().merged(&format!("{path}.check"), given.check.as_ref(), problems),
            eject: Eject::default().merged(&format!("{path}.eject"), given.eject.as_ref(), problems),
            backends,
        }
    }

    pub(super) fn message(&self, name: &Name) -> pb::Upstream {
        pb::Upstream {
            name: name.to_string(),
            balance: self.balance.into(),
            check: Some(self.check.message()),
            eject: self.eject.message(),
            backends: self.backends.iter().map(|(address, b)| b.message(address)).collect(),
        }
    }

    pub(super) fn read(name: String, t: &mut Table, problems: &mut Problems) -> pb::Upstream {
        pb::Upstream {
            name,
            balance: words::read(t, "balance", Balance::WORDS, problems),
            check: t.table("check", problems).map(|t| Check::read(t, problems)),
            eject: t.table("eject", problems).map(|t| Eject::read(t, problems)),
            backends: t.list("backends", problems).into_iter().map(|t| Backend::read(t, problems)).collect(),
        }
    }

    pub(super) fn table(&self) -> toml::Table {
        let backends: Vec<toml::Table> = self.backends.iter().map(|(address, b)| b.table(address)).collect();
        let mut t = toml::toml! {
            balance = (self.balance.word())
            check = (self.check.table())
        };
        if let Some(eject) = self.eject.table() {
            t.insert("eject".to_owned(), eject.into());
        }
        if !backends.is_empty() {
            t.insert("backends".to_owned(), backends.into());
        }
        t
    }
}
