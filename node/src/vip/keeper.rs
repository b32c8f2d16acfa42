//! The loop that holds the addresses: look, decide, act.
//!
//! What is held is published *after* an address is on the interface, so that whoever serves it finds it there, and is
//! withdrawn *before* it is taken off, so that nobody serves what is about to go.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

use super::hands::{Hands, Provided};
use super::lease::{Action, Ended, Holding, News, View, Why};
use super::{Error, ethernet, owner, priority};
use crate::config::Provider;
use crate::control::state::State;
use crate::control::{Standing, now};

/// How late a wake-up may be before it is worth a warning: the margin of the lease is there for this.
const LATE: Duration = Duration::from_millis(20);
/// A rival is spoken of for so long.
const RECENT: Duration = Duration::from_secs(60);
/// A removal that was asked for and is not done by then is reported as not done.
const GIVE_UP: Duration = Duration::from_secs(1);

/// What the keeper goes by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How this node comes to have an address.
    pub provider: Provider,
    /// L, the longest election timeout: equal on all nodes.
    pub lease: Duration,
    /// How much earlier than its lease ends this node lets go: for clocks, scheduling, and the removal itself.
    pub margin: Duration,
}

/// The addresses that were given away: they are off the interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Released {
    /// Those held until now; maybe none.
    pub addresses: BTreeSet<IpAddr>,
}

/// The handle of the keeper. When the last one is dropped, everything is removed and the thread ends.
#[derive(Debug, Clone)]
pub struct Keeper {
    commands: mpsc::Sender<Command>,
    held: watch::Receiver<Arc<BTreeSet<IpAddr>>>,
    notes: watch::Receiver<Notes>,
}

/// What an operator should know of the keeping, beside what is held.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// What is wrong with the hands, in words.
    pub trouble: Option<String>,
    /// How often somebody else said to have an address of this node.
    pub conflicts: u64,
    /// Who did last.
    pub rival: Option<Rival>,
}

/// Somebody who said to have an address of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rival {
    /// The address.
    pub address: IpAddr,
    /// Its Ethernet address.
    pub mac: String,
    /// When it was last heard.
    pub heard: Instant,
}

#[derive(Debug)]
enum Command {
    Release { keep_away: Duration, done: oneshot::Sender<()> },
    Stop { done: oneshot::Sender<()> },
}

/// Starts the keeper on a thread of its own; returns once it has proved that it can act.
///
/// # Errors
/// What would make the first claim fail: no such interface, no right, no thread.
pub fn start(
    settings: Settings,
    standing: watch::Receiver<Standing>,
    state: watch::Receiver<Arc<State>>,
) -> Result<Keeper, Error> {
    let (keeper, inbox, published) = handle();
    let (ready, readiness) = std::sync::mpsc::channel();
    let thread = move || {
        priority::raise();
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(why) => {
                // Nobody waits for these only if `start` itself was torn down.
                let _ = ready.send(Err(Error::Thread(why)));
                return;
            }
        };
        runtime.block_on(async move {
            match Provided::open(&settings.provider).await {
                Err(why) => {
                    let _ = ready.send(Err(why));
                }
                Ok(hands) => {
                    let _ = ready.send(Ok(()));
                    Loop::new(settings, hands, standing, state, inbox, published).run().await;
                }
            }
        });
    };
    std::thread::Builder::new().name("vip".into()).spawn(thread).map_err(Error::Thread)?;
    readiness.recv().map_err(|_| Error::Stopped)??;
    Ok(keeper)
}

/// The keeper as a future, with other hands than [`start`] would give it: for a simulation.
pub fn attend<H: Hands>(
    settings: Settings,
    hands: H,
    standing: watch::Receiver<Standing>,
    state: watch::Receiver<Arc<State>>,
) -> (Keeper, impl Future<Output = ()>) {
    let (keeper, inbox, published) = handle();
    (keeper, Loop::new(settings, hands, standing, state, inbox, published).run())
}

fn handle() -> (Keeper, mpsc::Receiver<Command>, Published) {
    let (commands, inbox) = mpsc::channel(8);
    let (publish, held) = watch::channel(Arc::default());
    let (tell, notes) = watch::channel(Notes::default());
    (Keeper { commands, held, notes }, inbox, Published { held: publish, notes: tell })
}

impl Keeper {
    /// What this node holds now.
    pub fn held(&self) -> watch::Receiver<Arc<BTreeSet<IpAddr>>> {
        self.held.clone()
    }

    /// What is wrong with the keeping, in words; `None`: nothing.
    pub fn trouble(&self) -> Option<String> {
        let notes = self.notes();
        let rival = notes.rival.filter(|rival| now().saturating_duration_since(rival.heard) < RECENT);
        notes.trouble.or_else(|| {
            rival.map(|rival| {
                format!(
                    "vip_conflict: {} says that it has {} too: find it, and take the address from it",
                    rival.mac, rival.address
                )
            })
        })
    }

    /// What an operator should know beside what is held.
    pub fn notes(&self) -> Notes {
        self.notes.borrow().clone()
    }

    /// First step of a planned move: takes everything off and returns when it is gone. Nothing is claimed again for
    /// `keep_away`, unless this node is elected anew; if it still leads after that, it claims again.
    ///
    /// # Errors
    /// [`Error::NotRemoved`]: the move must not go on. [`Error::Stopped`]: nothing is held, nor will be.
    pub async fn release(&self, keep_away: Duration) -> Result<Released, Error> {
        let (done, gone) = oneshot::channel();
        let addresses = BTreeSet::clone(&self.held.borrow());
        self.commands.send(Command::Release { keep_away, done }).await.map_err(|_| Error::Stopped)?;
        match tokio::time::timeout(GIVE_UP, gone).await {
            Ok(Ok(())) => Ok(Released { addresses }),
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(Error::NotRemoved { addresses, after: GIVE_UP }),
        }
    }

    /// Takes everything off, then ends the thread.
    pub async fn stop(self) {
        let (done, ended) = oneshot::channel();
        if self.commands.send(Command::Stop { done }).await.is_ok() {
            // An error means that it has ended by another way.
            let _ = ended.await;
        }
    }
}

/// What clients of this room see. Whatever ends the loop, a panic too, withdraws everything.
struct Published {
    held: watch::Sender<Arc<BTreeSet<IpAddr>>>,
    notes: watch::Sender<Notes>,
}

impl Published {
    fn set(&self, held: BTreeSet<IpAddr>) {
        self.held.send_if_modified(|current| {
            let changed = **current != held;
            if changed {
                *current = Arc::new(held);
            }
            changed
        });
    }

    fn note(&self, notes: &Notes) {
        self.notes.send_if_modified(|current| {
            let changed = current != notes;
            if changed {
                current.clone_from(notes);
            }
            changed
        });
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        self.set(BTreeSet::new());
    }
}

struct Loop<H> {
    settings: Settings,
    hands: H,
    holding: Holding,
    standing: watch::Receiver<Standing>,
    state: watch::Receiver<Arc<State>>,
    inbox: mpsc::Receiver<Command>,
    published: Published,
    notes: Notes,
    /// Addresses of the config that were looked at for leftovers.
    cleared: BTreeSet<IpAddr>,
    releases: Vec<oneshot::Sender<()>>,
    stopping: Option<Stopping>,
}

struct Stopping {
    give_up_at: Instant,
    /// `None` when nobody asked: the handles, or consensus, are gone.
    done: Option<oneshot::Sender<()>>,
}

impl<H: Hands> Loop<H> {
    fn new(
        settings: Settings,
        hands: H,
        standing: watch::Receiver<Standing>,
        state: watch::Receiver<Arc<State>>,
        inbox: mpsc::Receiver<Command>,
        published: Published,
    ) -> Self {
        Self {
            settings,
            hands,
            holding: Holding::default(),
            standing,
            state,
            inbox,
            published,
            notes: Notes::default(),
            cleared: BTreeSet::new(),
            releases: Vec::new(),
            stopping: None,
        }
    }

    async fn run(mut self) {
        loop {
            self.clear_leftovers().await;
            let view = self.look();
            let action = self.holding.decide(&view);
            self.fence(&action, &view);
            self.published.set(self.holding.held());
            self.notes.trouble = self.hands.trouble();
            self.published.note(&self.notes);
            if self.holding.present().is_empty() {
                for done in self.releases.drain(..) {
                    // Whoever asked may have given up by now.
                    let _ = done.send(());
                }
            }
            if self.ended(view.now) {
                return;
            }
            match action {
                Action::Wait(until) => self.wait(until).await,
                action => self.act(action, &view).await,
            }
        }
    }

    fn look(&mut self) -> View {
        let standing = self.standing.borrow_and_update();
        let state = self.state.borrow_and_update();
        View {
            now: now(),
            term: standing.term,
            fence: standing.lease_end(self.settings.lease).and_then(|end| end.checked_sub(self.settings.margin)),
            caught_up: standing.caught_up,
            // Without a network there is nobody to ask.
            vacated: standing.handed_over || !matches!(self.settings.provider, Provider::Linux { .. }),
            wanted: match self.settings.provider {
                Provider::None => BTreeSet::new(),
                Provider::Linux { .. } | Provider::Bind => owner::mine(&standing, &state),
            },
        }
    }

    /// The hands hear of each end before they add what it is for, and whenever it moves.
    fn fence(&mut self, action: &Action, view: &View) {
        let Some(until) = view.fence else { return };
        let added = if let Action::Add(address) = action { Some(*address) } else { None };
        for address in self.holding.held().into_iter().chain(added) {
            self.hands.fence(address, until);
        }
    }

    async fn act(&mut self, action: Action, view: &View) {
        let result = self.hands.act(&action).await;
        let ended = match &result {
            Ok(()) => Ended::Well,
            Err(why) if why.in_doubt() => Ended::InDoubt,
            Err(_) => Ended::Refused,
        };
        self.holding.ended(&action, ended, view, now());
        tell(&action, result, view.term);
    }

    /// An address that the config has gained may be on the interface since a run of this node that ended badly.
    async fn clear_leftovers(&mut self) {
        let configured = owner::configured(&self.state.borrow());
        if configured == self.cleared {
            return;
        }
        let mut unseen = &configured - &self.cleared;
        unseen.retain(|address| !self.holding.present().contains(address));
        self.cleared = configured;
        if !unseen.is_empty() {
            self.hands.clear_leftovers(&unseen).await;
        }
    }

    async fn wait(&mut self, until: Option<Instant>) {
        let wake = async {
            match until {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        if self.stopping.is_some() {
            return wake.await;
        }
        tokio::select! {
            biased;
            command = self.inbox.recv() => self.obey(command),
            changed = self.standing.changed() => if changed.is_err() { self.stop(None) },
            changed = self.state.changed() => if changed.is_err() { self.stop(None) },
            // Before the news, most of which strangers make.
            () = wake => {}
            news = self.hands.news() => self.hear(&news),
        }
        let late = until.map_or(Duration::ZERO, |at| now().saturating_duration_since(at));
        if late > LATE {
            tracing::warn!(
                "woken {} ms late: this process was paused, or the machine has too little CPU for it; what is held is \
                 checked against the lease now",
                late.as_millis()
            );
        }
    }

    fn hear(&mut self, news: &News) {
        if !self.holding.heard(news, self.settings.lease, now()) {
            return;
        }
        match news {
            News::Guard => {}
            News::Carries => tracing::info!("the interface carries again: the neighbours are told anew"),
            News::Gone(address) => tracing::warn!(
                "somebody took {address} off the interface: it is put back. Tell this machine's network settings to leave \
                 addresses alone that they do not know (systemd-networkd: KeepConfiguration=yes)"
            ),
            News::Rival(address, mac) => {
                let mac = ethernet::text(*mac);
                tracing::error!(
                    "vip_conflict: {mac} says that it has {address} too; it is held all the same, and announced anew. Find \
                     what has this Ethernet address (`ip neighbour`, the switch's table), and take {address} from it"
                );
                self.notes.conflicts += 1;
                self.notes.rival = Some(Rival { address: *address, mac, heard: now() });
            }
        }
    }

    fn obey(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Release { keep_away, done }) => {
                let term = self.standing.borrow().term;
                self.holding.release(term, now() + keep_away);
                self.releases.push(done);
            }
            Some(Command::Stop { done }) => self.stop(Some(done)),
            None => self.stop(None),
        }
    }

    fn stop(&mut self, done: Option<oneshot::Sender<()>>) {
        self.holding.stop();
        self.stopping = Some(Stopping { give_up_at: now() + GIVE_UP, done });
    }

    /// Whether all is done that stopping asks for.
    fn ended(&mut self, now: Instant) -> bool {
        let left = self.holding.present();
        let Some(stopping) = self.stopping.take_if(|stopping| left.is_empty() || now >= stopping.give_up_at) else {
            return false;
        };
        if !left.is_empty() {
            tracing::error!("{}", Error::NotRemoved { addresses: left, after: GIVE_UP });
        }
        if let Some(done) = stopping.done {
            // Whoever asked may not wait for it.
            let _ = done.send(());
        }
        true
    }
}

/// One line for each claim and each release, and for what went wrong.
fn tell(action: &Action, result: Result<(), Error>, term: u64) {
    match (action, result) {
        (Action::Add(address), Ok(())) => tracing::info!("holding {address}: leader of term {term}"),
        (Action::Remove(address, Why::Failed), Ok(())) => tracing::debug!("{address} is off"),
        (Action::Remove(address, why), Ok(())) => tracing::info!("released {address}: {why}"),
        (_, Ok(())) => {}
        (Action::Add(address), Err(why)) => tracing::error!("cannot hold {address}: {why}"),
        (Action::Renew(address), Err(why)) if why.in_doubt() => tracing::warn!("{address} is not renewed yet: {why}"),
        (Action::Renew(address), Err(why)) => tracing::error!("released {address}: {why}"),
        (Action::Remove(address, _), Err(why)) => tracing::error!("{address} may still be here: {why}"),
        (Action::Announce(address), Err(why)) => tracing::warn!("neighbours were not told of {address}: {why}"),
        (Action::Probe(address), Err(why)) => tracing::warn!("nobody could be asked who has {address}: {why}"),
        (Action::Wait(_), Err(_)) => {}
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use std::collections::BTreeMap;

    use super::*;
    use crate::config::model::{Config, Name, Vip};
    use crate::control::{Member, Role};

    /// Long, and with a wide margin, so that a busy machine does not decide the outcome.
    pub(in crate::vip) const LEASE: Duration = Duration::from_secs(4);
    const MARGIN: Duration = Duration::from_secs(2);
    const DEADLINE: Duration = Duration::from_secs(20);

    /// Consensus and config as a test wants them to be.
    pub(in crate::vip) struct World {
        standing: watch::Sender<Standing>,
        state: watch::Sender<Arc<State>>,
    }

    impl World {
        pub(in crate::vip) fn new(role: Role, vips: &[&str]) -> Self {
            let me = Member { id: 1, role, ..Member::default() };
            let standing = Standing { me: 1, members: Arc::new(BTreeMap::from([(1, me)])), ..Standing::default() };
            let world = Self { standing: watch::Sender::new(standing), state: watch::Sender::new(Arc::default()) };
            world.configure(vips);
            world
        }

        pub(in crate::vip) fn configure(&self, vips: &[&str]) {
            let vip = |(i, address): (usize, &&str)| {
                (Name::new(&format!("vip{i}")).unwrap(), Vip { address: address.parse().unwrap() })
            };
            let config = Config { vips: vips.iter().enumerate().map(vip).collect(), ..Config::default() };
            self.state.send_replace(Arc::new(State::restored(1, config, (0, String::new()), Default::default(), [])));
        }

        pub(in crate::vip) fn lead(&self, term: u64) -> Instant {
            let acked = Instant::now();
            self.standing.send_modify(|standing| {
                (standing.term, standing.leader, standing.caught_up) = (term, Some(1), true);
                standing.quorum_acked = Some(acked);
            });
            acked
        }

        pub(in crate::vip) fn follow(&self, term: u64) {
            self.standing.send_modify(|standing| {
                (standing.term, standing.leader, standing.quorum_acked) = (term, Some(2), None);
            });
        }

        pub(in crate::vip) fn start(&self, provider: Provider) -> Result<Keeper, Error> {
            self.start_by(Settings { provider, lease: LEASE, margin: MARGIN })
        }

        pub(in crate::vip) fn start_by(&self, settings: Settings) -> Result<Keeper, Error> {
            start(settings, self.standing.subscribe(), self.state.subscribe())
        }
    }

    pub(in crate::vip) async fn holds(keeper: &Keeper, expected: &[&str]) {
        let expected: BTreeSet<IpAddr> = expected.iter().map(|address| address.parse().unwrap()).collect();
        let mut held = keeper.held();
        let found = tokio::time::timeout(DEADLINE, held.wait_for(|held| **held == expected)).await;
        assert!(found.is_ok(), "expected {expected:?}, held {:?}", keeper.held().borrow());
    }

    #[tokio::test]
    async fn a_leader_holds_until_its_lease_ends_and_again_when_a_majority_answers() {
        let world = World::new(Role::Proxy, &["127.0.0.100", "127.0.0.101"]);
        let keeper = world.start(Provider::Bind).unwrap();
        holds(&keeper, &[]).await;
        let acked = world.lead(7);
        holds(&keeper, &["127.0.0.100", "127.0.0.101"]).await;
        holds(&keeper, &[]).await;
        assert!(acked.elapsed() >= LEASE - MARGIN, "let go after {:?}", acked.elapsed());
        assert!(acked.elapsed() < LEASE, "held for {:?}", acked.elapsed());
        world.lead(7);
        holds(&keeper, &["127.0.0.100", "127.0.0.101"]).await;
        world.follow(8);
        holds(&keeper, &[]).await;
    }

    #[tokio::test]
    async fn the_config_decides_what_is_held() {
        let world = World::new(Role::Proxy, &[]);
        let keeper = world.start(Provider::Bind).unwrap();
        world.lead(1);
        world.configure(&["127.0.0.100"]);
        holds(&keeper, &["127.0.0.100"]).await;
        world.lead(1);
        world.configure(&["127.0.0.101"]);
        holds(&keeper, &["127.0.0.101"]).await;
    }

    #[tokio::test]
    async fn a_witness_that_leads_holds_nothing() {
        let world = World::new(Role::Witness, &["127.0.0.100"]);
        let keeper = world.start(Provider::Bind).unwrap();
        world.lead(1);
        // Were it to claim, it would before it answers this.
        let released = keeper.release(Duration::ZERO).await.unwrap();
        assert!(released.addresses.is_empty());
        assert!(keeper.held().borrow().is_empty());
    }

    #[tokio::test]
    async fn a_release_is_acknowledged_when_all_is_gone_and_ends_with_its_time() {
        let world = World::new(Role::Proxy, &["127.0.0.100"]);
        let keeper = world.start(Provider::Bind).unwrap();
        world.lead(7);
        holds(&keeper, &["127.0.0.100"]).await;
        let asked = Instant::now();
        let keep_away = Duration::from_secs(1);
        let released = keeper.release(keep_away).await.unwrap();
        assert_eq!(released.addresses, BTreeSet::from(["127.0.0.100".parse().unwrap()]));
        assert!(keeper.held().borrow().is_empty());
        world.lead(7);
        holds(&keeper, &["127.0.0.100"]).await;
        assert!(asked.elapsed() >= keep_away, "claimed again after {:?}", asked.elapsed());
        // Elected anew, it does not wait.
        keeper.release(Duration::from_secs(3600)).await.unwrap();
        world.lead(9);
        holds(&keeper, &["127.0.0.100"]).await;
    }

    #[tokio::test]
    async fn stopping_removes_everything_and_so_does_the_end_of_consensus() {
        let world = World::new(Role::Proxy, &["127.0.0.100"]);
        let keeper = world.start(Provider::Bind).unwrap();
        world.lead(7);
        holds(&keeper, &["127.0.0.100"]).await;
        let held = keeper.held();
        keeper.clone().stop().await;
        assert!(held.borrow().is_empty());
        assert!(matches!(keeper.release(Duration::ZERO).await, Err(Error::Stopped)));
        keeper.stop().await;

        let keeper = world.start(Provider::Bind).unwrap();
        world.lead(7);
        holds(&keeper, &["127.0.0.100"]).await;
        drop(world);
        holds(&keeper, &[]).await;
    }

    #[test]
    fn an_interface_that_does_not_exist_is_reported_at_once_and_by_name() {
        let world = World::new(Role::Proxy, &[]);
        let failed = world.start(Provider::Linux { interface: "no-such-if".into() }).unwrap_err();
        assert!(failed.to_string().contains("no network interface `no-such-if`"), "{failed}");
    }
}
