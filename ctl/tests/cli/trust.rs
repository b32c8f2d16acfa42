//! Tokens and authorities, as the terminal shows them.

use tonic::Code;

use crate::fake::{Node, Say, tandemctl};

#[tokio::test]
async fn a_token_is_printed_as_the_line_that_uses_it() {
    let node = Node::start([Say::Done(1, Vec::new())]).await;
    let ran = tandemctl(&[&node.address], "token create --role witness --ttl 10m").await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(ran.out, "On the witness, once, within 10m:\n\n  tandemd join 10.0.0.1 --token TDM1.PIN.w1.SECRET\n\n");
    let ran = tandemctl(&[&node.address], "token create").await;
    assert_eq!(ran.code, 1, "what the machine becomes must be said: {ran:?}");
}

#[tokio::test]
async fn tokens_are_listed_without_their_secrets_and_removed_by_name() {
    let node = Node::start([Say::Done(1, Vec::new())]).await;
    let ran = tandemctl(&[&node.address], "token ls").await;
    let lines: Vec<Vec<&str>> = ran.out.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(lines[1][..6], ["w1", "witness", "used", "by", "node", "3"]);
    assert_eq!(lines[2], ["p1", "proxy", "expired", "anna"]);
    assert_eq!(tandemctl(&[&node.address], "token rm p1").await.code, 0);
    let ran = tandemctl(&[&node.address], "token rm x").await;
    assert!(ran.code == 1 && ran.err.contains("is not known here"), "{ran:?}");
}

#[tokio::test]
async fn an_authority_is_rotated_and_retired_and_seen() {
    let node = Node::start([Say::Done(1, Vec::new())]).await;
    let ran = tandemctl(&[&node.address], "ca rotate").await;
    assert!(ran.code == 0 && ran.out.starts_with("authority 0b0b0b0b0b0b is believed"), "{ran:?}");
    let ran = tandemctl(&[&node.address], "ca ls").await;
    assert!(ran.out.contains("0b0b0b0b0b0b  signs") && ran.out.contains("a, w"), "{ran:?}");
    assert_eq!(tandemctl(&[&node.address], "ca retire").await.out, "authority 0a0a0a0a0a0a is believed no longer\n");
    node.will([Say::Deny(Code::FailedPrecondition, "certificates of the old authority are still in use by: w")]);
    let ran = tandemctl(&[&node.address], "ca retire").await;
    assert!(ran.code == 1 && ran.err.contains("in use by: w"), "{ran:?}");
}
