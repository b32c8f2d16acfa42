//! Who changed what, looked up and watched; and the way back.

use tandem_proto::config::v1 as pb;
use tandem_proto::document;

use crate::fake::{Node, Say, tandemctl};

fn touch(path: &str, what: pb::What) -> pb::Touch {
    pb::Touch { path: path.into(), what: what.into() }
}

fn config(weight: u32) -> pb::Config {
    let text = format!(
        "[upstreams.chat]\nbalance = \"round_robin\"\n\
         [[upstreams.chat.backends]]\naddress = \"10.0.1.1:9000\"\nweight = {weight}\n"
    );
    document::parse(&text).unwrap()
}

/// Three revisions: made, changed, gone back.
pub(crate) async fn with_past() -> Node {
    let node = Node::start([Say::Done(4, Vec::new())]).await;
    let record = |revision, actor: &str, touched| pb::Record {
        revision,
        at_unix_ms: 1_790_000_000_000 + revision * 1000,
        actor: actor.into(),
        source: "10.0.0.9".into(),
        touched: vec![touched],
        ..Default::default()
    };
    let first = record(1, "alice@desk", touch("upstreams.chat", pb::What::Added));
    let backend = "upstreams.chat.backends.10.0.1.1:9000";
    let second = pb::Record {
        reason: "more for\nthe new one".into(),
        actor_proven: true,
        touched_more: 2,
        ..record(2, "bob", touch(backend, pb::What::Changed))
    };
    let third = pb::Record { rollback_to: Some(1), ..record(3, "alice@desk", touch(backend, pb::What::Changed)) };
    node.had(vec![(first, config(100)), (second, config(50)), (third, config(100))]);
    node
}

#[tokio::test]
async fn history_says_who_what_when_from_where_and_why() {
    let node = with_past().await;
    let ran = tandemctl(&[&node.address], "config history").await;
    assert_eq!(ran.code, 0);
    let expected = "\
REVISION  WHEN                  WHO                   FROM      WHAT                                                     WHY
3         2026-09-21T14:13:23Z  alice@desk, unproven  10.0.0.9  back to 1: ~upstreams.chat.backends.10.0.1.1:9000        -
2         2026-09-21T14:13:22Z  bob                   10.0.0.9  ~upstreams.chat.backends.10.0.1.1:9000 and 2 more        more for the new one
1         2026-09-21T14:13:21Z  alice@desk, unproven  10.0.0.9  +upstreams.chat                                          -
";
    let squeezed =
        |text: &str| text.split('\n').map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
    assert_eq!(squeezed(&ran.out), squeezed(expected));
    assert_eq!(ran.err, "note: configs are kept from revision 2 on; of older ones only these lines\n");

    let ran = tandemctl(&[&node.address], "config history --before 3 --limit 1 --json").await;
    let json = ran.json();
    let [only] = json["revisions"].as_array().unwrap().as_slice() else { panic!("{json}") };
    assert_eq!((only["revision"].clone(), only["reason"].clone()), (2.into(), "more for\nthe new one".into()));
    assert_eq!(only["touched"][0]["what"], "changed");
}

#[tokio::test]
async fn what_a_revision_changed_is_shown_and_what_it_was() {
    let node = with_past().await;
    let ran = tandemctl(&[&node.address], "config diff --revision 2").await;
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (0, "~ upstreams.chat.backends.10.0.1.1:9000\n-   weight = 100\n+   weight = 50\n")
    );
    let ran = tandemctl(&[&node.address], "config show --revision 2").await;
    assert!(ran.out.starts_with("# revision 2\n") && ran.out.contains("weight = 50"), "{}", ran.out);
    let ran = tandemctl(&[&node.address], "config show --revision 99").await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.contains("is not kept; choose one of 1 to 3"), "{}", ran.err);
}

#[tokio::test]
async fn a_rollback_names_the_revision_and_the_reason() {
    let node = with_past().await;
    let args = "config rollback 1 --reason lost-messages --expect-revision 3";
    let ran = tandemctl(&[&node.address], args).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "revision 4: config is again that of revision 1\n"), "{}", ran.err);
    let change = node.changes().remove(0);
    assert_eq!((change.rollback_to, change.edits.len(), change.reason.as_str()), (Some(1), 0, "lost-messages"));
    assert_eq!(change.expect_revision, Some(3));
}

/// The node breaks off after each; the last refuses, which ends the watch.
#[tokio::test]
async fn a_watch_goes_on_where_it_broke_off() {
    let node = with_past().await;
    let ran = tandemctl(&[&node.address], "config watch --after 1").await;
    assert_eq!(
        ran.out,
        "2  2026-09-21T14:13:22Z  bob from 10.0.0.9: ~upstreams.chat.backends.10.0.1.1:9000 and 2 more (more for the new one)\n\
         3  2026-09-21T14:13:23Z  alice@desk, unproven from 10.0.0.9: back to 1: ~upstreams.chat.backends.10.0.1.1:9000\n"
    );
    let ran = tandemctl(&[&node.address], "config watch --after 0").await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("does not reach back to revision 0; begin anew: tandemctl config watch"), "{}", ran.err);
    let ran = tandemctl(&[&node.address], "config watch --after 2 --json").await;
    assert!(ran.out.lines().next().unwrap().starts_with('{'), "{}", ran.out);
}
