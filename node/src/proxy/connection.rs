//! One client's connection: HTTP requests one after the other, until it closes or becomes a session.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::fmt;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderMap, HeaderValue, RETRY_AFTER, SET_COOKIE, UPGRADE};
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::announced::{self, announced};
use super::backend::Backend;
use super::balance::Affinity;
use super::error::{Error, Failure};
use super::frames::Voice;
use super::http2::{self, Chosen};
use super::limits;
use super::relay::{Early, Moved, relay};
use super::reply::{self, Reply, text};
use super::route::{Goal, Taken};
use super::screen::{MAX_FIELDS, Refusal, names_websocket};
use super::screened::{Answerable, Exchange, OpenExchange, Patience, Screened};
use super::sessions::Parties;
use super::stream::Stream;
use super::table::{Listener, Upstream};
use super::tally::{Handshake, Upgrade};
use super::tls;
use super::upgrade::Accepted;
use super::worker::{Alive, Ending, Worker};
use super::{forward, frames, headers, upgrade};
use crate::config::model::{ProxyProtocol, without_port};
use crate::config::routing::Head;

/// How long a last word to a client may take to be written and to be read.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Where a request came from and where it goes.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) client: SocketAddr,
    /// The client as backends are told of it.
    pub(super) forwarded_for: HeaderValue,
    /// What the client connected to.
    pub(super) reached: SocketAddr,
    /// As the client wrote it; empty if it wrote none (HTTP/1.0).
    pub(super) host: HeaderValue,
    /// Path and query, as the route rewrites them.
    pub(super) target: Uri,
    pub(super) upstream: Arc<Upstream>,
    /// What the client asked, and the route that took it.
    pub(super) taken: Taken,
    /// What draws it to a certain backend.
    pub(super) affinity: Affinity,
}

impl Asked {
    /// Makes the client stick to the backend that answered, where it does not already (RFC 6265).
    pub(super) fn stick(&self, answer: &mut HeaderMap, backend: &Backend) {
        if self.affinity.stuck != Some(backend.mark)
            && let Some(cookie) = self
                .upstream
                .sticky
                .as_ref()
                .and_then(|sticky| sticky.written(backend.mark, self.taken.listener.scheme()))
        {
            answer.append(SET_COOKIE, cookie);
        }
    }

    /// All tries are used up, or there was nobody to try.
    pub(super) fn unanswered(&self, failure: Option<Failure>) -> Error {
        let upstream = self.upstream.name.clone();
        match failure {
            Some(Failure::Shortage(limit)) => Error::Limited(limit.into()),
            Some(failure) => Error::Tried { upstream, failure },
            None => Error::NobodyUp(upstream),
        }
    }
}

/// A client that has just connected.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) socket: TcpStream,
    pub(super) client: SocketAddr,
    /// The address of ours that it reached.
    pub(super) local: IpAddr,
    /// What the config says of where it reached us; fixed for the life of the connection.
    pub(super) listener: Arc<Listener>,
}

/// Who asks, and where it came in: what all requests of a connection share, whatever version of HTTP they come in.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) worker: Rc<Worker>,
    pub(super) client: SocketAddr,
    /// As backends are told of it; written once, since it is the same for all requests.
    forwarded_for: HeaderValue,
    /// The address of ours that it reached.
    pub(super) local: IpAddr,
    /// What the client connected to: an address of ours, or what its PROXY header says.
    pub(super) reached: SocketAddr,
    pub(super) listener: Arc<Listener>,
    /// What its connection is good for; `None`: for any host.
    pub(super) vouched: Option<tls::Vouched>,
}

impl Caller {
    /// What takes no new requests and sessions any more, of what this client came in by.
    fn draining(&self) -> Option<Error> {
        let listener = || self.listener.drain.is_on().then_some(Error::Draining("this listener"));
        self.worker.is_draining().then_some(Error::Draining("this node")).or_else(listener)
    }

    /// From here on the bytes between this client and the backend that accepted it are a session. `early` was read of
    /// the client already; `with` is kept as long as the session lasts.
    pub(super) fn session<G: Unpin + 'static>(&self, socket: Stream, early: Bytes, accepted: Accepted, with: G) {
        let Accepted { socket: backend, early: from_backend, place, leave, terms } = accepted;
        let early = Early { from_client: early, from_backend };
        let listener = Arc::clone(&self.listener);
        let parties = Parties { client: self.client, local: self.local, place, listener, leave };
        match terms {
            None => {
                let moved = Rc::<Moved>::default();
                let moving = relay(socket, backend, early, Rc::clone(&moved));
                self.worker.sessions.open(parties, moved, moving, with);
            }
            Some(terms) => {
                let voice = Rc::new(Voice::new(terms, Arc::clone(&self.worker.tally)));
                let moved = Rc::new(Moved { voice: Some(Rc::clone(&voice)), ..Moved::default() });
                let moving = frames::relay(socket, backend, &early, Rc::clone(&moved), voice);
                self.worker.sessions.open(parties, moved, moving, with);
            }
        }
    }
}

/// What the requests of one HTTP/1 connection share.
struct Conversation {
    caller: Caller,
    exchange: Rc<Exchange>,
    accepted: RefCell<Option<Accepted>>,
    /// What is answered now is one.
    handshake: Cell<bool>,
}

/// Serves a client until its connection ends or is handed to a session.
pub(super) async fn serve(worker: Rc<Worker>, arrival: Arrival, alive: Alive) {
    let Arrival { mut socket, mut client, local, listener } = arrival;
    let mut ending = worker.ending();
    if ending.borrow().left.contains(&local) {
        return;
    }
    let table = worker.table();
    let mut reached = SocketAddr::new(local, listener.port);
    if listener.proxy_protocol != ProxyProtocol::Off {
        // Boxed: what waits for it is in no other connection's memory.
        let heard = Box::pin(announced(&mut socket, client, &listener, table.settings.head_timeout));
        let heard = tokio::select! {
            heard = heard => heard,
            () = is_over(&mut ending, local) => return,
        };
        match heard {
            Ok(Some(said)) => (client, reached) = (said.source, said.destination),
            Ok(None) => {}
            // Those who only look whether we listen come often.
            Err(error @ announced::Refusal::Closed) => {
                return tracing::debug!(%client, listener = %listener.name, reason = %error, "refused");
            }
            Err(error) => {
                worker.tally.unannounced();
                return tracing::warn!(%client, listener = %listener.name, reason = %error, "refused");
            }
        }
    }
    let forwarded_for = headers::named(client.ip());
    let mut caller =
        Caller { worker: Rc::clone(&worker), client, forwarded_for, local, reached, listener, vouched: None };
    let mut socket = match caller.listener.tls {
        None => Stream::Plain(socket),
        Some(_) => match Box::pin(secure(&caller, socket)).await {
            Some(secured) => secured,
            None => return,
        },
    };
    if caller.listener.http2 {
        match http2::chosen(&caller, &socket).await {
            Chosen::Http2 => {
                if let Stream::Tls(secured) = &mut socket {
                    caller.vouched = secured.vouched();
                }
                return Box::pin(http2::serve(caller, socket, alive)).await;
            }
            Chosen::Http1 => {}
            Chosen::Nothing => return,
        }
    }
    let settings = &table.settings;
    let head_bytes = usize::try_from(settings.head_max_bytes).unwrap_or(usize::MAX);
    let patience = Patience {
        head_bytes,
        head: settings.head_timeout,
        body: settings.body_timeout,
        idle: settings.keep_alive,
        stall: settings.tcp_user_timeout,
    };
    // The connection may last longer than this config.
    drop(table);
    let exchange = Rc::<Exchange>::default();
    let screened = Screened::new(socket, patience, Rc::clone(&exchange));
    let talk = Rc::new(Conversation { caller, exchange, accepted: RefCell::default(), handshake: Cell::default() });
    let served = Rc::clone(&talk);
    let service = service_fn(move |request| {
        let talk = Rc::clone(&served);
        // Now, not when the future is first polled: the parser reads on before that.
        let exchange = talk.exchange.begin();
        Box::pin(async move { Ok::<_, Infallible>(converse(&talk, exchange, request).await) })
    });
    let mut connection = http1::Builder::new()
        .half_close(false)
        // The screen refuses first, with a word of why.
        .max_buf_size(head_bytes.saturating_mul(2).max(16 * 1024))
        .max_headers(MAX_FIELDS + 1)
        .serve_connection(TokioIo::new(screened), service);
    let done = loop {
        tokio::select! {
            done = poll_fn(|cx| connection.poll_without_shutdown(cx)) => break done,
            changed = ending.changed() => if changed.is_err() { return },
        }
        if ending.borrow().left.contains(&local) {
            return;
        }
        let over = ending.borrow().stopping || ending.borrow().draining;
        // One that is told so says "Connection: close", which no 101 may; a handshake is a connection's last request anyway.
        if over && !talk.handshake.get() {
            Pin::new(&mut connection).graceful_shutdown();
        }
    };
    let parts = connection.into_parts();
    let (socket, refusal) = parts.io.into_inner().into_parts();
    if let Some(refusal) = refusal {
        worker.tally.screened(refusal.refusal);
        tracing::info!(%client, status = refusal.refusal.status().as_u16(), reason = %refusal.refusal, "refused");
        return refuse(socket, refusal).await;
    }
    let accepted = talk.accepted.take();
    match (done, accepted) {
        (Ok(()), Some(accepted)) => {
            talk.caller.session(socket, parts.read_buf, accepted, alive);
        }
        (Ok(()), None) => linger(socket).await,
        (Err(error), _) => {
            if error.is_parse() {
                // Passed the screen, not the parser, which has answered it.
                tracing::info!(%client, reason = %error, "refused");
                return linger(socket).await;
            }
            tracing::debug!(%client, %error, "connection ended");
        }
    }
}

/// Meets a client in TLS, within the time for a head. `None`: it is gone.
async fn secure(caller: &Caller, socket: TcpStream) -> Option<Stream> {
    let (client, listener) = (caller.client, &caller.listener);
    // Where the terms are none nobody listens; this one came just before.
    let Some(Ok(terms)) = &listener.tls else { return None };
    let patience = caller.worker.table().settings.head_timeout;
    let mut ending = caller.worker.ending();
    let met = tokio::select! {
        met = tokio::time::timeout(patience, tls::accept(socket, terms)) => met,
        () = is_over(&mut ending, caller.local) => return None,
    };
    let (why, left) = match met {
        Ok(Ok(secured)) => {
            listener.handshakes.count(if secured.is_resumed() { Handshake::Resumed } else { Handshake::Full });
            return Some(Stream::Tls(secured));
        }
        Ok(Err(tls::Failed { why, socket })) => (why.to_string(), Some(socket)),
        Err(_) => (format!("no handshake within {patience:?}"), None),
    };
    listener.handshakes.count(Handshake::Failed);
    tracing::debug!(%client, listener = %listener.name, reason = why, "no TLS");
    if let Some(socket) = left {
        linger(Stream::Plain(socket)).await;
    }
    None
}

/// Answers one request of HTTP/1.
async fn converse(talk: &Conversation, exchange: OpenExchange, request: Request<Incoming>) -> Response<Reply> {
    let websocket = asks_websocket(&request);
    talk.handshake.set(websocket);
    let (mut response, accepted) = answer(&talk.caller, request, || talk.exchange.refusal()).await;
    *talk.accepted.borrow_mut() = accepted;
    let last = websocket || talk.caller.draining().is_some();
    if talk.exchange.refusal().is_some() || (last && response.status() != StatusCode::SWITCHING_PROTOCOLS) {
        // The screen stopped reading, so that this connection cannot be HTTP again; or the client shall go elsewhere.
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response.map(|body| body.during(exchange))
}

fn asks_websocket(request: &Request<Incoming>) -> bool {
    request.headers().get_all(UPGRADE).iter().any(|v| names_websocket(v.as_bytes()))
}

/// Answers one request, with a backend if it is a handshake that one agreed to. It never fails, since every failure is
/// an answer. `broken` says what has been found wrong with the request's body meanwhile.
pub(super) async fn answer(
    caller: &Caller,
    request: Request<Incoming>,
    broken: impl FnOnce() -> Option<Refusal>,
) -> (Response<Reply>, Option<Accepted>) {
    let websocket = asks_websocket(&request);
    let tally = &caller.worker.tally;
    // Nothing is cloned for a line that nobody asked for. Never the query: people put tokens there.
    let line = tracing::enabled!(target: "access", tracing::Level::DEBUG)
        .then(|| (Instant::now(), request.method().clone(), request.uri().path().to_owned()));
    let taken = caller.draining().map_or_else(|| route(caller, &request, websocket), Err);
    let (taken, answered) = match taken {
        Ok(taken) => {
            let answered = follow(caller, &taken, request, websocket).await;
            (Some(taken), answered)
        }
        Err(error) => (None, Err(error)),
    };
    let declined = answered.is_ok();
    let (mut response, accepted) = match (answered, broken()) {
        (Ok(answered), _) => answered,
        // Whatever the backend made of half a body, the client is told what was wrong with it.
        (Err(_), Some(refusal)) => (text(refusal.status(), &refusal.to_string()), None),
        (Err(error), None) => {
            tally.unanswered(&error);
            (explain(caller, &error), None)
        }
    };
    if let Some(taken) = &taken {
        taken.change_response(response.headers_mut());
    }
    match response.status() {
        StatusCode::SWITCHING_PROTOCOLS => tally.upgrade(Upgrade::Accepted),
        _ if websocket && declined => tally.upgrade(Upgrade::Declined),
        _ if websocket => tally.upgrade(Upgrade::Failed),
        status => {
            tally.request(status);
            if let Some((began, method, path)) = line {
                tracing::debug!(
                    target: "access",
                    client = %caller.client,
                    listener = %caller.listener.name,
                    %method,
                    path,
                    status = status.as_u16(),
                    seconds = began.elapsed().as_secs_f32(),
                    "request answered"
                );
            }
        }
    }
    (response, accepted)
}

/// Which route takes a request.
fn route(caller: &Caller, request: &Request<Incoming>, websocket: bool) -> Result<Taken, Error> {
    let uri = request.uri();
    // RFC 9112 section 3.2.2: a target that is a whole URL overrules Host.
    let host = match uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => Some(request.headers().get(HOST).cloned().unwrap_or(HeaderValue::from_static(""))),
    };
    let host = host.ok_or(Error::Request("the target's host is no host"))?;
    let name = host.to_str().map_err(|_| Error::Request("Host is no host"))?;
    if caller.vouched.as_ref().is_some_and(|vouched| !vouched.speaks_for(without_port(name))) {
        return Err(Error::Misdirected(name.to_owned()));
    }
    let table = caller.worker.table();
    let head = Head {
        listener: &caller.listener.name,
        host: name,
        path: uri.path(),
        query: uri.query(),
        method: request.method(),
        headers: request.headers(),
        websocket,
    };
    let route = table.routes.find(&head);
    let route = route.ok_or_else(|| Error::NoRoute { host: name.to_owned(), path: uri.path().to_owned() })?;
    Ok(Taken {
        route: Arc::clone(route),
        listener: Arc::clone(&caller.listener),
        client: caller.client.ip(),
        asked: uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")),
        host,
    })
}

/// Does what the route says.
async fn follow(
    caller: &Caller,
    taken: &Taken,
    request: Request<Incoming>,
    websocket: bool,
) -> Result<(Response<Reply>, Option<Accepted>), Error> {
    if websocket {
        taken.admit(request.headers())?;
    }
    let upstream = match &taken.route.goal {
        Goal::Upstream(upstream) => Arc::clone(upstream),
        Goal::Redirect(redirect) => return Ok((reply::redirect(redirect.status, taken.location(redirect)?), None)),
        Goal::Respond(respond) => return Ok((reply::fixed(respond), None)),
    };
    let target = Uri::from(taken.target()?);
    let (client, reached, host, taken) = (caller.client, caller.reached, taken.host.clone(), taken.clone());
    let (on, sticky) = (upstream.hash_on.as_ref(), upstream.sticky.as_ref());
    let affinity = Affinity::of(on, sticky, client.ip(), request.uri(), request.headers());
    let forwarded_for = caller.forwarded_for.clone();
    let asked = Asked { client, forwarded_for, reached, host, target, upstream, affinity, taken };
    if websocket {
        // Boxed: it is in no plain request's memory, which is moved about for each of them.
        return Box::pin(upgrade::open(&caller.worker, &asked, request)).await;
    }
    Ok((forward::forward(&caller.worker, &asked, request).await?, None))
}

fn explain(caller: &Caller, error: &Error) -> Response<Reply> {
    let (status, client, listener) = (error.status(), caller.client, &caller.listener.name);
    if matches!(error, Error::Limited(_) | Error::Draining(_)) {
        // A storm of them must not become one of lines; the metrics count them.
        tracing::debug!(%client, %listener, status = status.as_u16(), reason = %error, "refused");
    } else if error.is_clients() {
        tracing::info!(%client, %listener, status = status.as_u16(), reason = %error, "refused");
    } else {
        tracing::warn!(%client, %listener, status = status.as_u16(), reason = %error, "not answered");
    }
    let mut response = text(status, &error.to_string());
    match error {
        Error::Version => {
            response.headers_mut().insert("sec-websocket-version", HeaderValue::from_static("13"));
        }
        Error::NobodyUp(_) | Error::Draining(_) => {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        Error::Limited(refusal) => {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(refusal.retry_after()));
        }
        _ => {}
    }
    response
}

/// Ends when this node stops, or when the address is on another one.
pub(super) async fn is_over(ending: &mut watch::Receiver<Ending>, local: IpAddr) {
    loop {
        {
            let now = ending.borrow_and_update();
            if now.stopping || now.left.contains(&local) {
                return;
            }
        }
        if ending.changed().await.is_err() {
            return;
        }
    }
}

/// Answers a client that cannot be let in at all, whatever it asks. `alive` is kept as long.
pub(super) async fn turn_away<G>(socket: Stream, why: limits::Refusal, alive: G) {
    let _alive = alive;
    let after = format!("Retry-After: {}\r\n", why.retry_after());
    last_word(socket, StatusCode::SERVICE_UNAVAILABLE, &why, &after).await;
}

/// Says on the bare socket why nothing more is read from it.
async fn refuse(socket: Stream, Answerable { refusal, clean }: Answerable) {
    if clean { last_word(socket, refusal.status(), &refusal, "").await } else { linger(socket).await }
}

/// An answer written by hand, then the end. `more`: whole field lines.
async fn last_word(mut socket: Stream, status: StatusCode, why: &dyn fmt::Display, more: &str) {
    let body = format!("{why}\n");
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n{more}Connection: close\r\n\r\n{body}",
        body.len()
    );
    if let Ok(Ok(())) = tokio::time::timeout(LAST_WORD, socket.write_all(answer.as_bytes())).await {
        linger(socket).await;
    }
}

/// Closes so that the last answer arrives: closing with unread bytes would make the kernel send a reset, which can
/// overtake it.
async fn linger(mut socket: Stream) {
    let drained = async {
        socket.shutdown().await?;
        let mut left = 256 * 1024_usize;
        let mut sink = [0; 4096];
        while left > 0 {
            let n = socket.read(&mut sink).await?;
            if n == 0 {
                break;
            }
            left = left.saturating_sub(n);
        }
        std::io::Result::Ok(())
    };
    // Whether the client heard it out is its own business.
    let _ = tokio::time::timeout(LAST_WORD, drained).await;
}
