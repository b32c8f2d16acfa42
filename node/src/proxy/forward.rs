//! Plain HTTP: one request to one backend and its answer back, bodies streaming both ways.

use std::cell::Cell;
use std::error::Error as _;
use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST, HeaderValue, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Request, Response, StatusCode, Version};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};

use super::asked::hand_over;
use super::backend::{Place, now};
use super::connection::Asked;
use super::error::{Error, Failure};
use super::headers;
use super::heads::encode;
use super::pool::{Home, Link, Way};
use super::reply::{Reply, Source};
use super::table::Member;
use super::wire::{self, Answer, Wire};
use super::worker::Worker;

/// Takes a request to one of `asked.upstream`'s backends. Another one is tried while nothing can have been done: no
/// connection came about, or one from the pool turned out dead and the request may be repeated (RFC 9110 section 9.2.2).
///
/// # Errors
/// When no backend answered.
pub(super) async fn forward(
    worker: &Worker,
    asked: &Asked,
    request: Request<Incoming>,
) -> Result<Response<Reply>, Error> {
    let (mut parts, body) = request.into_parts();
    // With HTTP/1 the screen looks after that.
    let patience = (parts.version == Version::HTTP_2).then(|| worker.table().settings.body_timeout);
    prepare(&mut parts, asked, &body);
    let heard = Rc::new(Cell::new(Instant::now()));
    let kind = Kind::of(&parts, &body);
    let mut request =
        Request::from_parts(parts, Upload { body: Some(body), heard: Rc::clone(&heard), patience, timer: None });
    let mut tried = Vec::new();
    let mut failure = None;
    for _ in 0..=asked.upstream.timeouts.retries {
        let Some((member, place)) = worker.place(&asked.upstream, asked.affinity, &tried) else { break };
        let address = member.backend.address;
        if let Some(host) = asked.taken.new_host(member) {
            request.headers_mut().insert(HOST, host);
        }
        let (link, pooled) = match connection(worker, member, asked, heard.get()).await {
            Ok(connection) => connection,
            Err(failed @ Failure::Shortage(_)) => {
                failed.log(&asked.upstream.name, address);
                failure = Some(failed);
                break;
            }
            Err(failed) => {
                asked.upstream.let_down(place.backend(), Duration::ZERO, &failed, now());
                failed.log(&asked.upstream.name, address);
                tried.push(address);
                failure = Some(failed);
                continue;
            }
        };
        heard.set(Instant::now());
        let again = if pooled { kind } else { Kind::Once };
        match ask(link, request, (kind, again), &heard, asked.upstream.timeouts.response).await {
            Ok(response) => {
                // `heard`: when the last of the request was sent.
                place.backend().answered(heard.get().elapsed());
                place.backend().served();
                return Ok(answer(worker, asked, response, member, place));
            }
            Err((Failure::Connection(error), None)) if error.is_user() => {
                let slow = error.source().and_then(|e| e.downcast_ref()).is_some_and(|e| matches!(e, Broken::Slow(_)));
                return Err(match patience.filter(|_| slow) {
                    Some(patience) => Error::Slow(patience),
                    None => Error::Request("the request's body broke off"),
                });
            }
            Err((failed, again)) => {
                if !pooled {
                    asked.upstream.let_down(place.backend(), heard.get().elapsed(), &failed, now());
                }
                failed.log(&asked.upstream.name, address);
                failure = Some(failed);
                let Some(again) = again else { break };
                request = again;
                if !pooled {
                    tried.push(address);
                }
            }
        }
    }
    Err(asked.unanswered(failure))
}

fn prepare(parts: &mut Parts, asked: &Asked, body: &Incoming) {
    headers::for_backend(&mut parts.headers, &asked.forwarded_for, asked.taken.listener.scheme(), &asked.host);
    asked.taken.change_request(&mut parts.headers);
    parts.uri = asked.target.clone();
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    if !body.is_end_stream() && !parts.headers.contains_key(CONTENT_LENGTH) {
        // Said outright: without it a GET's body would be dropped.
        parts.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// The same request once more; it has no body.
fn repeat(request: &Request<Upload>) -> Request<Upload> {
    let empty = Upload { body: None, heard: Rc::clone(&request.body().heard), patience: None, timer: None };
    let mut again = Request::new(empty);
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.headers_mut() = request.headers().clone();
    again
}

fn way(asked: &Asked, member: &Member) -> Way {
    (asked.upstream.dialing.id, member.backend.address, member.host.clone())
}

/// One from the pool (`true`), or a new one.
async fn connection(worker: &Worker, member: &Member, asked: &Asked, now: Instant) -> Result<(Link, bool), Failure> {
    let shared = !asked.upstream.dialing.is_personal();
    if shared && let Some(link) = worker.pool.take(&way(asked, member), now) {
        return Ok((link, true));
    }
    Ok((Link::Bare(Wire::new(worker.dial(member, asked).await?)), false))
}

/// What may be done with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Asked by hand; asked again when the connection turns out dead.
    Plain,
    /// Asked again when the connection turns out dead (RFC 9110 section 9.2.2).
    Repeatable,
    /// Asked once.
    Once,
}

impl Kind {
    fn of(parts: &Parts, body: &Incoming) -> Self {
        match parts.method.is_idempotent() && body.is_end_stream() {
            true if wire::is_plain(parts) => Self::Plain,
            true => Self::Repeatable,
            false => Self::Once,
        }
    }
}

/// Sends and waits for the head of the answer. A request that may be asked once more, `again`, comes back.
async fn ask(
    link: Link,
    request: Request<Upload>,
    (kind, again): (Kind, Kind),
    heard: &Cell<Instant>,
    patience: Duration,
) -> Result<Response<Source>, (Failure, Option<Request<Upload>>)> {
    let mut sender = match link {
        Link::Driven(sender) => sender,
        Link::Bare(wire) if kind == Kind::Plain => {
            let head = encode(request.method(), request.uri(), request.headers());
            match wire.ask(&head, patience).await {
                Ok(Answer::Plain(response)) => return Ok(response.map(Source::Bare)),
                Ok(Answer::Else(stream, read)) => {
                    let (mut sender, connection) = hand_over(stream, read).await.map_err(|failed| (failed, None))?;
                    drive(connection);
                    let said =
                        exchange(&mut sender, request, heard, patience).await.map_err(|(failed, _)| (failed, None))?;
                    return Ok(said.map(|body| Source::Driven(body, Some(sender))));
                }
                Err(failed) => {
                    let dead = again != Kind::Once && matches!(failed, Failure::Broken(_));
                    return Err((failed, dead.then_some(request)));
                }
            }
        }
        Link::Bare(wire) => match http1::handshake(TokioIo::new(wire.into_stream())).await {
            Ok((sender, connection)) => {
                drive(connection);
                sender
            }
            Err(error) => return Err((Failure::Connection(error), Some(request))),
        },
    };
    let repeated = (again != Kind::Once).then(|| repeat(&request));
    match exchange(&mut sender, request, heard, patience).await {
        Ok(said) => Ok(said.map(|body| Source::Driven(body, Some(sender)))),
        Err((failed, unsent)) => {
            let dead = matches!(failed, Failure::Connection(_));
            Err((failed, unsent.or(repeated.filter(|_| dead))))
        }
    }
}

/// What goes wrong on it is told to the request that is under way.
fn drive<S>(connection: http1::Connection<TokioIo<S>, Upload>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    tokio::task::spawn_local(async move { drop(connection.await) });
}

/// Sends and waits for the head of the answer, as long as something moves. What was certainly not sent comes back.
async fn exchange(
    sender: &mut SendRequest<Upload>,
    request: Request<Upload>,
    heard: &Cell<Instant>,
    patience: Duration,
) -> Result<Response<Incoming>, (Failure, Option<Request<Upload>>)> {
    let mut answer = pin!(sender.try_send_request(request));
    loop {
        let until = heard.get() + patience;
        tokio::select! {
            answer = &mut answer => return answer.map_err(|mut e| {
                let unsent = e.take_message();
                (Failure::Connection(e.into_error()), unsent)
            }),
            () = tokio::time::sleep_until(until) => {
                if heard.get() + patience <= until {
                    return Err((Failure::Silent(patience), None));
                }
            }
        }
    }
}

fn answer(
    worker: &Worker,
    asked: &Asked,
    response: Response<Source>,
    member: &Member,
    place: Place,
) -> Response<Reply> {
    let (mut parts, body) = response.into_parts();
    headers::strip_hop_by_hop(&mut parts.headers);
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        // Nobody asked for that: what follows on the connection is no HTTP.
        parts.status = StatusCode::BAD_GATEWAY;
        return Response::from_parts(parts, Reply::empty());
    }
    asked.stick(&mut parts.headers, place.backend());
    place.backend().requests_total.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    // One that speaks for this client ends with this answer.
    let shared = !asked.upstream.dialing.is_personal();
    let home = shared.then(|| Home { pool: Rc::clone(&worker.pool), way: way(asked, member) });
    Response::from_parts(parts, Reply::from_backend(body, home, place))
}

/// A request's body on its way to a backend; notes when something of it last came.
#[derive(Debug)]
pub(super) struct Upload {
    body: Option<Incoming>,
    heard: Rc<Cell<Instant>>,
    /// From one piece to the next, where nobody below looks after that.
    patience: Option<Duration>,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Why a body did not come to its end. The client must mend it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    /// Its stream or connection ended, or was no HTTP any more.
    #[error("the request's body broke off")]
    Off(#[source] hyper::Error),
    /// Nothing more of it came.
    #[error("nothing of the body came within {0:?}")]
    Slow(Duration),
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) {
            this.timer = None;
            this.heard.set(Instant::now());
            return Poll::Ready(frame.map(|frame| frame.map_err(Broken::Off)));
        }
        let Some(patience) = this.patience else { return Poll::Pending };
        ready!(this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience))).as_mut().poll(cx));
        Poll::Ready(Some(Err(Broken::Slow(patience))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}
