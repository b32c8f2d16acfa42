//! Many changes as one command.

use tandem_proto::config::v1::edit::Edit;

use crate::fake::{Node, Say, tandemctl_fed};

#[tokio::test]
async fn all_lines_are_one_command() {
    let node = Node::start([Say::Done(13, Vec::new())]).await;
    let lines = "
        # the new one first
        upstream add chat2 --backend 10.0.1.2:9000
        backend add chat2 10.0.1.3:9000 --zone 'b'   # and its twin
        route add all --host '*' --path / --upstream chat2
        route set all --path /chat
    ";
    let ran = tandemctl_fed(&[&node.address], "transaction - --reason move", lines).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "revision 13: 4 changes made as one\n"), "{}", ran.err);
    let change = node.changes().remove(0);
    assert_eq!(change.reason, "move");
    assert_eq!(change.expect_revision, Some(0), "a route is set as it was seen");
    let edits: Vec<Edit> = change.edits.into_iter().map(|e| e.edit.unwrap()).collect();
    assert!(matches!(&edits[1], Edit::AddBackend(add) if add.backend.as_ref().unwrap().zone == "b"));
    assert!(matches!(&edits[3], Edit::SetRoute(r) if r.path == "/chat" && r.upstream == "chat2"), "{edits:?}");
}

#[tokio::test]
async fn one_bad_line_and_nothing_is_sent_and_each_is_told_of() {
    let node = Node::start([Say::Done(13, Vec::new())]).await;
    let lines = "backend add chat 10.0.1.2:9000\nbackend frob chat\nstatus\nbackend rm chat 'x\nconfig rollback 3\n";
    let ran = tandemctl_fed(&[&node.address], "transaction -", lines).await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.starts_with("refused, nothing was sent:\n"), "{}", ran.err);
    for culprit in [
        "stdin:2 = \"backend frob chat\": is not understood: unrecognized subcommand 'frob'",
        "stdin:3 = \"status\": is no change of single things",
        "stdin:4 = \"backend rm chat 'x\": has a quote that does not end",
        "stdin:5 = \"config rollback 3\": is no change of single things",
    ] {
        assert!(ran.err.contains(culprit), "no {culprit} in {}", ran.err);
    }
    let ran = tandemctl_fed(&[&node.address], "transaction -", "# nothing\n").await;
    assert!(ran.err.contains("stdin: has no change in it"), "{}", ran.err);
    assert!(node.changes().is_empty());
}
