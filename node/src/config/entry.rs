//! How a node comes into its cluster: it founds one with its peers, asks members to be let in, or was given a certificate.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tandem_proto::{Problems, Table};

use super::model::Name;

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Role {
    /// Relays traffic and may hold virtual IPs.
    #[default]
    Proxy,
    /// Votes and stores the log; no data plane, no address, no secrets.
    Witness,
}

/// A node as its peers' files name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its node port.
    pub address: SocketAddr,
    /// What it does.
    pub role: Role,
}

/// Certificates of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    /// Key, certificate, and authorities, which `tandemd init` or `tandemd join` wrote.
    pub file: PathBuf,
    /// How long certificates hold that this node signs.
    pub life: Duration,
}

/// How long a certificate holds, if nothing else is said.
pub const CERTIFICATE_LIFE: Duration = Duration::from_secs(90 * 24 * 3600);

/// How a node comes into a cluster that there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Join {
    /// Node ports of members, asked in this order; one that answers is enough.
    pub members: Vec<SocketAddr>,
    /// Where the members reach this node's port.
    pub address: SocketAddr,
    /// It does not vote: a data plane and a copy of the log.
    pub learner: bool,
}

/// What a file says of it.
pub(super) struct Entry {
    pub(super) peers: Vec<Peer>,
    pub(super) join: Option<Join>,
    pub(super) trust: Option<Trust>,
    said: Option<Role>,
}

impl Entry {
    /// What the node called `name` does; where there are peers, it is one of them.
    pub(super) fn role(&self, name: Option<&str>, problems: &mut Problems) -> Role {
        let me = name.and_then(|name| self.peers.iter().find(|p| p.name == name)).map(|p| p.role);
        if let (Some(name), None, false) = (name, me, self.peers.is_empty()) {
            let known: Vec<&str> = self.peers.iter().map(|p| p.name.as_str()).collect();
            problems.add("name", name, "is not among [peers]", format!("known: {}", known.join(", ")));
        }
        me.or(self.said).unwrap_or_default()
    }
}

/// Reads it; the node listens at `listen`, and others reach it at `reached`, if that is elsewhere.
pub(super) fn read(
    top: &mut Table,
    listen: Option<SocketAddr>,
    reached: Option<SocketAddr>,
    problems: &mut Problems,
) -> Entry {
    let members = join(top, problems);
    let trust = top.table("trust", problems).and_then(|t| trust(t, problems));
    let peers = match (&members, &trust) {
        (None, None) => peers(top, problems),
        // Who joins is told by the members who there is, and who has certificates by those who signed them.
        _ => {
            no_peers(top, trust.is_some(), problems);
            Vec::new()
        }
    };
    let (said, learner) = (role(top, problems), top.flag("learner", problems));
    if members.is_none() && trust.is_none() && (said.is_some() || learner.is_some()) {
        problems.add("role", "", "and learner are for a node that joins", "write role in this node's line of [peers]");
    }
    let join = members.and_then(|members| {
        let address = reached.or(listen).filter(|a| !a.ip().is_unspecified());
        if address.is_none() && listen.is_some() {
            let why = "does not say where the others reach this node";
            problems.add("control.listen", "", why, "write [control] address = \"10.0.0.4:7440\" too");
        }
        Some(Join { members, address: address?, learner: learner.unwrap_or(false) })
    });
    if trust.is_some() && join.is_some() {
        let mend = "leave join out: tandemd join brings a machine in, with a token";
        problems.add("join", "", "and [trust] are both there", mend);
    }
    if let Some(a) = listen.filter(|a| !a.ip().is_loopback() && trust.is_none()) {
        let why =
            "is beyond loopback, and without [trust] the node port authenticates nobody (insecure is for loopback)";
        let mend = "make the node with certificates: tandemd init on the first, tandemd join on the others";
        problems.add("control.listen", a, why, mend);
    }
    Entry { peers, join, trust, said }
}

fn no_peers(top: &mut Table, trusts: bool, problems: &mut Problems) {
    if top.named("peers", problems).is_empty() {
        return;
    }
    let (path, mend) = if trusts {
        ("trust", "leave [peers] out; or [trust], for a cluster on loopback without certificates")
    } else {
        ("join", "keep [peers] to found a cluster with them, or join to come into one that there is")
    };
    problems.add(path, "", "and [peers] are both there", mend);
}

/// Members to ask to be let in; `None` where nothing is said of it.
fn join(top: &mut Table, problems: &mut Problems) -> Option<Vec<SocketAddr>> {
    let said = top.text_list("join", problems);
    if said.is_empty() {
        return None;
    }
    let each = said.iter().enumerate().map(|(i, text)| address(format!("join[{i}]"), text, problems));
    Some(each.collect::<Vec<_>>().into_iter().flatten().collect())
}

fn role(t: &mut Table, problems: &mut Problems) -> Option<Role> {
    match t.text("role", problems)?.as_str() {
        "proxy" => Some(Role::Proxy),
        "witness" => Some(Role::Witness),
        other => {
            problems.add(t.path("role"), other, "is not known here", "use \"proxy\" or \"witness\"");
            None
        }
    }
}

/// An address and a port, as everything in the file that has one is written.
pub(super) fn address(path: String, text: &str, problems: &mut Problems) -> Option<SocketAddr> {
    let parsed = text.parse::<SocketAddr>().ok().filter(|a| a.port() != 0);
    if parsed.is_none() {
        problems.add(path, text, "is not an IP address and port", "write it like \"10.0.0.1:7440\"");
    }
    parsed
}

fn peers(top: &mut Table, problems: &mut Problems) -> Vec<Peer> {
    let mut peers: Vec<Peer> = Vec::new();
    for (name, mut t) in top.named("peers", problems) {
        let given = t.required("address", "write address = \"10.0.0.1:7440\"", problems);
        let given = given.and_then(|text| address(t.path("address"), &text, problems));
        let role = role(&mut t, problems).unwrap_or_default();
        let path = t.path("address");
        t.finish(problems);
        if Name::new(&name).is_none() {
            problems.add(format!("peers.{name}"), &name, "is no name", "use a-z 0-9 . _ -");
        }
        let Some(address) = given else { continue };
        if let Some(twin) = peers.iter().find(|p| p.address == address) {
            problems.add(path, address, format!("is the address of {:?} too", twin.name), "give each node its own");
        }
        peers.push(Peer { name, address, role });
    }
    if peers.is_empty() {
        let mend = "name every founder, this node included: [peers] a = { address = \"10.0.0.1:7440\" }; or a member of a \
                    cluster to come into: join = [\"10.0.0.1:7440\"]";
        problems.add("peers", "", "is missing or empty", mend);
    }
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    peers
}

fn trust(mut t: Table, problems: &mut Problems) -> Option<Trust> {
    let file = t.required("file", "name the file that `tandemd init` or `tandemd join` wrote", problems);
    let life = t.duration("certificate_life", problems).unwrap_or(CERTIFICATE_LIFE);
    if life < Duration::from_secs(5) || life > Duration::from_secs(5 * 365 * 24 * 3600) {
        let mend = "write certificate_life = \"90d\", which is the default";
        problems.add(
            t.path("certificate_life"),
            humantime::format_duration(life),
            "is not between 5s and 5 years",
            mend,
        );
    }
    t.finish(problems);
    Some(Trust { file: file?.into(), life })
}
