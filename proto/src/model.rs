//! The config as it is meant: checked types that cannot hold a mistake. Pure.
//!
//! One file a kind of thing: what it is, what makes it valid, how it is written in messages and in TOML.

mod address;
mod backend;
mod balance;
mod certificate;
mod check;
mod difference;
mod edit;
mod eject;
mod links;
mod listener;
mod name;
mod pem;
mod route;
mod settings;
mod statuses;
mod timeouts;
mod tls;
mod undo;
mod upstream;
mod vip;
mod words;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use address::{Address, Mistake as AddressMistake};
pub use backend::{Backend, DEFAULT_WEIGHT, MAX_WEIGHT, State};
pub use balance::{Balance, DEFAULT_HASH_BOUND, DEFAULT_ZONE_MIN_SHARE, HashOn, MAX_HASH_BOUND, Sticky};
pub use certificate::{Certificate, SEALED};
pub use check::{Check, CheckKind, CheckMethod};
pub use difference::{Difference, Field};
pub use eject::Eject;
pub use listener::{Http2, Listener, ProxyProtocol};
pub use name::Name;
pub use route::{
    Action, Condition, Frames, HeaderOps, Host, MAX_BODY, Matching, NewHost, NewPath, Origin, Origins, OverRate, Path,
    Pattern, PingTo, Place, Redirect, Respond, Rewrite, Route, Template, Test, Unwelcome, Var, WebSocketUse,
    without_port,
};
pub(crate) use route::{Value, bare};
pub use settings::Settings;
pub use statuses::Statuses;
pub use timeouts::Timeouts;
pub use tls::{ClientAuth, ListenerTls, TlsVersion, UpstreamTls};
pub use undo::{Touch, Undo, What};
pub use upstream::{SendProxy, Upstream};
pub use vip::Vip;

use crate::config::v1 as pb;
use crate::{Problems, Table};

/// One checked config. Cheap to clone: the large parts are shared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Where clients connect to.
    pub listeners: BTreeMap<Name, Listener>,
    /// Which request goes where; each names an upstream that exists.
    pub routes: BTreeMap<Name, Arc<Route>>,
    /// Who answers.
    pub upstreams: BTreeMap<Name, Arc<Upstream>>,
    /// Addresses that one node at a time holds.
    pub vips: BTreeMap<Name, Vip>,
    /// What listeners and upstreams show of themselves in TLS, by the names these use.
    pub certificates: BTreeMap<Name, Arc<Certificate>>,
    /// What holds for all clients.
    pub settings: Settings,
}

impl TryFrom<&pb::Config> for Config {
    type Error = Problems;

    fn try_from(given: &pb::Config) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let mut config = Self::default();
        for l in &given.listeners {
            let path = format!("listeners.{}", l.name);
            let listener = Listener::check(&path, l, &mut problems);
            put(&mut config.listeners, &path, &l.name, listener, &mut problems);
        }
        for u in &given.upstreams {
            let path = format!("upstreams.{}", u.name);
            let upstream = Some(Arc::new(Upstream::check(&path, u, &mut problems)));
            put(&mut config.upstreams, &path, &u.name, upstream, &mut problems);
        }
        for r in &given.routes {
            let path = format!("routes.{}", r.name);
            let route = Route::check(&path, r, &mut problems);
            put(&mut config.routes, &path, &r.name, route.map(Arc::new), &mut problems);
        }
        for v in &given.vips {
            let path = format!("vips.{}", v.name);
            let vip = Vip::check(&path, v, &mut problems);
            put(&mut config.vips, &path, &v.name, vip, &mut problems);
        }
        for c in &given.certificates {
            let path = format!("certificates.{}", c.name);
            let certificate = Certificate::check(&path, c, &mut problems);
            put(&mut config.certificates, &path, &c.name, certificate.map(Arc::new), &mut problems);
        }
        if let Some(settings) = &given.settings {
            config.settings = config.settings.merged(settings, &mut problems);
        }
        config.check_links(&mut problems);
        problems.into_result().map(|()| config)
    }
}

fn put<T>(map: &mut BTreeMap<Name, T>, path: &str, given: &str, value: Option<T>, problems: &mut Problems) {
    let Some(name) = Name::check(path, given, problems) else { return };
    let Some(value) = value else { return };
    if map.insert(name, value).is_some() {
        problems.add(path, given, "is there twice", "give each its own name");
    }
}

impl From<&Config> for pb::Config {
    fn from(meant: &Config) -> Self {
        Self {
            listeners: meant.listeners.iter().map(|(name, l)| l.message(name)).collect(),
            routes: meant.routes.iter().map(|(name, r)| r.message(name)).collect(),
            upstreams: meant.upstreams.iter().map(|(name, u)| u.message(name)).collect(),
            vips: meant.vips.iter().map(|(name, v)| v.message(name)).collect(),
            certificates: meant.certificates.iter().map(|(name, c)| c.message(name)).collect(),
            settings: Some(meant.settings.message()),
        }
    }
}

/// A document's tables as the message they say, unchecked.
pub(crate) fn read(mut top: Table, problems: &mut Problems) -> pb::Config {
    fn all<T>(
        top: &mut Table,
        key: &'static str,
        problems: &mut Problems,
        read: impl Fn(String, &mut Table, &mut Problems) -> T,
    ) -> Vec<T> {
        let mut things = Vec::new();
        for (name, mut t) in top.named(key, problems) {
            things.push(read(name, &mut t, problems));
            t.finish(problems);
        }
        things
    }
    let config = pb::Config {
        listeners: all(&mut top, "listeners", problems, Listener::read),
        routes: all(&mut top, "routes", problems, Route::read),
        upstreams: all(&mut top, "upstreams", problems, Upstream::read),
        vips: all(&mut top, "vips", problems, Vip::read),
        certificates: all(&mut top, "certificates", problems, Certificate::read),
        settings: top.table("settings", problems).map(|t| Settings::read(t, problems)),
    };
    top.finish(problems);
    config
}

/// A config as a document's tables.
pub(crate) fn tables(config: &Config) -> toml::Table {
    fn named<'a, T: 'a>(
        things: impl Iterator<Item = (&'a Name, &'a T)>,
        table: impl Fn(&T) -> toml::Table,
    ) -> toml::Table {
        things.map(|(name, thing)| (name.to_string(), table(thing).into())).collect()
    }
    let kinds = [
        ("listeners", named(config.listeners.iter(), Listener::table)),
        ("routes", named(config.routes.iter().map(|(n, r)| (n, &**r)), Route::table)),
        ("upstreams", named(config.upstreams.iter().map(|(n, u)| (n, &**u)), Upstream::table)),
        ("vips", named(config.vips.iter(), Vip::table)),
        ("certificates", named(config.certificates.iter().map(|(n, c)| (n, &**c)), Certificate::table)),
        ("settings", config.settings.table()),
    ];
    kinds.into_iter().filter(|(_, t)| !t.is_empty()).map(|(kind, t)| (kind.to_owned(), t.into())).collect()
}
