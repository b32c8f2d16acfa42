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
    /// The longest that two had it in one sequence, by kernels and by ARP.
    pub(crate) two_had_ms: u64,
    pub(crate) two_answered_ms: u64,
    /// The sequences with two holders, acknowledged changes that are lost, or a cluster that does not recover.
    pub(crate) bad: Vec<String>,
    pub(crate) took_s: u64,
}

impl Sequences {
    pub(crate) fn line(&self) -> String {
        format!(
            "random: {} of {} sequences of {EVENTS} faults (seed {}) in {} s; two had the address for {} ms by kernels, {} ms by ARP, at worst; {} bad",
            self.done,
            self.asked_for,
            self.seed,
            self.took_s,
            self.two_had_ms,
            self.two_answered_ms,
            self.bad.len()
        )
    }

    pub(crate) fn broken(&self) -> Vec<String> {
        self.bad.iter().map(|b| format!("random: {b}")).collect()
    }
}

/// Plays so many, or as many as fit in `limit`.
///
/// # Errors
/// The cluster does not recover from one: no other would mean anything.
pub(crate) async fn play(stage: &mut Stage, count: usize, seed: u64, limit: Duration) -> anyhow::Result<Sequences> {
    let begun = Instant::now();
    let mut told = Sequences { seed, asked_for: count, ..Sequences::default() };
    while told.done < count && begun.elapsed() < limit {
        let n = told.done;
        let mut chance = Chance::new(seed ^ (n as u64).wrapping_mul(0x9e37_79b9));
        let faults: Vec<(Fault, u64)> =
            (0..EVENTS).map(|_| (chance.one_of(&Fault::RANDOM), chance.below(WAIT_MS))).collect();
        let names: Vec<String> = faults.iter().map(|(f, wait)| format!("{}, {wait} ms", f.title())).collect();
        let story = format!("sequence {n}: {}", names.join(", "));
        if n.is_multiple_of(20) {
            eprintln!("drill: random {story}");
        }
        let from = now();
        stage.watching.forget(from.saturating_sub(1_000_000));
        let recovered = one(stage, &faults).await;
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
            Ok(Some(lost)) => told.bad.push(format!("{story}: {lost}")),
            Err(why) => {
                told.bad.push(format!("{story}: it does not recover: {why:#}"));
                stage.nodes.print_logs();
                return Ok(told);
            }
        }
    }
    Ok(told)
}

/// What is lost by it, if anything.
async fn one(stage: &mut Stage, faults: &[(Fault, u64)]) -> anyhow::Result<Option<String>> {
    let mut undo = Vec::new();
    {
        let (_, mut hands) = stage.split();
        for (fault, wait) in faults {
            // One that needs what the one before took is none: a dead node cannot be frozen.
            let moved = matches!(fault, Fault::Move);
            let struck = if moved && !undo.is_empty() { continue } else { play::strike(&mut hands, *fault).await };
            if let Ok(Played::So(more)) = struck {
                undo.extend(more);
            }
            tokio::time::sleep(Duration::from_millis(*wait)).await;
        }
        play::mend(&mut hands, undo).await?;
        hands.nodes.settled(hands.ground).await?;
    }
    stage.watching.traffic.calm(0, PATIENCE).await?;
    match &stage.watching.writer {
        Some(writer) => writer.lost(&stage.ground).await,
        None => Ok(None),
    }
}
