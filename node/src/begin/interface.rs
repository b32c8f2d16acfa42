//! Addresses and interfaces of this machine.

use std::net::IpAddr;

/// Interfaces with their addresses, in the kernel's order.
pub(super) fn all() -> Vec<(String, IpAddr)> {
    let Ok(found) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let one = |i: nix::ifaddrs::InterfaceAddress| {
        let address = i.address?;
        let v4 = address.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
        let v6 = address.as_sockaddr_in6().map(|a| IpAddr::from(a.ip()));
        Some((i.interface_name, v4.or(v6)?))
    };
    found.filter_map(one).collect()
}

/// The address of an interface that others can reach.
pub(super) fn address_of(name: &str) -> Option<IpAddr> {
    let local = |ip: &IpAddr| matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let mut own: Vec<IpAddr> = all().into_iter().filter(|(n, ip)| n == name && !local(ip)).map(|(_, ip)| ip).collect();
    own.sort_by_key(IpAddr::is_ipv6);
    own.first().copied()
}

/// The interface that has this address.
pub(super) fn with(address: IpAddr) -> Option<String> {
    all().into_iter().find(|(_, ip)| *ip == address).map(|(name, _)| name)
}
