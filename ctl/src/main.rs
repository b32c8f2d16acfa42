//! tandemctl, as a program of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    tandem_ctl::main()
}
