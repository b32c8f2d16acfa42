//! Plain requests: forwarded, retried, kept apart.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::rig::{
    Limits, PATIENCE, Rig, Spy, config, dead_address, echo_backend, free_address, name, rest, unchecked, until,
};
use crate::config::model::{Balance, Path, Route, Upstream};

#[tokio::test]
async fn bodies_stream_both_ways() {
    let backend = echo_backend("b1").await;
    let rig = Rig::start(unchecked(Balance::RoundRobin, &[backend])).await;
    let body = "0123456789".repeat(50_000);
    let fixed =
        format!("POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let answer = rig.say(fixed.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with(&format!("\r\n\r\n{body}")));
    let chunked = "POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n7;x=y\r\n, world\r\n0\r\n\r\n";
    let answer = rig.say(chunked.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nhello, world"), "{answer}");
    assert_eq!(rig.backend(backend).requests_total, 2);
}

#[tokio::test]
async fn the_backend_sees_the_request_and_who_asked() {
    let (heads, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let spy = Spy::new(move |mut socket, _| {
        let heads = heads.clone();
        async move {
            heads.send(until(&mut socket, "0\r\n\r\n").await).unwrap();
            socket
                .write_all(b"HTTP/1.1 200 OK\r\nConnection: X-Hop, close\r\nX-Hop: 1\r\nX-End: 2\r\n\r\nbye")
                .await
                .unwrap();
        }
    })
    .await;
    let rig = Rig::start(unchecked(Balance::RoundRobin, &[spy.address])).await;
    let answer = rig
        .say(
            b"GET http://other.example:8080/p?q=%20 HTTP/1.1\r\nHost: ignored\r\nConnection: close, X-Secret\r\nX-Secret: 1\r\n\
              TE: trailers\r\nUpgrade: h2c\r\nExpect: 100-continue\r\nX-Forwarded-Host: forged\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        )
        .await;
    assert!(answer.contains("x-end: 2") && !answer.contains("x-hop") && answer.contains("bye"), "{answer}");
    let seen = heard.recv().await.unwrap().to_ascii_lowercase();
    assert!(seen.starts_with("get /p?q=%20 http/1.1\r\n"), "{seen}");
    for field in [
        "host: other.example:8080",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-host: other.example:8080",
        "transfer-encoding: chunked",
    ] {
        assert!(seen.contains(&format!("\r\n{field}\r\n")), "{field} in {seen}");
    }
    for gone in ["x-secret", "\r\nte:", "\r\nupgrade", "expect", "\r\nconnection", "ignored"] {
        assert!(!seen.contains(gone), "{gone} in {seen}");
    }
    assert!(seen.ends_with("\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), "{seen}");
}

#[tokio::test]
async fn requests_in_one_packet_are_answered_in_order() {
    let backend = echo_backend("b1").await;
    let rig = Rig::start(unchecked(Balance::RoundRobin, &[backend])).await;
    let one = |body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let all =
        [one("first"), one("second"), "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".to_owned()].concat();
    let answer = rig.say(all.as_bytes()).await;
    let bodies: Vec<&str> = answer.split("\r\n\r\n").skip(1).map(|b| b.split("HTTP/1.1").next().unwrap()).collect();
    assert_eq!(bodies, ["first", "second", "b1\n"]);
}

#[tokio::test]
async fn answers_without_a_body_keep_their_head() {
    let spy = Spy::answering(&[
        "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 77\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ])
    .await;
    let rig = Rig::start(unchecked(Balance::RoundRobin, &[spy.address])).await;
    let mut client = rig.connect().await;
    for (method, expected) in
        [("HEAD", "content-length: 1234"), ("HEAD", "200"), ("GET", "204"), ("GET", "etag: \"x\"")]
    {
        client.write_all(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
        let head = until(&mut client, "\r\n\r\n").await;
        assert!(head.contains(expected), "{method}: {head}");
        assert!(expected != "200" || !head.contains("content-length: 0"), "{head}");
    }
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    assert!(rest(&mut client).await.ends_with("\r\n\r\nok"));
    assert_eq!(spy.connections(), 1, "the connection to the backend was used again");
}

#[tokio::test]
async fn old_clients_are_answered_in_their_words() {
    let backend = echo_backend("b1").await;
    let rig = Rig::start(unchecked(Balance::RoundRobin, &[backend])).await;
    let answer = rig.say(b"GET / HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200 ") && answer.ends_with("\r\n\r\nb1\n"), "{answer}");
}

#[tokio::test]
async fn a_dead_backend_is_passed_over_with_the_body_intact() {
    let good = echo_backend("good").await;
    let rig = Rig::start(unchecked(Balance::RoundRobin, &[dead_address(), good])).await;
    for _ in 0..4 {
        let answer = rig.say(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody").await;
        assert!(answer.ends_with("\r\n\r\nbody"), "{answer}");
    }
}

/// Answers the first request on a connection; closes without a word on the second.
async fn forgetful() -> Spy {
    Spy::new(|mut socket, nth| async move {
        until(&mut socket, "\r\n\r\n").await;
        let body = format!("connection {nth}");
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        socket.write_all(answer.as_bytes()).await.unwrap();
        until(&mut socket, "\r\n\r\n").await;
    })
    .await
}

#[tokio::test]
async fn a_connection_is_used_again_only_by_who_would_have_made_it_so() {
    const YES: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let spy = Spy::answering(&[YES; 100_000]).await;
    let upstream = unchecked(Balance::RoundRobin, &[spy.address]);
    let elsewhere = Upstream { source_addresses: vec!["127.0.0.9".parse().unwrap()], ..upstream.clone() };
    let mut config = config(free_address(), upstream);
    config.upstreams.insert(name("elsewhere"), Arc::new(elsewhere));
    let mut other = Route::to(name("elsewhere"));
    other.matching.path = Path::Prefix("/other".to_owned());
    config.routes.insert(name("other"), Arc::new(other));
    let rig = Rig::of(config, |settings| settings.workers = 1).await;
    let mut socket = rig.connect().await;
    for (path, connections) in [("/", 1), ("/", 1), ("/other", 2), ("/", 2), ("/other", 2)] {
        socket.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await.unwrap();
        until(&mut socket, "\r\n\r\n").await;
        assert_eq!(spy.connections(), connections, "{path}");
        // A change of something else is no reason for new ones.
        rig.edit(|u| u.slow_start += Duration::from_secs(1));
    }
    rig.edit(|u| u.source_addresses = vec!["127.0.0.8".parse().unwrap()]);
    let deadline = Instant::now() + PATIENCE;
    while spy.connections() == 2 {
        assert!(Instant::now() < deadline, "the change is never in force");
        socket.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        until(&mut socket, "\r\n\r\n").await;
    }
}

#[tokio::test]
async fn a_connection_is_used_again_whatever_kind_of_answer_came_before() {
    const ANSWERS: [&str; 5] = [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nsec\r\n3\r\nond\r\n0\r\n\r\n",
        "HTTP/1.1 102 Wait\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nthird",
        "HTTP/1.1 404 None\r\nContent-Length: 6\r\n\r\nfourth",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlast",
    ];
    let spy = Spy::answering(&ANSWERS).await;
    let rig = Rig::start(unchecked(Balance::RoundRobin, &[spy.address])).await;
    let mut client = rig.connect().await;
    for end in ["first", "ond\r\n0\r\n\r\n", "third", "fourth"] {
        client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        until(&mut client, end).await;
        assert_eq!(spy.connections(), 1, "{end}");
    }
}

#[tokio::test]
async fn a_pooled_connection_that_dies_is_replaced_where_that_is_safe() {
    let spy = forgetful().await;
    let rig = Rig::start(unchecked(Balance::RoundRobin, &[spy.address])).await;
    let mut client = rig.connect().await;
    let get = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    client.write_all(get).await.unwrap();
    until(&mut client, "connection 0").await;
    client.write_all(get).await.unwrap();
    until(&mut client, "connection 1").await;
    // A POST may have been done: it is not repeated.
    client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx").await.unwrap();
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("upstream u: the backend ended"), "{answer}");
    assert_eq!(spy.connections(), 2);
}

#[tokio::test]
async fn a_new_connection_that_dies_is_no_reason_to_repeat() {
    let spy = Spy::new(|mut socket, _| async move {
        until(&mut socket, "\r\n\r\n").await;
    })
    .await;
    let rig = Rig::start(unchecked(Balance::RoundRobin, &[spy.address])).await;
    let answer = rig.say(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert_eq!(spy.connections(), 1);
}

#[tokio::test]
async fn an_answer_cut_short_is_cut_short_for_the_client_too() {
    let spy = Spy::answering(&["HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"]).await;
    let rig = Rig::start(unchecked(Balance::RoundRobin, &[spy.address])).await;
    let mut client = rig.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut all = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, client.read_to_end(&mut all)).await.expect("it is not kept waiting");
    assert!(String::from_utf8(all).unwrap().contains("content-length: 100\r\n"));
}

#[tokio::test]
async fn a_silent_backend_is_given_up_but_a_slow_upload_is_not() {
    let silent = Spy::new(|mut socket, _| async move {
        let mut all = Vec::new();
        let _ = socket.read_to_end(&mut all).await;
    })
    .await;
    let limits = Limits { response: Duration::from_millis(300), ..Limits::default() };
    let rig = Rig::limited(unchecked(Balance::RoundRobin, &[silent.address]), limits).await;
    let answer = rig.say(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await;
    assert!(
        answer.starts_with("HTTP/1.1 504 ") && answer.contains("upstream u: the backend gave no answer within 300ms"),
        "{answer}"
    );

    let rig = Rig::limited(unchecked(Balance::RoundRobin, &[echo_backend("b").await]), limits).await;
    let mut client = rig.connect().await;
    client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 10\r\n\r\n").await.unwrap();
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        client.write_all(b"x").await.unwrap();
    }
    let answer = rest(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_request_along() {
    let (gone, mut told) = tokio::sync::mpsc::unbounded_channel();
    let slow = Spy::new(move |mut socket, _| {
        let gone = gone.clone();
        async move {
            until(&mut socket, "\r\n\r\n").await;
            gone.send("asked").unwrap();
            let _ = socket.read_to_end(&mut Vec::new()).await;
            gone.send("left").unwrap();
        }
    })
    .await;
    let rig = Rig::start(unchecked(Balance::RoundRobin, &[slow.address])).await;
    let mut client = rig.connect().await;
    client.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    assert_eq!(told.recv().await, Some("asked"));
    drop(client);
    assert_eq!(tokio::time::timeout(PATIENCE, told.recv()).await.unwrap(), Some("left"));
}

#[tokio::test]
async fn where_no_route_leads_the_client_is_told() {
    let rig = Rig::start(unchecked(Balance::RoundRobin, &[])).await;
    let ask = b"GET /where HTTP/1.1\r\nHost: who\r\nConnection: close\r\n\r\n";
    assert!(rig.say(ask).await.starts_with("HTTP/1.1 503 "));
    rig.config.send_modify(|config| std::sync::Arc::make_mut(config).routes.clear());
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let answer = rig.say(ask).await;
        if answer.starts_with("HTTP/1.1 404 ") {
            assert!(answer.contains("no route takes \"who\" with path \"/where\""), "{answer}");
            return;
        }
        assert!(std::time::Instant::now() < deadline, "{answer}");
    }
}
