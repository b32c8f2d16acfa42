//! How a machine becomes a node: `tandemd init` on the first, `tandemd join` on each other. Files only; then it runs.

mod file;
mod init;
mod interface;
mod join;

use std::path::{Path, PathBuf};

pub use init::{Init, init};
pub use join::{Join, join};

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
    fn taken(&self, name: Option<&str>) -> anyhow::Result<bool> {
        if !self.config.exists() {
            anyhow::ensure!(
                !self.data_dir.join("tandem.redb").exists(),
                "{} holds a node's log, but there is no {}: restore that file, or move the directory away to begin anew",
                self.data_dir.display(),
                self.config.display()
            );
            return Ok(false);
        }
        let known = crate::config::NodeFile::read(&self.config)?;
        anyhow::ensure!(
            name.is_none_or(|n| n == known.name),
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
    use anyhow::Context;
    crate::trust::put(path, text).with_context(|| format!("{} cannot be written", path.display()))
}

#[allow(clippy::disallowed_methods)]
fn unix_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, tandem_proto::millis)
}
