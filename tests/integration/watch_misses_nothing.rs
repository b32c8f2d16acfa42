//! A watch hears of every revision, once and in order, also when the node it watches is killed.

use std::time::Duration;

use tandem_proto::config::v1::Route;
use tandem_proto::config::v1::edit::Edit;
use tandem_tests::binaries;
use tandem_tests::cluster::{Cluster, Company};
use tokio::io::{AsyncBufReadExt, BufReader};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_revision_is_heard_of_once_and_in_order() {
    let mut cluster = Cluster::start(Company::Shared).await.unwrap();
    cluster.serve(&[cluster.subnet.at(11, 9001)], "none").await.unwrap();
    let base = cluster.settled().await.unwrap().revision;
    let admin = cluster.admin().unwrap();
    let nodes: Vec<String> = cluster.nodes.iter().map(|n| n.address.to_string()).collect();
    let mut watch = tokio::process::Command::new(binaries::path("tandemctl").unwrap())
        .args(["config", "watch", "--json", "--after", &base.to_string(), "--node", &nodes.join(",")])
        .env("TANDEM_BUNDLE", "")
        .stdout(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();

    let change = |n: u32| {
        let (name, host) = (format!("r-{n}"), format!("host-{n}.example"));
        Edit::AddRoute(Route { name, host, upstream: "chat".to_owned(), ..Default::default() })
    };
    let mut heard = Vec::new();
    for n in 0..60 {
        // The first of the nodes is the one that is watched.
        if n == 30 {
            cluster.nodes[0].kill();
        }
        let made = admin.change(change(n)).await.unwrap();
        assert_eq!(made, base + 1 + u64::from(n));
        // Read now and then: what waits meanwhile must not be lost either.
        while n % 20 == 19 && heard.len() <= n as usize {
            heard.push(next(&mut lines).await);
        }
    }
    let expected: Vec<u64> = (1..=60).map(|n| base + n).collect();
    assert_eq!(heard, expected);
}

async fn next(lines: &mut tokio::io::Lines<BufReader<tokio::process::ChildStdout>>) -> u64 {
    let line = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await.expect("the watch is silent");
    let record: serde_json::Value = serde_json::from_str(&line.unwrap().expect("the watch has ended")).unwrap();
    record["revision"].as_u64().unwrap()
}
