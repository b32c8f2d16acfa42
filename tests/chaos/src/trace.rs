//! What happened, as a number that differs if anything does, and as lines for people.

use std::sync::{Arc, Mutex, PoisonError};

use crate::chance::mix;

/// The trace of one run; clones share it.
#[derive(Clone, Default)]
pub(crate) struct Trace(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    now: u64,
    events: u64,
    digest: u64,
    /// Kept only for who wants to read them.
    aloud: bool,
}

impl Trace {
    pub(crate) fn new(aloud: bool) -> Self {
        let trace = Self::default();
        trace.with(|inner| inner.aloud = aloud);
        trace
    }

    fn with<T>(&self, f: impl FnOnce(&mut Inner) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn tick(&self, now: u64) {
        self.with(|inner| inner.now = now);
    }

    /// Something happened that these numbers tell.
    pub(crate) fn count(&self, what: &[u64]) {
        self.with(|inner| {
            inner.events += 1;
            for number in std::iter::once(&inner.now).chain(what) {
                inner.digest = mix(inner.digest.rotate_left(7) ^ *number);
            }
        });
    }

    /// Something happened that is worth a line.
    pub(crate) fn say(&self, what: impl FnOnce() -> String) {
        let what = what();
        let bytes: Vec<u64> = what.bytes().map(u64::from).collect();
        self.count(&bytes);
        self.with(|inner| {
            if inner.aloud {
                println!("{:>6} ms  {what}", inner.now);
            }
        });
    }

    /// How many events there were, and their digest.
    pub(crate) fn sum(&self) -> (u64, u64) {
        self.with(|inner| (inner.events, inner.digest))
    }
}
