//! The wire all proxies share: who answers for which address, as a neighbour's ARP cache would learn it.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tandem_node::vip;

use crate::chance::Chance;

/// The kernel drops what was not renewed for this long, in ms.
const LIFETIME: u64 = 2000;

/// The wire; clones share it.
#[derive(Clone)]
pub(crate) struct Lan(Arc<Mutex<Inner>>);

struct Inner {
    now: u64,
    /// Address → machine → when its kernel drops it.
    here: BTreeMap<IpAddr, BTreeMap<usize, u64>>,
    /// Machines that are on, with their life.
    on: BTreeMap<usize, u64>,
    /// Kernels that are slow and refuse at times.
    troubled: BTreeSet<usize>,
    chance: Chance,
}

impl Lan {
    pub(crate) fn new(chance: Chance) -> Self {
        let (here, on, troubled) = Default::default();
        Self(Arc::new(Mutex::new(Inner { now: 0, here, on, troubled, chance })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn tick(&self, now: u64) {
        let mut inner = self.inner();
        inner.now = now;
        for machines in inner.here.values_mut() {
            machines.retain(|_, drops| *drops > now);
        }
    }

    /// The hands of a machine that was just switched on.
    pub(crate) fn on(&self, machine: usize, life: u64) -> Hands {
        self.inner().on.insert(machine, life);
        Hands { lan: self.clone(), machine, life }
    }

    /// A machine without power has no addresses.
    pub(crate) fn off(&self, machine: usize) {
        let mut inner = self.inner();
        inner.on.remove(&machine);
        for machines in inner.here.values_mut() {
            machines.remove(&machine);
        }
    }

    pub(crate) fn trouble(&self, machine: usize, troubled: bool) {
        let mut inner = self.inner();
        if troubled {
            inner.troubled.insert(machine)
        } else {
            inner.troubled.remove(&machine)
        };
    }

    /// Who answers for each address now.
    pub(crate) fn holders(&self) -> BTreeMap<IpAddr, Vec<usize>> {
        self.inner().here.iter().map(|(address, machines)| (*address, machines.keys().copied().collect())).collect()
    }
}

/// A keeper's hands on one machine.
pub(crate) struct Hands {
    lan: Lan,
    machine: usize,
    life: u64,
}

impl Hands {
    fn set(&self, action: &vip::Action) {
        let mut inner = self.lan.inner();
        if inner.on.get(&self.machine) != Some(&self.life) {
            return;
        }
        let drops = inner.now + LIFETIME;
        match action {
            vip::Action::Add(address) => drop(inner.here.entry(*address).or_default().insert(self.machine, drops)),
            vip::Action::Renew(address) => {
                if let Some(at) = inner.here.entry(*address).or_default().get_mut(&self.machine) {
                    *at = drops;
                }
            }
            vip::Action::Remove(address, _) => drop(inner.here.entry(*address).or_default().remove(&self.machine)),
            vip::Action::Probe(_) | vip::Action::Announce(_) | vip::Action::Wait(_) => {}
        }
    }

    /// How long the kernel takes before and after, in ms, and whether it refuses.
    fn toss(&self) -> (u64, u64, bool) {
        let mut inner = self.lan.inner();
        if !inner.troubled.contains(&self.machine) {
            return (0, 0, false);
        }
        let inner = &mut *inner;
        (inner.chance.between(0, 3), inner.chance.between(0, 3), inner.chance.percent(20))
    }
}

impl vip::Hands for Hands {
    async fn act(&mut self, action: &vip::Action) -> Result<(), vip::Error> {
        let (before, after, refuses) = self.toss();
        tokio::time::sleep(Duration::from_millis(before)).await;
        // A kernel that does not take an address off is beyond what a lease can fence.
        if refuses && !matches!(action, vip::Action::Remove(..)) {
            return Err(vip::Error::Refused { what: "change an address", source: io::Error::other("injected") });
        }
        self.set(action);
        tokio::time::sleep(Duration::from_millis(after)).await;
        Ok(())
    }

    async fn clear_leftovers(&self, _: &BTreeSet<IpAddr>) {}
}
