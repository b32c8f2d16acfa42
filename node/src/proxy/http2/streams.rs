//! The streams of one HTTP/2 connection, counted: is it idle, does it only keep us busy?

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::proxy::screen::Refusal;

/// Streams a client may reset before their answer beyond as many as it let be answered. One who leaves a page resets all
/// that are open, once.
const SPARE: u64 = 200;
/// What is said of a client that goes beyond.
pub(super) const ABUSE: Refusal = Refusal::Malformed("it resets more streams than it lets be answered");

/// See the module.
#[derive(Debug)]
pub(super) struct Streams {
    open: Cell<u32>,
    answered: Cell<u64>,
    reset: Cell<u64>,
    /// Since when no stream is open, if none is.
    quiet: Cell<Instant>,
    abuse: Notify,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            open: Cell::default(),
            answered: Cell::default(),
            reset: Cell::default(),
            quiet: Cell::new(Instant::now()),
            abuse: Notify::new(),
        }
    }
}

impl Streams {
    /// A request was read.
    pub(super) fn begin(self: &Rc<Self>) -> Running {
        self.open.set(self.open.get() + 1);
        Running { streams: Rc::clone(self), answered: false }
    }

    /// Waits until no stream has been open for a time: `first` if there never was one.
    pub(super) async fn idle(&self, first: Duration, next: Duration) {
        loop {
            let none = self.open.get() == 0;
            let patience = if self.answered.get() == 0 && self.reset.get() == 0 { first } else { next };
            // One that is open now cannot have been over for so long any sooner.
            let until = if none { self.quiet.get() } else { Instant::now() } + patience;
            if none && until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }

    /// Waits until the client has reset too many.
    pub(super) async fn abused(&self) {
        self.abuse.notified().await;
    }
}

/// One stream that is open.
#[derive(Debug)]
pub(in crate::proxy) struct Running {
    streams: Rc<Streams>,
    answered: bool,
}

impl Running {
    /// The answer's head is there.
    pub(super) fn answered(mut self) -> Self {
        self.answered = true;
        self
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let streams = &self.streams;
        streams.open.set(streams.open.get() - 1);
        streams.quiet.set(Instant::now());
        let count = if self.answered { &streams.answered } else { &streams.reset };
        count.set(count.get() + 1);
        if streams.reset.get() > streams.answered.get() + SPARE {
            streams.abuse.notify_one();
        }
    }
}
