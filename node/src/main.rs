//! tandemd: arguments, config, run, exit code.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use tandem_node::begin::{self, Begun};
use tandem_node::config::NodeFile;
use tandem_node::{demo, logs, node, secrets, vip};
use tokio::signal::unix::{SignalKind, signal};

/// Sessions come and go for months: what they leave must be given back, and small things must lie close together.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What jemalloc reads when it starts. After so many bytes a thread looks which of its free memory it can give back: by
/// default after 64 KiB, which is every few requests, and costs a tenth of what the proxy itself does for one.
#[allow(unsafe_code, reason = "jemalloc's name for a C string, which this is; nothing else has it")]
#[unsafe(export_name = "_rjem_malloc_conf")]
static MALLOC_CONF: Option<&'static std::ffi::c_char> = {
    const WORDS: &std::ffi::CStr = c"tcache_gc_incr_bytes:8388608";
    // SAFETY: it points to the first byte of a C string that is never freed.
    Some(unsafe { &*WORDS.as_ptr() })
};

#[derive(Parser)]
#[command(name = "tandemd", version, about = "A highly available proxy pair for WebSocket and HTTP", long_about = None)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a new cluster: this machine becomes its first node, and starts. Prints how the others join.
    #[command(after_help = "Example: tandemd init --name a --vip 10.0.0.100@eth0")]
    Init(begin::Init),
    /// Join a cluster: this machine becomes a node of it, and starts.
    #[command(after_help = "Example: tandemd join 10.0.0.1 --token TDM1.…, as `tandemd init` printed it")]
    Join(begin::Join),
    /// Run a node.
    Run {
        /// This node's file.
        #[arg(long, default_value = "/etc/tandem/node.toml")]
        config: PathBuf,
    },
    /// Check a node.toml: prints every mistake, or nothing.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Make the secret that opens the keys of certificates; the same file on every proxy, none on a witness.
    Secret {
        /// A new file, which its owner alone may read. Default: print it.
        file: Option<PathBuf>,
    },
    /// The last resort, when most voters are lost for good: make this stopped node a cluster of its own, with the config it
    /// has. What the others acknowledged without it is lost; their machines come back with empty disks only.
    #[command(after_help = "Stop tandemd here first, and see that the others are really gone.\n\
        Example: tandemd force-quorum --i-know --dead b")]
    ForceQuorum {
        /// This node's file.
        #[arg(long, default_value = "/etc/tandem/node.toml")]
        config: PathBuf,
        /// A member to leave behind although it answers; repeat it for more.
        #[arg(long, value_name = "NAME")]
        dead: Vec<String>,
        /// That the others are gone for good, and what that costs.
        #[arg(long, required = true)]
        i_know: bool,
    },
    /// A cluster on loopback to look at and to break. Needs no root and no docker.
    Demo(demo::Args),
    /// Takes addresses off when tandemd cannot. Started by tandemd itself, never by people.
    #[command(hide = true)]
    Guard,
    /// A backend that echoes WebSocket messages, for demos and drills.
    Echo {
        /// Where to listen.
        #[arg(long)]
        listen: SocketAddr,
        /// What it calls itself in `x-backend`.
        #[arg(long, default_value = "echo")]
        name: String,
    },
}

fn main() -> ExitCode {
    // Under the name tandemctl this binary is tandemctl: one static file is enough on a node.
    let invoked = std::env::args_os().next().unwrap_or_default();
    if Path::new(&invoked).file_name().is_some_and(|name| name == "tandemctl") {
        return tandem_ctl::main();
    }
    let args = Args::parse();
    let result = match args.command {
        Command::Init(ask) => begin::init(&ask).and_then(|begun| go_on(&begun, &ask.place)),
        Command::Join(ask) => join(&ask).and_then(|begun| go_on(&begun, &ask.place)),
        Command::Run { config } => run(&config),
        Command::Check { file } => NodeFile::read(&file).map(drop).map_err(Into::into),
        Command::Secret { file } => secret(file.as_deref()),
        Command::ForceQuorum { config, dead, i_know: _ } => force_quorum(&config, &dead),
        Command::Guard => guard(),
        Command::Demo(args) => log(logs::Format::Text, logs::DEFAULT).and_then(|_log| demo::run(args)),
        Command::Echo { listen, name } => log(logs::Format::Text, logs::DEFAULT).and_then(|_log| echo(listen, name)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // `:#` prints the causes on one line; problems already are a line each.
            eprintln!("tandemd: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// TANDEM_LOG overrules `levels`.
fn log(format: logs::Format, levels: &str) -> anyhow::Result<(logs::Levels, logs::Guard)> {
    let overruled = std::env::var("TANDEM_LOG");
    logs::start(format, overruled.as_deref().unwrap_or(levels)).map_err(anyhow::Error::msg)
}

fn join(ask: &begin::Join) -> anyhow::Result<Begun> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(begin::join(ask))
}

fn go_on(begun: &Begun, place: &begin::Place) -> anyhow::Result<()> {
    print!("{}", begun.say);
    std::io::Write::flush(&mut std::io::stdout())?;
    if place.no_start {
        println!("Start it: tandemd run --config {}", place.config.display());
        return Ok(());
    }
    run(&place.config)
}

fn run(config: &Path) -> anyhow::Result<()> {
    let file = NodeFile::read(config)?;
    let (levels, _guard) = log(file.log_format, &file.log_levels)?;
    // Consensus has its own threads: a full data plane cannot delay a heartbeat.
    let control =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("control").enable_all().build()?;
    Ok(control.block_on(async { node::run(file, levels, stopped()).await })?)
}

fn force_quorum(config: &Path, dead: &[String]) -> anyhow::Result<()> {
    let file = NodeFile::read(config)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let made = runtime.block_on(node::force_quorum(&file, dead))?;
    println!(
        "cluster {:?} now is {} alone, as node {}, epoch {}, with the config of revision {}.",
        made.cluster, made.name, made.node, made.epoch, made.revision
    );
    println!("Start tandemd here. It writes by itself again, and every other voter makes it safer.");
    if !made.out.is_empty() {
        let back = match file.trust {
            None => {
                "stop tandemd there, empty its data_dir, start it, then here:\n  tandemctl node add NAME --address HOST:PORT"
            }
            Some(_) => {
                "stop tandemd there, move its node.toml and data_dir away, then here:\n  \
                 tandemctl token create --role proxy|witness\nand there what that prints."
            }
        };
        println!("Left behind: {}. Each comes back so: {back}", made.out.join(", "));
    }
    Ok(())
}

/// SIGTERM or SIGINT. A second one ends the process at once.
async fn stopped() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else {
        return;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        std::process::exit(130);
    });
}

fn secret(file: Option<&Path>) -> anyhow::Result<()> {
    match file {
        Some(file) => secrets::create(file).with_context(|| format!("{} cannot be made", file.display()))?,
        None => print!("{}", *secrets::fresh()?),
    }
    Ok(())
}

fn guard() -> anyhow::Result<()> {
    let channel = std::io::stdin().as_fd().try_clone_to_owned()?;
    vip::guard(channel).context("no guard")
}

fn echo(listen: SocketAddr, name: String) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(listen).await?;
        tokio::select! {
            () = demo::echo::serve(listener, name) => {}
            () = stopped() => {}
        }
        Ok(())
    })
}
