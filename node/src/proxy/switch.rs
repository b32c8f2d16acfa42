//! Asks a backend to switch to WebSocket: the request's bytes go out, the head of the answer comes back.
//!
//! Written by hand, since a general HTTP client sets up far more for its one exchange than the exchange costs. Where the
//! answer is another one than 101, such a client reads it nevertheless: bodies are its trade.

use std::io;

use bytes::{Buf, Bytes, BytesMut};
use http::header::HeaderMap;
use http::{Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::asked::hand_over;
use super::error::Failure;
use super::heads;
use super::stream::Stream;

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
        match heads::beginning(&read)? {
            Some((StatusCode::SWITCHING_PROTOCOLS, length)) => {
                let head = heads::whole(&read.split_to(length).freeze())?;
                let head = head.ok_or(Failure::Unreadable("the head of the answer is not complete"))?;
                // Else a session would keep the whole buffer for nothing.
                let early = if read.is_empty() { Bytes::new() } else { read.freeze() };
                return Ok(Heard::Switched(head.fields, stream, early));
            }
            Some((status, length)) if status.is_informational() => {
                forgotten += length;
                read.advance(length);
                continue;
            }
            Some(_) => {
                let (mut sender, talk) = hand_over(stream, read.freeze()).await?;
                tokio::task::spawn_local(async move { drop(talk.await) });
                let asked = sender.send_request(Request::new(Empty::<Bytes>::new())).await;
                return asked.map(Heard::Else).map_err(Failure::Connection);
            }
            None => {}
        }
        // All heads before the last one count too.
        if read.len() + forgotten >= heads::MOST {
            return Err(Failure::Unreadable("the head of the answer is too large"));
        }
        read.reserve(USUAL);
        if stream.read_buf(&mut read).await.map_err(Failure::Broken)? == 0 {
            return Err(Failure::Broken(io::ErrorKind::UnexpectedEof.into()));
        }
    }
}
