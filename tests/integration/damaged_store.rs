//! A node whose store has rotted takes no part, serves its newest whole config, and says so wherever one looks.

use std::path::{Path, PathBuf};

use tandem_proto::config::v1::Listener;
use tandem_proto::config::v1::edit::Edit;
use tandem_tests::clock::until;
use tandem_tests::cluster::{Cluster, Company, PATIENCE};
use tandem_tests::peers::{Backend, Session};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_serves_and_does_not_vote() {
    let mut cluster = Cluster::start(Company::Shared).await.unwrap();
    let backend = Backend::start(cluster.subnet.at(11, 9001), "one").await.unwrap();
    cluster.serve(&[backend.address], "none").await.unwrap();
    // Each proxy listens here, whoever holds the virtual address. On this one machine that is whoever came first.
    let own = cluster.subnet.at(50, 8081);
    let listener = Listener { name: "own".into(), address: own.to_string(), ..Default::default() };
    let admin = cluster.admin().unwrap();
    let revision = admin.change(Edit::AddListener(listener)).await.unwrap();
    let data = cluster.dir().join("b");
    until("b has a snapshot of that", PATIENCE, || async { newest(&data, revision).await }).await.unwrap();
    let holder = cluster.holder().await.unwrap();

    let b = cluster.node("b").unwrap();
    b.kill();
    rot(&data.join("tandem.redb"));
    b.start().unwrap();
    let b = b.address;
    until("b is back", PATIENCE, || async { admin.config_of(b).await.ok() }).await.unwrap();
    let (at, _) = admin.config_of(b).await.unwrap();
    assert_eq!(at, revision, "b serves its newest snapshot");

    // The others say it and go on.
    let asked = cluster.node(if holder == "b" { "w" } else { "a" }).unwrap().address;
    let warnings = until("it is told", PATIENCE, || async {
        let status = admin.status_of(asked).await.ok()?;
        status.warnings.iter().any(|w| w.starts_with("b does not vote")).then_some(status.warnings)
    })
    .await
    .unwrap();
    let said = warnings.iter().find(|w| w.starts_with("b does not vote")).unwrap();
    assert!(said.contains("is damaged (") && said.contains("move it away"), "{said}");
    cluster.holder().await.unwrap();
    cluster.ctl(&["upstream", "add", "later"]).await.unwrap();
    assert!(admin.config_of(asked).await.unwrap().0 > revision);
    assert_eq!(admin.config_of(b).await.unwrap().0, revision, "nothing new reaches b");
    let log = cluster.node("b").unwrap().said();
    assert!(log.contains("this node does not vote"), "{log}");

    // Alone it elects nobody, and still serves.
    cluster.node("a").unwrap().kill();
    // b takes the port at its next try, if a had it.
    let mut session = until("b listens", PATIENCE, || async { Session::open(own).await.ok() }).await.unwrap();
    session.echo(b"still here").await.unwrap();
    let refused = cluster.ctl(&["upstream", "add", "never"]).await.unwrap();
    assert_ne!(refused.code, 0, "{refused:?}");
}

/// The file of the newest snapshot, once the state in it is at `revision`.
async fn newest(data: &Path, revision: u64) -> Option<PathBuf> {
    use prost::Message as _;
    let names = std::fs::read_dir(data).ok()?.flatten().map(|entry| entry.path());
    let newest = names.filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("snapshot-"))).max()?;
    let file = tandem_proto::raft::v1::SnapshotFile::decode(std::fs::read(&newest).ok()?.as_slice()).ok()?;
    let state = tandem_proto::raft::v1::State::decode(file.state.as_slice()).ok()?;
    (state.revision >= revision).then_some(newest)
}

/// Flips one bit of each page but the first.
fn rot(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    for at in (4096 + 40..bytes.len()).step_by(4096) {
        bytes[at] ^= 0x10;
    }
    std::fs::write(file, bytes).unwrap();
}
