//! Takes a backend that fails clients out for a while: counts what they meet, and acts on the verdict of the pure room.

use std::sync::PoisonError;
use std::time::Duration;

use super::backend::Backend;
use super::balance::{Company, may_go};
use super::error::Failure;
use super::table::{Member, Upstream};

impl Upstream {
    /// For how long this one is still out; `None`: it is not. Where nobody is taken out any more, nobody is out.
    pub(super) fn out_for(&self, backend: &Backend, now: Duration) -> Option<Duration> {
        if self.eject.after == 0 { None } else { backend.ejection().left(now) }
    }

    /// A client's connection or handshake failed at `backend`, `after` so long. `now`: see [`super::backend::now`].
    pub(super) fn let_down(&self, backend: &Backend, after: Duration, why: &Failure, now: Duration) {
        backend.unanswered(after);
        // What happens while it gets no clients by choice says nothing new of it.
        if self.eject.after == 0 || !backend.is_up() || self.out_for(backend, now).is_some() {
            return;
        }
        let failures = backend.let_down();
        if failures < self.eject.after {
            return;
        }
        // One at a time, or two workers could take out one too many. Nobody comes here for each request.
        let _turn = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.out_for(backend, now).is_some() || !may_go(self.eject.share, self.company(backend, now)) {
            return;
        }
        backend.eject(backend.ejection().again(&self.eject, now));
        backend.failed(format!("failed {failures} clients in a row, the last: {}", why.with_cause()));
        let out_for = self.out_for(backend, now).unwrap_or_default();
        let (upstream, backend) = (&self.name, backend.address);
        tracing::warn!(%upstream, %backend, failures, ?out_for, cause = why.with_cause(), "backend is ejected");
    }

    fn company(&self, but: &Backend, now: Duration) -> Company {
        let mut company = Company::default();
        for Member { backend, .. } in self.members.iter().filter(|m| m.active) {
            let out = self.out_for(backend, now).is_some();
            company.all += 1;
            company.out += usize::from(out);
            company.able += usize::from(!out && backend.is_up() && backend.address != but.address);
        }
        company
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use super::*;
    use crate::config::model::{Backend as Given, Config, Eject, Name, State, Upstream as GivenUpstream};
    use crate::proxy::backend::now;
    use crate::proxy::table::Registry;

    const EJECT: Eject = Eject { after: 3, base: Duration::from_secs(60), max: Duration::from_secs(600), share: 50 };

    fn config(backends: u16, eject: &Eject) -> Config {
        let given =
            (1..=backends).map(|port| (std::net::SocketAddr::from(([10, 0, 0, 1], port)).into(), Given::default()));
        let upstream = GivenUpstream { backends: given.collect(), eject: eject.clone(), ..GivenUpstream::default() };
        Config { upstreams: [(Name::new("u").unwrap(), Arc::new(upstream))].into(), ..Config::default() }
    }

    fn compile(registry: &mut Registry, config: &Config) -> Arc<Upstream> {
        Arc::clone(registry.compile(config).upstreams.values().next().unwrap())
    }

    fn upstream(backends: u16) -> Arc<Upstream> {
        compile(&mut Registry::default(), &config(backends, &EJECT))
    }

    /// The `member`th fails this many clients in a row; whether it is out then.
    fn fails(upstream: &Upstream, member: usize, clients: u32) -> bool {
        let backend = &upstream.members[member].backend;
        for _ in 0..clients {
            upstream.let_down(backend, Duration::ZERO, &Failure::Handshake("no"), now());
        }
        upstream.out_for(backend, now()).is_some()
    }

    #[test]
    fn it_goes_out_after_so_many_in_a_row() {
        let u = upstream(2);
        assert!(!fails(&u, 0, 2));
        u.members[0].backend.served();
        assert!(!fails(&u, 0, 2), "a client that was served breaks the row");
        assert!(fails(&u, 0, 1));
        let backend = &u.members[0].backend;
        assert_eq!(backend.ejections(), 1);
        let why = "failed 3 clients in a row, the last: the backend answered the WebSocket handshake wrongly: no";
        assert_eq!(backend.failure().as_deref(), Some(why));
        let left = u.out_for(backend, now()).unwrap();
        assert!(fails(&u, 0, 9) && u.out_for(backend, now()).unwrap() <= left, "it does not grow while it is out");
    }

    #[test]
    fn the_share_is_kept_and_the_last_stays() {
        let u = upstream(5);
        assert_eq!([0, 1, 2].map(|i| fails(&u, i, 9)), [true, true, false], "half of five are two");
        let u = upstream(2);
        u.members[1].backend.set_up(false);
        assert!(!fails(&u, 0, 9), "the other one is down");
        assert!(!fails(&u, 1, 9), "one that is down is out by itself");
        u.members[1].backend.set_up(true);
        assert!(fails(&u, 0, 1), "now that the other one can, the next failure is enough");
        let (mut config, mut registry) = (config(2, &EJECT), Registry::default());
        for upstream in config.upstreams.values_mut() {
            Arc::make_mut(upstream).backends.values_mut().next_back().unwrap().state = State::Draining;
        }
        assert!(!fails(&compile(&mut registry, &config), 0, 9), "the other one drains");
    }

    #[test]
    fn whoever_is_found_well_after_all_returns_at_once() {
        let u = upstream(2);
        assert!(fails(&u, 0, 3));
        let backend = &u.members[0].backend;
        backend.set_up(true);
        assert!(u.out_for(backend, now()).is_some(), "that a check passes is nothing new");
        backend.set_up(false);
        backend.set_up(true);
        assert_eq!(u.out_for(backend, now()), None, "but one that was down and came up is another one");
        assert!(!fails(&u, 0, 2), "and begins anew");
    }

    #[test]
    fn it_outlives_revisions_unless_they_say_otherwise() {
        let mut registry = Registry::default();
        let first = compile(&mut registry, &config(3, &EJECT));
        assert!(fails(&first, 0, 3));
        let next = compile(&mut registry, &config(2, &EJECT));
        assert!(next.out_for(&next.members[0].backend, now()).is_some());
        assert!(!fails(&next, 1, 9), "one of two is out");
        let never = compile(&mut registry, &config(2, &Eject { after: 0, ..EJECT }));
        assert_eq!(never.out_for(&never.members[0].backend, now()), None);
        assert!(!fails(&never, 1, 9));
    }

    #[test]
    fn workers_at_once_do_not_take_out_too_many() {
        for _ in 0..50 {
            let u = upstream(8);
            std::thread::scope(|scope| {
                for i in 0..8 {
                    let u = &u;
                    scope.spawn(move || fails(u, i, 9));
                }
            });
            let out = u.members.iter().filter(|m| u.out_for(&m.backend, now()).is_some()).count();
            assert_eq!(out, 4);
        }
    }
}
