//! What one thing says of another: references that must hold, and claims to the same place.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::{CheckKind, Config, ListenerTls, Matching, Name, UpstreamTls};
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
        self.check_certificates(problems);
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

    fn check_certificates(&self, problems: &mut Problems) {
        for (name, l) in &self.listeners {
            for certificate in l.tls.iter().flat_map(|tls| &tls.certificates) {
                self.check_certificate(format!("listeners.{name}.tls.certificates"), certificate, problems);
            }
        }
        for (name, u) in &self.upstreams {
            if let Some(certificate) = u.tls.as_ref().and_then(|tls| tls.certificate.as_ref()) {
                self.check_certificate(format!("upstreams.{name}.tls.certificate"), certificate, problems);
            }
            if u.check.kind == CheckKind::Tls && u.tls.is_none() {
                let mend = "give the upstream tls too, or choose another kind of check";
                problems.add(format!("upstreams.{name}.check.kind"), u.check.kind, "needs an upstream with tls", mend);
            }
        }
    }

    fn check_certificate(&self, path: String, name: &Name, problems: &mut Problems) {
        if !self.certificates.contains_key(name) {
            problems.add(path, name, "is no certificate here", known(self.certificates.keys()));
        }
    }

    /// Who uses a certificate, in words.
    pub fn certificate_users(&self, name: &str) -> Vec<String> {
        let of = |tls: &ListenerTls| tls.certificates.iter().any(|c| c.as_str() == name);
        let listeners = self.listeners.iter().filter(|(_, l)| l.tls.as_deref().is_some_and(of));
        let of = |tls: &UpstreamTls| tls.certificate.as_ref().is_some_and(|c| c.as_str() == name);
        let upstreams = self.upstreams.iter().filter(|(_, u)| u.tls.as_deref().is_some_and(of));
        let listeners = listeners.map(|(name, _)| format!("listener {name}"));
        listeners.chain(upstreams.map(|(name, _)| format!("upstream {name}"))).collect()
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
