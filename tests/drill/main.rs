//! `cargo drill`: brings a whole stack up, breaks it in every way an operator fears, and measures what clients saw.

mod client;
mod engine;
mod image;
mod interface;
mod netns;
mod rehearsal;
mod report;
mod talk;
mod watch;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

/// Rehearses failures on a stack of containers, or on a network of namespaces, and says which promise was broken.
#[derive(Parser)]
#[command(
    name = "cargo drill",
    after_help = "Example: cargo drill --json drill.json; without containers: cargo drill --netns --quick"
)]
struct Args {
    /// Also write every figure here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Leave the stack up afterwards.
    #[arg(long)]
    keep: bool,
    /// Only build the image tandem:local, for docker-compose.yml.
    #[arg(long)]
    image: bool,
    /// Use the image tandem:local as it is.
    #[arg(long, conflicts_with = "image")]
    no_build: bool,
    /// How often the holder is killed, and how often the address is moved.
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,
    #[command(flatten)]
    netns: netns::Asked,
    #[command(subcommand)]
    part: Option<Part>,
}

/// What this program does inside the containers.
#[derive(Subcommand)]
enum Part {
    /// Holds sessions, and prints one line a second.
    Watch {
        /// The address that one node at a time holds.
        target: SocketAddr,
    },
    /// Holds, probes and writes as told on stdin; tells on stdout.
    #[command(hide = true)]
    Client { target: SocketAddr },
    /// Tells every 20 ms whether this network namespace has the address.
    #[command(hide = true)]
    Sample { address: IpAddr },
    /// Takes an interface down or up.
    #[command(hide = true)]
    Link { interface: String, state: interface::Link },
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let done = match &args.part {
        Some(Part::Watch { target }) => watch::run(*target).await,
        Some(Part::Client { target }) => client::run(*target).await,
        Some(Part::Sample { address }) => interface::sample(*address).await,
        Some(Part::Link { interface, state }) => interface::set(interface, *state),
        None if args.netns.netns => netns::run(&args.netns, args.json.as_ref(), asked_to_stop()).await,
        None => drill(&args).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("drill: {e:#}");
            ExitCode::FAILURE
        }
    }
}

async fn drill(args: &Args) -> anyhow::Result<()> {
    engine::present().await?;
    if !args.no_build {
        image::build().await?;
    }
    if args.image {
        return Ok(());
    }
    let stack = engine::Stack::new().await?;
    let outcome = tokio::select! {
        outcome = rehearse(&stack, args) => outcome,
        () = asked_to_stop() => Err(anyhow::anyhow!("interrupted")),
    };
    if outcome.is_err() {
        stack.print_logs().await;
    }
    if args.keep {
        eprintln!("drill: the stack is left up; take it down with: {}", stack.down_line());
    } else {
        stack.down().await?;
    }
    outcome
}

async fn rehearse(stack: &engine::Stack, args: &Args) -> anyhow::Result<()> {
    let begun = stack.up().await?;
    let report = tokio::time::timeout(Duration::from_secs(900), rehearsal::run(stack, begun, args.rounds)).await??;
    print!("{}", report.table());
    if let Some(file) = &args.json {
        std::fs::write(file, serde_json::to_vec_pretty(&report.json())?)?;
    }
    let broken = report.broken_promises();
    if broken.is_empty() {
        println!("every promise was kept");
        return Ok(());
    }
    bail!("broken promises:\n  {}", broken.join("\n  "))
}

async fn asked_to_stop() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}
