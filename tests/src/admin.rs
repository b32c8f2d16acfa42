//! The node port, spoken to directly: faster than a process per change, and without tandemctl's own cleverness.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tandem_proto::admin::v1 as pb;
use tandem_proto::admin::v1::admin_client::AdminClient;
use tandem_proto::config::v1::{Command, Config, Edit, edit};
use tandem_proto::papers::{self, Current, Expect};
use tonic::transport::Channel;
use tonic::{Code, Status};

/// How long one question may take before another node is asked.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connection to every node of a cluster.
#[derive(Clone)]
pub struct Admin {
    nodes: BTreeMap<SocketAddr, AdminClient<Channel>>,
    // Who took the last change: asked first next time.
    leader: Arc<Mutex<Option<SocketAddr>>>,
}

impl Admin {
    /// Connects when first asked. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// An address makes no URI.
    pub fn new(nodes: impl IntoIterator<Item = SocketAddr>) -> anyhow::Result<Self> {
        Self::with(nodes, None)
    }

    /// The same, to nodes that ask for a certificate.
    ///
    /// # Errors
    /// An address makes no URI.
    pub fn with(nodes: impl IntoIterator<Item = SocketAddr>, papers: Option<Current>) -> anyhow::Result<Self> {
        let mut clients = BTreeMap::new();
        for address in nodes {
            let endpoint = papers::endpoint(&address.to_string())?
                .connect_timeout(Duration::from_millis(500))
                .timeout(PATIENCE)
                .tcp_nodelay(true);
            let channel = match &papers {
                None => endpoint.connect_lazy(),
                Some(papers) => papers::channel(&endpoint, papers.clone(), Expect::AnyNode),
            };
            clients.insert(address, AdminClient::new(channel));
        }
        Ok(Self { nodes: clients, leader: Arc::default() })
    }

    /// What the node at `address` says of the cluster.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn status_of(&self, address: SocketAddr) -> anyhow::Result<pb::StatusReply> {
        let mut client = self.nodes.get(&address).context("not a node of this cluster")?.clone();
        Ok(client.status(pb::StatusRequest::default()).await?.into_inner())
    }

    /// What the first node that answers says of the cluster.
    ///
    /// # Errors
    /// None answers.
    pub async fn status(&self) -> anyhow::Result<pb::StatusReply> {
        for client in self.nodes.values() {
            if let Ok(reply) = client.clone().status(pb::StatusRequest::default()).await {
                return Ok(reply.into_inner());
            }
        }
        bail!("no node answers")
    }

    /// Revision and config as the node at `address` has applied them.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn config_of(&self, address: SocketAddr) -> anyhow::Result<(u64, Config)> {
        let mut client = self.nodes.get(&address).context("not a node of this cluster")?.clone();
        let reply = client.get_config(pb::GetConfigRequest::default()).await?.into_inner();
        Ok((reply.revision, reply.config.unwrap_or_default()))
    }

    /// Makes one change, and returns the revision.
    ///
    /// # Errors
    /// It is refused, or nobody takes it within ten seconds.
    pub async fn change(&self, edit: edit::Edit) -> anyhow::Result<u64> {
        self.send(&command(edit), Duration::from_secs(10)).await
    }

    /// Sends a command to the node at `address`, once.
    ///
    /// # Errors
    /// It does not lead, does not answer, or refuses.
    pub async fn change_at(&self, address: SocketAddr, command: &Command) -> anyhow::Result<u64> {
        let mut client = self.nodes.get(&address).context("not a node of this cluster")?.clone();
        outcome(client.change(command.clone()).await?.into_inner())
    }

    /// Sends a command until a leader answers; always with the same request id, so it applies once.
    ///
    /// # Errors
    /// It is refused, or nobody takes it within `deadline`: then it may or may not have been applied.
    pub async fn send(&self, command: &Command, deadline: Duration) -> anyhow::Result<u64> {
        let start = Instant::now();
        loop {
            let mut next: Vec<SocketAddr> = self.nodes.keys().copied().collect();
            prefer(&mut next, *self.leader.lock().unwrap_or_else(PoisonError::into_inner));
            while let Some(address) = next.pop() {
                let Some(client) = self.nodes.get(&address) else { continue };
                match client.clone().change(command.clone()).await {
                    Ok(reply) => {
                        *self.leader.lock().unwrap_or_else(PoisonError::into_inner) = Some(address);
                        return outcome(reply.into_inner());
                    }
                    Err(status) => {
                        prefer(&mut next, leader_hint(&status));
                        if start.elapsed() > deadline {
                            bail!("no leader took the change within {deadline:?}: {status}");
                        }
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Moves `address` to the end, where the next one is taken; one that was asked already is not asked again this round.
fn prefer(next: &mut Vec<SocketAddr>, address: Option<SocketAddr>) {
    if let Some(at) = next.iter().position(|a| Some(*a) == address) {
        let address = next.remove(at);
        next.push(address);
    }
}

fn outcome(reply: pb::ChangeReply) -> anyhow::Result<u64> {
    match reply.outcome.context("an answer without outcome")? {
        pb::change_reply::Outcome::Done(done) => Ok(done.revision),
        pb::change_reply::Outcome::Refused(refused) => {
            bail!("refused: {}", tandem_proto::Problems::from(refused.problems))
        }
    }
}

fn leader_hint(status: &Status) -> Option<SocketAddr> {
    if status.code() != Code::FailedPrecondition {
        return None;
    }
    status.metadata().get("tandem-leader")?.to_str().ok()?.parse().ok()
}

/// A command with one edit and a request id of its own.
pub fn command(edit: edit::Edit) -> Command {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    Command {
        request_id: format!("test-{}-{}-{n}", std::process::id(), crate::clock::now()),
        actor: "test".to_owned(),
        edits: vec![Edit { edit: Some(edit) }],
        ..Command::default()
    }
}
