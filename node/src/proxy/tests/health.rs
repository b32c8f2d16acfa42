//! Checks with real sockets: what passes, what fails and in which words, and that clients go where it is well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::rig::{PATIENCE, Rig, Spy, echo_backend, unchecked, until};
use crate::config::model::{Balance, Check, CheckKind, CheckMethod, SendProxy, Upstream};
use crate::proxy::{BackendReport, Report};

/// A check of this kind, often and with patience.
fn check(kind: CheckKind) -> Check {
    Check { kind, interval: Duration::from_millis(50), timeout: PATIENCE / 2, ..Check::default() }
}

fn checked(check: Check, backends: &[std::net::SocketAddr]) -> Upstream {
    Upstream { check, ..unchecked(Balance::RoundRobin, backends) }
}

/// A backend that does this passes the check.
async fn passes(what: &str, check: Check, spy: &Spy) {
    let rig = Rig::start(checked(check, &[spy.address])).await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    // A third look begins once the second has passed.
    while spy.connections() < 3 {
        let backend = rig.backend(spy.address);
        assert_eq!((backend.up, backend.error), (true, None), "{what}");
        assert!(tokio::time::Instant::now() < deadline, "{what}: not checked");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A backend that does this is taken out, for this reason. A busy machine may be late with more than what is to be late;
/// one of the next checks is not.
async fn fails(what: &str, check: Check, spy: &Spy, why: &str) {
    let rig = Rig::start(checked(check, &[spy.address])).await;
    let found = |b: &BackendReport| !b.up && b.error.as_ref().is_some_and(|error| error.starts_with(why));
    rig.eventually(&format!("{what}: {why:?}"), |r| found(&r.backends[0])).await;
}

#[tokio::test]
async fn an_http_check_looks_at_status_and_body() {
    let usual = || check(CheckKind::Http);
    let has = |text: &str| Check { body: Some(text.to_owned()), ..usual() };
    let ok = Spy::answering(&["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nall ready"]).await;
    passes("200", usual(), &ok).await;
    passes("a body with the text", has("ready"), &ok).await;
    fails("a body without it", has("steady"), &ok, "check: \"steady\" is not in the first 64 KiB of its answer").await;
    let only = Check { statuses: "204".parse().unwrap(), ..usual() };
    fails("another status", only, &ok, "check: answered 200").await;

    let busy = Spy::answering(&["HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"]).await;
    fails("503", usual(), &busy, "check: answered 503").await;
    let early = Spy::answering(&["HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 302 Found\r\nLocation: /\r\n\r\n"]).await;
    passes("a redirect, after a hint", usual(), &early).await;
    let ssh = Spy::answering(&["SSH-2.0-OpenSSH_9.2\r\n"]).await;
    let broken = "check: the backend ended the connection without an answer: ";
    fails("no HTTP", usual(), &ssh, broken).await;
    fails("an end without a word", usual(), &Spy::answering(&[]).await, broken).await;
    let short = Check { timeout: Duration::from_millis(50), ..usual() };
    let silent = Spy::new(|mut socket, _| async move {
        until(&mut socket, "\r\n\r\n").await;
        std::future::pending().await
    })
    .await;
    fails("silence", short.clone(), &silent, "check: no answer within 50ms").await;
    let endless = Spy::new(|mut socket, _| async move {
        until(&mut socket, "\r\n\r\n").await;
        socket.write_all(b"HTTP/1.1 200 OK\r\n\r\nnever").await.unwrap();
        std::future::pending().await
    })
    .await;
    let waits = Check { body: Some("ready".to_owned()), ..short };
    fails("a body that does not end", waits, &endless, "check: no end of the answer within 50ms").await;
    let dead = super::rig::dead_address();
    let rig = Rig::start(checked(usual(), &[dead])).await;
    let report = rig.eventually("refused", |r| !r.backends[0].up).await;
    assert!(report.backends[0].error.clone().unwrap().contains("refused"), "{report:?}");
}

#[tokio::test]
async fn a_text_is_found_across_pieces_and_not_behind_64_kib() {
    // `gap` bytes, then the text in two pieces.
    let after = |gap: usize| {
        Spy::new(move |mut socket, _| async move {
            until(&mut socket, "\r\n\r\n").await;
            let _ = socket.set_nodelay(true);
            let body = "x".repeat(gap);
            let _ = socket.write_all(format!("HTTP/1.1 200 OK\r\n\r\n{body}re").as_bytes()).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
            let _ = socket.write_all(b"ady").await;
        })
    };
    let has = || Check { body: Some("ready".to_owned()), ..check(CheckKind::Http) };
    passes("in two pieces", has(), &after(10).await).await;
    passes("at the very end", has(), &after(64 * 1024 - 5).await).await;
    fails("one byte too far", has(), &after(64 * 1024 - 4).await, "check: \"ready\" is not").await;
}

#[tokio::test]
async fn a_check_asks_as_it_is_told_where_it_is_told() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let spy = Spy::new(move |mut socket, _| {
        let tell = tell.clone();
        async move {
            let head = until(&mut socket, "\r\n\r\n").await;
            let _ = tell.send(head.to_ascii_lowercase());
            let _ = socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        }
    })
    .await;
    let mut next = async || tokio::time::timeout(PATIENCE, told.recv()).await.unwrap().unwrap();
    // Nobody listens at the backend's own port: only the check goes elsewhere.
    let mut backend = super::rig::dead_address();
    backend.set_ip(spy.address.ip());
    let elsewhere = Check {
        port: std::num::NonZeroU16::new(spy.address.port()),
        method: CheckMethod::Head,
        path: "/healthz?deep=1".to_owned(),
        host: Some("chat.example.org".to_owned()),
        ..check(CheckKind::Http)
    };
    let upstream = Upstream { send_proxy: SendProxy::V1, ..checked(elsewhere, &[backend]) };
    let rig = Rig::start(upstream).await;
    let head = next().await;
    assert!(head.starts_with("proxy unknown\r\nhead /healthz?deep=1 http/1.1\r\n"), "{head}");
    for field in ["host: chat.example.org", "connection: close", "user-agent: tandem-check/"] {
        assert!(head.contains(&format!("\r\n{field}")), "{field} in {head}");
    }
    assert!(rig.backend(backend).up);

    let mut usual = check(CheckKind::Websocket);
    (usual.path, usual.subprotocol) = ("/chat".to_owned(), Some("chat.v2".to_owned()));
    rig.edit(|u| *u = checked(usual, &[spy.address]));
    let head = loop {
        let head = next().await;
        if head.starts_with("get ") {
            break head;
        }
    };
    assert!(head.starts_with("get /chat http/1.1\r\n"), "{head}");
    for field in [&format!("host: {}", spy.address), "upgrade: websocket", "sec-websocket-protocol: chat.v2"] {
        assert!(head.contains(&format!("\r\n{field}\r\n")), "{field} in {head}");
    }
}

/// Agrees to a handshake, with these fields too.
async fn agree(mut socket: TcpStream, fields: &str) -> TcpStream {
    let head = until(&mut socket, "\r\n\r\n").await;
    let key = head.lines().find_map(|l| l.strip_prefix("sec-websocket-key: ")).unwrap();
    let accept = derive_accept_key(key.as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{fields}\r\n"
    );
    let _ = socket.write_all(answer.as_bytes()).await;
    socket
}

/// A backend that agrees and then talks so.
async fn agreeing<F: Future<Output = ()> + Send + 'static>(
    fields: &'static str,
    talk: impl Fn(WebSocketStream<TcpStream>) -> F + Clone + Send + Sync + 'static,
) -> Spy {
    Spy::new(move |socket, _| {
        let talk = talk.clone();
        async move {
            let socket = agree(socket, fields).await;
            talk(WebSocketStream::from_raw_socket(socket, Role::Server, None).await).await;
        }
    })
    .await
}

/// Reads on, and so answers pings, but says nothing else.
async fn listen(mut session: WebSocketStream<TcpStream>) {
    while session.next().await.is_some_and(|m| m.is_ok()) {}
}

#[tokio::test]
async fn a_websocket_check_wants_a_session_that_works() {
    let usual = || check(CheckKind::Websocket);
    let echo = || Check { echo: Some("hello".to_owned()), ..usual() };
    let short = |check: Check| Check { timeout: Duration::from_millis(100), ..check };
    passes("a pong", usual(), &agreeing("", listen).await).await;
    fails("no echo", short(echo()), &agreeing("", listen).await, "check: no echo within 100ms").await;
    let greets = agreeing("", |mut session| async move {
        for n in 0..3 {
            let _ = session.send(Message::text(format!("greeting {n}"))).await;
        }
        while let Some(Ok(said)) = session.next().await {
            if said.is_text() {
                let _ = session.send(said).await;
            }
        }
    })
    .await;
    passes("an echo, between greetings", echo(), &greets).await;

    let deaf = agreeing("", |session| async move {
        let _kept = session;
        std::future::pending().await
    })
    .await;
    fails("no pong", short(usual()), &deaf, "check: no pong within 100ms").await;
    let closing = agreeing("", |mut session| async move {
        let _ = session.close(None).await;
        listen(session).await;
    })
    .await;
    fails("a close", usual(), &closing, "check: closed before its pong").await;

    let v2 = || Check { subprotocol: Some("chat.v2".to_owned()), ..usual() };
    passes("its subprotocol", v2(), &agreeing("Sec-WebSocket-Protocol: chat.v2\r\n", listen).await).await;
    let no = "check: did not agree to subprotocol \"chat.v2\"";
    fails("no subprotocol", v2(), &agreeing("", listen).await, no).await;
    fails("another one", v2(), &agreeing("Sec-WebSocket-Protocol: chat.v1\r\n", listen).await, no).await;

    let forbidden = Spy::answering(&["HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"]).await;
    fails("403", usual(), &forbidden, "check: answered 403").await;
    let wrong = Spy::answering(&[
        "HTTP/1.1 101 Yes\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    ])
    .await;
    let why =
        "check: the backend answered the WebSocket handshake wrongly: Sec-WebSocket-Accept does not match the key";
    fails("another key's Accept", usual(), &wrong, why).await;
}

#[tokio::test]
async fn a_websocket_check_ends_its_session_politely() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let spy = agreeing("", move |mut session| {
        let tell = tell.clone();
        async move {
            let mut last = None;
            while let Some(said) = session.next().await {
                last = Some(said.map(|m| m.is_close()).map_err(|e| e.to_string()));
            }
            let _ = tell.send(last);
        }
    })
    .await;
    let _rig = Rig::start(checked(check(CheckKind::Websocket), &[spy.address])).await;
    for _ in 0..3 {
        let last = tokio::time::timeout(PATIENCE, told.recv()).await.unwrap().unwrap();
        assert_eq!(last, Some(Ok(true)), "the last it hears is a close, and no error");
    }
}

#[tokio::test]
async fn clients_go_where_it_is_well_and_come_back() {
    let well = Arc::new(AtomicBool::new(true));
    let (said, good) = (Arc::clone(&well), echo_backend("good").await);
    // It takes connections all the time: only a request finds out.
    let moody = Spy::new(move |mut socket, _| {
        let status = if said.load(SeqCst) { "200 OK" } else { "500 No" };
        async move {
            until(&mut socket, "\r\n\r\n").await;
            let head =
                format!("HTTP/1.1 {status}\r\nX-Backend: moody\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            let _ = socket.write_all(head.as_bytes()).await;
        }
    })
    .await;
    let rig = Rig::start(checked(check(CheckKind::Tcp), &[moody.address, good])).await;
    let asked = async || {
        let answer = rig.say(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.to_ascii_lowercase();
        answer.contains("x-backend: moody")
    };
    well.store(false, SeqCst);
    let is_up = |r: &Report| r.backends.iter().find(|b| b.address == moody.address).unwrap().up;
    assert!(is_up(&rig.proxy.handle().report()), "a connection is all that tcp asks for");
    rig.edit(|u| u.check = check(CheckKind::Http));
    rig.eventually("found ill", |r| !is_up(r)).await;
    for _ in 0..6 {
        assert!(!asked().await, "a client was sent to one that is ill");
    }
    well.store(true, SeqCst);
    rig.eventually("found well", is_up).await;
    // Each worker has its own turns.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !asked().await {
        assert!(tokio::time::Instant::now() < deadline, "it never has its turn again");
    }
}
