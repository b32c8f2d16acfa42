//! Moves the frames of a session, ours among them, until both sides are gone.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::voice::Voice;
use super::way::{Ear, Mouth, Way};
use crate::proxy::busy_poll;
use crate::proxy::lane::Socket;
use crate::proxy::relay::{Early, End, Moved, Side};

/// Relays frames until both directions have ended. `early` bytes were read before and go first.
pub(in crate::proxy) fn relay<C, B>(
    client: C,
    backend: B,
    early: &Early,
    moved: Rc<Moved>,
    voice: Rc<Voice>,
) -> Box<Relay<C, B>>
where
    C: Socket,
    B: Socket,
{
    let up = Way::new(Side::Client, &voice, &early.from_client);
    let down = Way::new(Side::Backend, &voice, &early.from_backend);
    Box::new(Relay { client, backend, up, down, end: None, moved, voice })
}

/// See [`relay`].
#[derive(Debug)]
#[must_use = "nothing moves unless it is polled"]
pub(in crate::proxy) struct Relay<C, B> {
    client: C,
    backend: B,
    up: Way,
    down: Way,
    end: Option<End>,
    moved: Rc<Moved>,
    voice: Rc<Voice>,
}

impl<C: Socket, B: Socket> Future for Relay<C, B> {
    type Output = End;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let this = self.get_mut();
        this.voice.heard_by(cx.waker());
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
        loop {
            self.lose_the_unreachable();
            let add = |to: &std::cell::Cell<u64>, n: usize| to.set(to.get() + n as u64);
            let Self { client, backend, up, moved, voice, .. } = self;
            let told = up.pump(cx, client, backend, voice, |n| add(&moved.from_client, n));
            if let Some(end) = self.moved.note(&mut self.end, told, Side::Client) {
                return Poll::Ready(end);
            }
            let Self { client, backend, down, moved, voice, .. } = self;
            let told = down.pump(cx, backend, client, voice, |n| add(&moved.from_backend, n));
            if let Some(end) = self.moved.note(&mut self.end, told, Side::Backend) {
                return Poll::Ready(end);
            }
            if self.up.is_over() && self.down.is_over() {
                return Poll::Ready(self.end.unwrap_or(End { side: Side::Client, failure: None }));
            }
            if !self.part() {
                return Poll::Pending;
            }
        }
    }

    fn ways(&mut self, from: Side) -> (&mut Way, &mut Way) {
        match from {
            Side::Client => (&mut self.up, &mut self.down),
            Side::Backend => (&mut self.down, &mut self.up),
        }
    }

    /// Nothing reaches a ghost, and nothing comes from it: the other side alone is told.
    fn lose_the_unreachable(&mut self) {
        let lost = self.voice.ending().and_then(|ending| ending.why.unreachable());
        let Some(side) = lost else { return };
        let (from, to) = self.ways(side);
        if from.ear != Ear::Ended {
            from.give_up_speaker();
            to.give_up_receiver();
        }
    }

    /// Ends our half towards each side that has had a Close and has said its own, or will not: whoever asks for the end of a
    /// WebSocket, a server ends the connection (RFC 6455 section 7.1.1). Whether that changed something.
    fn part(&mut self) -> bool {
        if self.voice.ending().is_none() {
            return false;
        }
        let mut parted = false;
        for side in [Side::Client, Side::Backend] {
            let closed = self.voice.closed(side).is_some();
            let (from, to) = self.ways(side);
            if to.has_said_close() && (closed || from.ear != Ear::Open) {
                to.mouth = Mouth::Shutting;
                parted = true;
            }
        }
        parted
    }
}
