//! Limits: never exceeded, told with what mends them, and gone when they are lifted.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;

use super::rig::{
    PATIENCE, Rig, Spy, active, config, dead_address, echo_backend, echoes, free_address, unchecked, until,
};
use crate::config::model::{Backend, Balance, Config, ProxyProtocol, State, Upstream};
use crate::proxy::proxy_protocol::{Addresses, version_2_of};

fn n(n: u32) -> Option<NonZeroU32> {
    NonZeroU32::new(n)
}

async fn rig(change: impl FnOnce(&mut Config)) -> Rig {
    rig_of(unchecked(Balance::RoundRobin, &[echo_backend("b").await]), change).await
}

async fn rig_of(upstream: Upstream, change: impl FnOnce(&mut Config)) -> Rig {
    let mut config = config(free_address(), upstream);
    change(&mut config);
    Rig::of(config, |_| ()).await
}

type Session = WebSocketStream<TcpStream>;

/// The session, or the status, Retry-After and text of the refusal.
async fn open(rig: &Rig) -> Result<Session, (u16, String, String)> {
    match rig.try_session().await {
        Ok((session, _)) => Ok(session),
        Err(Error::Http(answer)) => {
            let after = answer.headers().get("retry-after").map(|v| v.to_str().unwrap().to_owned());
            let text = String::from_utf8(answer.body().clone().unwrap_or_default()).unwrap();
            Err((answer.status().as_u16(), after.unwrap_or_default(), text))
        }
        Err(error) => panic!("{error}"),
    }
}

/// Many at once; those that were let in.
async fn storm(rig: &Rig, many: usize) -> (Vec<Session>, Vec<(u16, String, String)>) {
    let all = futures_util::future::join_all((0..many).map(|_| open(rig))).await;
    let (mut sessions, mut refused) = (Vec::new(), Vec::new());
    for one in all {
        match one {
            Ok(session) => sessions.push(session),
            Err(refusal) => refused.push(refusal),
        }
    }
    (sessions, refused)
}

/// Exactly `most` of many get in; when one leaves, one more does; plain requests are none of them.
async fn holds(change: impl FnOnce(&mut Config), most: usize, name: &str) {
    let rig = rig(change).await;
    let (mut sessions, refused) = storm(&rig, 30).await;
    assert_eq!(sessions.len(), most, "{name}");
    for (status, after, text) in &refused {
        assert_eq!((*status, after.as_str()), (503, "1"), "{name}: {text}");
        assert!(text.contains(name) && text.contains(&most.to_string()), "{name}: {text}");
    }
    let plain = rig.say(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(plain.starts_with("HTTP/1.1 200 "), "{plain}");
    for session in &mut sessions {
        echoes(session, "still here").await;
    }
    drop(sessions.pop());
    rig.eventually("one left", |r| r.sessions == most as u64 - 1).await;
    assert!(open(&rig).await.is_ok(), "{name}: there is room again");
}

#[tokio::test]
async fn a_node_has_its_most() {
    holds(|c| c.settings.max_sessions = n(7), 7, "max_sessions").await;
}

#[tokio::test]
async fn a_listener_has_its_most() {
    holds(|c| c.listeners.values_mut().for_each(|l| l.max_sessions = n(6)), 6, "listener max_sessions").await;
}

#[tokio::test]
async fn an_upstream_has_its_most() {
    let change = |c: &mut Config| c.upstreams.values_mut().for_each(|u| Arc::make_mut(u).max_sessions = n(5));
    holds(change, 5, "upstream max_sessions").await;
}

#[tokio::test]
async fn a_client_has_its_most() {
    holds(|c| c.settings.sessions_per_client_ip = n(4), 4, "sessions_per_client_ip").await;
}

#[tokio::test]
async fn full_backends_are_passed_over_until_all_are_full() {
    let all = [echo_backend("a").await, echo_backend("b").await];
    let mut upstream = unchecked(Balance::RoundRobin, &all);
    upstream.backends.get_mut(&all[0].into()).unwrap().max_sessions = n(2);
    upstream.backends.get_mut(&all[1].into()).unwrap().max_sessions = n(3);
    let rig = rig_of(upstream, |_| ()).await;
    let (sessions, refused) = storm(&rig, 20).await;
    assert_eq!((sessions.len(), refused.len()), (5, 15));
    assert!(refused.iter().all(|(status, _, text)| *status == 503 && text.contains("backend max_sessions")));
    // A session is counted after its 101 has gone.
    rig.eventually("two and three", |r| {
        let of = |i: usize| r.backends.iter().find(|b| b.address == all[i]).map(|b| b.sessions);
        (of(0), of(1)) == (Some(2), Some(3))
    })
    .await;
}

#[tokio::test]
async fn handshakes_come_at_their_rate() {
    let rig = rig(|c| {
        c.settings.upgrades_per_second = n(2);
        c.settings.upgrade_burst = n(3);
    })
    .await;
    let (sessions, refused) = storm(&rig, 10).await;
    // The storm itself takes time, in which a token more may come.
    assert!((3..=5).contains(&sessions.len()), "{}", sessions.len());
    assert!(refused.iter().all(|(status, after, text)| {
        *status == 503 && after == "1" && text.contains("upgrades_per_second") && text.contains("wait")
    }));
    let deadline = Instant::now() + PATIENCE;
    while open(&rig).await.is_err() {
        assert!(Instant::now() < deadline, "nobody gets in any more");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_client_is_who_its_header_says() {
    let rig = rig(|c| {
        c.settings.sessions_per_client_ip = n(1);
        c.listeners.values_mut().for_each(|l| l.proxy_protocol = ProxyProtocol::Required);
    })
    .await;
    let from = |client: &str| {
        let said = Addresses { source: client.parse().unwrap(), destination: rig.address };
        let rig = &rig;
        async move {
            let mut socket = rig.connect().await;
            socket.write_all(&version_2_of(Some(said))).await.unwrap();
            tokio_tungstenite::client_async(format!("ws://{}/", rig.address), socket).await
        }
    };
    let one = from("192.0.2.1:1").await.unwrap();
    assert!(from("192.0.2.1:2").await.is_err());
    let _two = from("192.0.2.2:1").await.unwrap();
    let _six = from("[2001:db8::1]:1").await.unwrap();
    assert!(from("[2001:db8::2]:1").await.is_err(), "the same /64");
    drop(one);
    rig.eventually("it left", |r| r.sessions == 2).await;
    from("192.0.2.1:3").await.unwrap();
}

#[tokio::test]
async fn a_new_limit_holds_for_new_sessions_only() {
    let rig = rig(|_| ()).await;
    let (mut sessions, _) = storm(&rig, 10).await;
    assert_eq!(sessions.len(), 10);
    let mut lower = Config::clone(&rig.config.borrow());
    lower.settings.max_sessions = n(3);
    rig.config.send_replace(Arc::new(lower.clone()));
    let deadline = Instant::now() + PATIENCE;
    while open(&rig).await.is_ok() {
        assert!(Instant::now() < deadline, "the limit never came into force");
    }
    for session in &mut sessions {
        echoes(session, "untouched").await;
    }
    lower.settings.max_sessions = None;
    rig.config.send_replace(Arc::new(lower));
    while open(&rig).await.is_err() {
        assert!(Instant::now() < deadline, "the limit never went");
    }
}

#[tokio::test]
async fn every_refusal_is_counted_by_its_limit() {
    let rig = rig(|c| c.settings.max_sessions = n(1)).await;
    let _held = open(&rig).await.unwrap();
    for _ in 0..3 {
        open(&rig).await.unwrap_err();
    }
    let handle = rig.proxy.handle();
    let page = crate::metrics::page(move |page| handle.counted(page)).unwrap();
    for line in [
        "tandem_limit_hits_total{limit=\"max_sessions\"} 3",
        "tandem_limit_hits_total{limit=\"open_files\"} 0",
        "tandem_refused_total{reason=\"limit\"} 3",
    ] {
        assert!(page.lines().any(|l| l == line), "{line} is missing in\n{page}");
    }
    assert!(page.contains("tandem_sessions_possible ") && page.contains("tandem_source_ports "), "{page}");
}

#[tokio::test]
async fn timers_are_those_of_the_newest_config() {
    let rig = rig(|_| ()).await;
    let mut quick = Config::clone(&rig.config.borrow());
    quick.settings.keep_alive = Duration::from_millis(100);
    quick.settings.head_timeout = Duration::from_millis(200);
    rig.config.send_replace(Arc::new(quick));
    let began = Instant::now();
    loop {
        let mut client = rig.connect().await;
        client.write_all(b"GET / HT").await.unwrap();
        let heard = tokio::time::timeout(Duration::from_secs(1), until(&mut client, "\r\n")).await;
        if heard.is_ok_and(|line| line.starts_with("HTTP/1.1 408 ")) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "a new connection still has the old timers");
    }
}

#[tokio::test]
async fn an_upstream_that_says_off_keeps_its_idle_sessions() {
    let rig = rig(|c| {
        c.upstreams.values_mut().for_each(|u| Arc::make_mut(u).timeouts.idle = Some(Duration::from_secs(1)));
    })
    .await;
    let (mut ended, _) = rig.session().await;
    let idle = dead_address();
    rig.edit(|u| {
        u.timeouts.idle = None;
        u.backends.insert(idle.into(), Backend { state: State::Draining, ..active() });
    });
    // A change is in force when all of it is; only then is the next session one of the new config.
    rig.eventually("the change is in force", |r| r.backends.len() == 2).await;
    let (mut kept, _) = rig.session().await;
    let end = tokio::time::timeout(PATIENCE, ended.next()).await.expect("the first is ended");
    assert!(!matches!(end, Some(Ok(_))), "{end:?}");
    tokio::time::sleep(Duration::from_millis(3500)).await;
    echoes(&mut kept, "still here").await;
}

#[tokio::test]
async fn who_takes_nothing_of_its_answer_is_given_up() {
    // The backend sends for ever; what ends it is that the proxy lets go.
    let (gone, mut ended) = tokio::sync::mpsc::unbounded_channel();
    let endless = Spy::new(move |mut socket, _| {
        let gone = gone.clone();
        async move {
            until(&mut socket, "\r\n\r\n").await;
            let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").await;
            let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
            while socket.write_all(&chunk).await.is_ok() {}
            let _ = gone.send(());
        }
    })
    .await;
    let upstream = unchecked(Balance::RoundRobin, &[endless.address]);
    let rig = rig_of(upstream, |c| c.settings.tcp_user_timeout = Some(Duration::from_secs(1))).await;
    let mut client = rig.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    client.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200");
    tokio::time::timeout(PATIENCE, ended.recv()).await.expect("it is given up").unwrap();
}
