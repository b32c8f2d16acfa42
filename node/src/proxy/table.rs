//! What a worker needs of one config, ready to use: routes that lead to upstreams, upstreams that know their backends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use ipnet::IpNet;
use rustls::ServerConfig;

use super::backend::{self, Backend};
use super::balance::Sticky;
use super::dialing::Dialing;
use super::drain::Drain;
use super::headers::Scheme;
use super::keeping::Keeping;
use super::limits::{Count, Counted};
use super::names::Book;
use super::probe::Told;
use super::rank::Rank;
use super::route::Route;
use super::tally::Handshakes;
use super::tls::{self, Keys, Known};
use crate::config::model::{
    self, Address, Balance, Check, Config, Eject, HashOn, Name, ProxyProtocol, Settings, State, Timeouts,
};
use crate::config::routing::Routes;

/// One config, compiled. A session takes one at its start and keeps to it.
#[derive(Debug)]
pub(super) struct Table {
    /// Where clients connect to, by the address they are bound to.
    pub(super) listeners: BTreeMap<SocketAddr, Arc<Listener>>,
    /// Addresses that one node at a time holds.
    pub(super) vips: BTreeSet<IpAddr>,
    /// Which request goes where.
    pub(super) routes: Routes<Arc<Route>>,
    /// All upstreams, used by a route or not.
    pub(super) upstreams: BTreeMap<Name, Arc<Upstream>>,
    /// What holds for all clients.
    pub(super) settings: Settings,
    /// How their connections are kept.
    pub(super) keeping: Keeping,
}

/// A place where clients connect, and how they are met there.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) name: Name,
    /// A client may speak HTTP/2.
    pub(super) http2: bool,
    pub(super) proxy_protocol: ProxyProtocol,
    /// Whose PROXY headers are believed.
    pub(super) proxy_from: BTreeSet<IpNet>,
    /// How TLS is spoken with clients, or why it cannot be; `None`: they speak plainly.
    pub(super) tls: Option<Result<Arc<ServerConfig>, tls::Error>>,
    /// Through every revision.
    pub(super) handshakes: Arc<Handshakes>,
    max_sessions: Option<NonZeroU32>,
    /// Its clients' sessions, through every revision.
    sessions: Arc<Count>,
    /// Whether it drains; connections that came in by an older revision of it hear of it too.
    pub(super) drain: Arc<Drain>,
    /// Where it is bound.
    pub(super) port: u16,
}

impl Listener {
    /// How its clients speak.
    pub(super) fn scheme(&self) -> Scheme {
        if self.tls.is_some() { Scheme::Https } else { Scheme::Http }
    }

    /// Why nobody can be let in, for the operator.
    pub(super) fn broken(&self) -> Option<&tls::Error> {
        self.tls.as_ref()?.as_ref().err()
    }

    /// What its sessions are limited by.
    pub(super) fn counted(&self) -> Counted<'_> {
        Counted { count: &self.sessions, most: self.max_sessions }
    }
}

/// A named group of backends.
#[derive(Debug)]
pub(super) struct Upstream {
    pub(super) name: Name,
    pub(super) balance: Balance,
    /// What it hashes, if it does.
    pub(super) hash_on: Option<HashOn>,
    /// The most a backend may have, in percent of its fair share, when it hashes.
    pub(super) hash_bound: u32,
    pub(super) sticky: Option<Sticky>,
    /// How long a backend takes to rise to its full share.
    pub(super) slow_start: Duration,
    /// The percentage of the near ones' weight that must be up for them to be preferred; `None`: all are alike.
    pub(super) near_share: Option<u32>,
    pub(super) check: Check,
    pub(super) eject: Eject,
    /// Held by whoever takes one of its backends out.
    pub(super) ejecting: Arc<Mutex<()>>,
    pub(super) members: Vec<Member>,
    pub(super) timeouts: Timeouts,
    /// How its backends are connected to.
    pub(super) dialing: Arc<Dialing>,
    max_sessions: Option<NonZeroU32>,
    /// Sessions to all of its backends, through every revision.
    sessions: Arc<Count>,
}

impl Upstream {
    /// What its sessions are limited by.
    pub(super) fn counted(&self) -> Counted<'_> {
        Counted { count: &self.sessions, most: self.max_sessions }
    }

    /// What the probe of one of its backends is told.
    pub(super) fn told(&self, member: &Member) -> Told {
        Told { check: self.check.clone(), dialing: Arc::clone(&self.dialing), host: member.host.clone() }
    }

    /// Backends that have all the sessions they may.
    pub(super) fn full(&self) -> Vec<SocketAddr> {
        self.members.iter().filter(|m| m.is_full()).map(|m| m.backend.address).collect()
    }
}

/// A backend with what this config says of it.
#[derive(Debug)]
pub(super) struct Member {
    /// How the config names it.
    pub(super) said: Address,
    /// Who it must prove to be, and what a check calls it; `None`: its address.
    pub(super) host: Option<Arc<str>>,
    pub(super) backend: Arc<Backend>,
    pub(super) weight: NonZeroU32,
    pub(super) active: bool,
    pub(super) rank: Rank,
    pub(super) max_sessions: Option<NonZeroU32>,
}

impl Member {
    fn is_full(&self) -> bool {
        self.max_sessions.is_some_and(|most| self.backend.seats.now() >= most.get())
    }
}

/// Knows every backend that is configured or still has sessions, so that one that is removed and added again goes on
/// counting where it was.
#[derive(Debug, Default)]
pub(super) struct Registry {
    backends: BTreeMap<(Name, SocketAddr), Weak<Backend>>,
    listener_sessions: Kept<Count>,
    listener_drains: Kept<Drain>,
    upstream_sessions: Kept<Count>,
    ejecting: Kept<Mutex<()>>,
    handshakes: Kept<Handshakes>,
    tls: Known,
    /// Of the last config: a change is of one upstream, and there may be hundreds.
    compiled: BTreeMap<Name, (Arc<model::Upstream>, Arc<Upstream>)>,
    settings: Option<model::Settings>,
    zone: Option<Name>,
    names: Arc<Book>,
}

/// What comes of it depends on nothing but itself and the settings: on no certificate, and on nothing that DNS says.
fn alone(upstream: &model::Upstream) -> bool {
    upstream.tls.is_none() && upstream.backends.keys().all(|said| said.host().is_none())
}

/// Things by name, as long as somebody has them.
#[derive(Debug, Default)]
struct Kept<T>(BTreeMap<Name, Weak<T>>);

impl<T: Default> Kept<T> {
    fn of(&mut self, name: &Name) -> Arc<T> {
        let known = self.0.entry(name.clone()).or_default();
        known.upgrade().unwrap_or_else(|| {
            let new = Arc::<T>::default();
            *known = Arc::downgrade(&new);
            new
        })
    }

    fn forget_unused(&mut self) {
        self.0.retain(|_, kept| kept.strong_count() > 0);
    }
}

impl Registry {
    /// Of a node that stands in this zone, opens keys with these, and looks up in `names` who stands behind a name.
    pub(super) fn new(zone: Option<Name>, keys: Option<Arc<dyn Keys>>, names: Arc<Book>) -> Self {
        Self { zone, tls: Known::new(keys), names, ..Self::default() }
    }

    /// Compiles a config, with what is known of its names now.
    pub(super) fn compile(&mut self, config: &Config) -> Table {
        let same_settings = self.settings.as_ref() == Some(&config.settings);
        let mut before = std::mem::take(&mut self.compiled);
        let upstreams: BTreeMap<Name, Arc<Upstream>> = config
            .upstreams
            .iter()
            .map(|(name, u)| {
                let known = before.remove(name);
                let upstream = match &known {
                    Some((of, known)) if same_settings && Arc::ptr_eq(of, u) && alone(u) => Arc::clone(known),
                    _ => Arc::new(self.upstream(name, u, config, known.as_ref().map(|(_, known)| &known.dialing))),
                };
                self.compiled.insert(name.clone(), (Arc::clone(u), Arc::clone(&upstream)));
                (name.clone(), upstream)
            })
            .collect();
        drop(before);
        self.settings = Some(config.settings.clone());
        self.backends.retain(|_, backend| backend.strong_count() > 0);
        let routes = config.routes.iter();
        let routes = routes.filter_map(|(name, r)| Some((name, r, Arc::new(Route::new(name, r, &upstreams)?))));
        let listener = |(name, l): (&Name, &crate::config::model::Listener)| {
            let http2 = l.speaks_http2(l.tls.is_some());
            let drain = self.listener_drains.of(name);
            drain.tell(l.state, l.drain_within, backend::now());
            let listener = Listener {
                name: name.clone(),
                http2,
                proxy_protocol: l.proxy_protocol,
                proxy_from: l.proxy_from.clone(),
                max_sessions: l.max_sessions,
                tls: l.tls.as_ref().map(|tls| self.tls.server(name, tls, http2, config)),
                handshakes: self.handshakes.of(name),
                sessions: self.listener_sessions.of(name),
                drain,
                port: l.address.port(),
            };
            (l.address, Arc::new(listener))
        };
        let listeners = config.listeners.iter().map(listener).collect();
        self.tls.forget_unused(config);
        self.handshakes.forget_unused();
        self.listener_sessions.forget_unused();
        self.listener_drains.forget_unused();
        self.upstream_sessions.forget_unused();
        self.ejecting.forget_unused();
        Table {
            listeners,
            vips: config.vips.values().map(|v| v.address).collect(),
            routes: Routes::new(routes),
            upstreams,
            keeping: Keeping::of(&config.settings),
            settings: config.settings.clone(),
        }
    }

    /// `dialing`: how its connections were made until now.
    fn upstream(
        &mut self,
        name: &Name,
        u: &model::Upstream,
        config: &Config,
        dialing: Option<&Arc<Dialing>>,
    ) -> Upstream {
        let members = self.members(name, u);
        let some = |rank| members.iter().any(|m| m.rank == rank);
        let terms = u.tls.as_ref().map(|tls| self.tls.client(name, tls, config));
        Upstream {
            name: name.clone(),
            balance: u.balance,
            hash_on: (u.balance == Balance::Hash).then(|| u.hash_on.clone()),
            hash_bound: u.hash_bound,
            sticky: u.sticky.as_ref().map(Sticky::new),
            slow_start: u.slow_start,
            near_share: (some(Rank::Near) && some(Rank::Far)).then_some(u.zone_min_share),
            check: u.check.clone(),
            eject: u.eject.clone(),
            ejecting: self.ejecting.of(name),
            members,
            timeouts: u.timeouts,
            dialing: Dialing::of(u, &config.settings, terms, dialing),
            max_sessions: u.max_sessions,
            sessions: self.upstream_sessions.of(name),
        }
    }

    /// Each server once, however many backends name it: as itself rather than by a name.
    fn members(&mut self, name: &Name, upstream: &model::Upstream) -> Vec<Member> {
        let (mut members, mut met) = (Vec::new(), BTreeSet::new());
        for (said, b) in &upstream.backends {
            for server in self.names.servers(said).iter().filter(|server| met.insert(server.address)) {
                let backend = self.backend(name, server.address);
                backend.drain.tell(b.state, b.drain_within, backend::now());
                members.push(Member {
                    said: said.clone(),
                    host: said.identity().map(Arc::from),
                    backend,
                    weight: server.weight.unwrap_or(b.weight),
                    active: b.state == State::Active,
                    rank: if server.backup { Rank::Backup } else { Rank::of(b, self.zone.as_ref()) },
                    max_sessions: b.max_sessions,
                });
            }
        }
        members
    }

    fn backend(&mut self, upstream: &Name, address: SocketAddr) -> Arc<Backend> {
        let known = self.backends.entry((upstream.clone(), address)).or_default();
        known.upgrade().unwrap_or_else(|| {
            let new = Arc::new(Backend::new(upstream.clone(), address));
            *known = Arc::downgrade(&new);
            new
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::{Backend as Given, Upstream as GivenUpstream};

    fn config(backends: &[(u16, State)]) -> Config {
        let given = backends.iter().map(|(port, state)| {
            let given = Given { weight: NonZeroU32::MIN, state: *state, ..Given::default() };
            (Address::Ip(([10, 0, 0, 1], *port).into()), given)
        });
        let upstream = GivenUpstream { backends: given.collect(), ..GivenUpstream::default() };
        Config { upstreams: [(name(), Arc::new(upstream))].into(), ..Config::default() }
    }

    fn name() -> Name {
        Name::new("u").expect("a name")
    }

    #[test]
    fn a_backend_is_the_same_through_every_revision() {
        let mut registry = Registry::default();
        let first = registry.compile(&config(&[(1, State::Active)]));
        let place = super::super::backend::Place::at(&first.upstreams[&name()].members[0].backend);
        drop(first);
        let gone = registry.compile(&config(&[]));
        assert!(gone.upstreams[&name()].members.is_empty());
        let again = registry.compile(&config(&[(1, State::Active), (2, State::Active)]));
        let load = |t: &Table| t.upstreams[&name()].members.iter().map(|m| m.backend.load()).collect::<Vec<_>>();
        assert_eq!(load(&again), [1, 0], "its session was not forgotten");
        for port in 3..103 {
            registry.compile(&config(&[(1, State::Draining), (port, State::Active)]));
        }
        assert_eq!(load(&registry.compile(&config(&[(1, State::Active)]))), [1], "nor in a hundred revisions");
        drop(place);
        assert_eq!(load(&again), [0, 0]);
        drop(again);
        registry.compile(&config(&[]));
        assert!(registry.backends.is_empty(), "what nobody needs is forgotten");
    }

    #[test]
    fn only_what_changed_is_compiled_again() {
        let mut registry = Registry::default();
        let other = Name::new("other").expect("a name");
        let mut first = config(&[(1, State::Active)]);
        first.upstreams.insert(other.clone(), Arc::new(GivenUpstream::default()));
        let before = registry.compile(&first);
        let mut second = first.clone();
        second.upstreams.insert(name(), config(&[(2, State::Active)]).upstreams[&name()].clone());
        let after = registry.compile(&second);
        assert!(Arc::ptr_eq(&before.upstreams[&other], &after.upstreams[&other]));
        let ports =
            |t: &Table| t.upstreams[&name()].members.iter().map(|m| m.backend.address.port()).collect::<Vec<_>>();
        assert_eq!((ports(&before), ports(&after)), (vec![1], vec![2]));

        // How backends are dialled hangs on the settings.
        let mut third = second.clone();
        third.settings.keep_alive = std::time::Duration::from_secs(7);
        assert!(!Arc::ptr_eq(&after.upstreams[&other], &registry.compile(&third).upstreams[&other]));

        // Nobody tells here when a name stands for somebody else.
        let by_name: Address = "chat.example:80".parse().expect("an address");
        let named = GivenUpstream { backends: [(by_name, Given::default())].into(), ..GivenUpstream::default() };
        third.upstreams.insert(other.clone(), Arc::new(named));
        let before = registry.compile(&third);
        assert!(!Arc::ptr_eq(&before.upstreams[&other], &registry.compile(&third).upstreams[&other]));
    }
}
