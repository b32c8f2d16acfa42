//! A cluster forms by itself, and a power cut of everything loses nothing.

use std::time::Duration;

use tandem_tests::clock::until;
use tandem_tests::cluster::{Cluster, Company, PATIENCE};
use tandem_tests::peers::{Backend, Session};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_survives_the_death_of_all_its_nodes() {
    let mut cluster = Cluster::start(Company::Shared).await.unwrap();
    let backend = Backend::start(cluster.subnet.at(11, 9001), "one").await.unwrap();
    cluster.serve(&[backend.address], "tcp").await.unwrap();
    answers(&cluster).await;
    let before = cluster.settled().await.unwrap();
    let config = cluster.admin().unwrap().config_of(cluster.nodes[0].address).await.unwrap();
    assert!(before.revision > 0);

    for node in &mut cluster.nodes {
        node.kill();
    }
    for node in &mut cluster.nodes {
        node.start().unwrap();
    }

    // What was committed is on each disk a moment after it was applied: a node may come back that moment behind.
    until("all are at the old revision", PATIENCE, || async {
        let after = cluster.settled().await.ok()?;
        assert!(after.revision <= before.revision, "nobody has changed anything");
        (after.revision == before.revision).then_some(())
    })
    .await
    .unwrap();
    let admin = cluster.admin().unwrap();
    for node in &cluster.nodes {
        assert_eq!(admin.config_of(node.address).await.unwrap(), config, "on {}", node.name);
    }
    cluster.holder().await.unwrap();
    answers(&cluster).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_restarts_alone_has_its_last_config() {
    let mut cluster = Cluster::start(Company::Shared).await.unwrap();
    let backend = Backend::start(cluster.subnet.at(11, 9001), "one").await.unwrap();
    cluster.serve(&[backend.address], "tcp").await.unwrap();
    answers(&cluster).await;
    cluster.settled().await.unwrap();
    let address = cluster.node("b").unwrap().address;
    let admin = cluster.admin().unwrap();
    let before = admin.config_of(address).await.unwrap();
    assert!(before.0 > 0);

    for node in &mut cluster.nodes {
        node.kill();
    }
    cluster.node("b").unwrap().start().unwrap();

    // Nobody leads and nobody can: what it has, it has from its own disk.
    until("it has the config it had", PATIENCE, || async {
        (admin.config_of(address).await.ok()? == before).then_some(())
    })
    .await
    .unwrap();
    assert!(!admin.status_of(address).await.unwrap().quorum);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_catches_up_by_itself() {
    let mut cluster = Cluster::start(Company::Shared).await.unwrap();
    cluster.node("b").unwrap().kill();
    cluster.serve(&[cluster.subnet.at(11, 9001)], "none").await.unwrap();
    let without = cluster.settled().await.unwrap();
    assert!(without.revision > 0, "two of three take a change");

    cluster.node("b").unwrap().start().unwrap();
    assert_eq!(cluster.settled().await.unwrap().revision, without.revision);
}

async fn answers(cluster: &Cluster) {
    until("the address answers", PATIENCE, || async {
        let mut session = Session::open(cluster.vip()).await.ok()?;
        session.echo_within(b"hello", Duration::from_secs(1)).await.ok()
    })
    .await
    .unwrap();
}
