//! What an idle session costs, measured: `cargo test --release -p tandem-node --lib proxy::tests::memory -- --ignored --nocapture`.

use std::io::{BufRead, BufReader, Read, Write};
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

fn read_head(socket: &TcpStream) {
    let mut reader = BufReader::with_capacity(512, socket);
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
}

/// Both ends are bare blocking sockets of a few bytes each: what grows is the proxy.
#[test]
#[ignore = "a measurement: needs 16 000 descriptors and a process of its own"]
fn an_idle_session_costs_at_most_one_and_a_half_kilobytes() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let backend = listener.local_addr().unwrap();
    let accepted = std::thread::spawn(move || {
        let mut all = Vec::with_capacity(SESSIONS);
        for _ in 0..SESSIONS {
            let (mut socket, _) = listener.accept().unwrap();
            read_head(&socket);
            socket.write_all(YES.as_bytes()).unwrap();
            all.push(socket);
        }
        all
    });
    let rig = runtime.block_on(Rig::start(unchecked(Balance::RoundRobin, &[backend])));
    let mut clients = Vec::with_capacity(SESSIONS);
    let mut before = 0;
    for i in 0..SESSIONS {
        // The first ones also pay for what is made once: scratch, runtime, heap.
        if i == SESSIONS / 8 {
            before = resident();
        }
        let mut socket = TcpStream::connect(rig.address).unwrap();
        socket.write_all(ASK.as_bytes()).unwrap();
        read_head(&socket);
        clients.push(socket);
    }
    let backends = accepted.join().unwrap();
    runtime.block_on(rig.eventually("open", |r| r.sessions == SESSIONS as u64));
    let each = (resident() - before) / (SESSIONS - SESSIONS / 8);
    // Used once, they must not be dearer.
    for (mut client, mut backend) in clients.iter().zip(&backends) {
        client.write_all(&[7; 2000]).unwrap();
        backend.read_exact(&mut [0; 2000]).unwrap();
    }
    let used = (resident() - before) / (SESSIONS - SESSIONS / 8);
    println!("bytes per idle session: {each}; after use: {used}");
    clients.iter().for_each(|c| drop(c.shutdown(Shutdown::Both)));
    assert!(each <= 1536 && used <= 1536, "{each} bytes, {used} after use");
}
