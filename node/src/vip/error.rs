//! What can go wrong while an address is held; each says who must act.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

/// Everything but [`Error::Unanswered`], [`Error::GuardSilent`] and [`Error::Stopped`] is for the operator to mend.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The interface named in `node.toml` does not exist on this machine (any more).
    #[error("there is no network interface `{name}` on this machine: name one that `ip link` lists, or bring it back")]
    NoInterface {
        /// As configured.
        name: String,
    },
    /// Neighbours learn an address by ARP, which needs an Ethernet address to point to.
    #[error(
        "the interface `{name}` has no Ethernet address to announce from: name one that has (`ip link` shows `link/ether`)"
    )]
    NoEthernet {
        /// As configured.
        name: String,
    },
    /// The kernel does not let this process do it.
    #[error(
        "this process may not {what}: it needs CAP_NET_ADMIN and CAP_NET_RAW. Run it as root, or give it both \
         (systemd: AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW; docker: --cap-add NET_ADMIN --cap-add NET_RAW)"
    )]
    NoRight {
        /// What was tried.
        what: &'static str,
    },
    /// The kernel refused for another reason.
    #[error("the kernel refused to {what}: {source}. See `ip address` and the kernel log of this machine")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// The kernel has not answered in time; it may still have done it.
    #[error("the kernel did not answer within {after:?} when asked to {what}")]
    Unanswered {
        /// What was tried.
        what: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// The guard does not answer; it is replaced if it stays so.
    #[error(
        "the guard of the virtual addresses (this program again, as `tandemd guard`) did not answer within {after:?}; what it \
         had to say is on stderr"
    )]
    GuardSilent {
        /// How long was waited.
        after: Duration,
    },
    /// No guard answers, and nothing is held without one.
    #[error(
        "no guard of the virtual addresses has answered for {after:?}, and nothing is held without one: this machine is out \
         of CPU or memory, or something stops its processes"
    )]
    Unguarded {
        /// For how long.
        after: Duration,
    },
    /// The guard process cannot be started.
    #[error(
        "cannot start the guard of the virtual addresses (this program again, as `tandemd guard`): {0}. Raise the limits on \
         processes and memory; it needs /proc"
    )]
    NoGuard(#[source] io::Error),
    /// An address could not be taken off the interface: nobody else may claim it now.
    #[error(
        "could not take {addresses:?} off the interface within {after:?}: do not move them. The kernel drops them by \
         itself about 2 s after the last renewal; `ip address` shows whether it has"
    )]
    NotRemoved {
        /// What may still be there.
        addresses: BTreeSet<IpAddr>,
        /// How long was waited.
        after: Duration,
    },
    /// The keeper's thread has ended.
    #[error("the keeper of the virtual addresses has stopped")]
    Stopped,
    /// The thread could not be started.
    #[error("cannot start the keeper of the virtual addresses: {0}. Raise the limits on threads and open files")]
    Thread(#[source] io::Error),
}

impl Error {
    /// Whether the request may have been done nevertheless, or may be done if asked again.
    pub(super) fn in_doubt(&self) -> bool {
        matches!(self, Self::Unanswered { .. } | Self::GuardSilent { .. })
    }
}
