//! The control plane under load and under fire: `cargo bench-control`, `cargo durability`.

#![allow(clippy::print_stdout)]

// Not all of it is wanted here.
#[allow(dead_code)]
#[path = "../bench/chance.rs"]
mod chance;
mod kills;
mod page;
mod scale;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "The control plane of a real cluster on loopback, measured and mistreated", long_about = None)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Ten thousand backends in five hundred upstreams: what changing, saving, starting and listing them takes.
    Scale(scale::Args),
    /// kill -9 of a node chosen by chance, over and over, under writers that remember what was acknowledged.
    Kills(kills::Args),
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    // One thread that lasts: what it starts dies with it.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match args.what {
        What::Scale(args) => runtime.block_on(scale::run(args)),
        What::Kills(args) => runtime.block_on(kills::run(args)),
    }
}
