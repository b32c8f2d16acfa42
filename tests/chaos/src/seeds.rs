//! Many seeds: a process each, as many at a time as there are cores.

use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::{available_parallelism, scope};
use std::time::Instant;

use anyhow::Context as _;
use clap::ValueEnum as _;

use crate::Args;

/// Stories that once ended badly, tried before all others. What a seed means changes with the list of faults: its name
/// says what to look for.
const KNOWN: [(u64, &str); 2] = [
    (72, "told of the cluster while it asked over a slow link: was taken for a node that lost its disk"),
    (55, "a peer whose disk failed before the cluster was formed: was taken for one that is in it"),
];

#[derive(Default)]
struct Tally {
    ran: u64,
    events: u64,
    acknowledged: u64,
    syncs: u64,
    slowest: u64,
    broken: Vec<(u64, String)>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let begun = Instant::now();
    let jobs = args.jobs.or_else(|| available_parallelism().ok()).map_or(1, usize::from);
    let mut known = 0;
    if args.mutant.is_none() {
        for (seed, name) in KNOWN {
            let line = told(seed, args)?;
            if !line.starts_with("ok ") {
                println!("seed {seed} ({name}): {line}");
                known += 1;
            }
        }
    }
    let (next, enough) = (AtomicU64::new(args.from), AtomicBool::new(false));
    let tally = Mutex::new(Tally::default());
    let work = || {
        while !enough.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= args.from + args.seeds {
                break;
            }
            let line = told(seed, args)?;
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.take(seed, &line);
            if args.mutant.is_some() && !tally.broken.is_empty() {
                enough.store(true, Ordering::Relaxed);
            }
            if tally.ran.is_multiple_of(1000) {
                println!("{} seeds, {} broken, {} s", tally.ran, tally.broken.len(), begun.elapsed().as_secs());
            }
        }
        anyhow::Ok(())
    };
    scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        let ends =
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| anyhow::bail!("a worker panicked")));
        ends.collect::<anyhow::Result<()>>()
    })?;
    let mut tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    tally.broken.sort();
    let verdict = report(args, &tally, begun);
    Ok(if known > 0 { ExitCode::FAILURE } else { verdict })
}

/// The last line of a seed's process.
fn told(seed: u64, args: &Args) -> anyhow::Result<String> {
    let line = once(seed, args)?;
    if args.twice {
        let again = once(seed, args)?;
        if again != line {
            return Ok(format!("BROKEN replay: first {line:?}, then {again:?}"));
        }
    }
    Ok(line)
}

fn once(seed: u64, args: &Args) -> anyhow::Result<String> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--quiet", "--seed", &seed.to_string()]);
    if let Some(mutant) = args.mutant.and_then(|mutant| mutant.to_possible_value()) {
        command.args(["--mutant", mutant.get_name()]);
    }
    let output = command.output().context("cannot start a process for a seed")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let said = text.lines().last().unwrap_or_default();
    if said.starts_with("ok ") || said.starts_with("BROKEN ") {
        return Ok(said.to_owned());
    }
    // It panicked.
    let cried = String::from_utf8_lossy(&output.stderr);
    Ok(format!("BROKEN {}: {}", output.status, cried.lines().take(3).collect::<Vec<_>>().join(" ")))
}

impl Tally {
    fn take(&mut self, seed: u64, line: &str) {
        self.ran += 1;
        if let Some(why) = line.strip_prefix("BROKEN ") {
            println!("seed {seed}: {why}");
            self.broken.push((seed, why.to_owned()));
        }
        let number = |name: &str| {
            let value = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
            value.and_then(|value| value.parse::<u64>().ok()).unwrap_or(0)
        };
        self.events += number("events");
        self.acknowledged += number("acknowledged");
        self.syncs += number("syncs");
        self.slowest = self.slowest.max(number("recovered"));
    }
}

fn report(args: &Args, tally: &Tally, begun: Instant) -> ExitCode {
    let mutant = args.mutant.and_then(|mutant| mutant.to_possible_value());
    let mutant = mutant.map(|value| format!(" --mutant {}", value.get_name())).unwrap_or_default();
    println!(
        "{} seeds in {:.1} s: {} events, {} changes acknowledged, {} syncs; slowest recovery {} ms; {} broken",
        tally.ran,
        begun.elapsed().as_secs_f64(),
        tally.events,
        tally.acknowledged,
        tally.syncs,
        tally.slowest,
        tally.broken.len()
    );
    if let Some((seed, why)) = tally.broken.first() {
        println!("first: {why}\nagain: cargo chaos{mutant} --seed {seed}");
    }
    let found = !tally.broken.is_empty();
    if args.mutant.is_some() {
        println!("the planted bug was {}found in {} seeds", if found { "" } else { "NOT " }, tally.ran);
    }
    if found == args.mutant.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
