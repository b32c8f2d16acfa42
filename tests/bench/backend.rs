//! The backends: echo a WebSocket's messages, and answer a plain request with 1 KiB.

use std::io::{self, ErrorKind, Write as _};
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::ensure;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::frame;

/// How many there are.
const BACKENDS: usize = 3;

/// What a plain request is answered with.
pub(crate) fn page() -> Vec<u8> {
    b"0123456789abcdef".repeat(64)
}

/// Serves until the process is ended, after one line with the addresses on stdout.
///
/// # Errors
/// Loopback cannot be bound.
pub(crate) async fn run() -> anyhow::Result<()> {
    let mut listeners = Vec::new();
    for _ in 0..BACKENDS {
        listeners.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?);
    }
    let addresses: Vec<SocketAddr> = listeners.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?;
    let mut out = io::stdout();
    writeln!(out, "{}", serde_json::to_string(&addresses)?)?;
    out.flush()?;
    let local = LocalSet::new();
    for listener in listeners {
        local.spawn_local(accept(listener));
    }
    local.await;
    Ok(())
}

/// Serves whoever connects. Must be called inside a `LocalSet`.
pub(crate) async fn accept(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::task::spawn_local(async move {
            match serve(stream).await {
                Err(e) if !gone(&e) => eprintln!("bench-peers: backend: {e:#}"),
                // However a connection ends, that is the other side's business.
                _ => {}
            }
        });
    }
}

fn gone(e: &anyhow::Error) -> bool {
    let kind = e.downcast_ref::<io::Error>().map(io::Error::kind);
    matches!(kind, Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe))
}

async fn serve(stream: TcpStream) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut inbox = Inbox { stream, bytes: Vec::new(), filled: 0 };
    let page = page();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", page.len());
    let answer = [head.as_bytes(), &page].concat();
    loop {
        let Some(end) = inbox.head().await? else { return Ok(()) };
        let key = header(&inbox.bytes[..end], "sec-websocket-key").map(str::to_owned);
        inbox.consume(end);
        let Some(key) = key else {
            inbox.stream.write_all(&answer).await?;
            continue;
        };
        let accept = derive_accept_key(key.as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        inbox.stream.write_all(answer.as_bytes()).await?;
        return echo(inbox).await;
    }
}

async fn echo(mut inbox: Inbox) -> anyhow::Result<()> {
    loop {
        let Some(head) = frame::client_head(&inbox.bytes[..inbox.filled])? else {
            if inbox.fill(16).await? == 0 {
                return Ok(());
            }
            continue;
        };
        let whole = head.bytes + head.payload;
        if inbox.filled < whole {
            ensure!(inbox.fill(whole).await? > 0, "a message was cut off");
            continue;
        }
        frame::toggle(&mut inbox.bytes[head.bytes..whole], head.mask);
        // The server's head is shorter by the mask: written in front of the payload where it lies.
        let answer = frame::server_head(head.payload);
        let start = head.bytes - answer.len();
        inbox.bytes[start..head.bytes].copy_from_slice(&answer);
        inbox.stream.write_all(&inbox.bytes[start..whole]).await?;
        inbox.consume(whole);
    }
}

/// A connection and what was read of it.
struct Inbox {
    stream: TcpStream,
    bytes: Vec<u8>,
    filled: usize,
}

impl Inbox {
    /// Reads once, with room for `whole` bytes from the start on; the count, zero at the end of the stream.
    async fn fill(&mut self, whole: usize) -> io::Result<usize> {
        // One more than is awaited: a read that fills its buffer costs another to learn that there is nothing.
        let room = (whole + 1).max(4096);
        if self.bytes.len() < room {
            self.bytes.resize(room, 0);
        }
        let read = self.stream.read(&mut self.bytes[self.filled..]).await?;
        self.filled += read;
        Ok(read)
    }

    /// Reads a request's head; its length, or `None` if the stream ends before one begins.
    async fn head(&mut self) -> anyhow::Result<Option<usize>> {
        loop {
            if let Some(at) = self.bytes[..self.filled].windows(4).position(|w| w == b"\r\n\r\n") {
                return Ok(Some(at + 4));
            }
            ensure!(self.filled < 32 * 1024, "a head without end");
            if self.fill(self.filled + 2048).await? == 0 {
                return Ok(None);
            }
        }
    }

    fn consume(&mut self, count: usize) {
        self.bytes.copy_within(count..self.filled, 0);
        self.filled -= count;
    }
}

/// The value of a header; its name is given in lower case.
pub(crate) fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let text = std::str::from_utf8(head).ok()?;
    text.lines().find_map(|line| {
        let (given, value) = line.split_once(':')?;
        given.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}
