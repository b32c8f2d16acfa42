//! The load: a process of its own, pinned beside the backends, which works, verifies and meters.

mod changes;
mod churn;
mod dial;
mod echo;
mod idle;
mod order;
mod requests;
mod run;
mod tally;
mod upgrades;

pub(crate) use churn::{Crowd, Done};
pub(crate) use order::{Figure, Figures, Order, Secure, Work};
pub(crate) use run::{probe, run};
