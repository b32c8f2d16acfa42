//! `cargo chaos`: a whole cluster in one process, on simulated disks, clocks and networks, under faults that a seed picks.
//! The same seed is the same story, to the last packet.

mod chance;
mod client;
mod disk;
mod faults;
mod invariants;
mod kernel;
mod lan;
mod mutants;
mod network;
mod node;
mod run;
mod seeds;
mod trace;
mod world;

use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::Parser;

use mutants::Mutant;

/// A cluster under simulated faults: many seeds, or one of them again.
#[derive(Parser)]
#[command(name = "cargo chaos")]
struct Args {
    /// How many seeds to run.
    #[arg(long, default_value_t = 200, value_name = "N")]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0, value_name = "N")]
    from: u64,
    /// Runs this one alone and tells its story.
    #[arg(long, value_name = "N", conflicts_with_all = ["seeds", "from", "twice"])]
    seed: Option<u64>,
    /// With --seed: only its last line.
    #[arg(long, hide = true)]
    quiet: bool,
    /// Runs each seed twice and compares.
    #[arg(long)]
    twice: bool,
    /// Plants a bug and counts the seeds until it is found.
    #[arg(long, value_enum)]
    mutant: Option<Mutant>,
    /// How many seeds run at a time [default: one a core].
    #[arg(long)]
    jobs: Option<NonZeroUsize>,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    match args.seed {
        Some(seed) => one(seed, &args),
        None => seeds::run(&args),
    }
}

/// One seed, in this process.
fn one(seed: u64, args: &Args) -> anyhow::Result<ExitCode> {
    if let Ok(levels) = std::env::var("RUST_LOG") {
        tracing_subscriber::fmt().with_env_filter(levels).without_time().init();
    }
    let (mutant, aloud) = (args.mutant, !args.quiet);
    kernel::seed(seed);
    // What was drawn before is a thread's own: this one begins with nothing.
    let story = std::thread::spawn(move || run::run(seed, mutant, aloud));
    let story = story.join().map_err(|_| anyhow::anyhow!("the seed panicked"))??;
    let run::Story { events, digest, acknowledged, syncs, recovered, .. } = story;
    match story.broken {
        None => {
            println!(
                "ok {digest:016x} events={events} acknowledged={acknowledged} syncs={syncs} recovered={recovered}"
            );
            Ok(ExitCode::SUCCESS)
        }
        Some(why) => {
            println!("BROKEN {digest:016x} {why}");
            Ok(ExitCode::FAILURE)
        }
    }
}
