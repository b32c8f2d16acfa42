//! The demo's processes: written, started, killed, revived, and gone when the demo is.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context;

/// The virtual IP of the demo.
pub(super) const ADDRESS: &str = "127.0.0.100";
/// The nodes and their roles.
const NODES: [(&str, &str); 3] = [("a", "proxy"), ("b", "proxy"), ("w", "witness")];

/// Everything the demo started.
pub(super) struct Cluster {
    dir: tempfile::TempDir,
    exe: PathBuf,
    pub(super) nodes: Vec<Node>,
    pub(super) backends: Vec<SocketAddr>,
    /// Runs, but no upstream has it yet.
    pub(super) spare: SocketAddr,
    /// Where clients connect to.
    pub(super) front: SocketAddr,
    echoes: Vec<Child>,
}

/// One node of the demo.
pub(super) struct Node {
    pub(super) name: &'static str,
    pub(super) role: &'static str,
    pub(super) port: SocketAddr,
    child: Option<Child>,
}

impl Node {
    /// Its process, if it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }
}

/// Addresses that are free now; they are taken a moment later.
fn free_ports(n: usize) -> anyhow::Result<Vec<SocketAddr>> {
    let held: Vec<TcpListener> = (0..n).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    Ok(held.iter().map(TcpListener::local_addr).collect::<Result<_, _>>()?)
}

/// 8080 if it is free: easier to type.
fn front() -> anyhow::Result<SocketAddr> {
    let usual = TcpListener::bind((ADDRESS, 8080));
    let front =
        usual.or_else(|_| TcpListener::bind((ADDRESS, 0))).context("127.0.0.100 cannot be used on this machine")?;
    Ok(front.local_addr()?)
}

/// A child that dies with the demo, whatever ends it.
fn spawn(command: &mut Command, log: &Path) -> anyhow::Result<Child> {
    let log = File::options().create(true).append(true).open(log)?;
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    #[allow(unsafe_code)]
    // SAFETY: prctl is async-signal-safe and touches only the child.
    unsafe {
        command.pre_exec(|| {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            Ok(())
        });
    }
    Ok(command.spawn()?)
}

impl Cluster {
    /// Writes the files and starts everything; nothing is formed yet.
    pub(super) fn start() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("tandem-demo-").tempdir()?;
        let exe = std::env::current_exe()?;
        std::os::unix::fs::symlink(&exe, dir.path().join("tandemctl"))?;
        let ports = free_ports(NODES.len() + 4)?;
        let (node_ports, backends) = ports.split_at(NODES.len());
        let nodes = NODES.iter().zip(node_ports);
        let nodes = nodes.map(|(&(name, role), &port)| Node { name, role, port, child: None }).collect();
        let (spare, backends) = backends.split_last().context("four backends were asked for")?;
        let mut cluster =
            Self { dir, exe, nodes, backends: backends.to_vec(), spare: *spare, front: front()?, echoes: Vec::new() };
        cluster.write_files()?;
        for (i, address) in backends.iter().chain([spare]).enumerate() {
            let (address, name) = (address.to_string(), format!("chat-{}", i + 1));
            let log = cluster.dir.path().join("backends.log");
            let echo = spawn(Command::new(&cluster.exe).args(["echo", "--listen", &address, "--name", &name]), &log)?;
            cluster.echoes.push(echo);
        }
        for i in 0..cluster.nodes.len() {
            cluster.start_node(i)?;
        }
        Ok(cluster)
    }

    fn write_files(&self) -> anyhow::Result<()> {
        let peers: String = self
            .nodes
            .iter()
            .map(|n| format!("{} = {{ address = \"{}\", role = \"{}\" }}\n", n.name, n.port, n.role))
            .collect();
        for n in &self.nodes {
            let vip = if n.role == "proxy" { "[vip]\nprovider = \"bind\"\n" } else { "" };
            let text = format!(
                "cluster = \"demo\"\nname = \"{}\"\ndata_dir = \"{}\"\n[control]\nlisten = \"{}\"\n[peers]\n{peers}{vip}",
                n.name,
                self.dir.path().join(n.name).display(),
                n.port
            );
            std::fs::write(self.dir.path().join(format!("{}.toml", n.name)), text)?;
        }
        let backends: String =
            self.backends.iter().map(|b| format!("[[upstreams.chat.backends]]\naddress = \"{b}\"\n")).collect();
        let config = format!(
            "[listeners.web]\naddress = \"{}\"\n[routes.chat]\nupstream = \"chat\"\n[vips.main]\naddress = \"{ADDRESS}\"\n\
             [upstreams.chat]\nbalance = \"least_sessions\"\n{backends}",
            self.front
        );
        Ok(std::fs::write(self.config(), config)?)
    }

    /// The demo's config document.
    pub(super) fn config(&self) -> PathBuf {
        self.dir.path().join("demo.toml")
    }

    /// Where the logs are.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn start_node(&mut self, i: usize) -> anyhow::Result<()> {
        let node = &mut self.nodes[i];
        let config = self.dir.path().join(format!("{}.toml", node.name));
        let log = self.dir.path().join(format!("{}.log", node.name));
        let child = spawn(Command::new(&self.exe).args(["run", "--config"]).arg(config), &log)?;
        node.child = Some(child);
        Ok(())
    }

    /// SIGKILL, no goodbye.
    pub(super) fn kill(&mut self, name: &str) -> anyhow::Result<()> {
        let node = self.nodes.iter_mut().find(|n| n.name == name).context("no such node")?;
        if let Some(mut child) = node.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Starts every node that was killed; their names.
    pub(super) fn revive(&mut self) -> anyhow::Result<Vec<&'static str>> {
        let down: Vec<usize> = (0..self.nodes.len()).filter(|&i| self.nodes[i].child.is_none()).collect();
        for &i in &down {
            self.start_node(i)?;
        }
        Ok(down.into_iter().map(|i| self.nodes[i].name).collect())
    }

    /// tandemctl, ready for arguments, as a user would call it.
    pub(super) fn tandemctl(&self) -> Vec<String> {
        let ports: Vec<String> = self.nodes.iter().map(|n| n.port.to_string()).collect();
        vec![self.dir.path().join("tandemctl").display().to_string(), "--node".into(), ports.join(",")]
    }

    /// The words to paste that add the waiting backend.
    pub(super) fn add_spare(&self) -> Vec<String> {
        let mut words = self.tandemctl();
        words.extend(["backend", "add", "chat"].map(String::from));
        words.push(self.spare.to_string());
        words
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let children = self.nodes.iter_mut().filter_map(|n| n.child.as_mut()).chain(&mut self.echoes);
        for child in children {
            // It may be gone already; that is what we want.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
