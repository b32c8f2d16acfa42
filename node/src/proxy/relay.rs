//! Moves bytes between two sockets until both directions have ended.
//!
//! The door is narrow on purpose: two sockets and what was read of them already go in, the reason of the end comes out,
//! so that a splice in the kernel can stand behind it too.
//!
//! ```text
//!  each direction:   open ── end of stream ──► closing ── rest written, shutdown(WR) ──► done
//!                     │ └─── receiver fails ──► deaf (read on, drop) ─── other direction done ──► done
//!                     └───── sender fails: the session ends
//! ```
//! An idle session owns no buffer: each worker thread has one scratch, filled when a side is readable and written at
//! once; only what did not fit is boxed. Run it as a task of its own: inside the HTTP task an idle session costs ten
//! times the memory.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What one read can take: smaller costs CPU in bulk (64 KiB: 6 to 18 %), larger gains nothing.
const SCRATCH: usize = 256 * 1024;
/// Bytes one direction may move before the others of its worker have their turn.
const TURN: usize = 2 * SCRATCH;

thread_local! {
    static SCRATCH_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// One end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Who called.
    Client,
    /// Who answers.
    Backend,
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Client => "client",
            Self::Backend => "backend",
        })
    }
}

/// Who ended a session, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    /// The side that ended first.
    pub(super) side: Side,
    /// `None`: it closed its stream in order.
    pub(super) failure: Option<io::ErrorKind>,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.failure {
            None => write!(f, "{} closed", self.side),
            Some(kind) => write!(f, "{} failed: {kind}", self.side),
        }
    }
}

/// What a relay tells while it runs; read by whoever watches the session.
#[derive(Debug, Default)]
pub(super) struct Moved {
    /// Bytes read from the client.
    pub(super) from_client: Cell<u64>,
    /// Bytes read from the backend.
    pub(super) from_backend: Cell<u64>,
    /// One side has ended, the other has not yet.
    pub(super) closing: Cell<bool>,
}

/// Relays until both directions have ended. `early` bytes were read before and go first.
pub(super) fn relay<C, B>(client: C, backend: B, early: Early, moved: Rc<Moved>) -> Relay<C, B>
where
    C: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    moved.from_client.set(early.from_client.len() as u64);
    moved.from_backend.set(early.from_backend.len() as u64);
    Relay { client, backend, up: Lane::new(early.from_client), down: Lane::new(early.from_backend), end: None, moved }
}

/// Bytes that were read together with the handshake.
#[derive(Debug, Default)]
pub(super) struct Early {
    /// From the client, for the backend.
    pub(super) from_client: Bytes,
    /// From the backend, for the client.
    pub(super) from_backend: Bytes,
}

/// See [`relay`].
#[derive(Debug)]
#[must_use = "nothing moves unless it is polled"]
pub(super) struct Relay<C, B> {
    client: C,
    backend: B,
    up: Lane,
    down: Lane,
    end: Option<End>,
    moved: Rc<Moved>,
}

impl<C, B> Future for Relay<C, B>
where
    C: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    type Output = End;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let this = self.get_mut();
        let up = this.up.pump(cx, &mut this.client, &mut this.backend, &this.moved.from_client);
        if let Some(end) = this.note(up, Side::Client, Side::Backend) {
            return Poll::Ready(end);
        }
        let down = this.down.pump(cx, &mut this.backend, &mut this.client, &this.moved.from_backend);
        if let Some(end) = this.note(down, Side::Backend, Side::Client) {
            return Poll::Ready(end);
        }
        match (this.up.stage, this.down.stage) {
            (Stage::Done, Stage::Done | Stage::Deaf) | (Stage::Deaf, Stage::Done) | (Stage::Deaf, Stage::Deaf) => {
                Poll::Ready(this.end.unwrap_or(End { side: Side::Client, failure: None }))
            }
            _ => Poll::Pending,
        }
    }
}

impl<C, B> Relay<C, B> {
    /// Keeps the first reason; returns one that ends the session at once.
    fn note(&mut self, event: Option<Event>, from: Side, to: Side) -> Option<End> {
        let end = match event? {
            Event::Ended => End { side: from, failure: None },
            Event::ReceiverFailed(kind) => End { side: to, failure: Some(kind) },
            Event::SenderFailed(kind) => return Some(*self.end.get_or_insert(End { side: from, failure: Some(kind) })),
        };
        self.end.get_or_insert(end);
        self.moved.closing.set(true);
        None
    }
}

/// One direction.
#[derive(Debug)]
struct Lane {
    /// Read but not yet written; nothing more is read while it is there.
    rest: Option<Box<Bytes>>,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    Closing,
    Deaf,
    Done,
}

/// What the other direction must know of.
enum Event {
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
    fn new(early: Bytes) -> Self {
        Self { rest: (!early.is_empty()).then(|| Box::new(early)), stage: Stage::Open }
    }

    /// Moves what can be moved now, one turn at most. `None`: nothing to tell.
    fn pump<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W, moved: &Cell<u64>) -> Option<Event>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut turn = TURN;
        let mut event = None;
        loop {
            match self.stage {
                Stage::Done => return event,
                Stage::Closing | Stage::Open => match self.flush(cx, to) {
                    Poll::Pending => return event,
                    Poll::Ready(Ok(())) if self.stage == Stage::Closing => {
                        // The receiver may be gone by now; then there is nobody left to tell.
                        if Pin::new(&mut *to).poll_shutdown(cx).is_ready() {
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
                Poll::Pending => return event,
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

    /// The receiver takes nothing more. What the sender still says is read and dropped: unread bytes would make the
    /// kernel answer it with a reset, and that can overtake the receiver's last words to it.
    fn fail(&mut self) {
        self.rest = None;
        self.stage = Stage::Deaf;
    }

    /// Writes the rest of earlier reads.
    fn flush<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, to: &mut W) -> Poll<io::Result<()>> {
        while let Some(rest) = &mut self.rest {
            match ready!(Pin::new(&mut *to).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                n => rest.advance(n),
            }
            if rest.is_empty() {
                self.rest = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// One read, written at once. `poll_read`, not `try_read`: only that forgets the readiness after a short read, and
    /// saves the read that would find nothing.
    fn step<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Poll<Result<Step, Event>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        SCRATCH_BUFFER.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(from).poll_read(cx, &mut buffer)).map_err(|e| Event::SenderFailed(e.kind()))?;
            let bytes = buffer.filled();
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
                        self.rest = Some(Box::new(Bytes::copy_from_slice(&bytes[sent..])));
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
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::runtime::{Builder, LocalOptions};
    use tokio::task::JoinHandle;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (near, listener.accept().await.unwrap().0)
    }

    /// Runs `story` with the far ends of a relayed pair.
    fn with_relay<F>(early: Early, story: impl FnOnce(TcpStream, TcpStream, JoinHandle<End>, Rc<Moved>) -> F)
    where
        F: Future<Output = ()>,
    {
        let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
        runtime.block_on(async {
            let (client, near) = pair().await;
            let (far, backend) = pair().await;
            let moved = Rc::new(Moved::default());
            let task = tokio::task::spawn_local(relay(near, far, early, Rc::clone(&moved)));
            tokio::time::timeout(Duration::from_secs(20), story(client, backend, task, moved)).await.unwrap();
        });
    }

    /// A byte that tells its place.
    fn pattern(i: usize) -> u8 {
        (i / 251).to_le_bytes()[0]
    }

    async fn read(socket: &mut TcpStream, n: usize) -> Vec<u8> {
        let mut bytes = vec![0; n];
        socket.read_exact(&mut bytes).await.unwrap();
        bytes
    }

    #[test]
    fn early_bytes_go_first() {
        let early =
            Early { from_client: Bytes::from_static(b"to backend"), from_backend: Bytes::from_static(b"hello") };
        with_relay(early, async |mut client, mut backend, task, moved| {
            client.write_all(b", more").await.unwrap();
            assert_eq!(read(&mut backend, 16).await, b"to backend, more");
            assert_eq!(read(&mut client, 5).await, b"hello");
            drop(client);
            assert_eq!(backend.read(&mut [0]).await.unwrap(), 0);
            drop(backend);
            assert_eq!(task.await.unwrap(), End { side: Side::Client, failure: None });
            assert_eq!((moved.from_client.get(), moved.from_backend.get()), (16, 5));
        });
    }

    #[test]
    fn a_half_closed_side_still_hears_the_other() {
        with_relay(Early::default(), async |mut client, mut backend, task, moved| {
            client.write_all(b"last words").await.unwrap();
            client.shutdown().await.unwrap();
            let mut heard = Vec::new();
            backend.read_to_end(&mut heard).await.unwrap();
            assert_eq!(heard, b"last words");
            assert!(moved.closing.get());
            backend.write_all(b"answer").await.unwrap();
            drop(backend);
            heard.clear();
            client.read_to_end(&mut heard).await.unwrap();
            assert_eq!(heard, b"answer");
            assert_eq!(task.await.unwrap().to_string(), "client closed");
        });
    }

    #[test]
    fn a_reset_ends_the_session() {
        with_relay(Early::default(), async |mut client, mut backend, task, _| {
            backend.write_all(b"x").await.unwrap();
            read(&mut client, 1).await;
            client.set_zero_linger().unwrap();
            drop(client);
            let end = task.await.unwrap();
            assert_eq!(end, End { side: Side::Client, failure: Some(io::ErrorKind::ConnectionReset) });
            assert_eq!(backend.read(&mut [0]).await.unwrap(), 0);
        });
    }

    #[test]
    fn a_slow_receiver_loses_nothing_and_holds_the_sender_back() {
        const SIZE: usize = 24 << 20;
        with_relay(Early::default(), async |mut client, mut backend, task, _| {
            // Else the kernel may grow its buffers to hold it all.
            socket2::SockRef::from(&client).set_recv_buffer_size(65_536).unwrap();
            socket2::SockRef::from(&backend).set_send_buffer_size(65_536).unwrap();
            let sent = Rc::new(Cell::new(0));
            let counter = Rc::clone(&sent);
            let sender = tokio::task::spawn_local(async move {
                let mut n = 0;
                while n < SIZE {
                    let block: Vec<u8> = (n..n + 65_536).map(pattern).collect();
                    backend.write_all(&block).await.unwrap();
                    n += block.len();
                    counter.set(n);
                }
                backend
            });
            // Held back: the sender stands still although nobody reads.
            let mut before = usize::MAX;
            while before != sent.get() {
                before = sent.get();
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            assert!(before < SIZE, "{before} bytes are in flight with nobody reading");
            let all = read(&mut client, SIZE).await;
            assert!(all.iter().enumerate().all(|(i, b)| *b == pattern(i)));
            drop(sender.await.unwrap());
            assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
            drop(client);
            assert_eq!(task.await.unwrap().side, Side::Backend);
        });
    }

    #[test]
    fn last_words_arrive_although_the_client_still_talks() {
        with_relay(Early::default(), async |mut client, mut backend, task, _| {
            backend.write_all(b"goodbye").await.unwrap();
            backend.set_zero_linger().unwrap();
            read(&mut client, 7).await;
            drop(backend);
            // Whatever is written now finds nobody; the session ends, it does not hang.
            while client.write_all(&[0; 1000]).await.is_ok() && !task.is_finished() {
                tokio::task::yield_now().await;
            }
            assert_eq!(task.await.unwrap().side, Side::Backend);
        });
    }

    #[test]
    fn both_directions_stream_at_once() {
        const SIZE: u64 = 4 << 20;
        with_relay(Early::default(), async |client, backend, _task, _| {
            let (mut from_backend, mut to_backend) = client.into_split();
            let (mut from_client, mut to_client) = backend.into_split();
            let (mut up, mut down) = (tokio::io::repeat(1).take(SIZE), tokio::io::repeat(2).take(SIZE));
            let (mut a, mut b) = (vec![0; 4 << 20], vec![0; 4 << 20]);
            let (n, m, heard_up, heard_down) = tokio::join!(
                tokio::io::copy(&mut up, &mut to_backend),
                tokio::io::copy(&mut down, &mut to_client),
                from_client.read_exact(&mut a),
                from_backend.read_exact(&mut b),
            );
            assert_eq!((n.unwrap(), m.unwrap()), (SIZE, SIZE));
            heard_up.unwrap();
            heard_down.unwrap();
            assert!(a.iter().all(|b| *b == 1) && b.iter().all(|b| *b == 2));
        });
    }

    /// A reader that always has more, a writer that always takes it: a poll must end nevertheless.
    #[test]
    fn a_stream_without_end_leaves_turns_to_others() {
        let (mut lane, moved) = (Lane::new(Bytes::new()), Cell::new(0));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(lane.pump(&mut cx, &mut tokio::io::repeat(1), &mut tokio::io::sink(), &moved).is_none());
        assert_eq!(moved.get(), TURN as u64);
    }
}
