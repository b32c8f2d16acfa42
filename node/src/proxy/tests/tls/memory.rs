//! What an idle session in TLS costs, measured as that of a plain one is.

use std::net::TcpListener;
use std::sync::Arc;

use rustls::{ClientConnection, Stream};

use super::super::memory::{ask, measure};
use super::super::rig::unchecked;
use super::authority::{Authority, rig};
use crate::config::model::Balance;

#[test]
#[ignore = "a measurement: needs 16 000 descriptors and a process of its own"]
fn an_idle_session_in_tls_costs_at_most_six_kilobytes() {
    let authority = Authority::new();
    let issued = authority.issue("a.example");
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let upstream = unchecked(Balance::RoundRobin, &[listener.local_addr().unwrap()]);
    let client = Arc::new(authority.client());
    let open = |socket: &mut std::net::TcpStream| {
        // Forgotten afterwards: what grows is the proxy alone.
        let mut talk = ClientConnection::new(Arc::clone(&client), "a.example".try_into().unwrap()).unwrap();
        ask(&mut Stream::new(&mut talk, socket));
    };
    let shown = [("a", &issued)];
    let each = measure(rig(upstream, &shown, |_, _| ()), listener, &open);
    assert!(each <= 6000, "{each} bytes");
}
