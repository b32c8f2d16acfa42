//! What goes wrong, and when it is mended: a list that the chance writes as it goes.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crate::chance::Chance;
use crate::world::World;

/// Clock errors go so far, in millionths: a hundred times a bad crystal's.
const DRIFT: u64 = 20_000;
/// A process does not run for so long at most, in ms: the margin of the lease covers this and the drift.
const PAUSE: u64 = 30;

/// What mends a fault.
#[derive(Debug, Clone, Copy)]
enum Mend {
    Boot(usize),
    Restart(usize),
    Link(usize, usize),
    Disk(usize),
    Kernel(usize),
}

/// See the module.
pub(crate) struct Faults {
    chance: Chance,
    next: u64,
    /// The mean time between two, in ms.
    every: u64,
    mends: BTreeMap<(u64, u64), Mend>,
    count: u64,
}

impl Faults {
    pub(crate) fn from(start: u64, mut chance: Chance) -> Self {
        let every = chance.between(60, 400);
        Self { chance, next: start, every, mends: BTreeMap::new(), count: 0 }
    }

    /// Lets happen what is due.
    pub(crate) fn tick(&mut self, world: &mut World) -> anyhow::Result<()> {
        while let Some(first) = self.mends.first_entry().filter(|first| first.key().0 <= world.now) {
            let mend = first.remove();
            mend.apply(world)?;
        }
        while self.next <= world.now {
            self.next += self.chance.between(1, self.every * 2);
            self.happen(world);
        }
        Ok(())
    }

    /// All is well again, at once.
    pub(crate) fn heal(self, world: &mut World) -> anyhow::Result<()> {
        world.network.heal();
        for machine in 0..world.machines.len() {
            Mend::Disk(machine).apply(world)?;
            Mend::Kernel(machine).apply(world)?;
            let it = &mut world.machines[machine];
            (it.drift, it.paused_until) = (0, 0);
            it.disk.spare();
            let seen = it.seen();
            let fatal = seen.control.is_some_and(|control| control.here().fatal.is_some());
            let unfit = seen.store.is_some_and(|store| store.unfit().is_some());
            if it.is_on() && (fatal || unfit || seen.refused.is_some()) {
                it.crash(true);
            }
            Mend::Boot(machine).apply(world)?;
        }
        Ok(())
    }

    fn later(&mut self, world: &World, most: u64, mend: Mend) {
        self.count += 1;
        let at = world.now + self.chance.between(1, most);
        self.mends.insert((at, self.count), mend);
    }

    fn happen(&mut self, world: &mut World) {
        let host = self.chance.index(world.machines.len());
        match self.chance.between(0, 15) {
            0 => self.crash(world, host, false),
            1 => self.crash(world, host, true),
            2 | 3 => {
                let syncs = self.chance.between(0, 12);
                world.trace.say(|| format!("n{host} will die {syncs} syncs from now"));
                world.machines[host].disk.die_in(syncs);
                self.later(world, 2500, Mend::Boot(host));
            }
            4 => self.cut(world, host, false),
            5 => self.cut(world, host, true),
            6 => self.isolate(world, host),
            7 | 8 => self.slow_link(world, host),
            9 => {
                let until = world.now + self.chance.between(1, PAUSE);
                world.trace.say(|| format!("n{host} does not run until {until}"));
                world.machines[host].paused_until = until;
            }
            10 => {
                let most = self.chance.between(5, 120);
                world.trace.say(|| format!("the disk of n{host} takes up to {most} ms"));
                world.machines[host].slow.store(most, Ordering::Relaxed);
                self.later(world, 1500, Mend::Disk(host));
            }
            11 | 12 => self.transfer(world, host),
            13 => {
                let error = self.chance.between(0, DRIFT);
                let drift = i64::try_from(error).unwrap_or(0) * if self.chance.percent(50) { 1 } else { -1 };
                world.trace.say(|| format!("the clock of n{host} errs by {drift} millionths"));
                world.machines[host].drift = drift;
            }
            14 => {
                world.trace.say(|| format!("the kernel of n{host} is slow and refuses"));
                world.lan.trouble(host, true);
                self.later(world, 1500, Mend::Kernel(host));
            }
            _ => {
                world.trace.say(|| format!("the disk of n{host} fails"));
                world.machines[host].disk.fail(true);
                self.later(world, 1500, Mend::Restart(host));
            }
        }
    }

    fn crash(&mut self, world: &mut World, host: usize, refuses: bool) {
        if !world.machines[host].is_on() {
            return;
        }
        world.trace.say(|| format!("n{host} {}", if refuses { "is killed" } else { "loses power" }));
        world.machines[host].crash(refuses);
        let most = if self.chance.percent(50) { 100 } else { 2500 };
        self.later(world, most, Mend::Boot(host));
    }

    /// Hosts a node speaks with: the other nodes, and the clients.
    fn other(&mut self, world: &World, host: usize) -> usize {
        let others: Vec<usize> = (0..=world.machines.len()).filter(|other| *other != host).collect();
        others[self.chance.index(others.len())]
    }

    fn cut(&mut self, world: &mut World, host: usize, both: bool) {
        let other = self.other(world, host);
        world.trace.say(|| format!("cut: {host} {} {other}", if both { "<->" } else { "->" }));
        self.cut_link(world, host, other);
        if both {
            self.cut_link(world, other, host);
        }
    }

    fn cut_link(&mut self, world: &World, from: usize, to: usize) {
        world.network.link(from, to, |link| link.cut = true);
        self.later(world, 2000, Mend::Link(from, to));
    }

    fn isolate(&mut self, world: &mut World, host: usize) {
        let one_way = self.chance.percent(30);
        world.trace.say(|| format!("n{host} is cut off{}", if one_way { ", one way" } else { "" }));
        for other in (0..world.machines.len()).filter(|other| *other != host) {
            self.cut_link(world, host, other);
            if !one_way {
                self.cut_link(world, other, host);
            }
        }
    }

    fn slow_link(&mut self, world: &mut World, host: usize) {
        let other = self.other(world, host);
        let most = self.chance.between(5, 120);
        let (lost, twice) = (self.chance.between(0, 30), self.chance.between(0, 30));
        world.trace.say(|| format!("{host} -> {other} takes up to {most} ms, {lost} in 100 lost"));
        world.network.link(host, other, |link| (link.most, link.lost) = (most, lost));
        self.later(world, 2000, Mend::Link(host, other));
        let clients = world.machines.len();
        world.network.link(clients, host, |link| link.twice = twice);
        self.later(world, 2000, Mend::Link(clients, host));
    }

    fn transfer(&mut self, world: &mut World, to: usize) {
        let leader = world.look().into_iter().find(|look| look.part.as_ref().is_some_and(|part| part.leads()));
        let Some(leader) = leader.filter(|leader| leader.host != to) else { return };
        world.trace.say(|| format!("n{} is asked to hand over to n{to}", leader.host));
        world.clients.move_to(world.port.clone(), leader.host, to as u64 + 1);
    }
}

impl Mend {
    fn apply(self, world: &mut World) -> anyhow::Result<()> {
        match self {
            Self::Boot(host) => {
                let machine = &mut world.machines[host];
                if !machine.is_on() {
                    world.trace.say(|| format!("n{host} boots"));
                    machine.boot()?;
                }
            }
            Self::Restart(host) => {
                Self::Disk(host).apply(world)?;
                let machine = &mut world.machines[host];
                if machine.is_on() {
                    machine.crash(true);
                }
                Self::Boot(host).apply(world)?;
            }
            Self::Link(from, to) => world.network.link(from, to, |link| *link = Default::default()),
            Self::Disk(host) => {
                world.machines[host].slow.store(0, Ordering::Relaxed);
                world.machines[host].disk.fail(false);
            }
            Self::Kernel(host) => world.lan.trouble(host, false),
        }
        Ok(())
    }
}
