//! What nodes and operators say to each other: messages, their TOML form, and what makes a config valid.
// Patterns are keys by their text alone: the scratch space inside their regex does not take part in any comparison.
#![allow(clippy::mutable_key_type)]

/// The replicated configuration and its edits, as written.
pub mod config {
    /// Generated from `config.proto`.
    #[allow(missing_docs, clippy::all, clippy::pedantic)]
    pub mod v1 {
        tonic::include_proto!("tandem.config.v1");
    }
}

/// Node to node.
pub mod raft {
    /// Generated from `raft.proto`.
    #[allow(missing_docs, clippy::all, clippy::pedantic)]
    pub mod v1 {
        tonic::include_proto!("tandem.raft.v1");
    }
}

/// What the log keeps of those who are believed, and how operators ask for it.
pub mod trust {
    /// Generated from `trust.proto`.
    #[allow(missing_docs, clippy::all, clippy::pedantic)]
    pub mod v1 {
        tonic::include_proto!("tandem.trust.v1");
    }
}

/// Newcomer to node.
pub mod join {
    /// Generated from `join.proto`.
    #[allow(missing_docs, clippy::all, clippy::pedantic)]
    pub mod v1 {
        tonic::include_proto!("tandem.join.v1");
    }
}

/// Operator to node.
pub mod admin {
    /// Generated from `admin.proto`.
    #[allow(missing_docs, clippy::all, clippy::pedantic)]
    pub mod v1 {
        tonic::include_proto!("tandem.admin.v1");
    }
}

pub mod document;
pub mod model;
pub mod papers;
mod problem;
mod report;
pub mod routing;
mod table;
pub mod token;

pub use problem::Problems;
pub use table::Table;

/// Whole milliseconds, as messages and counters carry them.
pub fn millis(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
