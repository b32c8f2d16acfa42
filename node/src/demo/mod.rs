//! A cluster on loopback to look at and to break: two proxies, a witness, backends and clients.

pub mod echo;
