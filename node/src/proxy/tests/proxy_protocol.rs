//! PROXY headers: believed from those who may send them, and sent to backends that want them.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::rig::{PATIENCE, Rig, Spy, config, echo_backend, free_address, rest, unchecked, until};
use crate::config::model::{Balance, Check, CheckKind, ProxyProtocol, SendProxy, Upstream};
use crate::proxy::proxy_protocol::{Addresses, version_1_of, version_2_of};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

fn said() -> Option<Addresses> {
    Some(Addresses { source: "192.0.2.7:5000".parse().unwrap(), destination: "192.0.2.8:443".parse().unwrap() })
}

async fn rig(mode: ProxyProtocol, from: &[&str], upstream: Upstream) -> Rig {
    let mut config = config(free_address(), upstream);
    let listener = config.listeners.values_mut().next().unwrap();
    listener.proxy_protocol = mode;
    listener.proxy_from = from.iter().map(|n| n.parse().unwrap()).collect();
    Rig::of(config, |_| ()).await
}

/// A backend that answers each request with the head it got.
async fn mirror() -> Spy {
    Spy::new(|mut socket, _| async move {
        let head = until(&mut socket, "\r\n\r\n").await.to_ascii_lowercase();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{head}", head.len());
        socket.write_all(answer.as_bytes()).await.unwrap();
    })
    .await
}

#[tokio::test]
async fn the_client_is_who_the_header_says() {
    let mirror = mirror().await;
    let rig = rig(ProxyProtocol::Required, &["127.0.0.0/8"], unchecked(Balance::RoundRobin, &[mirror.address])).await;
    for header in [version_1_of(said()), version_2_of(said())] {
        let answer = rig.say(&[&header, GET].concat()).await;
        assert!(answer.contains("x-forwarded-for: 192.0.2.7\r\n"), "{answer}");
        let mut slow = rig.connect().await;
        for byte in [&header, GET].concat() {
            slow.write_all(&[byte]).await.unwrap();
        }
        assert!(rest(&mut slow).await.contains("x-forwarded-for: 192.0.2.7\r\n"), "byte by byte");
    }
    for header in [version_1_of(None), version_2_of(None)] {
        let answer = rig.say(&[&header, GET].concat()).await;
        assert!(answer.contains("x-forwarded-for: 127.0.0.1\r\n"), "who speaks of itself is itself: {answer}");
    }
}

#[tokio::test]
async fn a_session_behind_a_header_is_a_session() {
    let backend = echo_backend("b").await;
    let rig = rig(ProxyProtocol::Required, &[], unchecked(Balance::RoundRobin, &[backend])).await;
    let mut socket = rig.connect().await;
    socket.write_all(&version_2_of(said())).await.unwrap();
    let (mut session, _) = tokio_tungstenite::client_async(format!("ws://{}/", rig.address), socket).await.unwrap();
    super::rig::echoes(&mut session, "hello").await;
}

#[tokio::test]
async fn what_is_required_and_missing_or_wrong_is_not_answered() {
    let spy = Spy::new(|socket, _| async move { drop(socket) }).await;
    let all = || unchecked(Balance::RoundRobin, &[spy.address]);
    let here = rig(ProxyProtocol::Required, &["127.0.0.0/8"], all()).await;
    let mut wrong = version_2_of(said());
    wrong[12] = 0x31;
    for bytes in [GET.to_vec(), b"PROXY TCP9 a b c d\r\n".to_vec(), wrong, b"\x16\x03\x01\x02\x00".to_vec(), Vec::new()]
    {
        let mut socket = here.connect().await;
        socket.write_all(&bytes).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut answer = Vec::new();
        // Closed with bytes unread: the kernel may say so with a reset.
        let _ = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await.expect("it is closed");
        assert!(answer.is_empty(), "{bytes:?}: {answer:?}");
    }
    let elsewhere = rig(ProxyProtocol::Required, &["192.0.2.0/24"], all()).await;
    let mut socket = elsewhere.connect().await;
    let _ = socket.write_all(&[&version_1_of(said()), GET].concat()).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await.expect("it is closed");
    assert!(answer.is_empty(), "a stranger is not believed: {answer:?}");
    assert_eq!(spy.connections(), 0);
}

#[tokio::test]
async fn half_a_header_has_its_time() {
    let mut config = config(free_address(), unchecked(Balance::RoundRobin, &[echo_backend("b").await]));
    config.settings.head_timeout = std::time::Duration::from_millis(300);
    config.listeners.values_mut().next().unwrap().proxy_protocol = ProxyProtocol::Required;
    let rig = Rig::of(config, |_| ()).await;
    let began = std::time::Instant::now();
    let mut socket = rig.connect().await;
    socket.write_all(b"PROXY TCP4 ").await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut answer)).await.expect("it is closed");
    assert!(answer.is_empty() && began.elapsed() >= std::time::Duration::from_millis(300));
}

#[tokio::test]
async fn optional_is_with_or_without_for_those_who_are_believed() {
    let mirror = mirror().await;
    let all = || unchecked(Balance::RoundRobin, &[mirror.address]);
    let believing = rig(ProxyProtocol::Optional, &["127.0.0.1/32"], all()).await;
    let with = believing.say(&[&version_1_of(said()), GET].concat()).await;
    assert!(with.contains("x-forwarded-for: 192.0.2.7\r\n"), "{with}");
    let without = believing.say(GET).await;
    assert!(without.contains("x-forwarded-for: 127.0.0.1\r\n"), "{without}");
    let other = rig(ProxyProtocol::Optional, &["192.0.2.0/24"], all()).await;
    let without = other.say(GET).await;
    assert!(without.contains("x-forwarded-for: 127.0.0.1\r\n"), "{without}");
    let forged = other.say(&[&version_1_of(said()), GET].concat()).await;
    assert!(forged.starts_with("HTTP/1.1 400 "), "who is not believed may as well send nonsense: {forged}");
}

#[tokio::test]
async fn http2_may_follow_a_header() {
    let mut config = config(free_address(), unchecked(Balance::RoundRobin, &[echo_backend("b").await]));
    let listener = config.listeners.values_mut().next().unwrap();
    listener.proxy_protocol = ProxyProtocol::Required;
    listener.http2 = Some(crate::config::model::Http2::On);
    let rig = Rig::of(config, |_| ()).await;
    let mut socket = rig.connect().await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    socket.write_all(&[&version_2_of(said()), &preface[..]].concat()).await.unwrap();
    let mut frame = [0; 9];
    tokio::time::timeout(PATIENCE, socket.read_exact(&mut frame)).await.unwrap().unwrap();
    assert_eq!(frame[3], 4, "SETTINGS come first (RFC 9113 section 3.4)");
}

/// A backend that keeps the first line or header of each connection, and answers requests.
async fn listening() -> (Spy, Arc<Mutex<Vec<Vec<u8>>>>) {
    let heard: Arc<Mutex<Vec<Vec<u8>>>> = Arc::default();
    let keep = Arc::clone(&heard);
    let spy = Spy::new(move |socket, _| listen(socket, Arc::clone(&keep))).await;
    (spy, heard)
}

async fn listen(mut socket: TcpStream, keep: Arc<Mutex<Vec<Vec<u8>>>>) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") || head.len() <= 16 {
        match socket.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => {
                keep.lock().unwrap().push(head);
                return;
            }
        }
    }
    keep.lock().unwrap().push(head);
    let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
    // It would be kept for the next request, if that were allowed.
    let _ = socket.read_u8().await;
}

#[tokio::test]
async fn backends_are_told_who_the_client_is() {
    let (spy, heard) = listening().await;
    for (send, write) in
        [(SendProxy::V1, version_1_of as fn(Option<Addresses>) -> Vec<u8>), (SendProxy::V2, version_2_of)]
    {
        heard.lock().unwrap().clear();
        let upstream = Upstream { send_proxy: send, ..unchecked(Balance::RoundRobin, &[spy.address]) };
        let rig = Rig::start(upstream).await;
        let mut client = rig.connect().await;
        for _ in 0..2 {
            client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
            until(&mut client, "ok").await;
        }
        // The handshake is answered 200: no session, but its connection told who asked.
        let refused = rig.try_session().await;
        assert!(refused.is_err());
        let me: SocketAddr = client.local_addr().unwrap();
        let expected = write(Some(Addresses { source: me, destination: rig.address }));
        let heard = heard.lock().unwrap();
        assert_eq!(heard.len(), 3, "no connection is used twice");
        assert!(heard[..2].iter().all(|head| head.starts_with(&expected)), "{heard:?}");
        assert!(heard[2].starts_with(&expected[..12]) && heard[2].len() > expected.len(), "{heard:?}");
    }
}

#[tokio::test]
async fn a_check_speaks_for_nobody() {
    let (spy, heard) = listening().await;
    let check = Check { kind: CheckKind::Tcp, interval: std::time::Duration::from_millis(50), ..Check::default() };
    let upstream = unchecked(Balance::RoundRobin, &[spy.address]);
    let _rig = Rig::start(Upstream { send_proxy: SendProxy::V2, check, ..upstream }).await;
    let deadline = std::time::Instant::now() + PATIENCE;
    while heard.lock().unwrap().is_empty() {
        assert!(std::time::Instant::now() < deadline, "it was never checked");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(heard.lock().unwrap()[0], version_2_of(None));
}
