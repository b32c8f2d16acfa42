//! Keeps a worker looking for bytes instead of sleeping, while they come from few sessions and soon after each other.
//!
//! To be woken costs more than to relay a small message: a worker that looks answers sooner (a fifth here). The price
//! is its core: while a session speaks it is never idle, and no other process runs there. Hence off unless
//! `proxy.busy_poll` says otherwise, and given up as soon as there is a crowd, since then there is always work anyway.

use std::cell::RefCell;
use std::future::poll_fn;
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

/// How long after the last bytes it still looks.
const PATIENCE: Duration = Duration::from_micros(100);
/// The most sessions that are few.
const FEW: usize = 8;
/// The time in which they are counted.
const SPAN: Duration = Duration::from_millis(10);

thread_local! {
    /// Of this worker; `None`: it sleeps as others do.
    static VIGIL: RefCell<Option<Vigil>> = const { RefCell::new(None) };
}

/// Who spoke of late. Pure.
#[derive(Debug)]
struct Vigil {
    /// Sessions since the span began, by a number of theirs; one too many stands for all others.
    heard: Vec<usize>,
    span: Instant,
    /// Bytes moved since the last look.
    moved: bool,
    last: Instant,
    asleep: Option<Waker>,
}

#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// Ask the kernel at once whether there is something.
    Look,
    /// Until bytes move.
    Sleep,
    /// There are too many; for the rest of the span.
    Rest(Duration),
}

impl Vigil {
    fn new(now: Instant) -> Self {
        Self { heard: Vec::with_capacity(FEW + 1), span: now, moved: false, last: now, asleep: None }
    }

    /// A session moved bytes.
    fn hear(&mut self, who: usize) {
        self.moved = true;
        if self.heard.len() <= FEW && !self.heard.contains(&who) {
            self.heard.push(who);
        }
        if let Some(asleep) = self.asleep.take() {
            asleep.wake();
        }
    }

    fn next(&mut self, now: Instant) -> Next {
        let elapsed = now.saturating_duration_since(self.span);
        if self.heard.len() > FEW && elapsed < SPAN {
            return Next::Rest(SPAN - elapsed);
        }
        if elapsed >= SPAN {
            self.heard.clear();
            self.span = now;
        }
        if std::mem::take(&mut self.moved) {
            self.last = now;
        }
        if now.saturating_duration_since(self.last) < PATIENCE { Next::Look } else { Next::Sleep }
    }
}

/// A session moved bytes on this thread.
pub(super) fn moved(who: usize) {
    VIGIL.with_borrow_mut(|vigil| {
        if let Some(vigil) = vigil {
            vigil.hear(who);
        }
    });
}

/// Keeps this thread looking, for as long as this is polled on it.
pub(super) async fn keep_looking() {
    VIGIL.set(Some(Vigil::new(Instant::now())));
    loop {
        let next = VIGIL.with_borrow_mut(|vigil| vigil.as_mut().map(|vigil| vigil.next(Instant::now())));
        match next {
            None => return,
            // The runtime asks the kernel, without waiting, before this goes on.
            Some(Next::Look) => tokio::task::yield_now().await,
            Some(Next::Rest(time)) => tokio::time::sleep(time).await,
            Some(Next::Sleep) => asleep().await,
        }
    }
}

async fn asleep() {
    poll_fn(|cx| {
        VIGIL.with_borrow_mut(|vigil| match vigil {
            Some(vigil) if !vigil.moved => {
                vigil.asleep = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        })
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_micros(10);

    #[test]
    fn it_looks_for_a_while_after_the_last_bytes() {
        let start = Instant::now();
        let mut vigil = Vigil::new(start);
        vigil.hear(1);
        assert_eq!(vigil.next(start), Next::Look);
        assert_eq!(vigil.next(start + PATIENCE - STEP), Next::Look);
        vigil.hear(1);
        assert_eq!(vigil.next(start + PATIENCE), Next::Look);
        assert_eq!(vigil.next(start + 2 * PATIENCE), Next::Sleep);
        assert_eq!(vigil.next(start + 100 * SPAN), Next::Sleep);
    }

    #[test]
    fn in_a_crowd_it_sleeps_until_the_crowd_is_gone() {
        let start = Instant::now();
        let mut vigil = Vigil::new(start);
        (0..FEW).chain(0..FEW).for_each(|who| vigil.hear(who));
        assert_eq!(vigil.next(start), Next::Look);
        vigil.hear(FEW);
        assert_eq!(vigil.next(start + STEP), Next::Rest(SPAN - STEP));
        (0..1000).for_each(|who| vigil.hear(who));
        assert!(vigil.heard.len() <= FEW + 1, "it counts no further than it must");
        assert_eq!(vigil.next(start + SPAN), Next::Look);
        vigil.hear(3);
        assert_eq!(vigil.next(start + SPAN + STEP), Next::Look);
    }

    #[test]
    fn whoever_speaks_wakes_it() {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
        struct Flag(AtomicBool);
        impl std::task::Wake for Flag {
            fn wake(self: Arc<Self>) {
                self.0.store(true, SeqCst);
            }
        }
        let flag = Arc::new(Flag(AtomicBool::new(false)));
        let mut cx = std::task::Context::from_waker(Waker::noop());
        let waker = Waker::from(Arc::clone(&flag));
        let mut woken = std::task::Context::from_waker(&waker);
        moved(1);
        let mut looking = std::pin::pin!(asleep());
        VIGIL.set(Some(Vigil::new(Instant::now())));
        assert!(looking.as_mut().poll(&mut cx).is_pending());
        assert!(looking.as_mut().poll(&mut woken).is_pending());
        moved(1);
        assert!(flag.0.load(SeqCst));
        assert!(looking.as_mut().poll(&mut cx).is_ready());
    }
}
