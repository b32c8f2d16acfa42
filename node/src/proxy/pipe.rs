//! Pipes of the kernel, through which bytes pass from socket to socket without being copied (splice(2)).
//!
//! A pipe is taken for one burst and goes back when it is empty again: a session that moves nothing holds no
//! descriptor. Each worker has a few; whoever finds none copies.

use std::cell::RefCell;
use std::io;
use std::os::fd::OwnedFd;
use std::task::{Context, Poll, ready};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// Pipes of one worker in use at once, two descriptors each. More than a few are in use only while receivers are slow.
const MOST: usize = 64;
/// Empty pipes kept for the next burst.
const KEPT: usize = 8;
/// Bytes a pipe should hold: 1 MiB was not quicker. 64 of them stay within what one user may have unprivileged (64 MiB).
const SIZE: usize = 256 * 1024;
/// One that holds less moves bytes slower than a copy does. The kernel gives no more to users who have many pipes.
const LEAST: usize = 64 * 1024;

thread_local! {
    static POOL: RefCell<Pool> = const { RefCell::new(Pool { empty: Vec::new(), used: 0 }) };
}

#[derive(Debug)]
struct Pool {
    empty: Vec<Ends>,
    used: usize,
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

/// A pipe in use. Dropped empty, it can be used again; dropped with bytes in it, it is closed.
#[derive(Debug)]
pub(super) struct Pipe {
    ends: Option<Ends>,
    held: usize,
}

impl Pipe {
    /// An empty one; `None`: this worker or the system has no more to give.
    pub(super) fn take() -> Option<Self> {
        POOL.with_borrow_mut(|pool| {
            if pool.used == MOST {
                return None;
            }
            let ends = pool.empty.pop().or_else(Ends::open)?;
            pool.used += 1;
            Some(Self { ends: Some(ends), held: 0 })
        })
    }

    /// Takes what `from` has, as much as fits; zero is the end of its stream. Only into an empty pipe: "would block"
    /// must mean that the socket has nothing, never that the pipe is full.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>, from: &TcpStream) -> Poll<io::Result<usize>> {
        let Some(ends) = self.ends.as_ref().filter(|_| self.held == 0) else {
            return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
        };
        loop {
            ready!(from.poll_read_ready(cx))?;
            let taken = from.try_io(Interest::READABLE, || {
                Ok(splice(from, None, &ends.write, None, SIZE, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)?)
            });
            match taken {
                Err(e) if is_temporary(&e) => {}
                Ok(n) => {
                    self.held = n;
                    return Poll::Ready(Ok(n));
                }
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
    }

    /// Gives all it holds to `to`. A receiver that is gone is an error, not a signal: SIGPIPE is ignored in every Rust
    /// program.
    pub(super) fn poll_drain(&mut self, cx: &mut Context<'_>, to: &TcpStream) -> Poll<io::Result<()>> {
        let Some(ends) = &self.ends else { return Poll::Ready(Ok(())) };
        while self.held > 0 {
            ready!(to.poll_write_ready(cx))?;
            // Never more than it holds, else the kernel would wait with the last packet for what is still to come.
            let given = to.try_io(Interest::WRITABLE, || {
                Ok(splice(&ends.read, None, to, None, self.held, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)?)
            });
            match given {
                Err(e) if is_temporary(&e) => {}
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(n) => self.held -= n,
                Err(e) => return Poll::Ready(Err(e)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        let ends = self.ends.take().filter(|_| self.held == 0);
        // A thread that ends has dropped its pool already; then the pipe is closed.
        let _ = POOL.try_with(|pool| {
            let mut pool = pool.borrow_mut();
            pool.used -= 1;
            if pool.empty.len() < KEPT {
                pool.empty.extend(ends);
            }
        });
    }
}

impl Ends {
    fn open() -> Option<Self> {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
        // Refused, it may still be large enough.
        let size = fcntl_setpipe_size(&write, SIZE).or_else(|_| rustix::pipe::fcntl_getpipe_size(&write)).ok()?;
        (size >= LEAST).then_some(Self { read, write })
    }
}

fn is_temporary(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// How many are in use, and how many wait for it, on this thread.
#[cfg(test)]
pub(super) fn counted() -> (usize, usize) {
    POOL.with_borrow(|pool| (pool.used, pool.empty.len()))
}

/// Closes those that wait.
#[cfg(test)]
pub(super) fn close_waiting() {
    POOL.with_borrow_mut(|pool| pool.empty.clear());
}
