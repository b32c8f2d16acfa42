//! The network of the drill: machines on two Ethernets, and what can be cut between them.
//!
//! ```text
//!   lan  10.77.0.0/24   a .11   b .12            client .31   eye .32  gate .1   back .21 .22   the virtual address is .100
//!   ctl  10.78.0.0/24   a .11   b .12   w .13    desk .41
//! ```
//! The bridges are in a machine of their own, the switch: what is cut there is cut for everybody, and seen by nobody.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use super::place::Place;

/// The address that one proxy at a time holds.
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);
/// Where clients connect.
pub(crate) const TARGET: SocketAddr = SocketAddr::new(IpAddr::V4(VIP), 80);
/// Who asks the Ethernet for it.
pub(crate) const EYE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 32);
/// Who speaks WebSocket behind the proxies.
pub(crate) const BACKENDS: [(&str, Ipv4Addr); 2] =
    [("one", Ipv4Addr::new(10, 77, 0, 21)), ("two", Ipv4Addr::new(10, 77, 0, 22))];

/// The machines, the last byte of their addresses, and the Ethernets they are on.
const MACHINES: [(&str, u8, &[Net]); 8] = [
    ("a", 11, &[Net::Lan, Net::Ctl]),
    ("b", 12, &[Net::Lan, Net::Ctl]),
    ("w", 13, &[Net::Ctl]),
    ("client", 31, &[Net::Lan]),
    // Asks by ARP: what is answered must not mend the client's own table.
    ("eye", 32, &[Net::Lan]),
    ("desk", 41, &[Net::Ctl]),
    ("gate", 1, &[Net::Lan]),
    ("back", 21, &[Net::Lan]),
];

/// One of the two Ethernets; each machine's interface to it has its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Net {
    /// Clients, gateway, backends, and the virtual address.
    Lan,
    /// Consensus and tandemctl.
    Ctl,
}

impl Net {
    fn name(self) -> &'static str {
        match self {
            Self::Lan => "lan",
            Self::Ctl => "ctl",
        }
    }
}

/// What does not pass the switch.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cut {
    /// Nothing from this machine on this Ethernet.
    From(&'static str, Net),
    /// Nothing to it.
    To(&'static str, Net),
    /// Nothing from the first machine to the second.
    Way(&'static str, &'static str, Net),
}

impl Cut {
    /// Both ways between a machine and everybody.
    pub(crate) fn off(machine: &'static str, net: Net) -> [Self; 2] {
        [Self::From(machine, net), Self::To(machine, net)]
    }

    /// Both ways between two machines.
    pub(crate) fn between(one: &'static str, other: &'static str, net: Net) -> [Self; 2] {
        [Self::Way(one, other, net), Self::Way(other, one, net)]
    }

    fn rule(&self) -> String {
        let port = |machine: &str, net: &Net| format!("\"{machine}-{}\"", net.name());
        match self {
            Self::From(machine, net) => format!("iifname {} drop", port(machine, net)),
            Self::To(machine, net) => format!("oifname {} drop", port(machine, net)),
            Self::Way(from, to, net) => format!("iifname {} oifname {} drop", port(from, net), port(to, net)),
        }
    }
}

/// All machines, wired up. Gone when dropped.
pub(crate) struct Ground {
    switch: Place,
    machines: Vec<(&'static str, Place)>,
    cuts: Mutex<BTreeSet<Cut>>,
}

impl Ground {
    /// Makes the machines and lays the cables.
    ///
    /// # Errors
    /// This takes root, and iproute2 and nftables on this machine.
    pub(crate) async fn new() -> anyhow::Result<Self> {
        let switch = Place::new("switch")?;
        let machines: Vec<(&'static str, Place)> =
            MACHINES.iter().map(|(name, _, _)| Ok((*name, Place::new(name)?))).collect::<anyhow::Result<_>>()?;
        for net in [Net::Lan, Net::Ctl] {
            switch.ip(&format!("link add {}-sw type bridge", net.name())).await?;
            switch.ip(&format!("link set {}-sw up", net.name())).await?;
        }
        for ((name, place), (_, last, nets)) in machines.iter().zip(MACHINES) {
            place.ip("link set lo up").await?;
            for net in nets {
                wire(&switch, name, place, last, *net).await?;
            }
        }
        let ground = Self { switch, machines, cuts: Mutex::default() };
        for (_, address) in &BACKENDS[1..] {
            ground.at("back").ip(&format!("address add {address}/24 dev lan")).await?;
        }
        for proxy in ["a", "b"] {
            ground.at(proxy).ip("route add default via 10.77.0.1").await?;
        }
        ground.heal().await?;
        Ok(ground)
    }

    /// The machine of that name.
    pub(crate) fn at(&self, name: &str) -> &Place {
        let (_, place) = self.machines.iter().find(|(n, _)| *n == name).expect("only MACHINES are asked for");
        place
    }

    /// Cuts these too.
    ///
    /// # Errors
    /// nft refuses.
    pub(crate) async fn cut(&self, more: impl IntoIterator<Item = Cut>) -> anyhow::Result<()> {
        let all = {
            let mut cuts = self.cuts.lock().unwrap_or_else(PoisonError::into_inner);
            cuts.extend(more);
            cuts.clone()
        };
        self.apply(&all).await
    }

    /// Everything passes again.
    ///
    /// # Errors
    /// nft refuses.
    pub(crate) async fn heal(&self) -> anyhow::Result<()> {
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.apply(&BTreeSet::new()).await
    }

    /// In one transaction, so that never half of it holds.
    async fn apply(&self, cuts: &BTreeSet<Cut>) -> anyhow::Result<()> {
        let mut script = "add table bridge drill\ndelete table bridge drill\ntable bridge drill {\nchain passing {\n\
                          type filter hook forward priority 0\n"
            .to_owned();
        for cut in cuts {
            let _ = writeln!(script, "{}", cut.rule());
        }
        script.push_str("}\n}\n");
        self.switch.program("nft", "-f -", &script).await.map(|_| ())
    }

    /// Pulls the machine's plug out of the switch, which it sees, or puts it back.
    ///
    /// # Errors
    /// ip refuses.
    pub(crate) async fn plug(&self, machine: &str, net: Net, state: &str) -> anyhow::Result<()> {
        self.switch.ip(&format!("link set {machine}-{} {state}", net.name())).await.map(|_| ())
    }
}

/// The Ethernet address that a machine has on the clients' network.
pub(crate) fn mac(machine: &str) -> Option<[u8; 6]> {
    let (_, last, _) = MACHINES.iter().find(|(name, _, _)| *name == machine)?;
    Some([2, 0, 0, 0, 0x77, *last])
}

/// Where a node of the cluster is reached by the others.
pub(crate) fn control(machine: &str) -> Option<Ipv4Addr> {
    let (_, last, _) = MACHINES.iter().find(|(name, _, _)| *name == machine)?;
    Some(Ipv4Addr::new(10, 78, 0, *last))
}

async fn wire(switch: &Place, name: &str, place: &Place, last: u8, net: Net) -> anyhow::Result<()> {
    let (end, third) = (net.name(), if net == Net::Lan { 77 } else { 78 });
    let port = format!("{name}-{end}");
    switch.ip(&format!("link add {port} type veth peer name {end} netns {}", place.path())).await?;
    switch.ip(&format!("link set {port} master {end}-sw up")).await?;
    place.ip(&format!("link set {end} address 02:00:00:00:{third}:{last:02x}")).await?;
    place.ip(&format!("address add 10.{third}.0.{last}/24 dev {end}")).await?;
    place.ip(&format!("link set {end} up")).await.map(|_| ())
}
