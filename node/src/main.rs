//! tandemd: arguments, config, run, exit code.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tandem_node::config::NodeFile;
use tandem_node::{demo, node};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Parser)]
#[command(name = "tandemd", version, about = "A highly available proxy pair for WebSocket and HTTP", long_about = None)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
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
    /// A cluster on loopback to look at and to break. Needs no root and no docker.
    Demo(demo::Args),
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
    let filter = tracing_subscriber::EnvFilter::try_from_env("TANDEM_LOG").unwrap_or_else(|_| {
        // openraft and the HTTP stack talk to their developers; what an operator must know is said by our rooms.
        tracing_subscriber::EnvFilter::new("info,openraft=error,h2=warn,hyper=warn,tonic=warn")
    });
    // Written by a thread of its own: a slow terminal or pipe must not stop a worker, nor a heartbeat. What is more than it
    // can hold is dropped. `_log` writes out the rest when main ends.
    let (stderr, _log) = tracing_appender::non_blocking(std::io::stderr());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).init();
    let result = match args.command {
        Command::Run { config } => run(&config),
        Command::Check { file } => NodeFile::read(&file).map(drop).map_err(Into::into),
        Command::Demo(args) => demo::run(args),
        Command::Echo { listen, name } => echo(listen, name),
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

fn run(config: &Path) -> anyhow::Result<()> {
    let file = NodeFile::read(config)?;
    // Consensus has its own threads: a full data plane cannot delay a heartbeat.
    let control =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("control").enable_all().build()?;
    Ok(control.block_on(async { node::run(file, stopped()).await })?)
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
