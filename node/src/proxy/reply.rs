//! The body of an answer to a client, and what must last as long as it does.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use http::{Response, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::backend::Place;
use super::headers;
use super::http2::Running;
use super::pool::Lease;
use super::screened::OpenExchange;
use crate::config::model::Respond;

/// An answer's body.
#[derive(Debug)]
pub(super) struct Reply {
    source: Source,
    ended: bool,
    /// Kept until the last byte: the connection to the backend, and the place taken there.
    lease: Option<Lease>,
    _place: Option<Place>,
    _held: Option<Held>,
}

/// What is open as long as its answer is on the way.
#[derive(Debug)]
enum Held {
    Exchange(#[expect(dead_code, reason = "held, not read")] OpenExchange),
    Stream(#[expect(dead_code, reason = "held, not read")] Running),
}

#[derive(Debug)]
enum Source {
    Ours(Option<Bytes>),
    Backend(Incoming),
}

impl Reply {
    fn new(source: Source) -> Self {
        Self { source, ended: false, lease: None, _place: None, _held: None }
    }

    /// Nothing.
    pub(super) fn empty() -> Self {
        Self::new(Source::Ours(None))
    }

    /// What a backend says; `lease` goes back to the pool when it was heard to the end.
    pub(super) fn from_backend(body: Incoming, lease: Option<Lease>, place: Place) -> Self {
        let mut this = Self::new(Source::Backend(body));
        (this.lease, this._place) = (lease, Some(place));
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
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.get_mut();
        match &mut this.source {
            Source::Ours(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Source::Backend(body) => {
                let mut frame = ready!(Pin::new(body).poll_frame(cx));
                this.ended = frame.is_none();
                if let Some(trailers) = frame.as_mut().and_then(|f| f.as_mut().ok()).and_then(Frame::trailers_mut) {
                    headers::strip_hop_by_hop(trailers);
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Ours(bytes) => bytes.is_none(),
            Source::Backend(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Ours(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Source::Backend(body) => body.size_hint(),
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        let heard = self.ended || self.is_end_stream();
        if let Some(lease) = self.lease.take().filter(|_| heard) {
            lease.give_back();
        }
    }
}
