//! Each other node: asks a member to be let in, with a token, and writes down what it is told.
//!
//! The member's authority is known by the hash in the token before the secret leaves this machine; this node's key never does.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use hyper_util::rt::TokioIo;
use prost::Message;
use tandem_proto::join::v1 as pb;
use tandem_proto::join::v1::join_client::JoinClient;
use tandem_proto::papers::{Papers, Who, connect, endpoint, newcomer};
use tandem_proto::raft::v1 as raft;
use tandem_proto::token::Token;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::file::{Wanted, text};
use super::{Begun, JOIN_PORT, NODE_PORT, Place, interface, own_name, reachable, write};
use crate::config::Provider;
use crate::trust::request;

/// Joins a cluster as a new node, and starts it.
#[derive(Debug, Clone, clap::Args)]
pub struct Join {
    /// A proxy of the cluster.
    #[arg(value_name = "HOST[:PORT]")]
    pub host: String,
    /// As `tandemd init` or `tandemctl token create` printed it.
    #[arg(long, env = "TANDEM_TOKEN", hide_env_values = true, required_unless_present = "token_file")]
    pub token: Option<String>,
    /// A file with the token in it; it is waited for.
    #[arg(long, value_name = "FILE", conflicts_with = "token")]
    pub token_file: Option<PathBuf>,
    /// What this node is called. Default: the machine's name.
    #[arg(long)]
    pub name: Option<String>,
    /// Refuse a token of the other role. Default: what the token is for.
    #[arg(long, value_parser = ["proxy", "witness"])]
    pub role: Option<String>,
    /// The node port. Default: port 7440 at the address from which HOST is reached.
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// Where virtual addresses go, on a proxy. Default: the interface with the node port's address.
    #[arg(long)]
    pub interface: Option<String>,
    /// Where its files are.
    #[command(flatten)]
    pub place: Place,
}

/// How long members that cannot answer yet are asked again.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);

/// Asks to be let in, and writes all files of the node, unless they are there.
///
/// # Errors
/// Why it is not let in, or what to change in the command.
pub async fn join(ask: &Join) -> anyhow::Result<Begun> {
    let name = own_name(ask.name.as_ref(), "b")?;
    if ask.place.taken(&name)? {
        return Ok(Begun { say: format!("This machine is node {name} already.\n") });
    }
    let token = token(ask).await?;
    let host = with_port(&ask.host);
    let listen = match ask.listen {
        Some(listen) => listen,
        None => SocketAddr::new(reached_from(&host).await?, NODE_PORT),
    };
    reachable(listen)?;
    // Found out before the token is used up, which is good once.
    let vip = match ask.role.as_deref() {
        Some("witness") => Provider::None,
        _ => provider(ask.interface.as_deref(), listen.ip())?,
    };
    let (key, asked) = request()?;
    let redeem = pb::RedeemRequest {
        token_id: token.id.clone(),
        secret: token.secret.to_vec(),
        name: name.clone(),
        address: listen.to_string(),
        request: asked,
        role: match ask.role.as_deref() {
            Some("witness") => raft::Role::Witness.into(),
            Some(_) => raft::Role::Proxy.into(),
            None => raft::Role::Unspecified.into(),
        },
    };
    let told = redeemed(host, &token, redeem).await?;
    let identity = told.identity.clone().context("the cluster gave no identity; give all nodes the same version")?;
    let witness = told.role() == raft::Role::Witness;
    let role = if witness { "witness" } else { "proxy" };
    let papers = Papers::text(&key, &told.certificate_pem, &told.authorities_pem, &nodes(&identity));
    let parsed = Papers::parse(&papers)?;
    let who = if witness { Who::Witness(identity.node) } else { Who::Node(identity.node) };
    ensure!(parsed.identity.who == who, "the cluster certified {} and not {who}", parsed.identity.who);
    write(&ask.place.at("node.pem"), papers.as_bytes())?;
    if !witness {
        write(&ask.place.at("secret"), told.secrets.as_bytes())?;
    }
    write(&ask.place.at("identity"), &identity.encode_to_vec())?;
    let wanted = Wanted {
        cluster: &identity.cluster,
        name: &name,
        witness,
        data_dir: &ask.place.data_dir,
        listen,
        timers: &told.timers,
        vip: if witness { Provider::None } else { vip },
    };
    write(&ask.place.config, text(&wanted).as_bytes())?;
    let say = format!("Node {name} ({role}, number {}) has joined cluster {}.\n", identity.node, identity.cluster);
    Ok(Begun { say })
}

async fn token(ask: &Join) -> anyhow::Result<Token> {
    let text = match (&ask.token, &ask.token_file) {
        (Some(token), _) => token.clone(),
        (None, Some(file)) => written(file).await?,
        (None, None) => bail!("give the token: --token, as `tandemd init` printed it"),
    };
    text.parse().map_err(|e| anyhow::anyhow!("the token {e}"))
}

/// Who writes the file may be slower than this machine.
async fn written(file: &Path) -> anyhow::Result<String> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        match std::fs::read_to_string(file) {
            Ok(text) => return Ok(text),
            Err(e) if tokio::time::Instant::now() > deadline => bail!("{} cannot be read: {e}", file.display()),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

fn nodes(identity: &raft::Identity) -> Vec<String> {
    identity.founders.iter().map(|m| m.address.clone()).collect()
}

fn with_port(host: &str) -> String {
    if host.parse::<IpAddr>().is_ok_and(|ip| ip.is_ipv6()) {
        return format!("[{host}]:{JOIN_PORT}");
    }
    match host.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => host.to_owned(),
        _ => format!("{host}:{JOIN_PORT}"),
    }
}

/// The address of this machine that packets to `host` leave from. Nothing is sent.
async fn reached_from(host: &str) -> anyhow::Result<IpAddr> {
    let to = tokio::net::lookup_host(host).await.with_context(|| format!("{host} is not known"))?.next();
    let to = to.with_context(|| format!("{host} has no address"))?;
    let any: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = tokio::net::UdpSocket::bind(any).await?;
    socket.connect(to).await.with_context(|| format!("there is no way to {host}; say where to listen: --listen"))?;
    Ok(socket.local_addr()?.ip())
}

fn provider(said: Option<&str>, listen: IpAddr) -> anyhow::Result<Provider> {
    if listen.is_loopback() && said.is_none() {
        return Ok(Provider::Bind);
    }
    let interface = said.map(str::to_owned).or_else(|| interface::with(listen));
    let interface = interface.with_context(|| format!("no interface has {listen}; name one: --interface eth0"))?;
    Ok(Provider::Linux { interface })
}

fn channel(host: &str, pin: [u8; 32]) -> anyhow::Result<Channel> {
    let endpoint =
        endpoint(host).with_context(|| format!("{host} is no address"))?.connect_timeout(Duration::from_secs(5));
    Ok(endpoint.connect_with_connector_lazy(tower::service_fn(move |uri: http::Uri| async move {
        let config = newcomer(pin).map_err(std::io::Error::other)?;
        connect(&uri, config).await.map(TokioIo::new)
    })))
}

/// Asks until somebody says yes or no; sent on to the leader if there is one.
async fn redeemed(host: String, token: &Token, ask: pb::RedeemRequest) -> anyhow::Result<pb::RedeemReply> {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let (mut at, mut told) = (host.clone(), String::new());
    loop {
        let mut client = JoinClient::new(channel(&at, token.pin)?).max_decoding_message_size(1 << 20);
        let status = match tokio::time::timeout(Duration::from_secs(10), client.redeem(ask.clone())).await {
            Ok(Ok(reply)) => return Ok(reply.into_inner()),
            Ok(Err(status)) => status,
            Err(_) => Status::unavailable("no answer within 10 s"),
        };
        let leader = status.metadata().get("tandem-leader").and_then(|v| v.to_str().ok()).map(str::to_owned);
        let why = root(&status);
        match (status.code(), leader) {
            (_, Some(leader)) => at = leader,
            (Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded, None)
                if !why.contains("the token names") =>
            {
                at.clone_from(&host);
            }
            _ => bail!("{at}: {why}"),
        }
        if tokio::time::Instant::now() > deadline {
            bail!(
                "{at}: {why}. Is that a proxy of the cluster, and the token not an hour old? \
                 The join port is open only while a token lives: tandemctl token create"
            );
        }
        if told != why {
            eprintln!("{at}: {why}; trying again");
            told = why;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The node's word, or what broke the connection.
fn root(status: &Status) -> String {
    let mut innermost: &dyn std::error::Error = status;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    if std::error::Error::source(status).is_some() { innermost.to_string() } else { status.message().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_port_means_the_join_port() {
        assert_eq!(with_port("10.0.0.1"), "10.0.0.1:7442");
        assert_eq!(with_port("10.0.0.1:9"), "10.0.0.1:9");
        assert_eq!(with_port("fd00::1"), "[fd00::1]:7442");
        assert_eq!(with_port("[fd00::1]:9"), "[fd00::1]:9");
        assert_eq!(with_port("a.example.com"), "a.example.com:7442");
    }
}
