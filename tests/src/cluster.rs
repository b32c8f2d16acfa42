//! A real cluster on loopback: two proxies and a witness as processes that can be killed, stopped and brought back.

use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use tandem_proto::admin::v1::StatusReply;
use tempfile::TempDir;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::admin::Admin;
use crate::binaries;
use crate::clock::until;
use crate::subnet::Subnet;

/// How long anything a cluster does by itself may take before a test calls it broken.
pub const PATIENCE: Duration = Duration::from_secs(15);

/// Clusters at work at once in one test process: more would measure the machine, not the product.
const AT_ONCE: u32 = 2;
static ROOM: Semaphore = Semaphore::const_new(AT_ONCE as usize);

/// Whether other clusters may run beside this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Company {
    /// Another one may.
    Shared,
    /// None: something is timed.
    Alone,
}

impl Company {
    /// Waits until there is room.
    pub(crate) async fn room(self) -> anyhow::Result<SemaphorePermit<'static>> {
        let wanted = if self == Self::Alone { AT_ONCE } else { 1 };
        Ok(ROOM.acquire_many(wanted).await?)
    }
}

/// A cluster under test. Ends with everything it started when dropped.
pub struct Cluster {
    /// Its addresses.
    pub subnet: Subnet,
    /// `a` and `b`, the proxies, and `w`, the witness.
    pub nodes: Vec<Node>,
    dir: TempDir,
    _room: SemaphorePermit<'static>,
}

impl Cluster {
    /// Starts three nodes with empty disks, and waits until they have formed a cluster.
    ///
    /// # Errors
    /// They do not form one in time.
    pub async fn start(company: Company) -> anyhow::Result<Self> {
        let mut cluster = Self::prepare(company).await?;
        for node in &mut cluster.nodes {
            node.start()?;
        }
        cluster.settled().await?;
        Ok(cluster)
    }

    /// The same with nothing started yet.
    ///
    /// # Errors
    /// The programs do not build, or there is no room on disk or loopback.
    pub async fn prepare(company: Company) -> anyhow::Result<Self> {
        let room = company.room().await?;
        let program = binaries::path("tandemd")?;
        let subnet = Subnet::claim()?;
        let dir = tempfile::Builder::new().prefix("tandem-test-").tempdir()?;
        let names = ["a", "b", "w"];
        let peers: Vec<(&str, SocketAddr)> =
            names.iter().zip(1..).map(|(n, last)| (*n, subnet.at(last, 7440))).collect();
        let nodes = peers
            .iter()
            .map(|(name, address)| Node::prepare(dir.path(), &program, name, *address, &peers))
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { subnet, nodes, dir, _room: room })
    }

    /// A place for the test's own files.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The address that one node at a time holds.
    pub fn vip(&self) -> SocketAddr {
        self.subnet.at(100, 8080)
    }

    /// The node with this name.
    ///
    /// # Errors
    /// There is none.
    pub fn node(&mut self, name: &str) -> anyhow::Result<&mut Node> {
        self.nodes.iter_mut().find(|n| n.name == name).with_context(|| format!("no node {name}"))
    }

    /// One more node, which asks the first three to let it in; not started yet. `more` goes before the tables of its
    /// `node.toml`; `last` is the last byte of its address.
    ///
    /// # Errors
    /// No room on disk.
    pub fn newcomer(&mut self, name: &str, last: u8, more: &str) -> anyhow::Result<&mut Node> {
        let address = self.subnet.at(last, 7440);
        let members: Vec<String> = self.nodes.iter().take(3).map(|n| format!("\"{}\"", n.address)).collect();
        let config = self.dir.path().join(format!("{name}-{last}.toml"));
        let data_dir = self.dir.path().join(format!("{name}-{last}"));
        let text = format!(
            "cluster = \"test\"\nname = \"{name}\"\ndata_dir = \"{}\"\njoin = [{}]\n{more}\n[control]\nlisten = \"{address}\"\n\n\
             [proxy]\nworkers = 1\n",
            data_dir.display(),
            members.join(", ")
        );
        std::fs::write(&config, text)?;
        let log = self.dir.path().join(format!("{name}-{last}.log"));
        let program = self.nodes.first().context("a cluster has nodes")?.program.clone();
        let node = Node { name: name.to_owned(), address, config, log, open_files: None, program, process: None };
        self.nodes.push(node);
        self.nodes.last_mut().context("it was pushed just now")
    }

    /// Connections to every node.
    ///
    /// # Errors
    /// Never in practice: the addresses are our own.
    pub fn admin(&self) -> anyhow::Result<Admin> {
        Admin::new(self.nodes.iter().map(|n| n.address))
    }

    /// Waits until there is a quorum and every running node is at one revision; the status then.
    ///
    /// # Errors
    /// That does not come about in time.
    pub async fn settled(&self) -> anyhow::Result<StatusReply> {
        let admin = self.admin()?;
        let running: Vec<SocketAddr> = self.nodes.iter().filter(|n| n.process.is_some()).map(|n| n.address).collect();
        until("all nodes agree", PATIENCE, || async {
            let status = admin.status_of(*running.first()?).await.ok()?;
            for address in &running {
                let (revision, _) = admin.config_of(*address).await.ok()?;
                if revision != status.revision {
                    return None;
                }
            }
            status.quorum.then_some(status)
        })
        .await
    }

    /// Waits until exactly one node says that it holds the address, and says which.
    ///
    /// # Errors
    /// None or more than one does, all the time.
    pub async fn holder(&self) -> anyhow::Result<String> {
        let admin = self.admin()?;
        until("one node holds the address", PATIENCE, || async {
            let status = admin.status().await.ok()?;
            let vip = status.vips.first()?;
            match vip.holders.as_slice() {
                [one] => Some(one.clone()),
                _ => None,
            }
        })
        .await
    }

    /// Applies a config with one upstream `chat` of these backends behind the address, and waits until it is held.
    ///
    /// # Errors
    /// tandemctl refuses it.
    pub async fn serve(&self, backends: &[SocketAddr], check: &str) -> anyhow::Result<()> {
        let file = self.dir.path().join("chat.toml");
        std::fs::write(&file, document(self.vip(), backends, check))?;
        let said = self.ctl(&["config", "apply", &file.to_string_lossy()]).await?;
        ensure!(said.code == 0, "config apply: {said:?}");
        self.holder().await?;
        Ok(())
    }

    /// Runs tandemctl, told of all nodes.
    ///
    /// # Errors
    /// It cannot be started, or does not end within half a minute.
    pub async fn ctl(&self, args: &[&str]) -> anyhow::Result<Said> {
        let nodes: Vec<String> = self.nodes.iter().map(|n| n.address.to_string()).collect();
        ctl(&nodes.join(","), args).await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            node.kill();
            if std::thread::panicking() {
                node.print_log();
            }
        }
    }
}

/// A config document: one listener and virtual IP at `vip`, one route, one upstream.
pub fn document(vip: SocketAddr, backends: &[SocketAddr], check: &str) -> String {
    let mut text = format!(
        "[listeners.web]\naddress = \"{vip}\"\n\n[vips.main]\naddress = \"{}\"\n\n\
         [routes.all]\nupstream = \"chat\"\n\n[upstreams.chat]\ncheck = {{ kind = \"{check}\" }}\n",
        vip.ip()
    );
    for backend in backends {
        text.push_str(&format!("[[upstreams.chat.backends]]\naddress = \"{backend}\"\n"));
    }
    text
}

/// What a program said, and how it ended.
#[derive(Debug)]
pub struct Said {
    /// Its exit code; -1 if a signal ended it.
    pub code: i32,
    /// Its data.
    pub out: String,
    /// Its talk.
    pub err: String,
}

/// Runs tandemctl, told of `nodes` (comma separated).
///
/// # Errors
/// It cannot be started, or does not end within half a minute.
pub async fn ctl(nodes: &str, args: &[&str]) -> anyhow::Result<Said> {
    let mut command = tokio::process::Command::new(binaries::path("tandemctl")?);
    // This machine may be a node itself, with a certificate that is nobody's here.
    command.args(args).env("TANDEM_NODES", nodes).env("TANDEM_BUNDLE", "");
    Said::of(command, args).await
}

impl Said {
    /// Runs a program to its end.
    ///
    /// # Errors
    /// It cannot be started, or does not end within half a minute.
    pub async fn of(mut command: tokio::process::Command, args: &[&str]) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(Duration::from_secs(30), command.output())
            .await
            .with_context(|| format!("tandemctl {args:?} does not end"))??;
        Ok(Self {
            code: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// One `tandemd`, running or not.
pub struct Node {
    /// What its `node.toml` calls it.
    pub name: String,
    /// Its node port.
    pub address: SocketAddr,
    /// Its `node.toml`.
    pub config: PathBuf,
    /// What it said since its first start.
    pub log: PathBuf,
    /// How many files it may have open from its next start on; `None`: as many as the test.
    pub open_files: Option<u32>,
    program: PathBuf,
    process: Option<Child>,
}

impl Node {
    fn prepare(
        dir: &Path,
        program: &Path,
        name: &str,
        address: SocketAddr,
        peers: &[(&str, SocketAddr)],
    ) -> anyhow::Result<Self> {
        let config = dir.join(format!("{name}.toml"));
        std::fs::write(&config, node_toml("test", name, &dir.join(name), address, peers))?;
        Ok(Self {
            name: name.to_owned(),
            address,
            config,
            log: dir.join(format!("{name}.log")),
            open_files: None,
            program: program.to_owned(),
            process: None,
        })
    }

    /// Starts it, with whatever is on its disk. It dies with the calling thread, so call it from one that lasts.
    ///
    /// # Errors
    /// It runs already, or cannot be started.
    pub fn start(&mut self) -> anyhow::Result<()> {
        ensure!(self.process.is_none(), "{} runs already", self.name);
        let log = File::options().create(true).append(true).open(&self.log)?;
        let mut command = match self.open_files {
            None => Command::new(&self.program),
            // The shell sets both limits, soft and hard, for what it becomes.
            Some(n) => {
                let mut shell = Command::new("sh");
                shell.args(["-c", &format!("ulimit -n {n} && exec \"$0\" \"$@\"")]).arg(&self.program);
                shell
            }
        };
        command.arg("run").arg("--config").arg(&self.config);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        die_with_parent(&mut command);
        self.process = Some(command.spawn().with_context(|| format!("cannot start {}", self.name))?);
        Ok(())
    }

    /// SIGKILL: no goodbye of any kind. Does nothing to a node that does not run.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.process.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Errors
    /// It does not end in time.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.ask_to_end();
        self.ended().await.map(|_| ())
    }

    /// SIGTERM, without waiting.
    pub fn ask_to_end(&self) {
        self.signal(libc::SIGTERM);
    }

    /// SIGSTOP: it hangs.
    pub fn freeze(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// SIGCONT: it wakes, late.
    pub fn thaw(&self) {
        self.signal(libc::SIGCONT);
    }

    /// Waits until the process ends by itself, and says with which code.
    ///
    /// # Errors
    /// It does not.
    pub async fn ended(&mut self) -> anyhow::Result<i32> {
        let child = self.process.as_mut().context("it does not run")?;
        let start = std::time::Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            ensure!(start.elapsed() < PATIENCE, "{} does not end", self.name);
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        self.process = None;
        Ok(status.code().unwrap_or(-1))
    }

    fn signal(&self, signal: i32) {
        let Some(pid) = self.process.as_ref().and_then(|p| i32::try_from(p.id()).ok()) else { return };
        // SAFETY: plain system call; the pid is that of our own child, which has not been waited for, so it is still his.
        #[allow(unsafe_code)]
        unsafe {
            libc::kill(pid, signal);
        }
    }

    /// The time its threads have worked so far.
    ///
    /// # Errors
    /// It does not run.
    pub fn busy(&self) -> anyhow::Result<Duration> {
        let stat = self.proc("stat")?;
        // The name in parentheses may hold anything; utime and stime are the 14th and 15th field of all.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: u64 = fields.skip(11).take(2).filter_map(|n| n.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(ticks * 10))
    }

    /// The memory it has now, in bytes.
    ///
    /// # Errors
    /// It does not run.
    pub fn memory(&self) -> anyhow::Result<u64> {
        let status = self.proc("status")?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.split_whitespace().next().context("no number")?.parse()?;
        Ok(kib << 10)
    }

    /// What the kernel says of its process.
    fn proc(&self, file: &str) -> anyhow::Result<String> {
        let pid = self.process.as_ref().context("it does not run")?.id();
        Ok(std::fs::read_to_string(format!("/proc/{pid}/{file}"))?)
    }

    /// Everything it said.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn print_log(&self) {
        let said = self.said();
        let lines: Vec<&str> = said.lines().collect();
        eprintln!("--- last words of {} ---", self.name);
        for line in &lines[lines.len().saturating_sub(60)..] {
            eprintln!("{line}");
        }
    }
}

/// A `node.toml` for loopback.
pub fn node_toml(
    cluster: &str,
    name: &str,
    data_dir: &Path,
    address: SocketAddr,
    peers: &[(&str, SocketAddr)],
) -> String {
    let role = |name: &str| if name.starts_with('w') { ", role = \"witness\"" } else { "" };
    let peers: String =
        peers.iter().map(|(n, address)| format!("{n} = {{ address = \"{address}\"{} }}\n", role(n))).collect();
    let provider = if name.starts_with('w') { "none" } else { "bind" };
    format!(
        "cluster = \"{cluster}\"\nname = \"{name}\"\ndata_dir = \"{}\"\n\n[control]\nlisten = \"{address}\"\n\n\
         [peers]\n{peers}\n[vip]\nprovider = \"{provider}\"\n\n[proxy]\nworkers = 1\n",
        data_dir.display()
    )
}

/// A test that is itself killed must leave nothing behind.
pub fn die_with_parent(command: &mut Command) {
    // SAFETY: between fork and exec only one async-signal-safe system call is made, which touches no memory.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
}
