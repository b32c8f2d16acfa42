//! tandemd: a cluster of one, one worker, configured by tandemctl as an operator does it.

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use tandem_tests::binaries;
use tandem_tests::cluster::ctl;

use super::stage::Place;
use crate::certificate::Certificate;

/// The upstream of all backends.
pub(crate) const UPSTREAM: &str = "bench";

/// What it is told to do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    /// What it does untold.
    Usual,
    /// To look again and again while there is nothing to do, instead of sleeping in the kernel.
    Polling,
    /// To look after the frames of sessions, instead of relaying bytes.
    Frames,
}

/// How to start it.
pub(super) fn command(place: &Place<'_>, admin: SocketAddr, how: How) -> anyhow::Result<Command> {
    let secret = place.dir.join("cluster.key");
    let mut node = node_toml(place.dir, admin, how);
    let mut document = format!("[listeners.web]\naddress = \"{}\"\n", place.listen);
    let frames = if how == How::Frames { "frames = {}\n" } else { "" };
    if place.certificate.is_some() {
        let made = tandemd(&["secret", &secret.to_string_lossy()])?;
        ensure!(made.status.success(), "tandemd secret: {}", String::from_utf8_lossy(&made.stderr));
        write!(node, "[secrets]\nfile = \"{}\"\n", secret.display())?;
    }
    write!(
        document,
        "[routes.all]\nupstream = \"{UPSTREAM}\"\n{frames}[upstreams.{UPSTREAM}]\ncheck = {{ kind = \"none\" }}\n"
    )?;
    for backend in &place.stage.backends {
        write!(document, "[[upstreams.{UPSTREAM}.backends]]\naddress = \"{backend}\"\n")?;
    }
    let file = place.dir.join("node.toml");
    fs::write(&file, node)?;
    fs::write(place.dir.join("bench.toml"), document)?;
    let mut command = Command::new(binaries::path("tandemd")?);
    command.arg("run").arg("--config").arg(file);
    // A line for each session that ends would be an access log, which the others do not write here either.
    command.env("TANDEM_LOG", "warn");
    Ok(command)
}

fn node_toml(dir: &Path, admin: SocketAddr, how: How) -> String {
    let polling = if how == How::Polling { "busy_poll = true\n" } else { "" };
    format!(
        "cluster = \"bench\"\nname = \"a\"\ndata_dir = \"{}\"\n[control]\nlisten = \"{admin}\"\n\
         [peers]\na = {{ address = \"{admin}\" }}\n[vip]\nprovider = \"none\"\n[proxy]\nworkers = 1\n{polling}",
        dir.join("data").display()
    )
}

/// Gives it its config, as soon as it leads its cluster of one.
///
/// # Errors
/// It refuses, or does not come to lead.
pub(super) async fn configure(dir: &Path, admin: SocketAddr, certificate: Option<&Certificate>) -> anyhow::Result<()> {
    let node = admin.to_string();
    let told = async |args: &[&str]| {
        let said = ctl(&node, &[args, &["--timeout", "15s"]].concat()).await?;
        ensure!(said.code == 0, "tandemctl {}: {said:?}", args.join(" "));
        anyhow::Ok(())
    };
    told(&["config", "apply", &dir.join("bench.toml").to_string_lossy()]).await?;
    if let Some(certificate) = certificate {
        let (chain, key) = (certificate.chain.to_string_lossy(), certificate.key.to_string_lossy());
        told(&["certificate", "add", "bench", "--chain", &chain, "--key", &key]).await?;
        told(&["listener", "set", "web", "--tls-cert", "bench"]).await?;
    }
    Ok(())
}

/// Which one is built here.
pub(super) fn version() -> Result<String, String> {
    let said = tandemd(&["--version"]).map_err(|e| format!("{e:#}"))?;
    Ok(String::from_utf8_lossy(&said.stdout).trim().trim_start_matches("tandemd ").to_owned())
}

fn tandemd(args: &[&str]) -> anyhow::Result<std::process::Output> {
    Command::new(binaries::path("tandemd")?).args(args).output().context("cannot start tandemd")
}
