//! The data plane as the node holds it: started, asked, stopped.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tokio::runtime::LocalOptions;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::backend;
use super::busy_poll;
use super::descriptors::Descriptors;
use super::dialing;
use super::drain::Drain;
use super::listener::{self, Presence, Sharing};
use super::names::{Book, Names};
use super::settings::{BackendReport, ListenerReport, Listening, Reach, Report, Settings};
use super::steward::{Board, Steward};
use super::table::{Registry, Table};
use super::tally::{self, Tally};
use super::worker::{Order, Shared, Worker};
use crate::config::model::{Config, State};
use crate::metrics::Page;

/// A running data plane. Dropping it ends every session at once; [`Proxy::stop`] is the polite way.
#[derive(Debug)]
pub struct Proxy {
    handle: Handle,
    workers: Vec<(mpsc::UnboundedSender<Order>, Thread)>,
    steward: (oneshot::Sender<()>, Thread),
}

/// Asks a running data plane. Cheap to clone; it does not keep the data plane running.
#[derive(Debug, Clone)]
pub struct Handle {
    table: watch::Receiver<Arc<Table>>,
    reach: watch::Receiver<Arc<Reach>>,
    board: Arc<Board>,
    book: Arc<Book>,
    tallies: Arc<[Arc<Tally>]>,
    descriptors: Descriptors,
    drain: Arc<Drain>,
    /// Weak: who asks the data plane does not keep it running.
    workers: Arc<[mpsc::WeakUnboundedSender<Order>]>,
}

/// A thread, and the word that it has ended.
#[derive(Debug)]
struct Thread {
    handle: JoinHandle<()>,
    ended: oneshot::Receiver<()>,
}

impl Thread {
    /// Runs `work` on a runtime of its own. `work` is made there: it need not be able to move between threads.
    fn start<F: Future<Output = ()>>(name: String, work: impl FnOnce() -> F + Send + 'static) -> io::Result<Self> {
        let runtime =
            || tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let (started, starting) = std::sync::mpsc::channel();
        let (alive, ended) = oneshot::channel::<()>();
        let handle = Builder::new().name(name).spawn(move || {
            let _alive = alive;
            match runtime() {
                Ok(runtime) => {
                    let _ = started.send(Ok(()));
                    runtime.block_on(async { work().await });
                }
                Err(error) => drop(started.send(Err(error))),
            }
        })?;
        starting.recv().map_err(|_| io::Error::other("the thread ended before it began"))??;
        Ok(Self { handle, ended })
    }

    /// Waits for its end without blocking the caller's runtime.
    async fn join(self) {
        let _ = self.ended.await;
        // It dropped its last word: nothing is left to wait for but the thread's own end.
        let _ = self.handle.join();
    }
}

/// Starts the threads of the data plane: `settings.workers` that serve clients, and one that keeps them in step with
/// `config` and `reach`.
///
/// # Errors
/// Threads or event queues that the system refuses.
pub fn start(
    settings: &Settings,
    mut config: watch::Receiver<Arc<Config>>,
    reach: watch::Receiver<Arc<Reach>>,
) -> io::Result<Proxy> {
    let book = Arc::<Book>::default();
    let mut registry = Registry::new(settings.zone.clone(), settings.keys.clone(), Arc::clone(&book));
    let first = Arc::clone(&config.borrow_and_update());
    let (table_sender, table) = watch::channel(Arc::new(registry.compile(&first)));
    let tallies: Arc<[Arc<Tally>]> = (0..settings.workers.max(1)).map(|_| Arc::default()).collect();
    let descriptors = Descriptors::claim();
    tracing::info!(
        workers = settings.workers.max(1),
        open_files = descriptors.most(),
        kept_from_clients = descriptors.reserve(),
        sessions_possible = descriptors.sessions(),
        ports_per_backend_and_source_address = dialing::ports(),
        "limits of this node; those of the config are in: tandemctl settings show"
    );
    let drain = Arc::<Drain>::default();
    let shared = Shared { table: table.clone(), limiter: Arc::default(), descriptors, drain: Arc::clone(&drain) };
    let mut workers = Vec::new();
    for (i, tally) in tallies.iter().enumerate() {
        let (sender, orders) = mpsc::unbounded_channel();
        let (shared, tally) = (shared.clone(), Arc::clone(tally));
        let busy_poll = settings.busy_poll;
        let thread = Thread::start(format!("worker-{i}"), move || {
            if busy_poll {
                tokio::task::spawn_local(busy_poll::keep_looking());
            }
            Rc::new(Worker::new(shared, tally)).run(orders)
        })?;
        workers.push((sender, thread));
    }
    let board = Arc::<Board>::default();
    let steward = Steward {
        registry,
        names: Names::new(Arc::clone(&book), settings.dns.clone()),
        config,
        reach: reach.clone(),
        table: table_sender,
        workers: workers.iter().map(|(sender, _)| sender.clone()).collect(),
        board: Arc::clone(&board),
        bound: Default::default(),
        left: Default::default(),
        failed: BTreeMap::new(),
        probes: BTreeMap::new(),
    };
    let (stop, stopped) = oneshot::channel();
    let thread = Thread::start("steward".to_owned(), move || steward.run(stopped))?;
    let orders = workers.iter().map(|(sender, _)| sender.downgrade()).collect();
    let handle = Handle { table, reach, board, book, tallies, descriptors, drain, workers: orders };
    Ok(Proxy { handle, workers, steward: (stop, thread) })
}

impl Handle {
    /// What it does now.
    pub fn report(&self) -> Report {
        let table = Arc::clone(&self.table.borrow());
        let now = backend::now();
        let waiting = || Listening::Failed("not bound yet".to_owned());
        let listeners = table.listeners.iter().map(|(address, listener)| ListenerReport {
            name: listener.name.clone(),
            address: *address,
            state: self.board.state(*address).unwrap_or_else(waiting),
            draining: listener.drain.is_on(),
            drain_left: listener.drain.left(now),
            sessions: listener.counted().count.now().into(),
        });
        let mut listeners: Vec<ListenerReport> = listeners.collect();
        listeners.sort_by(|a, b| a.name.cmp(&b.name));
        let members = table.upstreams.values().flat_map(|u| u.members.iter().map(move |m| (u, m)));
        let backends = members.map(|(u, m)| BackendReport {
            upstream: m.backend.upstream.clone(),
            said: m.said.clone(),
            address: m.backend.address,
            up: m.backend.is_up(),
            error: m.backend.failure(),
            tls_error: m.backend.unmet(&u.dialing),
            ejected_for: u.out_for(&m.backend, now),
            ejections_total: m.backend.ejections(),
            sessions: m.backend.sessions.load(Relaxed),
            sessions_total: m.backend.sessions_total.load(Relaxed),
            requests_total: m.backend.requests_total.load(Relaxed),
            drain_left: m.backend.drain.left(now),
        });
        let sessions = self.tallies.iter().map(|t| t.sessions.load(Relaxed)).sum();
        Report {
            listeners,
            backends: backends.collect(),
            names: self.book.report(),
            sessions,
            draining: self.drain.is_on(),
            drain_left: self.drain.left(now),
        }
    }

    /// Draining, requests and handshakes that come from now on are answered 503, connections end when nothing is under
    /// way on them, and sessions that are left after `within` are ended, if it says so. Listeners stay bound, so that it
    /// can be taken back.
    pub fn drain(&self, state: State, within: Option<Duration>) {
        self.drain.tell(state, within, backend::now());
        for worker in self.workers.iter().filter_map(mpsc::WeakUnboundedSender::upgrade) {
            // One that is gone is stopping.
            let _ = worker.send(Order::Drain(state));
        }
    }

    /// Writes what the workers counted since they started.
    ///
    /// # Errors
    /// Those of the page.
    pub fn counted(&self, page: &mut Page<'_>) -> std::fmt::Result {
        #[allow(clippy::cast_precision_loss)]
        let sessions = vec![(vec![], self.descriptors.sessions() as f64)];
        page.gauge("sessions_possible", "Sessions that the limit of open files leaves room for.", sessions)?;
        let ports = dialing::ports().map(|n| (vec![], f64::from(n))).into_iter().collect();
        page.gauge("source_ports", "Connections one local address can have to one backend.", ports)?;
        let table = Arc::clone(&self.table.borrow());
        let secure = table.listeners.values().filter(|l| l.tls.is_some());
        tally::write_handshakes(secure.map(|l| (&l.name, &*l.handshakes)), page)?;
        self.book.counted(page)?;
        tally::write(&self.tallies, page)
    }

    /// Could this node listen at `address`? What it listens on already counts as free; a virtual address need not be
    /// here now.
    ///
    /// # Errors
    /// Why not, for the operator.
    pub fn try_bind(&self, address: SocketAddr) -> io::Result<()> {
        let ip = address.ip();
        let is_virtual = self.table.borrow().vips.contains(&ip) || self.reach.borrow().away.contains(&ip);
        let met = self.board.bound().iter().any(|ours| listener::overlap(*ours, address));
        let sharing = if met || is_virtual { Sharing::WithOurs } else { Sharing::Alone };
        listener::try_bind(address, sharing, if is_virtual { Presence::Sometime } else { Presence::Here })
    }
}

impl Proxy {
    /// To ask it with.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Accepts no more, lets requests and sessions end by themselves until `deadline`, ends the rest, and returns when
    /// every thread has ended.
    pub async fn stop(self, deadline: Duration) {
        let at = Instant::now() + deadline;
        let (stop, steward) = self.steward;
        drop(stop);
        steward.join().await;
        for (orders, _) in &self.workers {
            // One that is gone has stopped.
            let _ = orders.send(Order::Stop(at));
        }
        for (_, worker) in self.workers {
            worker.join().await;
        }
    }
}
