//! `node.toml`: what this one node was told. Read whole, checked whole, every mistake reported at once.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tandem_proto::{Problems, Table};

use super::entry::{self, Join, Peer, Role, Trust, address};
use super::model::Name;
use crate::logs;

/// `sun_path` of unix(7), less its final zero and room for the name under which the socket is made.
const MAX_SOCKET_PATH: usize = 92;
const NAMES: &str = "use 1 to 63 of a-z 0-9 . _ - and begin with a letter or digit";

/// One checked `node.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeFile {
    /// Name of the cluster: a data directory of another one is refused.
    pub cluster: String,
    /// Name of this node; one of the peers.
    pub name: String,
    /// Where the log and the vote are kept.
    pub data_dir: PathBuf,
    /// The node port: consensus and tandemctl.
    pub listen: SocketAddr,
    /// How fast a silent leader is noticed.
    pub timers: Profile,
    /// Everyone who founds the cluster, this node included, sorted by name; none where `join` says how to come in.
    pub peers: Vec<Peer>,
    /// How to come into a cluster that there is, with an empty disk.
    pub join: Option<Join>,
    /// What this node does.
    pub role: Role,
    /// Where its certificates are; `None`: the node port authenticates nobody.
    pub trust: Option<Trust>,
    /// How this node takes a virtual address.
    pub vip: Provider,
    /// Data plane threads; `None`: one a core.
    pub workers: Option<usize>,
    /// Data plane threads look for bytes instead of sleeping, while few sessions speak.
    pub busy_poll: bool,
    /// Where this machine stands: its data plane prefers backends there. `None`: they are all alike.
    pub zone: Option<Name>,
    /// DNS servers that backends' names are asked of; none: those of `/etc/resolv.conf`.
    pub dns: Vec<SocketAddr>,
    /// How long live sessions may go on after the node was asked to stop.
    pub grace: Duration,
    /// Where machines that watch this node ask: `/healthz`, `/readyz`, `/metrics`; `None`: nowhere.
    pub http: Option<SocketAddr>,
    /// The socket of those who administer the cluster from this machine.
    pub socket: PathBuf,
    /// Where the nodes' secret is, which opens the keys of certificates; `None`: this node opens none.
    pub secrets: Option<PathBuf>,
    /// How log lines are written.
    pub log_format: logs::Format,
    /// What is logged at start; `tandemctl log set` changes it live.
    pub log_levels: String,
}

/// Which timers; the same on all nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Profile {
    /// Failover in about half a second.
    #[default]
    Default,
    /// Failover in about 0.3 s; flaps on virtual machines.
    Fast,
}

impl std::fmt::Display for Profile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::Fast => "fast",
        })
    }
}

/// How this node comes to have a virtual address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provider {
    /// On a network interface, through the kernel; neighbours are told by ARP or neighbour discovery. Needs CAP_NET_ADMIN and CAP_NET_RAW.
    Linux {
        /// Its name, e.g. `eth0`.
        interface: String,
    },
    /// The machine has the address already (loopback); the listener is bound only while it is held. Needs no right, and has
    /// no guard: a stopped process keeps what it has bound.
    Bind,
    /// This node never holds anything.
    None,
}

impl NodeFile {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn read(path: &Path) -> Result<Self, Problems> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            Problems::one(path.display().to_string(), "", e.to_string(), "name a readable node.toml with --config")
        })?;
        Self::parse(&text)
    }

    /// Checks a file's text.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn parse(text: &str) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let file = read(Table::document(text)?, &mut problems);
        problems.into_result()?;
        file.ok_or_else(|| Problems::one("node.toml", "", "is incomplete", "see the README for a whole one"))
    }
}

fn read(mut top: Table, problems: &mut Problems) -> Option<NodeFile> {
    let cluster = named(&mut top, "cluster", "a name for the cluster, the same on all nodes", problems);
    let name = named(&mut top, "name", "this node's name in [peers]", problems);
    let data_dir = top.required("data_dir", "name a directory only this node uses", problems);
    let (listen, timers, reached) = match top.table("control", problems) {
        Some(t) => control(t, problems),
        None => {
            problems.add("control.listen", "", "is missing", "write [control] listen = \"10.0.0.1:7440\"");
            (None, Profile::Default, None)
        }
    };
    let entry = entry::read(&mut top, listen, reached, problems);
    let vip = top.table("vip", problems).map_or(Some(Provider::None), |t| vip(t, problems));
    let (workers, busy_poll, grace) = top.table("proxy", problems).map_or((None, false, None), |t| proxy(t, problems));
    let (http, socket) = top.table("admin", problems).map_or((None, None), |t| admin(t, problems));
    let secrets = top.table("secrets", problems).and_then(|t| secrets(t, problems));
    let zone = zone(&mut top, problems);
    let dns = top.table("dns", problems).map_or_else(Vec::new, |t| dns(t, problems));
    let (log_format, log_levels) = top.table("log", problems).map_or((None, None), |t| log(t, problems));
    top.finish(problems);
    let role = entry.role(name.as_deref(), problems);
    if role == Role::Witness && vip.as_ref().is_some_and(|v| *v != Provider::None) {
        problems.add("vip.provider", "", "a witness holds no address", "leave [vip] out on a witness");
    }
    if role == Role::Witness && secrets.is_some() {
        problems.add("secrets.file", "", "a witness opens no keys", "leave [secrets] out on a witness");
    }
    let data_dir = PathBuf::from(data_dir?);
    Some(NodeFile {
        cluster: cluster?,
        name: name?,
        socket: socket.map_or_else(|| data_dir.join("admin.sock"), PathBuf::from),
        data_dir,
        listen: listen?,
        timers,
        peers: entry.peers,
        join: entry.join,
        role,
        trust: entry.trust,
        vip: vip?,
        workers,
        busy_poll,
        zone,
        dns,
        grace: grace.unwrap_or(Duration::from_secs(10)),
        http,
        secrets,
        log_format: log_format.unwrap_or_default(),
        log_levels: log_levels.unwrap_or_else(|| logs::DEFAULT.to_owned()),
    })
}

fn named(top: &mut Table, key: &'static str, mend: &str, problems: &mut Problems) -> Option<String> {
    let text = top.required(key, mend, problems)?;
    if Name::new(&text).is_none() {
        problems.add(key, &text, "is no name", NAMES);
        return None;
    }
    Some(text)
}

fn zone(top: &mut Table, problems: &mut Problems) -> Option<Name> {
    let text = top.text("zone", problems)?;
    let name = Name::new(&text);
    if name.is_none() {
        problems.add("zone", text, "is no name", NAMES);
    }
    name
}

/// Where to listen, the timers, and where the others reach this node if that is elsewhere.
fn control(mut t: Table, problems: &mut Problems) -> (Option<SocketAddr>, Profile, Option<SocketAddr>) {
    let listen = t.required("listen", "write listen = \"10.0.0.1:7440\"", problems);
    let listen = listen.and_then(|text| address(t.path("listen"), &text, problems));
    let reached = t.text("address", problems).and_then(|text| address(t.path("address"), &text, problems));
    // On loopback it goes without saying, and elsewhere it does not help.
    let _ = t.flag("insecure", problems);
    let timers = match t.text("timers", problems).as_deref() {
        None | Some("default") => Profile::Default,
        Some("fast") => Profile::Fast,
        Some(other) => {
            problems.add(
                t.path("timers"),
                other,
                "is not known here",
                "use \"default\" or \"fast\", the same on all nodes",
            );
            Profile::Default
        }
    };
    t.finish(problems);
    (listen, timers, reached)
}

fn vip(mut t: Table, problems: &mut Problems) -> Option<Provider> {
    let provider = t.text("provider", problems);
    let interface = t.text("interface", problems);
    let vip = match (provider.as_deref(), interface) {
        (Some("linux"), Some(interface)) => Some(Provider::Linux { interface }),
        (Some("linux"), None) => {
            problems.add(
                t.path("interface"),
                "",
                "is missing",
                "name the interface of the clients' network, like \"eth0\"",
            );
            None
        }
        (Some("bind"), _) => Some(Provider::Bind),
        (None | Some("none"), _) => Some(Provider::None),
        (Some(other), _) => {
            problems.add(t.path("provider"), other, "is not known here", "use \"linux\", \"bind\" or \"none\"");
            None
        }
    };
    t.finish(problems);
    vip
}

fn proxy(mut t: Table, problems: &mut Problems) -> (Option<usize>, bool, Option<Duration>) {
    let workers = t.number("workers", problems).map(|n| n as usize);
    let busy_poll = t.flag("busy_poll", problems).unwrap_or(false);
    let grace = t.duration("grace", problems);
    t.finish(problems);
    (workers, busy_poll, grace)
}

fn log(mut t: Table, problems: &mut Problems) -> (Option<logs::Format>, Option<String>) {
    let format = match t.text("format", problems).as_deref() {
        None => None,
        Some("text") => Some(logs::Format::Text),
        Some("json") => Some(logs::Format::Json),
        Some(other) => {
            problems.add(t.path("format"), other, "is not known here", "use \"text\" or \"json\"");
            None
        }
    };
    let levels = t.text("levels", problems);
    if let Some((levels, why)) = levels.as_ref().and_then(|l| Some((l, logs::check(l).err()?))) {
        problems.add(t.path("levels"), levels, why, format!("write it like {:?}", logs::DEFAULT));
    }
    t.finish(problems);
    (format, levels)
}

/// The port is 53 where none is said.
fn dns(mut t: Table, problems: &mut Problems) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for (i, text) in t.text_list("servers", problems).into_iter().enumerate() {
        let with_port = text.parse::<SocketAddr>().ok().filter(|a| a.port() != 0);
        match text.parse::<IpAddr>().map(|ip| (ip, 53).into()).ok().or(with_port) {
            Some(server) => servers.push(server),
            None => problems.add(
                format!("{}[{i}]", t.path("servers")),
                text,
                "is not an IP address, with or without a port",
                "write it like \"10.0.0.2\" or \"10.0.0.2:5353\"",
            ),
        }
    }
    t.finish(problems);
    servers
}

fn admin(mut t: Table, problems: &mut Problems) -> (Option<SocketAddr>, Option<String>) {
    let http = t.text("http", problems).and_then(|text| address(t.path("http"), &text, problems));
    let insecure = t.flag("insecure", problems).unwrap_or(false);
    if let Some(a) = http.filter(|a| !a.ip().is_loopback() && !insecure) {
        let why = "is beyond loopback, and tells whoever asks about this cluster";
        problems.add(t.path("http"), a, why, "write insecure = true only if every host that reaches it may know");
    }
    let socket = t.text("socket", problems);
    if let Some(long) = socket.as_ref().filter(|path| path.len() > MAX_SOCKET_PATH) {
        let why = format!("is longer than the {MAX_SOCKET_PATH} bytes that a socket's path may have");
        problems.add(t.path("socket"), long, why, "choose a shorter one, like \"/run/tandem/admin.sock\"");
    }
    t.finish(problems);
    (http, socket)
}

fn secrets(mut t: Table, problems: &mut Problems) -> Option<PathBuf> {
    let file = t.required("file", "name the file that `tandemd secret` made; the same one on every proxy", problems);
    t.finish(problems);
    file.map(PathBuf::from)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::CERTIFICATE_LIFE;

    const GOOD: &str = r#"
        cluster = "chat"
        name = "a"
        data_dir = "/var/lib/tandem"
        [control]
        listen = "127.0.0.1:7440"
        [peers]
        b = { address = "127.0.0.2:7440" }
        a = { address = "127.0.0.1:7440" }
        w = { address = "127.0.0.3:7440", role = "witness" }
        [vip]
        provider = "linux"
        interface = "eth0"
    "#;

    #[test]
    fn a_good_file_is_read_as_meant() {
        let file = NodeFile::parse(GOOD).unwrap();
        assert_eq!(file.peers.iter().map(|p| p.name.as_str()).collect::<Vec<_>>(), ["a", "b", "w"]);
        assert_eq!((file.role, file.join), (Role::Proxy, None));
        assert_eq!(file.vip, Provider::Linux { interface: "eth0".into() });
        assert_eq!(file.timers, Profile::Default);
        assert_eq!(file.zone, None);
        let placed = NodeFile::parse(&format!("zone = \"west-1\"\n{GOOD}")).unwrap();
        assert_eq!(placed.zone, Name::new("west-1"));
    }

    #[test]
    fn a_node_that_joins_says_whom_and_where_it_is_reached() {
        let text = |top: &str, control: &str| {
            format!(
                "cluster = \"chat\"\nname = \"d\"\ndata_dir = \"/var/lib/tandem\"\njoin = [\"10.0.0.1:7440\"]\n{top}\n\
                 [control]\nlisten = \"127.0.0.1:7440\"\n{control}"
            )
        };
        let file = NodeFile::parse(&text("role = \"witness\"", "address = \"10.0.0.4:7440\"")).unwrap();
        let join =
            Join { members: vec![([10, 0, 0, 1], 7440).into()], address: ([10, 0, 0, 4], 7440).into(), learner: false };
        assert_eq!((file.role, file.join, file.peers), (Role::Witness, Some(join), vec![]));
        let learner = NodeFile::parse(&text("learner = true", "address = \"10.0.0.4:7440\"")).unwrap();
        assert!(learner.join.is_some_and(|j| j.learner));
        let anywhere = text("", "").replace("127.0.0.1", "0.0.0.0");
        let unreachable = NodeFile::parse(&anywhere).unwrap_err().to_string();
        assert!(unreachable.contains("control.listen") && unreachable.contains("address = "), "{unreachable}");
        let both = NodeFile::parse(&text("", "[peers]\nd = { address = \"10.0.0.4:7440\" }")).unwrap_err().to_string();
        assert!(both.contains("join") && both.contains("[peers]"), "{both}");
        let founder = NodeFile::parse(&format!("learner = true\n{GOOD}")).unwrap_err().to_string();
        assert!(founder.contains("for a node that joins"), "{founder}");
    }

    #[test]
    fn dns_servers_are_those_of_the_system_unless_some_are_named() {
        assert_eq!(NodeFile::parse(GOOD).unwrap().dns, []);
        let named =
            format!("{GOOD}\n[dns]\nservers = [\"10.0.0.2\", \"10.0.0.3:5353\", \"fd00::2\", \"[fd00::3]:5353\"]");
        let dns: Vec<String> = NodeFile::parse(&named).unwrap().dns.iter().map(ToString::to_string).collect();
        assert_eq!(dns, ["10.0.0.2:53", "10.0.0.3:5353", "[fd00::2]:53", "[fd00::3]:5353"]);
    }

    #[test]
    fn every_mistake_is_reported_at_once_with_path_value_and_mend() {
        let bad = r#"
            cluster = "Chat room"
            name = "z"
            data_dir = 7
            zone = "Zone A"
            colour = "red"
            [control]
            listen = "10.0.0.1"
            timers = "slow"
            [peers]
            a = { address = "10.0.0.1:7440", rank = 1 }
            b = { address = "10.0.0.1:7440", role = "king" }
            [vip]
            provider = "linux"
            [log]
            format = "xml"
            levels = "loud"
            [dns]
            servers = ["10.0.0.2", "ns.internal"]
        "#;
        let problems = NodeFile::parse(bad).unwrap_err().into_vec();
        let paths: Vec<&str> = problems.iter().map(|p| p.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "cluster",
                "data_dir",
                "control.listen",
                "control.timers",
                "peers.a.rank",
                "peers.b.role",
                "peers.b.address",
                "vip.interface",
                "zone",
                "dns.servers[1]",
                "log.format",
                "log.levels",
                "colour",
                "name"
            ]
        );
        assert!(problems.iter().all(|p| !p.why.is_empty() && !p.mend.is_empty()), "{problems:?}");
    }

    #[test]
    fn a_proxy_has_the_secret_and_a_witness_has_not() {
        let with = |name: &str, line: &str| {
            let file = GOOD.replace("name = \"a\"", &format!("name = \"{name}\""));
            let file = if name == "w" { file.split("[vip]").next().unwrap().to_owned() } else { file };
            NodeFile::parse(&format!("{file}\n[secrets]\n{line}"))
        };
        assert_eq!(with("a", "file = \"/etc/tandem/secret\"").unwrap().secrets, Some("/etc/tandem/secret".into()));
        let said = with("a", "").unwrap_err().to_string();
        assert!(said.contains("secrets.file: is missing"), "{said}");
        let said = with("w", "file = \"/etc/tandem/secret\"").unwrap_err().to_string();
        assert!(said.contains("secrets.file: a witness opens no keys"), "{said}");
    }

    #[test]
    fn a_worker_sleeps_unless_told_to_look() {
        assert!(!NodeFile::parse(GOOD).unwrap().busy_poll);
        let with = |line: &str| NodeFile::parse(&format!("{GOOD}\n[proxy]\n{line}"));
        assert!(with("busy_poll = true").unwrap().busy_poll);
        assert!(with("busy_poll = \"yes\"").unwrap_err().to_string().contains("proxy.busy_poll"));
    }

    #[test]
    fn beyond_loopback_a_node_has_certificates() {
        let beyond = GOOD.replace("listen = \"127.0.0.1:7440\"", "listen = \"10.0.0.1:7440\"");
        let said = beyond.replace("[peers]", "insecure = true\n[peers]");
        for text in [&beyond, &said] {
            let problems = NodeFile::parse(text).unwrap_err().to_string();
            assert!(problems.contains("tandemd init on the first, tandemd join on the others"), "{problems}");
        }
        let (head, tail) = beyond.split_once("[peers]").unwrap();
        let tail = tail.split_once("[vip]").unwrap().1;
        let secured = format!("{head}[trust]\nfile = \"/var/lib/tandem/node.pem\"\n[vip]{tail}");
        let file = NodeFile::parse(&secured).unwrap();
        assert_eq!(file.trust.unwrap().life, CERTIFICATE_LIFE);
        assert!(file.peers.is_empty() && file.role == Role::Proxy);
        let both = NodeFile::parse(&secured.replace("[vip]", "[peers]\na = { address = \"10.0.0.1:7440\" }\n[vip]"));
        assert!(both.unwrap_err().to_string().contains("trust: and [peers] are both there"));

        let watched = |admin: &str| NodeFile::parse(&format!("{GOOD}\n[admin]\n{admin}"));
        assert!(watched("http = \"127.0.0.1:7441\"").unwrap().http.is_some());
        let problems = watched("http = \"10.0.0.1:7441\"").unwrap_err();
        assert!(problems.to_string().contains("admin.http"), "{problems}");
        assert!(watched("http = \"10.0.0.1:7441\"\ninsecure = true").unwrap().http.is_some());
    }
}
