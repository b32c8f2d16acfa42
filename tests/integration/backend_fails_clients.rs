//! A backend that takes connections and answers nobody costs clients nothing: it is ejected where they meet it, and a check
//! that asks for more than a connection finds it everywhere. Both are told, by node and with the reason.

use tandem_tests::clock::until;
use tandem_tests::cluster::{Cluster, Company, PATIENCE};
use tandem_tests::peers::{Backend, Running, Session};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

/// What `tandemctl backend ls` says of the backend at `address`, once it has `words`.
async fn told(cluster: &Cluster, address: &str, words: &str) -> String {
    let line = || async {
        let said = cluster.ctl(&["backend", "ls"]).await.ok()?;
        said.out.lines().find(|l| l.contains(address) && l.contains(words)).map(ToOwned::to_owned)
    };
    until(&format!("{address} is told to be {words:?}"), PATIENCE, line).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_is_ejected_and_a_check_finds_it() {
    let cluster = Cluster::start(Company::Shared).await.unwrap();
    let good = Backend::start(cluster.subnet.at(11, 9001), "good").await.unwrap();
    let ill = TcpListener::bind(cluster.subnet.at(12, 9001)).await.unwrap();
    let address = ill.local_addr().unwrap();
    let _ill = Running::start(async move {
        while let Ok((mut socket, _)) = ill.accept().await {
            tokio::spawn(async move { drop(socket.read(&mut [0; 1024]).await) });
        }
    });
    cluster.serve(&[good.address, address], "tcp").await.unwrap();
    let said = cluster.ctl(&["upstream", "set", "chat", "--eject-after", "3", "--eject-base", "5m"]).await.unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    let mut held = Vec::new();
    for _ in 0..12 {
        held.push(Session::open(cluster.vip()).await.expect("no client notices"));
    }
    let holder = cluster.holder().await.unwrap();
    let other = if holder == "a" { "b" } else { "a" };
    let line = told(&cluster, &address.to_string(), "ejected").await;
    assert!(line.contains(&format!(" s on {holder}: failed ")), "only the holder has clients to tell by: {line}");
    assert!(line.contains(&format!("; up on {other}")), "{line}");
    let status = cluster.ctl(&["status"]).await.unwrap();
    let trouble = format!("\nejected: {address} of chat, by {holder} (back in ");
    assert!(status.out.contains(&trouble), "{status:?}");
    assert!(status.out.starts_with("test DEGRADED"), "{status:?}");

    let stricter =
        ["upstream", "set", "chat", "--check", "websocket", "--check-interval", "100ms", "--check-echo", "hi"];
    let said = cluster.ctl(&stricter).await.unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    let line = told(&cluster, &address.to_string(), "DOWN: check: the backend ended the connection").await;
    assert!(!line.contains("up on"), "both nodes find it: {line}");
    let line = told(&cluster, &good.address.to_string(), "up").await;
    assert!(!line.contains("DOWN"), "{line}");
    for session in &mut held {
        session.echo(b"untouched").await.unwrap();
    }
}
