//! What drains takes no new sessions, and ends those it has within the time it was given.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_tungstenite::WebSocketStream;

use super::rig::{PATIENCE, Rig, Spy, config, echo_backend, echoes, free_address, name, rest, unchecked, until};
use crate::config::model::{Backend, Balance, Listener, State};
use crate::proxy::Listening;

/// Longer than the second within which a drain's end may come early.
const WITHIN: Duration = Duration::from_millis(2_500);

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Waits until it has ended.
async fn end(mut session: WebSocketStream<TcpStream>) -> Instant {
    let ended = tokio::time::timeout(PATIENCE, session.next()).await.expect("it is ended");
    assert!(!matches!(ended, Some(Ok(_))), "{ended:?}");
    Instant::now()
}

/// Each worker takes its own turns, so that the first session need not be with the one that is wanted.
async fn session_with(rig: &Rig, backend: &str) -> WebSocketStream<TcpStream> {
    for _ in 0..1_000 {
        let (session, name) = rig.session().await;
        if name == backend {
            return session;
        }
    }
    panic!("no session with {backend}");
}

#[tokio::test]
async fn a_backend_keeps_its_sessions_until_its_time_is_over() {
    let (a, b) = (echo_backend("a").await, echo_backend("b").await);
    let rig = Rig::start(unchecked(Balance::RoundRobin, &[a, b])).await;
    let (mut on_a, mut on_b) = (session_with(&rig, "a").await, session_with(&rig, "b").await);

    let drain = |state, drain_within| {
        rig.edit(|u| {
            let before = u.backends[&a.into()].clone();
            u.backends.insert(a.into(), Backend { state, drain_within, ..before });
        });
    };
    // Without a time, with one that is taken back, and with one that counts.
    drain(State::Draining, None);
    drain(State::Draining, Some(Duration::from_secs(60)));
    rig.eventually("draining", |r| r.backends.iter().any(|b| b.drain_left.is_some())).await;
    drain(State::Active, None);
    rig.eventually("active again", |r| r.backends.iter().all(|b| b.drain_left.is_none())).await;
    let began = Instant::now();
    drain(State::Draining, Some(WITHIN));
    rig.eventually("draining again", |r| r.backends.iter().any(|b| b.drain_left.is_some())).await;
    for _ in 0..4 {
        assert_eq!(rig.session().await.1, "b", "what drains takes no new session");
    }
    // A revision that says the same again does not give it more time.
    drain(State::Draining, Some(WITHIN));
    echoes(&mut on_a, "not yet").await;
    let ended = end(on_a).await - began;
    assert!(ended >= WITHIN - Duration::from_millis(1_100), "ended after {ended:?}");
    assert!(ended <= WITHIN + Duration::from_secs(2), "ended after {ended:?}");
    echoes(&mut on_b, "untouched").await;
    rig.eventually("none left there", |r| r.backends.iter().all(|b| b.address != a || b.sessions == 0)).await;
}

#[tokio::test]
async fn one_that_is_removed_ends_its_sessions_nevertheless() {
    let (a, b) = (echo_backend("a").await, echo_backend("b").await);
    let rig = Rig::start(unchecked(Balance::RoundRobin, &[a])).await;
    let (on_a, _) = rig.session().await;
    rig.edit(|u| {
        let drain_within = Some(WITHIN);
        u.backends.insert(a.into(), Backend { state: State::Draining, drain_within, ..Backend::default() });
        u.backends.insert(b.into(), Backend::default());
    });
    rig.eventually("draining", |r| r.backends.iter().any(|b| b.drain_left.is_some())).await;
    rig.edit(|u| drop(u.backends.remove(&a.into())));
    rig.eventually("removed", |r| r.backends.len() == 1).await;
    end(on_a).await;
}

#[tokio::test]
async fn a_node_sends_new_clients_away_and_can_be_taken_back() {
    let rig = Rig::start(unchecked(Balance::RoundRobin, &[echo_backend("a").await])).await;
    let (mut session, _) = rig.session().await;
    let mut kept = rig.connect().await;
    kept.write_all(GET).await.unwrap();
    until(&mut kept, "a\n").await;

    let handle = rig.proxy.handle();
    handle.drain(State::Draining, None);
    assert_eq!(rest(&mut kept).await, "", "a connection on which nothing is under way ends");
    let refused = rig.say(GET).await;
    for part in ["HTTP/1.1 503 ", "retry-after: 1", "connection: close", "this node takes no new clients"] {
        assert!(refused.contains(part), "{part} in {refused}");
    }
    assert!(rig.try_session().await.is_err());
    echoes(&mut session, "goes on").await;
    let seen = handle.report();
    assert_eq!((seen.draining, seen.drain_left, seen.sessions), (true, None, 1));
    assert!(seen.listeners.iter().all(|l| l.state == Listening::Bound), "it can come back");

    handle.drain(State::Active, None);
    let (mut again, _) = rig.session().await;
    echoes(&mut again, "served again").await;
    handle.drain(State::Draining, Some(WITHIN));
    let left = handle.report().drain_left.unwrap();
    assert!(left <= WITHIN, "{left:?}");
    end(session).await;
    end(again).await;
    rig.eventually("empty", |r| r.sessions == 0 && r.draining).await;
}

#[tokio::test]
async fn a_handshake_that_is_under_way_becomes_a_session() {
    let echo = echo_backend("a").await;
    let (held, asked, answer) = (Arc::new(AtomicBool::new(false)), Arc::new(Notify::new()), Arc::new(Notify::new()));
    let theirs = (Arc::clone(&held), Arc::clone(&asked), Arc::clone(&answer));
    let slow = Spy::new(move |mut client, _| {
        let (held, asked, answer) = theirs.clone();
        async move {
            let mut echo = TcpStream::connect(echo).await.unwrap();
            if held.load(SeqCst) {
                asked.notify_one();
                answer.notified().await;
            }
            let _ = tokio::io::copy_bidirectional(&mut client, &mut echo).await;
        }
    })
    .await;
    let rig = Rig::start(unchecked(Balance::RoundRobin, &[slow.address])).await;
    let mut kept = Vec::new();
    for _ in 0..16 {
        let mut client = rig.connect().await;
        client.write_all(GET).await.unwrap();
        until(&mut client, "a\n").await;
        kept.push(client);
    }
    held.store(true, SeqCst);
    let (session, ()) = tokio::join!(rig.try_session(), async {
        asked.notified().await;
        rig.proxy.handle().drain(State::Draining, None);
        // Every worker has heard of it when these have ended.
        for client in &mut kept {
            rest(client).await;
        }
        answer.notify_one();
    });
    let (mut session, _) = session.unwrap();
    echoes(&mut session, "a session all the same").await;
}

#[tokio::test]
async fn a_listener_stays_bound_answers_503_and_keeps_its_sessions_for_a_while() {
    let mut config = config(free_address(), unchecked(Balance::RoundRobin, &[echo_backend("a").await]));
    let other = free_address();
    config.listeners.insert(name("other"), Listener::at(other));
    let rig = Rig::of(config, |_| ()).await;
    let (mut here, _) = rig.session().await;
    let open_there = async || {
        let there = TcpStream::connect(other).await.unwrap();
        tokio_tungstenite::client_async("ws://a/", there).await.unwrap().0
    };
    let mut there = open_there().await;
    let mut kept = rig.connect().await;
    kept.write_all(GET).await.unwrap();
    until(&mut kept, "a\n").await;

    let drain = |state, drain_within| {
        rig.config.send_modify(|c| {
            let main = Arc::make_mut(c).listeners.get_mut("main").unwrap();
            (main.state, main.drain_within) = (state, drain_within);
        });
    };
    drain(State::Draining, None);
    rig.eventually("draining", |r| r.listeners.iter().any(|l| l.draining)).await;
    // On a connection from before as on a new one.
    kept.write_all(GET).await.unwrap();
    for refused in [rest(&mut kept).await, rig.say(GET).await] {
        for part in ["HTTP/1.1 503 ", "retry-after: 1", "connection: close", "this listener takes no new clients"] {
            assert!(refused.contains(part), "{part} in {refused}");
        }
    }
    assert!(rig.try_session().await.is_err());
    echoes(&mut here, "goes on").await;
    open_there().await;

    drain(State::Active, None);
    rig.eventually("active", |r| r.listeners.iter().all(|l| !l.draining)).await;
    rig.session().await;
    let began = Instant::now();
    drain(State::Draining, Some(WITHIN));
    let ended = end(here).await - began;
    assert!(ended >= WITHIN - Duration::from_millis(1_100), "ended after {ended:?}");
    assert!(ended <= WITHIN + Duration::from_secs(2), "ended after {ended:?}");
    echoes(&mut there, "untouched").await;
    assert!(rig.proxy.handle().report().listeners.iter().all(|l| l.state == Listening::Bound));
}
