//! A data plane on addresses of its own, with backends to watch.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::config::model::{
    self, Backend, Balance, Check, CheckKind, Config, Listener, Name, Route, Timeouts, Upstream,
};
use crate::demo::echo;
use crate::proxy::{Absent, BackendReport, Listening, Proxy, Reach, Report, Settings, start};

/// Longer than anything here takes; shorter than anybody waits.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A loopback address and port nobody else uses: outgoing connections come from 127.0.0.1, tests from their own.
pub(super) fn free_address() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let n = std::process::id().wrapping_mul(251).wrapping_add(NEXT.fetch_add(1, SeqCst));
    let [_, _, b, c] = n.to_be_bytes();
    let ip = Ipv4Addr::new(127, 77, b, c.max(1));
    std::net::TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
}

pub(super) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(super) fn active() -> Backend {
    Backend::default()
}

/// An upstream that is never checked, so that a backend sees only clients.
pub(super) fn unchecked(balance: Balance, backends: &[SocketAddr]) -> Upstream {
    let check = Check { kind: CheckKind::None, ..Check::default() };
    let backends = backends.iter().map(|a| ((*a).into(), active())).collect();
    Upstream { balance, check, backends, ..Upstream::default() }
}

pub(super) fn config(listener: SocketAddr, upstream: Upstream) -> Config {
    Config {
        listeners: [(name("main"), Listener::at(listener))].into(),
        routes: [(name("all"), Arc::new(Route::to(name("u"))))].into(),
        upstreams: [(name("u"), Arc::new(upstream))].into(),
        ..Config::default()
    }
}

/// Limits and timers, wherever a config has them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) head_bytes: u32,
    pub(super) head: Duration,
    pub(super) body: Duration,
    pub(super) keep_alive: Duration,
    pub(super) upgrade: Duration,
    pub(super) response: Duration,
    pub(super) tries: u32,
    pub(super) session_idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let (settings, timeouts) = (model::Settings::default(), Timeouts::default());
        Self {
            head_bytes: settings.head_max_bytes,
            head: settings.head_timeout,
            body: settings.body_timeout,
            keep_alive: settings.keep_alive,
            upgrade: timeouts.upgrade,
            response: timeouts.response,
            tries: timeouts.retries + 1,
            session_idle: timeouts.idle.unwrap(),
        }
    }
}

impl Limits {
    /// The config with these.
    pub(super) fn put(self, mut config: Config) -> Config {
        let settings = &mut config.settings;
        (settings.head_max_bytes, settings.head_timeout) = (self.head_bytes, self.head);
        (settings.body_timeout, settings.keep_alive) = (self.body, self.keep_alive);
        for upstream in config.upstreams.values_mut() {
            let timeouts = &mut Arc::make_mut(upstream).timeouts;
            (timeouts.upgrade, timeouts.response) = (self.upgrade, self.response);
            (timeouts.retries, timeouts.idle) = (self.tries - 1, Some(self.session_idle));
        }
        config
    }
}

/// A running data plane.
pub(super) struct Rig {
    pub(super) address: SocketAddr,
    pub(super) config: watch::Sender<Arc<Config>>,
    pub(super) reach: watch::Sender<Arc<Reach>>,
    pub(super) proxy: Proxy,
}

impl Rig {
    pub(super) async fn start(upstream: Upstream) -> Self {
        Self::limited(upstream, Limits::default()).await
    }

    pub(super) async fn limited(upstream: Upstream, limits: Limits) -> Self {
        Self::of(limits.put(config(free_address(), upstream)), |_| ()).await
    }

    /// With other settings than the usual ones.
    pub(super) async fn with(upstream: Upstream, change: impl FnOnce(&mut Settings)) -> Self {
        Self::of(config(free_address(), upstream), change).await
    }

    /// Runs this config, whose one listener is `main`.
    pub(super) async fn of(config: Config, change: impl FnOnce(&mut Settings)) -> Self {
        let address = config.listeners["main"].address;
        let config = watch::Sender::new(Arc::new(config));
        let here = Reach { away: BTreeSet::new(), absent: Absent::CannotListen };
        let reach = watch::Sender::new(Arc::new(here));
        let mut settings = Settings { workers: 2, busy_poll: false, zone: None, keys: None, dns: Vec::new() };
        change(&mut settings);
        let proxy = start(&settings, config.subscribe(), reach.subscribe()).unwrap();
        let rig = Self { address, config, reach, proxy };
        rig.eventually("bound", |r| r.listeners.iter().all(|l| l.state == Listening::Bound)).await;
        rig
    }

    /// Changes the one upstream.
    pub(super) fn edit(&self, change: impl FnOnce(&mut Upstream)) {
        let mut config = Config::clone(&self.config.borrow());
        change(Arc::make_mut(config.upstreams.get_mut("u").unwrap()));
        self.config.send_replace(Arc::new(config));
    }

    pub(super) async fn eventually(&self, what: &str, holds: impl Fn(&Report) -> bool) -> Report {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let report = self.proxy.handle().report();
            if holds(&report) {
                return report;
            }
            assert!(tokio::time::Instant::now() < deadline, "never {what}: {report:#?}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(super) fn backend(&self, address: SocketAddr) -> BackendReport {
        self.proxy.handle().report().backends.into_iter().find(|b| b.address == address).unwrap()
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Opens a session; says which backend answered.
    pub(super) async fn session(&self) -> (WebSocketStream<TcpStream>, String) {
        self.try_session().await.unwrap()
    }

    pub(super) async fn try_session(&self) -> tungstenite::Result<(WebSocketStream<TcpStream>, String)> {
        let url = format!("ws://{}/chat", self.address);
        let opening = tokio_tungstenite::client_async(url, self.connect().await);
        let (socket, response) = tokio::time::timeout(PATIENCE, opening).await.unwrap()?;
        let backend = response.headers().get(echo::BACKEND).map(|v| v.to_str().unwrap().to_owned());
        Ok((socket, backend.unwrap_or_default()))
    }

    /// Sends bytes, returns all that comes until the end of the stream.
    pub(super) async fn say(&self, bytes: &[u8]) -> String {
        let mut socket = self.connect().await;
        socket.write_all(bytes).await.unwrap();
        rest(&mut socket).await
    }
}

/// All that comes until the end of the stream.
pub(super) async fn rest(socket: &mut TcpStream) -> String {
    let mut all = Vec::new();
    tokio::time::timeout(PATIENCE, socket.read_to_end(&mut all)).await.expect("the stream ends").unwrap();
    String::from_utf8(all).unwrap()
}

/// Reads until the text ends so.
pub(super) async fn until(socket: &mut TcpStream, end: &str) -> String {
    let mut all = String::new();
    let reading = async {
        while !all.ends_with(end) {
            all.push(socket.read_u8().await.unwrap() as char);
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("the stream never came to {end:?}"));
    all
}

pub(super) async fn echoes<S>(socket: &mut WebSocketStream<S>, text: &str)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    socket.send(Message::text(text)).await.unwrap();
    let answer = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(answer, Message::text(text));
}

/// The only session of `rig` echoes, is counted, and is no more once its client has closed it.
pub(super) async fn lives_and_ends<S>(rig: &Rig, backend: SocketAddr, mut socket: WebSocketStream<S>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    echoes(&mut socket, "hello").await;
    echoes(&mut socket, &"x".repeat(3 << 20)).await;
    let seen = rig.backend(backend);
    assert_eq!((seen.sessions, seen.sessions_total, rig.proxy.handle().report().sessions), (1, 1, 1));
    socket.close(None).await.unwrap();
    while socket.next().await.is_some_and(|m| m.is_ok()) {}
    drop(socket);
    rig.eventually("ended", |r| r.sessions == 0 && r.backends[0].sessions == 0).await;
}

/// Two ends of one connection.
pub(in crate::proxy) async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (near, listener.accept().await.unwrap().0)
}

/// An echo backend.
pub(super) async fn echo_backend(name: &str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(echo::serve(listener, name.to_owned()));
    address
}

/// A backend that does what a test wants, and counts who came.
#[derive(Clone)]
pub(super) struct Spy {
    pub(super) address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl Spy {
    pub(super) async fn new<F: Future<Output = ()> + Send + 'static>(
        serve: impl Fn(TcpStream, usize) -> F + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let spy = Self { address: listener.local_addr().unwrap(), connections: Arc::default() };
        let counter = Arc::clone(&spy.connections);
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let nth = counter.fetch_add(1, SeqCst);
                tokio::spawn(serve(socket, nth));
            }
        });
        spy
    }

    /// Answers each request head it reads with the next of these bytes; closes after the last.
    pub(super) async fn answering(answers: &'static [&'static str]) -> Self {
        Self::new(move |mut socket, _| async move {
            for answer in answers {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    match socket.read_u8().await {
                        Ok(byte) => head.push(byte),
                        Err(_) => return,
                    }
                }
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
        })
        .await
    }

    pub(super) fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

/// An address where nobody listens.
pub(super) fn dead_address() -> SocketAddr {
    free_address()
}
