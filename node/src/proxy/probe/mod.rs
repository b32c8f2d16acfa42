//! Checks backends, each node for itself: what a look at one tries, how often, and what the looks amount to.

mod error;
mod health;
mod http;
mod look;
mod pause;
mod watch;
mod websocket;

pub(super) use watch::{Told, watch_over};
