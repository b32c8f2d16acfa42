//! tandemctl: the operator's tool. Knows the messages, not the node.

mod args;
mod bundle;
mod client;
mod commands;
mod output;
mod screen;
mod search;

use std::ffi::OsString;
use std::process::ExitCode;

use crate::args::Args;

/// The whole program: arguments, environment, stdout and stderr are the process's own.
pub fn main() -> ExitCode {
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(std::env::args_os())),
        Err(e) => {
            eprintln!("tandemctl cannot start: {e}");
            ExitCode::from(output::REFUSED)
        }
    }
}

/// Runs one command line, the program's name first. Exit code: 0 done, 1 refused or not understood, 2 no answer in time.
pub async fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    match Args::read(args) {
        Ok(args) => commands::run(args).await,
        Err(usage) => {
            // Nobody is left to tell if this fails.
            let _ = usage.print();
            if usage.use_stderr() { ExitCode::from(output::REFUSED) } else { ExitCode::SUCCESS }
        }
    }
}
