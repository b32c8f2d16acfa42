//! The sessions of one worker: who they are, and how they are ended. It does not care who moves their bytes.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::ptr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::backend::{self, Place};
use super::drain::Drain;
use super::ended::Ended;
use super::frames::{Ending, Voice};
use super::pace::{Group, Pace};
use super::relay::{End, Moved, Side};
use super::table::Listener;
use super::tally::Tally;
use super::upgrade::Leave;

/// How often sessions are looked at.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// Who a session is between.
#[derive(Debug)]
pub(super) struct Parties {
    pub(super) client: SocketAddr,
    /// The address of ours that the client connected to.
    pub(super) local: IpAddr,
    pub(super) place: Place,
    /// Where the client came in.
    pub(super) listener: Arc<Listener>,
    /// What it holds of the limits.
    pub(super) leave: Leave,
}

#[derive(Debug)]
struct Session {
    parties: Parties,
    opened: Instant,
    moved: Rc<Moved>,
    task: AbortHandle,
    /// Bytes from the client and from the backend when they were last counted, and when they last changed.
    seen: Cell<(u64, u64)>,
    active: Cell<Instant>,
    ended: Cell<Option<Ended>>,
}

/// How a session is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// With a word to both sides, if it understands frames; it has some time for that.
    Polite,
    /// At once.
    Abrupt,
}

impl Session {
    fn end(&self, why: Ended, manner: Manner) {
        match self.moved.voice.as_ref().filter(|_| manner == Manner::Polite) {
            Some(voice) => voice.end(why),
            None => {
                self.ended.set(Some(why));
                self.task.abort();
            }
        }
    }

    /// Why it must end now, whoever drains or not.
    fn due(&self, at: Instant, now: Duration, closing: Duration) -> Option<Ended> {
        let idle = match self.parties.leave.idle_ms {
            0 => Duration::MAX,
            ms => Duration::from_millis(ms.into()),
        };
        let voice = self.moved.voice.as_ref();
        let half = self.moved.closing.get() || voice.is_some_and(|voice| voice.is_closed());
        let silent = at.saturating_duration_since(self.active.get());
        let idle = (silent > if half { closing } else { idle }).then_some(Ended::Idle);
        idle.or_else(|| voice?.look(now))
    }

    /// A polite end that is under way.
    fn ending(&self) -> Option<Ending> {
        self.moved.voice.as_ref()?.ending()
    }

    /// Whose drain it must end by, the soonest of them, how long it has at `now`, and what is said of it then. One that ends
    /// politely needs a moment for that.
    fn drains(&self, whole: &Whole<'_>, now: Duration) -> Option<(Group, Duration, Ended)> {
        let polite = self.moved.voice.is_some();
        let backend = self.parties.place.backend();
        let drains = [
            (&backend.drain, Ended::BackendDrained),
            (&*self.parties.listener.drain, Ended::ListenerDrained),
            (whole.drain, Ended::NodeDrained),
        ];
        let of = |(drain, why): (&Drain, Ended)| Some(((ptr::from_ref(drain).addr(), polite), drain.left(now)?, why));
        let stops = whole.stops_in.map(|left| ((0, polite), left, Ended::Stopping));
        let (group, left, why) = drains.into_iter().filter_map(of).chain(stops).min_by_key(|(_, left, _)| *left)?;
        Some((group, if polite { left.saturating_sub(TICK) } else { left }, why))
    }

    /// Counts what moved since the last time; whether anything did.
    fn count(&self, tally: &Tally) -> bool {
        let now = (self.moved.from_client.get(), self.moved.from_backend.get());
        let before = self.seen.replace(now);
        if now == before {
            return false;
        }
        tally.from_client.fetch_add(now.0.wrapping_sub(before.0), Relaxed);
        tally.from_backend.fetch_add(now.1.wrapping_sub(before.1), Relaxed);
        true
    }
}

/// What ends sessions whoever their backend and their listener are.
#[derive(Debug)]
pub(super) struct Whole<'a> {
    /// Whether this node drains.
    pub(super) drain: &'a Drain,
    /// When it stops: how long its sessions have left.
    pub(super) stops_in: Option<Duration>,
}

/// All sessions of one worker. Slots are reused; an idle session costs about 200 bytes here.
#[derive(Debug)]
pub(super) struct Sessions {
    tally: Arc<Tally>,
    slots: RefCell<Vec<Option<Box<Session>>>>,
    free: RefCell<Vec<u32>>,
    pace: RefCell<Pace>,
}

impl Sessions {
    /// `tally` is that of the same worker; `ahead`: see [`Pace::new`].
    pub(super) fn new(tally: Arc<Tally>, ahead: f64) -> Self {
        Self { tally, slots: RefCell::default(), free: RefCell::default(), pace: RefCell::new(Pace::new(ahead)) }
    }

    /// Runs a session as a task of its own until `moving` ends or it is ended from here; `with` is dropped after it.
    pub(super) fn open<F, G>(self: &Rc<Self>, parties: Parties, moved: Rc<Moved>, moving: F, with: G)
    where
        F: Future<Output = End> + Unpin + 'static,
        G: Unpin + 'static,
    {
        let slot = self.free.borrow_mut().pop().unwrap_or_else(|| {
            let mut slots = self.slots.borrow_mut();
            slots.push(None);
            u32::try_from(slots.len() - 1).expect("descriptors run out long before 2^32 sessions")
        });
        let backend = parties.place.backend();
        backend.sessions.fetch_add(1, Relaxed);
        backend.sessions_total.fetch_add(1, Relaxed);
        self.tally.sessions.fetch_add(1, Relaxed);
        self.tally.sessions_total.fetch_add(1, Relaxed);
        tracing::info!(
            target: "access",
            client = %parties.client,
            listener = %parties.listener.name,
            upstream = %backend.upstream,
            backend = %backend.address,
            "session opened"
        );
        let task = tokio::task::spawn_local(Seat { moving, sessions: Rc::clone(self), slot, end: None, _with: with });
        let now = Instant::now();
        let session = Session {
            parties,
            opened: now,
            moved,
            task: task.abort_handle(),
            seen: Cell::default(),
            active: Cell::new(now),
            ended: Cell::new(None),
        };
        self.slots.borrow_mut()[slot as usize] = Some(Box::new(session));
    }

    /// Ends those whose client reached us at an address that `left` names.
    pub(super) fn end_where(&self, left: impl Fn(IpAddr) -> bool, why: Ended) {
        for session in self.slots.borrow().iter().flatten().filter(|s| left(s.parties.local)) {
            session.end(why, Manner::Polite);
        }
    }

    /// Ends those whose time has come: idle, or half closed and idle, for longer than they may; too old; silent; or it is
    /// their turn because somebody drains. Called once in each [`TICK`]: one look at all of them costs less than a timer each.
    pub(super) fn look_after(&self, closing: Duration, whole: &Whole<'_>) {
        let (at, now) = (Instant::now(), backend::now());
        let mut pace = self.pace.borrow_mut();
        pace.turn();
        for session in self.slots.borrow().iter().flatten() {
            if session.count(&self.tally) {
                session.active.set(at);
            }
            if let Some(Ending { why, since }) = session.ending() {
                let over = session.drains(whole, now).is_some_and(|(_, left, _)| left.is_zero());
                // When its time is over too, it has had one turn.
                if now.saturating_sub(since) >= if over { closing.min(TICK / 2) } else { closing } {
                    session.end(why, Manner::Abrupt);
                }
            } else if let Some(why) = session.due(at, now, closing) {
                session.end(why, Manner::Polite);
            } else if let Some((group, left, _)) = session.drains(whole, now) {
                pace.count(group, left);
            }
        }
        if pace.is_empty() {
            return;
        }
        for session in self.slots.borrow().iter().flatten() {
            if session.ended.get().is_none()
                && session.ending().is_none()
                && let Some((group, _, why)) = session.drains(whole, now)
                && pace.take(group, TICK)
            {
                session.end(why, Manner::Polite);
            }
        }
    }

    fn vacate(&self, slot: u32, end: Option<End>) {
        let Some(session) = self.slots.borrow_mut().get_mut(slot as usize).and_then(Option::take) else { return };
        self.free.borrow_mut().push(slot);
        let backend = session.parties.place.backend();
        backend.sessions.fetch_sub(1, Relaxed);
        self.tally.sessions.fetch_sub(1, Relaxed);
        session.count(&self.tally);
        let voice = session.moved.voice.as_deref();
        let ended = session.ended.get().or(voice.and_then(Voice::ending).map(|ending| ending.why));
        // Who ends politely waits for the others, and ends as they do.
        let (by, why) = match (end, ended) {
            (Some(end), ended) if voice.is_none() || ended.is_none() => (end.side.to_string(), end.to_string()),
            (_, ended) => ("tandem".to_owned(), ended.unwrap_or(Ended::Stopping).to_string()),
        };
        let ours = voice.and_then(Voice::said);
        let closed = |side| voice.and_then(|voice| voice.closed(side));
        if voice.is_some() {
            let first = end.filter(|_| ended.is_none()).map(|end| end.side);
            self.tally.closed(ours, closed(Side::Client), closed(Side::Backend), first);
        }
        let header = voice.and_then(Voice::broken).map(|broken| hex(broken.head()));
        tracing::info!(
            target: "access",
            client = %session.parties.client,
            listener = %session.parties.listener.name,
            upstream = %backend.upstream,
            backend = %backend.address,
            seconds = session.opened.elapsed().as_secs_f32(),
            from_client = session.moved.from_client.get(),
            from_backend = session.moved.from_backend.get(),
            by,
            why,
            close = ours,
            client_close = closed(Side::Client),
            backend_close = closed(Side::Backend),
            header,
            "session ended"
        );
    }
}

/// Bytes as a log shows them.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// A session's task. It holds the slot, and vacates it also when it is aborted. Written by hand: an `async` block would
/// keep `moving` twice. With its task's header it stays within 256 bytes; one word more costs 128 for each session.
struct Seat<F, G> {
    moving: F,
    sessions: Rc<Sessions>,
    slot: u32,
    end: Option<End>,
    _with: G,
}

impl<F: Future<Output = End> + Unpin, G: Unpin> Future for Seat<F, G> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let end = ready!(Pin::new(&mut this.moving).poll(cx));
        this.end = Some(end);
        Poll::Ready(())
    }
}

impl<F, G> Drop for Seat<F, G> {
    fn drop(&mut self) {
        self.sessions.vacate(self.slot, self.end);
    }
}
