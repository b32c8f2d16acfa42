//! What this node was told: its own file (`node.toml`), and the model of the config all nodes share.

mod file;

pub use file::{CERTIFICATE_LIFE, Join, NodeFile, Peer, Profile, Provider, Role, Trust};
pub use tandem_proto::{model, routing};
