//! When most voters are lost for good, one survivor is enough, if an operator says so.

use std::process::Output;

use tandem_tests::binaries;
use tandem_tests::clock::until;
use tandem_tests::cluster::{Cluster, Company, PATIENCE};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_survivor_goes_on_alone_and_the_old_ones_are_strangers() {
    let mut cluster = Cluster::start(Company::Shared).await.unwrap();
    cluster.serve(&[cluster.subnet.at(11, 9001)], "none").await.unwrap();
    let before = cluster.settled().await.unwrap();
    for name in ["a", "b"] {
        cluster.node(name).unwrap().kill();
    }

    let said = force(&mut cluster).await;
    let err = String::from_utf8_lossy(&said.stderr).into_owned();
    assert_eq!(said.status.code(), Some(1), "w answers: {err}");
    assert!(err.contains("nothing was changed: w answers") && err.contains("--dead NAME"), "{err}");
    cluster.node("w").unwrap().kill();
    let said = force(&mut cluster).await;
    assert!(said.status.success(), "{said:?}");
    let out = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(out.contains("is a alone, as node 4, epoch 2") && out.contains("Left behind: b, w"), "{out}");

    // It writes again, with all it had.
    cluster.node("a").unwrap().start().unwrap();
    let other = cluster.subnet.at(11, 9002).to_string();
    let said = cluster.ctl(&["backend", "add", "chat", &other, "--timeout", "15s"]).await.unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(cluster.settled().await.unwrap().revision, before.revision + 1);

    // One of the old ones comes back as it was: it is out, and is told how to come back.
    cluster.node("b").unwrap().start().unwrap();
    until("b knows that it is out", PATIENCE, || {
        let said = cluster.node("b").unwrap().said();
        async move { (said.contains("force-quorum, epoch 2") && said.contains("empty data_dir")).then_some(()) }
    })
    .await
    .unwrap();

    // So it does.
    cluster.node("b").unwrap().kill();
    std::fs::remove_dir_all(cluster.dir().join("b")).unwrap();
    cluster.node("b").unwrap().start().unwrap();
    let b = cluster.node("b").unwrap().address.to_string();
    let mut said = cluster.ctl(&["node", "add", "b", "--address", &b, "--timeout", "15s"]).await.unwrap();
    for _ in 0..10 {
        // It may still be starting.
        if said.code == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        said = cluster.ctl(&["node", "add", "b", "--address", &b, "--timeout", "15s"]).await.unwrap();
    }
    assert!(said.out.starts_with("b is in, as node 5; 2 voters now"), "{said:?}");
    assert_eq!(cluster.settled().await.unwrap().revision, before.revision + 1);
}

async fn force(cluster: &mut Cluster) -> Output {
    let config = cluster.node("a").unwrap().config.clone();
    let mut command = tokio::process::Command::new(binaries::path("tandemd").unwrap());
    command.args(["force-quorum", "--i-know", "--config"]).arg(config).output().await.unwrap()
}
