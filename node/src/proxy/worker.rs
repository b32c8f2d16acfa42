//! One worker thread: it accepts, serves and relays, and shares nothing on its hot path with the others.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::backend::{self, Place, shortage};
use super::balance::{Affinity, Candidate, Choice, Rotation, choose};
use super::connection::{self, Arrival, Asked};
use super::descriptors::{Descriptors, Room};
use super::drain::Drain;
use super::ended::Ended;
use super::error::Failure;
use super::limits::{Limit, Limiter, Permit, Refusal};
use super::pool::Pool;
use super::proxy_protocol::Addresses;
use super::sessions::{Sessions, TICK, Whole};
use super::stream::Stream;
use super::table::{Member, Table, Upstream};
use super::tally::Tally;
use crate::config::model::{Balance, Name, State};

/// How long to wait for descriptors or memory when an accept found none.
const BACK_OFF: Duration = Duration::from_millis(20);

/// What a worker is told.
#[derive(Debug)]
pub(super) enum Order {
    /// Accept here.
    Listen(SocketAddr, std::net::TcpListener),
    /// Accept here no more; sessions go on.
    Unlisten(SocketAddr),
    /// These addresses cannot be served any more: end what was reached at them.
    Leave(Arc<BTreeSet<IpAddr>>),
    /// Clients shall go elsewhere, or need not any more: see [`Shared::drain`].
    Drain(State),
    /// Accept no more; end when all sessions have, or at this time.
    Stop(Instant),
}

/// What connections must know of the end.
#[derive(Debug, Clone, Default)]
pub(super) struct Ending {
    pub(super) left: Arc<BTreeSet<IpAddr>>,
    pub(super) stopping: bool,
    /// Connections end when nothing is under way on them; what is new is answered so.
    pub(super) draining: bool,
}

/// What the tasks of one thread share.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) pool: Rc<Pool>,
    pub(super) sessions: Rc<Sessions>,
    pub(super) tally: Arc<Tally>,
    rotations: RefCell<BTreeMap<Name, Rotation>>,
    /// Room for a choice's candidates, so that none is made for each.
    candidates: RefCell<Vec<Candidate>>,
    ending: watch::Sender<Ending>,
    alive: Rc<Living>,
    shared: Shared,
}

/// What all workers of a node share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) table: watch::Receiver<Arc<Table>>,
    pub(super) limiter: Arc<Limiter>,
    pub(super) descriptors: Descriptors,
    /// Whether this node as a whole drains.
    pub(super) drain: Arc<Drain>,
}

impl Worker {
    /// `tally` is this worker's own.
    pub(super) fn new(shared: Shared, tally: Arc<Tally>) -> Self {
        Self {
            pool: Rc::default(),
            sessions: Rc::new(Sessions::new(Arc::clone(&tally), rand::random())),
            tally,
            rotations: RefCell::default(),
            candidates: RefCell::default(),
            ending: watch::Sender::default(),
            alive: Rc::default(),
            shared,
        }
    }

    /// The newest config.
    pub(super) fn table(&self) -> Arc<Table> {
        Arc::clone(&self.shared.table.borrow())
    }

    /// Whether this node as a whole takes no new requests and sessions.
    pub(super) fn is_draining(&self) -> bool {
        self.shared.drain.is_on()
    }

    /// Tells connections that their end has come.
    pub(super) fn ending(&self) -> watch::Receiver<Ending> {
        self.ending.subscribe()
    }

    /// Chooses who gets the next session or request; `None`: nobody that is not `tried` may take it.
    pub(super) fn place<'a>(
        &self,
        upstream: &'a Upstream,
        affinity: Affinity,
        tried: &[SocketAddr],
    ) -> Option<(&'a Member, Place)> {
        let now = backend::now();
        if let Some(member) = upstream.stuck(affinity, tried, now) {
            return Some((member, Place::at(&member.backend)));
        }
        let mut candidates = self.candidates.borrow_mut();
        upstream.candidates(tried, now, &mut candidates);
        let chance = if upstream.balance == Balance::P2c { rand::random() } else { 0 };
        let how = Choice { balance: upstream.balance, bound: upstream.hash_bound, key: affinity.key, chance };
        let mut rotations = self.rotations.borrow_mut();
        if !rotations.contains_key(&upstream.name) {
            rotations.insert(upstream.name.clone(), Rotation::default());
        }
        let chosen = choose(how, rotations.get_mut(&upstream.name)?, &candidates)?;
        let member = &upstream.members[candidates[chosen].member];
        Some((member, Place::at(&member.backend)))
    }

    /// Lets a handshake in, as far as limits go.
    ///
    /// # Errors
    /// The limit, and when to try again.
    pub(super) fn admit(&self, asked: &Asked) -> Result<Permit, Refusal> {
        let (listener, upstream) = (asked.taken.listener.counted(), asked.upstream.counted());
        let table = self.shared.table.borrow();
        self.shared.limiter.admit(backend::now(), &table.settings, asked.client.ip(), listener, upstream)
    }

    /// Connects to one of the backends of `asked.upstream`, for whoever asked.
    ///
    /// # Errors
    /// [`Failure::Dial`], or [`Failure::Shortage`] if it is not the backend's fault.
    pub(super) async fn dial(&self, member: &Member, asked: &Asked) -> Result<Stream, Failure> {
        let began = Instant::now();
        let said = Addresses { source: asked.client, destination: asked.reached };
        let upstream = &asked.upstream;
        let (host, within) = (member.host.as_deref(), upstream.timeouts.dial);
        let dialed = member.backend.dial(&upstream.dialing, host, within, Some(said)).await;
        let socket = dialed.map_err(|error| match shortage(&error) {
            Some(limit) => Failure::Shortage(limit),
            None => Failure::Dial(error),
        })?;
        self.tally.dials.observe(began.elapsed());
        Ok(socket)
    }

    /// Follows orders until told to stop, or until nobody can give orders any more.
    pub(super) async fn run(self: Rc<Self>, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut accepting: BTreeMap<SocketAddr, AbortHandle> = BTreeMap::new();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut deadline = None;
        loop {
            let order = tokio::select! {
                order = orders.recv() => order,
                now = tick.tick() => {
                    self.look_after(now, deadline);
                    continue;
                }
                () = self.alive.none(), if deadline.is_some() => return,
                () = until(deadline) => return,
            };
            match order {
                Some(Order::Listen(address, listener)) => match TcpListener::from_std(listener) {
                    Ok(listener) => {
                        let task = tokio::task::spawn_local(accept(Rc::clone(&self), listener, address));
                        accepting.insert(address, task.abort_handle());
                    }
                    Err(error) => {
                        tracing::error!(%address, %error, "cannot accept: the event queue refuses the socket")
                    }
                },
                Some(Order::Unlisten(address)) => {
                    if let Some(task) = accepting.remove(&address) {
                        task.abort();
                    }
                }
                Some(Order::Leave(left)) => {
                    self.sessions.end_where(|local| left.contains(&local), Ended::AddressLeft);
                    self.ending.send_modify(|ending| ending.left = left);
                }
                Some(Order::Drain(state)) => {
                    let draining = state == State::Draining;
                    self.ending.send_if_modified(|e| std::mem::replace(&mut e.draining, draining) != draining);
                }
                Some(Order::Stop(at)) => {
                    accepting.values().for_each(AbortHandle::abort);
                    accepting.clear();
                    deadline = Some(at);
                    self.ending.send_modify(|ending| ending.stopping = true);
                }
                None => return,
            }
        }
    }

    fn look_after(&self, now: Instant, deadline: Option<Instant>) {
        let table = self.table();
        let stops_in = deadline.map(|at| at.saturating_duration_since(now));
        self.sessions.look_after(table.settings.close_timeout, &Whole { drain: &self.shared.drain, stops_in });
        self.pool.expire(now);
        self.rotations.borrow_mut().retain(|name, rotation| {
            let Some(upstream) = table.upstreams.get(name) else { return false };
            rotation.keep(upstream.members.iter().map(|m| m.backend.mark));
            true
        });
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// `address`: where `listener` is bound, which names it in the config.
async fn accept(worker: Rc<Worker>, listener: TcpListener, address: SocketAddr) {
    let ip = address.ip();
    let mut complaint = Complaint::default();
    let mut keeping = worker.shared.table.borrow().keeping;
    keeping.apply(&listener);
    loop {
        match listener.accept().await {
            Ok((socket, client)) => {
                // Only a listener on all addresses must ask which one it was.
                let local = if ip.is_unspecified() { socket.local_addr().map(|a| a.ip()) } else { Ok(ip) };
                let Ok(local) = local else { continue };
                let (known, now) = {
                    let table = worker.shared.table.borrow();
                    (table.listeners.get(&address).cloned(), table.keeping)
                };
                // Removed from the config a moment ago: as if it had not been there any more.
                let Some(known) = known else { continue };
                if now != keeping {
                    // Those accepted from here on inherit it.
                    keeping = now;
                    keeping.apply(&listener);
                    keeping.apply(&socket);
                }
                let room = worker.shared.descriptors.room(&socket);
                let alive = Living::one(&worker.alive);
                if room != Room::Enough {
                    worker.tally.limited(Limit::Descriptors);
                    let most = worker.shared.descriptors.most();
                    complaint.say(|| {
                        tracing::warn!(%address, open_files = most, "clients are turned away: raise the limit of open files (ulimit -n)");
                    });
                    // In TLS the word would cost more than it is worth now.
                    if room == Room::Little && known.tls.is_none() {
                        tokio::task::spawn_local(connection::turn_away(
                            socket.into(),
                            Limit::Descriptors.into(),
                            alive,
                        ));
                    }
                    continue;
                }
                let arrival = Arrival { socket, client, local: local.to_canonical(), listener: known };
                // Boxed: a task moves its future about when it begins and ends, and this one is large.
                tokio::task::spawn_local(Box::pin(connection::serve(Rc::clone(&worker), arrival, alive)));
            }
            // That client gave up while it waited.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            // Out of descriptors or memory: without a pause this would spin.
            Err(error) => {
                worker.tally.limited(Limit::Descriptors);
                complaint.say(|| {
                    tracing::warn!(%address, %error, "cannot accept clients: raise the limit of open files (ulimit -n)");
                });
                tokio::time::sleep(BACK_OFF).await;
            }
        }
    }
}

/// Something that is said once a second at most.
#[derive(Debug, Default)]
struct Complaint(Option<Instant>);

impl Complaint {
    fn say(&mut self, words: impl FnOnce()) {
        let now = Instant::now();
        if self.0.is_none_or(|at| now.saturating_duration_since(at) >= Duration::from_secs(1)) {
            self.0 = Some(now);
            words();
        }
    }
}

/// Counts the connections and sessions of a worker, so that it knows when the last has ended.
#[derive(Debug, Default)]
pub(super) struct Living {
    count: Cell<usize>,
    ended: Notify,
}

impl Living {
    fn one(all: &Rc<Self>) -> Alive {
        all.count.set(all.count.get() + 1);
        Alive(Rc::clone(all))
    }

    /// Waits until none is alive.
    async fn none(&self) {
        while self.count.get() > 0 {
            self.ended.notified().await;
        }
    }
}

/// One connection or session that is alive.
#[derive(Debug)]
pub(super) struct Alive(Rc<Living>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
        if self.0.count.get() == 0 {
            self.0.ended.notify_one();
        }
    }
}
