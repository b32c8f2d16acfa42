//! A planned move: new connections hardly notice, and where the old node can still serve, sessions do not.

use std::time::Duration;

use tandem_tests::clock::now;
use tandem_tests::cluster::{Cluster, Company};
use tandem_tests::peers::{Backend, hold, probe};
use tandem_tests::story::{Story, broken, held, longest_silence};
use tokio::time::sleep;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_connections_are_out_for_less_than_a_quarter_second() {
    let cluster = Cluster::start(Company::Alone).await.unwrap();
    let one = Backend::start(cluster.subnet.at(11, 9001), "one").await.unwrap();
    cluster.serve(&[one.address], "tcp").await.unwrap();
    let mut story = Story::default();
    let _probe = probe(cluster.vip(), Duration::from_millis(10), Duration::from_secs(1), story.teller());
    let _held = hold(cluster.vip(), 10, Duration::from_millis(50), story.teller());
    for round in 0..5 {
        let from = cluster.holder().await.unwrap();
        sleep(Duration::from_millis(300)).await;
        let begun = now();
        let said = cluster.ctl(&["vip", "move"]).await.unwrap();
        assert_eq!(said.code, 0, "{said:?}");
        let to = cluster.holder().await.unwrap();
        assert_ne!(from, to, "round {round}: {said:?}");
        sleep(Duration::from_millis(300)).await;
        let silent = longest_silence(story.read(), begun - 200_000, now());
        println!("round {round}: {from} to {to}, new connections out for {silent} ms");
        assert!(silent < 250, "round {round}: new connections were out for {silent} ms");
    }
    // With the `bind` provider the old node stays reachable for what it has open.
    assert_eq!((held(story.read()), broken(story.read(), 0, now())), (10, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_to_where_it_cannot_be_is_refused() {
    let cluster = Cluster::start(Company::Shared).await.unwrap();
    cluster.serve(&[cluster.subnet.at(11, 9001)], "none").await.unwrap();
    let holder = cluster.holder().await.unwrap();
    for nowhere in ["w", "nobody"] {
        let said = cluster.ctl(&["vip", "move", "--to", nowhere]).await.unwrap();
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains(nowhere), "the culprit is named: {said:?}");
    }
    assert_eq!(cluster.holder().await.unwrap(), holder);
}
