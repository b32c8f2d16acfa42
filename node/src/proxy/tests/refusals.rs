//! Bad input: answered, closed, and no backend touched.

use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::rig::{Limits, PATIENCE, Rig, Spy, echo_backend, rest, unchecked, until};
use crate::config::model::Balance;

async fn untouched() -> Spy {
    Spy::new(|socket, _| async move { drop(socket) }).await
}

/// Every input is answered with its status and a word of why, the connection ends, and no backend hears of it.
async fn refused(limits: Limits, cases: &[(&str, u16, &str)]) {
    let spy = untouched().await;
    let rig = Rig::limited(unchecked(Balance::RoundRobin, &[spy.address]), limits).await;
    for (input, status, why) in cases {
        let answer = rig.say(input.as_bytes()).await;
        assert_eq!(&answer.get(8..12), &Some(format!(" {status}").as_str()), "{input:?}: {answer}");
        assert!(answer.to_ascii_lowercase().contains("connection: close\r\n"), "{input:?}: {answer}");
        assert!(answer.contains(why), "{input:?}: {answer}");
    }
    assert_eq!(spy.connections(), 0, "a backend was touched");
}

const SOCKET: &str = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";

#[tokio::test]
async fn smuggling_is_refused() {
    let post = |fields: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}");
    let inner = "0\r\n\r\nGET /admin HTTP/1.1\r\nHost: a\r\n\r\n";
    let cases = [
        (post("Content-Length: 6\r\nTransfer-Encoding: chunked", inner), 400, "both"),
        (post("Transfer-Encoding: chunked\r\nContent-Length: 6", inner), 400, "both"),
        (post("Content-Length: 6\r\nContent-Length: 7", "123456"), 400, "twice"),
        (post("Content-Length: 6\r\nContent-Length: 6", "123456"), 400, "twice"),
        (post("Content-Length: +6", "123456"), 400, "no number"),
        (post("Transfer-Encoding: xchunked", inner), 400, "else than chunked"),
        (post("Transfer-Encoding: chunked, identity", inner), 400, "else than chunked"),
        (post("Transfer-Encoding : chunked", inner), 400, "before a colon"),
        (post("Transfer-Encoding:\r\n chunked", inner), 400, "else than chunked"),
        (post("X: y\r\n\tTransfer-Encoding: chunked", inner), 400, "folded"),
        (post("X: y\nTransfer-Encoding: chunked", inner), 400, "LF instead"),
        (post("X: y\rTransfer-Encoding: chunked", inner), 400, "without its LF"),
        (post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", inner), 400, "twice"),
        (post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", inner), 400, "twice"),
        (post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", inner), 400, "else than chunked"),
        (post("Transfer-Encoding: chunked, chunked", inner), 400, "else than chunked"),
        (post("Transfer-Encoding: \u{b}chunked", inner), 400, "control"),
        (post("Transfer-Encoding: \"chunked\"", inner), 400, "else than chunked"),
        (post("Transfer\u{1}-Encoding: chunked", inner), 400, "control"),
        (post(" Transfer-Encoding: chunked", inner), 400, "folded"),
        (post("Content-Length: 6, 6", "123456"), 400, "no number"),
        (post("Content-Length: 0x6", "123456"), 400, "no number"),
        (post("Content-Length: 18446744073709551622", "123456"), 400, "no number"),
        (post("Content-Length : 6", "123456"), 400, "before a colon"),
        (post("X: y\r\n Content-Length: 6", "123456"), 400, "folded"),
        (post("X: y\nHost: b", ""), 400, "LF instead"),
        (post("hOST: a", ""), 400, "Host is there twice"),
        (post("X: \0", ""), 400, "control"),
        (post("Host: b", ""), 400, "Host is there twice"),
        (post("Transfer-Encoding: chunked", "zz\r\n"), 400, "hexadecimal"),
        (post("Transfer-Encoding: chunked", "1\r\nabc"), 400, "as long as"),
        (post("Transfer-Encoding: chunked", "1\nabc"), 400, "LF instead"),
        (post("Transfer-Encoding: chunked", "+1\r\na\r\n"), 400, "hexadecimal"),
        (post("Transfer-Encoding: chunked", "0x1\r\na\r\n"), 400, "hexadecimal"),
        (post("Transfer-Encoding: chunked", "10000000000000001\r\na\r\n"), 400, "hexadecimal"),
        (post("Transfer-Encoding: chunked", "1;x=\n5\r\na\r\n"), 400, "LF instead"),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(), 400, "1.0"),
        ("GET / HTTP/1.1\r\n\r\n".to_owned(), 400, "Host is missing"),
        ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), 400, "LF instead"),
        ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n".to_owned(), 400, "Host is no host"),
        ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n".to_owned(), 400, "Host is no host"),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n".to_owned(), 400, "request line"),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n".to_owned(), 400, "folded"),
        ("GET /\r\n\r\n".to_owned(), 400, "request line"),
        ("nonsense\r\n\r\n".to_owned(), 400, "request line"),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), 400, "HTTP/2 is off"),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n".to_owned(), 400, "CONNECT"),
        ("\u{16}\u{3}\u{1}\u{2}".to_owned(), 400, "control"),
    ];
    let cases: Vec<(&str, u16, &str)> = cases.iter().map(|(i, s, w)| (i.as_str(), *s, *w)).collect();
    refused(Limits::default(), &cases).await;
}

#[tokio::test]
async fn bad_handshakes_are_refused() {
    let with = |fields: &str| format!("{SOCKET}{fields}\r\n");
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let version = "Sec-WebSocket-Version: 13\r\n";
    let cases = [
        (with(version), 400, "Sec-WebSocket-Key is missing"),
        (with(&format!("{version}Sec-WebSocket-Key: short\r\n")), 400, "16 bytes"),
        (with(&format!("{version}{key}{key}")), 400, "16 bytes"),
        (with(key), 426, "sec-websocket-version: 13"),
        (with(&format!("{key}Sec-WebSocket-Version: 8\r\n")), 426, "sec-websocket-version: 13"),
        (with(&format!("{key}{version}Content-Length: 3\r\n")), 400, "no body"),
        (format!("POST{}{key}{version}\r\n", &SOCKET[3..]), 400, "a GET"),
        (format!("{}{key}{version}\r\n", SOCKET.replace("1.1", "1.0")), 400, "HTTP/1.1"),
        (format!("{}{key}{version}\r\n", SOCKET.replace("n: Upgrade", "n: keep-alive")), 400, "does not say Upgrade"),
    ];
    let cases: Vec<(&str, u16, &str)> = cases.iter().map(|(i, s, w)| (i.as_str(), *s, *w)).collect();
    refused(Limits::default(), &cases).await;
}

#[tokio::test]
async fn large_heads_are_refused_and_nearly_large_ones_are_not() {
    let head = |n: usize| format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX: {}\r\n\r\n", "y".repeat(n));
    let fields = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "x: y\r\n".repeat(100));
    let url = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "p".repeat(40_000));
    let endless = "GET / HTTP/1.1\r\nHost: a\r\nX: ".to_owned() + &"y".repeat(200_000);
    let large = head(32 * 1024);
    let cases = [
        (large.as_str(), 431, "larger than 32768 bytes"),
        (&fields, 431, "more than 100 fields"),
        (&url, 431, "larger"),
        (&endless, 431, "larger"),
    ];
    refused(Limits::default(), &cases).await;
    let rig = Rig::start(unchecked(Balance::RoundRobin, &[echo_backend("b").await])).await;
    let answer = rig.say(head(32 * 1024 - 70).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_slow_head_is_refused_however_it_trickles() {
    let limits = Limits { head: Duration::from_millis(400), ..Limits::default() };
    refused(
        limits,
        &[("GET / HT", 408, "not complete within 400ms"), ("GET / HTTP/1.1\r\nHost: a\r\nX: ", 408, "not complete")],
    )
    .await;

    let spy = untouched().await;
    let rig = Rig::limited(unchecked(Balance::RoundRobin, &[spy.address]), limits).await;
    let began = Instant::now();
    let (mut hear, mut say) = rig.connect().await.into_split();
    let trickle = tokio::spawn(async move {
        while say.write_all(b"G").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, hear.read_to_end(&mut answer)).await.unwrap();
    assert!(String::from_utf8(answer).unwrap().starts_with("HTTP/1.1 408 "));
    assert!(began.elapsed() >= Duration::from_millis(400));
    trickle.await.unwrap();
    assert_eq!(spy.connections(), 0);
}

#[tokio::test]
async fn a_slow_body_is_refused() {
    let limits = Limits { body: Duration::from_millis(300), ..Limits::default() };
    let spy = Spy::new(|mut socket, _| async move { drop(socket.read_to_end(&mut Vec::new()).await) }).await;
    let rig = Rig::limited(unchecked(Balance::RoundRobin, &[spy.address]), limits).await;
    let answer = rig.say(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n123").await;
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("nothing of the body came"), "{answer}");
}

#[tokio::test]
async fn who_says_nothing_is_told_nothing() {
    let limits =
        Limits { head: Duration::from_millis(200), keep_alive: Duration::from_millis(200), ..Limits::default() };
    let rig = Rig::limited(unchecked(Balance::RoundRobin, &[echo_backend("b").await]), limits).await;
    assert_eq!(rig.say(b"").await, "");
    let mut client = rig.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    until(&mut client, "b\n").await;
    assert_eq!(rest(&mut client).await, "", "an idle connection is closed without a word");
}

#[tokio::test]
async fn a_bad_request_behind_good_ones_waits_for_their_answers() {
    // The backend is slow enough for the bad one to be found first.
    let slow = Spy::new(|mut socket, _| async move {
        loop {
            until(&mut socket, "\r\n\r\n").await;
            tokio::time::sleep(Duration::from_millis(50)).await;
            socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine").await.unwrap();
        }
    })
    .await;
    let rig = Rig::start(unchecked(Balance::RoundRobin, &[slow.address])).await;
    let good = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let bad = "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let together = rig.say([good, good, bad].concat().as_bytes()).await;
    let mut client = rig.connect().await;
    client.write_all(good.as_bytes()).await.unwrap();
    until(&mut client, "fine").await;
    client.write_all(good.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    client.write_all(bad.as_bytes()).await.unwrap();
    let apart = rest(&mut client).await;
    let chunk = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    let in_body = rig.say([good, chunk].concat().as_bytes()).await;
    assert!(in_body.contains("fine") && in_body.ends_with("no hexadecimal number\n"), "{in_body}");
    for (answer, expected) in [(together, ["200", "200", "400"].as_slice()), (apart, &["200", "400"])] {
        let statuses: Vec<&str> = answer.split("HTTP/1.1 ").skip(1).map(|a| &a[..3]).collect();
        assert_eq!(statuses, expected, "{answer}");
        assert!(answer.ends_with("both Content-Length and Transfer-Encoding are there\n"), "{answer}");
        assert_eq!(answer.matches("fine").count(), expected.len() - 1, "{answer}");
    }
    assert_eq!(rig.backend(slow.address).requests_total, 5, "the bad one never came through");
}

#[tokio::test]
async fn a_body_that_goes_wrong_later_never_ends_well() {
    let (ends, mut ended) = tokio::sync::mpsc::unbounded_channel();
    let spy = Spy::new(move |mut socket, _| {
        let ends = ends.clone();
        async move {
            let mut all = Vec::new();
            let _ = socket.read_to_end(&mut all).await;
            ends.send(String::from_utf8(all).unwrap()).unwrap();
        }
    })
    .await;
    let rig = Rig::start(unchecked(Balance::RoundRobin, &[spy.address])).await;
    let mut client = rig.connect().await;
    client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n").await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while spy.connections() == 0 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    client.write_all(b"zz\r\n").await.unwrap();
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("hexadecimal"), "{answer}");
    let seen = tokio::time::timeout(PATIENCE, ended.recv()).await.unwrap().unwrap();
    assert!(!seen.ends_with("0\r\n\r\n"), "the backend must not take it for whole: {seen}");
}
