//! Limits, timers and PROXY headers, written and read.
#![allow(clippy::unwrap_used)]

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::v1::edit::Edit;
use crate::model::{Listener, Name, ProxyProtocol, SendProxy, Settings, Timeouts, Upstream};

fn meant(text: &str) -> Config {
    Config::try_from(&parse(text).unwrap()).unwrap()
}

fn limit() -> impl Strategy<Value = Option<NonZeroU32>> {
    prop_oneof![Just(None), (1u32..1_000_000).prop_map(NonZeroU32::new)]
}

fn time() -> impl Strategy<Value = Duration> {
    (1u32..).prop_map(|ms| Duration::from_millis(ms.into()))
}

fn settings() -> impl Strategy<Value = Settings> {
    let limits = (limit(), 1u32..1_000_000, limit(), limit(), limit());
    let times = (time(), time(), time(), time(), prop::option::of(1u64..32_768), prop::option::of(1_000u64..1 << 32));
    (limits, times, 1024u32..=1024 * 1024).prop_map(|(limits, times, head_max_bytes)| Settings {
        sessions_per_client_ip: limits.0,
        upgrades_per_second_per_ip: NonZeroU32::new(limits.1),
        upgrades_per_second: limits.2,
        upgrade_burst: limits.3,
        max_sessions: limits.4,
        head_timeout: times.0,
        head_max_bytes,
        body_timeout: times.1,
        keep_alive: times.2,
        close_timeout: times.3,
        tcp_user_timeout: times.5.map(Duration::from_millis),
        tcp_keepalive: times.4.map(Duration::from_secs),
    })
}

fn upstream() -> impl Strategy<Value = Upstream> {
    let times = (time(), time(), time(), prop::option::of(time()), 0u32..=16);
    let sources = prop::collection::btree_set(1u32..0xdfff_ffff, 0..3);
    (times, limit(), 0usize..3, sources).prop_map(|((dial, upgrade, response, idle, retries), most, send, sources)| {
        Upstream {
            send_proxy: SendProxy::WORDS[send].1,
            max_sessions: most,
            timeouts: Timeouts { dial, upgrade, response, idle, retries },
            source_addresses: sources.into_iter().map(|a| std::net::Ipv4Addr::from(a).into()).collect(),
            ..Upstream::default()
        }
    })
}

fn listener() -> impl Strategy<Value = Listener> {
    let network = (any::<std::net::IpAddr>(), 0u8..=32)
        .prop_map(|(ip, prefix)| ipnet::IpNet::new(ip, prefix).expect("32 bits are in every address").trunc());
    (prop::collection::btree_set(network, 1..4), 0usize..3, limit()).prop_map(|(networks, mode, max_sessions)| {
        let proxy_protocol = ProxyProtocol::WORDS[mode].1;
        let proxy_from = if proxy_protocol == ProxyProtocol::Off { Default::default() } else { networks };
        Listener { proxy_protocol, proxy_from, max_sessions, ..Listener::at(([127, 0, 0, 1], 80).into()) }
    })
}

proptest! {
    #[test]
    fn written_and_read_they_are_the_same(s in settings(), u in upstream(), l in listener()) {
        let name = Name::new("n").unwrap();
        let config = Config {
            settings: s,
            upstreams: [(name.clone(), Arc::new(u))].into(),
            listeners: [(name, l)].into(),
            ..Config::default()
        };
        let text = render(&config);
        let read = parse(&text).map_err(|p| TestCaseError::fail(format!("{p}\nin\n{text}")))?;
        prop_assert_eq!(Config::try_from(&read).unwrap(), config.clone());
        prop_assert_eq!(Config::try_from(&pb::Config::from(&config)).unwrap(), config);
    }
}

#[test]
fn they_are_written_as_a_person_would() {
    let text = r#"[listeners.public]
address = "10.0.0.100:80"
proxy_protocol = "optional"
proxy_from = ["10.0.0.0/24", "10.0.1.9/32"]
max_sessions = 9000

[upstreams.chat]
balance = "round_robin"
send_proxy = "v2"
max_sessions = 5000
dial_timeout = "300ms"
idle_timeout = "off"
retries = 0
source_addresses = ["10.0.0.1", "10.0.0.2"]

[upstreams.chat.check]
kind = "tcp"
interval = "1s"
timeout = "500ms"
rise = 1
fall = 2

[[upstreams.chat.backends]]
address = "10.0.1.1:9000"
weight = 100
state = "active"
max_sessions = 700

[settings]
upgrades_per_second = 2000
max_sessions = 20000
head_timeout = "5s"
tcp_user_timeout = "off"
"#;
    assert_eq!(render(&meant(text)), text);
}

#[test]
fn an_old_message_means_what_it_meant() {
    let old = pb::Upstream { name: "u".into(), ..Default::default() };
    let config = pb::Config { upstreams: vec![old], ..Default::default() };
    let config = Config::try_from(&config).unwrap();
    let timeouts = config.upstreams["u"].timeouts;
    assert_eq!((timeouts.idle, timeouts.retries), (Some(Duration::from_secs(3600)), 2));
    assert_eq!(config.settings, Settings::default());
}

#[test]
fn what_cannot_be_is_told_with_what_to_write() {
    let bad = r#"
        [listeners.a]
        address = "0.0.0.0:1"
        proxy_protocol = "optional"
        [listeners.b]
        address = "0.0.0.0:2"
        proxy_from = ["10.0.0.0/8"]
        [listeners.c]
        address = "0.0.0.0:3"
        proxy_protocol = "required"
        proxy_from = ["10.0.0.0/33", "localhost"]
        [upstreams.u]
        retries = 17
        idle_timeout = "never"
        source_addresses = ["10.0.0.1", "10.0.0.1", "10.0.0.1:80", "0.0.0.0"]
        [settings]
        head_max_bytes = 10
        upgrade_burst = 5
        tcp_keepalive = "10h"
        tcp_user_timeout = "10ms"
    "#;
    let expected = r#"
upstreams.u.idle_timeout = "never": is not a length of time; write it like "500ms" or "2s", or "off"
listeners.a.proxy_from: is missing: nobody would be believed; name the networks of those who send PROXY headers, like ["10.0.0.0/24"]
listeners.b.proxy_from = "10.0.0.0/8": is used by nobody while proxy_protocol is off; set proxy_protocol to "optional" or "required", or leave proxy_from out
listeners.c.proxy_from[0] = "10.0.0.0/33": is no network; write it like "10.0.0.0/24", "fd00::/8" or "10.0.0.9"
listeners.c.proxy_from[1] = "localhost": is no network; write it like "10.0.0.0/24", "fd00::/8" or "10.0.0.9"
upstreams.u.retries = "17": is too many; use 0 to 16
upstreams.u.source_addresses[1] = "10.0.0.1": is there twice; name each once
upstreams.u.source_addresses[2] = "10.0.0.1:80": is not an IP address; write it like "10.0.0.1", without a port or prefix
upstreams.u.source_addresses[3] = "0.0.0.0": is no address to connect from; name addresses of the nodes, without a port
settings.head_max_bytes = "10": is no size for a head; use 1024 to 1048576
settings.upgrade_burst = "5": is the burst of no rate; set upgrades_per_second or upgrades_per_second_per_ip too, or leave it out
settings.tcp_keepalive = "10h": is no time the system can keep; use 1s to 9h 6m 7s, or "off"
settings.tcp_user_timeout = "10ms": is shorter than networks need; use 1s or more, or "off"
"#;
    assert_eq!(format!("\n{}\n", parse(bad).unwrap_err()), expected);
}

#[test]
fn a_set_changes_what_it_names_and_nothing_else() {
    let before = meant(
        r#"
        [settings]
        max_sessions = 10
        keep_alive = "5s"
        [upstreams.u]
        send_proxy = "v1"
        dial_timeout = "300ms"
        idle_timeout = "1m"
        source_addresses = ["10.0.0.1"]
        backends = [{ address = "10.0.0.1:1", max_sessions = 3 }]
        "#,
    );
    let edits = [
        Edit::SetSettings(pb::Settings { max_sessions: Some(0), head_timeout_ms: Some(700), ..Default::default() }),
        Edit::SetUpstream(pb::SetUpstream {
            name: "u".into(),
            dial_timeout_ms: Some(0),
            idle_timeout_ms: Some(0),
            retries: Some(5),
            source_addresses: Some(pb::Addresses::default()),
            ..Default::default()
        }),
        Edit::SetBackend(pb::SetBackend {
            upstream: "u".into(),
            address: "10.0.0.1:1".into(),
            max_sessions: Some(4),
            ..Default::default()
        }),
    ];
    let after = before.edited(&edits.map(|edit| pb::Edit { edit: Some(edit) })).unwrap();
    let mut expected = before;
    expected.settings.max_sessions = None;
    expected.settings.head_timeout = Duration::from_millis(700);
    let u = Arc::make_mut(expected.upstreams.get_mut("u").unwrap());
    u.timeouts = Timeouts { idle: None, retries: 5, ..Timeouts::default() };
    u.source_addresses.clear();
    u.backends.values_mut().next().unwrap().max_sessions = NonZeroU32::new(4);
    assert_eq!(after, expected);
}
