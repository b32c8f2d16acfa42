//! Words given → words meant, with every mistake named; and back.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::{
    Backend, Balance, Check, CheckKind, Config, DEFAULT_WEIGHT, Host, Listener, MAX_WEIGHT, Name, Route, State,
    Upstream, Vip,
};
use crate::Problems;
use crate::config::v1 as pb;

impl TryFrom<&pb::Config> for Config {
    type Error = Problems;

    fn try_from(given: &pb::Config) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let mut config = Self::default();
        for l in &given.listeners {
            let path = format!("listeners.{}", l.name);
            let listener = listener(&path, l, &mut problems);
            put(&mut config.listeners, &path, &l.name, listener, &mut problems);
        }
        for u in &given.upstreams {
            let path = format!("upstreams.{}", u.name);
            let upstream = Arc::new(upstream(&path, u, &mut problems));
            put(&mut config.upstreams, &path, &u.name, Some(upstream), &mut problems);
        }
        for r in &given.routes {
            let path = format!("routes.{}", r.name);
            let route = route(&path, r, &mut problems);
            put(&mut config.routes, &path, &r.name, route, &mut problems);
        }
        for v in &given.vips {
            let path = format!("vips.{}", v.name);
            let vip = vip(&path, v, &mut problems);
            put(&mut config.vips, &path, &v.name, vip, &mut problems);
        }
        config.check_links(&mut problems);
        problems.into_result().map(|()| config)
    }
}

fn put<T>(map: &mut BTreeMap<Name, T>, path: &str, given: &str, value: Option<T>, problems: &mut Problems) {
    let Some(name) = name(path, given, problems) else { return };
    let Some(value) = value else { return };
    if map.insert(name, value).is_some() {
        problems.add(path, given, "is there twice", "give each its own name");
    }
}

impl Config {
    /// What one thing says of another: references, and claims to the same place.
    pub(super) fn check_links(&self, problems: &mut Problems) {
        let mut taken: BTreeMap<(&Host, &str), &Name> = BTreeMap::new();
        for (name, r) in &self.routes {
            if !self.upstreams.contains_key(&r.upstream) {
                problems.add(
                    format!("routes.{name}.upstream"),
                    &r.upstream,
                    "is no upstream here",
                    self.known_upstreams(),
                );
            }
            if let Some(other) = taken.insert((&r.host, &r.path), name) {
                let place = format!("{}{}", r.host, r.path);
                problems.add(
                    format!("routes.{name}"),
                    place,
                    format!("is what routes.{other} takes too"),
                    "change host or path of one of them",
                );
            }
        }
        let mut taken: BTreeMap<SocketAddr, &Name> = BTreeMap::new();
        for (name, l) in &self.listeners {
            if let Some(other) = taken.insert(l.address, name) {
                let path = format!("listeners.{name}.address");
                problems.add(
                    path,
                    l.address,
                    format!("is what listeners.{other} listens on too"),
                    "choose another port for one of them",
                );
            }
        }
        let mut taken: BTreeMap<IpAddr, &Name> = BTreeMap::new();
        for (name, v) in &self.vips {
            if let Some(other) = taken.insert(v.address, name) {
                problems.add(
                    format!("vips.{name}.address"),
                    v.address,
                    format!("is vips.{other} too"),
                    "choose another address for one of them",
                );
            }
        }
    }

    /// The mend for a reference to an upstream that is not there.
    pub(super) fn known_upstreams(&self) -> String {
        if self.upstreams.is_empty() {
            return "there is none yet; add it first".to_owned();
        }
        let mut known: Vec<&str> = self.upstreams.keys().map(Name::as_str).take(8).collect();
        if self.upstreams.len() > known.len() {
            known.push("…");
        }
        format!("known: {}", known.join(", "))
    }
}

pub(super) fn name(path: &str, given: &str, problems: &mut Problems) -> Option<Name> {
    let name = Name::new(given);
    if name.is_none() {
        let mend = "use 1 to 63 of a-z 0-9 . _ - and begin with a letter or digit";
        problems.add(path, given, "is no name", mend);
    }
    name
}

fn socket(path: String, given: &str, problems: &mut Problems) -> Option<SocketAddr> {
    if given.is_empty() {
        problems.add(path, "", "is missing", "write it like \"10.0.0.11:9000\"");
        return None;
    }
    match given.parse::<SocketAddr>() {
        Ok(a) if a.port() == 0 => {
            problems.add(path, given, "has no port to connect to", "use a port from 1 to 65535");
            None
        }
        Ok(a) => Some(a),
        Err(_) => {
            problems.add(
                path,
                given,
                "is not an IP address and port",
                "write it like \"10.0.0.11:9000\" or \"[fd00::11]:9000\"",
            );
            None
        }
    }
}

pub(super) fn listener(path: &str, given: &pb::Listener, problems: &mut Problems) -> Option<Listener> {
    socket(format!("{path}.address"), &given.address, problems).map(|address| Listener { address })
}

pub(super) fn vip(path: &str, given: &pb::Vip, problems: &mut Problems) -> Option<Vip> {
    let path = format!("{path}.address");
    match given.address.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() || address.is_multicast() => {
            problems.add(
                path,
                address,
                "is not an address one node can hold",
                "use a free unicast address of the clients' network",
            );
            None
        }
        Ok(address @ IpAddr::V4(_)) => Some(Vip { address }),
        Ok(address) => {
            problems.add(path, address, "is IPv6, which a virtual IP cannot be yet", "use an IPv4 address");
            None
        }
        Err(_) => {
            problems.add(
                path,
                &given.address,
                "is not an IP address",
                "write it like \"10.0.0.100\", without a port or prefix",
            );
            None
        }
    }
}

pub(super) fn route(path: &str, given: &pb::Route, problems: &mut Problems) -> Option<Route> {
    let host = host(format!("{path}.host"), &given.host, problems);
    let prefix = match given.path.as_str() {
        "" => Some("/".to_owned()),
        p if p.starts_with('/') && !p.contains(['?', '#']) && p.bytes().all(|b| b.is_ascii_graphic()) => {
            Some(p.to_owned())
        }
        p => {
            problems.add(format!("{path}.path"), p, "is no path prefix", "begin with / and leave out blanks, ? and #");
            None
        }
    };
    if given.upstream.is_empty() {
        problems.add(format!("{path}.upstream"), "", "is missing", "name one of the upstreams");
        return None;
    }
    let upstream = name(&format!("{path}.upstream"), &given.upstream, problems)?;
    Some(Route { host: host?, path: prefix?, upstream })
}

fn host(path: String, given: &str, problems: &mut Problems) -> Option<Host> {
    if given.is_empty() || given == "*" {
        return Some(Host::Any);
    }
    let bare = given.strip_prefix('[').and_then(|g| g.strip_suffix(']')).unwrap_or(given);
    let address = bare.parse::<IpAddr>().is_ok();
    let named = given.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
    if address || named {
        return Some(Host::Exact(given.to_ascii_lowercase()));
    }
    problems.add(
        path,
        given,
        "is no host name",
        "write the name alone, without scheme, port or path, or \"*\" for any",
    );
    None
}

fn upstream(path: &str, given: &pb::Upstream, problems: &mut Problems) -> Upstream {
    let mut backends = BTreeMap::new();
    for (i, b) in given.backends.iter().enumerate() {
        let path = format!("{path}.backends[{i}]");
        let Some((address, backend)) = backend(&path, b, problems) else { continue };
        if backends.insert(address, backend).is_some() {
            problems.add(format!("{path}.address"), address, "is there twice in this upstream", "keep one of them");
        }
    }
    Upstream {
        balance: balance(given.balance),
        check: merge_check(&format!("{path}.check"), &Check::default(), given.check.as_ref(), problems),
        backends,
    }
}

pub(super) fn new_upstream(path: &str, given: &pb::Upstream, problems: &mut Problems) -> Arc<Upstream> {
    Arc::new(upstream(path, given, problems))
}

pub(super) fn backend(path: &str, given: &pb::Backend, problems: &mut Problems) -> Option<(SocketAddr, Backend)> {
    let address = socket(format!("{path}.address"), &given.address, problems);
    let weight = weight(path, given.weight, problems);
    Some((address?, Backend { weight: weight?, state: state(given.state) }))
}

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

/// `given` over `base`: what is zero or absent keeps its value.
pub(super) fn merge_check(path: &str, base: &Check, given: Option<&pb::Check>, problems: &mut Problems) -> Check {
    let Some(given) = given else { return base.clone() };
    let time = |ms: u32, base: Duration| if ms == 0 { base } else { Duration::from_millis(ms.into()) };
    let check = Check {
        kind: match given.kind() {
            pb::CheckKind::Unspecified => base.kind,
            pb::CheckKind::None => CheckKind::None,
            pb::CheckKind::Tcp => CheckKind::Tcp,
        },
        interval: time(given.interval_ms, base.interval),
        timeout: time(given.timeout_ms, base.timeout),
        rise: NonZeroU32::new(given.rise).unwrap_or(base.rise),
        fall: NonZeroU32::new(given.fall).unwrap_or(base.fall),
    };
    if check.interval < Duration::from_millis(50) {
        problems.add(
            format!("{path}.interval"),
            humantime::format_duration(check.interval),
            "is too short",
            "use 50ms or more",
        );
    }
    check
}

pub(super) fn balance(given: i32) -> Balance {
    match pb::Balance::try_from(given).unwrap_or_default() {
        pb::Balance::LeastSessions => Balance::LeastSessions,
        pb::Balance::RoundRobin | pb::Balance::Unspecified => Balance::RoundRobin,
    }
}

pub(super) fn state(given: i32) -> State {
    match pb::BackendState::try_from(given).unwrap_or_default() {
        pb::BackendState::Draining => State::Draining,
        pb::BackendState::Active | pb::BackendState::Unspecified => State::Active,
    }
}

impl From<Balance> for pb::Balance {
    fn from(meant: Balance) -> Self {
        match meant {
            Balance::RoundRobin => Self::RoundRobin,
            Balance::LeastSessions => Self::LeastSessions,
        }
    }
}

impl From<CheckKind> for pb::CheckKind {
    fn from(meant: CheckKind) -> Self {
        match meant {
            CheckKind::None => Self::None,
            CheckKind::Tcp => Self::Tcp,
        }
    }
}

impl From<State> for pb::BackendState {
    fn from(meant: State) -> Self {
        match meant {
            State::Active => Self::Active,
            State::Draining => Self::Draining,
        }
    }
}

impl From<&Config> for pb::Config {
    fn from(meant: &Config) -> Self {
        Self {
            listeners: meant
                .listeners
                .iter()
                .map(|(n, l)| pb::Listener { name: n.to_string(), address: l.address.to_string() })
                .collect(),
            routes: meant
                .routes
                .iter()
                .map(|(n, r)| pb::Route {
                    name: n.to_string(),
                    host: r.host.to_string(),
                    path: r.path.clone(),
                    upstream: r.upstream.to_string(),
                })
                .collect(),
            upstreams: meant.upstreams.iter().map(|(n, u)| write_upstream(n, u)).collect(),
            vips: meant
                .vips
                .iter()
                .map(|(n, v)| pb::Vip { name: n.to_string(), address: v.address.to_string() })
                .collect(),
        }
    }
}

fn write_upstream(name: &Name, meant: &Upstream) -> pb::Upstream {
    let millis = |d: Duration| u32::try_from(d.as_millis()).unwrap_or(u32::MAX);
    pb::Upstream {
        name: name.to_string(),
        balance: pb::Balance::from(meant.balance).into(),
        check: Some(pb::Check {
            kind: pb::CheckKind::from(meant.check.kind).into(),
            interval_ms: millis(meant.check.interval),
            timeout_ms: millis(meant.check.timeout),
            rise: meant.check.rise.get(),
            fall: meant.check.fall.get(),
        }),
        backends: meant
            .backends
            .iter()
            .map(|(address, b)| pb::Backend {
                address: address.to_string(),
                weight: b.weight.get(),
                state: pb::BackendState::from(b.state).into(),
            })
            .collect(),
    }
}
