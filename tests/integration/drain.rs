//! What drains takes no new sessions, and those it has end in time.

use std::time::{Duration, Instant};

use tandem_tests::clock::until;
use tandem_tests::cluster::{Cluster, Company};
use tandem_tests::peers::{Backend, Session};

/// Echoes on `session` until it is ended; how long after `began` that is.
async fn lasts(mut session: Session, began: Instant) -> Duration {
    while session.echo_within(b"still here", Duration::from_secs(1)).await.is_ok() {
        assert!(began.elapsed() < Duration::from_secs(20), "the session is never ended");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}

async fn session_with(cluster: &Cluster, backend: &str) -> Session {
    until("a session with the backend", Duration::from_secs(10), || async {
        Session::open(cluster.vip()).await.ok().filter(|session| session.backend == backend)
    })
    .await
    .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_drains_within_a_time_is_empty_by_then() {
    let cluster = Cluster::start(Company::Shared).await.unwrap();
    let one = Backend::start(cluster.subnet.at(11, 9001), "one").await.unwrap();
    let two = Backend::start(cluster.subnet.at(12, 9001), "two").await.unwrap();
    cluster.serve(&[one.address, two.address], "tcp").await.unwrap();
    let (mut on_one, on_two) = (session_with(&cluster, "one").await, session_with(&cluster, "two").await);

    let began = Instant::now();
    let two_is = two.address.to_string();
    let said = cluster.ctl(&["backend", "drain", "chat", &two_is, "--within", "4s"]).await.unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.ends_with("draining: no new sessions; those that are left are ended after 4s\n"), "{said:?}");
    let listed = cluster.ctl(&["backend", "ls"]).await.unwrap().out;
    assert!(listed.contains("draining, ") && listed.contains("s left"), "{listed}");
    let lasted = lasts(on_two, began).await;
    assert!(lasted > Duration::from_millis(2_900), "ended after {lasted:?}, long before its time");
    assert!(lasted < Duration::from_secs(7), "ended only after {lasted:?}");
    on_one.echo_within(b"untouched", Duration::from_secs(1)).await.unwrap();

    let said = cluster.ctl(&["backend", "resume", "chat", &two_is]).await.unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    session_with(&cluster, "two").await.echo_within(b"again", Duration::from_secs(1)).await.unwrap();
    let shown = cluster.ctl(&["config", "show"]).await.unwrap().out;
    assert!(!shown.contains("drain_within"), "{shown}");
}
