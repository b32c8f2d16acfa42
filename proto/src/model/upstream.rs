//! An upstream: a named group of backends.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::{Address, Backend, Balance, Check, Eject, HashOn, Name, Sticky, Timeouts, UpstreamTls, balance, words};
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
    /// How the backends are spoken to over TLS; `None`: they are spoken to plainly.
    pub tls: Option<Arc<UpstreamTls>>,
    /// Whether connections to the backends begin with a PROXY header.
    pub send_proxy: SendProxy,
    /// The most sessions open to all of its backends together at a node.
    pub max_sessions: Option<NonZeroU32>,
    /// How long the backends may take.
    pub timeouts: Timeouts,
    /// Local addresses that connections to the backends come from, in turn: one has about 28 000 ports for each backend.
    /// The list names those of every node; a node uses those that it has.
    pub source_addresses: Vec<IpAddr>,
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
            tls: None,
            send_proxy: SendProxy::default(),
            max_sessions: None,
            timeouts: Timeouts::default(),
            source_addresses: Vec::new(),
        }
    }
}

/// Whether connections to backends begin with a PROXY header that says who the client is (haproxy.org,
/// proxy-protocol.txt). Connections are not shared between clients then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SendProxy {
    /// No.
    #[default]
    Off,
    /// The one of text.
    V1,
    /// The binary one.
    V2,
}

words::words!(SendProxy = pb::SendProxy { Off = "off", V1 = "v1", V2 = "v2" });

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
            tls: given.tls.as_ref().map(|tls| UpstreamTls::default().merged(path, tls, problems)).map(Arc::new),
            send_proxy: SendProxy::said(given.send_proxy).unwrap_or_default(),
            max_sessions: NonZeroU32::new(given.max_sessions),
            timeouts: Timeouts::check(path, given, problems),
            source_addresses: sources(path, &given.source_addresses, problems),
        }
    }

    /// What a set names beside balance and check.
    pub(super) fn set(&mut self, path: &str, set: &pb::SetUpstream, problems: &mut Problems) {
        self.timeouts = self.timeouts.merged(path, set, problems);
        if set.no_tls {
            self.tls = None;
        }
        if let Some(tls) = &set.tls {
            let before = self.tls.as_deref().cloned().unwrap_or_default();
            self.tls = Some(Arc::new(before.merged(path, tls, problems)));
        }
        if let Some(send) = set.send_proxy {
            self.send_proxy = SendProxy::said(send).unwrap_or_default();
        }
        if let Some(most) = set.max_sessions {
            self.max_sessions = NonZeroU32::new(most);
        }
        if let Some(given) = &set.source_addresses {
            self.source_addresses = sources(path, &given.addresses, problems);
        }
    }

    /// All that is its own.
    pub(super) fn without_backends(&self) -> Self {
        Self {
            backends: BTreeMap::new(),
            hash_on: self.hash_on.clone(),
            sticky: self.sticky.clone(),
            check: self.check.clone(),
            eject: self.eject.clone(),
            tls: self.tls.clone(),
            source_addresses: self.source_addresses.clone(),
            ..*self
        }
    }

    pub(super) fn message(&self, name: &Name) -> pb::Upstream {
        let mut upstream = pb::Upstream {
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
            tls: self.tls.as_ref().map(|tls| tls.message()),
            send_proxy: self.send_proxy.into(),
            max_sessions: self.max_sessions.map_or(0, NonZeroU32::get),
            source_addresses: self.source_addresses.iter().map(ToString::to_string).collect(),
            ..Default::default()
        };
        self.timeouts.write(&mut upstream);
        upstream
    }

    pub(super) fn read(name: String, t: &mut Table, problems: &mut Problems) -> pb::Upstream {
        let mut upstream = pb::Upstream {
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
            tls: t.table("tls", problems).map(|t| UpstreamTls::read(t, problems)),
            send_proxy: words::read(t, "send_proxy", SendProxy::WORDS, problems),
            max_sessions: t.count("max_sessions", problems).unwrap_or(0),
            source_addresses: t.text_list("source_addresses", problems),
            ..Default::default()
        };
        Timeouts::read(t, &mut upstream, problems);
        upstream
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
        if let Some(tls) = &self.tls {
            t.insert("tls".to_owned(), tls.table().into());
        }
        if self.send_proxy != SendProxy::Off {
            t.insert("send_proxy".to_owned(), self.send_proxy.word().into());
        }
        if let Some(most) = self.max_sessions {
            t.insert("max_sessions".to_owned(), i64::from(most.get()).into());
        }
        self.timeouts.put(&mut t);
        if !self.source_addresses.is_empty() {
            let addresses: Vec<String> = self.source_addresses.iter().map(ToString::to_string).collect();
            t.insert("source_addresses".to_owned(), addresses.into());
        }
        if !backends.is_empty() {
            t.insert("backends".to_owned(), backends.into());
        }
        t
    }
}

/// Local addresses, each once.
fn sources(path: &str, given: &[String], problems: &mut Problems) -> Vec<IpAddr> {
    let mut all = Vec::new();
    for (i, text) in given.iter().enumerate() {
        let path = format!("{path}.source_addresses[{i}]");
        match text.parse::<IpAddr>() {
            Ok(a) if a.is_unspecified() || a.is_multicast() => {
                problems.add(path, a, "is no address to connect from", "name addresses of the nodes, without a port");
            }
            Ok(a) if all.contains(&a) => problems.add(path, a, "is there twice", "name each once"),
            Ok(a) => all.push(a),
            Err(_) => {
                problems.add(
                    path,
                    text,
                    "is not an IP address",
                    "write it like \"10.0.0.1\", without a port or prefix",
                );
            }
        }
    }
    all
}
