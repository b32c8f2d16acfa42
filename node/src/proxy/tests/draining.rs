//! What drains takes no new sessions, and ends those it has within the time it was given.

use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;

use super::rig::{PATIENCE, Rig, echo_backend, echoes, unchecked};
use crate::config::model::{Backend, Balance, State};

/// Longer than the second within which a drain's end may come early.
const WITHIN: Duration = Duration::from_millis(2_500);

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
