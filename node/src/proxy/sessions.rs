//! The sessions of one worker: who they are, and how they are ended. It does not care who moves their bytes.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::backend::Place;
use super::relay::{End, Moved};
use super::table::Listener;
use super::tally::Tally;
use super::upgrade::Leave;

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

/// Why we end a session that neither side ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Ended {
    /// The address it was reached at is on another node now.
    #[error("its address moved to another node")]
    AddressLeft,
    /// No byte for longer than allowed.
    #[error("idle too long")]
    Idle,
    /// Its backend drains, and the time that was given for that is over.
    #[error("its backend had drained long enough")]
    BackendDrained,
    /// The same with the listener its client came in by.
    #[error("its listener had drained long enough")]
    ListenerDrained,
    /// The same with this node.
    #[error("this node had drained long enough")]
    NodeDrained,
    /// This node stops.
    #[error("this node stops")]
    Stopping,
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

impl Session {
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

/// All sessions of one worker. Slots are reused; an idle session costs about 200 bytes here.
#[derive(Debug)]
pub(super) struct Sessions {
    tally: Arc<Tally>,
    slots: RefCell<Vec<Option<Box<Session>>>>,
    free: RefCell<Vec<u32>>,
}

impl Sessions {
    /// `tally` is that of the same worker.
    pub(super) fn new(tally: Arc<Tally>) -> Self {
        Self { tally, slots: RefCell::default(), free: RefCell::default() }
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

    /// Ends all of them.
    pub(super) fn end_all(&self, why: Ended) {
        self.end(|_| Some(why));
    }

    /// Ends those whose client reached us at an address that `left` names.
    pub(super) fn end_where(&self, left: impl Fn(IpAddr) -> bool, why: Ended) {
        self.end(|session| left(session.parties.local).then_some(why));
    }

    /// Ends those that have been idle, or half closed and idle, for too long, and those whose backend or listener must have drained
    /// by `due`, a time of [`super::backend::now`]. Called now and then: one look at all of them costs less than a timer
    /// each.
    pub(super) fn end_overdue(&self, now: Instant, closing: Duration, due: Duration) {
        self.end(|session| {
            if session.parties.place.backend().drain.is_over(due) {
                return Some(Ended::BackendDrained);
            }
            if session.parties.listener.drain.is_over(due) {
                return Some(Ended::ListenerDrained);
            }
            if session.count(&self.tally) {
                session.active.set(now);
            }
            let idle = match session.parties.leave.idle_ms {
                0 => Duration::MAX,
                ms => Duration::from_millis(ms.into()),
            };
            let limit = if session.moved.closing.get() { closing } else { idle };
            (now.saturating_duration_since(session.active.get()) > limit).then_some(Ended::Idle)
        });
    }

    fn end(&self, reason: impl Fn(&Session) -> Option<Ended>) {
        for session in self.slots.borrow().iter().flatten() {
            if let Some(why) = reason(session) {
                session.ended.set(Some(why));
                session.task.abort();
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
        let why = match (end, session.ended.get()) {
            (Some(end), _) => end.to_string(),
            (None, ended) => ended.unwrap_or(Ended::Stopping).to_string(),
        };
        let by = match end {
            Some(end) => end.side.to_string(),
            None => "tandem".to_owned(),
        };
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
            "session ended"
        );
    }
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
