//! Much data at once: it goes through pipes of the kernel, and nobody can tell.

use std::future::Future;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, LocalOptions};
use tokio::task::JoinHandle;

use super::super::pipe::{Pipe, close_waiting, counted};
use super::super::relay::{Early, End, Moved, Side, relay};
use super::super::stream::Stream;
use super::rig::{PATIENCE, pair};

/// Pipes belong to a thread, so the relays, their clients and their backends all share this one.
fn alone<F: Future<Output = ()>>(story: impl FnOnce() -> F) {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, story()).await.expect("it comes to an end") });
}

struct Session {
    client: TcpStream,
    backend: TcpStream,
    task: JoinHandle<End>,
    moved: Rc<Moved>,
}

async fn session() -> Session {
    let ((client, near), (far, backend)) = (pair().await, pair().await);
    let moved = Rc::new(Moved::default());
    let moving = relay(Stream::from(near), Stream::from(far), Early::default(), Rc::clone(&moved));
    Session { client, backend, task: tokio::task::spawn_local(moving), moved }
}

/// Writes `size` bytes of a stream that nothing else looks like, in pieces of every size.
async fn speak(mut to: impl tokio::io::AsyncWrite + Unpin, seed: u64, size: usize) {
    let (mut bytes, mut pieces) = (StdRng::seed_from_u64(seed), StdRng::seed_from_u64(!seed));
    let mut left = size;
    while left > 0 {
        let most = if pieces.random_bool(0.5) { 600_000 } else { 300 };
        let mut piece = vec![0; pieces.random_range(1..=most).min(left)];
        piece.iter_mut().for_each(|b| *b = bytes.random());
        to.write_all(&piece).await.unwrap();
        left -= piece.len();
    }
}

/// Reads so much of it: every byte must be the one that was written.
async fn hear(mut from: impl tokio::io::AsyncRead + Unpin, seed: u64, size: usize) {
    let (mut bytes, mut piece, mut heard) = (StdRng::seed_from_u64(seed), vec![0; 100_000], 0);
    while heard < size {
        let n = from.read(&mut piece).await.unwrap();
        assert!(n > 0, "the stream ends after {heard} of {size} bytes");
        for (i, byte) in piece[..n].iter().enumerate() {
            assert_eq!(*byte, bytes.random::<u8>(), "byte {}", heard + i);
        }
        heard += n;
    }
    assert_eq!(heard, size);
}

#[test]
fn both_directions_arrive_byte_for_byte() {
    const SIZE: usize = 6 << 20;
    alone(async || {
        let Session { mut client, mut backend, task, moved } = session().await;
        {
            let ((from_backend, to_backend), (from_client, to_client)) = (client.split(), backend.split());
            tokio::join!(
                speak(to_backend, 1, SIZE),
                speak(to_client, 2, SIZE),
                hear(from_client, 1, SIZE),
                hear(from_backend, 2, SIZE),
            );
        }
        let (used, waiting) = counted();
        assert!(used == 0 && waiting > 0, "{used} pipes in use and {waiting} waiting, at rest");
        client.shutdown().await.unwrap();
        assert_eq!(backend.read(&mut [0]).await.unwrap(), 0);
        speak(&mut backend, 3, 1 << 20).await;
        drop(backend);
        hear(&mut client, 3, 1 << 20).await;
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0);
        assert_eq!(task.await.unwrap(), End { side: Side::Client, failure: None });
        assert_eq!((moved.from_client.get(), moved.from_backend.get()), (SIZE as u64, (SIZE + (1 << 20)) as u64));
    });
}

#[test]
fn a_slow_receiver_keeps_its_pipe_and_its_bytes() {
    const SIZE: usize = 24 << 20;
    alone(async || {
        let Session { client, backend, task, moved } = session().await;
        let speaking = tokio::task::spawn_local(speak(backend, 4, SIZE));
        // Until it stands still although there is more.
        let mut before = u64::MAX;
        while before != moved.from_backend.get() || before == 0 {
            before = moved.from_backend.get();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(before < SIZE as u64, "{before} bytes are under way with nobody reading");
        assert_eq!(counted().0, 1);
        hear(client, 4, SIZE).await;
        speaking.await.unwrap();
        assert_eq!(task.await.unwrap().side, Side::Backend);
        assert_eq!(counted().0, 0);
    });
}

#[test]
fn a_reset_in_the_middle_of_it_leaves_no_bytes_to_others() {
    alone(async || {
        let Session { mut client, mut backend, task, moved } = session().await;
        let speaking = tokio::task::spawn_local(async move { while backend.write_all(&[9; 1 << 20]).await.is_ok() {} });
        client.read_exact(&mut vec![0; 1 << 20]).await.unwrap();
        // Its receiver is full, and the pipe is not empty.
        let mut before = 0;
        while before != moved.from_backend.get() || counted().0 == 0 {
            before = moved.from_backend.get();
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        client.set_zero_linger().unwrap();
        drop(client);
        let end = task.await.unwrap();
        assert_eq!(end, End { side: Side::Client, failure: Some(io::ErrorKind::ConnectionReset) });
        speaking.await.unwrap();
        assert_eq!(counted(), (0, 0), "a pipe with bytes in it is closed");
        let mut next = session().await;
        tokio::join!(speak(&mut next.client, 5, 2 << 20), hear(&mut next.backend, 5, 2 << 20));
    });
}

#[test]
fn without_a_pipe_it_is_copied() {
    const SIZE: usize = 4 << 20;
    alone(async || {
        let all: Vec<Pipe> = std::iter::from_fn(Pipe::take).collect();
        assert!(!all.is_empty() && Pipe::take().is_none());
        let mut session = session().await;
        tokio::join!(speak(&mut session.client, 6, SIZE), hear(&mut session.backend, 6, SIZE));
        assert_eq!(session.moved.from_client.get(), SIZE as u64);
        assert_eq!(counted(), (all.len(), 0));
        drop(all);
        assert_eq!(counted().0, 0);
        tokio::join!(speak(&mut session.backend, 7, SIZE), hear(&mut session.client, 7, SIZE));
    });
}

#[test]
fn small_messages_after_a_large_one_take_no_pipe() {
    alone(async || {
        let Session { mut client, mut backend, .. } = session().await;
        tokio::join!(speak(&mut client, 8, 4 << 20), hear(&mut backend, 8, 4 << 20));
        for n in 0..20 {
            // The first of them still find the direction bulky.
            client.write_all(&[n; 100]).await.unwrap();
            backend.read_exact(&mut [0; 100]).await.unwrap();
        }
        assert!(counted().1 > 0);
        close_waiting();
        client.write_all(&[1; 100]).await.unwrap();
        backend.read_exact(&mut [0; 100]).await.unwrap();
        assert_eq!(counted(), (0, 0));
    });
}
