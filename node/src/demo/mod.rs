//! A cluster on loopback to look at and to break: two proxies, a witness, backends and clients.

mod clients;
mod cluster;
pub mod echo;
mod script;
mod show;

pub use show::{Args, run};
