//! Keeps the workers in step with the config, with whom its names stand for, and with where the virtual addresses are.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::listener::{self, Presence, Sharing};
use super::names::Names;
use super::probe::{self, Told};
use super::settings::{Absent, Listening, Reach};
use super::table::{Registry, Table, Upstream};
use super::worker::Order;
use crate::config::model::{Config, Name};

/// How soon a listener that could not be bound is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What became of each listener, for whoever asks.
#[derive(Debug, Default)]
pub(super) struct Board(Mutex<BTreeMap<SocketAddr, Listening>>);

impl Board {
    /// The state of one; one not seen yet is about to be bound.
    pub(super) fn state(&self, address: SocketAddr) -> Option<Listening> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&address).cloned()
    }

    /// Where we listen now.
    pub(super) fn bound(&self) -> Vec<SocketAddr> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter(|(_, state)| **state == Listening::Bound).map(|(a, _)| *a).collect()
    }

    fn set(&self, all: BTreeMap<SocketAddr, Listening>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = all;
    }
}

/// See the module.
pub(super) struct Steward {
    pub(super) registry: Registry,
    pub(super) names: Names,
    pub(super) config: watch::Receiver<Arc<Config>>,
    pub(super) reach: watch::Receiver<Arc<Reach>>,
    pub(super) table: watch::Sender<Arc<Table>>,
    pub(super) workers: Vec<mpsc::UnboundedSender<Order>>,
    pub(super) board: Arc<Board>,
    pub(super) bound: BTreeSet<SocketAddr>,
    pub(super) left: Arc<BTreeSet<IpAddr>>,
    pub(super) failed: BTreeMap<SocketAddr, String>,
    pub(super) probes: BTreeMap<(Name, SocketAddr), watch::Sender<Told>>,
}

impl Steward {
    /// Runs until `stop` is dropped. Should the config or the reach never change again, their last word holds.
    pub(super) async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        let (mut config_known, mut reach_known) = (true, true);
        self.names.follow(&self.config.borrow());
        self.check_backends(None);
        self.listen();
        loop {
            let again = (!self.failed.is_empty()).then(|| Instant::now() + AGAIN);
            tokio::select! {
                _ = &mut stop => return,
                changed = self.config.changed(), if config_known => {
                    config_known = changed.is_ok();
                    self.compile();
                }
                () = self.names.changed() => self.compile(),
                changed = self.reach.changed(), if reach_known => reach_known = changed.is_ok(),
                () = sleep_until(again) => {}
            }
            self.listen();
        }
    }

    /// Puts a table in force: of the newest config, with whom its names stand for now.
    fn compile(&mut self) {
        let config = Arc::clone(&self.config.borrow_and_update());
        self.names.follow(&config);
        let table = Arc::new(self.registry.compile(&config));
        let before = self.table.send_replace(table);
        self.check_backends(Some(&before));
    }

    /// One probe for each backend of the table, with its newest settings. Where an upstream is the same as `before`, so are
    /// its probes.
    fn check_backends(&mut self, before: Option<&Table>) {
        let table = Arc::clone(&self.table.borrow());
        let changed = |from: &Table, upstream: &Arc<Upstream>| {
            from.upstreams.get(&upstream.name).is_none_or(|other| !Arc::ptr_eq(other, upstream))
        };
        let mut gone = BTreeMap::new();
        for upstream in before.iter().flat_map(|b| b.upstreams.values()).filter(|u| changed(&table, u)) {
            for member in &upstream.members {
                let key = (upstream.name.clone(), member.backend.address);
                if let Some(probe) = self.probes.remove(&key) {
                    gone.insert(key, probe);
                }
            }
        }
        for upstream in table.upstreams.values().filter(|u| before.is_none_or(|b| changed(b, u))) {
            for member in &upstream.members {
                let key = (upstream.name.clone(), member.backend.address);
                let probe = gone.remove(&key).unwrap_or_else(|| {
                    let (sender, receiver) = watch::channel(upstream.told(member));
                    tokio::task::spawn_local(probe::watch_over(Arc::clone(&member.backend), receiver));
                    sender
                });
                probe.send_if_modified(|told| {
                    // How it connects matters from the next check on; only another check is one at once.
                    std::mem::replace(told, upstream.told(member)).check != upstream.check
                });
                self.probes.insert(key, probe);
            }
        }
    }

    /// Binds what should be bound, unbinds what should not, ends what cannot be served.
    fn listen(&mut self) {
        let table = Arc::clone(&self.table.borrow());
        let reach = Arc::clone(&self.reach.borrow_and_update());
        let wanted: BTreeSet<SocketAddr> = table.listeners.keys().copied().collect();
        let away = |address: &SocketAddr| reach.away.contains(&address.ip());
        let bindable = |address: &SocketAddr| reach.absent == Absent::CannotServe || !away(address);

        let ours = self.bound.clone();
        let broken = |address: &SocketAddr| table.listeners.get(address).and_then(|l| l.broken());
        for address in ours.iter().filter(|a| !wanted.contains(a) || !bindable(a) || broken(a).is_some()) {
            self.bound.remove(address);
            tracing::info!(%address, "stopped listening");
            self.order(|| Order::Unlisten(*address));
        }
        self.failed.retain(|address, _| wanted.contains(address) && bindable(address));
        for address in wanted.iter().filter(|a| bindable(a)) {
            if let Some(why) = broken(address) {
                self.complain(*address, why.to_string());
            } else if !self.bound.contains(address) {
                self.bind(*address, &ours, table.vips.contains(&address.ip()) || away(address));
            }
        }
        let cannot_serve = reach.absent == Absent::CannotServe;
        if cannot_serve && *self.left != reach.away {
            self.left = Arc::new(reach.away.clone());
            self.order(|| Order::Leave(Arc::clone(&self.left)));
        }
        let state = |address: &SocketAddr| match self.failed.get(address) {
            Some(why) => Listening::Failed(why.clone()),
            None if away(address) => Listening::Away,
            None => Listening::Bound,
        };
        self.board.set(wanted.iter().map(|a| (*a, state(a))).collect());
    }

    /// `ours`: where we listened a moment ago, perhaps still while the workers let go.
    fn bind(&mut self, address: SocketAddr, ours: &BTreeSet<SocketAddr>, is_virtual: bool) {
        let presence = if is_virtual { Presence::Sometime } else { Presence::Here };
        // Our sockets share the port; so a stranger that shares it too must be looked for. Not at a virtual address: its
        // last holder may be letting go just now.
        let met = ours.iter().chain(&self.bound).any(|other| listener::overlap(*other, address));
        let free = if met || is_virtual { Ok(()) } else { listener::try_bind(address, Sharing::Alone, presence) };
        match free.and_then(|()| listener::bind(address, self.workers.len(), presence)) {
            Ok(sockets) => {
                for (worker, socket) in self.workers.iter().zip(sockets) {
                    // A worker that is gone is stopping; so are we.
                    let _ = worker.send(Order::Listen(address, socket));
                }
                self.bound.insert(address);
                self.failed.remove(&address);
                tracing::info!(%address, "listening");
            }
            Err(error) => self.complain(address, error.to_string()),
        }
    }

    fn complain(&mut self, address: SocketAddr, error: String) {
        if self.failed.get(&address) != Some(&error) {
            tracing::error!(%address, error, "cannot listen; tried again each second");
            self.failed.insert(address, error);
        }
    }

    fn order(&self, order: impl Fn() -> Order) {
        for worker in &self.workers {
            let _ = worker.send(order());
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
