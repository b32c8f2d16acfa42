//! What one thing says of another: references that must hold, and claims to the same place.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::{Config, Host, Name};
use crate::Problems;

impl Config {
    /// Checks all of it; a config whose links hold needs no second look.
    pub(super) fn check_links(&self, problems: &mut Problems) {
        let mut taken: BTreeMap<(&Host, &str), &Name> = BTreeMap::new();
        for (name, r) in &self.routes {
            if !self.upstreams.contains_key(&r.upstream) {
                problems.add(
                    format!("routes.{name}.upstream"),
                    &r.upstream,
                    "is no upstream here",
                    self.known_upstreams(),
                );
            }
            if let Some(other) = taken.insert((&r.host, &r.path), name) {
                let place = format!("{}{}", r.host, r.path);
                problems.add(
                    format!("routes.{name}"),
                    place,
                    format!("is what routes.{other} takes too"),
                    "change host or path of one of them",
                );
            }
        }
        let mut taken: BTreeMap<SocketAddr, &Name> = BTreeMap::new();
        for (name, l) in &self.listeners {
            if let Some(other) = taken.insert(l.address, name) {
                let path = format!("listeners.{name}.address");
                problems.add(
                    path,
                    l.address,
                    format!("is what listeners.{other} listens on too"),
                    "choose another port for one of them",
                );
            }
        }
        let mut taken: BTreeMap<IpAddr, &Name> = BTreeMap::new();
        for (name, v) in &self.vips {
            if let Some(other) = taken.insert(v.address, name) {
                problems.add(
                    format!("vips.{name}.address"),
                    v.address,
                    format!("is vips.{other} too"),
                    "choose another address for one of them",
                );
            }
        }
    }

    /// The mend for a reference to an upstream that is not there.
    pub(super) fn known_upstreams(&self) -> String {
        if self.upstreams.is_empty() {
            return "there is none yet; add it first".to_owned();
        }
        let mut known: Vec<&str> = self.upstreams.keys().map(Name::as_str).take(8).collect();
        if self.upstreams.len() > known.len() {
            known.push("…");
        }
        format!("known: {}", known.join(", "))
    }
}
