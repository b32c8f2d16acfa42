//! Real clusters, real sockets, real faults.

pub mod admin;
pub mod binaries;
pub mod clock;
pub mod cluster;
pub mod dns;
pub mod peers;
pub mod secured;
pub mod story;
pub mod subnet;
