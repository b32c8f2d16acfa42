//! A rollback makes the config exactly what it was, on every node, and history says who did what and from where.

use tandem_tests::cluster::{Cluster, Company};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_is_the_config_of_then_on_every_node() {
    let cluster = Cluster::start(Company::Shared).await.unwrap();
    cluster.serve(&[cluster.subnet.at(11, 9001)], "none").await.unwrap();
    let good = cluster.settled().await.unwrap().revision;
    let was = cluster.ctl(&["config", "export", &path(&cluster, "was.toml")]).await.unwrap();
    assert_eq!(was.code, 0, "{was:?}");
    let was = std::fs::read_to_string(path(&cluster, "was.toml")).unwrap();

    let two = cluster.subnet.at(12, 9001).to_string();
    for line in [
        &["backend", "add", "chat", &two, "--reason", "more clients", "--actor", "alice"][..],
        &["upstream", "set", "chat", "--balance", "least_sessions", "--idle-timeout", "3m"],
        &["settings", "set", "--max-sessions", "7"],
        &["route", "rm", "all"],
        &["listener", "add", "side", &cluster.subnet.at(1, 8081).to_string()],
    ] {
        let said = cluster.ctl(line).await.unwrap();
        assert_eq!(said.code, 0, "{said:?}");
    }
    let back = good.to_string();
    let planned = cluster.ctl(&["config", "rollback", &back, "--dry-run"]).await.unwrap();
    assert!(planned.out.contains("- listeners.side") && planned.out.contains("+ routes.all"), "{planned:?}");
    assert!(planned.out.contains("it ends no session; nothing was changed"), "{planned:?}");

    let said = cluster.ctl(&["config", "rollback", &back, "--reason", "worse than before"]).await.unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    let now = cluster.settled().await.unwrap().revision;
    assert_eq!(now, good + 6, "a dry run makes no revision, a rollback makes one");
    for node in &cluster.nodes {
        let shown = ctl_of(node.address, &["config", "export", &path(&cluster, "now.toml")]).await;
        assert_eq!(shown.code, 0, "{shown:?}");
        assert_eq!(std::fs::read_to_string(path(&cluster, "now.toml")).unwrap(), was, "on {}", node.name);
        let told = ctl_of(node.address, &["config", "history", "--json"]).await;
        let told: serde_json::Value = serde_json::from_str(&told.out).unwrap();
        let newest = &told["revisions"][0];
        assert_eq!((&newest["rollback_to"], &newest["reason"]), (&good.into(), &"worse than before".into()));
        let added = &told["revisions"][5];
        assert_eq!((&added["actor"], &added["actor_proven"]), (&"alice".into(), &false.into()));
        assert_eq!((&added["reason"], &added["revision"]), (&"more clients".into(), &(good + 1).into()));
        let source: std::net::IpAddr = added["source"].as_str().unwrap().parse().unwrap();
        assert!(source.is_loopback(), "{source}");
        assert_eq!(added["touched"][0]["path"], format!("upstreams.chat.backends.{two}"));
    }
}

fn path(cluster: &Cluster, file: &str) -> String {
    cluster.dir().join(file).display().to_string()
}

async fn ctl_of(node: std::net::SocketAddr, args: &[&str]) -> tandem_tests::cluster::Said {
    tandem_tests::cluster::ctl(&node.to_string(), args).await.unwrap()
}
