//! Sessions: opened, chosen for, relayed, counted.

use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::rig::{
    Limits, PATIENCE, Rig, Spy, active, dead_address, echo_backend, echoes, lives_and_ends, rest, unchecked, until,
};
use crate::config::model::{Backend, Balance, Check, State, Upstream};

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

pub(super) fn handshake(more: &str) -> String {
    format!(
        "GET /chat?room=1 HTTP/1.1\r\nHost: chat.example:81\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{more}\r\n"
    )
}

pub(super) fn switch(more: &str) -> String {
    let accept = derive_accept_key(KEY.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n{more}\r\n"
    )
}

#[tokio::test]
async fn messages_cross_both_ways() {
    let backend = echo_backend("b1").await;
    let rig = Rig::start(unchecked(Balance::RoundRobin, &[backend])).await;
    let (socket, answered) = rig.session().await;
    assert_eq!(answered, "b1");
    lives_and_ends(&rig, backend, socket).await;
}

#[tokio::test]
async fn the_backend_sees_a_whole_handshake_and_who_asked() {
    let (heads, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let spy = Spy::new(move |mut socket, _| {
        let heads = heads.clone();
        async move {
            heads.send(until(&mut socket, "\r\n\r\n").await).unwrap();
            // The first frame travels in the same packet as the 101.
            let answer =
                format!("{}first", switch("Sec-WebSocket-Protocol: chat\r\nContent-Length: 0\r\nKeep-Alive: x\r\n"));
            socket.write_all(answer.as_bytes()).await.unwrap();
            let said = until(&mut socket, "early").await;
            socket.write_all(said.as_bytes()).await.unwrap();
        }
    })
    .await;
    let rig = Rig::start(unchecked(Balance::RoundRobin, &[spy.address])).await;
    let mut client = rig.connect().await;
    let fields =
        "X-Forwarded-For: 10.9.9.9\r\nX-Forwarded-Proto: https\r\nSec-WebSocket-Protocol: chat\r\nX-Own: 1\r\n";
    // Bytes right behind the handshake must reach the backend after it.
    client.write_all(format!("{}early", handshake(fields)).as_bytes()).await.unwrap();
    let answer = rest(&mut client).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let head = head.to_ascii_lowercase();
    for field in [
        "upgrade: websocket",
        "connection: upgrade",
        "sec-websocket-protocol: chat",
        "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=",
    ] {
        assert!(head.contains(field), "{field} in {head}");
    }
    assert!(!head.contains("content-length") && !head.contains("keep-alive"), "{head}");
    assert_eq!(body, "firstearly");
    let seen = heard.recv().await.unwrap().to_ascii_lowercase();
    assert!(seen.starts_with("get /chat?room=1 http/1.1\r\n"), "{seen}");
    for field in [
        "host: chat.example:81",
        "upgrade: websocket",
        "connection: upgrade",
        "sec-websocket-version: 13",
        "x-forwarded-for: 10.9.9.9, 127.0.0.1",
        "x-forwarded-proto: http",
        "x-forwarded-host: chat.example:81",
        "x-own: 1",
    ] {
        assert!(seen.contains(&format!("\r\n{field}\r\n")), "{field} in {seen}");
    }
}

#[tokio::test]
async fn a_dead_or_broken_backend_is_passed_over_before_101() {
    let good = echo_backend("good").await;
    let closes = Spy::new(|socket, _| async move { drop(socket) }).await;
    let silent = Spy::new(|socket, _| async move {
        tokio::time::sleep(PATIENCE).await;
        drop(socket);
    })
    .await;
    let lies = Spy::answering(&["HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: wrong\r\n\r\n"]).await;
    let limits = Limits { upgrade: Duration::from_millis(200), tries: 5, ..Limits::default() };
    let all = [dead_address(), closes.address, silent.address, lies.address, good];
    let rig = Rig::limited(unchecked(Balance::RoundRobin, &all), limits).await;
    for _ in 0..5 {
        let (mut socket, answered) = rig.session().await;
        assert_eq!(answered, "good");
        echoes(&mut socket, "still").await;
    }
    assert!(closes.connections() > 0 && silent.connections() > 0 && lies.connections() > 0);
}

#[tokio::test]
async fn with_nobody_left_the_answer_names_the_upstream() {
    let rig = Rig::start(unchecked(Balance::RoundRobin, &[dead_address()])).await;
    let answer = rig.say(handshake("").as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 502 ") && answer.contains("upstream u: the backend could not be reached"),
        "{answer}"
    );
    rig.edit(|u| u.backends.values_mut().for_each(|b| b.state = State::Draining));
    rig.eventually("draining", |_| true).await;
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let answer = rig.say(handshake("").as_bytes()).await;
        if answer.starts_with("HTTP/1.1 503 ") {
            assert!(answer.contains("no backend of upstream u is up") && answer.contains("retry-after: 1"), "{answer}");
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{answer}");
    }
    let silent = Spy::new(|socket, _| async move {
        tokio::time::sleep(PATIENCE).await;
        drop(socket);
    })
    .await;
    let limits = Limits { upgrade: Duration::from_millis(100), ..Limits::default() };
    let rig = Rig::limited(unchecked(Balance::RoundRobin, &[silent.address]), limits).await;
    let answer = rig.say(handshake("").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains("no answer within 100ms"), "{answer}");
}

#[tokio::test]
async fn what_a_backend_answers_instead_of_101_is_the_answer() {
    let spy =
        Spy::answering(&["HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 6\r\n\r\nlogin\n"])
            .await;
    let rig = Rig::start(unchecked(Balance::RoundRobin, &[spy.address])).await;
    let answer = rig.say(handshake("").as_bytes()).await.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 401 ") && answer.ends_with("\r\n\r\nlogin\n"), "{answer}");
    assert!(answer.contains("www-authenticate: basic") && answer.contains("connection: close"), "{answer}");
    rig.eventually("free", |r| r.backends[0].sessions == 0 && r.backends[0].requests_total == 1).await;
}

#[tokio::test]
async fn answers_before_the_last_one_are_not_the_answer() {
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let spy = Spy::new(move |mut socket, nth| async move {
        until(&mut socket, "\r\n\r\n").await;
        let last = if nth == 0 { switch("") } else { "HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n".into() };
        for piece in [hints, &last] {
            socket.write_all(piece.as_bytes()).await.unwrap();
            tokio::task::yield_now().await;
        }
        let body = if nth == 0 { "frames" } else { "4\r\nbusy\r\n0\r\n\r\n" };
        socket.write_all(body.as_bytes()).await.unwrap();
    })
    .await;
    let rig = Rig::start(unchecked(Balance::RoundRobin, &[spy.address])).await;
    for (status, body) in [("101", "frames"), ("503", "4\r\nbusy\r\n0\r\n\r\n")] {
        let mut client = rig.connect().await;
        client.write_all(handshake("").as_bytes()).await.unwrap();
        let answer = rest(&mut client).await;
        let (head, after) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{head}");
        assert_eq!(after, body);
    }
}

#[tokio::test]
async fn a_worker_that_looks_for_bytes_relays_them_like_one_that_sleeps() {
    let backend = echo_backend("b1").await;
    let rig = Rig::with(unchecked(Balance::RoundRobin, &[backend]), |settings| settings.busy_poll = true).await;
    let mut sessions = Vec::new();
    // More than it looks for at once.
    for n in 0..24 {
        sessions.push(rig.session().await.0);
        for socket in &mut sessions {
            echoes(socket, &n.to_string()).await;
        }
    }
    echoes(&mut sessions[0], &"x".repeat(3 << 20)).await;
}

#[tokio::test]
async fn least_sessions_counts_across_workers() {
    let all = [echo_backend("a").await, echo_backend("b").await, echo_backend("c").await];
    let rig = Rig::start(unchecked(Balance::LeastSessions, &all)).await;
    let mut open = Vec::new();
    for _ in 0..30 {
        open.push(rig.session().await);
        // The next choice must see this session: it is counted from the choice on, so it does.
    }
    // The client may see its 101 before the session is in the table.
    let report = rig.eventually("all open", |r| r.sessions == 30).await;
    assert!(report.backends.iter().all(|b| b.sessions == 10), "{report:#?}");
    // Those of one backend leave: the next ones go there.
    open.retain(|(_, answered)| answered != "b");
    rig.eventually("left", |r| r.sessions == 20).await;
    for _ in 0..10 {
        let session = rig.session().await;
        assert_eq!(session.1, "b");
        open.push(session);
    }
}

#[tokio::test]
async fn round_robin_follows_the_weights() {
    let (a, b) = (echo_backend("a").await, echo_backend("b").await);
    let mut upstream = unchecked(Balance::RoundRobin, &[a, b]);
    upstream.backends.get_mut(&a.into()).unwrap().weight = 300.try_into().unwrap();
    let rig = Rig::start(upstream).await;
    let mut open = Vec::new();
    for _ in 0..40 {
        open.push(rig.session().await);
    }
    let of_a = open.iter().filter(|(_, answered)| answered == "a").count();
    // Each of the two workers keeps its own turns.
    assert!((28..=32).contains(&of_a), "{of_a} of 40");
}

#[tokio::test]
async fn a_backend_added_live_serves_the_next_session_and_nobody_notices() {
    let (a, b) = (echo_backend("a").await, echo_backend("b").await);
    let rig = Rig::start(unchecked(Balance::LeastSessions, &[a])).await;
    let (mut first, _) = rig.session().await;
    rig.edit(|u| {
        u.backends.insert(b.into(), active());
    });
    rig.eventually("known", |r| r.backends.len() == 2).await;
    let (mut second, answered) = rig.session().await;
    assert_eq!(answered, "b");
    echoes(&mut first, "untouched").await;
    // Drained, removed, added again: its session lives and is still counted. A third one that comes in the same revision tells
    // that it is in force.
    let third = echo_backend("c").await;
    rig.edit(|u| {
        u.backends.get_mut(&b.into()).unwrap().state = State::Draining;
        u.backends.insert(third.into(), Backend { state: State::Draining, ..active() });
    });
    rig.eventually("in force", |r| r.backends.len() == 3).await;
    let mut more = Vec::new();
    for _ in 0..4 {
        let session = rig.session().await;
        assert_eq!(session.1, "a", "a draining backend takes no new session");
        more.push(session);
    }
    rig.edit(|u| u.backends.retain(|at, _| *at == a.into()));
    rig.eventually("removed", |r| r.backends.len() == 1).await;
    echoes(&mut second, "still here").await;
    rig.edit(|u| {
        u.backends.insert(b.into(), active());
    });
    rig.eventually("counted", |r| r.backends.iter().any(|x| x.address == b && x.sessions == 1)).await;
    echoes(&mut second, "and here").await;
    drop(second);
    rig.eventually("gone", |r| r.backends.iter().any(|x| x.address == b && x.sessions == 0)).await;
    echoes(&mut first, "untouched").await;
}

#[tokio::test]
async fn a_failing_check_takes_a_backend_out_and_a_passing_one_back() {
    let (dead, good) = (dead_address(), echo_backend("good").await);
    let check = Check { interval: Duration::from_millis(20), ..Check::default() };
    let upstream = Upstream { check, ..unchecked(Balance::RoundRobin, &[dead, good]) };
    let rig =
        Rig::start(Upstream { check: Check { interval: Duration::from_millis(20), ..Check::default() }, ..upstream })
            .await;
    let report = rig.eventually("down", |r| r.backends.iter().any(|b| b.address == dead && !b.up)).await;
    assert!(report.backends.iter().any(|b| b.error.as_ref().is_some_and(|e| e.contains("refused"))), "{report:#?}");
    assert_eq!(rig.session().await.1, "good");
    let listener = tokio::net::TcpListener::bind(dead).await.unwrap();
    tokio::spawn(crate::demo::echo::serve(listener, "risen".to_owned()));
    rig.eventually("up again", |r| r.backends.iter().all(|b| b.up)).await;
    let answered = [rig.session().await.1, rig.session().await.1, rig.session().await.1, rig.session().await.1];
    assert!(answered.contains(&"risen".to_owned()), "{answered:?}");
}

#[tokio::test]
async fn half_closed_streams_are_heard_to_the_end() {
    let spy = Spy::new(|mut socket, _| async move {
        until(&mut socket, "\r\n\r\n").await;
        socket.write_all(switch("").as_bytes()).await.unwrap();
        let mut all = Vec::new();
        socket.read_to_end(&mut all).await.unwrap();
        all.reverse();
        socket.write_all(&all).await.unwrap();
    })
    .await;
    let rig = Rig::start(unchecked(Balance::RoundRobin, &[spy.address])).await;
    let mut client = rig.connect().await;
    client.write_all(handshake("").as_bytes()).await.unwrap();
    until(&mut client, "\r\n\r\n").await;
    client.write_all(b"abc").await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(rest(&mut client).await, "cba");
    rig.eventually("ended", |r| r.sessions == 0).await;
}

#[tokio::test]
async fn a_client_that_leaves_during_the_handshake_frees_its_place() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let silent = Spy::new(move |mut socket, _| {
        let tell = tell.clone();
        async move {
            tell.send("came").unwrap();
            let _ = socket.read_to_end(&mut Vec::new()).await;
            let _ = tell.send("left");
        }
    })
    .await;
    let good = echo_backend("good").await;
    let rig = Rig::start(unchecked(Balance::LeastSessions, &[silent.address])).await;
    let mut client = rig.connect().await;
    client.write_all(handshake("").as_bytes()).await.unwrap();
    assert_eq!(told.recv().await, Some("came"));
    // With one each the heavier one is the less busy; with none at the silent one, that is.
    rig.edit(|u| {
        u.backends.insert(good.into(), Backend { weight: 150.try_into().unwrap(), ..active() });
    });
    rig.eventually("known", |r| r.backends.len() == 2).await;
    let keep = rig.session().await;
    assert_eq!((keep.1.as_str(), rig.session().await.1.as_str()), ("good", "good"));
    rig.eventually("one left", |r| r.sessions == 1).await;
    drop(client);
    assert_eq!(tokio::time::timeout(PATIENCE, told.recv()).await.unwrap(), Some("left"), "long before the time is up");
    let mut next = rig.connect().await;
    next.write_all(handshake("").as_bytes()).await.unwrap();
    assert_eq!(tokio::time::timeout(PATIENCE, told.recv()).await.unwrap(), Some("came"), "its place is free again");
}

#[tokio::test]
async fn an_aborted_session_is_counted_out() {
    let backend = echo_backend("b").await;
    let rig = Rig::start(unchecked(Balance::RoundRobin, &[backend])).await;
    let mut all = Vec::new();
    for _ in 0..20 {
        all.push(rig.session().await.0);
    }
    rig.eventually("open", |r| r.sessions == 20).await;
    for socket in all {
        let socket: TcpStream = socket.into_inner();
        socket.set_zero_linger().unwrap();
    }
    rig.eventually("gone", |r| r.sessions == 0 && r.backends[0].sessions == 0).await;
}

#[tokio::test]
async fn idle_sessions_are_ended_busy_ones_not() {
    let backend = echo_backend("b").await;
    let limits = Limits { session_idle: Duration::from_secs(2), ..Limits::default() };
    let rig = Rig::limited(unchecked(Balance::RoundRobin, &[backend]), limits).await;
    let (mut idle, _) = rig.session().await;
    let (mut busy, _) = rig.session().await;
    let ended = tokio::spawn(async move {
        let end = tokio::time::timeout(PATIENCE, idle.next()).await.unwrap();
        assert!(
            matches!(end, Some(Err(Error::Protocol(_) | Error::Io(_))) | None | Some(Ok(Message::Close(_)))),
            "{end:?}"
        );
    });
    while !ended.is_finished() {
        echoes(&mut busy, "busy").await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    ended.await.unwrap();
    echoes(&mut busy, "still").await;
    busy.close(None).await.unwrap();
}

#[tokio::test]
async fn five_hundred_changes_touch_no_session() {
    let (a, b) = (echo_backend("a").await, echo_backend("b").await);
    let rig = Rig::start(unchecked(Balance::RoundRobin, &[a])).await;
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut talking = Vec::new();
    for _ in 0..16 {
        let (mut socket, _) = rig.session().await;
        let stopped = stopped.clone();
        talking.push(tokio::spawn(async move {
            let mut echoed = 0;
            while !*stopped.borrow() {
                echoes(&mut socket, "still the same session").await;
                echoed += 1;
            }
            echoed
        }));
    }
    for n in 0..250_u16 {
        let passing = std::net::SocketAddr::from(([127, 0, 0, 1], 20_000 + n));
        rig.edit(|u| {
            u.backends.insert(passing.into(), active());
            u.backends.insert(b.into(), active());
        });
        tokio::task::yield_now().await;
        rig.edit(|u| {
            u.backends.remove(&passing.into());
            u.backends.remove(&b.into());
        });
        tokio::task::yield_now().await;
    }
    rig.eventually("settled", |r| r.backends.len() == 1 && r.sessions == 16).await;
    stop.send_replace(true);
    for talk in talking {
        assert!(talk.await.unwrap() > 0);
    }
}
