//! One direction of a session: bytes from one socket to the other, until the first has no more.
//!
//! ```text
//!  each direction:   open ── end of stream ──► closing ── rest written, shutdown(WR) ──► done
//!                     │ └─── receiver fails ──► deaf (read on, drop) ─── other direction done ──► done
//!                     └───── sender fails: the session ends
//! ```
//! A direction that moves much at a time leaves the copying to the kernel, as long as both ends are bare sockets.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::pipe::Pipe;
use super::scratch::{self, SCRATCH};
use super::stream::Stream;

/// Bytes one direction may move before the others of its worker have their turn.
pub(super) const TURN: usize = 2 * SCRATCH;
/// One read of so many bytes makes a direction bulky: what comes next goes through a pipe.
const BULK: usize = 32 * 1024;
/// Bursts of less do not keep it bulky: below, two system calls more cost as much as the copy does.
const SPARSE: usize = 16 * 1024;
/// So many of them in a row, and it is not bulky any more. Not the first: that may be the end of a large message, and the
/// beginning of the next would be copied.
const PATIENCE: u8 = 2;

/// What a session's bytes come from and go to.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// The kernel's socket, if its bytes are the very ones that are meant.
    fn bare(&self) -> Option<&TcpStream>;
}

impl Socket for Stream {
    fn bare(&self) -> Option<&TcpStream> {
        match self {
            Self::Plain(socket) => Some(socket),
            Self::Http2(_) | Self::Tls(_) => None,
        }
    }
}

/// One direction.
#[derive(Debug)]
pub(super) struct Lane {
    /// Read but not yet written; nothing more is read while it is there.
    rest: Option<Box<Rest>>,
    pub(super) stage: Stage,
    /// It moves much at a time, while this is not zero: how many sparse bursts it may still have.
    bulky: u8,
}

/// Where bytes wait for their receiver.
#[derive(Debug)]
enum Rest {
    Copied(Bytes),
    Piped(Pipe),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Open,
    Closing,
    Deaf,
    Done,
}

/// What the other direction must know of.
pub(super) enum Event {
    /// The sender closed its stream.
    Ended,
    SenderFailed(io::ErrorKind),
    ReceiverFailed(io::ErrorKind),
}

/// How one move ended.
enum Step {
    /// This many bytes left the sender; zero is the end of its stream.
    Took(usize),
    /// The receiver is full; the rest is kept.
    Full(usize),
}

impl Lane {
    pub(super) fn new(early: Bytes) -> Self {
        let rest = (!early.is_empty()).then(|| Box::new(Rest::Copied(early)));
        Self { rest, stage: Stage::Open, bulky: 0 }
    }

    /// Moves what can be moved now, one turn at most. `None`: nothing to tell. `last`: the other direction is done, so
    /// both sockets are closed right after this one.
    pub(super) fn pump<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        moved: &Cell<u64>,
        last: bool,
    ) -> Option<Event>
    where
        R: Socket,
        W: Socket,
    {
        let mut turn = TURN;
        let mut event = None;
        loop {
            match self.stage {
                Stage::Done => return event,
                Stage::Closing | Stage::Open => match self.flush(cx, to) {
                    Poll::Pending => return event,
                    Poll::Ready(Ok(())) if self.stage == Stage::Closing => {
                        // Closing a bare socket of which the end was read says the same with a system call less. The
                        // receiver may be gone by now; then there is nobody left to tell.
                        if (last && to.bare().is_some()) || Pin::new(&mut *to).poll_shutdown(cx).is_ready() {
                            self.stage = Stage::Done;
                        }
                        return event;
                    }
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(e)) => {
                        self.fail();
                        return event.or(Some(Event::ReceiverFailed(e.kind())));
                    }
                },
                Stage::Deaf => {}
            }
            let n = match self.step(cx, from, to) {
                Poll::Pending => {
                    self.judge(TURN - turn);
                    return event;
                }
                Poll::Ready(Ok(Step::Took(0))) => {
                    event = Some(Event::Ended);
                    self.stage = if self.stage == Stage::Deaf { Stage::Done } else { Stage::Closing };
                    continue;
                }
                Poll::Ready(Ok(Step::Took(n))) => n,
                Poll::Ready(Ok(Step::Full(n))) => {
                    moved.set(moved.get() + n as u64);
                    return event;
                }
                Poll::Ready(Err(told)) => {
                    if matches!(told, Event::ReceiverFailed(_)) {
                        self.fail();
                    }
                    return Some(told);
                }
            };
            moved.set(moved.get() + n as u64);
            turn = turn.saturating_sub(n);
            if turn == 0 {
                cx.waker().wake_by_ref();
                return event;
            }
        }
    }

    /// What it will be after a burst of `moved` bytes. One that had nothing to move this time stays what it is.
    fn judge(&mut self, moved: usize) {
        match moved {
            0 => {}
            1..SPARSE => self.bulky = self.bulky.saturating_sub(1),
            _ if self.bulky > 0 => self.bulky = PATIENCE,
            _ => {}
        }
    }

    /// The receiver takes nothing more. What the sender still says is read and dropped: unread bytes would make the
    /// kernel answer it with a reset, and that can overtake the receiver's last words to it.
    fn fail(&mut self) {
        self.rest = None;
        self.stage = Stage::Deaf;
    }

    /// Writes the rest of earlier reads, and what the receiver itself may still hold.
    fn flush<W: Socket>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<io::Result<()>> {
        match self.rest.as_deref_mut() {
            None => return Pin::new(to).poll_flush(cx),
            Some(Rest::Piped(pipe)) => {
                if let Some(to) = to.bare() {
                    ready!(pipe.poll_drain(cx, to))?;
                }
            }
            Some(Rest::Copied(bytes)) => {
                while !bytes.is_empty() {
                    match ready!(Pin::new(&mut *to).poll_write(cx, bytes))? {
                        0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                        n => bytes.advance(n),
                    }
                }
            }
        }
        self.rest = None;
        Pin::new(to).poll_flush(cx)
    }

    fn step<R: Socket, W: Socket>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> Poll<Result<Step, Event>> {
        if self.bulky > 0 && self.stage == Stage::Open {
            if let (Some(from), Some(to), Some(pipe)) = (from.bare(), to.bare(), Pipe::take()) {
                return self.splice(cx, from, to, pipe);
            }
            self.bulky = 0;
        }
        self.copy(cx, from, to)
    }

    /// One burst through a pipe, which goes back at once unless the receiver is full.
    fn splice(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        to: &TcpStream,
        mut pipe: Pipe,
    ) -> Poll<Result<Step, Event>> {
        let taken = ready!(pipe.poll_fill(cx, from)).map_err(|e| Event::SenderFailed(e.kind()))?;
        Poll::Ready(match pipe.poll_drain(cx, to) {
            Poll::Ready(done) => done.map(|()| Step::Took(taken)).map_err(|e| Event::ReceiverFailed(e.kind())),
            Poll::Pending => {
                self.rest = Some(Box::new(Rest::Piped(pipe)));
                Ok(Step::Full(taken))
            }
        })
    }

    /// One read, written at once. `poll_read`, not `try_read`: only that forgets the readiness after a short read, and
    /// saves the read that would find nothing.
    fn copy<R: Socket, W: Socket>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> Poll<Result<Step, Event>> {
        scratch::with(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(from).poll_read(cx, &mut buffer)).map_err(|e| Event::SenderFailed(e.kind()))?;
            let bytes = buffer.filled();
            if bytes.len() >= BULK {
                self.bulky = PATIENCE;
            }
            if self.stage == Stage::Deaf {
                return Poll::Ready(Ok(Step::Took(bytes.len())));
            }
            let mut sent = 0;
            while sent < bytes.len() {
                match Pin::new(&mut *to).poll_write(cx, &bytes[sent..]) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(Event::ReceiverFailed(io::ErrorKind::WriteZero))),
                    Poll::Ready(Ok(n)) => sent += n,
                    Poll::Ready(Err(e)) => return Poll::Ready(Err(Event::ReceiverFailed(e.kind()))),
                    Poll::Pending => {
                        self.rest = Some(Box::new(Rest::Copied(Bytes::copy_from_slice(&bytes[sent..]))));
                        return Poll::Ready(Ok(Step::Full(bytes.len())));
                    }
                }
            }
            Poll::Ready(Ok(Step::Took(bytes.len())))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A reader that always has more, a writer that always takes it.
    struct Endless;

    impl Socket for Endless {
        fn bare(&self) -> Option<&TcpStream> {
            None
        }
    }

    impl AsyncRead for Endless {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            buf.initialize_unfilled();
            buf.set_filled(buf.capacity());
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Endless {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn a_stream_without_end_leaves_turns_to_others() {
        let (mut lane, moved) = (Lane::new(Bytes::new()), Cell::new(0));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(lane.pump(&mut cx, &mut Endless, &mut Endless, &moved, false).is_none());
        assert_eq!(moved.get(), TURN as u64);
    }
}
