//! What this node was told: its own file (`node.toml`), and the model of the config all nodes share.

mod file;

pub use file::{Join, NodeFile, Peer, Profile, Provider, Role};
pub use tandem_proto::{model, routing};
