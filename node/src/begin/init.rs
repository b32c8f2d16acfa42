//! The first node: makes the cluster's authority, its own certificate, and the tokens with which the others join.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, bail};
use prost::Message;
use tandem_proto::config::v1::{Command, Edit, Vip, edit};
use tandem_proto::papers::{Access, Identity, Papers, Who};
use tandem_proto::raft::v1 as raft;
use tandem_proto::trust::v1::{Change, Found, change};

use super::file::{Wanted, text};
use super::{Begun, JOIN_PORT, NODE_PORT, Place, interface, named, own_name, reachable, write};
use crate::admin::{HOUR, authority, fresh_token, join_port, pin_of, unix_ms, unix_s};
use crate::config::{CERTIFICATE_LIFE, Provider};
use crate::secrets::{self, Secrets};
use crate::trust::{Signer, request};

/// Makes a new cluster, with this machine as its first node, and starts it.
#[derive(Debug, Clone, clap::Args)]
pub struct Init {
    /// What this node is called. Default: the machine's name.
    #[arg(long)]
    pub name: Option<String>,
    /// What the cluster is called.
    #[arg(long, default_value = "tandem")]
    pub cluster: String,
    /// The virtual address, and the interface it goes to; without an interface: an address the machine has anyhow (loopback).
    #[arg(long, value_name = "ADDRESS[@INTERFACE]")]
    pub vip: Option<String>,
    /// The node port: consensus and tandemctl. Default: port 7440 at the address of the virtual address' interface.
    #[arg(long, value_name = "IP:PORT")]
    pub listen: Option<SocketAddr>,
    /// How fast a silent leader is noticed: failover in 0.5 s, or 0.3 s.
    #[arg(long, value_parser = ["default", "fast"], default_value = "default")]
    pub timers: String,
    /// Also write the tokens here, as proxy.token and witness.token: for a program that sets machines up.
    #[arg(long, value_name = "DIR")]
    pub tokens: Option<PathBuf>,
    /// Where its files are.
    #[command(flatten)]
    pub place: Place,
}

/// Writes all files of a first node, unless they are there.
///
/// # Errors
/// What to change in the command.
pub fn init(ask: &Init) -> anyhow::Result<Begun> {
    let name = own_name(ask.name.as_ref(), "a")?;
    named("--cluster", &ask.cluster)?;
    if ask.place.taken(&name)? {
        let more = "more tokens: tandemctl token create --role proxy|witness";
        return Ok(Begun { say: format!("This machine is node {name} already; {more}\n") });
    }
    let (vip, provider) = vip(ask.vip.as_deref())?;
    let listen = listen(ask.listen, &provider)?;
    let now_s = unix_s();

    let secret = secrets::fresh()?;
    write(&ask.place.at("secret"), secret.as_bytes())?;
    let secrets = Secrets::read(&ask.place.at("secret"))?;
    let cluster_id = rand::random::<[u8; 16]>().to_vec();
    let (authority, key) = authority(&ask.cluster, &secrets, now_s).map_err(anyhow::Error::msg)?;
    let signer = Signer::new(&authority.certificate_pem, &key)?;
    let authorities = [authority.certificate_pem.clone()];
    let papers = |who, nodes: &[String]| -> anyhow::Result<String> {
        let (key, asked) = request()?;
        let signed = signer.sign(&asked, &Identity::new(&cluster_id, who), now_s, CERTIFICATE_LIFE)?;
        Ok(Papers::text(&key, &signed, &authorities, nodes))
    };
    let nodes = [listen.to_string()];
    let own = papers(Who::Node(1), &nodes)?;
    let pin = Papers::parse(&own)?.signer().and_then(|f| pin_of(&f)).context("the new authority cannot be read")?;
    write(&ask.place.at("node.pem"), own.as_bytes())?;
    let admin = papers(Who::User { name: format!("local-{name}"), access: Access::Admin }, &nodes)?;
    write(&ask.place.at("admin.pem"), admin.as_bytes())?;

    let me = raft::Member {
        id: 1,
        name: name.clone(),
        address: listen.to_string(),
        role: raft::Role::Proxy.into(),
        ..Default::default()
    };
    let identity = raft::Identity {
        cluster_id,
        epoch: 1,
        cluster: ask.cluster.clone(),
        node: 1,
        name: name.clone(),
        founders: vec![me],
        ..Default::default()
    };
    write(&ask.place.at("identity"), &identity.encode_to_vec())?;
    let expires = unix_ms() + tandem_proto::millis(HOUR);
    let (proxy, proxy_kept) = fresh_token(pin, false, expires, "tandemd init").map_err(anyhow::Error::msg)?;
    let (witness, witness_kept) = fresh_token(pin, true, expires, "tandemd init").map_err(anyhow::Error::msg)?;
    let found = Found { authority: Some(authority), tokens: vec![proxy_kept, witness_kept] };
    let vips =
        vip.map(|ip| Edit { edit: Some(edit::Edit::AddVip(Vip { name: "main".into(), address: ip.to_string() })) });
    let founding = Command {
        request_id: "tandemd-init".into(),
        actor: "tandemd init".into(),
        edits: vips.into_iter().collect(),
        trust: Some(Change { change: Some(change::Change::Found(found)) }),
        ..Default::default()
    };
    write(&ask.place.at("founding"), &founding.encode_to_vec())?;
    if let Some(dir) = &ask.tokens {
        write(&dir.join("proxy.token"), proxy.to_string().as_bytes())?;
        write(&dir.join("witness.token"), witness.to_string().as_bytes())?;
    }
    let wanted = Wanted {
        cluster: &ask.cluster,
        name: &name,
        witness: false,
        data_dir: &ask.place.data_dir,
        listen,
        timers: &ask.timers,
        vip: provider,
    };
    write(&ask.place.config, text(&wanted).as_bytes())?;
    let door = join_port(listen);
    let host = if door.port() == JOIN_PORT { door.ip().to_string() } else { door.to_string() };
    let say = format!(
        "Node {name} of cluster {} is made. Within an hour, once each:\n\n  on the other proxy:  tandemd join {host} --token {proxy}\n  \
         on the witness:      tandemd join {host} --token {witness}\n\n\
         Then, on a node: tandemctl status. More tokens: tandemctl token create --role proxy|witness\n",
        ask.cluster
    );
    Ok(Begun { say })
}

fn vip(text: Option<&str>) -> anyhow::Result<(Option<IpAddr>, Provider)> {
    let Some(text) = text else { return Ok((None, Provider::None)) };
    let (address, interface) = text.split_once('@').map_or((text, None), |(a, i)| (a, Some(i)));
    let address = address.split('/').next().unwrap_or(address);
    let address = address.parse().with_context(|| format!("--vip {text:?}: write it like 10.0.0.100@eth0"))?;
    let provider = match interface {
        None => Provider::Bind,
        Some(name) => Provider::Linux { interface: name.to_owned() },
    };
    Ok((Some(address), provider))
}

fn listen(said: Option<SocketAddr>, provider: &Provider) -> anyhow::Result<SocketAddr> {
    if let Some(listen) = said {
        reachable(listen)?;
        return Ok(listen);
    }
    let Provider::Linux { interface } = provider else {
        bail!("say where the other nodes reach this one: --listen 10.0.0.1:7440");
    };
    let address = interface::address_of(interface).with_context(|| {
        format!("interface {interface} has no address; say where to listen: --listen 10.0.0.1:7440")
    })?;
    Ok(SocketAddr::new(address, NODE_PORT))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::NodeFile;

    fn asked(dir: &std::path::Path) -> Init {
        Init {
            name: Some("a".into()),
            cluster: "chat".into(),
            vip: Some("127.0.0.100".into()),
            listen: Some(([127, 0, 0, 1], 7440).into()),
            timers: "default".into(),
            tokens: None,
            place: Place { config: dir.join("node.toml"), data_dir: dir.join("data"), no_start: true },
        }
    }

    #[test]
    fn all_it_writes_fits_together_and_a_second_time_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let say = init(&asked(dir.path())).unwrap().say;
        let file = NodeFile::read(&dir.path().join("node.toml")).unwrap();
        assert_eq!((file.cluster.as_str(), file.name.as_str()), ("chat", "a"));
        let papers = crate::trust::read(&file.trust.unwrap().file).unwrap();
        assert_eq!(papers.identity.who, Who::Node(1));
        let token: tandem_proto::token::Token =
            say.lines().find_map(|l| l.split_once("--token ")).unwrap().1.parse().unwrap();
        assert_eq!(papers.signer().and_then(|f| pin_of(&f)), Some(token.pin));
        let founding = std::fs::read(dir.path().join("data/founding")).unwrap();
        assert!(!founding.windows(16).any(|w| w == *token.secret), "the secret is nowhere on disk");
        let before = std::fs::read(dir.path().join("data/node.pem")).unwrap();
        assert!(init(&asked(dir.path())).unwrap().say.contains("already"));
        assert_eq!(std::fs::read(dir.path().join("data/node.pem")).unwrap(), before);
        let other = Init { name: Some("b".into()), ..asked(dir.path()) };
        assert!(init(&other).is_err_and(|e| e.to_string().contains("is node a of cluster chat already")));
    }
}
