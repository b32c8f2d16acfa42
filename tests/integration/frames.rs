//! A route that asks for it has its WebSockets understood: ghosts are found, what is no frame is refused, ends are polite.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tandem_tests::clock::until;
use tandem_tests::cluster::{Cluster, Company, PATIENCE};
use tandem_tests::peers::Backend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

async fn cluster(flags: &[&str]) -> (Cluster, Backend) {
    let cluster = Cluster::start(Company::Shared).await.unwrap();
    let backend = Backend::start(cluster.subnet.at(11, 9001), "one").await.unwrap();
    cluster.serve(&[backend.address], "none").await.unwrap();
    let set = [&["route", "set", "all", "--frames"], flags].concat();
    // A cluster that has just begun learns in its first seconds that all of its nodes know of frames.
    until("the route looks after frames", PATIENCE, || async {
        let said = cluster.ctl(&set).await.ok()?;
        (said.code == 0).then_some(())
    })
    .await
    .unwrap();
    let shown = cluster.ctl(&["config", "show"]).await.unwrap().out;
    assert!(shown.contains("[routes.all.frames]"), "{shown}");
    (cluster, backend)
}

async fn open(target: SocketAddr) -> WebSocketStream<TcpStream> {
    let socket = TcpStream::connect(target).await.unwrap();
    client_async(format!("ws://{target}/"), socket).await.unwrap().0
}

/// Waits for its Close, and for the end in order; echoes meanwhile.
async fn ended(mut session: WebSocketStream<TcpStream>) -> (Instant, u16) {
    let message = Message::binary(vec![7; 5_000]);
    let mut code = None;
    loop {
        if code.is_none() {
            // Refused once the Close is there.
            let _ = session.send(message.clone()).await;
        }
        match session.next().await {
            Some(Ok(Message::Close(frame))) => code = Some((Instant::now(), u16::from(frame.unwrap().code))),
            Some(Ok(_)) => tokio::time::sleep(Duration::from_millis(100)).await,
            None | Some(Err(Error::ConnectionClosed)) => return code.expect("it is told why"),
            Some(Err(error)) => panic!("not in order: {error}, {code:?}"),
        }
    }
}

/// Without what a terminal makes colours of.
fn uncoloured(text: &str) -> String {
    let mut pieces = text.split("\u{1b}[");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.filter_map(|piece| piece.split_once('m')).fold(first, |text, (_, plain)| text + plain)
}

async fn logged(cluster: &Cluster, words: &[&str]) {
    until("it is logged", PATIENCE, || async {
        let all: Vec<String> = cluster.nodes.iter().map(|node| uncoloured(&node.said())).collect();
        let mut lines = all.iter().flat_map(|said| said.lines());
        lines.any(|line| words.iter().all(|word| line.contains(word))).then_some(())
    })
    .await
    .unwrap_or_else(|e| panic!("{words:?}: {e:#}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_of_two_hundred_is_flat_and_polite() {
    const WITHIN: u64 = 10;
    let (cluster, backend) = cluster(&[]).await;
    let vip = cluster.vip();
    let mut sessions = JoinSet::new();
    for _ in 0..200 {
        sessions.spawn(ended(open(vip).await));
    }
    let said =
        cluster.ctl(&["backend", "drain", "chat", &backend.address.to_string(), "--within", "10s"]).await.unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    let mut ends: Vec<Instant> = Vec::new();
    while let Some(end) = tokio::time::timeout(PATIENCE * 2, sessions.join_next()).await.expect("all are ended") {
        let (at, code) = end.unwrap();
        assert_eq!(code, 1012);
        ends.push(at);
    }
    ends.sort();
    // All but the last second, which is kept for those who are slow to answer.
    let turns = WITHIN - 1;
    let (first, last) = (ends[0], ends[ends.len() - 1]);
    let lasted = last - first;
    assert!(lasted > Duration::from_secs(turns - 2) && lasted < Duration::from_secs(WITHIN), "{lasted:?}");
    let mut each = vec![0_usize; usize::try_from(WITHIN).unwrap()];
    for end in &ends {
        // Ends come in turns, a second from each other: counted from between two of them.
        each[usize::try_from((*end - first + Duration::from_millis(500)).as_secs()).unwrap()] += 1;
    }
    // What is left of the time when the last turn comes is not a whole second.
    let turns: Vec<usize> = each.iter().copied().filter(|n| *n > 0).collect();
    let (_, whole) = turns.split_last().unwrap();
    let even = whole.iter().sum::<usize>() as f64 / whole.len() as f64;
    let flat = whole.iter().all(|n| (*n as f64 - even).abs() <= even * 0.2) && turns[whole.len()] as f64 <= even * 1.2;
    assert!(flat, "{each:?}");
    logged(&cluster, &["session ended", "its backend drains", "close=1012", "client_close=1012", "backend_close=1012"])
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_frame_is_refused_and_logged() {
    let (cluster, _backend) = cluster(&["--ping", "off"]).await;
    let mut client = open(cluster.vip()).await.into_inner();
    client.write_all(b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xffmask").await.unwrap();
    let mut told = Vec::new();
    tokio::time::timeout(PATIENCE, client.read_to_end(&mut told)).await.expect("it is ended").unwrap();
    assert_eq!(told[..4], [0x88, told[1], 0x03, 0xea], "{}", told.escape_ascii());
    drop(client);
    let line =
        ["session ended", "the client sent a length of 2^63 bytes or more", "close=1002", "header=", "82 ff ff ff"];
    logged(&cluster, &line).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ghost_is_found() {
    let (cluster, backend) = cluster(&["--ping-interval", "2s", "--pong-timeout", "2s"]).await;
    let _silent = open(cluster.vip()).await;
    let mut alive = open(cluster.vip()).await;
    assert_eq!(backend.sessions.load(std::sync::atomic::Ordering::Relaxed), 2);
    let began = Instant::now();
    // Whoever reads answers pings.
    let reading = tokio::spawn(async move {
        alive.send(Message::text("hello")).await.unwrap();
        loop {
            match alive.next().await {
                Some(Ok(Message::Ping(_))) => {}
                Some(Ok(Message::Text(text))) if text.as_str() == "bye" => return,
                Some(Ok(Message::Text(_))) => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    alive
                        .send(Message::text(if began.elapsed().as_secs() < 8 { "hello" } else { "bye" }))
                        .await
                        .unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
    });
    logged(&cluster, &["session ended", "the client does not answer pings", "close=1001", "backend_close=1001"]).await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(7), "{took:?}");
    reading.await.unwrap();
}
