//! What can be said of nodes.

use std::time::Duration;

use clap::Subcommand;

use super::values::{node, time, words};
use tandem_proto::raft::v1::Role;

const ROLES: &[(&str, Role)] = &[("proxy", Role::Proxy), ("witness", Role::Witness)];

#[derive(Debug, Subcommand)]
pub(crate) enum Node {
    /// List the members, with their numbers and votes.
    Ls,
    /// Take in a node that waits with an empty disk. It becomes a voter once it has caught up.
    #[command(
        after_help = "Where there are certificates a machine joins with a token: tandemctl token create, then tandemd join.\n\
        Where there are none, one with join = [\"HOST:PORT\"] in its node.toml asks to be let in by itself.\n\
        Example: tandemctl node add c --address 10.0.0.4:7440"
    )]
    Add {
        /// Its name, as in its node.toml.
        name: String,
        /// Its node port.
        #[arg(long, value_name = "HOST:PORT", value_parser = node)]
        address: String,
        /// What it does. Default: proxy.
        #[arg(long, value_parser = words(ROLES))]
        role: Option<Role>,
        /// It never votes: a data plane and a copy of the config.
        #[arg(long)]
        learner: bool,
    },
    /// Put a new node in the place of a dead one: the new one catches up, then the old one is out for good.
    #[command(
        after_help = "Where there are certificates it joins under the same name: tandemctl token create, then tandemd join.\n\
        Where there are none, start the new machine first: tandemd with an empty data_dir and the same name and cluster.\n\
        Example, its disk was lost: tandemctl node replace b\n\
        Example, another machine:   tandemctl node replace b --address 10.0.0.9:7440"
    )]
    Replace {
        /// Name of the dead one, and of the new one.
        name: String,
        /// Node port of the new one. Default: as it was.
        #[arg(long, value_name = "HOST:PORT", value_parser = node)]
        address: Option<String>,
    },
    /// Remove a member for good: it is refused at once and serves no new clients. Refused if the rest had no quorum.
    #[command(visible_alias = "remove", after_help = "Example: tandemctl node rm c")]
    Rm {
        /// Its name.
        name: String,
    },
    /// Make a learner a voter.
    #[command(after_help = "Example: tandemctl node promote c")]
    Promote {
        /// Its name.
        name: String,
    },
    /// Make a voter a learner: it has the config and relays, and does not count. Refused if the rest had no quorum.
    #[command(after_help = "Example: tandemctl node demote c")]
    Demote {
        /// Its name.
        name: String,
    },
    /// Take a proxy out of service, as before its end: it gives addresses and leadership away, is not ready (/readyz),
    /// answers new clients 503, and keeps its sessions, for a while or until they end. Holds until it is resumed or
    /// ends; ending it (SIGTERM) does the same by itself, within [proxy] grace of node.toml.
    #[command(after_help = "Example: tandemctl node drain b --within 10m")]
    Drain {
        /// Its name.
        name: String,
        /// End the sessions that are left evenly over this time. Default: never.
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
