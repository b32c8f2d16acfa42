//! Status and lists, as the terminal shows them.

use serde_json::json;
use tandem_proto::admin::v1::{
    BackendReport, GetConfigReply, ListenerReport, ListenerState, NameReport, NodeReport, NodeStatus, StatusReply,
    VipStatus,
};
use tandem_proto::document;
use tandem_proto::raft::v1::{Member, Role};

use crate::fake::{Node, Say, tandemctl};

fn proxy(id: u64, name: &str, up: bool, listener: ListenerState) -> NodeStatus {
    let member = Member {
        id,
        name: name.into(),
        address: format!("10.0.0.{id}:7440"),
        role: Role::Proxy.into(),
        ..Default::default()
    };
    let backend = |address: &str, up, error: &str, sessions| BackendReport {
        upstream: "chat".into(),
        address: address.into(),
        up,
        error: error.into(),
        sessions,
        drain_left_ms: (address == "10.0.1.2:9000").then_some(41_200 + id),
        ..Default::default()
    };
    let error = if listener == ListenerState::Failed { "address in use" } else { "" };
    let report = NodeReport {
        name: name.into(),
        revision: 12,
        backends: vec![backend("10.0.1.1:9000", true, "", 3), backend("10.0.1.2:9000", up, "timed out", 0)],
        listeners: vec![ListenerReport {
            name: "public".into(),
            address: "10.0.0.100:80".into(),
            state: listener.into(),
            error: error.into(),
            draining: true,
            drain_left_ms: (id == 1).then_some(500),
            ..Default::default()
        }],
        ..Default::default()
    };
    NodeStatus { member: Some(member), reachable: true, voter: true, report: Some(report), lagging: false }
}

async fn pair() -> Node {
    let node = Node::start([Say::Done(13, Vec::new())]).await;
    let text = r#"
        listeners.public.address = "10.0.0.100:80"
        routes.all.upstream = "chat"
        vips.main.address = "10.0.0.100"
        [upstreams.chat]
        backends = [{ address = "10.0.1.1:9000" }, { address = "10.0.1.2:9000", weight = 50, state = "draining", drain_within = "1m" }]
        [upstreams.empty]
        check.kind = "none"
    "#;
    node.has(GetConfigReply { revision: 12, config: Some(document::parse(text).unwrap()), ..Default::default() });
    node.is(StatusReply {
        cluster: "demo".into(),
        revision: 12,
        leader: 1,
        quorum: true,
        nodes: vec![proxy(1, "a", true, ListenerState::Bound), proxy(2, "b", false, ListenerState::Failed)],
        warnings: vec!["b: listener public cannot listen on 10.0.0.100:80: address in use".into()],
        vips: vec![VipStatus { name: "main".into(), address: "10.0.0.100".into(), holders: vec!["a".into()] }],
        ..Default::default()
    });
    node
}

#[tokio::test]
async fn lists_are_plain_tables() {
    let node = pair().await;
    for (line, expected) in [
        (
            "upstream ls",
            "
UPSTREAM  BALANCE      CHECK         BACKENDS
chat      round_robin  tcp every 1s  2 (1 draining)
empty     round_robin  none          0
",
        ),
        (
            "backend ls",
            "
UPSTREAM  BACKEND        WEIGHT  STATE               ZONE  HEALTH                         SESSIONS
chat      10.0.1.1:9000  100     active              -     up                             6
chat      10.0.1.2:9000  50      draining, 42s left  -     DOWN on b: timed out; up on a  0
",
        ),
        (
            "backend ls empty",
            "
UPSTREAM  BACKEND  WEIGHT  STATE  ZONE  HEALTH  SESSIONS
",
        ),
        (
            "route ls",
            "
ROUTE  HOST  PATH  ALSO  TO
all    *     /     -     chat
",
        ),
        (
            "listener ls",
            "
LISTENER  ADDRESS        STATE
public    10.0.0.100:80  a bound draining (1s left), b FAILED: address in use
",
        ),
        (
            "vip ls",
            "
VIP   ADDRESS     HOLDER
main  10.0.0.100  a
",
        ),
    ] {
        let ran = tandemctl(&[&node.address], line).await;
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{line}");
        assert_eq!(format!("\n{}", ran.out), expected, "{line}");
    }
}

#[tokio::test]
async fn lists_are_documents_for_programs() {
    let node = pair().await;
    let ask = async |line: &str| tandemctl(&[&node.address], &format!("{line} --json")).await.json();
    assert_eq!(ask("upstream ls").await["upstreams"]["empty"]["check"]["kind"], "none");
    assert_eq!(ask("route ls").await["routes"]["all"]["upstream"], "chat");
    assert_eq!(ask("vip ls").await["vips"], json!([{"name": "main", "address": "10.0.0.100", "holders": ["a"]}]));
    let backends = ask("backend ls chat").await;
    assert_eq!(backends["revision"], 12);
    assert_eq!(backends["backends"][1]["state"], "draining");
    assert_eq!(backends["backends"][1]["seen"][1]["error"], "timed out");
    assert_eq!(backends["backends"][1]["seen"][1]["drain_left_ms"], 41_202);
    let listeners = ask("listener ls").await;
    assert_eq!(
        listeners["listeners"][0]["seen"][1],
        json!({"node": "b", "state": "failed", "error": "address in use", "draining": true, "drain_left_ms": null})
    );
}

#[tokio::test]
async fn each_server_behind_a_name_is_a_line_and_so_is_a_name_without_any() {
    let node = Node::start([Say::Done(13, Vec::new())]).await;
    let text = r#"
        [upstreams.chat]
        backends = [{ address = "chat.internal:9000" }, { address = "lost.internal:9000" }, { address = "srv:_chat.internal" }]
    "#;
    node.has(GetConfigReply { revision: 12, config: Some(document::parse(text).unwrap()), ..Default::default() });
    let backend = |name: &str, address: &str, sessions| BackendReport {
        upstream: "chat".into(),
        name: name.into(),
        address: address.into(),
        up: true,
        sessions,
        ..Default::default()
    };
    let mut status = proxy(1, "a", true, ListenerState::Bound);
    status.report.as_mut().unwrap().backends = vec![
        backend("chat.internal:9000", "10.0.1.1:9000", 3),
        backend("chat.internal:9000", "10.0.1.2:9000", 4),
        backend("srv:_chat.internal", "10.0.1.3:81", 1),
    ];
    let lost = NameReport { name: "lost.internal:9000".into(), servers: 0, trouble: "no address known yet".into() };
    status.report.as_mut().unwrap().names = vec![lost];
    node.is(StatusReply { revision: 12, leader: 1, quorum: true, nodes: vec![status], ..Default::default() });
    let ran = tandemctl(&[&node.address], "backend ls").await;
    let expected = "
UPSTREAM  BACKEND                             WEIGHT  STATE   ZONE  HEALTH   SESSIONS
chat      10.0.1.1:9000 (chat.internal:9000)  100     active  -     up       3
chat      10.0.1.2:9000 (chat.internal:9000)  100     active  -     up       4
chat      lost.internal:9000                  100     active  -     unknown  0
chat      10.0.1.3:81 (srv:_chat.internal)    of DNS  active  -     up       1
";
    assert_eq!(format!("\n{}", ran.out), expected);
    let json = tandemctl(&[&node.address], "backend ls --json").await.json();
    assert_eq!(
        (json["backends"][0]["sessions"].clone(), json["backends"][0]["seen"][1]["address"].clone()),
        (7.into(), "10.0.1.2:9000".into())
    );
    let json = tandemctl(&[&node.address], "status --json").await.json();
    assert_eq!(json["verdict"], "degraded", "a name that stands for nobody is not as it should be");
}

#[tokio::test]
async fn an_unknown_upstream_is_not_an_empty_list() {
    let node = pair().await;
    let ran = tandemctl(&[&node.address], "backend ls chta").await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.contains("\"chta\": is no upstream here; known: chat, empty"), "{}", ran.err);
}

#[tokio::test]
async fn status_comes_from_any_node_without_colour_in_a_pipe() {
    let node = pair().await;
    let ran = tandemctl(&[&node.address], "status").await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert!(ran.out.starts_with("demo DEGRADED: revision 12, quorum 2 of 2, leader a, holder a"), "{}", ran.out);
    assert!(
        ran.out.contains("warning: b: listener public cannot listen on 10.0.0.100:80: address in use\n"),
        "{}",
        ran.out
    );
    assert!(!ran.out.contains('\x1b'));
    let json = tandemctl(&[&node.address], "status --json").await.json();
    assert_eq!((json["verdict"].clone(), json["leader"].clone()), ("degraded".into(), "a".into()));
}

#[tokio::test]
async fn levels_are_told_by_node_and_changed_where_asked() {
    let node = pair().await;
    let ran = tandemctl(&[&node.address], "log show").await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "NODE  LEVELS\na     warn\nb     warn\nw     -\n"), "{ran:?}");
    assert_eq!(ran.err, "note: w could not be asked, and logs as before: no answer in time\n");
    let ran = tandemctl(&[&node.address], "log set info,access=debug --on b --json").await;
    assert_eq!(ran.json(), json!({ "nodes": [{ "node": "b", "levels": "info,access=debug", "error": null }] }));
}
