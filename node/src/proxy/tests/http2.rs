//! HTTP/2: requests and WebSockets over one connection, as over HTTP/1.1.

mod abuse;
mod raw;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::ext::Protocol;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::rig::{
    Limits, PATIENCE, Rig, Spy, config, dead_address, echo_backend, echoes, free_address, lives_and_ends, unchecked,
    until,
};
use crate::config::model::{Balance, Http2, Upstream};
use crate::proxy::{Absent, Reach};

async fn limited(upstream: Upstream, limits: Limits) -> Rig {
    let mut config = config(free_address(), upstream);
    config.listeners.values_mut().for_each(|l| l.http2 = Some(Http2::On));
    Rig::of(limits.put(config), |_| ()).await
}

async fn rig(backends: &[std::net::SocketAddr]) -> Rig {
    limited(unchecked(Balance::RoundRobin, backends), Limits::default()).await
}

async fn client<B>(rig: &Rig) -> SendRequest<B>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn std::error::Error + Send + Sync>>> + Send + Unpin + 'static,
{
    let socket = rig.connect().await;
    let (client, connection) = handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    tokio::spawn(connection);
    client
}

fn get(path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("http://a{path}")).body(Full::default()).unwrap()
}

fn post(path: &str, body: &str) -> Request<Full<Bytes>> {
    Request::post(format!("http://a{path}")).body(Full::new(Bytes::from(body.to_owned()))).unwrap()
}

/// A body that is sent piece by piece, and ends when the sender is dropped.
fn pieces() -> (mpsc::Sender<&'static str>, impl Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static) {
    let (sender, receiver) = mpsc::channel(1);
    let frames = ReceiverStream::new(receiver).map(|piece: &str| Ok(Frame::data(Bytes::from(piece))));
    (sender, StreamBody::new(frames))
}

async fn heard(response: Response<Incoming>) -> (StatusCode, String) {
    let status = response.status();
    let body = tokio::time::timeout(PATIENCE, response.into_body().collect()).await.unwrap().unwrap();
    (status, String::from_utf8(body.to_bytes().to_vec()).unwrap())
}

fn connect(fields: &[(&'static str, &'static str)]) -> Request<Full<Bytes>> {
    let mut request = Request::builder().method(Method::CONNECT).uri("http://chat.example:81/chat?room=1");
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.extension(Protocol::from_static("websocket")).body(Full::default()).unwrap()
}

const VERSION: (&str, &str) = ("sec-websocket-version", "13");

pub(super) async fn session(client: &mut SendRequest<Full<Bytes>>) -> WebSocketStream<TokioIo<Upgraded>> {
    let response = client.send_request(connect(&[VERSION])).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let stream = hyper::upgrade::on(response).await.unwrap();
    WebSocketStream::from_raw_socket(TokioIo::new(stream), Role::Client, None).await
}

#[tokio::test]
async fn requests_are_answered_and_bodies_stream_both_ways() {
    let backend = echo_backend("b1").await;
    let rig = rig(&[backend]).await;
    let mut client = client(&rig).await;
    assert_eq!(heard(client.send_request(get("/")).await.unwrap()).await, (StatusCode::OK, "b1\n".to_owned()));
    let large = "0123456789".repeat(300_000);
    let answer = heard(client.send_request(post("/", &large)).await.unwrap()).await;
    assert!(answer.0 == StatusCode::OK && answer.1 == large);
    assert_eq!(rig.backend(backend).requests_total, 2);
}

#[tokio::test]
async fn each_piece_of_a_body_arrives_before_the_next_is_sent() {
    // One that says each piece of the body back at once.
    let spy = Spy::new(|mut socket, _| async move {
        until(&mut socket, "\r\n\r\n").await;
        socket.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await.unwrap();
        loop {
            let size = until(&mut socket, "\r\n").await;
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            let mut piece = vec![0; size + 2];
            socket.read_exact(&mut piece).await.unwrap();
            socket.write_all(format!("{size:x}\r\n").as_bytes()).await.unwrap();
            socket.write_all(&piece).await.unwrap();
            if size == 0 {
                return;
            }
        }
    })
    .await;
    let rig = rig(&[spy.address]).await;
    let mut client = client(&rig).await;
    let (send, body) = pieces();
    let request = Request::post("http://a/").body(body).unwrap();
    let mut answer = client.send_request(request).await.unwrap();
    for piece in ["one", "two", "three"] {
        send.send(piece).await.unwrap();
        let frame = tokio::time::timeout(PATIENCE, answer.body_mut().frame()).await.unwrap().unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), piece);
    }
    drop(send);
    assert!(
        tokio::time::timeout(PATIENCE, answer.body_mut().frame()).await.unwrap().is_none_or(|f| f.unwrap().is_data())
    );
}

/// What a backend read of one request.
async fn seen_by_backend(
    request: Request<impl Body<Data = Bytes, Error = Infallible> + Send + Unpin + 'static>,
    end: &'static str,
) -> (String, Response<Incoming>) {
    let (heads, mut heard) = mpsc::unbounded_channel();
    let spy = Spy::new(move |mut socket, _| {
        let heads = heads.clone();
        async move {
            heads.send(until(&mut socket, end).await).unwrap();
            let answer = "HTTP/1.1 200 OK\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\nConnection: x\r\n\r\n";
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    })
    .await;
    let rig = rig(&[spy.address]).await;
    let mut client = client(&rig).await;
    let answer = tokio::time::timeout(PATIENCE, client.send_request(request)).await.unwrap().unwrap();
    (heard.recv().await.unwrap(), answer)
}

#[tokio::test]
async fn the_backend_sees_a_request_of_http_1_1() {
    let request = Request::get("http://A.example:81/p?q=%20")
        .header("cookie", "a=1")
        .header("cookie", "b=2")
        .header("te", "trailers")
        .header("x-own", "1")
        .body(Full::<Bytes>::default())
        .unwrap();
    let (seen, answer) = seen_by_backend(request, "\r\n\r\n").await;
    let seen = seen.to_ascii_lowercase();
    assert!(seen.starts_with("get /p?q=%20 http/1.1\r\n"), "{seen}");
    for field in [
        "host: a.example:81",
        "cookie: a=1; b=2",
        "x-own: 1",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: a.example:81",
    ] {
        assert_eq!(seen.matches(&format!("\r\n{field}\r\n")).count(), 1, "{field} in {seen}");
    }
    assert!(
        !seen.contains("\r\nte:") && !seen.contains("transfer-encoding") && !seen.contains("content-length"),
        "{seen}"
    );
    for gone in ["connection", "x-hop", "keep-alive", "transfer-encoding"] {
        assert!(!answer.headers().contains_key(gone), "{gone}: {answer:?}");
    }
    let body = answer.into_body().collect().await.unwrap();
    let trailers: HeaderMap = body.trailers().unwrap().clone();
    assert_eq!(
        (trailers.len(), &trailers["x-sum"]),
        (1, &"7".parse().unwrap()),
        "what speaks of a connection stays here"
    );
    assert_eq!(body.to_bytes(), "ok");
}

#[tokio::test]
async fn a_body_has_one_length_upstream() {
    let (seen, _) = seen_by_backend(post("/", "abc"), "abc").await;
    assert!(seen.contains("\r\ncontent-length: 3\r\n") && !seen.contains("transfer-encoding"), "{seen}");
    let trailers = [("x-sum", "1"), ("content-length", "9"), ("host", "b"), ("x-other", "2")];
    let trailers = trailers.map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)));
    let frames = [Frame::data(Bytes::from("abc")), Frame::trailers(trailers.into_iter().collect())];
    let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok)));
    let request = Request::post("http://a/").header("trailer", "x-sum, content-length, host").body(body).unwrap();
    let (seen, _) = seen_by_backend(request, "\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n").await;
    assert!(seen.contains("\r\ntransfer-encoding: chunked\r\n") && !seen.contains("content-length: "), "{seen}");
}

#[tokio::test]
async fn many_streams_share_one_connection() {
    let backend = echo_backend("b1").await;
    let rig = rig(&[backend]).await;
    let client = client(&rig).await;
    let mut sessions = Vec::new();
    for _ in 0..20 {
        sessions.push(session(&mut client.clone()).await);
    }
    let asked = (0..300).map(|n| {
        let mut client = client.clone();
        async move { heard(client.send_request(post("/", &n.to_string())).await.unwrap()).await }
    });
    for (n, answer) in futures_util::future::join_all(asked).await.into_iter().enumerate() {
        assert_eq!(answer, (StatusCode::OK, n.to_string()));
    }
    for (n, socket) in sessions.iter_mut().enumerate() {
        echoes(socket, &n.to_string()).await;
    }
    assert_eq!(rig.backend(backend).sessions, 20);
}

#[tokio::test]
async fn a_websocket_over_http_2_is_a_session() {
    let backend = echo_backend("b1").await;
    let rig = rig(&[backend]).await;
    let mut client = client(&rig).await;
    let socket = session(&mut client).await;
    lives_and_ends(&rig, backend, socket).await;
    assert_eq!(heard(client.send_request(get("/")).await.unwrap()).await.1, "b1\n", "the connection goes on");
}

#[tokio::test]
async fn a_stream_that_is_reset_ends_its_session_alone() {
    let rig = rig(&[echo_backend("b1").await]).await;
    let mut client = client(&rig).await;
    let (one, mut other) = (session(&mut client).await, session(&mut client).await);
    rig.eventually("two", |r| r.sessions == 2).await;
    drop(one);
    rig.eventually("one left", |r| r.sessions == 1 && r.backends[0].sessions == 1).await;
    echoes(&mut other, "untouched").await;
    drop((client, other));
    rig.eventually("none left", |r| r.sessions == 0 && r.backends[0].sessions == 0).await;
}

#[tokio::test]
async fn the_backend_sees_a_whole_handshake_and_its_words_come_back() {
    let (heads, mut heard) = mpsc::unbounded_channel();
    let spy = Spy::new(move |mut socket, _| {
        let heads = heads.clone();
        async move {
            let head = until(&mut socket, "\r\n\r\n").await;
            let key = head.lines().find_map(|l| l.strip_prefix("sec-websocket-key: ")).unwrap().to_owned();
            heads.send(head).unwrap();
            let accept = derive_accept_key(key.as_bytes());
            // The first bytes travel in the same packet as the 101.
            let answer = format!("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\nContent-Length: 0\r\n\r\nfirst");
            socket.write_all(answer.as_bytes()).await.unwrap();
            let said = until(&mut socket, "over").await;
            socket.write_all(said.as_bytes()).await.unwrap();
        }
    })
    .await;
    let rig = rig(&[spy.address]).await;
    let mut client = client(&rig).await;
    let fields = [
        VERSION,
        ("sec-websocket-protocol", "chat, other"),
        ("sec-websocket-extensions", "permessage-deflate"),
        ("origin", "https://a"),
    ];
    let answer = client.send_request(connect(&fields)).await.unwrap();
    assert_eq!(
        (answer.status(), &answer.headers()["sec-websocket-protocol"]),
        (StatusCode::OK, &"chat".parse().unwrap())
    );
    for gone in ["sec-websocket-accept", "upgrade", "connection", "content-length"] {
        assert!(!answer.headers().contains_key(gone), "{gone}: {answer:?}");
    }
    let mut stream = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
    stream.write_all(b"over").await.unwrap();
    let mut all = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut all)).await.unwrap().unwrap();
    assert_eq!(all, "firstover", "and then the end of the stream");
    let seen = heard.recv().await.unwrap();
    assert!(seen.starts_with("GET /chat?room=1 HTTP/1.1\r\n"), "{seen}");
    for field in [
        "host: chat.example:81",
        "upgrade: websocket",
        "connection: Upgrade",
        "sec-websocket-version: 13",
        "sec-websocket-protocol: chat, other",
        "sec-websocket-extensions: permessage-deflate",
        "origin: https://a",
        "x-forwarded-for: 127.0.0.1",
    ] {
        assert_eq!(seen.matches(&format!("\r\n{field}\r\n")).count(), 1, "{field} in {seen}");
    }
}

#[tokio::test]
async fn a_dead_or_broken_backend_is_passed_over_before_200() {
    let good = echo_backend("good").await;
    let lies = Spy::answering(&["HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: wrong\r\n\r\n"]).await;
    let rig = rig(&[dead_address(), lies.address, good]).await;
    let mut client = client(&rig).await;
    for n in 0..6 {
        let mut socket = session(&mut client).await;
        echoes(&mut socket, "through").await;
        let answer = heard(client.send_request(post("/", &n.to_string())).await.unwrap()).await;
        assert!(answer == (StatusCode::OK, n.to_string()) || answer.0 == StatusCode::BAD_GATEWAY, "{answer:?}");
    }
    assert!(lies.connections() > 0);
}

#[tokio::test]
async fn what_a_backend_answers_instead_of_101_is_the_answer() {
    let spy = Spy::answering(&["HTTP/1.1 403 Forbidden\r\nX-Why: no\r\nContent-Length: 4\r\n\r\nnope"]).await;
    let rig = rig(&[spy.address]).await;
    let mut client = client(&rig).await;
    let answer = client.send_request(connect(&[VERSION])).await.unwrap();
    assert_eq!(answer.headers()["x-why"], "no");
    assert_eq!(heard(answer).await, (StatusCode::FORBIDDEN, "nope".to_owned()));
}

#[tokio::test]
async fn a_plain_200_is_no_session() {
    let spy = Spy::answering(&["HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhtml"]).await;
    let rig = rig(&[spy.address]).await;
    let mut client = client(&rig).await;
    let (status, why) = heard(client.send_request(connect(&[VERSION])).await.unwrap()).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY);
    assert!(why.contains("as a plain request"), "{why}");
}

#[tokio::test]
async fn bad_handshakes_are_refused() {
    let spy = Spy::new(|socket, _| async move { drop(socket) }).await;
    let rig = rig(&[spy.address]).await;
    let mut client = client(&rig).await;
    let answer = client.send_request(connect(&[])).await.unwrap();
    assert_eq!(
        (answer.status(), &answer.headers()["sec-websocket-version"]),
        (StatusCode::UPGRADE_REQUIRED, &"13".parse().unwrap())
    );
    let mut other = connect(&[VERSION]);
    other.extensions_mut().insert(Protocol::from_static("connect-udp"));
    let (status, why) = heard(client.send_request(other).await.unwrap()).await;
    assert!(status == StatusCode::BAD_REQUEST && why.contains("the only protocol"), "{status} {why}");
    assert_eq!(spy.connections(), 0);
}

#[tokio::test]
async fn a_listener_that_speaks_both_still_speaks_http_1() {
    let rig = rig(&[echo_backend("b1").await]).await;
    let (mut socket, _) = rig.session().await;
    echoes(&mut socket, "one").await;
    assert!(
        rig.say(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx")
            .await
            .ends_with("\r\n\r\nx")
    );
    // The preface in pieces: what it is shows only at its end.
    let mut client = rig.connect().await;
    for piece in ["P", "RI * HTTP/2.0\r\n\r", "\nSM\r\n\r\n"] {
        client.write_all(piece.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    client.write_all(&raw::frame(4, 0, 0, b"")).await.unwrap();
    let mut head = [0; 9];
    tokio::time::timeout(PATIENCE, client.read_exact(&mut head)).await.unwrap().unwrap();
    assert_eq!(head[3], 4, "SETTINGS is what HTTP/2 begins with");
    assert!(rig.say(b"PRI * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
}

#[tokio::test]
async fn with_http_2_off_its_preface_is_refused_with_a_reason() {
    let rig = Rig::start(unchecked(Balance::RoundRobin, &[dead_address()])).await;
    let answer = rig.say(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("HTTP/2 is off on this listener"), "{answer}");
}

#[tokio::test]
async fn stopping_says_goaway_and_lets_streams_end() {
    let slow = Spy::new(|mut socket, _| async move {
        until(&mut socket, "\r\n\r\n").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").await.unwrap();
        until(&mut socket, "\r\n\r\n").await;
    })
    .await;
    let rig = rig(&[slow.address]).await;
    let socket = rig.connect().await;
    let (mut client, connection) = handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    let connection = tokio::spawn(connection);
    let asked = client.send_request(get("/"));
    let asked = tokio::spawn(async move { heard(asked.await.unwrap()).await });
    let deadline = Instant::now() + PATIENCE;
    while slow.connections() == 0 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let began = Instant::now();
    rig.proxy.stop(PATIENCE).await;
    assert!(began.elapsed() < PATIENCE, "nobody is left, so it need not wait for the deadline");
    assert_eq!(asked.await.unwrap(), (StatusCode::OK, "done".to_owned()));
    connection.await.unwrap().expect("GOAWAY and a clean end");
    assert!(client.ready().await.is_err());
}

#[tokio::test]
async fn a_session_lasts_until_the_deadline_of_the_stop() {
    let rig = rig(&[echo_backend("b1").await]).await;
    let mut client = client(&rig).await;
    let mut socket = session(&mut client).await;
    let stop = tokio::spawn(rig.proxy.stop(Duration::from_millis(500)));
    echoes(&mut socket, "until the deadline").await;
    assert!(!matches!(tokio::time::timeout(PATIENCE, socket.next()).await.unwrap(), Some(Ok(_))));
    tokio::time::timeout(PATIENCE, stop).await.unwrap().unwrap();
}

#[tokio::test]
async fn an_address_that_left_this_machine_ends_its_connections_with_goaway() {
    let rig = rig(&[echo_backend("b1").await]).await;
    let socket = rig.connect().await;
    let (mut client, connection) = handshake(TokioExecutor::new(), TokioIo::new(socket)).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut socket = session(&mut client).await;
    let away = BTreeSet::from([rig.address.ip()]);
    rig.reach.send_replace(Arc::new(Reach { away, absent: Absent::CannotServe }));
    assert!(!matches!(tokio::time::timeout(PATIENCE, socket.next()).await.unwrap(), Some(Ok(_))));
    drop(socket);
    tokio::time::timeout(PATIENCE, connection).await.unwrap().unwrap().expect("GOAWAY and a clean end");
    rig.eventually("none left", |r| r.sessions == 0 && r.backends[0].sessions == 0).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let limits =
        Limits { head: Duration::from_millis(300), keep_alive: Duration::from_millis(300), ..Limits::default() };
    let rig = limited(unchecked(Balance::RoundRobin, &[echo_backend("b1").await]), limits).await;
    let (mut busy, mut idle) = (client(&rig).await, client::<Full<Bytes>>(&rig).await);
    let mut socket = session(&mut busy).await;
    heard(idle.send_request(get("/")).await.unwrap()).await;
    let began = Instant::now();
    while !idle.is_closed() {
        assert!(began.elapsed() < PATIENCE, "an idle connection is never closed");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(began.elapsed() >= Duration::from_millis(250), "{:?}", began.elapsed());
    tokio::time::sleep(Duration::from_millis(400)).await;
    echoes(&mut socket, "a session keeps it").await;
}

#[tokio::test]
async fn a_slow_body_is_refused() {
    let limits = Limits { body: Duration::from_millis(300), ..Limits::default() };
    let spy = Spy::new(|mut socket, _| async move { drop(socket.read_to_end(&mut Vec::new()).await) }).await;
    let rig = limited(unchecked(Balance::RoundRobin, &[spy.address]), limits).await;
    let mut client = client(&rig).await;
    let (send, body) = pieces();
    let asked = client.send_request(Request::post("http://a/").body(body).unwrap());
    send.send("abc").await.unwrap();
    let (status, why) = heard(tokio::time::timeout(PATIENCE, asked).await.unwrap().unwrap()).await;
    assert!(status == StatusCode::REQUEST_TIMEOUT && why.contains("nothing of the body came"), "{status} {why}");
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_requests_with_it() {
    let (say, mut told) = mpsc::unbounded_channel();
    let slow = Spy::new(move |mut socket, _| {
        let say = say.clone();
        async move {
            until(&mut socket, "\r\n\r\n").await;
            say.send("asked").unwrap();
            let _ = socket.read_to_end(&mut Vec::new()).await;
            say.send("left").unwrap();
        }
    })
    .await;
    let rig = rig(&[slow.address]).await;
    let mut client = client(&rig).await;
    let asked = tokio::spawn(client.send_request(get("/")));
    assert_eq!(told.recv().await, Some("asked"));
    asked.abort();
    assert_eq!(tokio::time::timeout(PATIENCE, told.recv()).await.unwrap(), Some("left"));
}
