//! Faults by chance, three to a sequence, one upon the other: whatever comes, no two proxies have the address.

use std::time::{Duration, Instant};

use serde::Serialize;
use tandem_tests::clock::now;

use super::chance::Chance;
use super::fault::Fault;
use super::nodes::PATIENCE;
use super::play::{self, Played};
use super::stage::Stage;

/// Faults to a sequence.
const EVENTS: usize = 3;
/// The longest wait between them, milliseconds: some come while the one before is still being answered.
const WAIT_MS: u64 = 900;

/// What came of them.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Sequences {
    /// With which they come again.
    pub(crate) seed: u64,
    pub(crate) asked_for: usize,
    pub(crate) done: usize,
    /// Faults that could not be done upon the ones before: a dead node cannot be frozen.
    pub(crate) left_out: usize,
    /// The longest that two had it in one sequence, by kernels and by ARP.
    pub(crate) two_had_ms: u64,
    pub(crate) two_answered_ms: u64,
    /// The sequences with two holders, acknowledged changes that are lost, faults that the drill could not do, or a cluster
    /// that does not recover.
    pub(crate) bad: Vec<String>,
    pub(crate) took_s: u64,
}

impl Sequences {
    /// None was played yet.
    pub(crate) fn new(seed: u64, asked_for: usize) -> Self {
        Self { seed, asked_for, ..Self::default() }
    }

    pub(crate) fn line(&self) -> String {
        format!(
            "random: {} of {} sequences of {EVENTS} faults (seed {}) in {} s, {} faults left out that the ones before made impossible; two had the address for {} ms by kernels, {} ms by ARP, at worst; {} bad",
            self.done,
            self.asked_for,
            self.seed,
            self.took_s,
            self.left_out,
            self.two_had_ms,
            self.two_answered_ms,
            self.bad.len()
        )
    }

    pub(crate) fn broken(&self) -> Vec<String> {
        self.bad.iter().map(|b| format!("random: {b}")).collect()
    }
}

/// Plays all that were asked for, or as many as fit in `limit`.
///
/// # Errors
/// The cluster does not recover from one: no other would mean anything.
pub(crate) async fn play(stage: &mut Stage, told: &mut Sequences, limit: Duration) -> anyhow::Result<()> {
    let begun = Instant::now();
    while told.done < told.asked_for && begun.elapsed() < limit {
        let n = told.done;
        let mut chance = Chance::new(told.seed ^ (n as u64).wrapping_mul(0x9e37_79b9));
        let faults: Vec<(Fault, u64)> =
            (0..EVENTS).map(|_| (chance.one_of(&Fault::RANDOM), chance.below(WAIT_MS))).collect();
        let names: Vec<String> = faults.iter().map(|(f, wait)| format!("{}, {wait} ms", f.title())).collect();
        let story = format!("sequence {n}: {}", names.join(", "));
        if n.is_multiple_of(20) {
            eprintln!("drill: random {story}");
        }
        let from = now();
        stage.watching.forget(from.saturating_sub(1_000_000));
        let recovered = one(stage, &faults, &mut told.left_out).await;
        let span = from..now();
        let eyes = &stage.watching.eyes;
        let (had, answered) = (eyes.two_had_it(&span) / 1_000, eyes.two_answered(&span) / 1_000);
        told.two_had_ms = told.two_had_ms.max(had);
        told.two_answered_ms = told.two_answered_ms.max(answered);
        told.done += 1;
        told.took_s = begun.elapsed().as_secs();
        if had + answered > 0 {
            told.bad.push(format!("{story}: two had the address for {had} ms, and answered for {answered} ms"));
        }
        match recovered {
            Ok(None) => {}
            Ok(Some(wrong)) => told.bad.push(format!("{story}: {wrong}")),
            Err(why) => {
                told.bad.push(format!("{story}: it does not recover: {why:#}"));
                stage.nodes.print_logs();
                return Ok(());
            }
        }
    }
    Ok(())
}

/// What is lost by it, or could not be done, if anything.
async fn one(stage: &mut Stage, faults: &[(Fault, u64)], left_out: &mut usize) -> anyhow::Result<Option<String>> {
    let (mut undo, mut not_done) = (Vec::new(), None);
    {
        let (_, mut hands) = stage.split();
        for (fault, wait) in faults {
            if *fault == Fault::Move && !undo.is_empty() {
                *left_out += 1;
                continue;
            }
            // One that needs what the one before took is none; what fails on a whole cluster is the drill's own failure.
            match play::strike(&mut hands, *fault).await {
                Ok(Played::So(more)) => undo.extend(more),
                Ok(Played::NotPossible(_)) | Err(_) if !undo.is_empty() => *left_out += 1,
                Ok(Played::NotPossible(why)) => not_done = Some(format!("{} cannot be done: {why}", fault.title())),
                Err(why) => not_done = Some(format!("{} cannot be done: {why:#}", fault.title())),
            }
            tokio::time::sleep(Duration::from_millis(*wait)).await;
        }
        play::mend(&mut hands, undo).await?;
        hands.nodes.settled(hands.ground).await?;
    }
    stage.watching.traffic.calm(0, PATIENCE).await?;
    match &stage.watching.writer {
        Some(writer) => Ok(writer.lost(&stage.ground).await?.or(not_done)),
        None => Ok(not_done),
    }
}
