//! Wires the rooms of one node, bottom up, and stops them, top down.

use std::collections::BTreeSet;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;
use tandem_proto::Problems;
use tandem_proto::raft::v1::Identity;
use tokio::net::TcpListener;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::server::TcpIncoming;
use zeroize::Zeroizing;

use crate::admin::{
    Admin, Asks, Desk, Members, Plane, Port, Rooms, Socket, Who, attend_join, attend_papers, incoming, join_port, serve,
};
use crate::config::model::{Config, Name};
use crate::config::{NodeFile, Profile, Provider, Role, Trust};
use crate::control::state::State;
use crate::control::{
    self, Control, Dial, Doors, EnterError, ForceError, Forced, Founding, Joining, Member, Store, StoreError, Timers,
};
use crate::logs::Levels;
use crate::secrets::Secrets;
use crate::{proxy, vip};

/// Clock-rate error + a late wake-up + netlink: what is kept free before the lease ends (the deletion itself takes 0.1 ms).
pub const MARGIN: Duration = Duration::from_millis(60);

/// Why a node does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The node port.
    #[error("cannot listen on the node port {address}: {why}; free it, or change control.listen")]
    Port {
        /// From node.toml.
        address: SocketAddr,
        /// What the system said.
        why: std::io::Error,
    },
    /// The port for those who watch.
    #[error("cannot listen at {address} for those who watch: {why}; free it, or change admin.http")]
    Http {
        /// From node.toml.
        address: SocketAddr,
        /// What the system said.
        why: std::io::Error,
    },
    /// The local socket.
    #[error("cannot listen on the local socket {}: {why}; free it, or change admin.socket", path.display())]
    Socket {
        /// From node.toml.
        path: std::path::PathBuf,
        /// What the system said.
        why: std::io::Error,
    },
    /// The file of secrets.
    #[error("{0}")]
    Secrets(Problems),
    /// The certificates.
    #[error("{0}")]
    Trust(Problems),
    /// Who this node is, as `tandemd init` or `tandemd join` was told.
    #[error("who this node is cannot be taken over from init or join: {0}; mend the disk under data_dir")]
    Identity(std::io::Error),
    /// The log on disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cluster.
    #[error(transparent)]
    Enter(#[from] EnterError),
    /// The virtual addresses.
    #[error(transparent)]
    Vip(#[from] vip::Error),
    /// The data plane.
    #[error("the data plane does not start: {0}")]
    Proxy(std::io::Error),
    /// The node port, later.
    #[error("the node port failed: {0}")]
    Serve(#[from] tonic::transport::Error),
}

/// Runs a node until `stop`. Must be called on the control runtime, which carries consensus and nothing of the data plane.
///
/// # Errors
/// Each names who must act.
pub async fn run(file: NodeFile, levels: Levels, stop: impl Future<Output = ()>) -> Result<(), Error> {
    let timers = match file.timers {
        Profile::Default => Timers::DEFAULT,
        Profile::Fast => Timers::FAST,
    };
    let secrets = file.secrets.as_deref().map(Secrets::read).transpose().map_err(Error::Secrets)?.map(Arc::new);
    let store = Store::open(&file.data_dir)?;
    let port = TcpListener::bind(file.listen).await.map_err(|why| Error::Port { address: file.listen, why })?;
    let desk = file.trust.as_ref().map(|trust| desk(&file, trust)).transpose().map_err(Error::Trust)?.map(Arc::new);
    if desk.is_some() {
        told(&file.data_dir.join("identity"), &store).await.map_err(Error::Identity)?;
    }
    let dial = desk.as_ref().map_or_else(Dial::tcp, |desk| Dial::secured(desk.current()));
    let doors = Doors::new(founding(&file, timers.lease), timers, store, dial.clone());
    let admin = Admin::new(Who {
        cluster: file.cluster.clone(),
        name: file.name.clone(),
        levels,
        data_dir: file.data_dir.clone(),
        secrets: secrets.clone(),
        dial,
        timers: file.timers.to_string(),
        desk: desk.clone(),
    });
    // Also before the cluster is entered: not ready is an answer.
    let watch = match file.http {
        Some(address) => {
            let listener = TcpListener::bind(address).await.map_err(|why| Error::Http { address, why })?;
            tokio::spawn(crate::admin::serve_http(listener, admin.clone())).abort_handle().into()
        }
        None => None,
    };
    let _watch = watch.map(Ended);
    let routes = admin.serve(doors.serve(tonic::service::RoutesBuilder::default())).routes();
    let (close, closed) = watch::channel(());
    let ended = |mut closed: watch::Receiver<()>| async move {
        // An error is the end too: nobody can say it any more.
        let _ = closed.changed().await;
    };
    let members = Members::new(admin.clone());
    let (_socket, local) = local_socket(&file.socket)?;
    let local = UnixListenerStream::new(local);
    let local = serve(routes.clone(), Port::Proven, members.clone(), local, ended(closed.clone()));
    let _local = Ended(tokio::spawn(local).abort_handle());
    let mut server = match &desk {
        None => {
            let plain = TcpIncoming::from(port).with_nodelay(Some(true));
            tokio::spawn(serve(routes, Port::Open, members, plain, ended(closed)))
        }
        Some(desk) => {
            let links = incoming(port, desk.current(), Asks::Certificate);
            tokio::spawn(serve(routes, Port::Proven, members, links, ended(closed)))
        }
    };
    tracing::info!(node = %file.name, cluster = %file.cluster, listen = %file.listen, "started");

    tokio::pin!(stop);
    let control = tokio::select! {
        control = doors.enter() => control?,
        () = &mut stop => return Ok(()),
    };
    let plane = match file.role {
        Role::Witness => None,
        Role::Proxy => Some(start_plane(&file, timers, &control, secrets)?),
    };
    let rooms = plane.as_ref().map(|(proxy, keeper)| Plane { proxy: proxy.handle(), keeper: keeper.clone() });
    admin.open(Rooms { control: control.clone(), lease: timers.lease, plane: rooms });
    let _trusted = desk.as_ref().map(|_| Ended(tokio::spawn(attend_papers(admin.clone())).abort_handle()));
    // Only who can sign can let anybody in.
    let joinable = desk.is_some() && file.role == Role::Proxy;
    let _join =
        joinable.then(|| Ended(tokio::spawn(attend_join(admin.clone(), join_port(file.listen))).abort_handle()));
    let _attended = Ended(tokio::spawn(admin.clone().attend()).abort_handle());

    tokio::select! {
        () = &mut stop => {}
        ended = &mut server => return ended.unwrap_or(Ok(())).map_err(Error::Serve),
    }
    tracing::info!("stopping: handing over, then ending sessions within {:?}", file.grace);
    admin.leave().await;
    if let Some((proxy, keeper)) = plane {
        keeper.stop().await;
        proxy.stop(file.grace).await;
    }
    control.stop().await;
    drop(close);
    let _ = tokio::time::timeout(Duration::from_secs(1), server).await;
    tracing::info!("stopped");
    Ok(())
}

/// Makes the stopped node of `file` a cluster of its own: see [`force`](crate::control::force).
///
/// # Errors
/// Its store cannot be opened, or nothing is to be forced.
pub async fn force_quorum(file: &NodeFile, dead: &[String]) -> Result<Forced, ForceError> {
    let store = Store::open(&file.data_dir).map_err(|e| ForceError::Store(std::io::Error::other(e.to_string())))?;
    // As the node itself dials: to members that ask for a certificate, one without is nobody, and they would seem dead.
    let desk = file.trust.as_ref().map(|trust| desk(file, trust)).transpose();
    let desk = desk.map_err(|e| ForceError::Store(std::io::Error::other(e.to_string())))?;
    let dial = desk.as_ref().map_or_else(Dial::tcp, |desk| Dial::secured(desk.current()));
    control::force(&store, &dial, dead).await
}

/// A task that ends when the node does, however that comes.
struct Ended(tokio::task::AbortHandle);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn local_socket(path: &Path) -> Result<(Socket, UnixListener), Error> {
    Socket::bind(path).map_err(|why| Error::Socket { path: path.to_owned(), why })
}

fn desk(file: &NodeFile, trust: &Trust) -> Result<Desk, Problems> {
    let beside = |name: &str| trust.file.with_file_name(name);
    Ok(Desk {
        file: trust.file.clone(),
        admin_file: beside("admin.pem"),
        founding: beside("founding"),
        secrets: file.secrets.clone(),
        life: trust.life,
        papers: watch::channel(crate::trust::read(&trust.file)?).0,
    })
}

/// Writes down who this node is, once: the file goes, so that a node that lost its log does not take itself for what it was.
async fn told(file: &Path, store: &Store) -> std::io::Result<()> {
    let Ok(bytes) = std::fs::read(file) else { return Ok(()) };
    if store.identity().is_none() && !store.formed() {
        let identity = Identity::decode(bytes.as_slice()).map_err(std::io::Error::other)?;
        store.adopt(identity).await?;
    }
    std::fs::remove_file(file)
}

fn founding(file: &NodeFile, lease: Duration) -> Founding {
    // The file's peers are sorted by name: everyone counts the same.
    let peers = (1u64..)
        .zip(&file.peers)
        .map(|(id, p)| Member {
            id,
            name: p.name.clone(),
            address: p.address.to_string(),
            role: p.role,
            to_vote: false,
        })
        .collect();
    let join = file.join.as_ref().map(|j| Joining {
        members: j.members.iter().map(ToString::to_string).collect(),
        address: j.address.to_string(),
        learner: j.learner,
    });
    Founding { cluster: file.cluster.clone(), name: file.name.clone(), role: file.role, peers, join, lease }
}

/// The data plane and the keeper, which meet here and nowhere else.
fn start_plane(
    file: &NodeFile,
    timers: Timers,
    control: &Control,
    secrets: Option<Arc<Secrets>>,
) -> Result<(proxy::Proxy, vip::Keeper), Error> {
    let absent = match &file.vip {
        Provider::Bind => proxy::Absent::CannotListen,
        Provider::Linux { .. } | Provider::None => proxy::Absent::CannotServe,
    };
    let settings = vip::Settings { provider: file.vip.clone(), lease: timers.lease, margin: MARGIN };
    let keeper = vip::start(settings, control.standing(), control.state())?;
    let config = map(control.state(), |state: &Arc<State>| Arc::clone(&state.config));
    let reach = reach(control.state(), keeper.held(), absent);
    let workers = file.workers.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let keys = secrets.map(|secrets| secrets as Arc<dyn proxy::Keys>);
    let settings =
        proxy::Settings { workers, busy_poll: file.busy_poll, zone: file.zone.clone(), dns: file.dns.clone(), keys };
    let proxy = proxy::start(&settings, config, reach).map_err(Error::Proxy)?;
    Ok((proxy, keeper))
}

/// The data plane knows of no secrets; here it learns what they open.
impl proxy::Keys for Secrets {
    fn open(&self, name: &Name, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
        self.open(name, sealed).map_err(|why| why.to_string())
    }

    fn ticket_key(&self, purpose: &[u8]) -> Zeroizing<[u8; 32]> {
        self.ticket_key(purpose)
    }
}

/// A watch of what `f` sees in another.
fn map<T, U>(mut from: watch::Receiver<T>, f: impl Fn(&T) -> U + Send + 'static) -> watch::Receiver<U>
where
    T: Send + Sync + 'static,
    U: Send + Sync + 'static,
{
    let (to, mapped) = watch::channel(f(&from.borrow_and_update()));
    tokio::spawn(async move {
        while from.changed().await.is_ok() {
            to.send_replace(f(&from.borrow_and_update()));
        }
    });
    mapped
}

/// Which virtual addresses are absent: all there are, less those held.
fn reach(
    mut state: watch::Receiver<Arc<State>>,
    mut held: watch::Receiver<Arc<BTreeSet<IpAddr>>>,
    absent: proxy::Absent,
) -> watch::Receiver<Arc<proxy::Reach>> {
    let look = move |config: &Config, held: &BTreeSet<IpAddr>| {
        let away = config.vips.values().map(|v| v.address).filter(|a| !held.contains(a)).collect();
        Arc::new(proxy::Reach { away, absent })
    };
    let (to, reach) = watch::channel(look(&state.borrow().config, &held.borrow()));
    tokio::spawn(async move {
        loop {
            tokio::select! {
                changed = state.changed() => if changed.is_err() { return },
                changed = held.changed() => if changed.is_err() { return },
            }
            let now = look(&state.borrow_and_update().config, &held.borrow_and_update());
            to.send_replace(now);
        }
    });
    reach
}
