//! What can be said of upstreams.

use std::time::Duration;

use clap::{ArgGroup, Subcommand};
use tandem_proto::model::{Balance, CheckKind, CheckMethod, HashOn, SendProxy};

use super::tls::UpstreamTls;
use super::values::{hash_on, seconds, time, time_or_off, weighted, words};

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
