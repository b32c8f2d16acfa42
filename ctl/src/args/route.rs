//! What can be said of routes.

use std::time::Duration;

use clap::{ArgGroup, Subcommand};
use tandem_proto::model::{OverRate, PingTo, WebSocketUse};

use super::values::{time, time_or_off, words};

#[derive(Debug, Subcommand)]
pub(crate) enum Route {
    /// Say what becomes of some requests: an upstream gets them, or they are redirected or answered here.
    #[command(
        group(ArgGroup::new("goal").args(["upstream", "redirect", "respond"]).required(true)),
        after_help = "Of the routes that fit a request one takes it: an exact host before the longest wildcard before any; then an exact \
            path before the longest prefix before a pattern; then the one with more other matchers; then the first by name.\n\
            Patterns are regexes that must fit the whole. Values of header fields may use {client_ip}, {host}, {path}, {query}, \
            {listener} and {route}.\n\n\
            Example: tandemctl route add chat --host '*.example.org' --path /ws --websocket only --origin https://example.org --upstream chat\n\
            Example: tandemctl route add secure --listener plain --redirect 'https://{host}{path}{query}'"
    )]
    Add {
        name: String,
        #[command(flatten)]
        what: Box<What>,
    },
    /// Change a route; what is not named stays. A list that is named is replaced as a whole.
    #[command(
        group(ArgGroup::new("goal").args(["upstream", "redirect", "respond"])),
        after_help = "Example: tandemctl route set chat --origin https://example.org --origin 'https://*.example.org'\n\
            Example: tandemctl route set chat --clear headers --clear rewrite"
    )]
    Set {
        name: String,
        #[command(flatten)]
        what: Box<What>,
        /// Back to what a new route has; repeat it for more.
        #[arg(long, value_name = "WHAT", value_parser = words(Part::WORDS))]
        clear: Vec<Part>,
    },
    /// Remove routes; sessions go on.
    #[command(after_help = "Example: tandemctl route rm chat")]
    Rm {
        /// One or more, removed together or not at all.
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
    /// List them.
    #[command(visible_alias = "list")]
    Ls,
    /// Which route would take a request, and why the others would not. Nothing is sent there.
    #[command(after_help = "Example: tandemctl route test wss://chat.example.org/ws -H 'Origin: https://example.org'")]
    Test(Request),
}

/// A request to be thought through.
#[derive(Debug, clap::Args)]
pub(crate) struct Request {
    /// http, https, or for a WebSocket ws or wss.
    pub(crate) url: String,
    /// Listener it comes to. Default: the only one there is.
    #[arg(long, value_name = "NAME")]
    pub(crate) listener: Option<String>,
    /// A header field; repeat it for more.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
    #[arg(long, value_name = "METHOD", default_value = "GET")]
    pub(crate) method: String,
}

/// Which requests a route takes, and what it does with them.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct What {
    /// Take them to this upstream.
    #[arg(long, value_name = "NAME")]
    pub(crate) upstream: Option<String>,
    /// Send clients to this URL or path; {host}, {path} and {query} are the request's.
    #[arg(long, value_name = "URL")]
    pub(crate) redirect: Option<String>,
    /// 301, 302, 303, 307 or 308. Default: 308.
    #[arg(long, value_name = "STATUS")]
    pub(crate) redirect_status: Option<u32>,
    /// Answer with this status, 200 to 599.
    #[arg(long, value_name = "STATUS")]
    pub(crate) respond: Option<u32>,
    /// At most 16 KiB.
    #[arg(long, value_name = "TEXT")]
    pub(crate) respond_body: Option<String>,
    /// Default: text/plain; charset=utf-8.
    #[arg(long, value_name = "TYPE")]
    pub(crate) respond_type: Option<String>,

    /// Host name without port, *.example.org for all below it, or * for any.
    #[arg(long, value_name = "HOST", help_heading = "Which requests")]
    pub(crate) host: Option<String>,
    /// Path prefix: /chat takes /chat and /chat/x, not /chatter. Default: /.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["path_exact", "path_regex"], help_heading = "Which requests")]
    pub(crate) path: Option<String>,
    /// This path only.
    #[arg(long, value_name = "PATH", conflicts_with = "path_regex", help_heading = "Which requests")]
    pub(crate) path_exact: Option<String>,
    /// Paths that this pattern fits.
    #[arg(long, value_name = "PATTERN", help_heading = "Which requests")]
    pub(crate) path_regex: Option<String>,
    /// Only what comes to this listener, or to one of several.
    #[arg(long = "listener", value_name = "NAME", help_heading = "Which requests")]
    pub(crate) listeners: Vec<String>,
    /// This method, or one of several.
    #[arg(long = "method", value_name = "METHOD", help_heading = "Which requests")]
    pub(crate) methods: Vec<String>,
    /// "name: value", "name" (present), "!name" (absent) or "name ~ pattern"; all that are named must hold.
    #[arg(long = "header", value_name = "CONDITION", help_heading = "Which requests")]
    pub(crate) headers: Vec<String>,
    /// "name=value", "name", "!name" or "name ~ pattern" of the decoded query; all that are named must hold.
    #[arg(long, value_name = "CONDITION", help_heading = "Which requests")]
    pub(crate) query: Vec<String>,
    /// This WebSocket subprotocol is offered, or one of several.
    #[arg(long = "protocol", value_name = "NAME", help_heading = "Which requests")]
    pub(crate) protocols: Vec<String>,
    /// Whether WebSocket handshakes are taken.
    #[arg(long, value_parser = words(WebSocketUse::WORDS), help_heading = "Which requests")]
    pub(crate) websocket: Option<WebSocketUse>,

    /// Whose pages may open WebSockets: https://example.org, https://*.example.org, *.example.org, same-host or null;
    /// repeat it for more.
    #[arg(long = "origin", value_name = "ORIGIN", help_heading = "Who may")]
    pub(crate) origins: Vec<String>,
    /// Refuse WebSockets without Origin too: those of programs that are no browsers.
    #[arg(long, help_heading = "Who may")]
    pub(crate) origin_required: bool,

    /// Take this away from the path.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["replace_prefix", "rewrite_regex"], help_heading = "What changes on the way")]
    pub(crate) strip_prefix: Option<String>,
    /// Put this in place of the route's path prefix.
    #[arg(long, value_name = "PATH", conflicts_with = "rewrite_regex", help_heading = "What changes on the way")]
    pub(crate) replace_prefix: Option<String>,
    /// Make a path that this pattern fits what --rewrite-to says.
    #[arg(long, value_name = "PATTERN", requires = "rewrite_to", help_heading = "What changes on the way")]
    pub(crate) rewrite_regex: Option<String>,
    /// {1} and {name} are groups of the pattern.
    #[arg(long, value_name = "PATH", requires = "rewrite_regex", help_heading = "What changes on the way")]
    pub(crate) rewrite_to: Option<String>,
    /// The Host a backend is told; {backend} for its own name or address.
    #[arg(long, value_name = "HOST", help_heading = "What changes on the way")]
    pub(crate) set_host: Option<String>,
    /// In place of what is there, in requests; repeat it for more, as all below.
    #[arg(long = "set-request-header", value_name = "NAME: VALUE", help_heading = "What changes on the way")]
    pub(crate) set_request: Vec<String>,
    /// Beside what is there.
    #[arg(long = "add-request-header", value_name = "NAME: VALUE", help_heading = "What changes on the way")]
    pub(crate) add_request: Vec<String>,
    #[arg(long = "remove-request-header", value_name = "NAME", help_heading = "What changes on the way")]
    pub(crate) remove_request: Vec<String>,
    /// In place of what is there, in every answer, 101 and errors too.
    #[arg(long = "set-response-header", value_name = "NAME: VALUE", help_heading = "What changes on the way")]
    pub(crate) set_response: Vec<String>,
    /// Beside what is there.
    #[arg(long = "add-response-header", value_name = "NAME: VALUE", help_heading = "What changes on the way")]
    pub(crate) add_response: Vec<String>,
    #[arg(long = "remove-response-header", value_name = "NAME", help_heading = "What changes on the way")]
    pub(crate) remove_response: Vec<String>,

    #[command(flatten)]
    pub(crate) frames: Frames,
}

/// How the frames of its WebSockets are looked after. Any of these turns that on.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Frames of its WebSockets")]
pub(crate) struct Frames {
    /// Look after frames: pings, polite ends, malformed ones refused. The flags below do so too.
    #[arg(long)]
    pub(crate) frames: bool,
    /// Who is pinged. Default: both.
    #[arg(long, value_parser = words(PingTo::WORDS))]
    pub(crate) ping: Option<PingTo>,
    /// From one ping to the next. Default: 25s.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) ping_interval: Option<Duration>,
    /// Who has not answered one for so long is gone. Default: 10s.
    #[arg(long, value_name = "TIME", value_parser = time)]
    pub(crate) pong_timeout: Option<Duration>,
    /// The most bytes of a frame; larger: closed with 1009. 0: any.
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_frame: Option<u32>,
    /// The most bytes of a message; larger: closed with 1009. 0: any.
    #[arg(long, value_name = "BYTES")]
    pub(crate) max_message: Option<u32>,
    /// Messages a client may send in a second. 0: any.
    #[arg(long, value_name = "N")]
    pub(crate) messages_per_second: Option<u32>,
    /// Bytes a client may send in a second. 0: any.
    #[arg(long, value_name = "BYTES")]
    pub(crate) bytes_per_second: Option<u32>,
    /// What becomes of a client that sends more: read no faster, or closed with 1008. Default: delay.
    #[arg(long, value_parser = words(OverRate::WORDS))]
    pub(crate) over_rate: Option<OverRate>,
    /// Sessions end at this age, or off.
    #[arg(long, value_name = "TIME", value_parser = time_or_off)]
    pub(crate) max_age: Option<Duration>,
}

/// What can be taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Listeners,
    Methods,
    Headers,
    Query,
    Protocols,
    WebSocket,
    Origins,
    Rewrite,
    RequestHeaders,
    ResponseHeaders,
    Frames,
}

impl Part {
    const WORDS: &'static [(&'static str, Self)] = &[
        ("listeners", Self::Listeners),
        ("methods", Self::Methods),
        ("headers", Self::Headers),
        ("query", Self::Query),
        ("protocols", Self::Protocols),
        ("websocket", Self::WebSocket),
        ("origins", Self::Origins),
        ("rewrite", Self::Rewrite),
        ("request-headers", Self::RequestHeaders),
        ("response-headers", Self::ResponseHeaders),
        ("frames", Self::Frames),
    ];
}
