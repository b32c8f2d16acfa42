//! One machine: its disk, its clock, and the product's own rooms on a runtime of its own.
//!
//! A crash drops the runtime: nothing of the process is left but what its disk kept.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prost::Message as _;
use tandem_node::config::Provider;
use tandem_node::control::state::Outcome;
use tandem_node::control::{Control, Doors, Error, Founding, Member, Role, Store, Timers};
use tandem_node::{node, vip};
use tandem_proto::config::v1::Command;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tonic::Status;
use tonic::service::RoutesBuilder;
use tower::ServiceExt as _;

use crate::chance::Chance;
use crate::disk::Platter;
use crate::lan::{Hands, Lan};
use crate::mutants::Mutant;
use crate::network::{Ask, Host, Message, Network, Port};

/// Asks a node for a change: a `Command`; the answer is one of the statuses of [`Answer`].
pub(crate) const CHANGE: &str = "/chaos/change";
/// Asks the leader to give the addresses and the leadership to the node whose number is in the body.
pub(crate) const MOVE: &str = "/chaos/move";

/// What is equal on all machines.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) members: Vec<Member>,
    pub(crate) timers: Timers,
    pub(crate) mutant: Option<Mutant>,
    pub(crate) network: Network,
    pub(crate) lan: Lan,
}

/// What can be seen of a running node from outside.
#[derive(Clone, Default)]
pub(crate) struct Seen {
    pub(crate) store: Option<Store>,
    pub(crate) control: Option<Control>,
    /// Why it did not start.
    pub(crate) refused: Option<String>,
}

/// A machine.
pub(crate) struct Machine {
    pub(crate) host: Host,
    pub(crate) disk: Platter,
    /// The longest its disk waits before it writes, in ms.
    pub(crate) slow: Arc<AtomicU64>,
    /// Its clock's error, in millionths.
    pub(crate) drift: i64,
    /// Its process does not run until then, in ms of the world.
    pub(crate) paused_until: u64,
    cluster: Cluster,
    chance: Chance,
    /// Millionths of a ms that its clock is ahead of the ms it was given.
    ahead: i64,
    /// Ms of its clock that it did not run.
    slept: u64,
    life: u64,
    running: Option<Runtime>,
    seen: Arc<Mutex<Seen>>,
}

impl Machine {
    pub(crate) fn new(host: Host, cluster: Cluster, mut chance: Chance) -> Self {
        let lies = cluster.mutant == Some(Mutant::AckBeforeFsync);
        Self {
            host,
            disk: Platter::new(Chance::new(chance.number(), 1), lies),
            slow: Arc::default(),
            drift: 0,
            paused_until: 0,
            cluster,
            chance,
            ahead: 0,
            slept: 0,
            life: 0,
            running: None,
            seen: Arc::default(),
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.running.is_some()
    }

    pub(crate) fn runtime(&self) -> Option<&Runtime> {
        self.running.as_ref()
    }

    pub(crate) fn lease(&self) -> Duration {
        self.cluster.timers.lease
    }

    /// This life's number.
    pub(crate) fn life(&self) -> u64 {
        self.life
    }

    pub(crate) fn seen(&self) -> Seen {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn member(&self) -> &Member {
        &self.cluster.members[self.host]
    }

    /// Switches it on.
    pub(crate) fn boot(&mut self) -> anyhow::Result<()> {
        self.life += 1;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        let (port, asked) = self.cluster.network.on(self.host);
        let boot = Boot {
            host: self.host,
            cluster: self.cluster.clone(),
            disk: self.disk.clone(),
            slow: Arc::clone(&self.slow),
            chance: Chance::new(self.chance.number(), self.life),
            hands: self.cluster.lan.on(self.host, self.life),
            seen: Arc::clone(&self.seen),
            port,
        };
        runtime.spawn(boot.run(asked));
        self.running = Some(runtime);
        Ok(())
    }

    /// The power goes, or the process is killed (`refuses`: its kernel is there to refuse connections).
    pub(crate) fn crash(&mut self, refuses: bool) {
        self.disk.crash();
        self.cluster.network.off(self.host, refuses);
        self.cluster.lan.off(self.host);
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Seen::default();
        // Last: what tasks do while they are dropped reaches nobody.
        self.running = None;
        (self.paused_until, self.slept) = (0, 0);
    }

    /// One ms of the world passes here, by this machine's clock. Whether it died of it.
    pub(crate) fn tick(&mut self, now: u64) -> bool {
        let Some(runtime) = &self.running else { return false };
        self.ahead += self.drift;
        let extra = self.ahead.div_euclid(1_000_000);
        self.ahead -= extra * 1_000_000;
        let ms = u64::try_from(1 + extra).unwrap_or(0);
        if now < self.paused_until {
            self.slept += ms;
            return false;
        }
        let slept = Duration::from_millis(std::mem::take(&mut self.slept));
        runtime.block_on(async {
            if !slept.is_zero() {
                // All that should have happened meanwhile happens now, at once.
                tokio::time::advance(slept).await;
            }
            if ms > 0 {
                tokio::time::sleep(Duration::from_millis(ms)).await;
            }
        });
        self.disk.died()
    }
}

struct Boot {
    host: Host,
    cluster: Cluster,
    disk: Platter,
    slow: Arc<AtomicU64>,
    chance: Chance,
    hands: Hands,
    seen: Arc<Mutex<Seen>>,
    port: Port,
}

impl Boot {
    async fn run(self, asked: mpsc::UnboundedReceiver<Ask>) {
        let seen = Arc::clone(&self.seen);
        if let Err(why) = self.start(asked).await {
            seen.lock().unwrap_or_else(PoisonError::into_inner).refused = Some(format!("{why:#}"));
        }
    }

    /// As `tandem_node::node::run`, without the data plane.
    async fn start(self, asked: mpsc::UnboundedReceiver<Ask>) -> anyhow::Result<()> {
        let see = |f: &dyn Fn(&mut Seen)| f(&mut self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        let Cluster { members, timers, mutant, lan: _, network: _ } = self.cluster;
        let me = &members[self.host];
        let (store, writer) = Store::on(self.disk.mounted(), Path::new(&me.name))?;
        see(&|seen| seen.store = Some(store.clone()));
        let (slow, mut chance) = (self.slow, self.chance);
        tokio::spawn(writer.attend(move || {
            let ms = chance.between(0, slow.load(Ordering::Relaxed));
            tokio::time::sleep(Duration::from_millis(ms))
        }));
        let names: Vec<String> = members.iter().map(|m| m.address.clone()).collect();
        let founding = Founding {
            cluster: "chaos".to_owned(),
            name: me.name.clone(),
            role: me.role,
            peers: members.clone(),
            join: None,
            lease: timers.lease,
        };
        let doors = Doors::new(founding, timers, store, self.port.dial(&names));
        let open = Arc::new(Mutex::new(None));
        tokio::spawn(serve(doors.clone(), asked, self.port, Arc::clone(&open)));
        let control = doors.enter().await?;
        see(&|seen| seen.control = Some(control.clone()));
        let keeper = (me.role == Role::Proxy).then(|| {
            let settings = vip::Settings {
                provider: Provider::Linux { interface: "lan".to_owned() },
                lease: timers.lease,
                margin: node::MARGIN,
            };
            let standing = control.standing();
            let standing = match mutant {
                Some(mutant) => mutant.on_the_lease(standing),
                None => standing,
            };
            let (keeper, run) = vip::attend(settings, self.hands, standing, control.state());
            tokio::spawn(run);
            keeper
        });
        *open.lock().unwrap_or_else(PoisonError::into_inner) = Some(Rooms { control, keeper });
        Ok(())
    }
}

#[derive(Clone)]
struct Rooms {
    control: Control,
    keeper: Option<vip::Keeper>,
}

/// The node port: each request is a task, as on a real one.
async fn serve(doors: Doors, mut asked: mpsc::UnboundedReceiver<Ask>, port: Port, open: Arc<Mutex<Option<Rooms>>>) {
    let routes = doors.serve(RoutesBuilder::default()).routes().prepare();
    while let Some(ask) = asked.recv().await {
        let (routes, port, open) = (routes.clone(), port.clone(), Arc::clone(&open));
        tokio::spawn(async move {
            let uri = ask.message.uri.clone();
            let rooms = || open.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let reply = match (uri.path(), rooms()) {
                (CHANGE | MOVE, None) => Err(Status::unavailable("starting")),
                (CHANGE, Some(rooms)) => change(&rooms, &ask.message).await,
                (MOVE, Some(rooms)) => give_away(&rooms, &ask.message).await,
                _ => match routes.oneshot(ask.message.request()).await {
                    Ok(response) => Message::response(uri, response).await,
                    Err(never) => match never {},
                },
            };
            port.reply(&ask, reply);
        });
    }
}

/// As `admin` does it: done, refused, or where to ask.
async fn change(rooms: &Rooms, message: &Message) -> Result<Message, Status> {
    let command = Command::decode(message.body.clone()).map_err(|e| Status::internal(e.to_string()))?;
    match rooms.control.propose(command).await {
        Ok(Outcome::Done { revision }) => Ok(Message::plain(CHANGE, revision.to_be_bytes().to_vec())),
        Ok(Outcome::Admitted { .. }) => Err(Status::internal("nobody asked to come in")),
        Ok(Outcome::Refused { problems, .. }) => Err(Status::invalid_argument(problems.to_string())),
        Err(Error::NotLeader(leader)) => Err(Status::failed_precondition(leader.address)),
        Err(other) => Err(Status::unavailable(other.to_string())),
    }
}

/// As `admin` does it: nobody has the addresses while leadership changes hands.
async fn give_away(rooms: &Rooms, message: &Message) -> Result<Message, Status> {
    let id: [u8; 8] = message.body.as_ref().try_into().map_err(|_| Status::internal("no number"))?;
    let patience = Duration::from_secs(1);
    let here = rooms.control.here();
    if here.leader != Some(here.me) {
        return Err(Status::failed_precondition("not the leader"));
    }
    if let Some(keeper) = &rooms.keeper {
        keeper.release(patience).await.map_err(|e| Status::unavailable(e.to_string()))?;
    }
    let moved = rooms.control.transfer(u64::from_be_bytes(id), patience).await;
    moved.map(|()| Message::plain(MOVE, Vec::new())).map_err(|e| Status::aborted(e.to_string()))
}
