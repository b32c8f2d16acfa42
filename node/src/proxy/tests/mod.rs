//! The data plane with real sockets: each file keeps one kind of promise.
#![allow(clippy::unwrap_used, clippy::panic)]

mod bulk;
mod http;
mod lifecycle;
mod memory;
mod refusals;
mod rig;
mod websocket;
