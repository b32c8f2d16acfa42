//! The container engine and its compose, whichever of the two is here, spoken to as a person would.

use std::process::{Output, Stdio};

use anyhow::{Context, ensure};
use tandem_tests::binaries::workspace;
use tandem_tests::clock::{Micros, now};
use tokio::process::{Child, Command};

/// Apart from a stack that someone brought up by hand.
const PROJECT: &str = "tandem-drill";

/// Says no where no engine answers: a drill that did not happen has proved nothing.
///
/// # Errors
/// None answers.
pub(crate) async fn present() -> anyhow::Result<()> {
    let asked = Command::new("docker").arg("info").stdin(Stdio::null()).output().await;
    let answered = asked.as_ref().is_ok_and(|o| o.status.success());
    let why = match asked {
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(e) => format!("docker: {e}"),
    };
    ensure!(
        answered,
        "no container engine answers, so nothing was drilled ({why}); install docker and docker-compose, or let this user talk to it"
    );
    Ok(())
}

/// The stack of docker-compose.yml.
pub(crate) struct Stack {
    compose: Vec<&'static str>,
}

impl Stack {
    /// Finds compose.
    ///
    /// # Errors
    /// There is neither `docker compose` nor `docker-compose`.
    pub(crate) async fn new() -> anyhow::Result<Self> {
        for compose in [vec!["docker", "compose"], vec!["docker-compose"]] {
            let asked = Command::new(compose[0]).args(&compose[1..]).arg("version").output().await;
            if asked.is_ok_and(|o| o.status.success()) {
                return Ok(Self { compose });
            }
        }
        anyhow::bail!("neither `docker compose` nor `docker-compose` is here; install one of them")
    }

    /// Brings it up with empty disks.
    ///
    /// # Errors
    /// The engine refuses.
    pub(crate) async fn up(&self) -> anyhow::Result<Micros> {
        self.down().await?;
        let begun = now();
        self.run(&["up", "-d"]).await.context("if the network is refused: another stack has 172.31.77.0/24")?;
        Ok(begun)
    }

    /// Takes everything down, disks too.
    ///
    /// # Errors
    /// The engine refuses.
    pub(crate) async fn down(&self) -> anyhow::Result<()> {
        self.run(&["down", "--volumes", "--remove-orphans", "--timeout", "1"]).await.map(|_| ())
    }

    /// How a person takes it down.
    pub(crate) fn down_line(&self) -> String {
        format!("{} -p {PROJECT} down --volumes", self.compose.join(" "))
    }

    /// What the nodes said last, to stderr.
    pub(crate) async fn print_logs(&self) {
        if let Ok(output) = self.run(&["logs", "--no-color", "--tail", "40", "a", "b", "w"]).await {
            eprintln!("{}", String::from_utf8_lossy(&output.stdout));
        }
    }

    /// The container of a service, running or not.
    ///
    /// # Errors
    /// There is none.
    pub(crate) async fn container(&self, service: &str) -> anyhow::Result<String> {
        // Only the list of all containers names a stopped one, with either compose.
        let label = |key: &str, value: &str| format!("label=com.docker.compose.{key}={value}");
        let line =
            ["ps", "--all", "--quiet", "--filter", &label("project", PROJECT), "--filter", &label("service", service)];
        let output = docker(&line).await?;
        let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        ensure!(!id.is_empty() && !id.contains('\n'), "not one container of service {service}: {id:?}");
        Ok(id)
    }

    async fn run(&self, args: &[&str]) -> anyhow::Result<Output> {
        let mut command = Command::new(self.compose[0]);
        command.args(&self.compose[1..]).args(["--project-name", PROJECT]).args(args);
        command.current_dir(workspace()).stdin(Stdio::null());
        checked(&self.compose.join(" "), args, command).await
    }
}

/// Runs `docker` with these words.
///
/// # Errors
/// It cannot be started or fails; with what it said.
pub(crate) async fn docker(args: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new("docker");
    command.args(args).stdin(Stdio::null());
    checked("docker", args, command).await
}

async fn checked(program: &str, args: &[&str], mut command: Command) -> anyhow::Result<Output> {
    let output = command.output().await.with_context(|| format!("cannot start {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {}", args.join(" "), said.trim());
    Ok(output)
}

/// Starts a program inside a container, with pipes to it. It ends when dropped, or with the container.
///
/// # Errors
/// docker cannot be started.
pub(crate) fn inside(container: &str, args: &[&str]) -> anyhow::Result<Child> {
    let mut command = Command::new("docker");
    command.args(["exec", "--interactive", container]).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    // Ctrl-C is for us: we take the stack down in order.
    command.process_group(0);
    command.spawn().context("cannot start docker exec")
}
