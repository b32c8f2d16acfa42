//! What drains takes no new sessions, and those it has end in time.

use std::time::{Duration, Instant};

use tandem_proto::admin::v1::StatusReply;
use tandem_tests::clock::until;
use tandem_tests::cluster::{Cluster, Company, PATIENCE};
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
    assert!(said.out.ends_with("draining: no new sessions; sessions that are left end evenly within 4s\n"), "{said:?}");
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_drains_says_so_until_it_is_taken_back() {
    let cluster = Cluster::start(Company::Shared).await.unwrap();
    let one = Backend::start(cluster.subnet.at(11, 9001), "one").await.unwrap();
    cluster.serve(&[one.address], "tcp").await.unwrap();
    let session = session_with(&cluster, "one").await;

    let began = Instant::now();
    let said = cluster.ctl(&["listener", "drain", "web", "--within", "5s"]).await.unwrap();
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    let shown = cluster.ctl(&["status"]).await.unwrap().out;
    assert!(shown.contains("DEGRADED: "), "{shown}");
    assert!(shown.contains("warning: listener web takes no new clients, its sessions have "), "{shown}");
    assert!(shown.contains(" s left: tandemctl listener resume web, or rm it\n"), "{shown}");
    until("new clients are turned away", PATIENCE, || async { Session::open(cluster.vip()).await.err().map(drop) })
        .await
        .unwrap();
    let lasted = lasts(session, began).await;
    assert!(lasted > Duration::from_millis(3_900), "ended after {lasted:?}, long before its time");
    assert!(lasted < Duration::from_secs(9), "ended only after {lasted:?}");

    let said = cluster.ctl(&["listener", "resume", "web"]).await.unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    session_with(&cluster, "one").await.echo_within(b"again", Duration::from_secs(1)).await.unwrap();
    until("all is well again", PATIENCE, || async {
        cluster.ctl(&["status"]).await.ok().filter(|said| said.out.contains(" OK: "))
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_drains_gives_everything_away_and_empties() {
    let mut cluster = Cluster::start(Company::Shared).await.unwrap();
    let one = Backend::start(cluster.subnet.at(11, 9001), "one").await.unwrap();
    cluster.serve(&[one.address], "tcp").await.unwrap();
    let from = cluster.holder().await.unwrap();
    let session = Session::open(cluster.vip()).await.unwrap();

    let began = Instant::now();
    let said = cluster.ctl(&["node", "drain", &from, "--within", "5s"]).await.unwrap();
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{said:?}");
    assert!(said.out.contains("no new clients; 1 sessions open"), "{said:?}");
    let to = until("another one holds the address", PATIENCE, || async {
        cluster.holder().await.ok().filter(|holder| *holder != from)
    })
    .await
    .unwrap();
    let admin = cluster.admin().unwrap();
    let drains = |status: &StatusReply| {
        let of = |name: &str| status.nodes.iter().filter_map(|n| n.report.clone()).find(|r| r.name == name);
        (of(&from).is_some_and(|r| r.draining), of(&to).is_some_and(|r| r.draining))
    };
    until("its status says so", PATIENCE, || async {
        let status = admin.status().await.ok()?;
        (drains(&status) == (true, false) && status.warnings.iter().any(|w| w.contains("node resume"))).then_some(())
    })
    .await
    .unwrap();
    let shown = cluster.ctl(&["status"]).await.unwrap().out;
    assert!(shown.contains("DRAINING"), "{shown}");
    // New clients come by the address, and so to the other one.
    Session::open(cluster.vip()).await.unwrap().echo_within(b"served", Duration::from_secs(1)).await.unwrap();
    let lasted = lasts(session, began).await;
    assert!(lasted > Duration::from_millis(3_900), "ended after {lasted:?}, long before its time");
    assert!(lasted < Duration::from_secs(9), "ended only after {lasted:?}");

    let said = cluster.ctl(&["node", "resume", &from]).await.unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    cluster.node(&to).unwrap().kill();
    until("the one that came back holds the address", PATIENCE, || async {
        cluster.holder().await.ok().filter(|holder| *holder == from)
    })
    .await
    .unwrap();
    Session::open(cluster.vip()).await.unwrap().echo_within(b"again", Duration::from_secs(1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_that_cannot_be_is_refused_and_one_that_leaves_nobody_says_so() {
    let mut cluster = Cluster::start(Company::Shared).await.unwrap();
    for nobody in ["w", "z"] {
        let said = cluster.ctl(&["node", "drain", nobody]).await.unwrap();
        assert_eq!(said.code, 1, "{said:?}");
        assert!(said.err.contains(&format!("no proxy is called {nobody:?}; known: a, b")), "{said:?}");
    }
    cluster.node("b").unwrap().kill();
    let said = cluster.ctl(&["node", "drain", "b"]).await.unwrap();
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.err.contains("b cannot be told: "), "{said:?}");
    let said = cluster.ctl(&["node", "drain", "a"]).await.unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.err.contains("no other proxy takes clients"), "{said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_node_is_a_drain() {
    let mut cluster = Cluster::prepare(Company::Shared).await.unwrap();
    for node in &mut cluster.nodes {
        let file = std::fs::read_to_string(&node.config).unwrap();
        std::fs::write(&node.config, file.replace("[proxy]\n", "[proxy]\ngrace = \"4s\"\n")).unwrap();
        node.start().unwrap();
    }
    cluster.settled().await.unwrap();
    let one = Backend::start(cluster.subnet.at(11, 9001), "one").await.unwrap();
    cluster.serve(&[one.address], "tcp").await.unwrap();
    let from = cluster.holder().await.unwrap();
    let session = Session::open(cluster.vip()).await.unwrap();
    let vip = cluster.vip();

    let began = Instant::now();
    let node = cluster.node(&from).unwrap();
    node.ask_to_end();
    until("another one serves the address", PATIENCE, || async {
        let mut session = Session::open(vip).await.ok()?;
        session.echo_within(b"served", Duration::from_secs(1)).await.ok()
    })
    .await
    .unwrap();
    let lasted = lasts(session, began).await;
    assert!(lasted > Duration::from_secs(3), "ended after {lasted:?}, long before its time");
    assert!(lasted < Duration::from_secs(8), "ended only after {lasted:?}");
    assert_eq!(cluster.node(&from).unwrap().ended().await.unwrap(), 0);

    // Asked twice, it does not wait.
    cluster.node(&from).unwrap().start().unwrap();
    cluster.settled().await.unwrap();
    let holder = cluster.holder().await.unwrap();
    let session = Session::open(cluster.vip()).await.unwrap();
    let node = cluster.node(&holder).unwrap();
    let began = Instant::now();
    node.ask_to_end();
    until("it is about to end", PATIENCE, || async { node.said().contains("stopping: ").then_some(()) }).await.unwrap();
    node.ask_to_end();
    assert_eq!(node.ended().await.unwrap(), 130);
    assert!(began.elapsed() < Duration::from_secs(3), "it took {:?}", began.elapsed());
    drop(session);
}
