//! Kill -9 of any node at any moment: what was acknowledged is there, and what was retried was done once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tandem_proto::config::v1::edit::Edit;
use tandem_proto::config::v1::{Command, Route};
use tandem_tests::admin::{Admin, command};
use tandem_tests::cluster::{Cluster, Company};
use tokio::time::sleep;

/// Which node dies in each round: every one, the leader most likely among them, some twice in a row.
const VICTIMS: [usize; 10] = [0, 1, 2, 2, 1, 0, 0, 2, 1, 1];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_kills_lose_no_acknowledged_change() {
    let mut cluster = Cluster::start(Company::Shared).await.unwrap();
    cluster.serve(&[cluster.subnet.at(11, 9001)], "none").await.unwrap();
    let base = cluster.settled().await.unwrap().revision;
    let admin = cluster.admin().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn(write(admin.clone(), Arc::clone(&stop)));

    for (round, victim) in VICTIMS.into_iter().enumerate() {
        cluster.nodes[victim].kill();
        // Not always dead for long: sometimes it is back within one election.
        sleep(Duration::from_millis(if round % 2 == 0 { 100 } else { 900 })).await;
        cluster.nodes[victim].start().unwrap();
        sleep(Duration::from_millis(400)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let acknowledged = writer.await.unwrap();
    assert!(acknowledged.len() > 20, "only {} changes went through", acknowledged.len());

    let revision = cluster.settled().await.unwrap().revision;
    println!("{} changes acknowledged through ten kills", acknowledged.len());
    for node in &cluster.nodes {
        let (at, config) = admin.config_of(node.address).await.unwrap();
        assert_eq!(at, revision, "on {}", node.name);
        let there: BTreeSet<&str> = config.routes.iter().map(|r| r.name.as_str()).collect();
        for (command, at) in &acknowledged {
            let name = route_name(command);
            assert!(there.contains(name), "{name}, acknowledged at revision {at}, is not on {}", node.name);
        }
    }
    assert_eq!(revision - base, acknowledged.len() as u64, "each change was applied once, however often it was sent");
    let (again, first) = &acknowledged[acknowledged.len() / 2];
    assert_eq!(admin.send(again, Duration::from_secs(5)).await.unwrap(), *first, "a retry is told the first revision");
    assert_eq!(cluster.settled().await.unwrap().revision, revision, "and changes nothing");
}

/// One change after another; each is sent until it is acknowledged.
async fn write(admin: Admin, stop: Arc<AtomicBool>) -> Vec<(Command, u64)> {
    let mut acknowledged = Vec::new();
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let route = Route {
            name: format!("written-{n}"),
            host: format!("host-{n}.example"),
            upstream: "chat".to_owned(),
            ..Default::default()
        };
        let command = command(Edit::AddRoute(route));
        let revision = admin.send(&command, Duration::from_secs(20)).await.expect("a majority lives");
        acknowledged.push((command, revision));
        sleep(Duration::from_millis(5)).await;
    }
    acknowledged
}

fn route_name(command: &Command) -> &str {
    match command.edits[0].edit.as_ref().unwrap() {
        Edit::AddRoute(route) => &route.name,
        other => panic!("not ours: {other:?}"),
    }
}
