//! What clients send wrongly is answered, closed, and never seen by a backend.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tandem_tests::cluster::{Cluster, Company};
use tandem_tests::peers::{Backend, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_gets_its_status_and_no_backend_is_touched() {
    let cluster = Cluster::start(Company::Shared).await.unwrap();
    let backend = Backend::start(cluster.subnet.at(11, 9001), "one").await.unwrap();
    cluster.serve(&[backend.address], "none").await.unwrap();
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let large = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Large: {}\r\n\r\n", "a".repeat(33 * 1024));
    let cases = [
        (
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            "400",
        ),
        (
            "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n".to_owned(),
            "400",
        ),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd".to_owned(), "400"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), "400"),
        (format!("GET / HTTP/1.1\r\nHost: x\r\n{upgrade}Sec-WebSocket-Version: 13\r\n\r\n"), "400"),
        (format!("GET / HTTP/1.1\r\nHost: x\r\n{upgrade}{key}Sec-WebSocket-Version: 8\r\n\r\n"), "426"),
        (large, "431"),
        ("\u{1}\u{2}\u{3}\r\n\r\n".to_owned(), "400"),
    ];
    for (request, status) in &cases {
        let answer = raw(&cluster, request.as_bytes()).await;
        let head: String = request.chars().take(60).collect();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{head:?} was answered {answer:?}");
    }

    // One byte at a time, for ever.
    let mut slow = TcpStream::connect(cluster.vip()).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.unwrap();
    let begun = Instant::now();
    let (mut read, mut write) = slow.into_split();
    let drip = tokio::spawn(async move {
        while write.write_all(b"a").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    let mut answer = Vec::new();
    let _ = timeout(Duration::from_secs(20), read.read_to_end(&mut answer)).await.expect("it is closed");
    drip.abort();
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 408 "), "after {:?}: {answer:?}", begun.elapsed());

    assert_eq!(backend.connections.load(Ordering::Relaxed), 0, "a refused request touches no backend");
    Session::open(cluster.vip()).await.unwrap().echo_within(b"alive", Duration::from_secs(1)).await.unwrap();
    assert_eq!(backend.connections.load(Ordering::Relaxed), 1, "and the counter counts");
}

/// Everything that comes back until the proxy closes.
async fn raw(cluster: &Cluster, request: &[u8]) -> String {
    let mut socket = TcpStream::connect(cluster.vip()).await.unwrap();
    // It may be answered and closed before all of it is sent.
    let _ = socket.write_all(request).await;
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(5), socket.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the connection stays open after {:?}", String::from_utf8_lossy(&answer));
    String::from_utf8_lossy(&answer).into_owned()
}
