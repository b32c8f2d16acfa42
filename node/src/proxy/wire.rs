//! Asks a backend a plain question by hand: a GET goes out, an answer that says how long it is comes back.
//!
//! Most requests are of this kind, and a general HTTP client costs more for one than all the rest of the proxy does.
//! Whatever is not so plain (an answer in chunks, one without a length, one before the last) such a client reads, from
//! its first byte on, and keeps the connection.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, TRANSFER_ENCODING};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::error::Failure;
use super::heads::{self, Head};
use super::screen::decimal;
use super::stream::Stream;

/// Room for one read: a head and a small page.
const USUAL: usize = 8 * 1024;
/// Room for one read of a large body.
const LARGE: usize = 64 * 1024;

/// A connection to a backend on which nothing is under way.
#[derive(Debug)]
pub(super) struct Wire {
    stream: Stream,
    read: BytesMut,
    /// Set anew for each answer: that costs far less than a new one.
    timer: Option<Pin<Box<Sleep>>>,
}

/// What came back.
#[derive(Debug)]
pub(super) enum Answer {
    /// A plain answer.
    Plain(Response<Measured>),
    /// Another one, of which so much was read.
    Else(Stream, Bytes),
}

/// Whether a request may be asked by hand; it has no body.
pub(super) fn is_plain(parts: &Parts) -> bool {
    parts.method == Method::GET && !parts.headers.contains_key(CONTENT_LENGTH)
}

impl Wire {
    /// On which nothing was said yet.
    pub(super) fn new(stream: Stream) -> Box<Self> {
        Box::new(Self { stream, read: BytesMut::new(), timer: None })
    }

    /// For a client that speaks for itself.
    pub(super) fn into_stream(self) -> Stream {
        self.stream
    }

    /// Whether its backend neither closed it nor said what nobody asked for.
    pub(super) fn is_quiet(&mut self) -> bool {
        // Nobody waits for it any more, whoever did.
        let mut cx = Context::from_waker(Waker::noop());
        let mut room = [0; 1];
        Pin::new(&mut self.stream).poll_read(&mut cx, &mut ReadBuf::new(&mut room)).is_pending()
    }

    /// Sends a request, already encoded, and waits for the head of the answer.
    ///
    /// # Errors
    /// A stream that breaks off, silence, or an answer that is no HTTP.
    pub(super) async fn ask(mut self: Box<Self>, request: &[u8], patience: Duration) -> Result<Answer, Failure> {
        let end = self.hear(request, patience).await?;
        let all = self.read.split().freeze();
        let Some(end) = end else { return Ok(Answer::Else(self.stream, all)) };
        let answer = heads::whole(&all.slice(..end))?.and_then(|head| Some((length(&head)?, head)));
        let Some((left, head)) = answer else { return Ok(Answer::Else(self.stream, all)) };
        let mut response =
            Response::new(Measured { wire: self, read: all.slice(end..), left, flows: false, broken: None });
        (*response.status_mut(), *response.headers_mut()) = (head.status, head.fields);
        Ok(Answer::Plain(response))
    }

    /// Sends, and reads until there is a head: see [`hear`].
    async fn hear(&mut self, request: &[u8], patience: Duration) -> Result<Option<usize>, Failure> {
        let Self { stream, read, timer } = self;
        let timer = timer.get_or_insert_with(|| Box::pin(sleep(patience)));
        timer.as_mut().reset(Instant::now() + patience);
        let mut heard = pin!(hear(stream, read, request));
        poll_fn(|cx| {
            if let Poll::Ready(heard) = heard.as_mut().poll(cx) {
                return Poll::Ready(heard);
            }
            ready!(timer.as_mut().poll(cx));
            Poll::Ready(Err(Failure::Silent(patience)))
        })
        .await
    }
}

/// Reads until there is a head; the count of its bytes, `None` if it does not end as heads do.
async fn hear(stream: &mut Stream, read: &mut BytesMut, request: &[u8]) -> Result<Option<usize>, Failure> {
    stream.write_all(request).await.map_err(Failure::Broken)?;
    stream.flush().await.map_err(Failure::Broken)?;
    loop {
        read.reserve(USUAL);
        if stream.read_buf(read).await.map_err(Failure::Broken)? == 0 {
            return Err(Failure::Broken(io::ErrorKind::UnexpectedEof.into()));
        }
        if let Some(end) = memchr::memmem::find(read, b"\r\n\r\n") {
            return Ok(Some(end + 4));
        }
        // Lines may end with a bare LF; what is no HTTP at all needs no more bytes.
        if heads::beginning(read)?.is_some() {
            return Ok(None);
        }
        if read.len() >= heads::MOST {
            return Err(Failure::Unreadable("the head of the answer is too large"));
        }
    }
}

/// How long the body of a plain answer is; `None`: the answer is not plain. No two readers may understand it differently.
fn length(head: &Head) -> Option<u64> {
    let bodiless = matches!(head.status, StatusCode::NO_CONTENT | StatusCode::RESET_CONTENT | StatusCode::NOT_MODIFIED);
    let framed = head.fields.contains_key(TRANSFER_ENCODING) || !stays(&head.fields);
    if !head.is_1_1 || head.status.is_informational() || bodiless || framed {
        return None;
    }
    let mut lengths = head.fields.get_all(CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (Some(length), None) => decimal(length.as_bytes()),
        _ => None,
    }
}

/// Whether the connection says nothing of its end.
fn stays(fields: &HeaderMap) -> bool {
    fields.get_all(CONNECTION).iter().all(|v| v.as_bytes().eq_ignore_ascii_case(b"keep-alive"))
}

/// A body of which the length is known, as it comes.
#[derive(Debug)]
pub(super) struct Measured {
    wire: Box<Wire>,
    /// Read but not yet handed on.
    read: Bytes,
    left: u64,
    /// The last read filled its room: more waits behind it. One that trickles must not pin a large room for each drop.
    flows: bool,
    /// Why no more will come.
    broken: Option<io::Error>,
}

impl Measured {
    /// Bytes that are still to come.
    pub(super) fn left(&self) -> u64 {
        self.left
    }

    /// The next bytes; `None` behind the last.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        if self.read.is_empty() {
            let wire = &mut *self.wire;
            let left = usize::try_from(self.left).unwrap_or(usize::MAX);
            wire.read.reserve(if self.flows { left.clamp(USUAL, LARGE) } else { USUAL });
            if let Some(why) = self.broken.take() {
                return Poll::Ready(Some(Err(why)));
            }
            let read = ready!(pin!(wire.stream.read_buf(&mut wire.read)).poll(cx));
            let read = read.and_then(|n| if n == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(n) });
            if let Err(why) = read {
                // Told next time: what came before must reach the client, and is written only while nothing more is there.
                self.broken = Some(why);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.flows = wire.read.len() == wire.read.capacity();
            self.read = wire.read.split().freeze();
        }
        let n = self.read.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= n as u64;
        Poll::Ready(Some(Ok(self.read.split_to(n))))
    }

    /// The connection, free again; `None`: the body is not all there, or more than it is.
    pub(super) fn into_wire(self) -> Option<Box<Wire>> {
        (self.left == 0 && self.read.is_empty()).then_some(self.wire)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use tokio::net::TcpStream;

    use super::super::tests::rig::pair;
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Asks one that answers so, in these pieces; it stays.
    async fn asked(pieces: &[&str]) -> (Result<Answer, Failure>, TcpStream) {
        let (near, mut far) = pair().await;
        let pieces: Vec<String> = pieces.iter().map(|piece| (*piece).to_owned()).collect();
        let backend = tokio::spawn(async move {
            let mut request = [0; 6];
            far.read_exact(&mut request).await.unwrap();
            assert_eq!(&request, b"GET it");
            for piece in pieces {
                far.write_all(piece.as_bytes()).await.unwrap();
                tokio::task::yield_now().await;
            }
            far
        });
        let said = Wire::new(near.into()).ask(b"GET it", PATIENCE).await;
        (said, backend.await.unwrap())
    }

    async fn all(body: &mut Measured) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        while let Some(bytes) = poll_fn(|cx| body.poll_next(cx)).await {
            all.extend_from_slice(&bytes?);
        }
        Ok(all)
    }

    #[tokio::test]
    async fn a_plain_answer_leaves_the_connection_free() {
        let answer = "HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 5\r\nConnection: Keep-Alive\r\n\r\nhello";
        let (head, body) = answer.split_at(answer.len() - 3);
        for pieces in [&[answer][..], &[head, body], &["HTTP/1.1 2", &answer[10..]]] {
            let (said, far) = asked(pieces).await;
            let Ok(Answer::Plain(response)) = said else { panic!("{said:?}") };
            assert_eq!((response.status(), response.headers()["x"].as_bytes()), (StatusCode::OK, &b"y"[..]));
            let mut body = response.into_body();
            assert_eq!(body.left(), 5);
            assert_eq!(all(&mut body).await.unwrap(), b"hello");
            let mut wire = body.into_wire().expect("it is free");
            assert!(wire.is_quiet());
            drop(far);
            while wire.is_quiet() {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn what_is_not_plain_is_read_by_others_from_the_first_byte_on() {
        for answer in [
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 200 OK\r\n\r\nuntil the end",
            "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
            "HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n",
            "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
            "HTTP/1.1 200 OK\nContent-Length: 7\n\nhe\r\n\r\nl",
        ] {
            let (said, _far) = asked(&[answer]).await;
            let Ok(Answer::Else(_, read)) = said else { panic!("{answer:?}: {said:?}") };
            assert_eq!(read, answer);
        }
    }

    #[tokio::test]
    async fn what_cannot_be_an_answer_is_a_failure() {
        let (said, _far) = asked(&["SSH-2.0-OpenSSH\r\n"]).await;
        assert!(matches!(said, Err(Failure::Unreadable(_))), "{said:?}");
        let (said, _far) = asked(&["HTTP/1.1 200 OK\r\nX: ", &"x".repeat(heads::MOST)]).await;
        assert!(matches!(said, Err(Failure::Unreadable(_))), "{said:?}");
        let (near, far) = pair().await;
        drop(far);
        let said = Wire::new(near.into()).ask(b"GET it", PATIENCE).await;
        assert!(matches!(said, Err(Failure::Broken(_))), "{said:?}");
    }

    #[tokio::test]
    async fn more_or_less_than_the_answer_ends_the_connection() {
        let (said, _far) = asked(&["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello, too much"]).await;
        let Ok(Answer::Plain(response)) = said else { panic!("{said:?}") };
        let mut body = response.into_body();
        assert_eq!(all(&mut body).await.unwrap(), b"hello");
        assert!(body.into_wire().is_none());
        let (said, far) = asked(&["HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"]).await;
        drop(far);
        let Ok(Answer::Plain(response)) = said else { panic!("{said:?}") };
        let mut body = response.into_body();
        assert_eq!(all(&mut body).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert!(body.into_wire().is_none());
    }
}
