//! Who gets a session: the same backend by key or cookie, on every node alike.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;

use super::rig::{PATIENCE, Rig, Spy, active, dead_address, echo_backend, rest, unchecked, until};
use crate::config::model::{Address, Backend, Balance, HashOn, State, Sticky, Upstream};

/// Three backends that say their name.
async fn three() -> [SocketAddr; 3] {
    [echo_backend("a").await, echo_backend("b").await, echo_backend("c").await]
}

/// Asks once, with these fields; the head of the answer, in lower case.
async fn asks(rig: &Rig, fields: &str) -> String {
    let answer =
        rig.say(format!("GET /chat HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n").as_bytes()).await;
    answer.split("\r\n\r\n").next().unwrap().to_ascii_lowercase()
}

/// The value of a header field.
fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn backend(head: &str) -> String {
    field(head, crate::demo::echo::BACKEND).unwrap_or_else(|| panic!("no backend answered: {head}")).to_owned()
}

#[tokio::test]
async fn two_proxies_that_never_met_hash_alike() {
    let all = three().await;
    let upstream = Upstream { hash_on: HashOn::Header("x-user".to_owned()), ..unchecked(Balance::Hash, &all) };
    let (one, two) = (Rig::start(upstream.clone()).await, Rig::start(upstream).await);
    let mut seen = std::collections::BTreeSet::new();
    for user in 0..12 {
        let fields = format!("X-User: user-{user}\r\n");
        let chosen = backend(&asks(&one, &fields).await);
        assert_eq!(backend(&asks(&two, &fields).await), chosen, "user {user}");
        assert_eq!(backend(&asks(&one, &fields).await), chosen, "user {user} again");
        seen.insert(chosen);
    }
    assert_eq!(seen.len(), 3, "users are spread");
}

#[tokio::test]
async fn a_cookie_of_one_proxy_is_understood_by_the_other() {
    let all = three().await;
    let sticky = Sticky { cookie: "sid".to_owned(), ttl: Some(Duration::from_secs(60)), secure: false };
    let upstream = Upstream { sticky: Some(sticky), ..unchecked(Balance::RoundRobin, &all) };
    let (one, two) = (Rig::start(upstream.clone()).await, Rig::start(upstream).await);
    let first = asks(&one, "").await;
    let cookie = field(&first, "set-cookie").unwrap().to_owned();
    assert!(cookie.ends_with("; path=/; httponly; samesite=lax; max-age=60"), "{cookie}");
    let sent = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
    for rig in [&one, &two, &two, &one, &two] {
        let again = asks(rig, &sent).await;
        assert_eq!(backend(&again), backend(&first));
        assert_eq!(field(&again, "set-cookie"), None, "it has it already");
    }
    // The 101 sticks too.
    let mut client = two.connect().await;
    let shake = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    client.write_all(format!("GET / HTTP/1.1\r\nHost: a\r\n{shake}\r\n").as_bytes()).await.unwrap();
    let head = until(&mut client, "\r\n\r\n").await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 ") && field(&head, "set-cookie").is_some(), "{head}");

    // A draining backend takes no new sessions: its client gets another one, and another cookie.
    let held = all["abc".find(&backend(&first)).unwrap()];
    one.edit(|u| u.backends.get_mut(&Address::Ip(held)).unwrap().state = State::Draining);
    let deadline = std::time::Instant::now() + PATIENCE;
    let moved = loop {
        let answer = asks(&one, &sent).await;
        if backend(&answer) != backend(&first) {
            break answer;
        }
        assert!(std::time::Instant::now() < deadline, "still sent to one that drains");
    };
    assert!(field(&moved, "set-cookie").is_some_and(|new| new != cookie), "{moved}");
}

#[tokio::test]
async fn a_stuck_client_whose_backend_died_is_answered_by_another() {
    let (dead, good) = (dead_address(), echo_backend("good").await);
    let sticky = Sticky { cookie: "sid".to_owned(), ttl: None, secure: false };
    let rig = Rig::start(Upstream { sticky: Some(sticky), ..unchecked(Balance::RoundRobin, &[dead, good]) }).await;
    let mark = super::super::balance::mark(dead);
    let answer = asks(&rig, &format!("Cookie: sid={mark:016x}\r\n")).await;
    assert_eq!(backend(&answer), "good");
    assert!(field(&answer, "set-cookie").is_some(), "{answer}");
}

#[tokio::test]
async fn a_backup_serves_only_when_nobody_else_can() {
    let (first, backup) = (echo_backend("first").await, echo_backend("backup").await);
    let mut upstream = unchecked(Balance::RoundRobin, &[first]);
    upstream.backends.insert(Address::Ip(backup), Backend { backup: true, ..active() });
    let rig = Rig::start(upstream).await;
    for _ in 0..8 {
        assert_eq!(backend(&asks(&rig, "").await), "first");
    }
    rig.edit(|u| {
        u.backends.remove(&Address::Ip(first));
        u.backends.insert(Address::Ip(dead_address()), active());
    });
    let deadline = std::time::Instant::now() + PATIENCE;
    while backend(&asks(&rig, "").await) != "backup" {
        assert!(std::time::Instant::now() < deadline, "the backup is never asked");
    }
}

#[tokio::test]
async fn p2c_turns_away_from_a_slow_backend() {
    let slow = Spy::new(|mut socket, _| async move {
        until(&mut socket, "\r\n\r\n").await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").await;
    })
    .await;
    let fast = echo_backend("fast").await;
    let rig = Rig::start(unchecked(Balance::P2c, &[slow.address, fast])).await;
    for _ in 0..40 {
        let mut client = rig.connect().await;
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        assert!(rest(&mut client).await.starts_with("HTTP/1.1 200 "));
    }
    let asked = rig.backend(slow.address).requests_total;
    // Asked once to find out; taking turns would ask it twenty times.
    assert!((1..=4).contains(&asked), "{asked} of 40");
}
