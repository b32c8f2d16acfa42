//! What this node was told: its own file (`node.toml`), and the model of the config all nodes share.

pub use tandem_proto::model;
