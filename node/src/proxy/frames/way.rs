//! One direction of a session whose frames are looked after: from the side that speaks to the side that is spoken to.
//!
//! ```text
//!  ear:    open ── its Close, or what is no frame ──► deaf (read on, drop) ─┬─ end of stream ──► ended
//!            └──────────────────────────────────────────────────────────────┘
//!  mouth:  open ── a Close is passed on, or ours is said ──► closed ── both sides have said theirs ──► shutting
//!            │                                                 └──── the speaker's stream has ended ────┘  │
//!            └─ the receiver fails ──► failed                             rest written, shutdown(WR) ──► done
//! ```
//! What was read is judged in the worker's scratch and written from there. Kept is only what cannot be judged yet (a head or a
//! control frame that is not all there, at most 139 bytes; what a client may not say yet, at most [`LITTLE`]) and what the
//! receiver does not take. Frames of ours stand between those of others, also between the pieces of a message.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::ReadBuf;

use super::ours::{self, Mask};
use super::scan::{Control, Kind, Piece, Scanner, Until};
use super::voice::Voice;
use crate::config::model::OverRate;
use crate::proxy::ended::Rate;
use crate::proxy::lane::{Event, Socket, TURN};
use crate::proxy::relay::Side;
use crate::proxy::scratch::{self, SCRATCH};

/// What one read takes of a client whose messages are counted: so much may have to be kept.
const LITTLE: usize = 16 * 1024;

/// See the module.
#[derive(Debug)]
pub(super) struct Way {
    /// Who speaks.
    from: Side,
    scanner: Scanner,
    /// Read, and not judged yet.
    kept: Vec<u8>,
    /// It is to be judged before more is read.
    ready: bool,
    /// Judged, and not taken yet; nothing more is read while it is there.
    rest: BytesMut,
    pub(super) ear: Ear,
    pub(super) mouth: Mouth,
}

/// What becomes of what is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ear {
    Open,
    /// It is dropped: unread bytes would make the kernel answer with a reset, which can overtake last words.
    Deaf,
    Ended,
}

/// What the receiver may still be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mouth {
    Open,
    /// Nothing: a Close was the last word.
    Closed,
    Shutting,
    Done,
    Failed,
}

impl Way {
    /// From `from`, of which `early` was read before.
    pub(super) fn new(from: Side, voice: &Voice, early: &[u8]) -> Self {
        Self {
            from,
            scanner: Scanner::new(voice.terms().rules(from)),
            kept: early.to_vec(),
            ready: !early.is_empty(),
            rest: BytesMut::new(),
            ear: Ear::Open,
            mouth: Mouth::Open,
        }
    }

    /// Whether nothing more will come of it.
    pub(super) fn is_over(&self) -> bool {
        self.mouth == Mouth::Failed || (self.mouth == Mouth::Done && self.ear == Ear::Ended)
    }

    /// Whether everything up to the Close, its last word, has been written.
    pub(super) fn has_said_close(&self) -> bool {
        self.mouth == Mouth::Closed && self.rest.is_empty()
    }

    /// Its speaker is gone: nothing is read any more, and no frame that is under way will be whole.
    pub(super) fn give_up_speaker(&mut self) {
        self.ear = Ear::Ended;
        if !self.scanner.at_boundary() && self.mouth == Mouth::Open {
            self.mouth = Mouth::Shutting;
        }
    }

    /// Its receiver is gone, without a word; what the speaker says is still listened to, for its Close.
    pub(super) fn give_up_receiver(&mut self) {
        self.rest = BytesMut::new();
        self.mouth = Mouth::Done;
    }

    /// Moves what can be moved now, one turn at most. `moved` is told how many bytes of the speaker went by, pongs for us not
    /// counted. `None`: nothing to tell.
    pub(super) fn pump<R: Socket, W: Socket>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        voice: &Voice,
        moved: impl Fn(usize),
    ) -> Option<Event> {
        let (mut event, mut turn) = (None, TURN);
        loop {
            match self.flush(cx, to, voice) {
                Poll::Pending => break,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(e)) => {
                    self.fail();
                    event = event.or(Some(Event::ReceiverFailed(e.kind())));
                }
            }
            if self.speak(voice) {
                continue;
            }
            if self.ear == Ear::Ended {
                break;
            }
            match self.step(cx, from, to, voice) {
                Poll::Pending => break,
                Poll::Ready(Err(told @ Event::ReceiverFailed(_))) => {
                    self.fail();
                    event = event.or(Some(told));
                }
                // While it is ended, the receiver is still told so.
                Poll::Ready(Err(Event::SenderFailed(_))) if voice.ending().is_some() => {
                    event = event.or(Some(Event::Ended));
                    self.give_up_speaker();
                }
                Poll::Ready(Err(told)) => return Some(told),
                Poll::Ready(Ok(Step::Ended)) => {
                    event = event.or(Some(Event::Ended));
                    self.ear = Ear::Ended;
                    if matches!(self.mouth, Mouth::Open | Mouth::Closed) {
                        self.mouth = Mouth::Shutting;
                    }
                }
                Poll::Ready(Ok(Step::Took { bytes, passed })) => {
                    moved(passed);
                    turn = turn.saturating_sub(bytes.max(1));
                    if turn == 0 {
                        cx.waker().wake_by_ref();
                        break;
                    }
                }
            }
        }
        voice.listens_to(self.from, self.rest.is_empty() && !self.ready);
        event
    }

    fn fail(&mut self) {
        self.rest = BytesMut::new();
        self.mouth = Mouth::Failed;
        if self.ear == Ear::Open {
            self.ear = Ear::Deaf;
        }
    }

    /// Writes the rest of what was judged, and what the receiver itself may still hold; then, if it is time, the end.
    fn flush<W: Socket>(&mut self, cx: &mut Context<'_>, to: &mut W, voice: &Voice) -> Poll<io::Result<()>> {
        if matches!(self.mouth, Mouth::Done | Mouth::Failed) {
            return Poll::Ready(Ok(()));
        }
        if !self.rest.is_empty() {
            while !self.rest.is_empty() {
                match ready!(Pin::new(&mut *to).poll_write(cx, &self.rest))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    n => self.rest.advance(n),
                }
                voice.lives(self.from.other());
            }
            // An idle session owns no buffer.
            self.rest = BytesMut::new();
        }
        ready!(Pin::new(&mut *to).poll_flush(cx))?;
        if self.mouth == Mouth::Shutting {
            // The receiver may be gone by now; then there is nobody left to tell.
            let _ = ready!(Pin::new(&mut *to).poll_shutdown(cx));
            self.mouth = Mouth::Done;
        }
        Poll::Ready(Ok(()))
    }

    /// Says what is ours to say, if it is asked for and a frame may stand here.
    fn speak(&mut self, voice: &Voice) -> bool {
        let to = self.from.other();
        if self.mouth != Mouth::Open || !self.scanner.at_boundary() || !voice.speaks_to(to) {
            return false;
        }
        let mask: Mask = (to == Side::Backend).then(rand::random);
        match voice.ending() {
            Some(ending) => {
                ours::close(&mut self.rest, ending.why.code(), &ending.why.reason(), mask);
                voice.says(ending.why.code());
                self.mouth = Mouth::Closed;
            }
            None => ours::ping(&mut self.rest, voice.ping(to), mask),
        }
        true
    }

    /// Whether what is read is held to what its speaker may say: a client's, and no more once it is all over.
    fn counts(&self, voice: &Voice) -> bool {
        self.from == Side::Client && self.ear == Ear::Open && self.mouth == Mouth::Open && voice.ending().is_none()
    }

    /// One read, judged and passed on.
    fn step<R: Socket, W: Socket>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
        voice: &Voice,
    ) -> Poll<Result<Step, Event>> {
        let delays = voice.terms().frames.over_rate == OverRate::Delay;
        let counts = self.counts(voice);
        let (messages, bytes) = if counts { voice.allowed() } else { (u32::MAX, u32::MAX) };
        if delays && (bytes == 0 || (self.ready && messages == 0)) {
            voice.exceeded(if bytes == 0 { Rate::Bytes } else { Rate::Messages });
            self.ready = true;
            return Poll::Pending;
        }
        if self.ready {
            self.ready = false;
            let kept = std::mem::take(&mut self.kept);
            return Poll::Ready(self.judge(cx, to, voice, &kept).map(|passed| Step::Took { bytes: 0, passed }));
        }
        scratch::with(|scratch| {
            let before = self.kept.len();
            scratch[..before].copy_from_slice(&self.kept);
            let most = if messages < u32::MAX { LITTLE } else { SCRATCH };
            let most = if delays { most.min(usize::try_from(bytes).unwrap_or(most)) } else { most };
            let room = scratch.len().min(before + most);
            let mut buffer = ReadBuf::new(&mut scratch[before..room]);
            ready!(Pin::new(from).poll_read(cx, &mut buffer)).map_err(|e| Event::SenderFailed(e.kind()))?;
            let read = buffer.filled().len();
            if read == 0 {
                return Poll::Ready(Ok(Step::Ended));
            }
            voice.lives(self.from);
            if counts {
                voice.sent(0, read);
                if read > usize::try_from(bytes).unwrap_or(usize::MAX) {
                    voice.exceeded(Rate::Bytes);
                }
            }
            self.kept = Vec::new();
            let judged = self.judge(cx, to, voice, &scratch[..before + read]);
            Poll::Ready(judged.map(|passed| Step::Took { bytes: read, passed }))
        })
    }

    /// Passes on what may go on; keeps what cannot be judged yet. How many bytes went by.
    fn judge<W: Socket>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
        voice: &Voice,
        bytes: &[u8],
    ) -> Result<usize, Event> {
        let (mut at, mut passed) = (0, 0);
        while at < bytes.len() && self.ear == Ear::Open {
            self.speak(voice);
            let counts = self.counts(voice);
            let until = if self.mouth == Mouth::Open && voice.speaks_to(self.from.other()) {
                Until::Boundary
            } else {
                Until::End
            };
            let messages = if counts { voice.allowed().0 } else { u32::MAX };
            match self.scanner.next(&bytes[at..], until, messages) {
                Ok(Piece::Pass { bytes: n, messages }) => {
                    if counts {
                        voice.sent(messages, 0);
                    }
                    self.pass(cx, to, &bytes[at..at + n])?;
                    (at, passed) = (at + n, passed + n);
                }
                Ok(Piece::Control { bytes: n, frame }) => {
                    if self.control(cx, to, voice, &bytes[at..at + n], &frame)? {
                        passed += n;
                    }
                    at += n;
                }
                Ok(Piece::Short) => {
                    self.kept = bytes[at..].to_vec();
                    break;
                }
                Ok(Piece::Held) => {
                    voice.exceeded(Rate::Messages);
                    if voice.ending().is_none() {
                        (self.kept, self.ready) = (bytes[at..].to_vec(), true);
                        break;
                    }
                }
                Err(broken) => {
                    self.ear = Ear::Deaf;
                    voice.break_off(self.from, broken);
                }
            }
        }
        Ok(passed)
    }

    /// Whether it went on: an answer to our ping does not.
    fn control<W: Socket>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
        voice: &Voice,
        bytes: &[u8],
        frame: &Control,
    ) -> Result<bool, Event> {
        if voice.answers(self.from, frame) {
            return Ok(false);
        }
        self.pass(cx, to, bytes)?;
        if frame.kind == Kind::Close {
            voice.close(self.from, frame.code());
            self.ear = Ear::Deaf;
            if self.mouth == Mouth::Open {
                self.mouth = Mouth::Closed;
            }
        }
        Ok(true)
    }

    /// Writes at once what the receiver takes, and keeps the rest. Behind a Close nothing follows.
    fn pass<W: Socket>(&mut self, cx: &mut Context<'_>, to: &mut W, bytes: &[u8]) -> Result<(), Event> {
        if self.mouth != Mouth::Open {
            return Ok(());
        }
        let mut sent = 0;
        while self.rest.is_empty() && sent < bytes.len() {
            match Pin::new(&mut *to).poll_write(cx, &bytes[sent..]) {
                Poll::Ready(Ok(0)) => return Err(Event::ReceiverFailed(io::ErrorKind::WriteZero)),
                Poll::Ready(Ok(n)) => sent += n,
                Poll::Ready(Err(e)) => return Err(Event::ReceiverFailed(e.kind())),
                Poll::Pending => break,
            }
        }
        self.rest.extend_from_slice(&bytes[sent..]);
        Ok(())
    }
}

/// How one read ended.
enum Step {
    /// With so many bytes, of which so many went by.
    Took { bytes: usize, passed: usize },
    /// With the end of the stream.
    Ended,
}
