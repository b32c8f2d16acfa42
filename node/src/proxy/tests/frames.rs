//! Sessions whose frames are looked after: pinged, limited, and ended with a word to both sides.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{CloseFrame, Frame};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::rig::{PATIENCE, Rig, Spy, config, echo_backend, echoes, free_address, unchecked, until};
use super::websocket::{handshake, switch};
use crate::config::model::{Backend, Balance, Frames, OverRate, PingTo, State};
use crate::metrics;

/// What the frames of the rig's one route are held to.
async fn rig(backend: std::net::SocketAddr, frames: Frames) -> Rig {
    let mut config = config(free_address(), unchecked(Balance::RoundRobin, &[backend]));
    let route = Arc::make_mut(config.routes.get_mut("all").unwrap());
    route.frames = Some(Arc::new(frames));
    config.settings.close_timeout = Duration::from_secs(3);
    Rig::of(config, |_| ()).await
}

fn quiet() -> Frames {
    Frames { ping: PingTo::Off, ..Frames::default() }
}

/// A backend that hands its sockets over, switched.
async fn bare() -> (Spy, mpsc::UnboundedReceiver<TcpStream>) {
    let (give, given) = mpsc::unbounded_channel();
    let spy = Spy::new(move |mut socket, _| {
        let give = give.clone();
        async move {
            until(&mut socket, "\r\n\r\n").await;
            socket.write_all(switch("").as_bytes()).await.unwrap();
            give.send(socket).unwrap();
        }
    })
    .await;
    (spy, given)
}

/// Both ends of a session as bare sockets.
async fn both_ends(frames: Frames) -> (Rig, TcpStream, TcpStream) {
    let (spy, mut given) = bare().await;
    let rig = rig(spy.address, frames).await;
    let mut client = rig.connect().await;
    client.write_all(handshake("").as_bytes()).await.unwrap();
    until(&mut client, "\r\n\r\n").await;
    (rig, client, given.recv().await.unwrap())
}

async fn take(socket: &mut TcpStream, n: usize) -> Vec<u8> {
    let mut bytes = vec![0; n];
    tokio::time::timeout(PATIENCE, socket.read_exact(&mut bytes)).await.expect("bytes come").unwrap();
    bytes
}

/// All that comes until the end of the stream.
async fn rest(socket: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    tokio::time::timeout(PATIENCE, socket.read_to_end(&mut bytes)).await.expect("the stream ends").unwrap();
    bytes
}

/// A masked frame; the mask changes nothing.
fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0], payload].concat()
}

/// The payload of a masked control frame at the end of `bytes`.
fn unmasked(bytes: &[u8]) -> Vec<u8> {
    bytes[6..].iter().zip(bytes[2..6].iter().cycle()).map(|(b, k)| b ^ k).collect()
}

fn code(close: &[u8]) -> u16 {
    u16::from_be_bytes([close[0], close[1]])
}

/// The code that a client is closed with, in order.
async fn closed(mut session: WebSocketStream<TcpStream>) -> u16 {
    let mut code = None;
    let reading = async {
        loop {
            match session.next().await {
                Some(Ok(Message::Close(Some(frame)))) => code = Some(u16::from(frame.code)),
                Some(Ok(_)) => {}
                None | Some(Err(Error::ConnectionClosed)) => return,
                Some(Err(error)) => panic!("not in order: {error}, after {code:?}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("it is ended");
    code.expect("it is told why")
}

fn counted(rig: &Rig) -> String {
    let handle = rig.proxy.handle();
    metrics::page(move |page| handle.counted(page)).unwrap()
}

fn has(page: &str, line: &str) -> bool {
    page.lines().any(|l| l == line)
}

#[tokio::test]
async fn our_pings_stand_between_frames_and_their_answers_stay_here() {
    let frames = Frames { ping: PingTo::Client, ping_interval: Duration::from_secs(1), ..Frames::default() };
    let (rig, mut client, mut backend) = both_ends(frames).await;
    // The backend is amid a frame, and amid a message.
    backend.write_all(b"\x01\x04ab").await.unwrap();
    assert_eq!(take(&mut client, 4).await, b"\x01\x04ab");
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    backend.write_all(b"cd").await.unwrap();
    assert_eq!(take(&mut client, 2).await, b"cd");
    let ping = take(&mut client, 10).await;
    assert_eq!(ping[..2], [0x89, 8], "between the pieces of the message: {ping:?}");
    backend.write_all(b"\x80\x01e").await.unwrap();
    assert_eq!(take(&mut client, 3).await, b"\x80\x01e");
    // An answer, in pieces; one that is none of ours; and a message.
    let pong = masked(0x8a, &ping[2..]);
    client.write_all(&pong[..3]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    client.write_all(&[&pong[3..], &masked(0x8a, b"theirs"), &masked(0x82, b"hello")].concat()).await.unwrap();
    let expected = [masked(0x8a, b"theirs"), masked(0x82, b"hello")].concat();
    assert_eq!(take(&mut backend, expected.len()).await, expected);
    let page = counted(&rig);
    assert!(has(&page, "tandem_client_ping_seconds_count 1"), "{page}");
    drop((client, backend));
    rig.eventually("ended", |r| r.sessions == 0).await;
}

#[tokio::test]
async fn whoever_answers_pings_stays() {
    let second = Duration::from_secs(1);
    let frames = Frames { ping_interval: second, pong_timeout: second, ..Frames::default() };
    let rig = rig(echo_backend("a").await, frames).await;
    let (mut session, _) = rig.session().await;
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        // It answers while it is read.
        let heard = tokio::time::timeout(Duration::from_millis(100), session.next()).await;
        assert!(heard.is_err() || matches!(heard, Ok(Some(Ok(Message::Ping(_))))), "{heard:?}");
    }
    echoes(&mut session, "still there").await;
    let page = counted(&rig);
    let count = |side: &str| {
        let name = format!("tandem_{side}_ping_seconds_count ");
        page.lines().find_map(|l| l.strip_prefix(&name)).unwrap().parse::<u32>().unwrap()
    };
    assert!(count("client") >= 2 && count("backend") >= 2, "{page}");
    assert!(has(&page, "tandem_ghosts_total{side=\"client\"} 0"), "{page}");
}

#[tokio::test]
async fn a_ghost_is_gone_on_both_sides() {
    let second = Duration::from_secs(1);
    for side in [PingTo::Client, PingTo::Backend] {
        let frames = Frames { ping: side, ping_interval: second, pong_timeout: second, ..Frames::default() };
        let (rig, mut client, mut backend) = both_ends(frames).await;
        let began = Instant::now();
        // The other one is told, and answers as it should.
        if side == PingTo::Client {
            let close = take(&mut backend, 8).await;
            assert_eq!((close[0], code(&unmasked(&close))), (0x88, 1001));
            backend.write_all(b"\x88\x02\x03\xe9").await.unwrap();
            assert_eq!(rest(&mut backend).await, b"");
        } else {
            assert_eq!(take(&mut client, 4).await, b"\x88\x02\x03\xe9");
            client.write_all(&masked(0x88, b"\x03\xe9")).await.unwrap();
            assert_eq!(rest(&mut client).await, b"");
        }
        drop(if side == PingTo::Client { backend } else { client });
        rig.eventually("gone", |r| r.sessions == 0).await;
        let took = began.elapsed();
        assert!(took < Duration::from_secs(5), "{took:?}");
        let page = counted(&rig);
        let side = if side == PingTo::Client { "client" } else { "backend" };
        assert!(has(&page, &format!("tandem_ghosts_total{{side=\"{side}\"}} 1")), "{page}");
    }
}

#[tokio::test]
async fn what_is_no_frame_ends_it_with_1002_on_both_sides() {
    for (said, why) in [
        (&b"\x82\x01x"[..], "the client sent a frame without a mask"),
        (&b"\xc2\x80\0\0\0\0"[..], "the client sent a frame with a reserved bit that no extension gives a meaning"),
        (&b"\x82\xff\x80\0\0\0\0\0\0\0"[..], "the client sent a length of 2^63 bytes or more"),
    ] {
        let (rig, mut client, mut backend) = both_ends(quiet()).await;
        let good = masked(0x82, b"good");
        client.write_all(&[&good, said].concat()).await.unwrap();
        assert_eq!(take(&mut backend, good.len()).await, good);
        let close = take(&mut backend, 8 + why.len()).await;
        let told = unmasked(&close);
        assert_eq!((close[0], code(&told), std::str::from_utf8(&told[2..]).unwrap()), (0x88, 1002, why));
        let close = take(&mut client, 4 + why.len()).await;
        assert_eq!((close[0], code(&close[2..]), &close[4..]), (0x88, 1002, why.as_bytes()));
        // Whatever it says now goes nowhere.
        client.write_all(&masked(0x82, b"late")).await.unwrap();
        client.write_all(&masked(0x88, b"\x03\xea")).await.unwrap();
        assert_eq!(rest(&mut client).await, b"");
        backend.write_all(b"\x88\x02\x03\xea").await.unwrap();
        assert_eq!(rest(&mut backend).await, b"");
        drop((client, backend));
        rig.eventually("ended", |r| r.sessions == 0).await;
        let page = counted(&rig);
        assert!(has(&page, "tandem_session_closes_total{from=\"tandem\",code=\"1002\"} 1"), "{page}");
    }
}

#[tokio::test]
async fn what_is_too_large_ends_it_with_1009_and_never_reaches_the_backend() {
    let frames = Frames { max_frame: 1000.try_into().ok(), max_message: 1500.try_into().ok(), ..quiet() };
    let rig = rig(echo_backend("a").await, frames).await;
    let (mut session, _) = rig.session().await;
    echoes(&mut session, &"x".repeat(1000)).await;
    session.send(Message::text("x".repeat(1001))).await.unwrap();
    assert_eq!(closed(session).await, 1009);
    let (mut session, _) = rig.session().await;
    for (opcode, last) in [(Data::Text, false), (Data::Continue, true)] {
        let piece = Frame::message(vec![b'x'; 800], OpCode::Data(opcode), last);
        session.send(Message::Frame(piece)).await.unwrap();
    }
    assert_eq!(closed(session).await, 1009);
}

#[tokio::test]
async fn a_client_that_says_too_much_waits_or_is_closed() {
    let frames = Frames { messages_per_second: 20.try_into().ok(), ..quiet() };
    let patient = rig(echo_backend("a").await, frames.clone()).await;
    let (mut session, _) = patient.session().await;
    let began = Instant::now();
    for n in 0..70 {
        session.feed(Message::text(n.to_string())).await.unwrap();
    }
    session.flush().await.unwrap();
    for n in 0..70 {
        let heard = tokio::time::timeout(PATIENCE, session.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(heard, Message::text(n.to_string()), "nothing is lost");
    }
    let took = began.elapsed();
    assert!(took > Duration::from_millis(1_900), "70 messages took {took:?}");
    assert!(took < Duration::from_secs(6), "70 messages took {took:?}");

    let strict = rig(echo_backend("a").await, Frames { over_rate: OverRate::Close, ..frames }).await;
    let (mut session, _) = strict.session().await;
    for n in 0..70 {
        session.feed(Message::text(n.to_string())).await.unwrap();
    }
    session.flush().await.unwrap();
    assert_eq!(closed(session).await, 1008);

    let frames = Frames { bytes_per_second: 100_000.try_into().ok(), ..quiet() };
    let patient = rig(echo_backend("a").await, frames.clone()).await;
    let (mut session, _) = patient.session().await;
    let began = Instant::now();
    echoes(&mut session, &"x".repeat(350_000)).await;
    let took = began.elapsed();
    assert!(took > Duration::from_millis(1_900), "350 kB took {took:?}");
    let strict = rig(echo_backend("a").await, Frames { over_rate: OverRate::Close, ..frames }).await;
    let (mut session, _) = strict.session().await;
    session.feed(Message::text("x".repeat(50_000))).await.unwrap();
    session.feed(Message::text("x".repeat(50_000))).await.unwrap();
    session.flush().await.unwrap();
    assert_eq!(closed(session).await, 1008);
}

#[tokio::test]
async fn sessions_grow_no_older_than_they_may() {
    let rig = rig(echo_backend("a").await, Frames { max_age: Some(Duration::from_secs(2)), ..quiet() }).await;
    let (session, _) = rig.session().await;
    let began = Instant::now();
    assert_eq!(closed(session).await, 1001);
    let took = began.elapsed();
    assert!(took > Duration::from_millis(1_700) && took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn the_ends_close_as_they_like_and_it_is_counted() {
    let rig = rig(echo_backend("a").await, Frames::default()).await;
    let (mut session, _) = rig.session().await;
    echoes(&mut session, "x").await;
    session.close(Some(CloseFrame { code: CloseCode::from(4321), reason: "mine".into() })).await.unwrap();
    assert_eq!(closed(session).await, 4321);
    rig.eventually("ended", |r| r.sessions == 0).await;
    let page = counted(&rig);
    for line in [
        "tandem_session_closes_total{from=\"client\",code=\"4xxx\"} 1",
        "tandem_session_closes_total{from=\"backend\",code=\"4xxx\"} 1",
        "tandem_session_closes_total{from=\"tandem\",code=\"1001\"} 0",
    ] {
        assert!(has(&page, line), "{line} in {page}");
    }
    let (session, _) = rig.session().await;
    session.get_ref().set_zero_linger().unwrap();
    drop(session);
    rig.eventually("reset", |r| r.sessions == 0 && r.backends[0].sessions_total == 2).await;
    let page = counted(&rig);
    assert!(has(&page, "tandem_session_closes_total{from=\"client\",code=\"1006\"} 1"), "{page}");
}

#[tokio::test]
async fn a_drain_ends_all_of_them_evenly_with_1012_and_none_amid_a_frame() {
    const SESSIONS: usize = 100;
    const WITHIN: Duration = Duration::from_secs(6);
    let a = echo_backend("a").await;
    let rig = rig(a, Frames::default()).await;
    let (tell, mut told) = mpsc::unbounded_channel();
    for _ in 0..SESSIONS {
        let (mut session, _) = rig.session().await;
        let tell = tell.clone();
        tokio::spawn(async move {
            // Frames are under way all the time.
            let message = Message::binary(vec![7; 20_000]);
            let code = loop {
                if session.feed(message.clone()).await.is_err() || session.flush().await.is_err() {
                    break closed(session).await;
                }
                match tokio::time::timeout(PATIENCE, session.next()).await.unwrap() {
                    Some(Ok(Message::Close(frame))) => {
                        let code = u16::from(frame.unwrap().code);
                        let end = loop {
                            match session.next().await {
                                Some(Ok(_)) => {}
                                end => break end,
                            }
                        };
                        assert!(end.is_none() || matches!(end, Some(Err(Error::ConnectionClosed))), "{end:?}");
                        break code;
                    }
                    Some(Ok(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                    other => panic!("{other:?}"),
                }
            };
            tell.send((Instant::now(), code)).unwrap();
        });
    }
    let began = Instant::now();
    rig.edit(|u| {
        let drain_within = Some(WITHIN);
        u.backends.insert(a.into(), Backend { state: State::Draining, drain_within, ..Backend::default() });
    });
    let mut each = [0_usize; 8];
    for _ in 0..SESSIONS {
        let (at, code) = tokio::time::timeout(PATIENCE, told.recv()).await.unwrap().unwrap();
        assert_eq!(code, 1012);
        each[usize::try_from((at - began).as_secs()).unwrap()] += 1;
    }
    rig.eventually("empty", |r| r.sessions == 0).await;
    // The last second is kept for those who are slow to answer; the first turn comes within one.
    let busy: Vec<usize> = each.iter().copied().filter(|n| *n > 0).collect();
    assert!(busy.len() >= 5, "{each:?}");
    assert!(busy.iter().all(|n| *n <= 2 * SESSIONS / 5), "{each:?}");
}

#[tokio::test]
async fn a_node_that_stops_says_so() {
    let rig = rig(echo_backend("a").await, Frames::default()).await;
    let (session, _) = rig.session().await;
    let watched = tokio::spawn(closed(session));
    rig.proxy.stop(Duration::from_secs(4)).await;
    assert_eq!(watched.await.unwrap(), 1001);
}

#[tokio::test]
async fn an_address_that_is_gone_is_told_to_the_backend_alone() {
    let (rig, mut client, mut backend) = both_ends(quiet()).await;
    rig.reach.send_modify(|reach| {
        let reach = Arc::make_mut(reach);
        reach.absent = crate::proxy::Absent::CannotServe;
        reach.away = [rig.address.ip()].into();
    });
    let close = take(&mut backend, 8).await;
    assert_eq!((close[0], code(&unmasked(&close))), (0x88, 1001));
    backend.write_all(b"\x88\x02\x03\xe9").await.unwrap();
    assert_eq!(rest(&mut backend).await, b"");
    drop(backend);
    rig.eventually("gone", |r| r.sessions == 0).await;
    assert_eq!(rest(&mut client).await, b"");
}
