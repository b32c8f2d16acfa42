//! TLS with clients and with backends (rustls over aws-lc): who is shown what, who is believed, and bytes in records.

mod error;
mod known;
mod records;
mod shake;
mod shown;
mod talk;
mod terms;
mod tickets;

pub(super) use error::Error;
pub use known::Keys;
pub(super) use known::Known;
pub(super) use records::Secured;
pub(super) use shake::{Failed, accept, connect, is_unmet};
pub(super) use shown::Vouched;
