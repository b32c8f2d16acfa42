//! `cargo bench-peers`: the same work through nginx, HAProxy, Envoy and tandemd, side by side on one machine.

mod backend;
mod certificate;
mod chance;
mod chart;
mod contender;
mod frame;
mod install;
mod load;
mod measured;
mod meter;
mod process;
mod quartiles;
mod report;
mod rounds;
mod rows;
mod soak;
mod tracking;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::certificate::Certificate;
use crate::contender::Stage;
use crate::measured::Measured;
use crate::rounds::Pace;
use crate::rows::{ROWS, Row};

/// Does the same work through nginx, HAProxy, Envoy and tandemd, and compares them round by round.
///
/// Proxies run on core 0, clients and backends on core 1: leave the machine alone meanwhile.
#[derive(Parser)]
#[command(
    name = "cargo bench-peers",
    after_help = "Example: cargo bench-peers --rows echo-64,idle --json bench.json --svg bench.svg"
)]
struct Args {
    /// Rounds of each row; whoever is first in one is last in the next.
    #[arg(long, value_name = "N", default_value_t = 7)]
    rounds: usize,
    /// How long each figure is measured, seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    window: f64,
    /// Two rounds of one second: whether everything works, not how well.
    #[arg(long, conflicts_with_all = ["rounds", "window"])]
    quick: bool,
    /// Only these; --list names all.
    #[arg(long, value_name = "ROW", value_delimiter = ',')]
    rows: Vec<String>,
    /// Name the rows, and do nothing.
    #[arg(long)]
    list: bool,
    /// Install the peers that are missing: apt-get, and a Python wheel under target/.
    #[arg(long)]
    install_peers: bool,
    /// Measure nothing: read what earlier runs wrote with --json; rows of several files are put together.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rows", "rounds", "window", "quick", "install_peers"])]
    from: Vec<PathBuf>,
    /// Also write every figure here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Also write the table here.
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Also draw it here.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    #[command(subcommand)]
    part: Option<Part>,
}

/// Other work than comparing, and what the harness starts of itself.
#[derive(Subcommand)]
enum Part {
    /// Sessions come and go through one tandemd for minutes: memory stays flat, descriptors come back, no byte is wrong.
    Soak {
        #[command(flatten)]
        length: soak::Length,
    },
    #[command(hide = true)]
    Backends,
    #[command(hide = true)]
    Load { order: String },
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let args = Args::parse();
    let done = match &args.part {
        Some(Part::Backends) => backend::run().await,
        Some(Part::Load { order }) => load(order).await,
        Some(Part::Soak { length }) => unless_stopped(soak::run(*length)).await,
        None => unless_stopped(bench(&args)).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench-peers: {e:#}");
            ExitCode::FAILURE
        }
    }
}

async fn load(order: &str) -> anyhow::Result<()> {
    let figures = load::run(&serde_json::from_str(order)?).await?;
    println!("{}", serde_json::to_string(&figures)?);
    Ok(())
}

async fn bench(args: &Args) -> anyhow::Result<()> {
    if args.list {
        for row in ROWS {
            let titles: Vec<&str> = row.lines.iter().map(|line| line.title).collect();
            println!("{:<20} {}", row.id, titles.join("; "));
        }
        return Ok(());
    }
    let measured = if args.from.is_empty() { measure(args).await? } else { read(&args.from)? };
    let table = report::markdown(&measured);
    std::io::stdout().write_all(table.as_bytes())?;
    write(args.markdown.as_deref(), || table)?;
    write(args.json.as_deref(), || format!("{:#}\n", report::json(&measured)))?;
    write(args.svg.as_deref(), || chart::svg(&measured))?;
    if measured.failures.is_empty() {
        return Ok(());
    }
    bail!("{} turns failed; the others stand", measured.failures.len())
}

async fn measure(args: &Args) -> anyhow::Result<Measured> {
    let rows = chosen(&args.rows)?;
    if args.install_peers {
        install::peers()?;
    }
    // Before anything is pinned: a build may use every core.
    tandem_tests::binaries::path("tandemd")?;
    process::pin(process::LOAD_CORE).context("this needs two cores: one for the proxy, one for everybody else")?;
    let descriptors = process::descriptors();
    let dir = tempfile::Builder::new().prefix("bench-peers-").tempdir()?;
    let certificate = Certificate::make(dir.path())?;
    let (_running, backends) = rounds::backends()?;
    let stage = Stage { backends, certificate, descriptors };
    let (rounds, window) = if args.quick { (2, 1.0) } else { (args.rounds, args.window) };
    let window = Duration::try_from_secs_f64(window).context("--window")?;
    let pace = Pace { rounds, window, warm: (window / 4).max(Duration::from_millis(300)) };
    rounds::run(&stage, &rows, pace).await
}

fn chosen(ids: &[String]) -> anyhow::Result<Vec<&'static Row>> {
    if ids.is_empty() {
        return Ok(ROWS.iter().collect());
    }
    let find = |id: &String| rows::find(id).with_context(|| format!("no row is called {id:?}; --list names them"));
    ids.iter().map(find).collect()
}

fn read(files: &[PathBuf]) -> anyhow::Result<Measured> {
    let mut all = Measured::default();
    for file in files {
        let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
        all.extend(serde_json::from_str(&text).with_context(|| format!("{} is no --json of ours", file.display()))?);
    }
    Ok(all)
}

fn write(file: Option<&Path>, text: impl FnOnce() -> String) -> anyhow::Result<()> {
    let Some(file) = file else { return Ok(()) };
    std::fs::write(file, text()).with_context(|| file.display().to_string())
}

async fn unless_stopped(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::select! {
        done = work => done,
        () = asked_to_stop() => Err(anyhow::anyhow!("interrupted")),
    }
}

async fn asked_to_stop() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
