//! A virtual IP: an address that one node at a time holds.

use std::net::IpAddr;

use super::Name;
use crate::config::v1 as pb;
use crate::{Problems, Table};

/// An address that one node at a time holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vip {
    /// IPv4 for now.
    pub address: IpAddr,
}

impl Vip {
    pub(super) fn check(path: &str, given: &pb::Vip, problems: &mut Problems) -> Option<Self> {
        let path = format!("{path}.address");
        match given.address.parse::<IpAddr>() {
            Ok(address) if address.is_unspecified() || address.is_multicast() => {
                problems.add(
                    path,
                    address,
                    "is not an address one node can hold",
                    "use a free unicast address of the clients' network",
                );
                None
            }
            Ok(address @ IpAddr::V4(_)) => Some(Self { address }),
            Ok(address) => {
                problems.add(path, address, "is IPv6, which a virtual IP cannot be yet", "use an IPv4 address");
                None
            }
            Err(_) => {
                problems.add(
                    path,
                    &given.address,
                    "is not an IP address",
                    "write it like \"10.0.0.100\", without a port or prefix",
                );
                None
            }
        }
    }

    pub(super) fn message(&self, name: &Name) -> pb::Vip {
        pb::Vip { name: name.to_string(), address: self.address.to_string() }
    }

    pub(super) fn read(name: String, t: &mut Table, problems: &mut Problems) -> pb::Vip {
        pb::Vip { name, address: t.text("address", problems).unwrap_or_default() }
    }

    pub(super) fn table(&self) -> toml::Table {
        toml::toml! { address = (self.address.to_string()) }
    }
}
