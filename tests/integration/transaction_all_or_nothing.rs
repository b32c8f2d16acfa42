//! A transaction is one revision or none, and what cannot be bound is known before anything is made.

use tandem_tests::cluster::{Cluster, Company};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_changes_are_one_revision_or_none() {
    let cluster = Cluster::start(Company::Shared).await.unwrap();
    cluster.serve(&[cluster.subnet.at(11, 9001)], "none").await.unwrap();
    let base = cluster.settled().await.unwrap().revision;
    let file = cluster.dir().join("lines").display().to_string();
    let (one, two) = (cluster.subnet.at(11, 9001), cluster.subnet.at(12, 9001));
    let good = format!(
        "upstream add next --backend {two}\nroute set all --upstream next\nbackend rm chat {one}\nupstream rm chat\n"
    );

    std::fs::write(&file, good.clone() + "backend rm next 10.9.9.9:1\n").unwrap();
    let said = cluster.ctl(&["transaction", &file]).await.unwrap();
    assert!(said.code == 1 && said.err.contains("is no backend of this upstream"), "{said:?}");
    let now = cluster.settled().await.unwrap().revision;
    let shown = cluster.ctl(&["config", "show"]).await.unwrap().out;
    assert!(now == base && shown.contains("upstreams.chat") && !shown.contains("next"), "{shown}");

    std::fs::write(&file, good).unwrap();
    let said = cluster.ctl(&["transaction", &file]).await.unwrap();
    assert_eq!((said.code, said.out), (0, format!("revision {}: 4 changes made as one\n", base + 1)), "{}", said.err);
    let shown = cluster.ctl(&["config", "show"]).await.unwrap().out;
    assert!(!shown.contains("upstreams.chat") && shown.contains("upstream = \"next\""), "{shown}");

    // Every proxy is on this machine, where somebody has this port already.
    let taken = std::net::TcpListener::bind(cluster.subnet.at(13, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let planned = cluster.ctl(&["listener", "add", "taken", &address, "--dry-run"]).await.unwrap();
    assert_eq!(planned.code, 1);
    for node in ["a", "b"] {
        assert!(planned.err.contains(&format!("cannot be listened on by node {node}")), "{planned:?}");
    }
}
