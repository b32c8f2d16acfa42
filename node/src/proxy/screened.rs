//! A client's socket behind the screen: the HTTP parser sees only bytes that the screen has let through.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::screen::{Refusal, Scanner, Stage};

/// How long a client may take, and how large its heads may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) head_bytes: usize,
    pub(super) head: Duration,
    pub(super) body: Duration,
    pub(super) idle: Duration,
    /// How long it may take nothing of an answer; `None`: as long as it likes.
    pub(super) stall: Option<Duration>,
}

/// Whether a request is being answered, shared between the socket and the service above the parser.
#[derive(Debug, Default)]
pub(super) struct Exchange {
    /// More than one for a moment: the parser lets go of an answered one only after it began the next.
    open: Cell<u32>,
    wrote: Cell<bool>,
    refusal: Cell<Option<Refusal>>,
    /// Whoever has a refusal to tell after its end. The parser does not read again by itself after an answer if the last
    /// read was pending.
    waiting: RefCell<Option<Waker>>,
}

impl Exchange {
    /// A request was read; it lasts until the guard is dropped, with the last byte of the answer's body.
    pub(super) fn begin(self: &Rc<Self>) -> OpenExchange {
        self.open.set(self.open.get() + 1);
        self.wrote.set(false);
        OpenExchange(Rc::clone(self))
    }

    /// What went wrong with the body of the request that is being answered.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.refusal.get()
    }
}

/// See [`Exchange::begin`].
#[derive(Debug)]
pub(super) struct OpenExchange(Rc<Exchange>);

impl Drop for OpenExchange {
    fn drop(&mut self) {
        self.0.open.set(self.0.open.get() - 1);
        if let Some(waiting) = self.0.waiting.take() {
            waiting.wake();
        }
    }
}

/// The socket, screened. A refusal surfaces as a read error once earlier requests are answered; then
/// [`Screened::into_parts`] says why, and whether an answer may still be written.
#[derive(Debug)]
pub(super) struct Screened<S> {
    socket: S,
    scanner: Scanner,
    patience: Patience,
    exchange: Rc<Exchange>,
    refusal: Option<Refusal>,
    /// The refusal is of a body whose head was handed on before: its answer may be under way.
    in_body: bool,
    /// The parser above has bytes that the socket did not take.
    blocked: bool,
    /// Set anew rather than made anew: to move a timer on costs far less than to begin one for each request.
    timer: Option<Pin<Box<Sleep>>>,
    /// What it is set for: a stage, and after how many heads.
    timed: Option<(Stage, u64)>,
    /// Runs while `blocked`.
    stall: Option<Pin<Box<Sleep>>>,
}

impl<S> Screened<S> {
    pub(super) fn new(socket: S, patience: Patience, exchange: Rc<Exchange>) -> Self {
        let scanner = Scanner::new(patience.head_bytes);
        Self {
            socket,
            scanner,
            patience,
            exchange,
            refusal: None,
            in_body: false,
            blocked: false,
            timer: None,
            timed: None,
            stall: None,
        }
    }

    /// The bare socket, and what is to be said on it before it is closed.
    pub(super) fn into_parts(self) -> (S, Option<Answerable>) {
        let clean = !self.in_body || !self.exchange.wrote.get();
        let refusal = self.refusal.map(|refusal| Answerable { refusal, clean: clean && !self.blocked });
        (self.socket, refusal)
    }

    /// Lets the refusal out, unless earlier answers are still on their way; then the parser reads again after them.
    fn refuse(&mut self, cx: &Context<'_>, refusal: Refusal) -> Poll<io::Result<()>> {
        self.timed = None;
        self.refusal = Some(refusal);
        if self.in_body {
            self.exchange.refusal.set(Some(refusal));
        } else if self.exchange.open.get() > 0 || self.blocked {
            self.exchange.waiting.replace(Some(cx.waker().clone()));
            return Poll::Pending;
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, refusal)))
    }

    /// The client's turn has come, and nothing watches its time yet.
    fn is_waited_for(&self) -> bool {
        let turn = self.exchange.open.get() == 0 && self.timed.is_none() && self.refusal.is_none();
        turn && self.scanner.heads() > 0 && matches!(self.scanner.stage(), Stage::Idle | Stage::Head)
    }

    /// Nothing came: is it time to give up?
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stage = self.scanner.stage();
        if self.exchange.open.get() > 0 && stage != Stage::Body {
            // It is our turn; the client's time begins after the answer, when that is flushed.
            self.timed = None;
            return Poll::Pending;
        }
        if stage == Stage::Opaque {
            return Poll::Pending;
        }
        let heads = self.scanner.heads();
        let patience = match stage {
            Stage::Idle if heads > 0 => self.patience.idle,
            Stage::Body => self.patience.body,
            _ => self.patience.head,
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(patience)));
        if self.timed.replace((stage, heads)) != Some((stage, heads)) {
            timer.as_mut().reset(Instant::now() + patience);
        }
        ready!(timer.as_mut().poll(cx));
        self.timed = None;
        match stage {
            Stage::Head => self.refuse(cx, Refusal::HeadTooSlow(patience)),
            Stage::Body => {
                self.in_body = true;
                self.refuse(cx, Refusal::BodyTooSlow(patience))
            }
            // Nobody asked anything: the end of the stream, without a word.
            Stage::Idle | Stage::Opaque => Poll::Ready(Ok(())),
        }
    }
}

/// A refusal, and whether the client can still be told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answerable {
    pub(super) refusal: Refusal,
    /// Nothing of another answer is half written.
    pub(super) clean: bool,
}

impl<S: AsyncRead + Unpin> AsyncRead for Screened<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(refusal) = this.refusal {
            return this.refuse(cx, refusal);
        }
        let before = buf.filled().len();
        match Pin::new(&mut this.socket).poll_read(cx, buf) {
            Poll::Pending => return this.wait(cx),
            Poll::Ready(done) => done?,
        }
        // A head has its time as a whole; a body only from one piece to the next.
        if this.scanner.stage() == Stage::Body {
            this.timed = None;
        }
        match this.scanner.scan(&buf.filled()[before..]) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(refused) => {
                buf.set_filled(before + refused.whole);
                this.refusal = Some(refused.refusal);
                this.in_body = refused.in_body;
                if refused.whole > 0 { Poll::Ready(Ok(())) } else { this.refuse(cx, refused.refusal) }
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> Screened<S> {
    fn wrote(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let was_blocked = std::mem::replace(&mut self.blocked, written.is_pending());
        if self.blocked {
            return self.stalled(cx, was_blocked);
        }
        if self.refusal.is_some() {
            // It may have waited for this.
            cx.waker().wake_by_ref();
        }
        if matches!(written, Poll::Ready(Ok(n)) if n > 0) {
            self.exchange.wrote.set(true);
        }
        written
    }

    /// The socket took nothing: is it time to give up? TCP_USER_TIMEOUT is not enough: a client whose window is small
    /// but not shut answers every probe, and holds its backend's answer for ever (seen with Linux 6.18).
    fn stalled(&mut self, cx: &mut Context<'_>, still: bool) -> Poll<io::Result<usize>> {
        let Some(patience) = self.patience.stall else { return Poll::Pending };
        let timer = self.stall.get_or_insert_with(|| Box::pin(sleep(patience)));
        if !still {
            timer.as_mut().reset(Instant::now() + patience);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing of its answer")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Screened<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write(cx, buf);
        this.wrote(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write_vectored(cx, bufs);
        this.wrote(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.socket).poll_flush(cx))?;
        if this.is_waited_for() && this.wait(cx).is_ready() {
            // What it waits for is over already: the parser must read again to hear of it.
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}
