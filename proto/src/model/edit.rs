//! What an edit does to a config. Pure and total: an edit that cannot be is a problem, never a panic.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::{Address, Backend, Certificate, Config, Listener, Name, Route, Upstream, Vip, backend};
use crate::Problems;
use crate::config::v1 as pb;
use crate::config::v1::edit::Edit;

impl Config {
    /// The config after all `edits`, in their order.
    ///
    /// # Errors
    /// Every mistake of every edit; then nothing is changed.
    pub fn edited(&self, edits: &[pb::Edit]) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let mut next = self.clone();
        for edit in edits {
            match &edit.edit {
                Some(edit) => next.edit(edit, &mut problems),
                None => {
                    problems.add("edit", "", "is of a kind this node does not know", "upgrade the node, then try again")
                }
            }
        }
        if problems.is_empty() {
            next.check_links(&mut problems);
        }
        problems.into_result().map(|()| next)
    }

    fn edit(&mut self, edit: &Edit, problems: &mut Problems) {
        match edit {
            Edit::AddListener(l) => {
                let path = format!("listeners.{}", l.name);
                let listener = Listener::check(&path, l, problems);
                add(&mut self.listeners, &path, &l.name, listener, problems);
            }
            Edit::SetListener(set) => self.set_listener(set, problems),
            Edit::RemoveListener(name) => self.remove_listener(name, problems),
            Edit::AddRoute(r) => {
                let path = format!("routes.{}", r.name);
                let route = Route::check(&path, r, problems);
                add(&mut self.routes, &path, &r.name, route.map(Arc::new), problems);
            }
            Edit::SetRoute(r) => {
                let path = format!("routes.{}", r.name);
                let route = Route::check(&path, r, problems);
                set(&mut self.routes, &path, &r.name, route.map(Arc::new), problems);
            }
            Edit::RemoveRoute(name) => remove(&mut self.routes, "routes", name, problems),
            Edit::AddUpstream(u) => {
                let path = format!("upstreams.{}", u.name);
                let upstream = Upstream::check(&path, u, problems);
                add(&mut self.upstreams, &path, &u.name, Some(Arc::new(upstream)), problems);
            }
            Edit::SetUpstream(set) => self.set_upstream(set, problems),
            Edit::RemoveUpstream(name) => self.remove_upstream(name, problems),
            Edit::AddBackend(add) => self.add_backend(add, problems),
            Edit::SetBackend(set) => self.set_backend(set, problems),
            Edit::RemoveBackend(remove) => {
                let Some(upstream) = self.upstream_mut(&remove.upstream, problems) else { return };
                let Some(address) = known_backend(upstream, &remove.upstream, &remove.address, problems) else {
                    return;
                };
                upstream.backends.remove(&address);
            }
            Edit::AddVip(v) => {
                let path = format!("vips.{}", v.name);
                let vip = Vip::check(&path, v, problems);
                add(&mut self.vips, &path, &v.name, vip, problems);
            }
            Edit::RemoveVip(name) => remove(&mut self.vips, "vips", name, problems),
            Edit::AddCertificate(c) => {
                let path = format!("certificates.{}", c.name);
                let certificate = Certificate::check(&path, c, problems);
                add(&mut self.certificates, &path, &c.name, certificate.map(Arc::new), problems);
            }
            Edit::SetCertificate(c) => {
                let path = format!("certificates.{}", c.name);
                let certificate = Certificate::check(&path, c, problems);
                set(&mut self.certificates, &path, &c.name, certificate.map(Arc::new), problems);
            }
            Edit::RemoveCertificate(name) => self.remove_certificate(name, problems),
            Edit::Replace(whole) => match Self::try_from(whole) {
                Ok(config) => *self = config,
                Err(more) => problems.extend(more),
            },
            Edit::SetSettings(set) => self.settings = self.settings.merged(set, problems),
        }
    }

    fn remove_listener(&mut self, name: &str, problems: &mut Problems) {
        let users: Vec<&str> =
            self.routes.iter().filter(|(_, r)| r.matching.listeners.contains(name)).map(|(n, _)| n.as_str()).collect();
        if !users.is_empty() {
            let mend = "let those routes serve another one first: tandemctl route set NAME --listener …";
            problems.add(format!("listeners.{name}"), name, format!("is named by route {}", users.join(", ")), mend);
            return;
        }
        remove(&mut self.listeners, "listeners", name, problems);
    }

    fn set_listener(&mut self, set: &pb::SetListener, problems: &mut Problems) {
        let path = format!("listeners.{}", set.name);
        match self.listeners.get_mut(set.name.as_str()) {
            None => problems.add(path, &set.name, "is not there", known(self.listeners.keys())),
            Some(listener) => listener.set(&path, set, problems),
        }
    }

    fn remove_certificate(&mut self, name: &str, problems: &mut Problems) {
        let users = self.certificate_users(name);
        if !users.is_empty() {
            let mend = "let them use another one first: tandemctl listener set, tandemctl upstream set";
            problems.add(format!("certificates.{name}"), name, format!("is used by {}", users.join(", ")), mend);
            return;
        }
        remove(&mut self.certificates, "certificates", name, problems);
    }

    fn set_upstream(&mut self, set: &pb::SetUpstream, problems: &mut Problems) {
        let path = format!("upstreams.{}", set.name);
        let Some(upstream) = self.upstream_mut(&set.name, problems) else { return };
        upstream.set_balance(&path, set, problems);
        upstream.check = upstream.check.merged(&format!("{path}.check"), set.check.as_ref(), problems);
        upstream.eject = upstream.eject.merged(&format!("{path}.eject"), set.eject.as_ref(), problems);
        upstream.set(&path, set, problems);
    }

    fn remove_upstream(&mut self, name: &str, problems: &mut Problems) {
        let users: Vec<&str> = self
            .routes
            .iter()
            .filter(|(_, r)| r.upstream().is_some_and(|u| u.as_str() == name))
            .map(|(n, _)| n.as_str())
            .collect();
        if !users.is_empty() {
            let mend = format!("remove those routes first: tandemctl route rm {}", users.join(" "));
            problems.add(format!("upstreams.{name}"), name, format!("is used by route {}", users.join(", ")), mend);
            return;
        }
        remove(&mut self.upstreams, "upstreams", name, problems);
    }

    fn add_backend(&mut self, add: &pb::AddBackend, problems: &mut Problems) {
        let Some(given) = &add.backend else {
            problems.add(
                format!("upstreams.{}.backends", add.upstream),
                "",
                "no backend was given",
                "name its address",
            );
            return;
        };
        let path = format!("upstreams.{}.backends.{}", add.upstream, given.address);
        let backend = Backend::check(&path, given, problems);
        let Some(upstream) = self.upstream_mut(&add.upstream, problems) else { return };
        let Some((address, backend)) = backend else { return };
        if upstream.backends.contains_key(&address) {
            problems.add(path, address, "is a backend of this upstream already", "use: tandemctl backend set");
            return;
        }
        upstream.backends.insert(address, backend);
    }

    fn set_backend(&mut self, set: &pb::SetBackend, problems: &mut Problems) {
        let path = format!("upstreams.{}.backends.{}", set.upstream, set.address);
        let Some(upstream) = self.upstream_mut(&set.upstream, problems) else { return };
        let Some(address) = known_backend(upstream, &set.upstream, &set.address, problems) else { return };
        let weight = set.weight.map(|w| backend::weight(&path, w, problems));
        let zone = set.zone.as_ref().map(|zone| backend::zone(&path, zone, problems));
        let Some(backend) = upstream.backends.get_mut(&address) else { return };
        if let Some(zone) = zone {
            backend.zone = zone;
        }
        if let Some(backup) = set.backup {
            backend.backup = backup;
        }
        if let Some(Some(weight)) = weight {
            backend.weight = weight;
        }
        if let Some(drain) = backend::drained(&path, backend.state, set.state, set.drain_within_ms, problems) {
            (backend.state, backend.drain_within) = drain;
        }
        if let Some(most) = set.max_sessions {
            backend.max_sessions = NonZeroU32::new(most);
        }
    }

    fn upstream_mut(&mut self, name: &str, problems: &mut Problems) -> Option<&mut Upstream> {
        if !self.upstreams.contains_key(name) {
            problems.add(format!("upstreams.{name}"), name, "is no upstream here", self.known_upstreams());
        }
        self.upstreams.get_mut(name).map(Arc::make_mut)
    }
}

fn add<T>(map: &mut BTreeMap<Name, T>, path: &str, given: &str, value: Option<T>, problems: &mut Problems) {
    let Some(name) = Name::check(path, given, problems) else { return };
    let Some(value) = value else { return };
    if map.contains_key(&name) {
        problems.add(path, given, "is there already", "remove it first, or choose another name");
        return;
    }
    map.insert(name, value);
}

fn set<T>(map: &mut BTreeMap<Name, T>, path: &str, given: &str, value: Option<T>, problems: &mut Problems) {
    if !map.contains_key(given) {
        problems.add(path, given, "is not there", known(map.keys()));
    }
    if let (Some(there), Some(value)) = (map.get_mut(given), value) {
        *there = value;
    }
}

fn remove<T>(map: &mut BTreeMap<Name, T>, kind: &str, name: &str, problems: &mut Problems) {
    if map.remove(name).is_none() {
        problems.add(format!("{kind}.{name}"), name, "is not there", known(map.keys()));
    }
}

fn known_backend(upstream: &Upstream, name: &str, given: &str, problems: &mut Problems) -> Option<Address> {
    let found = given.parse().ok().filter(|a| upstream.backends.contains_key(a));
    if found.is_none() {
        let path = format!("upstreams.{name}.backends.{given}");
        problems.add(path, given, "is no backend of this upstream", known(upstream.backends.keys()));
    }
    found
}

fn known<T: Display>(all: impl Iterator<Item = T>) -> String {
    let all: Vec<String> = all.take(8).map(|n| n.to_string()).collect();
    if all.is_empty() { "there is none".to_owned() } else { format!("known: {}", all.join(", ")) }
}

#[cfg(test)]
mod tests;
