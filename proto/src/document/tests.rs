//! A document read and written is the same; a bad one is told whole.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;
use std::time::Duration;

use proptest::collection::btree_map;
use proptest::prelude::*;

use super::*;
use crate::model::{
    Address, Backend, Balance, Check, CheckKind, Eject, HashOn, Host, Http2, Listener, Matching, Name, Path, Route,
    State, Sticky, Upstream, Vip,
};

fn meant(text: &str) -> Config {
    Config::try_from(&parse(text).unwrap()).unwrap()
}

fn names() -> impl Strategy<Value = Name> {
    "[a-z0-9][a-z0-9._-]{0,20}".prop_map(|text| Name::new(&text).unwrap())
}

fn addresses() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), 1..=u16::MAX).prop_map(SocketAddr::from)
}

fn places() -> impl Strategy<Value = Address> {
    prop_oneof![
        addresses().prop_map(Address::Ip),
        ("[a-z][a-z0-9]{0,9}(\\.[a-z]{1,5}){0,2}\\.?", 1..=u16::MAX)
            .prop_map(|(host, port)| Address::Name { host: host.into(), port }),
        "_[a-z]{1,9}\\._tcp\\.[a-z]{1,9}".prop_map(|name| Address::Service(name.into())),
    ]
}

/// Only what drains has a time.
fn drains() -> impl Strategy<Value = (State, Option<Duration>)> {
    let within = (1u64..1_000_000_000).prop_map(Duration::from_millis);
    prop_oneof![Just((State::Active, None)), proptest::option::of(within).prop_map(|within| (State::Draining, within)),]
}

fn backends() -> impl Strategy<Value = Backend> {
    let zone = proptest::option::of(names());
    (1u32..=1000, drains(), any::<bool>(), zone).prop_map(|(weight, (state, drain_within), backup, zone)| Backend {
        weight: NonZeroU32::new(weight).unwrap(),
        state,
        drain_within,
        backup,
        zone,
        ..Backend::default()
    })
}

/// An upstream of which only how it balances is said.
fn balanced() -> impl Strategy<Value = Upstream> {
    let balance = prop::sample::select(Balance::WORDS).prop_map(|(_, balance)| balance);
    let on = prop_oneof![
        Just(HashOn::ClientIp),
        Just(HashOn::Path),
        "[a-z0-9_-]{1,20}".prop_map(HashOn::Header),
        "[A-Za-z0-9_.-]{1,20}".prop_map(HashOn::Cookie),
        "[!-~&&[^&=#?]]{1,20}".prop_map(HashOn::Query),
    ];
    let ttl = proptest::option::of(1u64..100_000_000).prop_map(|s| s.map(Duration::from_secs));
    let sticky = proptest::option::of(("[A-Za-z0-9_.-]{1,20}", ttl, any::<bool>()));
    (balance, on, 101u32..=1_000_000, sticky, 0u64..1_000_000, 1u32..=100).prop_map(
        |(balance, hash_on, hash_bound, sticky, slow_start, zone_min_share)| Upstream {
            balance,
            hash_on,
            hash_bound,
            sticky: sticky.map(|(cookie, ttl, secure)| Sticky { cookie, ttl, secure }),
            slow_start: Duration::from_millis(slow_start),
            zone_min_share,
            ..Upstream::default()
        },
    )
}

fn checks() -> impl Strategy<Value = Check> {
    let times = (50u64..1_000_000, 1u64..1_000_000, 1u32.., 1u32.., 0u32..=50, 0u16..);
    let asked = ("/[a-z?=]{0,9}", prop::option::of("[a-z.]{1,9}"), prop::option::of("\\PC{1,9}"));
    let kind = prop::sample::select(CheckKind::WORDS);
    (kind, times, asked).prop_map(|((_, kind), (interval, timeout, rise, fall, jitter, port), (path, host, text))| {
        let any = Check {
            kind,
            interval: Duration::from_millis(interval),
            timeout: Duration::from_millis(timeout),
            rise: NonZeroU32::new(rise).unwrap(),
            fall: NonZeroU32::new(fall).unwrap(),
            jitter,
            port: NonZeroU16::new(port),
            ..Check::default()
        };
        match kind {
            CheckKind::None | CheckKind::Tcp | CheckKind::Tls => any,
            CheckKind::Http => Check { path, host, statuses: "200-299, 404".parse().unwrap(), body: text, ..any },
            CheckKind::Websocket => {
                let subprotocol = host.as_ref().map(|_| "v1.chat".to_owned());
                Check { path, host, echo: text, subprotocol, ..any }
            }
        }
    })
}

fn ejects() -> impl Strategy<Value = Eject> {
    (any::<u32>(), 1u64..1000, 1000u64..1_000_000, 1u32..=100).prop_map(|(after, base, max, share)| Eject {
        after,
        base: Duration::from_millis(base),
        max: Duration::from_millis(max),
        share,
    })
}

fn upstreams() -> impl Strategy<Value = Arc<Upstream>> {
    (balanced(), checks(), ejects(), btree_map(places(), backends(), 0..4)).prop_map(
        |(balanced, check, eject, backends)| {
            let tls = (check.kind == CheckKind::Tls).then(Default::default);
            Arc::new(Upstream { check, eject, backends, tls, ..balanced })
        },
    )
}

fn http2() -> impl Strategy<Value = Option<Http2>> {
    prop::sample::select(vec![None, Some(Http2::Off), Some(Http2::On)])
}

/// Any config that can be meant: routes lead to upstreams that are there, nothing claims another's place.
fn configs() -> impl Strategy<Value = Config> {
    let host = prop_oneof![Just(Host::Any), "[a-z0-9.-]{1,20}".prop_map(Host::Exact)];
    let places = btree_map((host, "/[!-~&&[^?#]]{0,20}"), (names(), any::<prop::sample::Index>()), 0..6);
    let vips = btree_map(1u32..0xdfff_ffff, names(), 0..3);
    (btree_map(names(), upstreams(), 0..4), places, btree_map(addresses(), (names(), http2(), drains()), 0..4), vips)
        .prop_map(|(upstreams, places, listeners, vips)| {
            let mut config = Config { upstreams, ..Config::default() };
            let all: Vec<Name> = config.upstreams.keys().cloned().collect();
            if !all.is_empty() {
                for ((host, path), (name, to)) in places {
                    let mut route = Route::to(to.get(&all).clone());
                    route.matching = Matching { host, path: Path::Prefix(path), ..Default::default() };
                    config.routes.insert(name, Arc::new(route));
                }
            }
            for (address, (name, http2, drain)) in listeners {
                let (state, drain_within) = drain;
                config.listeners.insert(name, Listener { http2, state, drain_within, ..Listener::at(address) });
            }
            for (address, name) in vips {
                config.vips.insert(name, Vip { address: IpAddr::V4(address.into()) });
            }
            config
        })
}

proptest! {
    #[test]
    fn written_and_read_it_is_the_same(config in configs()) {
        let text = render(&config);
        let read = parse(&text).map_err(|p| TestCaseError::fail(format!("{p}\nin\n{text}")))?;
        prop_assert_eq!(Config::try_from(&read).unwrap(), config);
    }

    #[test]
    fn as_messages_and_back_it_is_the_same(config in configs()) {
        prop_assert_eq!(Config::try_from(&pb::Config::from(&config)).unwrap(), config);
    }

    #[test]
    fn no_text_is_a_panic(text in "\\PC{0,200}") {
        let _ = parse(&text);
    }

    #[test]
    fn no_value_is_a_panic(value in "\\PC{0,20}", number in any::<i64>()) {
        for key in ["listeners.x.address", "routes.x.path", "upstreams.x.check.interval", "vips.x.address", "routes.x.host"] {
            let _ = parse(&format!("{key} = {}", toml::Value::from(value.as_str())));
            let _ = parse(&format!("{key} = {number}"));
        }
    }
}

#[test]
fn what_is_left_out_has_its_default() {
    let config = meant(
        r#"
        [routes.all]
        upstream = "chat"
        [[upstreams.chat.backends]]
        address = "10.0.0.1:9000"
        "#,
    );
    let route = &config.routes["all"];
    assert_eq!(**route, Route::to(Name::new("chat").unwrap()));
    let chat = &config.upstreams["chat"];
    assert_eq!((chat.balance, &chat.check), (Balance::RoundRobin, &Check::default()));
    let backend = chat.backends.values().next().unwrap();
    assert_eq!((backend.weight.get(), backend.state), (100, State::Active));
}

#[test]
fn the_empty_document_is_the_empty_config() {
    assert_eq!(meant(""), Config::default());
    assert_eq!(render(&Config::default()), "");
}

#[test]
fn it_is_written_as_a_person_would() {
    let text = r#"[listeners.public]
address = "10.0.0.100:80"
http2 = "on"

[routes.all]
host = "*"
path = '/a"b'
upstream = "v1.chat"

[upstreams."v1.chat"]
balance = "least_sessions"

[upstreams."v1.chat".check]
kind = "tcp"
interval = "1s 500ms"
timeout = "500ms"
rise = 1
fall = 2

[[upstreams."v1.chat".backends]]
address = "10.0.1.1:9000"
weight = 100
state = "draining"

[vips.main]
address = "10.0.0.100"
"#;
    assert_eq!(render(&meant(text)), text);
}

#[test]
fn all_mistakes_are_told_at_once_with_path_and_value() {
    let bad = r#"
        colour = "blue"
        [listeners.Public]
        address = "10.0.0.1:80"
        [listeners.plain]
        address = "localhost:80"
        [listeners.portless]
        address = "10.0.0.1:0"
        [listeners.none]
        [listeners.one]
        address = "0.0.0.0:443"
        http2 = "maybe"
        [listeners.two]
        address = "0.0.0.0:443"
        [routes.a]
        host = "http://chat.example.org"
        upstream = "chat"
        [routes.b]
        path = "chat"
        upstream = "chat"
        [routes.c]
        upstream = "nowhere"
        [routes.d]
        [routes.e]
        upstream = "chat"
        hots = "x"
        [upstreams.chat]
        balance = "fastest"
        check = { kind = "udp", interval = "10ms", rise = 0 }
        [[upstreams.chat.backends]]
        address = "10.0.1.1"
        [[upstreams.chat.backends]]
        address = "10.0.1.2:9000"
        weight = 5000
        state = "asleep"
        [[upstreams.chat.backends]]
        address = "10.0.1.3:9000"
        [[upstreams.chat.backends]]
        address = "10.0.1.3:9000"
        [vips.a]
        address = "10.0.0.100/24"
        [vips.b]
        address = "fd00::1"
        [vips.c]
        address = "0.0.0.0"
        [vips.d]
        address = "10.0.0.100"
        [vips.e]
        address = "10.0.0.100"
    "#;
    let expected = r#"
listeners.one.http2 = "maybe": is not known here; use one of: off, on
routes.e.hots = "x": is not a known key; known here: host, path, path_exact, path_regex, listeners, methods, headers, query, protocols, websocket, origins, origin_required, upstream, redirect, respond, rewrite, request_headers, response_headers, frames
upstreams.chat.balance = "fastest": is not known here; use one of: round_robin, least_sessions, p2c, hash
upstreams.chat.check.kind = "udp": is not known here; use one of: none, tcp, http, websocket, tls
upstreams.chat.check.rise = "0": is out of range; use a number from 1 to 4294967295
upstreams.chat.backends[1].state = "asleep": is not known here; use one of: active, draining
colour = "blue": is not a known key; known here: listeners, routes, upstreams, vips, certificates, settings
listeners.Public = "Public": is no name; use 1 to 63 of a-z 0-9 . _ - and begin with a letter or digit
listeners.plain.address = "localhost:80": is not an IP address and port; write it like "10.0.0.11:9000" or "[fd00::11]:9000"
listeners.portless.address = "10.0.0.1:0": has no port to connect to; use a port from 1 to 65535
listeners.none.address: is missing; write it like "10.0.0.11:9000"
upstreams.chat.backends[0].address = "10.0.1.1": is neither an IP address nor a name with a port; write it like "10.0.0.11:9000", "[fd00::11]:9000", "chat.internal:9000" or "srv:_chat._tcp.internal"
upstreams.chat.backends[1].weight = "5000": is too large; use 1 to 1000; to take no new sessions, drain it
upstreams.chat.backends[3].address = "10.0.1.3:9000": is there twice in this upstream; keep one of them
upstreams.chat.check.interval = "10ms": is too short; use 50ms or more
routes.a.host = "http://chat.example.org": is no host name; write the name alone, without scheme, port or path; "*.example.com" for all below it, "*" for any
routes.b.path = "chat": is no path prefix; begin with / and leave out blanks, ? and #
routes.d.upstream: is missing; name one of the upstreams, or a redirect or respond
vips.a.address = "10.0.0.100/24": is not an IP address; write it like "10.0.0.100", without a port or prefix
vips.b.address = "fd00::1": is IPv6, which a virtual IP cannot be yet; use an IPv4 address
vips.c.address = "0.0.0.0": is not an address one node can hold; use a free unicast address of the clients' network
routes.c.upstream = "nowhere": is no upstream here; known: chat
routes.e = "*/": is what routes.c takes too; change host or path of one of them, or give one another matcher
listeners.two.address = "0.0.0.0:443": is what listeners.one listens on too; choose another port for one of them
vips.e.address = "10.0.0.100": is vips.d too; choose another address for one of them
"#;
    assert_eq!(format!("\n{}\n", parse(bad).unwrap_err()), expected);
}

#[test]
fn a_reference_to_nothing_says_what_there_is() {
    let text = "routes.a.upstream = \"chat\"";
    let expected = r#"routes.a.upstream = "chat": is no upstream here; there is none yet; add it first"#;
    assert_eq!(parse(text).unwrap_err().to_string(), expected);
    let many: String = (0..20).map(|i| format!("[upstreams.u{i:02}]\n")).collect();
    let said = parse(&format!("{text}\n{many}")).unwrap_err().to_string();
    assert!(said.ends_with("known: u00, u01, u02, u03, u04, u05, u06, u07, …"), "{said}");
}

#[test]
fn two_routes_cannot_take_the_same_place() {
    let text = r#"
        upstreams.chat.balance = "round_robin"
        routes.a = { host = "Chat.Example.org", path = "/ws", upstream = "chat" }
        routes.b = { host = "chat.example.org", path = "/ws", upstream = "chat" }
        routes.c = { host = "*", path = "/ws", upstream = "chat" }
        routes.d = { path = "/ws", upstream = "chat" }
    "#;
    let expected = "\
routes.b = \"chat.example.org/ws\": is what routes.a takes too; change host or path of one of them, or give one another matcher
routes.d = \"*/ws\": is what routes.c takes too; change host or path of one of them, or give one another matcher";
    assert_eq!(parse(text).unwrap_err().to_string(), expected);
}

#[test]
fn how_sessions_are_shared_out_is_written_where_it_is_not_the_default() {
    let text = r#"[upstreams.chat]
balance = "hash"
hash_on = "header:x-user"
hash_bound = 150
slow_start = "30s"
zone_min_share = 70

[upstreams.chat.sticky]
cookie = "sid"
ttl = "8h"
secure = true

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
backup = true
zone = "b"
"#;
    assert_eq!(render(&meant(text)), text);
}

#[test]
fn what_cannot_balance_is_told() {
    let bad = r#"
        [upstreams.a]
        hash_on = "header:"
        hash_bound = 100
        zone_min_share = 101
        sticky = { cookie = "a b" }
        [upstreams.b]
        hash_on = "referer"
        sticky = { ttl = "1h" }
        [upstreams.c]
        hash_on = "query:a=b"
        [[upstreams.c.backends]]
        address = "10.0.1.1:9000"
        zone = "Zone A"
    "#;
    let expected = r#"
upstreams.a.hash_on = "header:": does not name a header field or cookie; use one of: client_ip, header:NAME, cookie:NAME, query:NAME, path
upstreams.a.hash_bound = "100": is no percentage of the fair share that all can keep; use 101 to 1000000; the last never moves a key
upstreams.a.sticky.cookie = "a b": is no cookie's name; use 1 to 64 letters, digits, - _ and .
upstreams.a.zone_min_share = "101": is more than all; use a percentage from 1 to 100
upstreams.b.hash_on = "referer": is nothing to hash; use one of: client_ip, header:NAME, cookie:NAME, query:NAME, path
upstreams.b.sticky.cookie: is missing; name the cookie that Tandem shall set
upstreams.c.backends[0].zone = "Zone A": is no name; use 1 to 63 of a-z 0-9 . _ - and begin with a letter or digit
upstreams.c.hash_on = "query:a=b": does not name a query parameter; use one of: client_ip, header:NAME, cookie:NAME, query:NAME, path
"#;
    assert_eq!(format!("\n{}\n", parse(bad).unwrap_err()), expected);
    let short = parse("upstreams.a.sticky = { cookie = \"sid\", ttl = \"1500ms\" }").unwrap_err().to_string();
    assert!(short.contains("whole seconds"), "{short}");
}
