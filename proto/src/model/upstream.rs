//! An upstream: a named group of backends.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Address, Backend, Balance, Check, Eject, HashOn, Name, Sticky, balance, words};
use crate::config::v1 as pb;
use crate::{Problems, Table};

/// A named group of backends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Who gets the next session.
    pub balance: Balance,
    /// What [`Balance::Hash`] looks at.
    pub hash_on: HashOn,
    /// The most a backend may have under [`Balance::Hash`], in percent of its fair share: 101..=1 000 000.
    pub hash_bound: u32,
    /// How sessions stick to a backend; `None`: they do not.
    pub sticky: Option<Sticky>,
    /// How long a backend that came up takes to rise to its full share; zero: none.
    pub slow_start: Duration,
    /// Backends in the proxy's own zone are preferred while this many percent of their weight are up: 1..=100.
    pub zone_min_share: u32,
    /// How health is found out.
    pub check: Check,
    /// What takes a backend out that its checks find healthy.
    pub eject: Eject,
    /// Keyed by address as written: that is a backend's identity.
    pub backends: BTreeMap<Address, Backend>,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            balance: Balance::default(),
            hash_on: HashOn::default(),
            hash_bound: balance::DEFAULT_HASH_BOUND,
            sticky: None,
            slow_start: Duration::ZERO,
            zone_min_share: balance::DEFAULT_ZONE_MIN_SHARE,
            check: Check::default(),
            eject: Eject::default(),
            backends: BTreeMap::new(),
        }
    }
}

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
            hash_on: HashOn::check(path, &given.hash_on, problems),
            hash_bound: balance::hash_bound(path, given.hash_bound, problems),
            sticky: given.sticky.as_ref().and_then(|sticky| Sticky::merged(None, path, sticky, problems)),
            slow_start: Duration::from_millis(given.slow_start_ms.into()),
            zone_min_share: balance::zone_min_share(path, given.zone_min_share, problems),
            check: Check::default().merged(&format!("{path}.check"), given.check.as_ref(), problems),
            eject: Eject::default().merged(&format!("{path}.eject"), given.eject.as_ref(), problems),
            backends,
        }
    }

    pub(super) fn message(&self, name: &Name) -> pb::Upstream {
        pb::Upstream {
            name: name.to_string(),
            balance: self.balance.into(),
            hash_on: self.hash_on.to_string(),
            hash_bound: self.hash_bound,
            sticky: self.sticky.as_ref().map(Sticky::message),
            slow_start_ms: words::millis(self.slow_start),
            zone_min_share: self.zone_min_share,
            check: Some(self.check.message()),
            eject: self.eject.message(),
            backends: self.backends.iter().map(|(address, b)| b.message(address)).collect(),
        }
    }

    pub(super) fn read(name: String, t: &mut Table, problems: &mut Problems) -> pb::Upstream {
        pb::Upstream {
            name,
            balance: words::read(t, "balance", Balance::WORDS, problems),
            hash_on: t.text("hash_on", problems).unwrap_or_default(),
            hash_bound: t.number("hash_bound", problems).unwrap_or(0),
            sticky: t.table("sticky", problems).map(|t| Sticky::read(t, problems)),
            slow_start_ms: words::read_ms(t, "slow_start", problems),
            zone_min_share: t.number("zone_min_share", problems).unwrap_or(0),
            check: t.table("check", problems).map(|t| Check::read(t, problems)),
            eject: t.table("eject", problems).map(|t| Eject::read(t, problems)),
            backends: t.list("backends", problems).into_iter().map(|t| Backend::read(t, problems)).collect(),
        }
    }

    pub(super) fn table(&self) -> toml::Table {
        let backends: Vec<toml::Table> = self.backends.iter().map(|(address, b)| b.table(address)).collect();
        let mut t = toml::toml! { balance = (self.balance.word()) };
        if self.hash_on != HashOn::default() || self.balance == Balance::Hash {
            t.insert("hash_on".to_owned(), self.hash_on.to_string().into());
        }
        if self.hash_bound != balance::DEFAULT_HASH_BOUND {
            t.insert("hash_bound".to_owned(), i64::from(self.hash_bound).into());
        }
        if !self.slow_start.is_zero() {
            t.insert("slow_start".to_owned(), words::time(self.slow_start).into());
        }
        if self.zone_min_share != balance::DEFAULT_ZONE_MIN_SHARE {
            t.insert("zone_min_share".to_owned(), i64::from(self.zone_min_share).into());
        }
        if let Some(sticky) = &self.sticky {
            t.insert("sticky".to_owned(), sticky.table().into());
        }
        t.insert("check".to_owned(), self.check.table().into());
        if let Some(eject) = self.eject.table() {
            t.insert("eject".to_owned(), eject.into());
        }
        if !backends.is_empty() {
            t.insert("backends".to_owned(), backends.into());
        }
        t
    }
}
