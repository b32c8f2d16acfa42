//! When a node has no files left it says so, goes on with what it has, and does not spin.

use std::time::{Duration, Instant};

use tandem_tests::cluster::{Cluster, Company};
use tandem_tests::peers::{Backend, Session};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

const FILES: u32 = 160;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_told_and_sessions_go_on() {
    let mut cluster = Cluster::prepare(Company::Alone).await.unwrap();
    for node in &mut cluster.nodes {
        node.open_files = Some(FILES);
        node.start().unwrap();
    }
    cluster.settled().await.unwrap();
    let backend = Backend::start(cluster.subnet.at(11, 9001), "one").await.unwrap();
    cluster.serve(&[backend.address], "tcp").await.unwrap();
    let holder = cluster.holder().await.unwrap();
    let said = cluster.node(&holder).unwrap().said();
    let limits = said.lines().find(|l| l.contains("limits of this node")).unwrap();
    assert!(limits.contains("open_files") && limits.contains(&FILES.to_string()), "{limits}");
    let mut session = Session::open(cluster.vip()).await.unwrap();
    session.echo_within(b"before", Duration::from_secs(5)).await.unwrap();

    // More than it can have; each stays until the test lets go, or the node does.
    let mut crowd = Vec::new();
    for _ in 0..FILES * 2 {
        crowd.push(TcpStream::connect(cluster.vip()).await.unwrap());
    }
    let (mut held, mut told) = (Vec::new(), 0);
    for mut client in crowd {
        let mut answer = Vec::new();
        match timeout(Duration::from_millis(20), client.read_to_end(&mut answer)).await {
            Err(_) => held.push(client),
            Ok(_) if answer.is_empty() => {}
            Ok(_) => {
                let answer = String::from_utf8_lossy(&answer).into_owned();
                assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("Retry-After: "), "{answer}");
                assert!(answer.contains("open files"), "{answer}");
                told += 1;
            }
        }
    }
    assert!(told > 0, "nobody was told why");
    assert!(held.len() > 60, "only {} were let in", held.len());

    let node = cluster.node(&holder).unwrap();
    let before = node.busy().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let busy = node.busy().unwrap() - before;
    assert!(busy < Duration::from_millis(500), "it was busy for {busy:?} of a second");
    session.echo_within(b"meanwhile", Duration::from_secs(5)).await.unwrap();
    assert_eq!(cluster.holder().await.unwrap(), holder, "the address stays where it is");
    let status = cluster.ctl(&["backend", "ls"]).await.unwrap();
    assert!(status.code == 0 && !status.out.contains("DOWN"), "its shortage is not the backend's fault: {status:?}");

    drop(held);
    let deadline = Instant::now() + Duration::from_secs(15);
    loop {
        match Session::open(cluster.vip()).await {
            Ok(mut after) => break after.echo_within(b"after", Duration::from_secs(5)).await.unwrap(),
            Err(error) => assert!(Instant::now() < deadline, "there is room again, but {error:#}"),
        }
    }
}
