//! The machines, what is between them, and the time that passes for all: one ms after another, each machine in turn.
//!
//! A packet takes a ms at least, so what a machine does within one cannot reach another in the same: the order of turns
//! decides nothing.

use std::sync::Arc;
use std::time::Instant;

use tandem_node::control::state::State;
use tandem_node::control::{Member, Role, Standing, Store, Timers};

use crate::chance::Chance;
use crate::client::{Clients, Memories};
use crate::lan::Lan;
use crate::mutants::Mutant;
use crate::network::{Network, Port};
use crate::node::{Cluster, Machine};
use crate::trace::Trace;

/// See the module.
pub(crate) struct World {
    pub(crate) now: u64,
    pub(crate) timers: Timers,
    pub(crate) machines: Vec<Machine>,
    pub(crate) network: Network,
    pub(crate) lan: Lan,
    pub(crate) clients: Clients,
    pub(crate) port: Port,
    pub(crate) memories: Memories,
    pub(crate) trace: Trace,
}

/// A running node as it is seen from outside.
pub(crate) struct Look {
    pub(crate) host: usize,
    pub(crate) life: u64,
    pub(crate) store: Store,
    /// Once it takes part.
    pub(crate) part: Option<Part>,
}

/// What a node that takes part says of itself.
pub(crate) struct Part {
    pub(crate) standing: Standing,
    pub(crate) state: Arc<State>,
    /// Its lease is good at this moment, by its own clock.
    pub(crate) leased: bool,
}

impl World {
    /// A cluster of a kind that the chance picks, on empty disks, switched on.
    pub(crate) fn new(chance: &mut Chance, mutant: Option<Mutant>, trace: Trace) -> anyhow::Result<Self> {
        let timers = if chance.percent(50) { Timers::DEFAULT } else { Timers::FAST };
        let (nodes, witness) = match chance.between(0, 9) {
            0..=4 => (3, true),
            5..=7 => (3, false),
            8 => (5, false),
            _ => (2, false),
        };
        let role = |host| if witness && host == nodes - 1 { Role::Witness } else { Role::Proxy };
        let member = |host: usize| Member {
            id: host as u64 + 1,
            name: format!("n{host}"),
            address: format!("node-{host}"),
            role: role(host),
            to_vote: false,
        };
        let members: Vec<Member> = (0..nodes).map(member).collect();
        trace.say(|| format!("{nodes} nodes{}, {timers:?}", if witness { ", one a witness" } else { "" }));
        let network = Network::new(nodes + 2, Chance::new(chance.number(), 2), trace.clone(), mutant);
        let lan = Lan::new(Chance::new(chance.number(), 3));
        let cluster = Cluster { members, timers, mutant, network: network.clone(), lan: lan.clone() };
        let memories = Memories::default();
        let clients = Chance::new(chance.number(), 4);
        let clients = Clients::start(nodes, nodes, &network, &memories, &trace, clients)?;
        let (port, _) = network.on(nodes + 1);
        let machine = |host| Machine::new(host, cluster.clone(), Chance::new(chance.number(), 5));
        let mut machines: Vec<Machine> = (0..nodes).map(machine).collect();
        for machine in &mut machines {
            machine.boot()?;
        }
        Ok(Self { now: 0, timers, machines, network, lan, clients, port, memories, trace })
    }

    /// The next ms.
    pub(crate) fn tick(&mut self) {
        self.now += 1;
        self.trace.tick(self.now);
        self.memories.kept().now = self.now;
        self.lan.tick(self.now);
        self.network.tick(self.now);
        for machine in &mut self.machines {
            if machine.tick(self.now) {
                self.trace.say(|| format!("{} died at a sync", machine.member().name));
                machine.crash(false);
            }
        }
    }

    /// All that runs, looked at.
    pub(crate) fn look(&self) -> Vec<Look> {
        self.machines.iter().filter_map(look).collect()
    }
}

fn look(machine: &Machine) -> Option<Look> {
    let seen = machine.seen();
    let part = seen.control.map(|control| {
        let standing = control.here();
        let leased = machine.clock().zip(standing.lease_end(machine.lease())).is_some_and(|(now, end)| now < end);
        Part { state: control.now(), leased, standing }
    });
    Some(Look { host: machine.host, life: machine.life(), store: seen.store?, part })
}

impl Part {
    /// It leads, as it thinks.
    pub(crate) fn leads(&self) -> bool {
        self.standing.leader == Some(self.standing.me) && self.standing.quorum_acked.is_some()
    }
}

impl Machine {
    /// What its clock shows; none while it is off.
    fn clock(&self) -> Option<Instant> {
        self.runtime().map(|runtime| runtime.block_on(async { tandem_node::control::now() }))
    }
}
