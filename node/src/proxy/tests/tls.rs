//! TLS: clients with real libraries, certificates of an authority of our own.

mod authority;
mod backends;
mod memory;

use std::sync::Arc;

use futures_util::SinkExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, HandshakeKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;

use self::authority::{Authority, Issued, Open, certificates, dial, rig, with};
use super::http2;
use super::rig::{PATIENCE, Rig, Spy, config, echo_backend, echoes, free_address, lives_and_ends, unchecked, until};
use crate::config::model::{Balance, ClientAuth, Http2, ProxyProtocol, Sticky, TlsVersion, Upstream};
use crate::proxy::Listening;

const V12: &[&rustls::SupportedProtocolVersion] = &[rustls::DEFAULT_VERSIONS[1]];
const V13: &[&rustls::SupportedProtocolVersion] = &[rustls::DEFAULT_VERSIONS[0]];

async fn echo() -> (std::net::SocketAddr, Upstream) {
    let backend = echo_backend("b1").await;
    (backend, unchecked(Balance::RoundRobin, &[backend]))
}

async fn session(rig: &Rig, client: &Arc<ClientConfig>) -> WebSocketStream<TlsStream<TcpStream>> {
    let stream = dial(rig, client, "a.example").await.unwrap();
    tokio_tungstenite::client_async("wss://a.example/chat", stream).await.unwrap().0
}

/// One plain request; the answer's body, or what went wrong.
async fn get(rig: &Rig, client: &Arc<ClientConfig>) -> std::io::Result<(String, Option<HandshakeKind>)> {
    let mut stream = dial(rig, client, "a.example").await?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap()?;
    let kind = stream.get_ref().1.handshake_kind();
    Ok((answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default(), kind))
}

/// What the metrics say of the listener's handshakes: full, resumed, failed.
async fn handshakes(rig: &Rig, expected: [u64; 3]) {
    let wanted: Vec<String> = ["full", "resumed", "failed"]
        .iter()
        .zip(expected)
        .map(|(result, n)| format!("tandem_tls_handshakes_total{{listener=\"main\",result=\"{result}\"}} {n}\n"))
        .collect();
    let mut page = String::new();
    // Counted after the client knows already.
    for _ in 0..1000 {
        let handle = rig.proxy.handle();
        page = crate::metrics::page(move |page| handle.counted(page)).unwrap();
        if wanted.iter().all(|line| page.contains(line)) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("{wanted:?} in\n{page}");
}

#[tokio::test]
async fn a_session_in_either_version_lives_and_ends() {
    for versions in [V12, V13] {
        let (backend, upstream) = echo().await;
        let authority = Authority::new();
        let rig = rig(upstream, &[("a", &authority.issue("a.example"))], |_, _| ()).await;
        let client = Arc::new(authority.client_of(versions, None));
        lives_and_ends(&rig, backend, session(&rig, &client).await).await;
        handshakes(&rig, [1, 0, 0]).await;
    }
}

/// Resumed or not: each connection is held to what it was shown.
#[tokio::test]
async fn a_connection_of_http_2_is_not_used_for_a_host_with_another_certificate() {
    let (_, upstream) = echo().await;
    let authority = Authority::new();
    let shown = [("a", &authority.issue("a.example")), ("b", &authority.issue("*.b.example"))];
    let rig = rig(upstream, &shown, |_, _| ()).await;
    let mut client = authority.client();
    client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let client = Arc::new(client);
    for (connected, kind) in [("x.b.example", HandshakeKind::Full), ("x.b.example", HandshakeKind::Resumed)] {
        let stream = dial(&rig, &client, connected).await.unwrap();
        let connection = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (mut sender, talk) = connection.unwrap();
        let talking = tokio::spawn(talk);
        for (host, status) in [("x.b.example", 200), ("y.B.example:443", 200), ("a.example", 421), ("stranger", 421)] {
            let request = http::Request::get(format!("https://{host}/")).body(String::new()).unwrap();
            let answer = sender.send_request(request).await.unwrap();
            assert_eq!(answer.status().as_u16(), status, "{host} by a {kind:?} handshake");
        }
        drop(sender);
        let _ = talking.await;
    }
    handshakes(&rig, [1, 1, 0]).await;
    let mut stream = dial(&rig, &Arc::new(authority.client()), "x.b.example").await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "a client of HTTP/1.1 says outright where it goes: {answer}");
}

#[tokio::test]
async fn who_reads_slowly_gets_every_byte() {
    let (_, upstream) = echo().await;
    let authority = Authority::new();
    let rig = rig(upstream, &[("a", &authority.issue("a.example"))], |_, _| ()).await;
    let mut session = session(&rig, &Arc::new(authority.client())).await;
    socket2::SockRef::from(session.get_ref().get_ref().0).set_recv_buffer_size(16_384).unwrap();
    let texts: Vec<String> = (0..6).map(|i| char::from(b'a' + i).to_string().repeat(2 << 20)).collect();
    // All of it is said before any of it is read.
    for text in &texts {
        let sent = tokio::time::timeout(std::time::Duration::from_millis(300), session.feed(Message::text(text))).await;
        if sent.is_err() {
            break;
        }
    }
    let (mut to, mut from) = futures_util::StreamExt::split(session);
    let reading = async {
        for text in &texts[..2] {
            let said = futures_util::StreamExt::next(&mut from).await.unwrap().unwrap();
            assert!(said == Message::text(text), "another message");
        }
    };
    let flushing = async { drop(to.flush().await) };
    tokio::time::timeout(PATIENCE, async { tokio::join!(reading, flushing) }).await.unwrap();
}

#[tokio::test]
async fn the_backend_knows_that_the_client_speaks_tls() {
    let (heads, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let spy = Spy::new(move |mut socket, _| {
        let heads = heads.clone();
        async move {
            heads.send(until(&mut socket, "\r\n\r\n").await).unwrap();
            socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
        }
    })
    .await;
    let authority = Authority::new();
    let mut upstream = unchecked(Balance::RoundRobin, &[spy.address]);
    upstream.sticky = Some(Sticky { cookie: "sid".to_owned(), ttl: None, secure: false });
    let rig = rig(upstream, &[("a", &authority.issue("a.example"))], |_, _| ()).await;
    let mut stream = dial(&rig, &Arc::new(authority.client()), "a.example").await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-Proto: http\r\n\r\n").await.unwrap();
    let head = heard.recv().await.unwrap();
    assert!(head.contains("\r\nx-forwarded-proto: https\r\n"), "{head}");
    let mut answer = [0; 512];
    let n = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..n]).into_owned();
    assert!(answer.contains("; Secure"), "{answer}");
}

#[tokio::test]
async fn each_host_is_shown_its_certificate() {
    let (_, upstream) = echo().await;
    let authority = Authority::new();
    let (a, b) = (authority.issue("a.example"), authority.issue("*.b.example"));
    let rig = rig(upstream, &[("a", &a), ("b", &b)], |_, _| ()).await;
    let client = Arc::new(authority.client());
    for (host, issued) in [("a.example", &a), ("deep.b.example", &b)] {
        let stream = dial(&rig, &client, host).await.unwrap();
        assert_eq!(stream.get_ref().1.peer_certificates().unwrap(), std::slice::from_ref(&issued.chain), "{host}");
    }
    let stranger = dial(&rig, &client, "c.example").await.unwrap_err();
    assert!(stranger.to_string().contains("not valid for name"), "the first is shown: {stranger}");
}

#[tokio::test]
async fn an_older_version_than_allowed_is_refused() {
    let (_, upstream) = echo().await;
    let authority = Authority::new();
    let newest = |_: &mut _, tls: &mut crate::config::model::ListenerTls| tls.min_version = TlsVersion::Tls13;
    let rig = rig(upstream, &[("a", &authority.issue("a.example"))], newest).await;
    let old = dial(&rig, &Arc::new(authority.client_of(V12, None)), "a.example").await.unwrap_err();
    assert!(old.to_string().contains("ProtocolVersion"), "{old}");
    assert_eq!(get(&rig, &Arc::new(authority.client())).await.unwrap().0, "b1\n");
    handshakes(&rig, [1, 0, 1]).await;
}

#[tokio::test]
async fn the_client_chooses_its_http() {
    let (backend, upstream) = echo().await;
    let authority = Authority::new();
    let issued = authority.issue("a.example");
    let speaking = |protocols: &[&str]| {
        let mut client = authority.client();
        client.alpn_protocols = protocols.iter().map(|p| p.as_bytes().to_vec()).collect();
        Arc::new(client)
    };
    let both = rig(upstream.clone(), &[("a", &issued)], |_, _| ()).await;
    for (protocols, chosen) in [(&["http/1.1"][..], Some("http/1.1")), (&[], None), (&["http/1.1", "h2"], Some("h2"))] {
        let stream = dial(&both, &speaking(protocols), "a.example").await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), chosen.map(str::as_bytes), "{protocols:?}");
    }
    assert!(dial(&both, &speaking(&["h3"]), "a.example").await.is_err());
    let stream = dial(&both, &speaking(&["h2"]), "a.example").await.unwrap();
    let connected = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
    let (mut client, connection) = connected.unwrap();
    tokio::spawn(connection);
    lives_and_ends(&both, backend, http2::session(&mut client).await).await;
    let off = |config: &mut crate::config::model::Config, _: &mut _| {
        config.listeners.values_mut().for_each(|l| l.http2 = Some(Http2::Off));
    };
    let one = rig(upstream, &[("a", &issued)], off).await;
    let stream = dial(&one, &speaking(&["h2", "http/1.1"]), "a.example").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[tokio::test]
async fn a_client_resumes_on_another_node_with_the_same_secret() {
    for versions in [V12, V13] {
        let (_, upstream) = echo().await;
        let authority = Authority::new();
        let issued = authority.issue("a.example");
        let node = async |secret| {
            let config = with(config(free_address(), upstream.clone()), &[("a", &issued)], |_, _| ());
            Rig::of(config, |settings| settings.keys = Some(Arc::new(Open(secret)))).await
        };
        let (one, other, stranger) = (node(1).await, node(1).await, node(2).await);
        let client = Arc::new(authority.client_of(versions, None));
        let how = async |rig| get(rig, &client).await.unwrap().1.unwrap();
        assert_eq!(how(&one).await, HandshakeKind::Full);
        assert_eq!(how(&other).await, HandshakeKind::Resumed, "{versions:?}");
        handshakes(&other, [0, 1, 0]).await;
        assert_eq!(how(&stranger).await, HandshakeKind::Full);
    }
}

#[tokio::test]
async fn clients_show_certificates_where_they_are_asked_for() {
    let (_, upstream) = echo().await;
    let (authority, other) = (Authority::new(), Authority::new());
    let (known, unknown) = (authority.issue("client"), other.issue("client"));
    let issued = authority.issue("a.example");
    let asking = async |auth| {
        let ask = |_: &mut _, tls: &mut crate::config::model::ListenerTls| {
            (tls.client_auth, tls.client_ca) = (auth, vec![authority.certificate.clone()]);
        };
        rig(upstream.clone(), &[("a", &issued)], ask).await
    };
    let (optional, required) = (asking(ClientAuth::Optional).await, asking(ClientAuth::Required).await);
    for versions in [V12, V13] {
        let client = |shows: Option<&Issued>| Arc::new(authority.client_of(versions, shows));
        assert!(get(&optional, &client(None)).await.is_ok());
        assert!(get(&optional, &client(Some(&known))).await.is_ok());
        assert!(get(&optional, &client(Some(&unknown))).await.is_err());
        assert!(get(&required, &client(None)).await.is_err());
        assert!(get(&required, &client(Some(&known))).await.is_ok());
        assert!(get(&required, &client(Some(&unknown))).await.is_err());
    }
}

#[tokio::test]
async fn a_ticket_lets_nobody_in_where_a_certificate_is_asked_for() {
    let (_, upstream) = echo().await;
    let authority = Authority::new();
    let rig = rig(upstream, &[("a", &authority.issue("a.example"))], |_, _| ()).await;
    for versions in [V12, V13] {
        let client = Arc::new(authority.client_of(versions, None));
        let stream = get(&rig, &client).await.unwrap();
        assert_eq!(stream.1, Some(HandshakeKind::Full));
        assert_eq!(get(&rig, &client).await.unwrap().1, Some(HandshakeKind::Resumed), "{versions:?}");
        let plain = rig.config.borrow().clone();
        let asking = with((*plain).clone(), &[], |config, tls| {
            *tls = config.listeners["main"].tls.as_deref().unwrap().clone();
            (tls.client_auth, tls.client_ca) = (ClientAuth::Required, vec![authority.certificate.clone()]);
        });
        rig.config.send_replace(Arc::new(asking));
        let mut refused = false;
        for _ in 0..1000 {
            // Until the change is in force.
            refused = get(&rig, &client).await.is_err();
            if refused {
                break;
            }
        }
        assert!(refused, "{versions:?}: it was let in with a ticket");
        rig.config.send_replace(plain);
        while get(&rig, &client).await.is_err() {}
    }
}

#[tokio::test]
async fn a_certificate_is_replaced_under_a_session_that_never_notices() {
    let (_, upstream) = echo().await;
    let authority = Authority::new();
    let (old, new) = (authority.issue("a.example"), authority.issue("a.example"));
    let rig = rig(upstream, &[("a", &old)], |_, _| ()).await;
    let client = Arc::new(authority.client());
    let mut before = session(&rig, &client).await;
    let mut config = (**rig.config.borrow()).clone();
    config.certificates = certificates(&[("a", &new)]);
    rig.config.send_replace(Arc::new(config));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    // Afresh each time: who resumes is shown nothing.
    while dial(&rig, &Arc::new(authority.client()), "a.example").await.unwrap().get_ref().1.peer_certificates().unwrap()
        != std::slice::from_ref(&new.chain)
    {
        assert!(tokio::time::Instant::now() < deadline, "the new one is never shown");
    }
    echoes(&mut before, &"still here".repeat(1000)).await;
    assert_eq!(get(&rig, &client).await.unwrap().0, "b1\n");
}

#[tokio::test]
async fn a_key_that_does_not_fit_is_told_and_nobody_is_served_plainly() {
    let (_, upstream) = echo().await;
    let authority = Authority::new();
    let rig = rig(upstream, &[("a", &authority.issue("a.example"))], |_, _| ()).await;
    let good = rig.config.borrow().clone();
    let mut bad = (*good).clone();
    let mut wrong = authority.issue("a.example");
    wrong.swap_key(&authority.issue("a.example"));
    bad.certificates = certificates(&[("a", &wrong)]);
    rig.config.send_replace(Arc::new(bad));
    let report = rig.eventually("refused", |r| matches!(r.listeners[0].state, Listening::Failed(_))).await;
    let Listening::Failed(why) = &report.listeners[0].state else { panic!("{report:?}") };
    assert!(why.contains("certificate a") && why.contains("tandemctl certificate set a"), "{why}");
    rig.config.send_replace(good);
    rig.eventually("mended", |r| r.listeners[0].state == Listening::Bound).await;
    assert_eq!(get(&rig, &Arc::new(authority.client())).await.unwrap().0, "b1\n");
}

#[tokio::test]
async fn a_proxy_header_comes_before_the_handshake() {
    let (_, upstream) = echo().await;
    let authority = Authority::new();
    let required = |config: &mut crate::config::model::Config, _: &mut _| {
        config.listeners.values_mut().for_each(|l| l.proxy_protocol = ProxyProtocol::Required);
    };
    let rig = rig(upstream, &[("a", &authority.issue("a.example"))], required).await;
    let mut socket = rig.connect().await;
    socket.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.8 5 443\r\n").await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(authority.client()));
    let stream = connector.connect("a.example".try_into().unwrap(), socket).await.unwrap();
    let (mut session, _) = tokio_tungstenite::client_async("wss://a.example/", stream).await.unwrap();
    echoes(&mut session, "hello").await;
    assert!(dial(&rig, &Arc::new(authority.client()), "a.example").await.is_err(), "without it nobody is let in");
}

#[tokio::test]
async fn who_speaks_no_tls_gets_an_alert_and_the_end() {
    let (_, upstream) = echo().await;
    let authority = Authority::new();
    let rig = rig(upstream, &[("a", &authority.issue("a.example"))], |_, _| ()).await;
    let mut socket = rig.connect().await;
    socket.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut all = Vec::new();
    tokio::time::timeout(PATIENCE, socket.read_to_end(&mut all)).await.unwrap().unwrap();
    assert_eq!((all.first(), all.len()), (Some(&21), 7), "one alert: {all:?}");
    handshakes(&rig, [0, 0, 1]).await;
}
