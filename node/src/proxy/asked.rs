//! A stream on which a request was sent already, as a general HTTP client takes it over: what it writes first is
//! dropped, what was read comes again.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use hyper::body::Body;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::error::Failure;
use super::stream::Stream;

/// Lets an HTTP client read an answer whose beginning was read here. It must be sent the same request without a body;
/// what it sends after that goes out.
///
/// # Errors
/// Never in practice.
pub(super) async fn hand_over<B>(
    stream: Stream,
    read: Bytes,
) -> Result<(SendRequest<B>, Connection<TokioIo<Asked>, B>), Failure>
where
    B: Body + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let asked = Asked { stream, read, stage: Stage::Waiting(None) };
    http1::handshake(TokioIo::new(asked)).await.map_err(Failure::Connection)
}

/// See the module.
#[derive(Debug)]
pub(super) struct Asked {
    stream: Stream,
    read: Bytes,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// For the request; before, an answer would be one that nobody asked for. Who waits for the answer.
    Waiting(Option<Waker>),
    /// The request is written here, until it is flushed.
    Writing,
    Open,
}

impl AsyncRead for Asked {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        if let Stage::Waiting(waiting) = &mut this.stage {
            *waiting = Some(cx.waker().clone());
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
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        let this = self.get_mut();
        match &mut this.stage {
            Stage::Open => return Pin::new(&mut this.stream).poll_write(cx, buf),
            Stage::Waiting(waiting) => {
                if let Some(waiting) = waiting.take() {
                    waiting.wake();
                }
                this.stage = Stage::Writing;
            }
            Stage::Writing => {}
        }
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let this = self.get_mut();
        match this.stage {
            Stage::Waiting(_) => Poll::Ready(Ok(())),
            Stage::Writing => {
                this.stage = Stage::Open;
                Poll::Ready(Ok(()))
            }
            Stage::Open => Pin::new(&mut this.stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
