//! Who takes part.

use std::process::Command;

use serde::{Deserialize, Serialize};

use super::{envoy, haproxy, nginx, tandem};

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Contender {
    /// Clients speak to the backends themselves: what the machine and the load cost.
    Nobody,
    /// As the Debian package has it.
    Nginx,
    /// With buffers of 64 KiB.
    NginxTuned,
    /// As the Debian package has it.
    Haproxy,
    /// With buffers of 64 KiB, and splice(2) where it sees fit.
    HaproxyTuned,
    /// As its makers build it.
    Envoy,
    /// tandemd as it comes.
    Tandem,
    /// tandemd that waits for the next message on the processor.
    TandemBusyPoll,
    /// tandemd that understands every frame.
    TandemFrames,
}

impl Contender {
    /// The name in a table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nobody => "no proxy",
            Self::Nginx => "nginx",
            Self::NginxTuned => "nginx, 64 KiB buffers",
            Self::Haproxy => "HAProxy",
            Self::HaproxyTuned => "HAProxy, 64 KiB buffers, splice-auto",
            Self::Envoy => "Envoy",
            Self::Tandem => "Tandem",
            Self::TandemBusyPoll => "Tandem, busy_poll",
            Self::TandemFrames => "Tandem, frames",
        }
    }

    /// The program it is, however tuned.
    pub(crate) fn product(self) -> &'static str {
        match self {
            Self::Nobody => "no proxy",
            Self::Nginx | Self::NginxTuned => "nginx",
            Self::Haproxy | Self::HaproxyTuned => "HAProxy",
            Self::Envoy => "Envoy",
            Self::Tandem | Self::TandemBusyPoll | Self::TandemFrames => "Tandem",
        }
    }

    /// The version that is installed; or what is missing, and how to get it.
    pub(crate) fn version(self) -> Result<String, String> {
        let debian = |package| format!("not installed: apt-get install {package}, or --install-peers");
        match self {
            Self::Nobody => Ok(String::new()),
            Self::Nginx | Self::NginxTuned => {
                said(Command::new(nginx::PROGRAM).arg("-v"), "nginx/").ok_or_else(|| debian("nginx-light"))
            }
            Self::Haproxy | Self::HaproxyTuned => {
                said(Command::new(haproxy::PROGRAM).arg("-v"), "version ").ok_or_else(|| debian("haproxy"))
            }
            Self::Envoy => said(Command::new(envoy::program()).arg("--version"), "version: ")
                .ok_or_else(|| "not on the PATH: install it, or --install-peers".to_owned()),
            Self::Tandem | Self::TandemBusyPoll | Self::TandemFrames => tandem::version(),
        }
    }
}

/// The word after `mark` in what a program says of itself, wherever it says it.
fn said(command: &mut Command, mark: &str) -> Option<String> {
    let output = command.output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let (_, after) = text.split_once(mark)?;
    let word = after.split_whitespace().next()?;
    // Envoy says commit/version/state/…
    Some(word.split('/').nth(1).unwrap_or(word).to_owned())
}
