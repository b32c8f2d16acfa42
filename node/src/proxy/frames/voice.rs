//! What is said between a session's relay and whoever looks after sessions: ends and pings that are asked for, answers and
//! Closes that were heard, what a client may still say.
//!
//! Cells of one thread: the relay reads them as it moves bytes, without a clock; who looks after sessions writes them once a
//! second, and wakes the relay where it must act.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::pulse::Pulse;
use super::scan::{Broken, Control, Extension, Kind, Rules};
use crate::config::model::{Frames, OverRate, PingTo};
use crate::proxy::backend;
use crate::proxy::ended::{Ended, Rate};
use crate::proxy::relay::Side;
use crate::proxy::tally::Tally;

/// See the module.
#[derive(Debug)]
pub(in crate::proxy) struct Voice {
    terms: Terms,
    tally: Arc<Tally>,
    relay: RefCell<Option<Waker>>,
    client: Line,
    backend: Line,
    ending: Cell<Option<Ending>>,
    /// The code of the Close that we said, to one side at least.
    said: Cell<Option<u16>>,
    /// What one side sent instead of a frame.
    broken: Cell<Option<Broken>>,
    /// When it is too old.
    expires: Duration,
    allowance: Cell<Allowance>,
}

/// What a session's frames are held to.
#[derive(Debug, Clone)]
pub(in crate::proxy) struct Terms {
    pub(in crate::proxy) frames: Arc<Frames>,
    pub(in crate::proxy) extension: Extension,
}

impl Terms {
    /// For what `from` sends.
    pub(super) fn rules(&self, from: Side) -> Rules {
        Rules {
            masked: from == Side::Client,
            extension: self.extension,
            max_frame: self.frames.max_frame,
            max_message: self.frames.max_message,
        }
    }
}

/// A polite end under way.
#[derive(Debug, Clone, Copy)]
pub(in crate::proxy) struct Ending {
    pub(in crate::proxy) why: Ended,
    /// Since when, by [`backend::now`].
    pub(in crate::proxy) since: Duration,
}

/// What a client may say before the next second begins.
#[derive(Debug, Clone, Copy)]
struct Allowance {
    messages: u32,
    bytes: u32,
    /// It waits for more.
    waited_for: bool,
}

/// One side.
#[derive(Debug)]
struct Line {
    pulse: Cell<Pulse>,
    /// The payload of our last ping, and when it was written.
    ping: Cell<Option<([u8; 8], Duration)>>,
    /// It said something, or took something, since the last look.
    life: Cell<bool>,
    /// We wait for nothing else than its bytes.
    listened_to: Cell<bool>,
    /// The code of its Close.
    closed: Cell<Option<u16>>,
}

impl Line {
    fn new(now: Duration, interval: Duration) -> Self {
        Self {
            pulse: Cell::new(Pulse::rested(now, interval, rand::random())),
            ping: Cell::default(),
            life: Cell::default(),
            listened_to: Cell::new(true),
            closed: Cell::default(),
        }
    }
}

impl Voice {
    /// Of a session that begins.
    pub(in crate::proxy) fn new(terms: Terms, tally: Arc<Tally>) -> Self {
        let now = backend::now();
        let interval = terms.frames.ping_interval;
        let expires =
            terms.frames.max_age.map_or(Duration::MAX, |age| now + age.mul_f64(1.0 - 0.1 * rand::random::<f64>()));
        let voice = Self {
            tally,
            relay: RefCell::default(),
            client: Line::new(now, interval),
            backend: Line::new(now, interval),
            ending: Cell::default(),
            said: Cell::default(),
            broken: Cell::default(),
            expires,
            allowance: Cell::new(Allowance { messages: u32::MAX, bytes: u32::MAX, waited_for: false }),
            terms,
        };
        voice.refill();
        voice
    }

    pub(super) fn terms(&self) -> &Terms {
        &self.terms
    }

    fn line(&self, side: Side) -> &Line {
        match side {
            Side::Client => &self.client,
            Side::Backend => &self.backend,
        }
    }

    /// Ends it politely, unless that is under way already.
    pub(in crate::proxy) fn end(&self, why: Ended) {
        if self.ending.get().is_none() {
            self.ending.set(Some(Ending { why, since: backend::now() }));
            self.wake();
        }
    }

    /// Whether it is to end, and why.
    pub(in crate::proxy) fn ending(&self) -> Option<Ending> {
        self.ending.get()
    }

    /// We say a Close with this code.
    pub(super) fn says(&self, code: u16) {
        self.said.set(Some(code));
    }

    /// The code of the Close that we said, if there was anybody whom it could still be said to.
    pub(in crate::proxy) fn said(&self) -> Option<u16> {
        self.said.get()
    }

    /// The code of the Close that a side sent; 1005: it had none.
    pub(in crate::proxy) fn closed(&self, side: Side) -> Option<u16> {
        self.line(side).closed.get()
    }

    /// Whether a side has sent a Close.
    pub(in crate::proxy) fn is_closed(&self) -> bool {
        [&self.client, &self.backend].iter().any(|line| line.closed.get().is_some())
    }

    /// What one side sent instead of a frame.
    pub(in crate::proxy) fn broken(&self) -> Option<Broken> {
        self.broken.get()
    }

    /// Called once a second. What it must end for.
    pub(in crate::proxy) fn look(&self, now: Duration) -> Option<Ended> {
        self.refill();
        if now >= self.expires {
            return Some(Ended::Old);
        }
        let Frames { ping, pong_timeout, .. } = *self.terms.frames;
        let pinged = [
            (Side::Client, matches!(ping, PingTo::Both | PingTo::Client)),
            (Side::Backend, matches!(ping, PingTo::Both | PingTo::Backend)),
        ];
        for (side, _) in pinged.into_iter().filter(|(_, pinged)| *pinged) {
            let line = self.line(side);
            // Answers are not listened for behind a Close; `close_timeout` looks after whoever sent one.
            if line.closed.get().is_some() {
                continue;
            }
            let life = line.life.take() || !line.listened_to.get();
            let before = line.pulse.get();
            let pulse = before.looked_at(now, life, pong_timeout);
            line.pulse.set(pulse);
            match pulse {
                Pulse::Gone => {
                    self.tally.ghost(side);
                    return Some(Ended::Mute(side));
                }
                Pulse::Asked if before != pulse => self.wake(),
                _ => {}
            }
        }
        None
    }

    fn refill(&self) {
        let Frames { messages_per_second, bytes_per_second, .. } = *self.terms.frames;
        let most = |n: Option<std::num::NonZeroU32>| n.map_or(u32::MAX, std::num::NonZeroU32::get);
        let full = Allowance { messages: most(messages_per_second), bytes: most(bytes_per_second), waited_for: false };
        if self.allowance.replace(full).waited_for {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(relay) = self.relay.borrow().as_ref() {
            relay.wake_by_ref();
        }
    }

    /// Whom to wake.
    pub(super) fn heard_by(&self, relay: &Waker) {
        let mut known = self.relay.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(relay)) {
            *known = Some(relay.clone());
        }
    }

    /// Whether something of ours is to be said to a side.
    pub(super) fn speaks_to(&self, side: Side) -> bool {
        self.ending.get().is_some() || self.line(side).pulse.get() == Pulse::Asked
    }

    /// The payload of a ping that is written to a side now.
    pub(super) fn ping(&self, side: Side) -> [u8; 8] {
        let (now, payload) = (backend::now(), rand::random());
        let line = self.line(side);
        line.ping.set(Some((payload, now)));
        line.pulse.set(Pulse::Waiting(now));
        payload
    }

    /// Whether a control frame of `side` answers our ping: then it is not for the other side.
    pub(super) fn answers(&self, side: Side, frame: &Control) -> bool {
        let line = self.line(side);
        let Some((payload, at)) = line.ping.get().filter(|_| frame.kind == Kind::Pong) else { return false };
        if frame.payload() != payload {
            return false;
        }
        let now = backend::now();
        self.tally.ping(side, now.saturating_sub(at));
        line.ping.set(None);
        line.pulse.set(Pulse::rested(now, self.terms.frames.ping_interval, rand::random()));
        true
    }

    /// A side said something, or took what it had no room for before.
    pub(super) fn lives(&self, side: Side) {
        self.line(side).life.set(true);
    }

    /// Whether we wait for nothing else than this side's bytes.
    pub(super) fn listens_to(&self, side: Side, listens: bool) {
        self.line(side).listened_to.set(listens);
    }

    /// A side sent a Close.
    pub(super) fn close(&self, side: Side, code: u16) {
        self.line(side).closed.set(Some(code));
    }

    /// A side sent what is no frame.
    pub(super) fn break_off(&self, side: Side, broken: Broken) {
        self.broken.set(Some(broken));
        self.end(Ended::Broken(side, broken.fault));
    }

    /// How many messages and bytes a client may send before the next second begins.
    pub(super) fn allowed(&self) -> (u32, u32) {
        let Allowance { messages, bytes, .. } = self.allowance.get();
        (messages, bytes)
    }

    /// A client sent so much of what it may.
    pub(super) fn sent(&self, messages: u32, bytes: usize) {
        let mut left = self.allowance.get();
        if left.messages != u32::MAX {
            left.messages = left.messages.saturating_sub(messages);
        }
        if left.bytes != u32::MAX {
            left.bytes = left.bytes.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
        }
        self.allowance.set(left);
    }

    /// A client has more to say than it may: it waits until it may, or its session ends.
    pub(super) fn exceeded(&self, what: Rate) {
        match self.terms.frames.over_rate {
            OverRate::Close => self.end(Ended::Flood(what)),
            OverRate::Delay => self.allowance.set(Allowance { waited_for: true, ..self.allowance.get() }),
        }
    }
}
