//! Which of the configured addresses should be this node's, if its lease allows. Pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::control::state::State;
use crate::control::{Role, Standing};

/// The addresses this node should hold while it has the lease.
///
/// Today one node, the leader, holds them all, so that nothing but the lease decides. Several holders at once come in here.
/// A witness may win an election; it never takes an address.
pub(super) fn mine(standing: &Standing, state: &State) -> BTreeSet<IpAddr> {
    match standing.members.get(&standing.me) {
        Some(me) if me.role == Role::Proxy => configured(state),
        _ => BTreeSet::new(),
    }
}

/// All virtual addresses of the config.
pub(super) fn configured(state: &State) -> BTreeSet<IpAddr> {
    state.config.vips.values().map(|vip| vip.address).collect()
}
