//! What can be said of listeners.

use std::time::Duration;

use clap::{ArgGroup, Subcommand};
use tandem_proto::model::{Http2, ProxyProtocol};

use super::tls::ListenerTls;
use super::values::{time, words};

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
    /// No new requests and sessions: clients are answered 503. Its sessions go on, or end within a time.
    #[command(after_help = "Example: tandemctl listener drain public --within 10m")]
    Drain {
        /// One or more, together or not at all.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
        /// End the sessions that are left evenly over this time; each node counts from when it learns of it. Default: never.
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
