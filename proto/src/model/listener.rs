//! A listener: an address and port that clients connect to.

use std::net::SocketAddr;

use super::{Name, address};
use crate::config::v1 as pb;
use crate::{Problems, Table};

/// An address and port that clients connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// May name a virtual IP, or an unspecified address for all.
    pub address: SocketAddr,
}

impl Listener {
    /// One that does nothing special.
    pub fn at(address: SocketAddr) -> Self {
        Self { address }
    }

    pub(super) fn check(path: &str, given: &pb::Listener, problems: &mut Problems) -> Option<Self> {
        let address = address::check(format!("{path}.address"), &given.address, problems)?;
        Some(Self { address })
    }

    pub(super) fn message(&self, name: &Name) -> pb::Listener {
        pb::Listener { name: name.to_string(), address: self.address.to_string() }
    }

    pub(super) fn read(name: String, t: &mut Table, problems: &mut Problems) -> pb::Listener {
        pb::Listener { name, address: t.text("address", problems).unwrap_or_default() }
    }

    pub(super) fn table(&self) -> toml::Table {
        toml::toml! { address = (self.address.to_string()) }
    }
}
