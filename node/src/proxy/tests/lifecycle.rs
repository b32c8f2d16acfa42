//! Listeners that come, move and fail; sessions that must end; the end itself.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::rig::{PATIENCE, Rig, Spy, echo_backend, echoes, free_address, name, rest, unchecked, until};
use crate::config::model::{Balance, Listener, Vip};
use crate::proxy::{Absent, Listening, Reach};

async fn rig() -> Rig {
    Rig::start(unchecked(Balance::RoundRobin, &[echo_backend("b").await])).await
}

fn state(rig: &Rig, listener: &str) -> Option<Listening> {
    rig.proxy.handle().report().listeners.into_iter().find(|l| l.name.as_str() == listener).map(|l| l.state)
}

async fn refuses(address: std::net::SocketAddr) {
    let deadline = Instant::now() + PATIENCE;
    while TcpStream::connect(address).await.is_ok() {
        assert!(Instant::now() < deadline, "{address} still accepts");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn listeners_come_and_go_without_touching_sessions() {
    let rig = rig().await;
    let (mut session, _) = rig.session().await;
    let second = free_address();
    rig.config.send_modify(|c| {
        let listeners = &mut Arc::make_mut(c).listeners;
        listeners.clear();
        listeners.insert(name("second"), Listener::at(second));
    });
    rig.eventually("moved", |r| {
        r.listeners.len() == 1 && r.listeners[0].state == Listening::Bound && r.listeners[0].address == second
    })
    .await;
    refuses(rig.address).await;
    echoes(&mut session, "untouched").await;
    TcpStream::connect(second).await.unwrap();
}

#[tokio::test]
async fn a_foreign_listener_is_found_named_and_outlived() {
    let rig = rig().await;
    // It shares its port, so that only a look without sharing finds it.
    let taken = free_address();
    let foreign = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    foreign.set_reuse_port(true).unwrap();
    foreign.bind(&taken.into()).unwrap();
    foreign.listen(1).unwrap();
    let error = rig.proxy.handle().try_bind(taken).unwrap_err().to_string();
    assert!(error.contains(&format!("port {}", taken.port())), "{error}");
    rig.proxy.handle().try_bind(rig.address).unwrap();
    assert!(
        rig.proxy
            .handle()
            .try_bind("192.0.2.1:8080".parse().unwrap())
            .unwrap_err()
            .to_string()
            .contains("no address of this machine")
    );

    rig.config.send_modify(|c| {
        Arc::make_mut(c).listeners.insert(name("taken"), Listener::at(taken));
    });
    let report =
        rig.eventually("failed", |r| r.listeners.iter().any(|l| matches!(l.state, Listening::Failed(_)))).await;
    assert!(format!("{report:?}").contains("in use by another process"), "{report:?}");
    assert_eq!(state(&rig, "main"), Some(Listening::Bound), "the other one is not harmed");
    drop(foreign);
    rig.eventually("bound at last", |r| r.listeners.iter().all(|l| l.state == Listening::Bound)).await;
}

#[tokio::test]
async fn an_address_that_another_process_needs_is_let_go_and_taken_back() {
    let rig = rig().await;
    rig.config.send_modify(|c| {
        Arc::make_mut(c).vips.insert(name("v"), Vip { address: rig.address.ip() });
    });
    let (mut session, _) = rig.session().await;
    for _ in 0..5 {
        let away = BTreeSet::from([rig.address.ip()]);
        rig.reach.send_replace(Arc::new(Reach { away, absent: Absent::CannotListen }));
        rig.eventually("away", |r| r.listeners[0].state == Listening::Away).await;
        refuses(rig.address).await;
        echoes(&mut session, "goes on").await;
        rig.reach.send_replace(Arc::new(Reach { away: BTreeSet::new(), absent: Absent::CannotListen }));
        rig.eventually("back", |r| r.listeners[0].state == Listening::Bound).await;
        let (mut new, _) = rig.session().await;
        echoes(&mut new, "at once").await;
    }
}

#[tokio::test]
async fn an_address_that_left_this_machine_ends_its_sessions() {
    let rig = rig().await;
    let other = free_address();
    rig.config.send_modify(|c| {
        Arc::make_mut(c).listeners.insert(name("other"), Listener::at(other));
    });
    rig.eventually("bound", |r| r.listeners.len() == 2 && r.listeners.iter().all(|l| l.state == Listening::Bound))
        .await;
    let (mut here, _) =
        tokio_tungstenite::client_async("ws://a/", TcpStream::connect(other).await.unwrap()).await.unwrap();
    let (mut gone, _) = rig.session().await;
    let mut waiting = rig.connect().await;
    waiting.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    until(&mut waiting, "b\n").await;

    let away = BTreeSet::from([rig.address.ip()]);
    rig.reach.send_replace(Arc::new(Reach { away, absent: Absent::CannotServe }));
    let ended = tokio::time::timeout(PATIENCE, gone.next()).await.unwrap();
    assert!(!matches!(ended, Some(Ok(_))), "{ended:?}");
    assert_eq!(rest(&mut waiting).await, "", "a waiting connection ends too");
    rig.eventually("away, one left", |r| {
        r.sessions == 1 && r.listeners.iter().any(|l| l.name.as_str() == "main" && l.state == Listening::Away)
    })
    .await;
    tokio_tungstenite::client_async("ws://a/", TcpStream::connect(other).await.unwrap()).await.unwrap();
    super::rig::echoes(&mut here, "untouched").await;

    rig.reach.send_replace(Arc::new(Reach { away: BTreeSet::new(), absent: Absent::CannotServe }));
    rig.eventually("back", |r| r.listeners.iter().all(|l| l.state == Listening::Bound)).await;
    let (mut back, _) = rig.session().await;
    echoes(&mut back, "served again").await;
}

#[tokio::test]
async fn stopping_lets_requests_end_and_sessions_until_the_deadline() {
    let spy = Spy::new(|mut socket, _| async move {
        until(&mut socket, "\r\n\r\n").await;
        tokio::time::sleep(Duration::from_millis(200)).await;
        socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone").await.unwrap();
        until(&mut socket, "\r\n\r\n").await;
    })
    .await;
    let rig = Rig::start(unchecked(Balance::RoundRobin, &[spy.address])).await;
    let mut client = rig.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while spy.connections() == 0 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (address, began) = (rig.address, Instant::now());
    let (_, answer) = tokio::join!(rig.proxy.stop(PATIENCE), rest(&mut client));
    assert!(answer.ends_with("done") && answer.contains("connection: close"), "{answer}");
    assert!(began.elapsed() < PATIENCE, "nobody is left, so it need not wait for the deadline");
    assert!(TcpStream::connect(address).await.is_err());

    let rig = self::rig().await;
    let (mut session, _) = rig.session().await;
    let _kept_alive = rig.connect().await;
    let stop = tokio::spawn(rig.proxy.stop(Duration::from_millis(500)));
    echoes(&mut session, "until the deadline").await;
    assert!(!matches!(tokio::time::timeout(PATIENCE, session.next()).await.unwrap(), Some(Ok(_))));
    tokio::time::timeout(PATIENCE, stop).await.unwrap().unwrap();
}

#[tokio::test]
async fn dropping_it_ends_it() {
    let rig = rig().await;
    let (mut session, _) = rig.session().await;
    let address = rig.address;
    drop(rig);
    assert!(!matches!(tokio::time::timeout(PATIENCE, session.next()).await.unwrap(), Some(Ok(_))));
    refuses(address).await;
}
