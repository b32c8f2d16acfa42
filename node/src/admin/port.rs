//! The node port behind TLS: who connects shows a certificate of this cluster, or does not get in.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use tandem_proto::papers::{Access, Current, Error, Identity, Papers, Who};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

use super::caller::{Caller, Role, Source};

/// A handshake takes milliseconds; who takes longer holds a place that others need.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Handshakes under way at once.
const AT_ONCE: usize = 128;
/// Each address's refusals are said once in this time.
const SAID_EVERY: Duration = Duration::from_secs(10);
/// Addresses remembered for that.
const REMEMBERED: usize = 256;

/// What a port asks of those who connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asks {
    /// A certificate of this cluster.
    Certificate,
    /// Nothing: it is where newcomers come, who have none.
    Nothing,
}

impl Asks {
    fn config(self, papers: &Papers) -> Result<ServerConfig, Error> {
        match self {
            Self::Certificate => papers.server(),
            Self::Nothing => papers.door(),
        }
    }
}

/// One connection, and who is at its other end.
#[derive(Debug)]
pub struct Link {
    stream: TlsStream<TcpStream>,
    caller: Caller,
}

/// Connections whose handshake went well, until the stream is dropped.
pub fn incoming(listener: TcpListener, papers: Current, asks: Asks) -> ReceiverStream<io::Result<Link>> {
    let (give, links) = mpsc::channel(16);
    tokio::spawn(accept(listener, papers, asks, give));
    ReceiverStream::new(links)
}

async fn accept(listener: TcpListener, mut papers: Current, asks: Asks, give: mpsc::Sender<io::Result<Link>>) {
    let (room, said) = (Arc::new(Semaphore::new(AT_ONCE)), Arc::new(Said::default()));
    let mut config = current(&papers.borrow_and_update(), asks);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = give.closed() => return,
        };
        let Ok((stream, from)) = accepted else {
            // Out of descriptors or memory: others give some back.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        if papers.has_changed().unwrap_or(false) {
            let now = papers.borrow_and_update().clone();
            config = current(&now, asks).or(config);
        }
        let Some((config, cluster)) = config.clone() else { continue };
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let (give, said) = (give.clone(), Arc::clone(&said));
        tokio::spawn(async move {
            let _place = place;
            match shake(stream, from, config, &cluster, asks).await {
                Ok(link) => drop(give.send(Ok(link)).await),
                Err(why) => said.say(from, &why),
            }
        });
    }
}

fn current(papers: &Papers, asks: Asks) -> Option<(Arc<ServerConfig>, Arc<str>)> {
    let config = asks.config(papers).inspect_err(|e| tracing::error!("the node port keeps its old certificate: {e}"));
    config.ok().map(|config| (Arc::new(config), papers.identity.cluster.as_str().into()))
}

async fn shake(
    stream: TcpStream,
    from: SocketAddr,
    config: Arc<ServerConfig>,
    cluster: &str,
    asks: Asks,
) -> Result<Link, String> {
    let _ = stream.set_nodelay(true);
    let shaken = tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await;
    let stream = shaken.map_err(|_| "no TLS handshake within 5 s".to_owned())?.map_err(|e| e.to_string())?;
    let source = Source::Address(from);
    if asks == Asks::Nothing {
        return Ok(Link { stream, caller: Caller::anyone(source) });
    }
    let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let identity = shown.and_then(|c| Identity::of_certificate(c)).ok_or("its certificate names nobody")?;
    if identity.cluster != cluster {
        return Err(format!("its certificate is of another cluster: {identity}"));
    }
    Ok(Link { stream, caller: caller(identity.who, source) })
}

fn caller(who: Who, source: Source) -> Caller {
    let name = who.to_string();
    match who {
        Who::Node(id) => Caller { name, role: Role::Proxy(id), source },
        Who::Witness(id) => Caller { name, role: Role::Witness(id), source },
        Who::User { name, access } => {
            let role = match access {
                Access::Viewer => Role::Viewer,
                Access::Operator => Role::Operator,
                Access::Admin => Role::Admin,
            };
            Caller { name, role, source }
        }
    }
}

/// Who knocks in vain does so often: each is spoken of now and then.
#[derive(Default)]
struct Said(Mutex<BTreeMap<IpAddr, Instant>>);

impl Said {
    fn say(&self, from: SocketAddr, why: &str) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        last.retain(|_, at| now.duration_since(*at) < SAID_EVERY);
        if last.contains_key(&from.ip()) || last.len() >= REMEMBERED {
            return;
        }
        last.insert(from.ip(), now);
        tracing::warn!(peer = %from, "refused: {why}");
    }
}

impl Connected for Link {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Link {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Link {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
