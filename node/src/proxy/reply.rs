//! The body of an answer to a client, and what must last as long as it does.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use http::{Response, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::SendRequest;

use super::backend::Place;
use super::forward::Upload;
use super::headers;
use super::http2::Running;
use super::pool::{Home, Link};
use super::screened::OpenExchange;
use super::wire::Measured;
use crate::config::model::Respond;

/// Why an answer broke off.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An answer's body.
#[derive(Debug)]
pub(super) struct Reply {
    source: Source,
    ended: bool,
    /// Where the connection to the backend goes after the last byte; `None`: nowhere, it is closed.
    home: Option<Home>,
    /// Kept until the last byte.
    _place: Option<Place>,
    _held: Option<Held>,
}

/// What is open as long as its answer is on the way.
#[derive(Debug)]
enum Held {
    Exchange(#[expect(dead_code, reason = "held, not read")] OpenExchange),
    Stream(#[expect(dead_code, reason = "held, not read")] Running),
}

/// Where it comes from.
#[derive(Debug)]
pub(super) enum Source {
    /// Nobody but us.
    Ours(Option<Bytes>),
    /// A backend that was asked by hand.
    Bare(Measured),
    /// A backend that a general client asked, which may be asked again through it.
    Driven(Incoming, Option<SendRequest<Upload>>),
}

impl Reply {
    fn new(source: Source) -> Self {
        Self { source, ended: false, home: None, _place: None, _held: None }
    }

    /// Nothing.
    pub(super) fn empty() -> Self {
        Self::new(Source::Ours(None))
    }

    /// What a backend says; the connection goes `home` when all of it was heard.
    pub(super) fn from_backend(said: Source, home: Option<Home>, place: Place) -> Self {
        let mut this = Self::new(said);
        (this.home, this._place) = (home, Some(place));
        this
    }

    /// Keeps the exchange open until the last byte.
    pub(super) fn during(mut self, exchange: OpenExchange) -> Self {
        self._held = Some(Held::Exchange(exchange));
        self
    }

    /// Keeps the stream of HTTP/2 open until the last byte.
    pub(super) fn within(mut self, stream: Running) -> Self {
        self._held = Some(Held::Stream(stream));
        self
    }
}

/// One line of text.
pub(super) fn text(status: StatusCode, line: &str) -> Response<Reply> {
    let mut response = Response::new(Reply::new(Source::Ours(Some(Bytes::from(format!("{line}\n"))))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// Sends a client elsewhere.
pub(super) fn redirect(status: u16, location: HeaderValue) -> Response<Reply> {
    let mut response = Response::new(Reply::empty());
    *response.status_mut() = known(status);
    response.headers_mut().insert(LOCATION, location);
    response
}

/// What a route always answers.
pub(super) fn fixed(respond: &Respond) -> Response<Reply> {
    // An empty body is none: with 204 and 304 there must be none.
    let body = (!respond.body.is_empty()).then(|| Bytes::copy_from_slice(respond.body.as_bytes()));
    let mut response = Response::new(Reply::new(Source::Ours(body)));
    *response.status_mut() = known(respond.status);
    if !respond.body.is_empty() {
        response.headers_mut().insert(CONTENT_TYPE, respond.content_type.clone());
    }
    response
}

/// The model lets only numbers through that are statuses.
fn known(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

impl Body for Reply {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        match &mut this.source {
            Source::Ours(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Source::Bare(body) => {
                let data = ready!(body.poll_next(cx));
                Poll::Ready(data.map(|data| data.map(Frame::data).map_err(BoxError::from)))
            }
            Source::Driven(body, _) => {
                let mut frame = ready!(Pin::new(body).poll_frame(cx));
                this.ended = frame.is_none();
                if let Some(trailers) = frame.as_mut().and_then(|f| f.as_mut().ok()).and_then(Frame::trailers_mut) {
                    headers::strip_hop_by_hop(trailers);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(BoxError::from)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Ours(bytes) => bytes.is_none(),
            Source::Bare(body) => body.left() == 0,
            Source::Driven(body, _) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Ours(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Source::Bare(body) => SizeHint::with_exact(body.left()),
            Source::Driven(body, _) => body.size_hint(),
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        let heard = self.ended || self.is_end_stream();
        let Some(home) = self.home.take().filter(|_| heard) else { return };
        let link = match std::mem::replace(&mut self.source, Source::Ours(None)) {
            Source::Ours(_) => None,
            Source::Bare(body) => body.into_wire().map(Link::Bare),
            Source::Driven(_, sender) => sender.map(Link::Driven),
        };
        if let Some(link) = link {
            home.take_back(link);
        }
    }
}
