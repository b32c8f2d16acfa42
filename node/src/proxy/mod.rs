//! One client, one backend, bytes between.

mod backend;
mod balance;
mod busy_poll;
mod connection;
mod error;
mod forward;
mod headers;
mod health;
mod http2;
mod lane;
mod listener;
mod pipe;
mod plane;
mod pool;
mod probe;
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
mod upgrade;
mod worker;

pub use plane::{Handle, Proxy, start};
pub use settings::{Absent, BackendReport, Limits, ListenerReport, Listening, Reach, Report, Settings};
#[cfg(test)]
mod tests;
