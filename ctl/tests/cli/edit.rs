//! The config in the operator's own editor: here, sed.

use std::os::unix::fs::PermissionsExt;

use tandem_proto::config::v1 as pb;
use tandem_proto::config::v1::edit::Edit;

use crate::fake::tandemctl_with;
use crate::history::with_past;

#[tokio::test]
async fn what_is_saved_is_applied_for_the_revision_it_was_read_at() {
    let node = with_past().await;
    let editor = [("EDITOR", "sed -i s/round_robin/least_sessions/")];
    let ran = tandemctl_with(&[&node.address], "config edit --reason calmer", "", &editor).await;
    assert_eq!(
        (ran.code, ran.out.as_str()),
        (
            0,
            "~ upstreams.chat\n-   balance = \"round_robin\"\n+   balance = \"least_sessions\"\n\
             revision 4: config is as edited\n"
        ),
        "{}",
        ran.err
    );
    let change = node.changes().remove(0);
    assert_eq!((change.expect_revision, change.reason.as_str()), (Some(3), "calmer"));
    assert!(matches!(change.edits.as_slice(), [pb::Edit { edit: Some(Edit::Replace(_)) }]));
}

#[tokio::test]
async fn what_is_left_as_it_is_changes_nothing_and_a_broken_editor_neither() {
    let node = with_past().await;
    let ran = tandemctl_with(&[&node.address], "config edit", "", &[("EDITOR", "true")]).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "nothing changed\n"));
    let ran = tandemctl_with(&[&node.address], "config edit", "", &[("EDITOR", "false")]).await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("editor: \"false\" ended with exit status: 1; set EDITOR"), "{}", ran.err);
    assert!(node.changes().is_empty());
}

/// The second time the mistakes stand at the top of the text: this editor mends only what it is told of.
#[tokio::test]
async fn mistakes_come_back_to_the_editor_with_what_is_wrong() {
    let node = with_past().await;
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("editor");
    let text = "#!/bin/sh\nif grep -q '^#! .*balance = \"calmest\"' \"$1\"\nthen sed -i s/calmest/least_sessions/ \"$1\"\n\
                else sed -i s/round_robin/calmest/ \"$1\"\nfi\n";
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let editor = [("EDITOR", script.to_str().unwrap())];
    let ran = tandemctl_with(&[&node.address], "config edit", "", &editor).await;
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(node.changes().len(), 1);
}

#[tokio::test]
async fn a_text_that_is_given_up_is_kept() {
    let node = with_past().await;
    let dir = tempfile::tempdir().unwrap();
    let env = [("EDITOR", "sed -i s/round_robin/calmest/"), ("TMPDIR", dir.path().to_str().unwrap())];
    let ran = tandemctl_with(&[&node.address], "config edit", "", &env).await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("is kept in ") && ran.err.contains("calmest"), "{}", ran.err);
    let kept = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap();
    assert!(std::fs::read_to_string(kept.path()).unwrap().contains("balance = \"calmest\""));
    assert_eq!(kept.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(node.changes().is_empty());
}
