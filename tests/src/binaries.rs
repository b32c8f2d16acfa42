//! The programs under test, built once and never stale.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, ensure};

/// Where the workspace is.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a member of the workspace")
}

/// The path of a program of this workspace, built with the profile of the running test or program.
///
/// # Errors
/// It does not build.
pub fn path(name: &str) -> anyhow::Result<PathBuf> {
    static DIR: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let dir = DIR.get_or_init(|| build().map_err(|e| format!("{e:#}"))).clone().map_err(anyhow::Error::msg)?;
    let path = dir.join(name);
    ensure!(path.exists(), "{} is not there after a build", path.display());
    Ok(path)
}

/// `cargo test` builds programs only for their own package's tests, so ask for them.
fn build() -> anyhow::Result<PathBuf> {
    let me = std::env::current_exe()?;
    // target/<profile>/deps/<test>, or target/<profile>/<program>
    let dir = me.ancestors().skip(1).find(|dir| !dir.ends_with("deps")).context("a program has a directory")?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace()).args(["build", "--quiet", "--bins"]);
    if dir.ends_with("release") {
        // As they are shipped: beside `tandem-chaos` they would get tokio's clock that can be stopped.
        cargo.args(["--release", "--package", "tandem-node", "--package", "tandem-ctl"]);
    } else {
        cargo.arg("--workspace");
    }
    let status = cargo.status().context("cannot start cargo")?;
    ensure!(status.success(), "the workspace does not build");
    Ok(dir.to_owned())
}
