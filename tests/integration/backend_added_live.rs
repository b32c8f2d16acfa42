//! An added backend works at once, on every node, and nobody else notices.

use std::time::{Duration, Instant};

use tandem_tests::clock::now;
use tandem_tests::cluster::{Cluster, Company};
use tandem_tests::peers::{Backend, Session, hold};
use tandem_tests::story::{Story, broken, held};
use tokio::time::sleep;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_session_is_there_within_100_ms() {
    let cluster = Cluster::start(Company::Alone).await.unwrap();
    let one = Backend::start(cluster.subnet.at(11, 9001), "one").await.unwrap();
    let two = Backend::start(cluster.subnet.at(12, 9001), "two").await.unwrap();
    cluster.serve(&[one.address], "tcp").await.unwrap();
    let mut story = Story::default();
    let _held = hold(cluster.vip(), 20, Duration::from_millis(50), story.teller());
    while held(story.read()) < 20 {
        sleep(Duration::from_millis(20)).await;
    }

    let said = cluster.ctl(&["backend", "add", "chat", &two.address.to_string()]).await.unwrap();
    let returned = Instant::now();
    assert_eq!(said.code, 0, "{said:?}");
    let first = loop {
        let mut session = Session::open(cluster.vip()).await.unwrap();
        session.echo(b"who").await.unwrap();
        if session.backend == "two" {
            break returned.elapsed();
        }
        assert!(returned.elapsed() < Duration::from_secs(5), "the new backend gets no session");
    };
    println!("first session on the new backend {first:?} after tandemctl returned");
    assert!(first < Duration::from_millis(100), "it took {first:?}");
    sleep(Duration::from_millis(300)).await;
    assert_eq!((held(story.read()), broken(story.read(), 0, now())), (20, 0), "open sessions are not touched");
    cluster.settled().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_draining_backend_keeps_its_sessions_and_gets_no_more() {
    let cluster = Cluster::start(Company::Shared).await.unwrap();
    let one = Backend::start(cluster.subnet.at(11, 9001), "one").await.unwrap();
    let two = Backend::start(cluster.subnet.at(12, 9001), "two").await.unwrap();
    cluster.serve(&[one.address, two.address], "tcp").await.unwrap();
    let mut on_two = loop {
        let session = Session::open(cluster.vip()).await.unwrap();
        if session.backend == "two" {
            break session;
        }
    };

    let said = cluster.ctl(&["backend", "drain", "chat", &two.address.to_string()]).await.unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    let held_by = cluster.holder().await.unwrap();
    assert!(!held_by.is_empty());
    // The node that took the change has published it before it answered; the holder is that node.
    let mut last_two = None;
    let drained = Instant::now();
    while drained.elapsed() < Duration::from_millis(500) {
        if Session::open(cluster.vip()).await.unwrap().backend == "two" {
            last_two = Some(drained.elapsed());
        }
    }
    assert!(last_two.is_none_or(|at| at < Duration::from_millis(100)), "still new sessions after {last_two:?}");
    on_two.echo_within(b"still here", Duration::from_secs(1)).await.unwrap();

    let said = cluster.ctl(&["backend", "resume", "chat", &two.address.to_string()]).await.unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    let resumed = Instant::now();
    while Session::open(cluster.vip()).await.unwrap().backend != "two" {
        assert!(resumed.elapsed() < Duration::from_secs(2), "no new sessions after resume");
    }
}
