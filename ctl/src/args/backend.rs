//! What can be said of the backends of an upstream.

use std::time::Duration;

use clap::{ArgGroup, Subcommand};

use super::values::time;

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
    /// No new sessions; those they have go on, or end within a time.
    #[command(after_help = "Example: tandemctl backend drain chat 10.0.0.11:9000 --within 10m")]
    Drain {
        #[command(flatten)]
        which: Backends,
        /// End the sessions that are left evenly over this time; each node counts from when it learns of it. Default: never.
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
