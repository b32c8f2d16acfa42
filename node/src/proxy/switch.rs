//! Asks a backend to switch to WebSocket: the request's bytes go out, the head of the answer comes back.
//!
//! Written by hand, since a general HTTP client sets up far more for its one exchange than the exchange costs. Where the
//! answer is another one than 101, such a client reads it nevertheless: bodies are its trade.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes, BytesMut};
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use httparse::Status;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};

use super::error::Failure;
use super::stream::Stream;

/// The most bytes of an answer's head, and of all heads before the last one.
const MOST: usize = 64 * 1024;
/// The most field lines of an answer.
const MAX_FIELDS: usize = 100;
/// What most answers fit into.
const USUAL: usize = 512;

/// What a backend answered.
#[derive(Debug)]
pub(super) enum Heard {
    /// 101: the fields of its answer, its stream, and what it said right behind the answer.
    Switched(HeaderMap, Stream, Bytes),
    /// Another answer.
    Else(Response<Incoming>),
}

/// The head of a request as it goes over the wire, the same to every backend.
pub(super) fn encode(parts: &Parts) -> Vec<u8> {
    let mut head = Vec::with_capacity(USUAL);
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    for piece in [parts.method.as_str(), " ", target, " HTTP/1.1\r\n"] {
        head.extend_from_slice(piece.as_bytes());
    }
    for (name, value) in &parts.headers {
        // Neither can hold the end of a line: their types see to it.
        for piece in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(piece);
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}

/// Sends a request, already encoded, and waits for the answer. Answers before the last one (1xx, RFC 9110 section 15.2)
/// are heard and forgotten.
///
/// # Errors
/// A stream that breaks off, or an answer that is no HTTP.
pub(super) async fn ask(mut stream: Stream, request: &[u8]) -> Result<Heard, Failure> {
    stream.write_all(request).await.map_err(Failure::Broken)?;
    stream.flush().await.map_err(Failure::Broken)?;
    let (mut read, mut forgotten) = (BytesMut::with_capacity(USUAL), 0);
    loop {
        match head(&read)? {
            Some((StatusCode::SWITCHING_PROTOCOLS, length)) => {
                let head = read.split_to(length).freeze();
                // Else a session would keep the whole buffer for nothing.
                let early = if read.is_empty() { Bytes::new() } else { read.freeze() };
                return Ok(Heard::Switched(fields(&head)?, stream, early));
            }
            Some((status, length)) if status.is_informational() => {
                forgotten += length;
                read.advance(length);
                continue;
            }
            Some(_) => return other(stream, read.freeze()).await,
            None => {}
        }
        if read.len() + forgotten >= MOST {
            return Err(Failure::Handshake("the head of the answer is too large"));
        }
        read.reserve(USUAL);
        if stream.read_buf(&mut read).await.map_err(Failure::Broken)? == 0 {
            return Err(Failure::Broken(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}

/// The status of a head and its length in bytes; `None`: it is not complete.
fn head(bytes: &[u8]) -> Result<Option<(StatusCode, usize)>, Failure> {
    if bytes.is_empty() {
        return Ok(None);
    }
    parse(bytes, |length, answer| {
        let status = answer.code.and_then(|code| StatusCode::from_u16(code).ok());
        let status = status.ok_or(Failure::Handshake("the answer has no status"))?;
        if status == StatusCode::SWITCHING_PROTOCOLS && answer.version != Some(1) {
            return Err(Failure::Handshake("the answer is not HTTP/1.1"));
        }
        Ok((status, length))
    })
}

/// The fields of a complete head; they share its memory.
fn fields(head: &Bytes) -> Result<HeaderMap, Failure> {
    let map = parse(head, |_, answer| {
        let mut map = HeaderMap::with_capacity(answer.headers.len());
        for field in answer.headers.iter() {
            let name = HeaderName::from_bytes(field.name.as_bytes());
            let value = HeaderValue::from_maybe_shared(head.slice_ref(field.value));
            let (Ok(name), Ok(value)) = (name, value) else {
                return Err(Failure::Handshake("a field of the answer is none"));
            };
            map.append(name, value);
        }
        Ok(map)
    })?;
    map.ok_or(Failure::Handshake("the head of the answer is not complete"))
}

fn parse<T>(
    bytes: &[u8],
    then: impl FnOnce(usize, &httparse::Response<'_, '_>) -> Result<T, Failure>,
) -> Result<Option<T>, Failure> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut answer = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut answer, bytes, &mut fields);
    match parsed {
        Ok(Status::Partial) => Ok(None),
        Ok(Status::Complete(length)) => then(length, &answer).map(Some),
        Err(httparse::Error::TooManyHeaders) => Err(Failure::Handshake("the answer has too many fields")),
        Err(_) => Err(Failure::Handshake("the answer is no HTTP")),
    }
}

/// Lets an HTTP client read an answer whose beginning was read here.
async fn other(stream: Stream, read: Bytes) -> Result<Heard, Failure> {
    let asked = TokioIo::new(Asked { stream, read, wrote: false, waiting: None });
    let (mut sender, talk) = http1::handshake(asked).await.map_err(Failure::Connection)?;
    tokio::task::spawn_local(async move { drop(talk.await) });
    sender.send_request(Request::new(Empty::<Bytes>::new())).await.map(Heard::Else).map_err(Failure::Connection)
}

/// A stream on which the request was sent before: what is written is dropped, what was read comes again.
struct Asked {
    stream: Stream,
    read: Bytes,
    /// Before, an answer would be one that nobody asked for.
    wrote: bool,
    waiting: Option<Waker>,
}

impl AsyncRead for Asked {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.wrote {
            this.waiting = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if this.read.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let n = this.read.len().min(buf.remaining());
        buf.put_slice(&this.read.split_to(n));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Asked {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.wrote = true;
        if let Some(waiting) = this.waiting.take() {
            waiting.wake();
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_request_is_written_as_it_is_meant() {
        let request = Request::get("http://ignored/chat?room=1")
            .header("host", "a:81")
            .header("x-twice", "1")
            .header("x-twice", "2")
            .body(())
            .unwrap();
        let head = encode(&request.into_parts().0);
        let expected = "GET /chat?room=1 HTTP/1.1\r\nhost: a:81\r\nx-twice: 1\r\nx-twice: 2\r\n\r\n";
        assert_eq!(String::from_utf8(head).unwrap(), expected);
    }

    #[test]
    fn a_head_is_complete_with_its_last_byte_and_not_before() {
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nX: \r\n\r\n";
        for n in 0..answer.len() {
            assert!(head(&answer[..n]).unwrap().is_none(), "{n} bytes");
        }
        let behind = [&answer[..], b"frames"].concat();
        assert_eq!(head(&behind).unwrap(), Some((StatusCode::SWITCHING_PROTOCOLS, answer.len())));
        let fields = fields(&Bytes::from_static(answer)).unwrap();
        let value = |name: &str| fields[name].to_str().unwrap().to_owned();
        assert_eq!((fields.len(), value("upgrade"), value("x")), (2, "websocket".to_owned(), String::new()));
    }

    #[test]
    fn what_is_no_answer_is_none() {
        let many = format!("HTTP/1.1 101 Yes\r\n{}\r\n", "A: b\r\n".repeat(MAX_FIELDS + 1));
        for bad in ["SSH-2.0-OpenSSH", "HTTP/1.0 101 Yes\r\n\r\n", "HTTP/1.1 101 Yes\r\nA : b\r\n\r\n", &many] {
            assert!(head(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
