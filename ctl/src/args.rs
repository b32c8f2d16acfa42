//! What can be said to tandemctl, word for word.

mod route;
mod tls;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Parser, Subcommand};
use tandem_proto::model::{Balance, CheckKind, CheckMethod, HashOn, Http2, ProxyProtocol, SendProxy};

use values::{hash_on, node, seconds, time, time_or_off, weighted, words};

pub(crate) use tls::{Certificate, Files, ListenerTls, UpstreamTls};

pub(crate) use route::{Part, Request as RouteRequest, Route, What as RouteWhat};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "tandemctl",
    version,
    about = "Looks at a Tandem cluster, and changes it.",
    after_help = "Any node will do: the leader is found from there.\n\
        Exit code: 0 done, 1 refused (nothing was changed), 2 no answer within --timeout.\n\n\
        Example: tandemctl --node 10.0.0.1:7440,10.0.0.2:7440 status"
)]
pub(crate) struct Args {
    #[command(flatten)]
    pub(crate) common: Common,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Valid before and after every command.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Options of every command")]
pub(crate) struct Common {
    /// Nodes to ask, in this order; repeat it or separate with commas.
    #[arg(
        long = "node",
        global = true,
        value_name = "HOST:PORT",
        env = "TANDEM_NODES",
        hide_env_values = true,
        value_delimiter = ',',
        default_value = "127.0.0.1:7440",
        value_parser = node
    )]
    pub(crate) nodes: Vec<String>,
    /// One JSON document on stdout, refusals too.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// How long to look for a node that can answer.
    #[arg(long, global = true, value_name = "TIME", default_value = "5s", value_parser = time)]
    pub(crate) timeout: Duration,
    /// Change nothing unless the config is at this revision.
    #[arg(long, global = true, value_name = "N")]
    pub(crate) expect_revision: Option<u64>,
    /// Name of this change: sent twice, it applies once. Default: random.
    #[arg(long, global = true, value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub(crate) request_id: Option<String>,
    /// Who asks, for the record. Default: user@host.
    #[arg(long, global = true, value_name = "WHO")]
    pub(crate) actor: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// How the cluster is, and what the next failure would do.
    #[command(after_help = "Example: tandemctl status --watch")]
    Status {
        /// Look again every second.
        #[arg(long)]
        watch: bool,
    },
    /// Named groups of backends.
    #[command(subcommand)]
    Upstream(Upstream),
    /// The servers of an upstream.
    #[command(subcommand)]
    Backend(Backend),
    /// Which requests go where, and what changes on the way.
    #[command(subcommand)]
    Route(Route),
    /// Addresses and ports that clients connect to.
    #[command(subcommand)]
    Listener(Listener),
    /// Certificates that listeners and upstreams show in TLS.
    #[command(subcommand, visible_alias = "cert")]
    Certificate(Certificate),
    /// Addresses that one node at a time holds.
    #[command(subcommand)]
    Vip(Vip),
    /// Limits and timers that hold for all clients, at each node by itself.
    #[command(subcommand)]
    Settings(Settings),
    /// The whole config as one document.
    #[command(subcommand)]
    Config(Config),
    /// Proxies, taken out of service and back.
    #[command(subcommand)]
    Node(Node),
    /// What nodes log.
    #[command(subcommand)]
    Log(Log),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Node {
    /// Take a proxy out of service, as before its end: it gives addresses and leadership away, is not ready (/readyz),
    /// answers new clients 503, and keeps its sessions, for a while or until they end. Holds until it is resumed or
    /// ends; ending it (SIGTERM) does the same by itself, within [proxy] grace of node.toml.
    #[command(after_help = "Example: tandemctl node drain b --within 10m")]
    Drain {
        /// Its name.
        name: String,
        /// End the sessions that are left after this time. Default: never.
        #[arg(long, value_name = "TIME", value_parser = time)]
        within: Option<Duration>,
    },
    /// Take it back into service.
    #[command(after_help = "Example: tandemctl node resume b")]
    Resume {
        /// Its name.
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Log {
    /// The levels of every node.
    Show,
    /// Change them until the node ends; [log] in node.toml holds after that.
    #[command(after_help = "Example, a line for each plain request too: tandemctl log set info,access=debug")]
    Set {
        /// A level (error, warn, info, debug, trace, off) or target=level, separated by commas.
        levels: String,
        /// On this node only.
        #[arg(long, value_name = "NAME")]
        on: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Upstream {
    /// Add an upstream, with or without backends.
    #[command(after_help = "Example: tandemctl upstream add chat --balance least_sessions --backend 10.0.0.11:9000*50")]
    Add {
        name: String,
        #[command(flatten)]
        how: Box<How>,
        /// A backend, with its weight if it is not 100; repeat it for more.
        #[arg(long = "backend", value_name = "ADDR[*WEIGHT]", value_parser = weighted)]
        backends: Vec<Weighted>,
    },
    /// Change how sessions are shared out or backends are checked; what is not named stays.
    #[command(
        group(ArgGroup::new("any").args(["balance", "hash_on", "hash_bound", "sticky", "no_sticky", "sticky_ttl", "sticky_secure", "slow_start", "zone_min_share", "check", "check_interval", "check_timeout", "check_rise", "check_fall", "check_jitter", "check_port", "check_method", "check_path", "check_host", "check_status", "check_body", "check_subprotocol", "check_echo", "eject_after", "eject_base", "eject_max", "eject_share", "send_proxy", "tls", "tls_ca", "tls_server_name", "tls_insecure", "tls_cert", "tls_min", "no_tls", "max_sessions", "dial_timeout", "upgrade_timeout", "response_timeout", "idle_timeout", "retries", "source_addresses"]).multiple(true).required(true)),
        after_help = "Example: tandemctl upstream set chat --balance least_sessions --check http --check-path /healthz --check-status 200-299"
    )]
    Set {
        name: String,
        #[command(flatten)]
        how: Box<How>,
    },
    /// Remove upstreams that no route uses.
    #[command(after_help = "Example: tandemctl upstream rm chat")]
    Rm {
        /// One or more, removed together or not at all.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// List them.
    Ls,
}

/// How an upstream treats its backends.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct How {
    /// Who gets the next session.
    #[arg(long, value_parser = words(Balance::WORDS))]
    pub(crate) balance: Option<Balance>,
    #[command(flatten)]
    pub(crate) sharing: Sharing,
    /// How a backend is found healthy.
    #[arg(long, value_parser = words(CheckKind::WORDS))]
    pub(crate) check: Option<CheckKind>,
    /// From one check to the next.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) check_interval: Option<Duration>,
    /// A check that takes longer has failed.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) check_timeout: Option<Duration>,
    /// Successes in a row that bring a backend up.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) check_rise: Option<u32>,
    /// Failures in a row that take it down.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) check_fall: Option<u32>,
    /// Percent of the interval by which each pause is shorter or longer, by chance.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=50))]
    pub(crate) check_jitter: Option<u32>,
    /// Check this port instead of the backend's own; 0: its own again.
    #[arg(long, value_name = "PORT")]
    pub(crate) check_port: Option<u16>,
    /// http: how to ask.
    #[arg(long, value_name = "METHOD", value_parser = words(CheckMethod::WORDS))]
    pub(crate) check_method: Option<CheckMethod>,
    /// http, websocket: path to ask for.
    #[arg(long, value_name = "PATH")]
    pub(crate) check_path: Option<String>,
    /// http, websocket: the Host header; "": the backend's name or address.
    #[arg(long, value_name = "HOST")]
    pub(crate) check_host: Option<String>,
    /// http: the good statuses, like 204 or 200-299,404.
    #[arg(long, value_name = "STATUSES", value_delimiter = ',')]
    pub(crate) check_status: Vec<String>,
    /// http: text that the first 64 KiB of the body must have; "": none.
    #[arg(long, value_name = "TEXT")]
    pub(crate) check_body: Option<String>,
    /// websocket: subprotocol that must be agreed to; "": none.
    #[arg(long, value_name = "NAME")]
    pub(crate) check_subprotocol: Option<String>,
    /// websocket: text message that must come back; "": none is sent.
    #[arg(long, value_name = "TEXT")]
    pub(crate) check_echo: Option<String>,
    /// Take a backend out after this many failed connections and handshakes of clients in a row; 0: never.
    #[arg(long, value_name = "N")]
    pub(crate) eject_after: Option<u32>,
    /// How long it is out the first time; each further time is twice as long.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) eject_base: Option<Duration>,
    /// How long it is out at most.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) eject_max: Option<Duration>,
    /// Percent of the backends that may be out at once; one always may, and never the last.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) eject_share: Option<u32>,
    #[command(flatten)]
    pub(crate) tls: UpstreamTls,
    #[command(flatten)]
    pub(crate) bounds: Bounds,
}

/// What an upstream is held to. A change holds for sessions and requests that come after it.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Bounds {
    /// Begin connections to backends, checks too, with a PROXY header that names the client; such connections are not shared.
    #[arg(long, value_parser = words(SendProxy::WORDS))]
    pub(crate) send_proxy: Option<SendProxy>,
    /// The most sessions to all of its backends together, at each node. 0: no limit.
    #[arg(long, value_name = "N")]
    pub(crate) max_sessions: Option<u32>,
    /// For a connection to a backend. Default: 1s.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) dial_timeout: Option<Duration>,
    /// For a backend's answer to a WebSocket handshake. Default: 10s.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) upgrade_timeout: Option<Duration>,
    /// For a backend's answer to a plain request. Default: 1m.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) response_timeout: Option<Duration>,
    /// End a session without a byte either way for this long. Default: 1h.
    #[arg(long, value_name = "TIME|off", value_parser = time_or_off)]
    pub(crate) idle_timeout: Option<Duration>,
    /// Other backends to try after the first. Default: 2.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=16))]
    pub(crate) retries: Option<u32>,
    /// Local addresses to connect from, in turn; name those of every node, a node uses its own. Repeat it or separate with
    /// commas; "" for none. One address has about 28 000 ports for each backend.
    #[arg(long = "source-address", value_name = "IP", value_delimiter = ',')]
    pub(crate) source_addresses: Vec<String>,
}

/// What goes with a balance.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Sharing {
    /// hash: what it looks at: client_ip, header:NAME, cookie:NAME, query:NAME or path.
    #[arg(long, value_name = "WHAT", value_parser = hash_on)]
    pub(crate) hash_on: Option<HashOn>,
    /// hash: the most a backend may have, in percent of its fair share. Default: 125; 1000000 never moves a key.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(101..=1_000_000))]
    pub(crate) hash_bound: Option<u32>,
    /// Clients stick to their backend by a cookie of this name.
    #[arg(long, value_name = "COOKIE")]
    pub(crate) sticky: Option<String>,
    /// Clients stick no more.
    #[arg(long, conflicts_with_all = ["sticky", "sticky_ttl", "sticky_secure"])]
    pub(crate) no_sticky: bool,
    /// How long browsers keep the cookie; 0s: until they are closed.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub(crate) sticky_ttl: Option<u32>,
    /// Whether browsers send the cookie over TLS only.
    #[arg(long, value_name = "BOOL")]
    pub(crate) sticky_secure: Option<bool>,
    /// How long a backend that came up takes to rise to its full share; 0s: none.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(crate) slow_start: Option<Duration>,
    /// Percent of a zone's weight that must be up for a proxy there to prefer it. Default: 50.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) zone_min_share: Option<u32>,
}

/// A backend as `--backend` names it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Weighted {
    pub(crate) address: String,
    pub(crate) weight: Option<u32>,
}

/// Backends of one upstream.
#[derive(Debug, clap::Args)]
pub(crate) struct Backends {
    /// Their upstream.
    pub(crate) upstream: String,
    /// "ip:port", "name:port" (every address of that name), or "srv:name" (what its SRV records tell).
    #[arg(required = true, value_name = "ADDR")]
    pub(crate) addresses: Vec<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Backend {
    /// Add backends; the next session may go there.
    #[command(after_help = "Example: tandemctl backend add chat 10.0.0.11:9000 --weight 50")]
    Add {
        #[command(flatten)]
        which: Backends,
        /// Share of new sessions relative to the others, 1 to 1000. Default: 100.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
        weight: Option<u32>,
        /// Where they stand: proxies with the same `zone` in node.toml prefer them.
        #[arg(long, value_name = "NAME")]
        zone: Option<String>,
        /// New sessions only while no other backend can take them.
        #[arg(long)]
        backup: bool,
        /// The most sessions to each of them, at each node. 0: no limit.
        #[arg(long, value_name = "N")]
        max_sessions: Option<u32>,
    },
    /// Remove backends: no new sessions; those they have go on.
    #[command(after_help = "Example: tandemctl backend rm chat 10.0.0.11:9000")]
    Rm(Backends),
    /// Change their weight, limit, zone, or whether they are backups; what is not named stays.
    #[command(
        group(ArgGroup::new("any").args(["weight", "zone", "backup", "max_sessions"]).multiple(true).required(true)),
        after_help = "Example: tandemctl backend set chat 10.0.0.11:9000 --weight 10"
    )]
    Set {
        #[command(flatten)]
        which: Backends,
        /// Share of new sessions relative to the others, 1 to 1000.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
        weight: Option<u32>,
        /// Where they stand; "": nowhere.
        #[arg(long, value_name = "NAME")]
        zone: Option<String>,
        /// Whether they get new sessions only while no other backend can take them.
        #[arg(long, value_name = "BOOL")]
        backup: Option<bool>,
        /// The most sessions to each of them, at each node. 0: no limit.
        #[arg(long, value_name = "N")]
        max_sessions: Option<u32>,
    },
    /// No new sessions; those they have go on, or are ended after a while.
    #[command(after_help = "Example: tandemctl backend drain chat 10.0.0.11:9000 --within 10m")]
    Drain {
        #[command(flatten)]
        which: Backends,
        /// End the sessions that are left after this time; each node counts from when it learns of it. Default: never.
        /// Said again with another time, that one begins anew.
        #[arg(long, value_name = "TIME", value_parser = time)]
        within: Option<Duration>,
    },
    /// New sessions again.
    #[command(after_help = "Example: tandemctl backend resume chat 10.0.0.11:9000")]
    Resume(Backends),
    /// List them, with health and sessions.
    Ls {
        /// Of this upstream only.
        upstream: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Listener {
    /// Listen on an address and port, on every proxy; it may be a virtual IP.
    #[command(after_help = "Example: tandemctl listener add public 10.0.0.100:80")]
    Add {
        name: String,
        #[arg(value_name = "ADDR")]
        address: String,
        /// HTTP/2, WebSocket over it included. Default: on with TLS, off without, where clients cannot ask for it.
        #[arg(long, value_parser = words(Http2::WORDS))]
        http2: Option<Http2>,
        #[command(flatten)]
        tls: ListenerTls,
        #[command(flatten)]
        door: Door,
    },
    /// Change what is named; the rest stays, and so do sessions.
    #[command(
        group(ArgGroup::new("any").args(["address", "http2", "tls_cert", "tls_min", "client_auth", "client_ca", "no_tls", "proxy_protocol", "proxy_from", "max_sessions"]).multiple(true).required(true)),
        after_help = "Example: tandemctl listener set public --tls-cert web --tls-min 1.3"
    )]
    Set {
        name: String,
        /// Listen there instead.
        #[arg(long, value_name = "ADDR")]
        address: Option<String>,
        /// HTTP/2, WebSocket over it included.
        #[arg(long, value_parser = words(Http2::WORDS))]
        http2: Option<Http2>,
        #[command(flatten)]
        tls: ListenerTls,
        /// Clients speak plainly again.
        #[arg(long, conflicts_with_all = ["tls_cert", "tls_min", "client_auth", "client_ca"])]
        no_tls: bool,
        #[command(flatten)]
        door: Door,
    },
    /// Stop listening; sessions go on.
    #[command(after_help = "Example: tandemctl listener rm public")]
    Rm {
        /// One or more, removed together or not at all.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// No new requests and sessions: clients are answered 503. Its sessions go on, or are ended after a while.
    #[command(after_help = "Example: tandemctl listener drain public --within 10m")]
    Drain {
        /// One or more, together or not at all.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// End the sessions that are left after this time; each node counts from when it learns of it. Default: never.
        /// Said again with another time, that one begins anew.
        #[arg(long, value_name = "TIME", value_parser = time)]
        within: Option<Duration>,
    },
    /// New requests and sessions again.
    #[command(after_help = "Example: tandemctl listener resume public")]
    Resume {
        /// One or more, together or not at all.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// List them, with what each node says.
    Ls,
}

/// Who may come in at a listener, and as whom.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Door {
    /// Whether connections begin with a PROXY header (v1 or v2) that says who the client is.
    #[arg(long, value_parser = words(ProxyProtocol::WORDS))]
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    /// Networks whose PROXY headers are believed; repeat it or separate with commas. With `required` none means everyone:
    /// then whoever can connect can claim to be anyone.
    #[arg(long, value_name = "NET", value_delimiter = ',')]
    pub(crate) proxy_from: Vec<String>,
    /// The most sessions of its clients, at each node. 0: no limit.
    #[arg(long, value_name = "N")]
    pub(crate) max_sessions: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Settings {
    /// Print all of them, the defaults too.
    #[command(after_help = "Example: tandemctl settings show")]
    Show,
    /// Change some; what is not named stays. Each holds for connections that come after it.
    #[command(after_help = "Example: tandemctl settings set --upgrades-per-second 2000 --sessions-per-client-ip 50")]
    Set(Set),
}

/// What `settings set` changes.
#[derive(Debug, Default, clap::Args)]
#[group(id = "setting", required = true, multiple = true)]
pub(crate) struct Set {
    /// The most sessions of one client address (IPv6: one /64). 0: no limit, here and in the next four.
    #[arg(long, value_name = "N")]
    pub(crate) sessions_per_client_ip: Option<u32>,
    /// Handshakes one client address (IPv6: one /64) may ask for in a second.
    #[arg(long, value_name = "N")]
    pub(crate) upgrades_per_second_per_ip: Option<u32>,
    /// Handshakes all clients together may ask for in a second; after a failover it paces those who come back.
    #[arg(long, value_name = "N")]
    pub(crate) upgrades_per_second: Option<u32>,
    /// Handshakes that may come at once after a quiet time. 0: one second's worth.
    #[arg(long, value_name = "N")]
    pub(crate) upgrade_burst: Option<u32>,
    /// The most sessions of a node.
    #[arg(long, value_name = "N")]
    pub(crate) max_sessions: Option<u32>,
    /// A request's head must be complete within. Default: 10s.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) head_timeout: Option<Duration>,
    /// The most bytes of a request's head. Default: 32768.
    #[arg(long, value_name = "N")]
    pub(crate) head_max_bytes: Option<u32>,
    /// From one piece of a request's body to the next. Default: 1m.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) body_timeout: Option<Duration>,
    /// How long a client's connection may wait for its next request. Default: 75s.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) keep_alive: Option<Duration>,
    /// How long a session that one side has closed may be silent. Default: 1m.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) close_timeout: Option<Duration>,
    /// Give a connection up whose receiver takes nothing for this long (TCP_USER_TIMEOUT). Default: 1m.
    #[arg(long, value_name = "TIME|off", value_parser = time_or_off)]
    pub(crate) tcp_user_timeout: Option<Duration>,
    /// Ask a silent connection whether its other end is there (SO_KEEPALIVE). Default: 2m.
    #[arg(long, value_name = "TIME|off", value_parser = time_or_off)]
    pub(crate) tcp_keepalive: Option<Duration>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Vip {
    /// Add an address for one proxy at a time to hold.
    #[command(after_help = "Example: tandemctl vip add main 10.0.0.100")]
    Add {
        name: String,
        #[arg(value_name = "ADDR")]
        address: String,
    },
    /// Give an address up: no node holds it any more.
    #[command(after_help = "Example: tandemctl vip rm main")]
    Rm {
        /// One or more, removed together or not at all.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// List them, with their holders.
    Ls,
    /// Hand the address over, as planned.
    #[command(after_help = "Example: tandemctl vip move --to b")]
    Move {
        /// Default: all of them.
        name: Option<String>,
        /// Name of the node that shall hold it. Default: the best other proxy.
        #[arg(long, value_name = "NODE")]
        to: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Print it as TOML, or with --json as JSON.
    #[command(after_help = "Example: tandemctl config show > tandem.toml")]
    Show,
    /// Make the cluster's config what this file says; what it leaves out is removed.
    #[command(after_help = "Example: tandemctl config apply tandem.toml --expect-revision 12")]
    Apply {
        /// A TOML document as `config show` prints it; - for stdin.
        file: PathBuf,
    },
}

impl Args {
    /// Reads a command line, the program's name first.
    pub(crate) fn read(line: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(line)
    }
}

/// One word out of those the model knows.
#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use super::*;
    use clap::CommandFactory;

    fn read(line: &str) -> Result<Args, clap::Error> {
        Args::read(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_grammar_holds_together() {
        Args::command().debug_assert();
    }

    #[test]
    fn globals_stand_before_or_after_the_command() {
        for line in [
            "tandemctl --node a:1,b:2 --json --timeout 2s backend add chat 1.2.3.4:5",
            "tandemctl backend add chat 1.2.3.4:5 --node a:1 --node b:2 --json --timeout 2s",
        ] {
            let args = read(line).unwrap();
            assert_eq!(args.common.nodes, ["a:1", "b:2"]);
            assert!(args.common.json);
            assert_eq!(args.common.timeout, Duration::from_secs(2));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_before_anything_is_sent() {
        for line in [
            "tandemctl",
            "tandemctl nonsense",
            "tandemctl status --node localhost",
            "tandemctl status --node :7440",
            "tandemctl status --node a:b",
            "tandemctl status --timeout 0s",
            "tandemctl upstream set chat",
            "tandemctl upstream add chat --balance fastest",
            "tandemctl upstream set chat --hash-on referer",
            "tandemctl upstream set chat --hash-bound 100",
            "tandemctl upstream set chat --no-sticky --sticky sid",
            "tandemctl upstream add chat --backend 1.2.3.4:5*0",
            "tandemctl backend add chat",
            "tandemctl backend add chat 1.2.3.4:5 --weight 1001",
            "tandemctl backend set chat 1.2.3.4:5",
            "tandemctl backend drain chat 1.2.3.4:5 --within soon",
            "tandemctl backend drain chat 1.2.3.4:5 --within 0s",
            "tandemctl settings set",
            "tandemctl settings set --keep-alive off",
            "tandemctl upstream set chat --retries 17",
            "tandemctl upstream set chat --idle-timeout never",
            "tandemctl listener add x 1.2.3.4:5 --proxy-protocol maybe",
            "tandemctl listener set x",
            "tandemctl listener set x --no-tls --tls-cert web",
            "tandemctl listener set x --tls-min 1.1",
            "tandemctl upstream set chat --no-tls --tls",
            "tandemctl certificate add web --chain /nowhere/chain.pem --key /nowhere/key.pem",
        ] {
            assert!(read(line).is_err(), "{line} was taken");
        }
    }

    #[test]
    fn a_backend_may_carry_its_weight() {
        let args = read("tandemctl upstream add chat --backend 1.2.3.4:5*7 --backend [::1]:9").unwrap();
        let Command::Upstream(Upstream::Add { backends, .. }) = args.command else { panic!("another command") };
        assert_eq!(
            backends,
            [
                Weighted { address: "1.2.3.4:5".into(), weight: Some(7) },
                Weighted { address: "[::1]:9".into(), weight: None }
            ]
        );
    }
}
