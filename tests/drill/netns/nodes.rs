//! Two proxies and a witness, made as an operator makes them (`tandemd init`, `tandemd join`), each on its machine.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;
use tandem_proto::papers::{Current, Papers};
use tandem_tests::binaries;
use tandem_tests::clock::until;
use tandem_tests::cluster::{Said, die_with_parent};
use tempfile::TempDir;
use tokio::sync::watch;

use super::ground::{BACKENDS, Ground, TARGET, VIP, control};
use super::lies::{self, Lies};
use super::pause::family;

/// How long anything a cluster does by itself may take before the drill is given up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The nodes, in the order in which they are asked.
pub(crate) const NODES: [&str; 3] = ["a", "b", "w"];
/// Room on each node's disk.
const DISK_MB: u32 = 64;
/// What of consensus is logged besides what operators see: when it votes, and who wins.
const LEVELS: &str = "info,openraft=error,openraft::engine::engine_impl=info,\
                      openraft::engine::handler::server_state_handler=info,h2=warn,hyper=warn,tonic=warn";

/// The cluster. Everything ends when dropped.
pub(crate) struct Nodes {
    nodes: Vec<Node>,
    dir: TempDir,
}

struct Node {
    name: &'static str,
    lies: Lies,
    process: Option<Child>,
}

impl Nodes {
    /// Three machines with empty disks, and then a cluster that serves.
    ///
    /// # Errors
    /// They do not form one in time.
    pub(crate) async fn form(ground: &Ground, timers: &str) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("tandem-drill-").tempdir()?;
        let library = lies::build(dir.path()).await?;
        let mut nodes = Vec::new();
        for name in NODES {
            let home = dir.path().join(name);
            std::fs::create_dir_all(home.join("data"))?;
            ground.at(name).small_disk(&home.join("data"), DISK_MB).await?;
            nodes.push(Node { name, lies: Lies::none(&library, home.join("lies"))?, process: None });
        }
        let mut cluster = Self { nodes, dir };
        let tokens = cluster.dir.path().join("tokens");
        let words = tokens.to_string_lossy().into_owned();
        let vip = format!("{VIP}@lan");
        let line = ["init", "--name", "a", "--cluster", "drill", "--vip", &vip, "--tokens", &words, "--timers", timers];
        cluster.found(ground, "a", &line).await?;
        until("the tokens are written", PATIENCE, || async { tokens.join("witness.token").exists().then_some(()) })
            .await?;
        let host = control("a").context("a node")?.to_string();
        for (name, token, more) in [("b", "proxy", ["--interface", "lan"]), ("w", "witness", ["--role", "witness"])] {
            let token = tokens.join(format!("{token}.token")).to_string_lossy().into_owned();
            let line = ["join", &host, "--name", name, "--token-file", &token, more[0], more[1]];
            cluster.found(ground, name, &line).await?;
        }
        cluster.take_papers(ground).await?;
        cluster.settled(ground).await?;
        cluster.configure(ground).await?;
        Ok(cluster)
    }

    /// Its first start, by a line to which its places are added.
    async fn found(&mut self, ground: &Ground, name: &'static str, line: &[&str]) -> anyhow::Result<()> {
        let home = self.home(name);
        let listen = format!("{}:7440", control(name).context("a node")?);
        let (config, data) = (home.join("node.toml"), home.join("data"));
        let (config, data) = (config.to_string_lossy(), data.to_string_lossy());
        let places = ["--listen", &listen, "--config", &config, "--data-dir", &data];
        self.spawn(ground, name, &[line, &places[..]].concat()).await
    }

    /// The first node's administrator's certificate, for whoever asks from another machine.
    async fn take_papers(&self, ground: &Ground) -> anyhow::Result<()> {
        let kept = self.home("a").join("data/admin.pem");
        let text = ground.at("a").run(async move { std::fs::read_to_string(&kept) }).await??;
        Ok(std::fs::write(self.dir.path().join("admin.pem"), text)?)
    }

    async fn configure(&self, ground: &Ground) -> anyhow::Result<()> {
        let mut text = format!(
            "[vips.main]\naddress = \"{VIP}\"\n\n[listeners.web]\naddress = \"{TARGET}\"\n\n[routes.all]\nupstream = \"chat\"\n\n\
             [upstreams.chat]\nbalance = \"least_sessions\"\ncheck = {{ kind = \"tcp\", interval = \"500ms\", timeout = \"300ms\" }}\n"
        );
        for (_, address) in BACKENDS {
            text.push_str(&format!("[[upstreams.chat.backends]]\naddress = \"{address}:9000\"\n"));
        }
        let file = self.dir.path().join("chat.toml");
        std::fs::write(&file, text)?;
        self.must(ground, &["config", "apply", &file.to_string_lossy()]).await?;
        self.must(ground, &["log", "set", LEVELS]).await.map(|_| ())
    }

    /// The directory of a node; its disk is in it, and only its own machine sees that.
    pub(crate) fn home(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Starts a node with whatever is on its disk.
    ///
    /// # Errors
    /// It runs already, or cannot be started.
    pub(crate) async fn start(&mut self, ground: &Ground, name: &'static str) -> anyhow::Result<()> {
        let config = self.home(name).join("node.toml");
        self.spawn(ground, name, &["run", "--config", &config.to_string_lossy()]).await
    }

    async fn spawn(&mut self, ground: &Ground, name: &'static str, line: &[&str]) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.home(name).join("log"))?;
        let node = self.node(name)?;
        ensure!(node.process.is_none(), "{name} runs already");
        let mut command = Command::new(binaries::path("tandemd")?);
        // Its lines are read by a program.
        command.args(line).envs(node.lies.environment()).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Ctrl-C is for the drill.
        command.process_group(0);
        die_with_parent(&mut command);
        let spawned = ground.at(name).run(async move { command.spawn() }).await?;
        node.process = Some(spawned.with_context(|| format!("cannot start {name}"))?);
        Ok(())
    }

    fn node(&mut self, name: &str) -> anyhow::Result<&mut Node> {
        self.nodes.iter_mut().find(|n| n.name == name).with_context(|| format!("no node {name}"))
    }

    /// What the node is made to believe.
    ///
    /// # Errors
    /// There is no such node.
    pub(crate) fn lies(&mut self, name: &str) -> anyhow::Result<&Lies> {
        Ok(&self.node(name)?.lies)
    }

    /// Whether it has a process, frozen or not.
    pub(crate) fn runs(&self, name: &str) -> bool {
        self.nodes.iter().any(|n| n.name == name && n.process.is_some())
    }

    /// The number of its process.
    ///
    /// # Errors
    /// It does not run.
    pub(crate) fn pid(&mut self, name: &str) -> anyhow::Result<u32> {
        Ok(self.node(name)?.process.as_ref().with_context(|| format!("{name} does not run"))?.id())
    }

    /// Its process and all that came of it.
    ///
    /// # Errors
    /// It does not run.
    pub(crate) fn all_of(&mut self, name: &str) -> anyhow::Result<Vec<u32>> {
        Ok(family(self.pid(name)?))
    }

    /// SIGKILL. Does nothing to a node that does not run.
    ///
    /// # Errors
    /// There is no such node.
    pub(crate) fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        if let Some(mut child) = self.node(name)?.process.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        Ok(())
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// It does not run.
    pub(crate) fn signal(&mut self, name: &str, signal: i32) -> anyhow::Result<()> {
        let pid = i32::try_from(self.pid(name)?)?;
        // SAFETY: plain system call; the pid is that of our own child, which has not been waited for, so it is still his.
        #[allow(unsafe_code)]
        unsafe {
            libc::kill(pid, signal);
        }
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// It does not end.
    pub(crate) async fn stop(&mut self, name: &'static str) -> anyhow::Result<()> {
        self.signal(name, libc::SIGTERM)?;
        let begun = Instant::now();
        loop {
            let child = self.node(name)?.process.as_mut().context("it has just been signalled")?;
            if child.try_wait()?.is_some() {
                self.node(name)?.process = None;
                return Ok(());
            }
            ensure!(begun.elapsed() < PATIENCE, "{name} does not end after SIGTERM");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The certificate with which to administer the cluster.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn papers(&self) -> anyhow::Result<Current> {
        let text = std::fs::read_to_string(self.dir.path().join("admin.pem"))?;
        Ok(watch::channel(Arc::new(Papers::parse(&text)?)).1)
    }

    /// tandemctl on the operator's desk.
    ///
    /// # Errors
    /// It cannot be started, or does not end.
    pub(crate) async fn ctl(&self, ground: &Ground, args: &[&str]) -> anyhow::Result<Said> {
        let nodes: Vec<String> = NODES.iter().filter_map(|n| Some(format!("{}:7440", control(n)?))).collect();
        let mut command = tokio::process::Command::new(binaries::path("tandemctl")?);
        command.args(args).env("TANDEM_NODES", nodes.join(",")).env("TANDEM_BUNDLE", self.dir.path().join("admin.pem"));
        let words: Vec<String> = args.iter().map(ToString::to_string).collect();
        let run = async move {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            Said::of(command, &words).await
        };
        ground.at("desk").run(run).await?
    }

    /// The same, which must succeed.
    ///
    /// # Errors
    /// It does not.
    pub(crate) async fn must(&self, ground: &Ground, args: &[&str]) -> anyhow::Result<Said> {
        let said = self.ctl(ground, args).await?;
        ensure!(said.code == 0, "tandemctl {}: {}", args.join(" "), said.err.trim());
        Ok(said)
    }

    /// What the cluster says of itself.
    ///
    /// # Errors
    /// Nobody answers.
    pub(crate) async fn status(&self, ground: &Ground) -> anyhow::Result<Value> {
        let said = self.must(ground, &["--json", "--timeout", "1s", "status"]).await?;
        Ok(serde_json::from_str(&said.out)?)
    }

    /// The term, which each election raises.
    ///
    /// # Errors
    /// Nobody answers, or it is not said.
    pub(crate) async fn term(&self, ground: &Ground) -> anyhow::Result<u64> {
        self.status(ground).await?["term"].as_u64().context("the status says no term")
    }

    /// Waits until all three vote, answer, and are at one revision.
    ///
    /// # Errors
    /// That does not come about; with what they said last.
    pub(crate) async fn settled(&self, ground: &Ground) -> anyhow::Result<()> {
        let whole = until("three nodes vote, answer and agree", PATIENCE, || async {
            let status = self.status(ground).await.ok()?;
            let nodes = status["nodes"].as_array()?;
            let well = |n: &&Value| n["voter"] == true && n["reachable"] == true && n["lagging"] != true;
            (nodes.iter().filter(well).count() == NODES.len() && status["quorum"] == true).then_some(())
        })
        .await;
        if whole.is_err() {
            self.print_logs();
        }
        whole
    }

    /// What the nodes said last, to stderr.
    pub(crate) fn print_logs(&self) {
        for node in &self.nodes {
            let said = self.said(node.name);
            let lines: Vec<&str> = said.lines().filter(|l| !l.contains("openraft")).collect();
            eprintln!("--- last words of {} ---", node.name);
            for line in &lines[lines.len().saturating_sub(30)..] {
                eprintln!("{line}");
            }
        }
    }

    /// Everything a node said.
    pub(crate) fn said(&self, name: &str) -> String {
        std::fs::read_to_string(self.home(name).join("log")).unwrap_or_default()
    }

    /// Where a file of the node's disk is.
    pub(crate) fn on_disk(&self, name: &str, file: &str) -> PathBuf {
        self.home(name).join("data").join(file)
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(child) = &mut node.process {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}
