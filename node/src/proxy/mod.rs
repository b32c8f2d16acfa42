//! One client, one backend, bytes between.

mod announced;
mod backend;
mod balance;
mod busy_poll;
mod connection;
mod descriptors;
mod dialing;
mod drain;
mod ejecting;
mod error;
mod forward;
mod headers;
mod http2;
mod keeping;
mod lane;
mod limits;
mod listener;
mod names;
mod peek;
mod pipe;
mod plane;
mod pool;
mod probe;
mod proxy_protocol;
mod rank;
mod relay;
mod reply;
mod rewrite;
mod route;
mod screen;
mod screened;
mod sessions;
mod settings;
mod steward;
mod stream;
mod switch;
mod table;
mod tally;
mod tls;
mod upgrade;
mod worker;

pub use plane::{Handle, Proxy, start};
pub use settings::{Absent, BackendReport, ListenerReport, Listening, NameReport, Reach, Report, Settings};
pub use tls::Keys;
#[cfg(test)]
mod tests;
