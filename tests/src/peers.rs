//! Who stands at both ends of the proxy: backends that echo, clients that hold, probe and hurry.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async, client_async};

use crate::clock::now;
use crate::story::Seen;

/// The response header in which a backend says its name.
pub const BACKEND: &str = "x-backend";

/// A task that ends when this is dropped.
pub struct Running(JoinHandle<()>);

impl Running {
    /// Starts it.
    pub fn start(task: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(task))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A backend in this process. Dropped, it is gone with all its connections.
pub struct Backend {
    /// Where it listens.
    pub address: SocketAddr,
    /// Handshakes completed so far.
    pub sessions: Arc<AtomicU64>,
    /// Connections taken so far, health checks among them.
    pub connections: Arc<AtomicU64>,
    _running: Running,
}

impl Backend {
    /// Listens on `address` (port 0: any) and calls itself `name`.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(address: SocketAddr, name: &str) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(address).await.with_context(|| format!("cannot bind {address}"))?;
        let address = listener.local_addr()?;
        let sessions = Arc::new(AtomicU64::new(0));
        let connections = Arc::new(AtomicU64::new(0));
        let running = Running::start(serve(listener, name.to_owned(), Arc::clone(&sessions), Arc::clone(&connections)));
        Ok(Self { address, sessions, connections, _running: running })
    }
}

async fn serve(listener: TcpListener, name: String, sessions: Arc<AtomicU64>, connections: Arc<AtomicU64>) {
    let mut open = JoinSet::new();
    loop {
        tokio::select! {
            Some(_) = open.join_next() => {}
            accepted = listener.accept() => {
                let Ok((socket, _)) = accepted else { continue };
                connections.fetch_add(1, Ordering::Relaxed);
                open.spawn(echo(socket, name.clone(), Arc::clone(&sessions)));
            }
        }
    }
}

// The type is the callback's of tungstenite.
#[allow(clippy::result_large_err)]
async fn echo(socket: TcpStream, name: String, sessions: Arc<AtomicU64>) {
    let _ = socket.set_nodelay(true);
    let say_name = |_: &Request, mut response: Response| {
        if let Ok(name) = name.parse() {
            response.headers_mut().insert(BACKEND, name);
        }
        Ok(response)
    };
    let Ok(mut socket) = accept_hdr_async(socket, say_name).await else { return };
    sessions.fetch_add(1, Ordering::Relaxed);
    while let Some(Ok(message)) = socket.next().await {
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            return;
        }
    }
}

/// One WebSocket to whoever answers at an address.
pub struct Session {
    /// Which backend answered; empty if it did not say.
    pub backend: String,
    socket: WebSocketStream<TcpStream>,
}

impl Session {
    /// Connects and upgrades.
    ///
    /// # Errors
    /// Refused, unreachable, or the answer is no 101.
    pub async fn open(target: SocketAddr) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(target).await?;
        socket.set_nodelay(true)?;
        let (socket, response) = client_async(format!("ws://{target}/"), socket).await?;
        let backend = response.headers().get(BACKEND).and_then(|v| v.to_str().ok()).unwrap_or_default().to_owned();
        Ok(Self { backend, socket })
    }

    /// Sends a message and wants exactly the same back.
    ///
    /// # Errors
    /// The session broke, or something else came back.
    pub async fn echo(&mut self, payload: &[u8]) -> anyhow::Result<()> {
        self.socket.send(Message::binary(payload.to_vec())).await?;
        let answer = self.socket.next().await.context("the session ended")??;
        ensure!(answer.is_binary(), "instead of the echo: {answer:?}");
        ensure!(answer.into_data() == payload, "the echo is not what was sent");
        Ok(())
    }

    /// The same, within a time.
    ///
    /// # Errors
    /// As `echo`, or no answer in time.
    pub async fn echo_within(&mut self, payload: &[u8], limit: Duration) -> anyhow::Result<()> {
        timeout(limit, self.echo(payload)).await.context("no echo in time")?
    }
}

/// Opens a new connection every `every`, upgrades it, and has one message echoed, whatever became of those before.
pub fn probe(target: SocketAddr, every: Duration, limit: Duration, tell: UnboundedSender<Seen>) -> Running {
    Running::start(async move {
        let mut tick = tokio::time::interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut open = JoinSet::new();
        loop {
            tokio::select! {
                Some(_) = open.join_next() => {}
                _ = tick.tick() => {
                    open.spawn(probe_once(target, limit, tell.clone()));
                }
            }
        }
    })
}

async fn probe_once(target: SocketAddr, limit: Duration, tell: UnboundedSender<Seen>) {
    let started = now();
    let once = async {
        let mut session = Session::open(target).await?;
        session.echo(b"probe").await?;
        Ok::<String, anyhow::Error>(session.backend)
    };
    let answer = timeout(limit, once).await.unwrap_or_else(|_| Err(anyhow::anyhow!("no answer in {limit:?}")));
    let ended = now();
    let _ = tell.send(match answer {
        Ok(backend) => Seen::Answered { started, ended, backend },
        Err(e) => Seen::Unanswered { started, ended, why: format!("{e:#}") },
    });
}

/// How long a held session waits for an echo, and for a new connection, before it calls it broken.
const HELD_LIMIT: Duration = Duration::from_secs(2);
/// How long one attempt to reconnect may take: a lost SYN is sent again only after a second, a new one at once.
const ATTEMPT_LIMIT: Duration = Duration::from_millis(300);

/// Keeps `count` sessions open, echoing once every `pace` on each, and reconnects what breaks.
pub fn hold(target: SocketAddr, count: usize, pace: Duration, tell: UnboundedSender<Seen>) -> Running {
    Running::start(async move {
        let mut all = JoinSet::new();
        for session in 0..count {
            all.spawn(hold_one(target, session, pace, tell.clone()));
            // Beating in step would measure the burst.
            tokio::time::sleep(pace / u32::try_from(count).unwrap_or(1).max(1)).await;
        }
        all.join_all().await;
    })
}

async fn hold_one(target: SocketAddr, session: usize, pace: Duration, tell: UnboundedSender<Seen>) {
    let mut number = 0_u64;
    let mut first = true;
    loop {
        let mut held = loop {
            match timeout(ATTEMPT_LIMIT, Session::open(target)).await {
                Ok(Ok(held)) => break held,
                Ok(Err(_)) | Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        let backend = held.backend.clone();
        let at = now();
        let _ = tell.send(if first {
            Seen::Opened { session, at, backend }
        } else {
            Seen::Reconnected { session, at, backend }
        });
        first = false;
        let why = loop {
            number += 1;
            let payload = format!("session {session} message {number}");
            if let Err(e) = held.echo_within(payload.as_bytes(), HELD_LIMIT).await {
                break e;
            }
            tokio::time::sleep(pace).await;
        };
        let _ = tell.send(Seen::Broken { session, at: now(), why: format!("{why:#}") });
    }
}

/// Busy sessions: each sends `size` bytes every `pace` (zero: as fast as echoes return) and checks every byte that comes back.
pub fn hurry(target: SocketAddr, count: usize, size: usize, pace: Duration, tell: UnboundedSender<Seen>) -> Running {
    Running::start(async move {
        let mut all = JoinSet::new();
        for session in 0..count {
            all.spawn(hurry_one(target, session, size, pace, tell.clone()));
            tokio::time::sleep(pace / u32::try_from(count).unwrap_or(1).max(1)).await;
        }
        all.join_all().await;
    })
}

async fn hurry_one(target: SocketAddr, session: usize, size: usize, pace: Duration, tell: UnboundedSender<Seen>) {
    let mut payload: Vec<u8> = (0..size).map(|i| u8::try_from((i * 31 + session) % 251).unwrap_or(0)).collect();
    let mut held = match timeout(HELD_LIMIT, Session::open(target)).await {
        Ok(Ok(held)) => held,
        Ok(Err(e)) => return broken(&tell, session, &e),
        Err(e) => return broken(&tell, session, &e.into()),
    };
    let _ = tell.send(Seen::Opened { session, at: now(), backend: held.backend.clone() });
    let mut tick = tokio::time::interval(pace.max(Duration::from_nanos(1)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if !pace.is_zero() {
            tick.tick().await;
        }
        // No two messages are alike: an echo of the one before does not pass.
        payload.rotate_left(1);
        let started = now();
        if let Err(e) = held.echo_within(&payload, HELD_LIMIT).await {
            return broken(&tell, session, &e);
        }
        let _ = tell.send(Seen::Echoed { started, ended: now() });
    }
}

fn broken(tell: &UnboundedSender<Seen>, session: usize, why: &anyhow::Error) {
    let _ = tell.send(Seen::Broken { session, at: now(), why: format!("{why:#}") });
}
