//! The whole play: the network, a cluster on it, backends behind, clients before, and everybody who watches.

use std::time::Duration;

use tandem_tests::peers::Backend;

use super::eyes::PROXIES;
use super::fault::{Fault, Timers};
use super::figures::{Figures, Round, Row};
use super::ground::{BACKENDS, Ground};
use super::nodes::{Nodes, PATIENCE};
use super::play::{self, Hands, Played, Undo};
use super::traffic::Writer;
use super::watching::{First, Watching};

/// Looked at so long after a fault: a session on a silent proxy is missed after 2 s, and is to count where it belongs.
const LINGER: Duration = Duration::from_millis(2_300);
/// And after it is mended.
const LINGER_MENDED: Duration = Duration::from_millis(700);

/// See the module. Everything ends when dropped.
pub(crate) struct Stage {
    pub(crate) nodes: Nodes,
    pub(crate) watching: Watching,
    pub(crate) timers: Timers,
    /// The last known holder.
    holder: &'static str,
    _backends: Vec<Backend>,
    pub(crate) ground: Ground,
}

impl Stage {
    /// Builds it, and waits until clients are served.
    ///
    /// # Errors
    /// It does not come up.
    pub(crate) async fn open(timers: Timers) -> anyhow::Result<Self> {
        let ground = Ground::new().await?;
        let backends = backends(&ground).await?;
        let nodes = Nodes::form(&ground, timers.word()).await?;
        let watching = Watching::begin(&ground).await?;
        let mut stage = Self { nodes, watching, timers, holder: PROXIES[0], _backends: backends, ground };
        stage.watching.traffic.calm(0, PATIENCE).await?;
        stage.watching.writer = Some(Writer::start(&stage.ground, stage.nodes.papers()?).await?);
        Ok(stage)
    }

    /// Everybody who watches, and what it takes to do something.
    pub(crate) fn split(&mut self) -> (&Watching, Hands<'_>) {
        let Self { nodes, watching, holder, ground, .. } = self;
        let watching: &Watching = watching;
        (watching, Hands { ground, nodes, eyes: &watching.eyes, holder })
    }

    /// Tries a fault so often.
    ///
    /// # Errors
    /// The cluster does not recover when it is mended: then nothing after it would mean anything.
    pub(crate) async fn row(&mut self, fault: Fault, tries: usize) -> anyhow::Result<Row> {
        let mut rounds = Vec::new();
        for n in 1..=tries {
            eprintln!("drill: {} ({n} of {tries})", fault.title());
            match self.round(fault).await? {
                Ok(round) => rounds.push(round),
                Err(why) => return Ok(Row::new(fault, self.timers, rounds, Some(why))),
            }
        }
        Ok(Row::new(fault, self.timers, rounds, None))
    }

    /// Once; or why it cannot be tried here.
    async fn round(&mut self, fault: Fault) -> anyhow::Result<Result<Round, String>> {
        self.watching.traffic.calm(0, PATIENCE).await?;
        let limits = fault.limits(self.timers);
        let patience = Duration::from_millis(2 * limits.out_max).max(Duration::from_secs(4));
        let _busy = (fault == Fault::MoveLoaded).then(|| self.watching.traffic.hurry(&self.ground, 64));
        let (broke, played) = self.measured(First::Calm, patience, Step::Strike(fault)).await?;
        let undo = match played {
            Played::So(undo) => undo,
            Played::NotPossible(why) => return Ok(Err(why)),
        };
        let first = if broke.for_good { First::Anyhow } else { First::Calm };
        let mended =
            if undo.is_empty() { None } else { Some(self.measured(first, PATIENCE, Step::Mend(undo)).await?.0) };
        let lost = match &self.watching.writer {
            Some(writer) => writer.lost(&self.ground).await?,
            None => None,
        };
        Ok(Ok(Round { broke, mended, lost }))
    }

    async fn measured(&mut self, first: First, limit: Duration, step: Step) -> anyhow::Result<(Figures, Played)> {
        let (watching, mut hands) = self.split();
        let linger = if matches!(step, Step::Strike(_)) { LINGER } else { LINGER_MENDED };
        let act = async {
            match step {
                Step::Strike(fault) => play::strike(&mut hands, fault).await,
                Step::Mend(undo) => {
                    play::mend(&mut hands, undo).await?;
                    hands.nodes.settled(hands.ground).await?;
                    Ok(Played::So(Vec::new()))
                }
            }
        };
        watching.measure(first, linger, limit, act).await
    }
}

enum Step {
    Strike(Fault),
    Mend(Vec<Undo>),
}

/// Who answers behind the proxies.
///
/// # Errors
/// An address cannot be bound.
pub(crate) async fn backends(ground: &Ground) -> anyhow::Result<Vec<Backend>> {
    let mut all = Vec::new();
    for (name, address) in BACKENDS {
        let start = Backend::start((address, 9000).into(), name);
        all.push(ground.at("back").run(start).await??);
    }
    Ok(all)
}
