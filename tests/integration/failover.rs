//! The holder dies; the address answers again; nothing that was elsewhere notices.

use std::time::Duration;

use tandem_tests::clock::{millis, now, until};
use tandem_tests::cluster::{Cluster, Company, PATIENCE};
use tandem_tests::peers::{Backend, hold, probe};
use tandem_tests::story::{Story, broken, held, longest_silence, reconnected};
use tokio::time::sleep;

const HELD: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_holder_is_replaced_within_two_seconds() {
    let mut cluster = Cluster::start(Company::Alone).await.unwrap();
    let one = Backend::start(cluster.subnet.at(11, 9001), "one").await.unwrap();
    let two = Backend::start(cluster.subnet.at(12, 9001), "two").await.unwrap();
    cluster.serve(&[one.address, two.address], "tcp").await.unwrap();
    let mut story = Story::default();
    let _probe = probe(cluster.vip(), Duration::from_millis(20), Duration::from_secs(1), story.teller());
    let _held = hold(cluster.vip(), HELD, Duration::from_millis(100), story.teller());
    all_held(&mut story).await;

    let old = cluster.holder().await.unwrap();
    // A span begins in good times.
    sleep(Duration::from_millis(500)).await;
    let killed = now();
    cluster.node(&old).unwrap().kill();
    let new = until("the other node holds", PATIENCE, || async {
        cluster.holder().await.ok().filter(|holder| *holder != old)
    })
    .await
    .unwrap();
    all_held(&mut story).await;
    sleep(Duration::from_millis(500)).await;

    let seen = story.read();
    let silent = longest_silence(seen, killed - 400_000, now());
    let (back, last) = reconnected(seen, killed, now());
    println!(
        "new connections out for {silent} ms; last of {back} sessions back after {} ms",
        millis(killed, last.unwrap())
    );
    assert!(silent < 2_000, "new connections were out for {silent} ms");
    assert_eq!(broken(seen, 0, killed), 0, "nothing breaks before");
    assert_eq!(
        (broken(seen, killed, now()), back),
        (HELD, HELD),
        "a dead holder's sessions break once, and all come back"
    );

    // It comes back as a standby: the address is not torn from who has it.
    cluster.node(&old).unwrap().start().unwrap();
    cluster.settled().await.unwrap();
    let revived = now();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(cluster.holder().await.unwrap(), new);
    assert_eq!(broken(story.read(), revived, now()), 0, "a return touches nobody");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_death_of_standby_or_witness_is_not_noticed() {
    let mut cluster = Cluster::start(Company::Shared).await.unwrap();
    let one = Backend::start(cluster.subnet.at(11, 9001), "one").await.unwrap();
    cluster.serve(&[one.address], "tcp").await.unwrap();
    let mut story = Story::default();
    let _held = hold(cluster.vip(), HELD, Duration::from_millis(100), story.teller());
    all_held(&mut story).await;

    let holder = cluster.holder().await.unwrap();
    let standby = if holder == "a" { "b" } else { "a" };
    for other in [standby, "w"] {
        cluster.node(other).unwrap().kill();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(cluster.holder().await.unwrap(), holder);
        cluster.node(other).unwrap().start().unwrap();
        cluster.settled().await.unwrap();
    }
    assert_eq!(broken(story.read(), 0, now()), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_holder_that_hangs_is_replaced_and_does_not_come_back_as_a_second_one() {
    let mut cluster = Cluster::start(Company::Shared).await.unwrap();
    let one = Backend::start(cluster.subnet.at(11, 9001), "one").await.unwrap();
    cluster.serve(&[one.address], "tcp").await.unwrap();
    let old = cluster.holder().await.unwrap();
    let old_at = cluster.node(&old).unwrap().address;
    cluster.node(&old).unwrap().freeze();

    let admin = cluster.admin().unwrap();
    let others: Vec<_> = cluster.nodes.iter().map(|n| n.address).filter(|a| *a != old_at).collect();
    let new = until("another node holds", PATIENCE, || async {
        let status = admin.status_of(others[0]).await.ok()?;
        status.vips.first()?.holders.iter().find(|h| **h != old).cloned()
    })
    .await
    .unwrap();

    cluster.node(&old).unwrap().thaw();
    // From the first moment it can speak, it must not claim.
    until("the woken node answers and has seen the new leader", PATIENCE, || async {
        let status = admin.status_of(old_at).await.ok()?;
        let holders = status.vips.first()?.holders.clone();
        assert!(holders.len() < 2, "two holders: {holders:?}");
        (status.quorum && holders == [new.clone()]).then_some(())
    })
    .await
    .unwrap();
}

async fn all_held(story: &mut Story) {
    let start = std::time::Instant::now();
    while held(story.read()) < HELD {
        assert!(start.elapsed() < PATIENCE, "{} of {HELD} sessions are held", held(story.read()));
        sleep(Duration::from_millis(20)).await;
    }
}
