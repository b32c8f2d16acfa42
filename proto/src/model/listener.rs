//! A listener: an address and port that clients connect to.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::backend::{drain_within, drained};
use super::{ListenerTls, Name, State, address, words};
use crate::config::v1 as pb;
use crate::{Problems, Table};

/// An address and port that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// May name a virtual IP, or an unspecified address for all.
    pub address: SocketAddr,
    /// How its clients speak TLS; `None`: they speak plainly.
    pub tls: Option<Arc<ListenerTls>>,
    /// `None`: as [`Listener::speaks_http2`] says.
    pub http2: Option<Http2>,
    /// Whether clients' connections begin with a PROXY header.
    pub proxy_protocol: ProxyProtocol,
    /// Networks whose PROXY headers are believed; with `Required` none means everyone, so that whoever can connect can
    /// claim to be anyone.
    pub proxy_from: BTreeSet<IpNet>,
    /// The most sessions that its clients may have open at a node.
    pub max_sessions: Option<NonZeroU32>,
    /// Whether it takes new requests and sessions. It listens also while it does not, and says so.
    pub state: State,
    /// While it drains: how long after a node learnt of that the sessions it still has are ended there; `None`: never.
    pub drain_within: Option<Duration>,
}

/// Whether a listener speaks HTTP/2, WebSocket over it (RFC 8441) included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Http2 {
    /// HTTP/1.1 only.
    Off,
    /// With TLS the client chooses by ALPN; without, it must know beforehand (RFC 9113 section 3.3).
    On,
}

words::words!(Http2 = pb::Http2 { Off = "off", On = "on" });

/// Whether clients' connections begin with a PROXY header that says who the client is (haproxy.org,
/// proxy-protocol.txt, versions 1 and 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ProxyProtocol {
    /// Never.
    #[default]
    Off,
    /// Those from `proxy_from` may.
    Optional,
    /// All must.
    Required,
}

words::words!(ProxyProtocol = pb::ProxyProtocol { Off = "off", Optional = "optional", Required = "required" });

impl Listener {
    /// One that does nothing special.
    pub fn at(address: SocketAddr) -> Self {
        Self {
            address,
            tls: None,
            http2: None,
            proxy_protocol: ProxyProtocol::Off,
            proxy_from: BTreeSet::new(),
            max_sessions: None,
            state: State::Active,
            drain_within: None,
        }
    }

    /// Whether a client may speak HTTP/2 here. Where nothing is said it may where it asks by ALPN, so with TLS; a plain
    /// listener would have to look at every client's first bytes to find out.
    pub fn speaks_http2(&self, tls: bool) -> bool {
        self.http2.map_or(tls, |said| said == Http2::On)
    }

    pub(super) fn check(path: &str, given: &pb::Listener, problems: &mut Problems) -> Option<Self> {
        let proxy_protocol = ProxyProtocol::said(given.proxy_protocol).unwrap_or_default();
        let proxy_from = networks(path, proxy_protocol, &given.proxy_from, problems);
        let tls = given.tls.as_ref().and_then(|tls| ListenerTls::merged(None, path, tls, problems)).map(Arc::new);
        let address = address::check(format!("{path}.address"), &given.address, problems)?;
        let (http2, max_sessions) = (Http2::said(given.http2), NonZeroU32::new(given.max_sessions));
        let state = State::said(given.state).unwrap_or_default();
        let drain_within = drain_within(path, state, given.drain_within_ms, problems);
        Some(Self { address, tls, http2, proxy_protocol, proxy_from, max_sessions, state, drain_within })
    }

    /// What a set names.
    pub(super) fn set(&mut self, path: &str, set: &pb::SetListener, problems: &mut Problems) {
        if let Some(given) = &set.address
            && let Some(address) = address::check(format!("{path}.address"), given, problems)
        {
            self.address = address;
        }
        if set.no_tls {
            self.tls = None;
        }
        if let Some(tls) = &set.tls {
            self.tls = ListenerTls::merged(self.tls.as_deref(), path, tls, problems).map(Arc::new);
        }
        if let Some(http2) = set.http2 {
            self.http2 = Http2::said(http2);
        }
        let kept: Vec<String> = self.proxy_from.iter().map(ToString::to_string).collect();
        let mode = set.proxy_protocol.map_or(self.proxy_protocol, |mode| ProxyProtocol::said(mode).unwrap_or_default());
        self.proxy_from = match &set.proxy_from {
            Some(given) => networks(path, mode, &given.networks, problems),
            None if mode == ProxyProtocol::Off => BTreeSet::new(),
            None => networks(path, mode, &kept, problems),
        };
        self.proxy_protocol = mode;
        if let Some(most) = set.max_sessions {
            self.max_sessions = NonZeroU32::new(most);
        }
        if let Some(drain) = drained(path, self.state, set.state, set.drain_within_ms, problems) {
            (self.state, self.drain_within) = drain;
        }
    }

    pub(super) fn message(&self, name: &Name) -> pb::Listener {
        pb::Listener {
            name: name.to_string(),
            address: self.address.to_string(),
            tls: self.tls.as_ref().map(|tls| tls.message()),
            http2: self.http2.map_or(0, Into::into),
            proxy_protocol: self.proxy_protocol.into(),
            proxy_from: self.proxy_from.iter().map(ToString::to_string).collect(),
            max_sessions: self.max_sessions.map_or(0, NonZeroU32::get),
            state: self.state.into(),
            drain_within_ms: self.drain_within.map_or(0, words::millis),
        }
    }

    pub(super) fn read(name: String, t: &mut Table, problems: &mut Problems) -> pb::Listener {
        pb::Listener {
            name,
            address: t.text("address", problems).unwrap_or_default(),
            tls: t.table("tls", problems).map(|t| ListenerTls::read(t, problems)),
            http2: words::read(t, "http2", Http2::WORDS, problems),
            proxy_protocol: words::read(t, "proxy_protocol", ProxyProtocol::WORDS, problems),
            proxy_from: t.text_list("proxy_from", problems),
            max_sessions: t.count("max_sessions", problems).unwrap_or(0),
            state: words::read(t, "state", State::WORDS, problems),
            drain_within_ms: words::read_ms(t, "drain_within", problems),
        }
    }

    pub(super) fn table(&self) -> toml::Table {
        let mut t = toml::toml! { address = (self.address.to_string()) };
        if let Some(tls) = &self.tls {
            t.insert("tls".to_owned(), tls.table().into());
        }
        if let Some(http2) = self.http2 {
            t.insert("http2".to_owned(), http2.word().into());
        }
        if self.proxy_protocol != ProxyProtocol::Off {
            t.insert("proxy_protocol".to_owned(), self.proxy_protocol.word().into());
        }
        if !self.proxy_from.is_empty() {
            let networks: Vec<String> = self.proxy_from.iter().map(ToString::to_string).collect();
            t.insert("proxy_from".to_owned(), networks.into());
        }
        if let Some(most) = self.max_sessions {
            t.insert("max_sessions".to_owned(), i64::from(most.get()).into());
        }
        if self.state != State::Active {
            t.insert("state".to_owned(), self.state.word().into());
        }
        if let Some(within) = self.drain_within {
            t.insert("drain_within".to_owned(), words::time(within).into());
        }
        t
    }
}

/// Networks whose PROXY headers are believed, as the mode needs them.
fn networks(path: &str, mode: ProxyProtocol, given: &[String], problems: &mut Problems) -> BTreeSet<IpNet> {
    match mode {
        ProxyProtocol::Optional if given.is_empty() => problems.add(
            format!("{path}.proxy_from"),
            "",
            "is missing: nobody would be believed",
            "name the networks of those who send PROXY headers, like [\"10.0.0.0/24\"]",
        ),
        ProxyProtocol::Off if !given.is_empty() => problems.add(
            format!("{path}.proxy_from"),
            given.join(", "),
            "is used by nobody while proxy_protocol is off",
            "set proxy_protocol to \"optional\" or \"required\", or leave proxy_from out",
        ),
        _ => {}
    }
    let all = given.iter().enumerate();
    all.filter_map(|(i, text)| network(format!("{path}.proxy_from[{i}]"), text, problems)).collect()
}

/// A network, or one address; bits behind the prefix are dropped.
fn network(path: String, given: &str, problems: &mut Problems) -> Option<IpNet> {
    let found = given.parse::<IpNet>().ok().or_else(|| given.parse::<IpAddr>().ok().map(IpNet::from));
    if found.is_none() {
        problems.add(path, given, "is no network", "write it like \"10.0.0.0/24\", \"fd00::/8\" or \"10.0.0.9\"");
    }
    found.map(|network| network.trunc())
}
