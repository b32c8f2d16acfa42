//! What this node was told: its own file (`node.toml`), and the model of the config all nodes share.

mod entry;
mod file;

pub use entry::{CERTIFICATE_LIFE, Join, Peer, Role, Trust};
pub use file::{NodeFile, Profile, Provider};
pub use tandem_proto::{model, routing};
