//! What was backed up makes a fresh cluster the old one: its config, its history, and the way back in it.

use tandem_tests::cluster::{Cluster, Company};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_cluster_becomes_the_old_one() {
    let kept = tempfile::tempdir().unwrap();
    let file = |name: &str| kept.path().join(name).display().to_string();
    let (backup, before, after) = (file("old.backup"), file("before.toml"), file("after.toml"));
    let revision = {
        let old = Cluster::start(Company::Shared).await.unwrap();
        old.serve(&[old.subnet.at(11, 9001)], "none").await.unwrap();
        for reason in ["first", "second"] {
            let most = reason.len().to_string();
            let set = ["settings", "set", "--max-sessions", &most, "--reason", reason];
            assert_eq!(old.ctl(&set).await.unwrap().code, 0);
        }
        for args in [&["config", "export", &before][..], &["backup", &backup]] {
            let said = old.ctl(args).await.unwrap();
            assert_eq!(said.code, 0, "{said:?}");
        }
        old.settled().await.unwrap().revision
    };

    let mut fresh = Cluster::start(Company::Shared).await.unwrap();
    let said = fresh.ctl(&["restore", &backup]).await.unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(fresh.settled().await.unwrap().revision, revision + 1);
    // Also what every node reads back from its disk.
    for node in &mut fresh.nodes {
        node.kill();
        node.start().unwrap();
    }
    fresh.settled().await.unwrap();
    for node in &fresh.nodes {
        let said = tandem_tests::cluster::ctl(&node.address.to_string(), &["config", "export", &after]).await.unwrap();
        assert_eq!(said.code, 0, "{said:?}");
        assert_eq!(std::fs::read_to_string(&after).unwrap(), std::fs::read_to_string(&before).unwrap());
    }
    let told = fresh.ctl(&["config", "history"]).await.unwrap().out;
    assert!(told.contains("restored from test") && told.contains("second") && told.contains("first"), "{told}");
    let said = fresh.ctl(&["config", "rollback", &(revision - 1).to_string()]).await.unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    let shown = fresh.ctl(&["settings", "show", "--json"]).await.unwrap().out;
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["settings"]["max_sessions"], "5", "that of the first change: {shown}");

    let said = fresh.ctl(&["restore", &backup]).await.unwrap();
    assert!(said.code == 1 && said.err.contains("has a config already"), "{said:?}");
    let expect = (revision + 2).to_string();
    let said = fresh.ctl(&["restore", &backup, "--expect-revision", &expect]).await.unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(fresh.settled().await.unwrap().revision, revision + 3, "numbers only rise");
}
