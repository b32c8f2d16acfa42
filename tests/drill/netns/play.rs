//! Does to the cluster what a fault says, and undoes it.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tandem_tests::clock::until;

use super::eyes::{Eyes, PROXIES};
use super::fault::Fault;
use super::ground::{Cut, Ground, Net};
use super::lies;
use super::nodes::{NODES, Nodes, PATIENCE};
use super::pause::Paused;

/// What it takes to do it.
pub(crate) struct Hands<'a> {
    pub(crate) ground: &'a Ground,
    pub(crate) nodes: &'a mut Nodes,
    pub(crate) eyes: &'a Eyes,
    /// Who had the address last.
    pub(crate) holder: &'a mut &'static str,
}

/// Whether it could be done.
pub(crate) enum Played {
    /// It is done; what mends it.
    So(Vec<Undo>),
    /// Not here, and why.
    NotPossible(String),
}

/// What mends a fault.
pub(crate) enum Undo {
    /// All cuts.
    Heal,
    Start(&'static str),
    Continue(&'static str),
    /// Dropped, it lets go.
    Thaw(Paused),
    PlugIn(&'static str),
    /// Takes the ballast off its disk, and starts it again.
    MakeRoom(&'static str),
    /// Tells it the truth again.
    Truth(&'static str),
    /// Starts it again though it runs: consensus has stopped on it for good.
    Restart(&'static str),
}

/// What takes the rest of a node's disk.
const BALLAST: &str = "ballast";

impl Hands<'_> {
    /// Who has the address, or had it last; and the other proxy.
    pub(crate) fn roles(&mut self) -> (&'static str, &'static str) {
        if let [one] = self.eyes.holders()[..] {
            *self.holder = one;
        }
        (*self.holder, if *self.holder == PROXIES[0] { PROXIES[1] } else { PROXIES[0] })
    }

    /// Waits until one proxy has the address, and it is not `gone`.
    ///
    /// # Errors
    /// That does not come about.
    pub(crate) async fn held_by_other_than(&self, gone: &str) -> anyhow::Result<&'static str> {
        until("one proxy has the address", PATIENCE, || async {
            match self.eyes.holders()[..] {
                [one] if one != gone => Some(one),
                _ => None,
            }
        })
        .await
    }
}

/// Does it.
///
/// # Errors
/// The drill's own hands failed.
pub(crate) async fn strike(hands: &mut Hands<'_>, fault: Fault) -> anyhow::Result<Played> {
    let (holder, standby) = hands.roles();
    if matches!(fault, Fault::DiskFull | Fault::FsyncFails | Fault::ClockJumps)
        && hands.nodes.pid(holder).is_ok_and(|pid| !lies::heard_by(pid))
    {
        return Ok(Played::NotPossible("this tandemd loads no library: it is linked statically".to_owned()));
    }
    let undo = match fault {
        Fault::Kill => {
            hands.nodes.kill(holder)?;
            vec![Undo::Start(holder)]
        }
        Fault::Stop => {
            hands.nodes.signal(holder, libc::SIGSTOP)?;
            vec![Undo::Continue(holder)]
        }
        Fault::Freeze => {
            let pid = hands.nodes.pid(holder)?;
            return Ok(paused(Paused::frozen(&[pid])));
        }
        Fault::FreezeAll => {
            let pids = hands.nodes.all_of(holder)?;
            return Ok(paused(Paused::frozen(&pids)));
        }
        Fault::Starved => {
            let pids = hands.nodes.all_of(holder)?;
            let played = paused(Paused::starved(&pids));
            tokio::time::sleep(Duration::from_secs(2)).await;
            return Ok(played);
        }
        Fault::Power => {
            hands.ground.cut(island(holder)).await?;
            vec![Undo::Heal]
        }
        Fault::Split => {
            hands.ground.cut(island(holder)).await?;
            tokio::time::sleep(Duration::from_secs(3)).await;
            vec![Undo::Heal]
        }
        Fault::CannotSpeak => {
            hands.ground.cut([Cut::From(holder, Net::Ctl)]).await?;
            vec![Undo::Heal]
        }
        Fault::CannotHear => {
            hands.ground.cut([Cut::To(holder, Net::Ctl)]).await?;
            vec![Undo::Heal]
        }
        Fault::HolderControlCut => {
            hands.ground.cut(Cut::off(holder, Net::Ctl)).await?;
            vec![Undo::Heal]
        }
        Fault::PairCut => {
            hands.ground.cut(Cut::between(holder, standby, Net::Ctl)).await?;
            tokio::time::sleep(Duration::from_secs(2)).await;
            vec![Undo::Heal]
        }
        Fault::AllControlCut => {
            hands.ground.cut(NODES.into_iter().flat_map(|node| Cut::off(node, Net::Ctl))).await?;
            vec![Undo::Heal]
        }
        Fault::WitnessLost => lose(hands, &["w"])?,
        Fault::StandbyLost => lose(hands, &[standby])?,
        Fault::TwoLost => lose(hands, &[standby, "w"])?,
        Fault::Stale => {
            let undo = lose(hands, &[standby])?;
            tokio::time::sleep(Duration::from_secs(2)).await;
            undo
        }
        Fault::PlugPulled => {
            hands.ground.plug(holder, Net::Lan, "down").await?;
            vec![Undo::PlugIn(holder)]
        }
        Fault::GatewayLost => {
            hands.ground.cut(Cut::between("gate", holder, Net::Lan)).await?;
            vec![Undo::Heal]
        }
        Fault::DiskFull => {
            fill(hands.ground, holder, &hands.nodes.on_disk(holder, BALLAST)).await?;
            hands.nodes.lies(holder)?.disk_is_full(true)?;
            vec![Undo::Truth(holder), Undo::MakeRoom(holder)]
        }
        Fault::FsyncFails => {
            hands.nodes.lies(holder)?.disk_fails(true)?;
            vec![Undo::Truth(holder), Undo::Restart(holder)]
        }
        Fault::ClockJumps => {
            for seconds in [3_600, -3_600] {
                hands.nodes.lies(holder)?.seconds_ahead(seconds)?;
                tokio::time::sleep(Duration::from_millis(700)).await;
            }
            vec![Undo::Truth(holder)]
        }
        Fault::LeaderLost => match leader_elsewhere(hands).await? {
            Some(leader) => lose(hands, &[leader])?,
            None => {
                let why = "on this build the leader always holds the address".to_owned();
                return Ok(Played::NotPossible(why));
            }
        },
        Fault::Rolling => {
            for node in ["w", standby, holder] {
                hands.nodes.stop(node).await?;
                hands.nodes.start(hands.ground, node).await?;
                hands.nodes.settled(hands.ground).await?;
            }
            Vec::new()
        }
        Fault::TenInARow => {
            for _ in 0..10 {
                let (holder, _) = hands.roles();
                hands.nodes.kill(holder)?;
                hands.held_by_other_than(holder).await?;
                hands.nodes.start(hands.ground, holder).await?;
                hands.nodes.settled(hands.ground).await?;
            }
            Vec::new()
        }
        Fault::Move | Fault::MoveLoaded => {
            hands.nodes.must(hands.ground, &["vip", "move"]).await?;
            hands.held_by_other_than(holder).await?;
            Vec::new()
        }
    };
    Ok(Played::So(undo))
}

/// Everything between a machine and everybody.
fn island(machine: &'static str) -> impl Iterator<Item = Cut> {
    [Net::Lan, Net::Ctl].into_iter().flat_map(move |net| Cut::off(machine, net))
}

fn paused(paused: anyhow::Result<Paused>) -> Played {
    match paused {
        Ok(paused) => Played::So(vec![Undo::Thaw(paused)]),
        Err(why) => Played::NotPossible(format!("{why:#}")),
    }
}

fn lose(hands: &mut Hands<'_>, names: &[&'static str]) -> anyhow::Result<Vec<Undo>> {
    for name in names {
        hands.nodes.kill(name)?;
    }
    Ok(names.iter().copied().map(Undo::Start).collect())
}

/// A proxy that leads while the other one has the address, if the product lets them part.
async fn leader_elsewhere(hands: &mut Hands<'_>) -> anyhow::Result<Option<&'static str>> {
    for _ in 0..2 {
        let (_, standby) = hands.roles();
        let status = hands.nodes.status(hands.ground).await?;
        if status["leader"] == standby {
            return Ok(Some(standby));
        }
        hands.nodes.must(hands.ground, &["vip", "move"]).await?;
        hands.held_by_other_than(hands.holder).await?;
    }
    Ok(None)
}

async fn fill(ground: &Ground, node: &str, file: &Path) -> anyhow::Result<()> {
    let file = file.to_owned();
    ground
        .at(node)
        .run(async move {
            use std::io::Write as _;
            let mut ballast = std::fs::File::create(&file)?;
            loop {
                match ballast.write_all(&[1; 4096]) {
                    Ok(()) => {}
                    Err(full) if full.raw_os_error() == Some(libc::ENOSPC) => return Ok(()),
                    Err(why) => return Err(why),
                }
            }
        })
        .await?
        .context("the disk does not fill")
}

/// Undoes it all.
///
/// # Errors
/// The drill's own hands failed.
pub(crate) async fn mend(hands: &mut Hands<'_>, undo: Vec<Undo>) -> anyhow::Result<()> {
    for undo in undo {
        match undo {
            Undo::Heal => hands.ground.heal().await?,
            Undo::Start(node) if hands.nodes.runs(node) => {}
            Undo::Start(node) => hands.nodes.start(hands.ground, node).await?,
            Undo::Continue(node) if hands.nodes.runs(node) => hands.nodes.signal(node, libc::SIGCONT)?,
            Undo::Continue(_) => {}
            Undo::Thaw(paused) => drop(paused),
            Undo::PlugIn(node) => hands.ground.plug(node, Net::Lan, "up").await?,
            Undo::MakeRoom(node) => {
                let ballast = hands.nodes.on_disk(node, BALLAST);
                hands.ground.at(node).run(async move { std::fs::remove_file(&ballast) }).await??;
                restart(hands, node).await?;
            }
            Undo::Truth(node) => {
                let lies = hands.nodes.lies(node)?;
                lies.disk_fails(false)?;
                lies.disk_is_full(false)?;
                lies.seconds_ahead(0)?;
            }
            Undo::Restart(node) => restart(hands, node).await?,
        }
    }
    Ok(())
}

async fn restart(hands: &mut Hands<'_>, node: &'static str) -> anyhow::Result<()> {
    hands.nodes.kill(node)?;
    hands.nodes.start(hands.ground, node).await
}
