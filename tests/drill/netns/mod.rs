//! `cargo drill --netns`: the failure table on a real Ethernet, made of network namespaces; needs root and no container engine.

mod arp;
mod chance;
mod eyes;
mod fault;
mod figures;
mod ground;
mod idle;
mod lies;
mod nodes;
mod pause;
mod peers;
mod place;
mod play;
mod random;
mod report;
mod spans;
mod stage;
mod timeline;
mod traffic;
mod watching;

use std::future::Future;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail};

use fault::{Fault, Timers, Tries};
use idle::Quiet;
use random::Sequences;
use report::{Profile, Report};
use stage::Stage;

/// How often a fault is tried that nobody gave a number for.
const RUNS: usize = 3;

/// How it is drilled without containers.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Without containers")]
pub(crate) struct Asked {
    /// Drill in network namespaces: 26 faults on two Ethernets. Needs root; also iproute2, nftables and a C compiler.
    #[arg(long)]
    pub(crate) netns: bool,
    /// With the fast timers.
    #[arg(long, requires = "netns")]
    fast: bool,
    /// With the default timers, then with the fast ones.
    #[arg(long, requires = "netns", conflicts_with = "fast")]
    both: bool,
    /// How often the holder is killed, frozen and cut off, and the address moved (3); the other faults come once for each ten.
    #[arg(long, value_name = "N", requires = "netns")]
    runs: Option<usize>,
    /// Only these faults.
    #[arg(long, value_name = "FAULT", value_delimiter = ',', requires = "netns")]
    only: Vec<Fault>,
    /// Half a dozen faults, once each: a minute.
    #[arg(long, requires = "netns", conflicts_with = "only")]
    quick: bool,
    /// The same for keepalived and nginx beside it.
    #[arg(long, requires = "netns")]
    peers: bool,
    /// So many random sequences of three faults: instead of the faults one by one, or after them with --runs.
    #[arg(long, value_name = "N", requires = "netns")]
    random: Option<usize>,
    /// What the random sequences begin from.
    #[arg(long, value_name = "S", default_value_t = 1, requires = "random")]
    seed: u64,
    /// No new random sequence is begun after so long, like 30m.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, requires = "random")]
    within: Option<Duration>,
    /// Watch for so long while nothing happens, like 30m: instead of the faults, or after them with --runs.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, requires = "netns")]
    idle: Option<Duration>,
    /// Meanwhile busy sessions take all cores.
    #[arg(long, requires = "idle")]
    loaded: bool,
    /// Write the report as a page here.
    #[arg(long, value_name = "FILE", requires = "netns")]
    markdown: Option<PathBuf>,
    /// Draw one failover, moment by moment, here.
    #[arg(long, value_name = "FILE", requires = "netns")]
    svg: Option<PathBuf>,
}

/// Drills until `stop`, and says which promise was broken; what was found by then is written however it ends.
///
/// # Errors
/// One was, or the drill could not be done.
pub(crate) async fn run(args: &Asked, json: Option<&PathBuf>, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let build = if cfg!(debug_assertions) { "Debug" } else { "Release" };
    let line = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
    let mut report = Report { line, build, cores, ..Report::default() };
    let done = tokio::select! {
        done = drill(args, &mut report) => done,
        () = stop => Err(anyhow!("interrupted")),
    };
    report.cut_short = done.as_ref().err().map(|why| format!("{why:#}"));
    print!("{}", report.text());
    write(args, json, &report)?;
    let broken = report.broken();
    if !broken.is_empty() {
        bail!("broken promises:\n  {}", broken.join("\n  "));
    }
    done?;
    match report.not_run() {
        0 => println!("every promise was kept"),
        n => println!("every promise that was put to the test was kept; {n} faults were not run"),
    }
    Ok(())
}

/// All that is asked for, one set of timers after the other.
async fn drill(args: &Asked, report: &mut Report) -> anyhow::Result<()> {
    let profiles: &[Timers] = match (args.both, args.fast) {
        (true, _) => &[Timers::Default, Timers::Fast],
        (_, true) => &[Timers::Fast],
        _ => &[Timers::Default],
    };
    for timers in profiles {
        report.profiles.push(Profile::new(*timers));
        if let Some(profile) = report.profiles.last_mut() {
            fill(args, profile).await?;
        }
    }
    if args.peers {
        report.peers = peers::run(args.runs.unwrap_or(RUNS)).await?;
    }
    Ok(())
}

fn write(args: &Asked, json: Option<&PathBuf>, report: &Report) -> anyhow::Result<()> {
    if let Some(file) = json {
        std::fs::write(file, serde_json::to_vec_pretty(&report.json())?)?;
    }
    if let Some(file) = &args.svg
        && let Some(profile) = report.profiles.iter().find(|p| !p.timeline.is_empty())
    {
        std::fs::write(file, timeline::svg(&profile.timeline, profile.timers.word()))?;
    }
    if let Some(file) = &args.markdown {
        let picture = args.svg.as_ref().and_then(|svg| svg.file_name()?.to_str());
        std::fs::write(file, report.markdown(picture))?;
    }
    Ok(())
}

/// Drills with one set of timers; what is found is in `profile` at once, so that it is there when the drill breaks off.
async fn fill(args: &Asked, profile: &mut Profile) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut stage = Stage::open(profile.timers).await?;
    if args.svg.is_some() {
        profile.timeline = timeline::record(&mut stage).await?;
    }
    let runs = args.runs.unwrap_or(RUNS);
    let faults: &[Fault] = match &args.only[..] {
        [] if args.quick => &Fault::QUICK,
        [] if args.runs.is_none() && (args.random.is_some() || args.idle.is_some()) => &[],
        [] => &Fault::ALL,
        only => only,
    };
    for fault in faults {
        let tries = match fault.tries() {
            _ if args.quick => 1,
            Tries::Many => runs,
            Tries::Few => runs.div_ceil(10),
        };
        let row = stage.row(*fault, tries).await;
        if row.is_err() {
            stage.nodes.print_logs();
        }
        profile.rows.push(row?);
        profile.took(stage.watching.looks(), begun.elapsed());
    }
    if let Some(count) = args.random {
        let limit = args.within.unwrap_or(Duration::MAX);
        random::play(&mut stage, profile.random.insert(Sequences::new(args.seed, count)), limit).await?;
    }
    if let Some(time) = args.idle {
        idle::watch(&mut stage, profile.idle.insert(Quiet::new(args.loaded)), time).await?;
    }
    profile.took(stage.watching.looks(), begun.elapsed());
    Ok(())
}
