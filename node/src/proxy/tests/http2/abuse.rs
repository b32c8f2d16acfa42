//! What HTTP/2 can say that must not reach a backend as HTTP/1.1, and clients that only keep us busy.

use std::time::{Duration, Instant};

use tokio::io::AsyncReadExt;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::raw::{DATA, END_HEADERS, END_STREAM, Fate, HEADERS, RST_STREAM, Raw, block, frame};
use super::{client, get, heard, limited, rig};
use crate::config::model::Balance;
use crate::proxy::tests::rig::{Limits, PATIENCE, Spy, echo_backend, unchecked, until};

const PROTOCOL_ERROR: u32 = 1;
const ENHANCE_YOUR_CALM: u32 = 11;

/// What a request needs, before its other fields.
fn request<'a>(fields: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut all = vec![(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
    all.extend(fields);
    all
}

fn headers(stream: u32, fields: &[(&str, &str)], flags: u8) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, &block(fields))
}

#[tokio::test]
async fn injected_fields_reach_no_backend() {
    let spy = Spy::new(|socket, _| async move { drop(socket) }).await;
    let rig = rig(&[spy.address]).await;
    let pseudo = |name: &'static str, value: &'static str| {
        let replaced = request(&[]).into_iter().map(|(n, v)| if n == name { (n, value) } else { (n, v) });
        replaced.collect::<Vec<_>>()
    };
    let without = |name: &str| request(&[]).into_iter().filter(|(n, _)| *n != name).collect::<Vec<_>>();
    let cases = [
        // Values and names that would be two lines of HTTP/1.1.
        request(&[("x", "a\r\ntransfer-encoding: chunked")]),
        request(&[("x", "a\nb: c")]),
        request(&[("x", "a\rb")]),
        request(&[("x", "a\0b")]),
        request(&[("x: y\r\nz", "1")]),
        request(&[("x\n", "1")]),
        request(&[("x y", "1")]),
        request(&[("x:", "1")]),
        request(&[("", "1")]),
        request(&[("X-Upper", "1")]),
        pseudo(":path", "/ HTTP/1.1\r\nHost: b\r\n\r\nGET /admin"),
        pseudo(":path", "/a b"),
        pseudo(":path", "/a\tb"),
        pseudo(":path", ""),
        pseudo(":path", "admin"),
        pseudo(":path", "http://b/"),
        pseudo(":path", "*"),
        pseudo(":method", "GET / HTTP/1.1\r\nX: y\r\n\r\nGET"),
        pseudo(":method", "GET "),
        pseudo(":method", "CONNECT"),
        pseudo(":authority", "a\r\nx: y"),
        pseudo(":authority", "a b"),
        pseudo(":authority", "user@a"),
        pseudo(":authority", ""),
        pseudo(":scheme", "http\r\nx: y"),
        pseudo(":scheme", "ftp"),
        // Framing that HTTP/2 has its own of.
        request(&[("transfer-encoding", "chunked")]),
        request(&[("connection", "close")]),
        request(&[("connection", "transfer-encoding")]),
        request(&[("upgrade", "websocket")]),
        request(&[("proxy-connection", "close")]),
        request(&[("keep-alive", "5")]),
        request(&[("te", "gzip")]),
        request(&[("content-length", "5"), ("content-length", "6")]),
        request(&[("content-length", "5"), ("content-length", "5")]),
        request(&[("content-length", "+5")]),
        request(&[("content-length", "5, 5")]),
        request(&[("content-length", "5")]),
        request(&[("content-length", "18446744073709551617")]),
        // Two hosts, or none.
        request(&[("host", "b")]),
        request(&[("host", "a"), ("host", "a")]),
        without(":authority"),
        // Pseudo-fields that are no request.
        without(":method"),
        without(":scheme"),
        without(":path"),
        request(&[("x", "y"), (":path", "/admin")]),
        request(&[(":path", "/admin")]),
        request(&[(":status", "200")]),
        request(&[(":admin", "1")]),
        request(&[(":protocol", "websocket")]),
    ];
    for fields in cases {
        // Each ends its stream at once, so that a length of 5 is wrong too.
        let mut raw = Raw::connect(&rig).await;
        assert!(raw.send(&[headers(1, &fields, END_STREAM)]).await);
        match raw.fate(1).await {
            Fate::Answered(why) => assert!(!why.is_empty() && !why.contains("backend"), "{fields:?}: {why}"),
            Fate::Reset(reason) => assert_eq!(reason, PROTOCOL_ERROR, "{fields:?}"),
            Fate::Gone(reason) => assert!(reason.is_some(), "{fields:?}"),
        }
    }
    assert_eq!(spy.connections(), 0, "a backend was touched");
    let mut raw = Raw::connect(&rig).await;
    assert!(raw.send(&[headers(1, &request(&[("x", "y")]), END_STREAM)]).await);
    assert!(matches!(raw.fate(1).await, Fate::Answered(why) if why.contains("backend")));
    assert!(spy.connections() > 0, "the same without a fault goes through");
}

/// A backend that tells of each request: its head when it is there, and what came in all when nothing more comes.
async fn listener() -> (Spy, UnboundedReceiver<String>) {
    let (say, heard) = unbounded_channel();
    let spy = Spy::new(move |mut socket, _| {
        let say = say.clone();
        async move {
            let mut all = until(&mut socket, "\r\n\r\n").await;
            say.send(all.clone()).unwrap();
            let mut rest = Vec::new();
            let _ = socket.read_to_end(&mut rest).await;
            all.push_str(&String::from_utf8(rest).unwrap());
            say.send(all).unwrap();
        }
    })
    .await;
    (spy, heard)
}

async fn told(heard: &mut UnboundedReceiver<String>) -> String {
    tokio::time::timeout(PATIENCE, heard.recv()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_body_that_is_not_as_long_as_it_says_never_ends_well() {
    let (spy, mut heard) = listener().await;
    let rig = rig(&[spy.address]).await;
    for body in ["abc", "abcdef", "abcdeGET /admin HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut raw = Raw::connect(&rig).await;
        assert!(raw.send(&[headers(1, &request(&[("content-length", "5")]), 0)]).await);
        assert!(told(&mut heard).await.contains("\r\ncontent-length: 5\r\n"));
        assert!(raw.send(&[frame(DATA, END_STREAM, 1, body.as_bytes())]).await);
        assert_eq!(raw.fate(1).await, Fate::Reset(PROTOCOL_ERROR), "{body}");
        let seen = told(&mut heard).await;
        assert!(seen.split_once("\r\n\r\n").unwrap().1.len() < 5, "{body}: the backend takes it for whole: {seen}");
    }
}

#[tokio::test]
async fn trailers_cannot_speak_for_the_head() {
    let (spy, mut heard) = listener().await;
    let rig = rig(&[spy.address]).await;
    let announced = request(&[("trailer", "host, content-length, transfer-encoding, x-sum")]);
    for trailers in [[("transfer-encoding", "chunked")], [("x-sum", "1\r\n\r\nGET /admin HTTP/1.1")]] {
        let mut raw = Raw::connect(&rig).await;
        assert!(raw.send(&[headers(1, &announced, 0), frame(DATA, 0, 1, b"abc")]).await);
        told(&mut heard).await;
        assert!(raw.send(&[headers(1, &trailers, END_STREAM)]).await);
        assert!(!matches!(raw.fate(1).await, Fate::Answered(_)), "{trailers:?}");
        let seen = told(&mut heard).await;
        let (_, body) = seen.split_once("\r\n\r\n").unwrap();
        assert!("3\r\nabc\r\n".starts_with(body), "{trailers:?}: the backend takes it for whole: {seen}");
    }
}

#[tokio::test]
async fn large_heads_are_refused() {
    let spy = Spy::new(|socket, _| async move { drop(socket) }).await;
    let limits = Limits { head_bytes: 4096, ..Limits::default() };
    let rig = limited(unchecked(Balance::RoundRobin, &[spy.address]), limits).await;
    let mut client = client(&rig).await;
    let mut large = get("/");
    for n in 0..50 {
        large.headers_mut().append("x", "y".repeat(100 + n).parse().unwrap());
    }
    // The client may refuse it by itself, since it was told; else it is answered.
    if let Ok(answer) = client.send_request(large).await {
        assert_eq!(heard(answer).await.0, 431);
    }
    let many: Vec<(&str, &str)> = vec![("x", "y"); 101];
    let mut raw = Raw::connect(&rig).await;
    assert!(raw.send(&[headers(1, &request(&many), END_STREAM)]).await);
    assert!(
        !matches!(raw.fate(1).await, Fate::Answered(why) if !why.contains("more than 100 fields") && !why.is_empty())
    );
    assert_eq!(spy.connections(), 0);
}

#[tokio::test]
async fn streams_reset_in_a_burst_end_the_connection() {
    let rig = rig(&[echo_backend("b").await]).await;
    let mut raw = Raw::connect(&rig).await;
    let pairs = (0..2000).map(|n| 2 * n + 1).flat_map(|stream| {
        [headers(stream, &request(&[]), END_STREAM), frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())]
    });
    raw.send(&pairs.collect::<Vec<_>>()).await;
    assert_eq!(raw.fate(u32::MAX).await, Fate::Gone(Some(ENHANCE_YOUR_CALM)));
    let mut other = client(&rig).await;
    assert_eq!(heard(other.send_request(get("/")).await.unwrap()).await.1, "b\n", "others are served");
}

#[tokio::test]
async fn streams_reset_one_by_one_end_the_connection_too() {
    let silent = Spy::new(|mut socket, _| async move {
        let _ = socket.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let rig = rig(&[silent.address]).await;
    let mut raw = Raw::connect(&rig).await;
    let began = Instant::now();
    'streams: for n in 0..500 {
        let stream = 2 * n + 1;
        if !raw.send(&[headers(stream, &request(&[]), END_STREAM)]).await {
            break;
        }
        // A backend was asked before it is reset, so that no burst can be found.
        while silent.connections() <= n as usize {
            if raw.0.try_read(&mut [0; 64]).is_ok_and(|n| n == 0) {
                break 'streams;
            }
            assert!(began.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if !raw.send(&[frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())]).await {
            break;
        }
    }
    // As many as one may reset, and what was under way when the last was noticed.
    assert!((201..210).contains(&silent.connections()), "{} were borne", silent.connections());
}
