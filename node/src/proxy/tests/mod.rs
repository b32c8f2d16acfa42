//! The data plane with real sockets: each file keeps one kind of promise.
#![allow(clippy::unwrap_used, clippy::panic)]

mod balancing;
mod bulk;
mod draining;
mod ejection;
mod frames;
mod fuzz;
mod health;
mod http;
mod http2;
mod lifecycle;
mod limits;
mod memory;
mod names;
mod proxy_protocol;
mod refusals;
pub(super) mod rig;
mod routing;
mod tls;
mod websocket;
