//! What can be said to tandemctl, word for word.

mod backend;
mod config;
mod listener;
mod node;
mod route;
mod tls;
mod upstream;
mod values;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Parser, Subcommand};

use values::{node, time, time_or_off};

pub(crate) use backend::{Backend, Backends};
pub(crate) use config::Config;
pub(crate) use listener::{Door, Listener};
pub(crate) use node::Node;
pub(crate) use tls::{Certificate, Files, ListenerTls, UpstreamTls};
pub(crate) use upstream::{Bounds, How, Sharing, Upstream, Weighted};

pub(crate) use route::{Frames as RouteFrames, Part, Request as RouteRequest, Route, What as RouteWhat};

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
    /// Nodes to ask, in this order, or unix:PATH for one here; repeat it or separate with commas. Default: those the
    /// certificate names, or 127.0.0.1:7440.
    #[arg(
        long = "node",
        global = true,
        value_name = "HOST:PORT",
        env = "TANDEM_NODES",
        hide_env_values = true,
        value_delimiter = ',',
        value_parser = node
    )]
    pub(crate) nodes: Vec<String>,
    /// The certificate to show, with its key and the cluster's authority; "" for none. Default: this machine's, if it is a
    /// proxy: /var/lib/tandem/admin.pem, or else /etc/tandem/admin.pem. It says where the nodes are, if --node does not.
    #[arg(long, global = true, value_name = "FILE", env = "TANDEM_BUNDLE", hide_env_values = true, value_parser = file_or_none())]
    pub(crate) bundle: Option<PathBuf>,
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
    /// Who asks, for the record, where no certificate says it. Default: user@host.
    #[arg(long, global = true, value_name = "WHO")]
    pub(crate) actor: Option<String>,
    /// Why, for the record; see: config history.
    #[arg(long, global = true, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Of a change of the config: say what it would do and which sessions it would end, and do nothing.
    #[arg(long, global = true)]
    pub(crate) dry_run: bool,
}

/// One line of a transaction.
#[derive(Debug, Parser)]
#[command(name = "", no_binary_name = true, disable_help_flag = true)]
pub(crate) struct Line {
    #[command(subcommand)]
    pub(crate) command: Command,
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
    /// Many changes as one: all are made, in one revision, or none.
    #[command(
        after_help = "Each line is a change as tandemctl takes it, without the options of every command; # begins a comment.\n\n\
        Example: tandemctl transaction - <<END\n  \
        backend add chat 10.0.0.12:9000\n  \
        backend drain chat 10.0.0.11:9000 --within 10m\n\
        END"
    )]
    Transaction {
        /// The file of lines; - for stdin.
        file: PathBuf,
    },
    /// Write all of the config and its history to a file, for `restore`.
    #[command(
        after_help = "Beside it, keep each node.toml and the file of [secrets]: the keys in a backup are sealed with it.\n\n\
        Example: tandemctl backup tandem-$(date +%F).backup"
    )]
    Backup {
        /// Must not be there yet.
        file: PathBuf,
    },
    /// Make this cluster's config and history those of a backup.
    #[command(after_help = "On a cluster that has a config already, --expect-revision must name its revision.\n\n\
        Example: tandemctl restore tandem-2026-11-24.backup")]
    Restore {
        /// What `backup` wrote.
        file: PathBuf,
    },
    /// Members of the cluster: who there is, who comes and goes, who votes, who is out of service.
    #[command(subcommand)]
    Node(Node),
    /// What nodes log.
    #[command(subcommand)]
    Log(Log),
    /// What lets a machine join the cluster, once.
    #[command(subcommand)]
    Token(Token),
    /// Who signs the certificates of nodes and users.
    #[command(subcommand)]
    Ca(Ca),
}

#[derive(Debug, Subcommand)]
pub(crate) enum Token {
    /// Make one, and print the line that uses it. While it lives, proxies listen on the port two above their node port.
    #[command(after_help = "Example: tandemctl token create --role witness --ttl 10m")]
    Create {
        /// What the machine becomes.
        #[arg(long, value_enum)]
        role: TokenRole,
        /// How long it can be used; a week at most.
        #[arg(long, value_name = "TIME", default_value = "1h", value_parser = time)]
        ttl: Duration,
    },
    /// List them.
    Ls,
    /// Make it useless.
    #[command(after_help = "Example: tandemctl token rm 3f9a01bc")]
    Rm {
        /// As `token ls` shows it: the third part of a token.
        id: String,
    },
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum TokenRole {
    /// Relays, and may hold the address.
    Proxy,
    /// Votes.
    Witness,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Ca {
    /// List the authorities that are believed, and whose certificates each has signed.
    Ls,
    /// Begin with a new one: it is believed at once, signs when every node believes it, and nodes renew their certificates
    /// by themselves. The old one is believed until it is retired.
    #[command(after_help = "Then, when `tandemctl ca ls` shows every node at the new one: tandemctl ca retire")]
    Rotate,
    /// Believe the old one no longer. Certificates it has given to users are worth nothing then.
    Retire,
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

impl Args {
    /// Reads a command line, the program's name first.
    pub(crate) fn read(line: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(line)
    }
}

/// clap refuses an empty path by itself; here it says that there is none.
fn file_or_none() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

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
            "tandemctl status --node unix:admin.sock",
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
            "tandemctl node add c",
            "tandemctl node add c --address 10.0.0.4",
            "tandemctl node add c --address 10.0.0.4:7440 --role arbiter",
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
