//! The contenders: how each is configured for the same work, started, and found to be there.

mod envoy;
mod haproxy;
mod nginx;
mod stage;
mod tandem;
mod who;

pub(crate) use envoy::install as install_envoy;
pub(crate) use stage::Stage;
pub(crate) use tandem::UPSTREAM;
pub(crate) use who::Contender;
