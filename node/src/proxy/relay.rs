//! Moves bytes between two sockets until both directions have ended.
//!
//! The door is narrow on purpose: two sockets and what was read of them already go in, the reason of the end comes out.
//!
//! An idle session owns no buffer: each worker thread has one scratch, filled when a side is readable and written at
//! once; only what did not fit is boxed. Run it as a task of its own: inside the HTTP task an idle session costs
//! ten times the memory.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;

use super::busy_poll;
use super::frames::Voice;
use super::lane::{Event, Lane, Socket, Stage};

/// One end of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Who called.
    Client,
    /// Who answers.
    Backend,
}

impl Side {
    /// The one at the other end.
    pub(super) fn other(self) -> Self {
        match self {
            Self::Client => Self::Backend,
            Self::Backend => Self::Client,
        }
    }
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
    /// How to speak with the relay, if it understands frames.
    pub(super) voice: Option<Rc<Voice>>,
}

impl Moved {
    /// Bytes either way.
    pub(super) fn total(&self) -> u64 {
        self.from_client.get().wrapping_add(self.from_backend.get())
    }

    /// Of what was told of the direction from `from`, keeps the first reason in `end`; returns one that ends the session at
    /// once.
    pub(super) fn note(&self, end: &mut Option<End>, told: Option<Event>, from: Side) -> Option<End> {
        let reason = match told? {
            Event::Ended => End { side: from, failure: None },
            Event::ReceiverFailed(kind) => End { side: from.other(), failure: Some(kind) },
            Event::SenderFailed(kind) => return Some(*end.get_or_insert(End { side: from, failure: Some(kind) })),
        };
        end.get_or_insert(reason);
        self.closing.set(true);
        None
    }
}

/// Relays until both directions have ended. `early` bytes were read before and go first.
pub(super) fn relay<C, B>(client: C, backend: B, early: Early, moved: Rc<Moved>) -> Relay<C, B>
where
    C: Socket,
    B: Socket,
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
    C: Socket,
    B: Socket,
{
    type Output = End;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let this = self.get_mut();
        let before = this.moved.total();
        let ended = this.turn(cx);
        if this.moved.total() != before {
            busy_poll::moved(Rc::as_ptr(&this.moved).addr());
        }
        ended
    }
}

impl<C: Socket, B: Socket> Relay<C, B> {
    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        let last = self.down.stage == Stage::Done;
        let up = self.up.pump(cx, &mut self.client, &mut self.backend, &self.moved.from_client, last);
        if let Some(end) = self.moved.note(&mut self.end, up, Side::Client) {
            return Poll::Ready(end);
        }
        let last = self.up.stage == Stage::Done;
        let down = self.down.pump(cx, &mut self.backend, &mut self.client, &self.moved.from_backend, last);
        if let Some(end) = self.moved.note(&mut self.end, down, Side::Backend) {
            return Poll::Ready(end);
        }
        match (self.up.stage, self.down.stage) {
            (Stage::Done, Stage::Done | Stage::Deaf) | (Stage::Deaf, Stage::Done) | (Stage::Deaf, Stage::Deaf) => {
                Poll::Ready(self.end.unwrap_or(End { side: Side::Client, failure: None }))
            }
            _ => Poll::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use tokio::runtime::{Builder, LocalOptions};
    use tokio::task::JoinHandle;

    use super::super::stream::Stream;
    use super::super::tests::rig::pair;
    use super::*;

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
            let near_and_far = (Stream::from(near), Stream::from(far));
            let task = tokio::task::spawn_local(relay(near_and_far.0, near_and_far.1, early, Rc::clone(&moved)));
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
}
