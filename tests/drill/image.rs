//! The image: three static programs and the stack's files, built without pulling anything.

use std::path::Path;

use anyhow::{Context, ensure};
use tandem_tests::binaries::workspace;
use tokio::process::Command;

/// What docker-compose.yml runs.
pub(crate) const TAG: &str = "tandem:local";

const PROGRAMS: [&str; 3] = ["tandemd", "tandemctl", "drill"];
const FILES: [&str; 1] = ["chat.toml"];

/// Builds the programs and the image.
///
/// # Errors
/// Something does not build.
pub(crate) async fn build() -> anyhow::Result<()> {
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    // Apart from everything else: other flags would rebuild the world at every turn.
    let dir = workspace().join("target/static");
    eprintln!("drill: building static programs in {}; the first time takes minutes", dir.display());
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(workspace()).args(["build", "--release", "--bins", "--target", &target]);
    cargo.args(["-p", "tandem-node", "-p", "tandem-ctl", "-p", "tandem-tests"]).arg("--target-dir").arg(&dir);
    // Nobody debugs in an image without a shell; half the build time and nine tenths of the size are symbols.
    cargo.env("RUSTFLAGS", "-C target-feature=+crt-static");
    cargo.env("CARGO_PROFILE_RELEASE_DEBUG", "0").env("CARGO_PROFILE_RELEASE_STRIP", "symbols");
    ensure!(cargo.status().await.context("cannot start cargo")?.success(), "the static programs do not build");

    let context = dir.join("image");
    stage(&dir.join(target).join("release"), &context)?;
    let mut docker = Command::new("docker");
    docker.current_dir(workspace()).args(["build", "--quiet", "--tag", TAG, "--file", "Dockerfile"]).arg(&context);
    let output = docker.output().await?;
    ensure!(output.status.success(), "docker build: {}", String::from_utf8_lossy(&output.stderr));
    eprintln!("drill: image {TAG} is built");
    Ok(())
}

/// Lays out the build context.
fn stage(programs: &Path, context: &Path) -> anyhow::Result<()> {
    if context.exists() {
        std::fs::remove_dir_all(context)?;
    }
    std::fs::create_dir_all(context.join("etc"))?;
    for program in PROGRAMS {
        std::fs::copy(programs.join(program), context.join(program)).with_context(|| format!("no {program}"))?;
    }
    for file in FILES {
        let from = workspace().join("tests/drill").join(file);
        std::fs::copy(&from, context.join("etc").join(file)).with_context(|| format!("no {}", from.display()))?;
    }
    Ok(())
}
