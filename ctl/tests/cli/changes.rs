//! What each command asks of the node, and how refusals and notes reach the operator.

use serde_json::json;
use tandem_proto::config::v1::edit::Edit;
use tandem_proto::config::v1::{self as pb, Problem};

use crate::fake::{Node, Say, tandemctl};

fn problem(path: &str, value: &str, why: &str, mend: &str) -> Problem {
    Problem { path: path.into(), value: value.into(), why: why.into(), mend: mend.into() }
}

/// Runs each line and returns what it printed with the edits the node got.
async fn asked(line: &str) -> (String, Vec<Edit>) {
    let node = Node::start([Say::Done(4, Vec::new())]).await;
    let ran = tandemctl(&[&node.address], line).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{line}");
    let edits = node.changes().remove(0).edits.into_iter().map(|e| e.edit.unwrap()).collect();
    (ran.out, edits)
}

#[tokio::test]
async fn upstreams() {
    let (out, edits) = asked(
        "upstream add chat --balance least_sessions --check none --check-interval 200ms --backend 1.2.3.4:5*7 --backend 1.2.3.5:5",
    )
    .await;
    assert_eq!(out, "revision 4: upstream chat added with backends 1.2.3.4:5, 1.2.3.5:5\n");
    let [Edit::AddUpstream(u)] = edits.as_slice() else { panic!("{edits:?}") };
    assert_eq!((u.name.as_str(), u.balance()), ("chat", pb::Balance::LeastSessions));
    let check = u.check.clone().unwrap();
    assert_eq!((check.kind(), check.interval_ms, check.timeout_ms), (pb::CheckKind::None, 200, 0));
    let backends: Vec<_> = u.backends.iter().map(|b| (b.address.as_str(), b.weight)).collect();
    assert_eq!(backends, [("1.2.3.4:5", 7), ("1.2.3.5:5", 0)]);

    let (out, edits) = asked("upstream set chat --balance round_robin").await;
    assert_eq!(out, "revision 4: upstream chat set\n");
    let set =
        pb::SetUpstream { name: "chat".into(), balance: Some(pb::Balance::RoundRobin.into()), ..Default::default() };
    assert_eq!(edits, [Edit::SetUpstream(set)]);

    let (_, edits) = asked(
        "upstream set chat --check http --check-path /healthz --check-status 200-299,404 --check-body ok --check-port 81 --eject-after 0",
    )
    .await;
    let check = pb::Check {
        kind: pb::CheckKind::Http.into(),
        path: Some("/healthz".into()),
        statuses: vec!["200-299".into(), "404".into()],
        body: Some("ok".into()),
        port: Some(81),
        ..Default::default()
    };
    let eject = pb::Eject { after: Some(0), ..Default::default() };
    let set = pb::SetUpstream { name: "chat".into(), check: Some(check), eject: Some(eject), ..Default::default() };
    assert_eq!(edits, [Edit::SetUpstream(set)]);

    let (out, edits) = asked("upstream rm chat game").await;
    assert_eq!(out, "revision 4: upstreams chat, game removed\n");
    assert_eq!(edits, [Edit::RemoveUpstream("chat".into()), Edit::RemoveUpstream("game".into())]);
}

#[tokio::test]
async fn backends() {
    let set = |weight, state: Option<pb::BackendState>| {
        let state = state.map(Into::into);
        Edit::SetBackend(pb::SetBackend {
            upstream: "chat".into(),
            address: "1.2.3.4:5".into(),
            weight,
            state,
            ..Default::default()
        })
    };
    let added = pb::Backend { address: "1.2.3.4:5".into(), weight: 50, ..Default::default() };
    for (line, out, edit) in [
        (
            "backend add chat 1.2.3.4:5 --weight 50",
            "backend 1.2.3.4:5 added to chat",
            Edit::AddBackend(pb::AddBackend { upstream: "chat".into(), backend: Some(added) }),
        ),
        (
            "backend rm chat 1.2.3.4:5",
            "backend 1.2.3.4:5 removed from chat",
            Edit::RemoveBackend(pb::RemoveBackend { upstream: "chat".into(), address: "1.2.3.4:5".into() }),
        ),
        ("backend set chat 1.2.3.4:5 --weight 9", "backend 1.2.3.4:5 of chat set to weight 9", set(Some(9), None)),
        (
            "backend drain chat 1.2.3.4:5",
            "backend 1.2.3.4:5 of chat draining: no new sessions",
            set(None, Some(pb::BackendState::Draining)),
        ),
        (
            "backend resume chat 1.2.3.4:5",
            "backend 1.2.3.4:5 of chat active: new sessions again",
            set(None, Some(pb::BackendState::Active)),
        ),
    ] {
        assert_eq!(asked(line).await, (format!("revision 4: {out}\n"), vec![edit]), "{line}");
    }
    let (out, edits) = asked("backend drain chat 1.2.3.4:5 --within 10m").await;
    let done = "draining: no new sessions; sessions that are left end evenly within 10m";
    assert_eq!(out, format!("revision 4: backend 1.2.3.4:5 of chat {done}\n"));
    let [Edit::SetBackend(set)] = edits.as_slice() else { panic!("{edits:?}") };
    assert_eq!((set.state, set.drain_within_ms), (Some(pb::BackendState::Draining.into()), Some(600_000)));
}

#[tokio::test]
async fn routes_listeners_and_addresses() {
    let route = |host: &str, path: &str| {
        let (name, host, path, upstream) = ("r".into(), host.into(), path.into(), "chat".into());
        Edit::AddRoute(pb::Route { name, host, path, upstream, ..Default::default() })
    };
    let listener = pb::Listener { name: "public".into(), address: "10.0.0.100:80".into(), ..Default::default() };
    let new = pb::Listener { http2: pb::Http2::On.into(), ..listener.clone() };
    let vip = pb::Vip { name: "main".into(), address: "10.0.0.100".into() };
    let state = |state: pb::BackendState, drain_within_ms| {
        let state = Some(state.into());
        Edit::SetListener(pb::SetListener { name: "public".into(), state, drain_within_ms, ..Default::default() })
    };
    for (line, out, edit) in [
        ("route add r --upstream chat", "route r added: */ to chat", route("*", "/")),
        ("route add r --upstream chat --host h.x --path /p", "route r added: h.x/p to chat", route("h.x", "/p")),
        ("route rm r", "route r removed", Edit::RemoveRoute("r".into())),
        ("listener add public 10.0.0.100:80", "listener public added on 10.0.0.100:80", Edit::AddListener(listener)),
        (
            "listener add public 10.0.0.100:80 --http2 on",
            "listener public added on 10.0.0.100:80",
            Edit::AddListener(new),
        ),
        ("listener rm public", "listener public removed", Edit::RemoveListener("public".into())),
        (
            "listener drain public --within 10m",
            "listener public draining: new clients are answered 503; sessions that are left end evenly within 10m",
            state(pb::BackendState::Draining, Some(600_000)),
        ),
        (
            "listener drain public",
            "listener public draining: new clients are answered 503",
            state(pb::BackendState::Draining, None),
        ),
        ("listener resume public", "listener public active: new clients again", state(pb::BackendState::Active, None)),
        ("vip add main 10.0.0.100", "virtual IP main added: 10.0.0.100", Edit::AddVip(vip)),
        ("vip rm main", "virtual IP main removed", Edit::RemoveVip("main".into())),
    ] {
        assert_eq!(asked(line).await, (format!("revision 4: {out}\n"), vec![edit]), "{line}");
    }
}

#[tokio::test]
async fn terms_go_with_the_change() {
    let node = Node::start([Say::Done(4, Vec::new())]).await;
    let line = "backend add chat 1.2.3.4:5 --expect-revision 0 --actor ops --request-id r9";
    assert_eq!(tandemctl(&[&node.address], line).await.code, 0);
    assert_eq!(tandemctl(&[&node.address], "backend rm chat 1.2.3.4:5").await.code, 0);
    let changes = node.changes();
    assert_eq!(
        (changes[0].expect_revision, changes[0].actor.as_str(), changes[0].request_id.as_str()),
        (Some(0), "ops", "r9")
    );
    assert_eq!(changes[1].expect_revision, None);
    assert!(changes[1].actor.starts_with("alice"), "{}", changes[1].actor);
}

#[tokio::test]
async fn notes_are_talk_for_people_and_data_for_programs() {
    let node = Node::start([Say::Done(13, vec!["b was not asked: it is not reached".into()])]).await;
    let ran = tandemctl(&[&node.address], "listener add public 0.0.0.0:80").await;
    assert_eq!(ran.out, "revision 13: listener public added on 0.0.0.0:80\n");
    assert_eq!(ran.err, "note: b was not asked: it is not reached\n");
    let ran = tandemctl(&[&node.address], "listener add public 0.0.0.0:80 --json --request-id r").await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    let expected = json!({
        "revision": 13,
        "done": "listener public added on 0.0.0.0:80",
        "notes": ["b was not asked: it is not reached"],
        "request_id": "r",
    });
    assert_eq!(ran.json(), expected);
}

#[tokio::test]
async fn a_refusal_names_every_culprit_and_its_mend() {
    let node = Node::start([Say::Refused(
        12,
        vec![
            problem(
                "upstreams.chat.backends.x.address",
                "x",
                "is not an IP address and port",
                "write it like 1.2.3.4:5",
            ),
            problem("upstreams.game", "game", "is no upstream here", "known: chat"),
        ],
    )])
    .await;
    let ran = tandemctl(&[&node.address], "backend add chat x").await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    let expected = "refused, nothing was changed (revision 12):
  upstreams.chat.backends.x.address = \"x\": is not an IP address and port; write it like 1.2.3.4:5
  upstreams.game = \"game\": is no upstream here; known: chat
";
    assert_eq!(ran.err, expected);

    let ran = tandemctl(&[&node.address], "backend add chat x --json").await;
    assert_eq!((ran.code, ran.err.as_str()), (1, ""));
    let json = ran.json();
    assert_eq!(json["revision"], 12);
    assert_eq!(json["refused"].as_array().unwrap().len(), 2);
    let second =
        json!({"path": "upstreams.game", "value": "game", "why": "is no upstream here", "mend": "known: chat"});
    assert_eq!(json["refused"][1], second);
}

#[tokio::test]
async fn what_is_not_understood_is_refused_and_nothing_is_sent() {
    let node = Node::start([Say::Done(4, Vec::new())]).await;
    for line in ["backend add chat", "upstream set chat", "frobnicate", "backend add chat 1.2.3.4:5 --weight 0"] {
        let ran = tandemctl(&[&node.address], line).await;
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{line}");
        assert!(ran.err.starts_with("error: "), "{}", ran.err);
    }
    assert!(node.changes().is_empty());
    let ran = tandemctl(&[&node.address], "--help").await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
}

#[tokio::test]
async fn how_sessions_are_shared_out() {
    let (_, edits) =
        asked("upstream set chat --balance hash --hash-on header:X-User --sticky sid --slow-start 30s").await;
    let sticky = pb::Sticky { cookie: "sid".into(), ..Default::default() };
    let set = pb::SetUpstream {
        name: "chat".into(),
        balance: Some(pb::Balance::Hash.into()),
        hash_on: Some("header:x-user".into()),
        sticky: Some(sticky),
        slow_start_ms: Some(30_000),
        ..Default::default()
    };
    assert_eq!(edits, [Edit::SetUpstream(set)]);
    let (_, edits) = asked("upstream set chat --no-sticky --slow-start 0s").await;
    let set = pb::SetUpstream { name: "chat".into(), no_sticky: true, slow_start_ms: Some(0), ..Default::default() };
    assert_eq!(edits, [Edit::SetUpstream(set)]);

    let (_, edits) = asked("backend add chat 1.2.3.4:5 --zone b --backup").await;
    let [Edit::AddBackend(add)] = edits.as_slice() else { panic!("{edits:?}") };
    let backend = add.backend.clone().unwrap();
    assert_eq!((backend.zone.as_str(), backend.backup), ("b", true));
    let (out, edits) = asked("backend set chat 1.2.3.4:5 --backup false --zone c").await;
    assert_eq!(out, "revision 4: backend 1.2.3.4:5 of chat set to zone c, no backup\n");
    let [Edit::SetBackend(set)] = edits.as_slice() else { panic!("{edits:?}") };
    assert_eq!((set.weight, set.backup, set.zone.as_deref()), (None, Some(false), Some("c")));
}

#[tokio::test]
async fn a_node_is_taken_out_of_service_and_back() {
    let node = Node::start([Say::Done(4, Vec::new())]).await;
    let ran = tandemctl(&[&node.address], "node drain a --within 10m").await;
    let done = "a draining: no new clients; 17 sessions open; sessions that are left end evenly within 10m; see: tandemctl status\n";
    assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, done, ""));
    let ran = tandemctl(&[&node.address], "node drain b").await;
    assert_eq!(ran.out, "b draining: no new clients; 17 sessions open; see: tandemctl status\n");
    assert_eq!(ran.err, "note: no other proxy takes clients\n");
    assert_eq!(tandemctl(&[&node.address], "node resume b").await.out, "b is in service again\n");
    let ran = tandemctl(&[&node.address], "node drain z").await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.contains("no proxy is called \"z\"; known: a, b"), "{}", ran.err);
    let asked: Vec<_> = node.drains().into_iter().map(|d| (d.node, d.resume, d.within_ms)).collect();
    let expected = [("a", false, Some(600_000)), ("b", false, None), ("b", true, None), ("z", false, None)];
    assert_eq!(asked, expected.map(|(node, resume, within)| (node.to_owned(), resume, within)));
}
