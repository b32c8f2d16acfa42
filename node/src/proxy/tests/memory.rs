//! What an idle session costs, measured: `cargo test --release -p tandem-node --lib proxy::tests::memory -- --ignored --nocapture`.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

use super::rig::{Rig, unchecked};
use crate::config::model::Balance;

const SESSIONS: usize = 4000;
const ASK: &str = "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const YES: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

/// The share of this process in the machine's memory, in bytes.
fn resident() -> usize {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = rollup.lines().find(|l| l.starts_with("Pss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 1024
}

/// Byte by byte: what follows stays.
fn read_head(mut stream: impl Read) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
}

/// What a client does to open a session on its socket; it says [`SAID`] bytes in it, and keeps the bare socket only.
pub(super) type Opening<'a> = &'a dyn Fn(&mut TcpStream);

/// What each client says once.
pub(super) const SAID: usize = 2000;

pub(super) fn ask(stream: &mut (impl Read + Write)) {
    stream.write_all(ASK.as_bytes()).unwrap();
    read_head(&mut *stream);
    stream.write_all(&[7; SAID]).unwrap();
}

/// Bytes an idle session costs, after it was used in both directions. Both ends are bare blocking sockets of a few bytes
/// each: what grows is the proxy.
pub(super) fn measure(start: impl Future<Output = Rig>, listener: TcpListener, open: Opening<'_>) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let accepted = std::thread::spawn(move || {
        let mut all = Vec::with_capacity(SESSIONS);
        for _ in 0..SESSIONS {
            let (mut socket, _) = listener.accept().unwrap();
            read_head(&socket);
            socket.write_all(YES.as_bytes()).unwrap();
            socket.read_exact(&mut [0; SAID]).unwrap();
            socket.write_all(&[8; SAID]).unwrap();
            all.push(socket);
        }
        all
    });
    let rig = runtime.block_on(start);
    let mut clients = Vec::with_capacity(SESSIONS);
    let mut before = 0;
    for i in 0..SESSIONS {
        // The first ones also pay for what is made once: scratch, runtime, heap.
        if i == SESSIONS / 8 {
            before = resident();
        }
        let mut socket = TcpStream::connect(rig.address).unwrap();
        open(&mut socket);
        // However it is packed.
        socket.read_exact(&mut [0; SAID]).unwrap();
        clients.push(socket);
    }
    let _backends = accepted.join().unwrap();
    runtime.block_on(rig.eventually("open", |r| r.sessions == SESSIONS as u64));
    let each = (resident() - before) / (SESSIONS - SESSIONS / 8);
    println!("bytes per idle session: {each}");
    clients.iter().for_each(|c| drop(c.shutdown(Shutdown::Both)));
    each
}

#[test]
#[ignore = "a measurement: needs 16 000 descriptors and a process of its own"]
fn an_idle_session_costs_at_most_one_and_a_half_kilobytes() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = unchecked(Balance::RoundRobin, &[listener.local_addr().unwrap()]);
    let each = measure(Rig::start(upstream), listener, &|socket| ask(socket));
    assert!(each <= 1536, "{each} bytes");
}
