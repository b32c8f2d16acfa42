//! Members come and go while the cluster runs, and nobody's number is given twice.

use std::time::Duration;

use tandem_proto::admin::v1::{NodeStatus, StatusReply};
use tandem_tests::clock::until;
use tandem_tests::cluster::{Cluster, Company, PATIENCE};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_catches_up_and_votes() {
    let mut cluster = Cluster::start(Company::Shared).await.unwrap();
    cluster.serve(&[cluster.subnet.at(11, 9001)], "none").await.unwrap();
    let before = cluster.settled().await.unwrap();

    cluster.newcomer("c", 20, "").unwrap().start().unwrap();
    cluster.newcomer("d", 21, "learner = true").unwrap().start().unwrap();

    let c = member(&cluster, "c", |n| n.voter && n.reachable).await;
    let d = member(&cluster, "d", |n| n.reachable).await;
    assert_eq!(c.max(d), 5, "the founders have 1 to 3");
    let after = cluster.settled().await.unwrap();
    assert!(!named(&after, "d").unwrap().voter, "it said it would not vote");
    assert_eq!(after.revision, before.revision, "the config is not touched");

    // Each knows who it is from its own disk.
    for node in &mut cluster.nodes {
        node.kill();
    }
    for node in &mut cluster.nodes {
        node.start().unwrap();
    }
    let again = cluster.settled().await.unwrap();
    assert_eq!((id(&again, "c"), id(&again, "d")), (Some(c), Some(d)));
    // All five have the config of before, and take the next.
    let other = cluster.subnet.at(11, 9002).to_string();
    let said = cluster.ctl(&["backend", "add", "chat", &other]).await.unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(cluster.settled().await.unwrap().revision, before.revision + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_node_is_out_at_once_and_says_so() {
    let mut cluster = Cluster::start(Company::Shared).await.unwrap();
    cluster.newcomer("c", 20, "").unwrap().start().unwrap();
    let c = member(&cluster, "c", |n| n.voter).await;
    let address = cluster.node("c").unwrap().address;

    let said = cluster.ctl(&["node", "rm", "c"]).await.unwrap();
    assert_eq!((said.code, said.out), (0, format!("c (node {c}) is removed for good; 3 voters now\n")), "{}", said.err);

    // The others know it no more; it knows that it is out, and takes nobody new.
    let admin = cluster.admin().unwrap();
    until("c knows that it is out", PATIENCE, || async {
        let status = admin.status_of(address).await.ok()?;
        let report = named(&status, "c").and_then(|n| n.report.clone())?;
        (report.removed && report.draining && report.fatal.contains("was removed from the cluster")).then_some(())
    })
    .await
    .unwrap();
    let others = admin.status_of(cluster.nodes[0].address).await.unwrap();
    assert_eq!(others.nodes.len(), 3);
    assert_eq!(cluster.ctl(&["node", "rm", "c"]).await.unwrap().code, 1, "it cannot be removed twice");

    // It comes back only as another: an empty disk, and a number that nobody had.
    let node = cluster.node("c").unwrap();
    node.kill();
    std::fs::remove_dir_all(cluster.dir().join("c-20")).unwrap();
    cluster.node("c").unwrap().start().unwrap();
    assert!(member(&cluster, "c", |n| n.voter).await > c);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_disk_is_replaced_by_one_command() {
    let mut cluster = Cluster::start(Company::Shared).await.unwrap();
    cluster.serve(&[cluster.subnet.at(11, 9001)], "none").await.unwrap();
    let before = cluster.settled().await.unwrap();
    cluster.node("b").unwrap().kill();

    // While b is away w's vote is needed; b's is not. An answer counts for a second.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let said = cluster.ctl(&["node", "rm", "w", "--timeout", "10s"]).await.unwrap();
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("lose its quorum") && said.err.contains("bring b back"), "{said:?}");

    std::fs::remove_dir_all(cluster.dir().join("b")).unwrap();
    cluster.node("b").unwrap().start().unwrap();
    until("b says what to do", PATIENCE, || {
        let said = cluster.node("b").unwrap().said();
        async move { said.contains("tandemctl node replace b").then_some(()) }
    })
    .await
    .unwrap();

    let said = cluster.ctl(&["node", "replace", "b", "--timeout", "15s"]).await.unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(said.out, "b is in anew, as node 4; 3 voters now\n", "{said:?}");
    let after = cluster.settled().await.unwrap();
    assert_eq!((after.nodes.len(), after.revision), (3, before.revision));
    assert!(named(&after, "b").unwrap().voter);
    let again = cluster.ctl(&["node", "replace", "b"]).await.unwrap();
    assert!(again.code == 1 && again.err.contains("belongs to a cluster already"), "{again:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_hands_over_before_it_goes() {
    let mut cluster = Cluster::start(Company::Shared).await.unwrap();
    cluster.serve(&[cluster.subnet.at(11, 9001)], "none").await.unwrap();
    cluster.newcomer("c", 20, "").unwrap().start().unwrap();
    member(&cluster, "c", |n| n.voter).await;
    let leader = cluster.holder().await.unwrap();

    let said = cluster.ctl(&["node", "demote", &leader, "--timeout", "10s"]).await.unwrap();
    assert_eq!(
        (said.code, said.out),
        (0, format!("{leader} is a learner: it votes no more; 3 voters now\n")),
        "{}",
        said.err
    );
    assert_ne!(cluster.holder().await.unwrap(), leader, "a learner holds nothing");
    let said = cluster.ctl(&["node", "promote", &leader, "--timeout", "10s"]).await.unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.err.contains("4 voters tolerate no more failures than 3"), "{said:?}");
    let warned = cluster.settled().await.unwrap().warnings;
    assert!(warned.iter().any(|w| w.contains("4 voters tolerate")), "{warned:?}");
}

/// Waits until the node called `name` is as `wanted` in somebody's status, and says its number.
async fn member(cluster: &Cluster, name: &str, wanted: impl Fn(&NodeStatus) -> bool) -> u64 {
    let admin = cluster.admin().unwrap();
    until(&format!("{name} is as wanted"), PATIENCE, || async {
        let status = admin.status().await.ok()?;
        named(&status, name).filter(|n| wanted(n))?;
        id(&status, name)
    })
    .await
    .unwrap()
}

fn named<'a>(status: &'a StatusReply, name: &str) -> Option<&'a NodeStatus> {
    status.nodes.iter().rfind(|n| n.member.as_ref().is_some_and(|m| m.name == name))
}

fn id(status: &StatusReply, name: &str) -> Option<u64> {
    Some(named(status, name)?.member.as_ref()?.id)
}
