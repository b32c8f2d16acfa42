//! Ejection with real sockets: clients are spared a backend that fails them, and it gets its next chance.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use super::rig::{PATIENCE, Rig, Spy, dead_address, echo_backend, unchecked, until};
use crate::config::model::{Balance, Eject, Upstream};
use crate::proxy::Report;

/// Nobody checks, so that only clients find out.
fn ejecting(base: Duration, backends: &[SocketAddr]) -> Upstream {
    let eject = Eject { after: 3, base, max: base * 10, share: 50 };
    Upstream { eject, ..unchecked(Balance::RoundRobin, backends) }
}

const LONG: Duration = Duration::from_secs(60);

/// Takes connections and ends them without an answer, unless it is well: then it is an echo backend.
async fn moody() -> (Spy, Arc<AtomicBool>) {
    let well = Arc::new(AtomicBool::new(false));
    let (said, echo) = (Arc::clone(&well), echo_backend("moody").await);
    let spy = Spy::new(move |mut socket, _| {
        let well = said.load(SeqCst);
        async move {
            if !well {
                until(&mut socket, "\r\n\r\n").await;
                return;
            }
            let mut inner = tokio::net::TcpStream::connect(echo).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut socket, &mut inner).await;
        }
    })
    .await;
    (spy, well)
}

fn out(report: &Report) -> Vec<SocketAddr> {
    report.backends.iter().filter(|b| b.ejected_for.is_some()).map(|b| b.address).collect()
}

/// The moody one has its turn again.
async fn serves_again(rig: &Rig) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while rig.session().await.1 != "moody" {
        assert!(tokio::time::Instant::now() < deadline, "it never serves again");
    }
}

#[tokio::test]
async fn clients_are_spared_a_backend_that_failed_three_in_a_row() {
    let ((ill, well), good) = (moody().await, echo_backend("good").await);
    let rig = Rig::start(ejecting(LONG, &[ill.address, good])).await;
    for _ in 0..20 {
        assert_eq!(rig.session().await.1, "good", "no client notices");
    }
    assert_eq!(ill.connections(), 3);
    let seen = rig.backend(ill.address);
    assert!(seen.up && seen.ejections_total == 1, "{seen:?}");
    assert!(seen.ejected_for.is_some_and(|left| left <= LONG), "{seen:?}");
    let why = seen.error.unwrap();
    assert!(why.starts_with("failed 3 clients in a row, the last: the backend ended the connection"), "{why}");

    // Whoever wants it back at once has it back.
    well.store(true, SeqCst);
    rig.edit(|u| u.eject.after = 0);
    rig.eventually("back", |r| out(r).is_empty()).await;
    serves_again(&rig).await;
}

#[tokio::test]
async fn it_returns_by_itself_and_serves() {
    let ((ill, well), good) = (moody().await, echo_backend("good").await);
    let rig = Rig::start(ejecting(Duration::from_millis(200), &[ill.address, good])).await;
    for _ in 0..20 {
        rig.session().await;
    }
    assert_ne!(rig.backend(ill.address).ejections_total, 0);
    well.store(true, SeqCst);
    serves_again(&rig).await;
    assert_eq!(rig.backend(ill.address).ejected_for, None);
}

#[tokio::test]
async fn plain_requests_count_where_nobody_listens() {
    let (dead, good) = (dead_address(), echo_backend("good").await);
    let rig = Rig::start(ejecting(LONG, &[dead, good])).await;
    for _ in 0..8 {
        let answer = rig.say(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
        assert!(answer.ends_with("good\n"), "{answer}");
    }
    let seen = rig.backend(dead);
    assert!(seen.ejected_for.is_some(), "{seen:?}");
    assert!(seen.error.clone().unwrap().contains("could not be reached: Connection refused"), "{seen:?}");
}

#[tokio::test]
async fn an_answer_is_no_failure_whatever_it_says() {
    let angry = Spy::answering(&["HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"]).await;
    let rig = Rig::start(ejecting(LONG, &[angry.address, echo_backend("good").await])).await;
    let refused = async || usize::from(rig.try_session().await.is_err());
    let mut all = 0;
    for _ in 0..16 {
        all += refused().await;
    }
    // Each worker has its own turns.
    assert!((7..=9).contains(&all), "{all}: each second one, to the end");
    assert_eq!(out(&rig.proxy.handle().report()), []);
}

#[tokio::test]
async fn the_last_one_stays_and_the_others_are_a_last_resort() {
    let ((one, well_one), (two, well_two)) = (moody().await, moody().await);
    let rig = Rig::start(ejecting(LONG, &[one.address, two.address])).await;
    for _ in 0..10 {
        rig.try_session().await.unwrap_err();
    }
    let out = out(&rig.proxy.handle().report());
    assert_eq!(out.len(), 1, "the other one is all there is");
    let well = if out == [one.address] { well_one } else { well_two };
    well.store(true, SeqCst);
    assert_eq!(rig.session().await.1, "moody", "rather one that failed of late than nobody");
}
