//! How a machine becomes a node: `tandemd init` on the first, `tandemd join` on each other. Files only; then it runs.

mod file;
mod init;
mod interface;
mod join;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::admin::ABOVE;

pub use init::{Init, init};
pub use join::{Join, join};

/// The node port, where none is named, and the join port that goes with it.
const NODE_PORT: u16 = 7440;
const JOIN_PORT: u16 = NODE_PORT + ABOVE;

/// Where a node's files are.
#[derive(Debug, Clone, clap::Args)]
pub struct Place {
    /// This node's file; written last: where it is, the machine is a node already.
    #[arg(long, value_name = "FILE", default_value = "/etc/tandem/node.toml")]
    pub config: PathBuf,
    /// Where it keeps its log, certificates and secret; nobody else uses it.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/tandem")]
    pub data_dir: PathBuf,
    /// Only write the files; the node is started otherwise: tandemd run.
    #[arg(long)]
    pub no_start: bool,
}

impl Place {
    /// Is this machine a node already? Then `name` must be its name.
    fn taken(&self, name: &str) -> anyhow::Result<bool> {
        if !self.config.exists() {
            ensure!(
                !self.data_dir.join("tandem.redb").exists(),
                "{} holds a node's log, but there is no {}: restore that file, or move the directory away to begin anew",
                self.data_dir.display(),
                self.config.display()
            );
            return Ok(false);
        }
        let known = crate::config::NodeFile::read(&self.config)?;
        ensure!(
            name == known.name,
            "this machine is node {} of cluster {} already ({}); to begin anew stop it, and move that file and {} away",
            known.name,
            known.cluster,
            self.config.display(),
            known.data_dir.display()
        );
        Ok(true)
    }

    fn at(&self, file: &str) -> PathBuf {
        self.data_dir.join(file)
    }
}

/// What was done, for a person.
pub struct Begun {
    /// To be printed.
    pub say: String,
}

/// The machine's own name, if it can be a node's.
fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    let short = name.trim().split('.').next()?.to_lowercase();
    tandem_proto::model::Name::new(&short).map(|n| n.to_string())
}

fn write(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    crate::trust::put(path, text).with_context(|| format!("{} cannot be written", path.display()))
}

/// What this node is called: as was said, or as the machine is. `like`: for an example.
fn own_name(said: Option<&String>, like: &str) -> anyhow::Result<String> {
    let name = said.cloned().or_else(host_name).with_context(|| format!("give this node a name: --name {like}"))?;
    named("--name", &name)?;
    Ok(name)
}

fn named(option: &str, value: &str) -> anyhow::Result<()> {
    let is = tandem_proto::model::Name::new(value).is_some();
    ensure!(is, "{option} {value:?} is no name: use 1 to 63 of a-z 0-9 . _ -");
    Ok(())
}

/// Can the other nodes come there, and newcomers to the join port above it?
fn reachable(listen: SocketAddr) -> anyhow::Result<()> {
    ensure!(
        !listen.ip().is_unspecified(),
        "--listen {listen}: name the address at which the other nodes reach this one"
    );
    ensure!(listen.port() != 0 && listen.port() < u16::MAX - ABOVE, "--listen {listen}: the join port is two above it");
    Ok(())
}
