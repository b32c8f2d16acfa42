//! A cluster with certificates on loopback, made as an operator makes one: `tandemd init`, then `tandemd join`.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;
use tandem_proto::papers::{Current, Papers};
use tempfile::TempDir;
use tokio::sync::{SemaphorePermit, watch};

use crate::binaries;
use crate::clock::until;
use crate::cluster::{Company, PATIENCE, Said, die_with_parent};
use crate::subnet::Subnet;

/// Machines, each with its own directory. Ends with everything it started when dropped.
pub struct Secured {
    /// Their addresses.
    pub subnet: Subnet,
    dir: TempDir,
    machines: Vec<Machine>,
    _room: Option<SemaphorePermit<'static>>,
}

struct Machine {
    name: String,
    process: Child,
}

impl Secured {
    /// A place for machines; none is set up yet.
    ///
    /// # Errors
    /// There is no room on disk or loopback.
    pub async fn prepare() -> anyhow::Result<Self> {
        Self::with(Some(Company::Shared.room().await?))
    }

    /// A second place, for a test that needs two: it shares the room of this one, which is to outlive it.
    ///
    /// # Errors
    /// There is no room on disk or loopback.
    pub fn beside(&self) -> anyhow::Result<Self> {
        Self::with(None)
    }

    fn with(room: Option<SemaphorePermit<'static>>) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("tandem-secured-").tempdir()?;
        Ok(Self { subnet: Subnet::claim()?, dir, machines: Vec::new(), _room: room })
    }

    /// `a`, `b` and the witness `w`, up and voting.
    ///
    /// # Errors
    /// They do not come up in time.
    pub async fn start() -> anyhow::Result<Self> {
        let mut cluster = Self::prepare().await?;
        cluster.form().await?;
        Ok(cluster)
    }

    /// The same in a place that is prepared.
    ///
    /// # Errors
    /// They do not come up in time.
    pub async fn form(&mut self) -> anyhow::Result<()> {
        self.init().await?;
        self.join("b", "proxy", 2)?;
        self.join("w", "witness", 3)?;
        self.settled(3).await?;
        Ok(())
    }

    /// The directory of a machine.
    pub fn home(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Its node port.
    pub fn address(&self, last: u8) -> SocketAddr {
        self.subnet.at(last, 7440)
    }

    /// What a machine keeps under `file`.
    ///
    /// # Errors
    /// It is not there.
    pub fn kept(&self, name: &str, file: &str) -> anyhow::Result<String> {
        let path = self.home(name).join("data").join(file);
        std::fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))
    }

    /// What a machine said.
    pub fn said(&self, name: &str) -> String {
        std::fs::read_to_string(self.home(name).join("log")).unwrap_or_default()
    }

    /// The first node; returns when its tokens lie ready.
    ///
    /// # Errors
    /// It does not come up.
    pub async fn init(&mut self) -> anyhow::Result<()> {
        let (vip, listen) = (self.subnet.ip(100).to_string(), self.address(1).to_string());
        let tokens = self.home("tokens");
        let tokens_word = tokens.to_string_lossy().into_owned();
        self.spawn("a", &["init", "--name", "a", "--vip", &vip, "--listen", &listen, "--tokens", &tokens_word])?;
        until("the tokens are written", PATIENCE, || async { tokens.join("witness.token").exists().then_some(()) })
            .await
    }

    /// A token that `init` made, as text.
    ///
    /// # Errors
    /// There is none.
    pub fn token(&self, role: &str) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(self.home("tokens").join(format!("{role}.token")))?)
    }

    /// Another node, with the token of `init`.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn join(&mut self, name: &str, role: &str, last: u8) -> anyhow::Result<()> {
        let token = self.token(role)?;
        self.join_with(name, &token, &["--role", role], last)
    }

    /// Another node, with this token, at the first machine's join port.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn join_with(&mut self, name: &str, token: &str, more: &[&str], last: u8) -> anyhow::Result<()> {
        let (host, listen) = (self.subnet.at(1, 7442).to_string(), self.address(last).to_string());
        let line = ["join", &host, "--name", name, "--token", token, "--listen", &listen];
        self.spawn(name, &[&line, more].concat())
    }

    /// Starts a node again that was set up.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn revive(&mut self, name: &str) -> anyhow::Result<()> {
        let config = self.home(name).join("node.toml").to_string_lossy().into_owned();
        self.start_as(name, &["run", "--config", &config])
    }

    fn spawn(&mut self, name: &str, line: &[&str]) -> anyhow::Result<()> {
        let home = self.home(name);
        let (config, data) = (home.join("node.toml"), home.join("data"));
        let place = ["--config", &config.to_string_lossy(), "--data-dir", &data.to_string_lossy()].map(str::to_owned);
        let line: Vec<&str> = line.iter().copied().chain(place.iter().map(String::as_str)).collect();
        self.start_as(name, &line)
    }

    fn start_as(&mut self, name: &str, line: &[&str]) -> anyhow::Result<()> {
        let home = self.home(name);
        std::fs::create_dir_all(&home)?;
        let log = File::options().create(true).append(true).open(home.join("log"))?;
        let mut command = Command::new(binaries::path("tandemd")?);
        command.args(line).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        die_with_parent(&mut command);
        let process = command.spawn().with_context(|| format!("cannot start {name}"))?;
        self.machines.push(Machine { name: name.to_owned(), process });
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&mut self, name: &str) {
        for machine in self.machines.iter_mut().filter(|m| m.name == name) {
            let _ = machine.process.kill();
            let _ = machine.process.wait();
        }
        self.machines.retain(|m| m.name != name);
    }

    /// Waits until a machine's process ends by itself, and says with which code.
    ///
    /// # Errors
    /// It does not.
    pub async fn ended(&mut self, name: &str) -> anyhow::Result<i32> {
        let start = std::time::Instant::now();
        loop {
            let machine = self.machines.iter_mut().find(|m| m.name == name).context("it does not run")?;
            if let Some(status) = machine.process.try_wait()? {
                self.machines.retain(|m| m.name != name);
                return Ok(status.code().unwrap_or(-1));
            }
            ensure!(start.elapsed() < PATIENCE * 3, "{name} does not end; it said:\n{}", self.said(name));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Papers as a machine keeps them now.
    ///
    /// # Errors
    /// They are not there.
    pub fn papers(&self, name: &str, file: &str) -> anyhow::Result<Current> {
        let papers = Papers::parse(&self.kept(name, file)?)?;
        Ok(watch::channel(Arc::new(papers)).1)
    }

    /// tandemctl on the first machine: it shows that machine's certificate.
    ///
    /// # Errors
    /// It cannot be started, or does not end.
    pub async fn ctl(&self, args: &[&str]) -> anyhow::Result<Said> {
        self.ctl_with(&self.home("a").join("data/admin.pem"), args).await
    }

    /// tandemctl with a certificate.
    ///
    /// # Errors
    /// It cannot be started, or does not end.
    pub async fn ctl_with(&self, bundle: &Path, args: &[&str]) -> anyhow::Result<Said> {
        let mut command = tokio::process::Command::new(binaries::path("tandemctl")?);
        command.args(args).env_remove("TANDEM_NODES").env("TANDEM_BUNDLE", bundle);
        Said::of(command, args).await
    }

    /// The status, as programs read it.
    ///
    /// # Errors
    /// Nobody answers.
    pub async fn status(&self) -> anyhow::Result<Value> {
        let said = self.ctl(&["--json", "--timeout", "2s", "status"]).await?;
        ensure!(said.code == 0, "{said:?}");
        Ok(serde_json::from_str(&said.out)?)
    }

    /// Waits until there are so many nodes, all of them vote and answer, and there is a quorum.
    ///
    /// # Errors
    /// That does not come about in time.
    pub async fn settled(&self, voters: usize) -> anyhow::Result<Value> {
        let agreed = until("all nodes vote and answer", PATIENCE * 3, || async {
            let status = self.status().await.ok()?;
            let nodes = status["nodes"].as_array()?;
            let voting = nodes.iter().filter(|n| n["voter"] == true && n["reachable"] == true).count();
            (voting == voters && nodes.len() == voters && status["quorum"] == true).then_some(status)
        });
        let agreed = agreed.await;
        if agreed.is_err() {
            for machine in &self.machines {
                eprintln!("--- {} ---\n{}", machine.name, self.said(&machine.name));
            }
        }
        agreed
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        for machine in &mut self.machines {
            let _ = machine.process.kill();
            let _ = machine.process.wait();
        }
    }
}
