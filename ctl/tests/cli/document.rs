//! The whole config as a document, out and in.

use serde_json::json;
use tandem_proto::admin::v1::GetConfigReply;
use tandem_proto::config::v1 as pb;
use tandem_proto::config::v1::edit::Edit;
use tandem_proto::{document, model};

use crate::fake::{Node, Say, tandemctl, tandemctl_fed};

const DOCUMENT: &str = r#"
[listeners.public]
address = "10.0.0.100:80"

[routes.all]
upstream = "chat"

[upstreams.chat]
balance = "least_sessions"
[[upstreams.chat.backends]]
address = "10.0.1.1:9000"

[vips.main]
address = "10.0.0.100"
"#;

async fn node_with_document() -> Node {
    let node = Node::start([Say::Done(13, Vec::new())]).await;
    node.has(GetConfigReply {
        revision: 12,
        config: Some(document::parse(DOCUMENT).unwrap()),
        changed_at_unix_ms: 1_790_000_000_000,
        changed_by: "alice@desk".into(),
        record: Some(pb::Record { reason: "two\nmore".into(), ..Default::default() }),
    });
    node
}

#[tokio::test]
async fn shown_and_applied_it_is_the_same_config() {
    let node = node_with_document().await;
    let shown = tandemctl(&[&node.address], "config show").await;
    assert_eq!((shown.code, shown.err.as_str()), (0, ""));
    assert!(shown.out.starts_with("# revision 12, 2026-09-21T14:13:20Z by alice@desk: two more\n"), "{}", shown.out);

    let applied = tandemctl_fed(&[&node.address], "config apply - --expect-revision 12", &shown.out).await;
    assert_eq!((applied.code, applied.err.as_str()), (0, ""));
    assert_eq!(applied.out, "revision 13: config is now that of stdin\n");
    let change = node.changes().remove(0);
    assert_eq!(change.expect_revision, Some(12));
    let [pb::Edit { edit: Some(Edit::Replace(sent)) }] = change.edits.as_slice() else { panic!("{change:?}") };
    let meant = |config| model::Config::try_from(config).unwrap();
    assert_eq!(meant(sent), meant(&document::parse(DOCUMENT).unwrap()));
}

#[tokio::test]
async fn json_has_the_documents_shape() {
    let node = node_with_document().await;
    let json = tandemctl(&[&node.address], "config show --json").await.json();
    assert_eq!((json["revision"].clone(), json["changed_by"].clone()), (12.into(), "alice@desk".into()));
    let config = &json["config"];
    assert_eq!(config["listeners"], json!({"public": {"address": "10.0.0.100:80"}}));
    assert_eq!(config["routes"]["all"], json!({"host": "*", "path": "/", "upstream": "chat"}));
    assert_eq!(config["upstreams"]["chat"]["backends"][0]["address"], "10.0.1.1:9000");
    assert_eq!(config["upstreams"]["chat"]["check"]["interval"], "1s");
}

#[tokio::test]
async fn an_empty_cluster_has_a_document_too() {
    let node = Node::start([Say::Done(1, Vec::new())]).await;
    let ran = tandemctl(&[&node.address], "config show").await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "# revision 0\n\n"));
    let json = tandemctl(&[&node.address], "config show --json").await.json();
    assert_eq!(
        json["config"],
        json!({"listeners": {}, "routes": {}, "upstreams": {}, "vips": {}, "certificates": {}, "settings": {}})
    );
}

#[tokio::test]
async fn every_mistake_of_a_file_is_told_at_once_and_nothing_is_sent() {
    let node = node_with_document().await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.toml");
    let text = r#"
color = "blue"
[listeners.public]
address = "10.0.0.100"
[routes.all]
upstream = "chta"
[upstreams.chat]
balance = "fastest"
"#;
    std::fs::write(&file, text).unwrap();
    let line = format!("config apply {}", file.display());
    let ran = tandemctl(&[&node.address], &line).await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.starts_with("refused, nothing was sent:\n"), "{}", ran.err);
    for culprit in [
        "color = \"blue\": is not a known key; known here: listeners, routes, upstreams, vips, certificates, settings",
        "listeners.public.address = \"10.0.0.100\": is not an IP address and port",
        "routes.all.upstream = \"chta\": is no upstream here; known: chat",
        "upstreams.chat.balance = \"fastest\": is not known here; use one of: round_robin, least_sessions",
    ] {
        assert!(ran.err.contains(culprit), "no {culprit} in {}", ran.err);
    }
    assert_eq!(ran.err.lines().count(), 5, "{}", ran.err);
    let json = tandemctl(&[&node.address], &format!("{line} --json")).await.json();
    assert_eq!((json["refused"].as_array().unwrap().len(), json["revision"].clone()), (4, json!(null)));
    assert!(node.changes().is_empty());
}

#[tokio::test]
async fn a_file_that_is_not_there_is_named() {
    let node = node_with_document().await;
    let ran = tandemctl(&[&node.address], "config apply nowhere.toml").await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("nowhere.toml: cannot be read: No such file"), "{}", ran.err);
    assert!(node.changes().is_empty());
}
