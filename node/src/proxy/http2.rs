//! One client's connection in HTTP/2 (RFC 9113): its requests and WebSockets (RFC 8441) are answered as those of
//! HTTP/1.1 are, each stream by a task of its own on the same worker.
//!
//! ```text
//!  request ─► check P ─┬─ GET, POST, … ─────────► connection::answer ─► the answer, trailers included
//!                      └─ CONNECT, websocket ───► the same, as the handshake it stands for: 101 ─► 200, a session
//! ```
//! What bounds a client: [`MOST_STREAMS`] at once; heads as large as those of HTTP/1; windows of [`STREAM_WINDOW`] and
//! [`CONNECTION_WINDOW`] bytes; a connection without a stream lives as long as one of HTTP/1 without a request; one that
//! does not answer a ping is dropped; one that resets more streams than it lets be answered is dropped too.

mod check;
mod streams;
mod tunnel;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::handshake::client::generate_key;

pub(super) use self::streams::Running;
use self::streams::Streams;
pub(super) use self::tunnel::Tunnel;
use super::connection::{Caller, answer, is_over};
use super::peek::{More, peek};
use super::reply::{Reply, text};
use super::stream::Stream;
use crate::config::model::Settings;

/// Streams one connection may have at once, sessions included. A client with more to ask opens another connection.
const MOST_STREAMS: u32 = 128;
/// What a client may send on one stream before a backend took it, in bytes.
const STREAM_WINDOW: u32 = 256 * 1024;
/// The same for all streams of a connection together.
const CONNECTION_WINDOW: u32 = 1024 * 1024;
/// What is kept for one stream that the client does not take yet, in bytes.
const UNSENT: usize = 64 * 1024;
/// Streams that were reset before we saw them; with more than these the client only keeps us busy (CVE-2023-44487).
const MOST_RESET: usize = 20;
/// From one ping to the next, and for its answer.
const PING: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));
/// How long a connection may take over its last words.
const LAST_WORD: Duration = Duration::from_secs(1);
/// What a client that knows we speak HTTP/2 begins with (RFC 9113 section 3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a client on a listener that speaks both begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Chosen {
    Http1,
    Http2,
    /// It said nothing, or it is too late.
    Nothing,
}

/// Looks at a client's first bytes without taking them.
pub(super) async fn chosen(caller: &Caller, socket: &Stream) -> Chosen {
    let socket = match socket {
        Stream::Plain(socket) => socket,
        // It has said so already (RFC 9113 section 3.2).
        Stream::Tls(socket) if socket.protocol() == Some(b"h2") => return Chosen::Http2,
        Stream::Tls(_) | Stream::Http2(_) => return Chosen::Http1,
    };
    let mut ending = caller.worker.ending();
    let patience = caller.worker.table().settings.head_timeout;
    tokio::select! {
        looked = tokio::time::timeout(patience, begins_with_preface(socket)) => match looked {
            Ok(Ok(true)) => Chosen::Http2,
            // What is wrong with the socket, the one who reads it will find too.
            Ok(_) => Chosen::Http1,
            Err(_) => Chosen::Nothing,
        },
        () = is_over(&mut ending, caller.local) => Chosen::Nothing,
    }
}

async fn begins_with_preface(socket: &TcpStream) -> io::Result<bool> {
    let mut room = [0; PREFACE.len()];
    peek(socket, &mut room, |seen, more| match PREFACE.starts_with(seen) && more == More::Perhaps {
        true if seen.len() < PREFACE.len() => None,
        _ => Some(seen == PREFACE),
    })
    .await
}

/// Serves a client until its connection ends. `alive` is kept as long.
pub(super) async fn serve<G>(caller: Caller, socket: Stream, alive: G) {
    let _alive = alive;
    let (worker, client, local) = (Rc::clone(&caller.worker), caller.client, caller.local);
    // The connection may last longer than this config.
    let limits = worker.table().settings.clone();
    let mut ending = worker.ending();
    let (caller, streams) = (Rc::new(caller), Rc::<Streams>::default());
    let begun = Rc::clone(&streams);
    let service = service_fn(move |request| {
        let (caller, running) = (Rc::clone(&caller), begun.begin());
        Box::pin(async move { Ok::<_, Infallible>(converse(caller, running, request).await) })
    });
    let mut connection = pin!(settings(&limits).serve_connection(TokioIo::new(socket), service));
    loop {
        tokio::select! {
            done = connection.as_mut() => {
                if let Err(error) = done {
                    tracing::debug!(%client, %error, "HTTP/2 connection ended");
                }
                return;
            }
            changed = ending.changed() => if changed.is_err() { return },
            () = streams.abused() => {
                let refusal = streams::ABUSE;
                worker.tally.screened(refusal);
                tracing::info!(%client, reason = %refusal, "refused");
                return;
            }
            () = streams.idle(limits.head_timeout, limits.keep_alive) => break,
        }
        if ending.borrow().left.contains(&local) {
            break;
        }
        let over = ending.borrow().stopping || ending.borrow().draining;
        if over {
            connection.as_mut().graceful_shutdown();
        }
    }
    // GOAWAY, so that the client knows what was not done; whether it hears is its own business.
    connection.as_mut().graceful_shutdown();
    let _ = tokio::time::timeout(LAST_WORD, connection).await;
}

fn settings(limits: &Settings) -> http2::Builder<Local> {
    let mut builder = http2::Builder::new(Local);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MOST_STREAMS)
        .max_header_list_size(limits.head_max_bytes)
        .max_pending_accept_reset_streams(MOST_RESET)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(UNSENT)
        .keep_alive_interval(PING.0)
        .keep_alive_timeout(PING.1)
        .enable_connect_protocol();
    builder
}

/// Runs a connection's streams on its own thread.
#[derive(Debug, Clone)]
struct Local;

impl<F: Future<Output = ()> + 'static> Executor<F> for Local {
    fn execute(&self, stream: F) {
        tokio::task::spawn_local(stream);
    }
}

/// Answers one request.
async fn converse(caller: Rc<Caller>, running: Running, mut request: Request<Incoming>) -> Response<Reply> {
    let upgraded = (request.method() == Method::CONNECT).then(|| hyper::upgrade::on(&mut request));
    let protocol = request.extensions_mut().remove::<Protocol>();
    let (mut parts, body) = request.into_parts();
    if let Err(refusal) = check::translate(&mut parts, protocol.as_ref().map(Protocol::as_str), generate_key) {
        caller.worker.tally.screened(refusal);
        tracing::info!(client = %caller.client, status = refusal.status().as_u16(), reason = %refusal, "refused");
        return text(refusal.status(), &refusal.to_string()).map(|body| body.within(running.answered()));
    }
    let (mut response, accepted) = answer(&caller, Request::from_parts(parts, body), || None).await;
    let running = running.answered();
    let (Some(upgraded), Some(accepted)) = (upgraded, accepted) else {
        if protocol.is_some() && response.status().is_success() {
            // To this client that would mean a session (RFC 8441 section 5).
            response = text(StatusCode::BAD_GATEWAY, "the backend answered the WebSocket handshake as a plain request");
        }
        return response.map(|body| body.within(running));
    };
    tokio::task::spawn_local(async move {
        match upgraded.await {
            Ok(upgraded) => {
                let tunnel = Stream::Http2(Box::new(Tunnel::new(upgraded)));
                caller.session(tunnel, Bytes::new(), accepted, running);
            }
            Err(error) => tracing::debug!(client = %caller.client, %error, "gone before its session began"),
        }
    });
    *response.status_mut() = StatusCode::OK;
    of_http1_only(response.headers_mut());
    response
}

/// The fields by which an HTTP/1.1 backend agreed to a session; here the status alone says it.
fn of_http1_only(headers: &mut HeaderMap) {
    for name in [CONNECTION, UPGRADE, SEC_WEBSOCKET_ACCEPT, CONTENT_LENGTH] {
        headers.remove(name);
    }
}
