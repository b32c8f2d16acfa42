//! Each edit, done and refused.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::document;
use crate::model::{Balance, CheckKind, HashOn, State, Sticky};

fn start() -> Config {
    let text = r#"
        listeners.public.address = "0.0.0.0:80"
        routes.all.upstream = "chat"
        vips.main.address = "10.0.0.100"
        upstreams.spare = {}
        [upstreams.chat]
        balance = "least_sessions"
        check = { kind = "tcp", interval = "300ms", fall = 4 }
        backends = [{ address = "10.0.1.1:9000" }, { address = "10.0.1.2:9000", weight = 50 }]
    "#;
    Config::try_from(&document::parse(text).unwrap()).unwrap()
}

fn edited(edits: impl IntoIterator<Item = Edit>) -> Result<Config, String> {
    let edits: Vec<pb::Edit> = edits.into_iter().map(|edit| pb::Edit { edit: Some(edit) }).collect();
    start().edited(&edits).map_err(|problems| problems.to_string())
}

fn listener(name: &str, address: &str) -> Edit {
    Edit::AddListener(pb::Listener { name: name.into(), address: address.into(), ..Default::default() })
}

fn route(name: &str, path: &str, upstream: &str) -> Edit {
    Edit::AddRoute(pb::Route { name: name.into(), path: path.into(), upstream: upstream.into(), ..Default::default() })
}

fn add_backend(upstream: &str, address: &str, weight: u32) -> Edit {
    let backend = pb::Backend { address: address.into(), weight, ..Default::default() };
    Edit::AddBackend(pb::AddBackend { upstream: upstream.into(), backend: Some(backend) })
}

fn set_backend(upstream: &str, address: &str, weight: Option<u32>, state: Option<pb::BackendState>) -> Edit {
    let state = state.map(Into::into);
    Edit::SetBackend(pb::SetBackend {
        upstream: upstream.into(),
        address: address.into(),
        weight,
        state,
        ..Default::default()
    })
}

fn remove_backend(upstream: &str, address: &str) -> Edit {
    Edit::RemoveBackend(pb::RemoveBackend { upstream: upstream.into(), address: address.into() })
}

fn vip(name: &str, address: &str) -> Edit {
    Edit::AddVip(pb::Vip { name: name.into(), address: address.into() })
}

#[test]
fn a_backend_comes_changes_drains_and_goes() {
    let address = "10.0.1.3:9000".parse().unwrap();
    let of = |config: &Config| config.upstreams["chat"].backends.get(&address).cloned();
    let add = || add_backend("chat", "10.0.1.3:9000", 7);
    let added = edited([add()]).unwrap();
    assert_eq!(of(&added).map(|b| (b.weight.get(), b.state)), Some((7, State::Active)));
    let drained =
        edited([add(), set_backend("chat", "10.0.1.3:9000", None, Some(pb::BackendState::Draining))]).unwrap();
    assert_eq!(of(&drained).map(|b| (b.weight.get(), b.state)), Some((7, State::Draining)));
    let heavier = edited([add(), set_backend("chat", "10.0.1.3:9000", Some(9), None)]).unwrap();
    assert_eq!(of(&heavier).map(|b| (b.weight.get(), b.state)), Some((9, State::Active)));
    let gone = edited([add(), remove_backend("chat", "10.0.1.3:9000")]).unwrap();
    assert_eq!(gone, start());
}

#[test]
fn a_drain_has_the_time_it_was_given_last() {
    let address = "10.0.1.1:9000".parse().unwrap();
    let set = |state: Option<State>, within| {
        let (upstream, state) = ("chat".into(), state.map(Into::into));
        let drain_within_ms = within;
        let address = "10.0.1.1:9000".into();
        Edit::SetBackend(pb::SetBackend { upstream, address, state, drain_within_ms, ..Default::default() })
    };
    let after = |edits: Vec<Edit>| {
        let after = edited(edits)?;
        let backend = &after.upstreams["chat"].backends[&address];
        Ok::<_, String>((backend.state, backend.drain_within.map(|within| within.as_secs())))
    };
    let minute = || set(Some(State::Draining), Some(60_000));
    assert_eq!(after(vec![minute()]), Ok((State::Draining, Some(60))));
    assert_eq!(after(vec![minute(), set(None, Some(5_000))]), Ok((State::Draining, Some(5))));
    assert_eq!(
        after(vec![minute(), set(Some(State::Draining), None)]),
        Ok((State::Draining, None)),
        "no time was said"
    );
    assert_eq!(after(vec![minute(), set(Some(State::Active), None)]), Ok((State::Active, None)));
    let refused = after(vec![set(None, Some(5_000))]).unwrap_err();
    let expected =
        "upstreams.chat.backends.10.0.1.1:9000.drain_within = \"5s\": is used by nobody while state is active";
    assert!(refused.starts_with(expected), "{refused}");
}

#[test]
fn a_listener_drains_and_comes_back() {
    let set = |state: Option<State>, drain_within_ms| {
        let (name, state) = ("public".into(), state.map(Into::into));
        Edit::SetListener(pb::SetListener { name, state, drain_within_ms, ..Default::default() })
    };
    let after = |edits: Vec<Edit>| {
        let after = edited(edits)?;
        let listener = &after.listeners["public"];
        Ok::<_, String>((listener.state, listener.drain_within.map(|within| within.as_secs())))
    };
    let minute = || set(Some(State::Draining), Some(60_000));
    assert_eq!(after(vec![minute()]), Ok((State::Draining, Some(60))));
    assert_eq!(after(vec![minute(), set(None, None)]), Ok((State::Draining, Some(60))), "what is not named stays");
    assert_eq!(after(vec![minute(), set(Some(State::Active), None)]), Ok((State::Active, None)));
    let refused = after(vec![set(Some(State::Active), Some(5_000))]).unwrap_err();
    let expected = "listeners.public.drain_within = \"5s\": is used by nobody while state is active";
    assert!(refused.starts_with(expected), "{refused}");
}

#[test]
fn an_upstream_keeps_what_a_set_does_not_name() {
    let balance = Some(pb::Balance::RoundRobin.into());
    let set = |balance, check| {
        Edit::SetUpstream(pb::SetUpstream { name: "chat".into(), balance, check, ..Default::default() })
    };
    let before = start().upstreams["chat"].clone();
    let after = edited([set(balance, None)]).unwrap().upstreams["chat"].clone();
    assert_eq!((after.balance, &after.check), (Balance::RoundRobin, &before.check));
    let check = pb::Check { kind: pb::CheckKind::None.into(), rise: 3, ..Default::default() };
    let after = edited([set(None, Some(check))]).unwrap().upstreams["chat"].clone();
    assert_eq!((after.balance, after.check.kind), (Balance::LeastSessions, CheckKind::None));
    assert_eq!((after.check.interval, after.check.rise.get(), after.check.fall.get()), (before.check.interval, 3, 4));
    assert_eq!(after.backends, before.backends);
}

#[test]
fn how_sessions_are_shared_out_changes_piece_by_piece() {
    let set = |set: pb::SetUpstream| Edit::SetUpstream(pb::SetUpstream { name: "chat".into(), ..set });
    let sticky = |cookie: &str, ttl_s, secure| Some(pb::Sticky { cookie: cookie.into(), ttl_s, secure });
    let hash = || {
        set(pb::SetUpstream {
            balance: Some(pb::Balance::Hash.into()),
            hash_on: Some("header:X-User".into()),
            hash_bound: Some(150),
            sticky: sticky("sid", Some(60), Some(true)),
            slow_start_ms: Some(30_000),
            zone_min_share: Some(70),
            ..Default::default()
        })
    };
    let of = |config: &Config| Upstream::clone(&config.upstreams["chat"]);
    let hashed = of(&edited([hash()]).unwrap());
    assert_eq!((hashed.balance, &hashed.hash_on), (Balance::Hash, &HashOn::Header("x-user".into())));
    assert_eq!((hashed.hash_bound, hashed.zone_min_share), (150, 70));
    assert_eq!(hashed.slow_start.as_secs(), 30);
    let ttl = |s| Some(std::time::Duration::from_secs(s));
    assert_eq!(hashed.sticky, Some(Sticky { cookie: "sid".into(), ttl: ttl(60), secure: true }));

    let longer = set(pb::SetUpstream { sticky: sticky("", Some(90), None), ..Default::default() });
    let longer = of(&edited([hash(), longer]).unwrap());
    let stuck = Some(Sticky { cookie: "sid".into(), ttl: ttl(90), secure: true });
    assert_eq!(longer, Upstream { sticky: stuck, ..hashed.clone() }, "what is not named stays");
    let ended = set(pb::SetUpstream { sticky: sticky("", Some(0), Some(false)), ..Default::default() });
    let stuck = Some(Sticky { cookie: "sid".into(), ttl: None, secure: false });
    assert_eq!(of(&edited([hash(), ended]).unwrap()).sticky, stuck);
    let loose = set(pb::SetUpstream { no_sticky: true, slow_start_ms: Some(0), ..Default::default() });
    let loose = of(&edited([hash(), loose]).unwrap());
    assert_eq!((loose.sticky, loose.slow_start.is_zero()), (None, true));

    let nameless = set(pb::SetUpstream { sticky: sticky("", Some(90), None), ..Default::default() });
    assert!(edited([nameless]).unwrap_err().starts_with("upstreams.chat.sticky.cookie: is missing"));
}

#[test]
fn a_backend_moves_to_a_zone_and_becomes_a_backup() {
    let set = |backup, zone: Option<&str>| {
        let (upstream, address) = ("chat".into(), "10.0.1.1:9000".into());
        let zone = zone.map(Into::into);
        Edit::SetBackend(pb::SetBackend { upstream, address, backup, zone, ..Default::default() })
    };
    let of = |edits: &[Edit]| {
        let backend = edited(edits.to_vec()).unwrap().upstreams["chat"].backends.values().next().cloned().unwrap();
        (backend.backup, backend.zone.map(|z| z.to_string()))
    };
    let b = || Some("b".to_owned());
    assert_eq!(of(&[set(Some(true), Some("b"))]), (true, b()));
    assert_eq!(of(&[set(Some(true), Some("b")), set(None, None)]), (true, b()));
    assert_eq!(of(&[set(Some(true), Some("b")), set(Some(false), None)]), (false, b()));
    assert_eq!(of(&[set(Some(true), Some("b")), set(None, Some(""))]), (true, None));
    assert!(edited([set(None, Some("No Zone"))]).unwrap_err().contains("10.0.1.1:9000.zone"));
}

#[test]
fn what_is_not_edited_is_shared_not_copied() {
    let before = start();
    let edits = [pb::Edit { edit: Some(add_backend("chat", "10.0.1.3:9000", 0)) }];
    let after = before.edited(&edits).unwrap();
    assert!(Arc::ptr_eq(&before.upstreams["spare"], &after.upstreams["spare"]));
    assert!(!Arc::ptr_eq(&before.upstreams["chat"], &after.upstreams["chat"]));
    assert_eq!(before, start(), "the config that is in use does not change");
}

#[test]
fn edits_see_those_before_them() {
    let upstream = pb::Upstream { name: "game".into(), ..Default::default() };
    let all = [Edit::AddUpstream(upstream), add_backend("game", "10.0.2.1:9000", 0), route("game", "/game", "game")];
    let config = edited(all).unwrap();
    assert_eq!(config.upstreams["game"].backends.len(), 1);
    let swapped = [Edit::RemoveRoute("all".into()), Edit::RemoveUpstream("chat".into())];
    assert!(!edited(swapped).unwrap().upstreams.contains_key("chat"));
}

#[test]
fn the_order_of_links_inside_one_change_does_not_matter() {
    let upstream = pb::Upstream { name: "game".into(), ..Default::default() };
    assert!(edited([route("game", "/game", "game"), Edit::AddUpstream(upstream)]).is_ok());
}

#[test]
fn a_whole_document_replaces_all() {
    let whole =
        pb::Config { vips: vec![pb::Vip { name: "v".into(), address: "10.0.0.9".into() }], ..Default::default() };
    let config = edited([Edit::Replace(whole)]).unwrap();
    assert_eq!((config.vips.len(), config.upstreams.len(), config.routes.len()), (1, 0, 0));
}

#[test]
fn each_refusal_names_the_culprit_and_the_mend() {
    let upstream = |name: &str| Edit::AddUpstream(pb::Upstream { name: name.into(), ..Default::default() });
    let short = pb::Check { interval_ms: 10, ..Default::default() };
    let set = |name: &str, check| Edit::SetUpstream(pb::SetUpstream { name: name.into(), check, ..Default::default() });
    let bare = Edit::AddBackend(pb::AddBackend { upstream: "chat".into(), backend: None });
    let bad = pb::Config { routes: vec![pb::Route { name: "r".into(), ..Default::default() }], ..Default::default() };
    let cases = [
        listener("public", "0.0.0.0:81"),
        listener("other", "0.0.0.0:80"),
        listener("other", "eighty"),
        listener("Other", "0.0.0.0:81"),
        Edit::RemoveListener("x".into()),
        route("all", "/x", "chat"),
        route("other", "/", "chat"),
        route("other", "/x", "x"),
        route("other", "/x", ""),
        route("other", "x y", "chat"),
        Edit::RemoveRoute("x".into()),
        upstream("chat"),
        upstream(""),
        Edit::RemoveUpstream("chat".into()),
        Edit::RemoveUpstream("x".into()),
        set("x", None),
        set("chat", Some(short)),
        add_backend("x", "10.0.1.9:9000", 0),
        add_backend("chat", "10.0.1.1:9000", 0),
        add_backend("chat", "10.0.1.9", 0),
        add_backend("chat", "10.0.1.9:9000", 1001),
        bare,
        set_backend("x", "10.0.1.1:9000", None, None),
        set_backend("chat", "10.0.1.9:9000", None, None),
        set_backend("chat", "10.0.1.1:9000", Some(1001), None),
        remove_backend("chat", "nonsense"),
        remove_backend("spare", "10.0.1.1:9000"),
        vip("main", "10.0.0.101"),
        vip("other", "10.0.0.100"),
        vip("other", "224.0.0.1"),
        Edit::RemoveVip("x".into()),
        Edit::Replace(bad),
    ];
    let said: Vec<String> = cases.into_iter().map(|edit| edited([edit]).unwrap_err()).collect();
    let expected = r#"
listeners.public = "public": is there already; remove it first, or choose another name
listeners.public.address = "0.0.0.0:80": is what listeners.other listens on too; choose another port for one of them
listeners.other.address = "eighty": is not an IP address and port; write it like "10.0.0.11:9000" or "[fd00::11]:9000"
listeners.Other = "Other": is no name; use 1 to 63 of a-z 0-9 . _ - and begin with a letter or digit
listeners.x = "x": is not there; known: public
routes.all = "all": is there already; remove it first, or choose another name
routes.other = "*/": is what routes.all takes too; change host or path of one of them, or give one another matcher
routes.other.upstream = "x": is no upstream here; known: chat, spare
routes.other.upstream: is missing; name one of the upstreams, or a redirect or respond
routes.other.path = "x y": is no path prefix; begin with / and leave out blanks, ? and #
routes.x = "x": is not there; known: all
upstreams.chat = "chat": is there already; remove it first, or choose another name
upstreams.: is no name; use 1 to 63 of a-z 0-9 . _ - and begin with a letter or digit
upstreams.chat = "chat": is used by route all; remove those routes first: tandemctl route rm all
upstreams.x = "x": is not there; known: chat, spare
upstreams.x = "x": is no upstream here; known: chat, spare
upstreams.chat.check.interval = "10ms": is too short; use 50ms or more
upstreams.x = "x": is no upstream here; known: chat, spare
upstreams.chat.backends.10.0.1.1:9000 = "10.0.1.1:9000": is a backend of this upstream already; use: tandemctl backend set
upstreams.chat.backends.10.0.1.9.address = "10.0.1.9": is neither an IP address nor a name with a port; write it like "10.0.0.11:9000", "[fd00::11]:9000", "chat.internal:9000" or "srv:_chat._tcp.internal"
upstreams.chat.backends.10.0.1.9:9000.weight = "1001": is too large; use 1 to 1000; to take no new sessions, drain it
upstreams.chat.backends: no backend was given; name its address
upstreams.x = "x": is no upstream here; known: chat, spare
upstreams.chat.backends.10.0.1.9:9000 = "10.0.1.9:9000": is no backend of this upstream; known: 10.0.1.1:9000, 10.0.1.2:9000
upstreams.chat.backends.10.0.1.1:9000.weight = "1001": is too large; use 1 to 1000; to take no new sessions, drain it
upstreams.chat.backends.nonsense = "nonsense": is no backend of this upstream; known: 10.0.1.1:9000, 10.0.1.2:9000
upstreams.spare.backends.10.0.1.1:9000 = "10.0.1.1:9000": is no backend of this upstream; there is none
vips.main = "main": is there already; remove it first, or choose another name
vips.other.address = "10.0.0.100": is vips.main too; choose another address for one of them
vips.other.address = "224.0.0.1": is not an address one node can hold; use a free unicast address of the clients' network
vips.x = "x": is not there; known: main
routes.r.upstream: is missing; name one of the upstreams, or a redirect or respond
"#;
    assert_eq!(format!("\n{}\n", said.join("\n")), expected);
}

#[test]
fn a_route_is_set_whole_and_its_listener_stays_while_it_is_named() {
    let said = |name: &str, upstream: &str| {
        let listeners = vec!["public".to_owned()];
        pb::Route { name: name.into(), path: "/x".into(), listeners, upstream: upstream.into(), ..Default::default() }
    };
    let set = edited([Edit::SetRoute(said("all", "spare"))]).unwrap();
    let route = &set.routes["all"];
    assert_eq!(route.upstream().map(Name::as_str), Some("spare"));
    assert!(route.matching.listeners.contains("public"));
    let gone = edited([Edit::SetRoute(said("all", "spare")), Edit::RemoveListener("public".into())]).unwrap_err();
    assert!(gone.starts_with("listeners.public = \"public\": is named by route all; "), "{gone}");
    assert!(edited([Edit::SetRoute(said("all", "spare")), Edit::RemoveUpstream("chat".into())]).is_ok());
    let nobody = edited([Edit::SetRoute(said("x", "chat"))]).unwrap_err();
    assert_eq!(nobody, "routes.x = \"x\": is not there; known: all");
    assert!(edited([Edit::SetRoute(said("all", "nowhere"))]).unwrap_err().contains("is no upstream here"));
}

#[test]
fn all_mistakes_of_all_edits_are_told_and_nothing_is_done() {
    let said = edited([
        add_backend("chat", "10.0.1.3:9000", 0),
        add_backend("x", "nonsense", 5000),
        Edit::RemoveVip("x".into()),
    ])
    .unwrap_err();
    assert_eq!(said.lines().count(), 4, "{said}");
    let unknown = start().edited(&[pb::Edit { edit: None }]).unwrap_err().to_string();
    assert_eq!(unknown, "edit: is of a kind this node does not know; upgrade the node, then try again");
}
