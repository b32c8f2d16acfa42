//! Limits, timers and PROXY headers, asked for and shown.

use serde_json::json;
use tandem_proto::admin::v1::GetConfigReply;
use tandem_proto::config::v1 as pb;
use tandem_proto::config::v1::edit::Edit;
use tandem_proto::document;

use crate::fake::{Node, Say, tandemctl};

async fn edits(line: &str) -> (String, Vec<Edit>) {
    let node = Node::start([Say::Done(4, Vec::new())]).await;
    let ran = tandemctl(&[&node.address], line).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{line}");
    (ran.out, node.changes().remove(0).edits.into_iter().map(|e| e.edit.unwrap()).collect())
}

#[tokio::test]
async fn settings_say_only_what_is_named() {
    let (out, edits) = edits("settings set --upgrades-per-second 2000 --max-sessions 0 --tcp-keepalive off").await;
    assert_eq!(out, "revision 4: settings set; they hold for new connections\n");
    let set = pb::Settings {
        upgrades_per_second: Some(2000),
        max_sessions: Some(0),
        tcp_keepalive_ms: Some(0),
        ..Default::default()
    };
    assert_eq!(edits, [Edit::SetSettings(set)]);
}

#[tokio::test]
async fn settings_are_shown_with_their_defaults() {
    let node = Node::start([Say::Done(4, Vec::new())]).await;
    let config = document::parse("settings = { max_sessions = 9000, tcp_user_timeout = \"off\" }").unwrap();
    node.has(GetConfigReply { revision: 7, config: Some(config), ..Default::default() });
    let json = tandemctl(&[&node.address], "settings show --json").await.json();
    assert_eq!(json["revision"], 7);
    assert_eq!(json["settings"]["max_sessions"], "9000");
    assert_eq!(json["settings"]["tcp_user_timeout"], "off");
    assert_eq!(json["settings"]["head_timeout"], "10s");
    let shown = tandemctl(&[&node.address], "settings show").await.out;
    assert!(shown.contains("max_sessions") && shown.contains("9000"), "{shown}");
}

#[tokio::test]
async fn an_upstream_takes_its_bounds() {
    let set = pb::SetUpstream {
        name: "chat".into(),
        send_proxy: Some(pb::SendProxy::V2.into()),
        max_sessions: Some(5),
        dial_timeout_ms: Some(300),
        idle_timeout_ms: Some(0),
        retries: Some(0),
        source_addresses: Some(pb::Addresses { addresses: vec!["10.0.0.1".into(), "10.0.0.2".into()] }),
        ..Default::default()
    };
    let flags = "--send-proxy v2 --max-sessions 5 --dial-timeout 300ms --idle-timeout off --retries 0 \
                 --source-address 10.0.0.1,10.0.0.2";
    assert_eq!(edits(&format!("upstream set chat {flags}")).await.1, [Edit::SetUpstream(set.clone())]);
    let (_, added) = edits(&format!("upstream add chat {flags}")).await;
    assert_eq!(added[1..], [Edit::SetUpstream(set)], "added and set in one change");
    let (_, alone) = edits("upstream add chat").await;
    assert_eq!(alone.len(), 1);
}

#[tokio::test]
async fn a_backend_and_a_listener_take_theirs() {
    let (out, set) = edits("backend set chat 1.2.3.4:5 --max-sessions 0 --weight 3").await;
    assert_eq!(out, "revision 4: backend 1.2.3.4:5 of chat set to weight 3, no limit\n");
    let expected = pb::SetBackend {
        upstream: "chat".into(),
        address: "1.2.3.4:5".into(),
        weight: Some(3),
        max_sessions: Some(0),
        ..Default::default()
    };
    assert_eq!(set, [Edit::SetBackend(expected)]);

    let line =
        "listener add in 0.0.0.0:80 --proxy-protocol required --proxy-from 10.0.0.0/24,10.1.0.9 --max-sessions 7";
    let [Edit::AddListener(added)] = &edits(line).await.1[..] else { panic!("another edit") };
    let json = json!([added.proxy_protocol().as_str_name(), added.proxy_from, added.max_sessions]);
    assert_eq!(json, json!(["PROXY_PROTOCOL_REQUIRED", ["10.0.0.0/24", "10.1.0.9"], 7]));
}
