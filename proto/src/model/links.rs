//! What one thing says of another: references that must hold, and claims to the same place.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::{Config, Matching, Name};
use crate::Problems;

impl Config {
    /// Checks all of it; a config whose links hold needs no second look.
    pub(super) fn check_links(&self, problems: &mut Problems) {
        let mut taken: BTreeMap<&Matching, &Name> = BTreeMap::new();
        for (name, r) in &self.routes {
            if let Some(upstream) = r.upstream().filter(|u| !self.upstreams.contains_key(*u)) {
                problems.add(
                    format!("routes.{name}.upstream"),
                    upstream,
                    "is no upstream here",
                    known(self.upstreams.keys()),
                );
            }
            for listener in r.matching.listeners.iter().filter(|l| !self.listeners.contains_key(*l)) {
                problems.add(
                    format!("routes.{name}.listeners"),
                    listener,
                    "is no listener here",
                    known(self.listeners.keys()),
                );
            }
            if let Some(other) = taken.insert(&r.matching, name) {
                let place = format!("{}{}", r.matching.host, r.matching.path);
                problems.add(
                    format!("routes.{name}"),
                    place,
                    format!("is what routes.{other} takes too"),
                    "change host or path of one of them, or give one another matcher",
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
        known(self.upstreams.keys())
    }
}

fn known<'a>(all: impl ExactSizeIterator<Item = &'a Name>) -> String {
    if all.len() == 0 {
        return "there is none yet; add it first".to_owned();
    }
    let more = all.len() > 8;
    let mut known: Vec<&str> = all.map(Name::as_str).take(8).collect();
    if more {
        known.push("…");
    }
    format!("known: {}", known.join(", "))
}
