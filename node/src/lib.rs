//! tandemd: the rooms of one node. Imports go down only; see `tests/integration/floors.rs`.
//!
//! ```text
//!  6  main, demo, begin   5  node         4  admin
//!  3  vip   proxy  (neighbours that have never met)
//!  2  control      1  config, trust   0  secrets, logs, metrics, tandem-proto
//! ```

pub mod admin;
pub mod begin;
pub mod config;
pub mod control;
pub mod demo;
pub mod logs;
pub mod metrics;
pub mod node;
pub mod proxy;
pub mod secrets;
pub mod trust;
pub mod vip;
