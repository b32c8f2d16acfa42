//! The demo's clients: sessions that are held, and a prober that opens a new one again and again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{WebSocketStream, client_async};

use super::echo::BACKEND;

/// What the clients have seen.
#[derive(Debug, Clone, Default)]
pub(super) struct Seen {
    pub(super) held: usize,
    pub(super) broken: usize,
    pub(super) reconnected: usize,
    /// From the last answer before to the first answer after, newest last.
    pub(super) outages: Vec<Duration>,
    /// Set while new connections fail.
    pub(super) out_since: Option<Instant>,
    /// When each backend first answered.
    pub(super) first: BTreeMap<String, Instant>,
}

/// The clients' shared notes.
#[derive(Clone, Default)]
pub(super) struct Notes(Arc<Mutex<Seen>>);

impl Notes {
    pub(super) fn now(&self) -> Seen {
        self.with(|seen| seen.clone())
    }

    fn with<T>(&self, f: impl FnOnce(&mut Seen) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

type Socket = WebSocketStream<TcpStream>;

/// A new session, and the backend that answered.
async fn open(front: SocketAddr) -> anyhow::Result<(Socket, String)> {
    let attempt = async {
        let stream = TcpStream::connect(front).await?;
        stream.set_nodelay(true)?;
        let (socket, response) = client_async(format!("ws://{front}/"), stream).await?;
        let backend = response.headers().get(BACKEND).and_then(|b| b.to_str().ok()).unwrap_or("?").to_owned();
        anyhow::Ok((socket, backend))
    };
    tokio::time::timeout(Duration::from_millis(500), attempt).await.context("no answer in time")?
}

async fn echo(socket: &mut Socket, text: &str) -> anyhow::Result<()> {
    let exchange = async {
        socket.send(Message::text(text)).await?;
        let back = socket.next().await.context("closed")??;
        anyhow::ensure!(back.to_text().is_ok_and(|t| t == text), "not what was sent");
        Ok(())
    };
    tokio::time::timeout(Duration::from_secs(1), exchange).await.context("no echo in time")?
}

/// Holds one session, and opens it again when it breaks; a message about each half second.
pub(super) async fn hold(front: SocketAddr, notes: Notes, number: usize) {
    let mut before = false;
    loop {
        let Ok((mut socket, _)) = open(front).await else {
            tokio::time::sleep(Duration::from_millis(20)).await;
            continue;
        };
        notes.with(|seen| {
            seen.held += 1;
            seen.reconnected += usize::from(before);
        });
        before = true;
        while echo(&mut socket, &format!("session {number}")).await.is_ok() {
            // A socket that dies in between is noticed at once.
            let pause = Duration::from_millis(400 + 10 * u64::try_from(number % 20).unwrap_or(0));
            if let Ok(Some(Err(_)) | None) = tokio::time::timeout(pause, socket.next()).await {
                break;
            }
        }
        notes.with(|seen| {
            seen.held -= 1;
            seen.broken += 1;
        });
    }
}

/// Opens a session, echoes once, closes, each 10 ms: what a new client would meet.
pub(super) async fn probe(front: SocketAddr, notes: Notes) {
    let mut good = Instant::now();
    loop {
        let outcome = async {
            let (mut socket, backend) = open(front).await?;
            echo(&mut socket, "new").await?;
            anyhow::Ok((socket, backend))
        };
        match outcome.await {
            Ok((mut socket, backend)) => {
                let now = Instant::now();
                notes.with(|seen| {
                    seen.first.entry(backend).or_insert(now);
                    if seen.out_since.take().is_some() {
                        seen.outages.push(now - good);
                    }
                });
                good = now;
                // How it takes a goodbye is not what is measured.
                let _ = socket.close(None).await;
            }
            Err(_) => notes.with(|seen| {
                seen.out_since.get_or_insert(good);
            }),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
