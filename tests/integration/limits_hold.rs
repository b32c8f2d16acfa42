//! A limit set with tandemctl holds at once, on the node that has the address and on the one that takes over.

use std::time::Duration;

use tandem_tests::clock::until;
use tandem_tests::cluster::{Cluster, Company, PATIENCE};
use tandem_tests::peers::{Backend, Session};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn set_once_it_holds_on_both_nodes() {
    let cluster = Cluster::start(Company::Shared).await.unwrap();
    let backend = Backend::start(cluster.subnet.at(11, 9001), "one").await.unwrap();
    cluster.serve(&[backend.address], "none").await.unwrap();
    let mut early = Vec::new();
    for _ in 0..4 {
        early.push(Session::open(cluster.vip()).await.unwrap());
    }
    let said = cluster.ctl(&["settings", "set", "--max-sessions", "2"]).await.unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    let full = || async { Session::open(cluster.vip()).await.is_err().then_some(()) };
    until("the limit holds", PATIENCE, full).await.unwrap();
    for session in &mut early {
        session.echo_within(b"untouched", Duration::from_secs(5)).await.unwrap();
    }
    let shown = cluster.ctl(&["config", "show"]).await.unwrap();
    assert!(shown.out.contains("[settings]\nmax_sessions = 2\n"), "{shown:?}");

    let moved = cluster.ctl(&["vip", "move"]).await.unwrap();
    assert_eq!(moved.code, 0, "{moved:?}");
    let mut taken = Vec::new();
    for _ in 0..2 {
        let open = || async { Session::open(cluster.vip()).await.ok() };
        taken.push(until("the other node lets them in", PATIENCE, open).await.unwrap());
    }
    assert!(Session::open(cluster.vip()).await.is_err(), "but no more than the limit");
    drop(taken);
}
