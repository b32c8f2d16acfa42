//! keepalived and nginx on the same machines, under the same faults: what operators run today.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;
use tandem_tests::clock::{now, until};
use tandem_tests::cluster::die_with_parent;
use tandem_tests::story::percentile;
use tempfile::TempDir;

use super::eyes::PROXIES;
use super::figures::Figures;
use super::ground::{BACKENDS, Cut, Ground, Net, VIP};
use super::nodes::PATIENCE;
use super::pause::{Paused, family};
use super::stage::backends;
use super::watching::{First, Watching};

/// Longer than its slowest failover.
const LIMIT: Duration = Duration::from_secs(8);
const LINGER: Duration = Duration::from_millis(700);
/// How long the Ethernet is split.
const SPLIT: Duration = Duration::from_secs(6);

/// How it is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Adverts {
    /// As it comes.
    EachSecond,
    /// VRRPv3, as fast as is recommended.
    EachTenth,
}

impl Adverts {
    fn name(self) -> &'static str {
        match self {
            Self::EachSecond => "keepalived, default (adverts each 1 s)",
            Self::EachTenth => "keepalived, tuned (VRRPv3, adverts each 0.1 s)",
        }
    }
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blow {
    Kill,
    Power,
    Freeze,
    Split,
}

impl Blow {
    fn title(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Power => "power",
            Self::Freeze => "freeze",
            Self::Split => "L2 split and heal",
        }
    }
}

/// What clients saw with one set-up.
#[derive(Debug, Serialize)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) rows: Vec<PeerRow>,
}

/// Of one fault.
#[derive(Debug, Serialize)]
pub(crate) struct PeerRow {
    pub(crate) fault: &'static str,
    pub(crate) broke: Vec<Figures>,
    pub(crate) mended: Vec<Figures>,
}

impl Peer {
    pub(crate) const HEAD: [&str; 9] =
        ["set-up", "fault", "runs", "out p50", "p90", "max", "broken", "two, during the fault", "two, after healing"];

    pub(crate) const ABOUT: &str = "Same network, clients, backends and instruments; nginx as the WebSocket proxy on both machines, both keepalived \
        BACKUP with `nopreempt`, priorities 150 and 100, the address as /32. *kill*: SIGKILL of keepalived and nginx; *freeze*: cgroup \
        freezer on both; *power* and *split*: nothing passes the switch to or from the master; the split lasts 6 s. keepalived \
        has no majority to ask, so the master alone on its island keeps the address, and one that is killed leaves it on the interface.\n\n";

    pub(crate) fn cells(&self) -> Vec<Vec<String>> {
        let row = |row: &PeerRow| {
            let mut out: Vec<u64> = row.broke.iter().map(|f| f.out_ms).collect();
            out.sort_unstable();
            let two = |of: &[Figures]| {
                let worst = |get: fn(&Figures) -> u64| of.iter().map(get).max().unwrap_or(0);
                format!("{} / {}", worst(|f| f.two_had_ms), worst(|f| f.two_answered_ms))
            };
            let mut cells = vec![self.name.to_owned(), row.fault.to_owned(), row.broke.len().to_string()];
            cells.extend([50, 90, 100].map(|p| percentile(&out, p).to_string()));
            cells.push(row.broke.iter().map(|f| f.broken).max().unwrap_or(0).to_string());
            cells.extend([two(&row.broke), two(&row.mended)]);
            cells
        };
        self.rows.iter().map(row).collect()
    }
}

/// Tries both set-ups.
///
/// # Errors
/// keepalived or nginx is not on this machine, or does not come back.
pub(crate) async fn run(runs: usize) -> anyhow::Result<Vec<Peer>> {
    for (program, package) in [("keepalived", "keepalived"), ("nginx", "nginx-light")] {
        if Command::new(program).arg("-v").stderr(Stdio::null()).stdout(Stdio::null()).status().is_err() {
            bail!("{program} is not on this machine: apt-get install {package}");
        }
    }
    let mut all = Vec::new();
    for adverts in [Adverts::EachSecond, Adverts::EachTenth] {
        let mut pair = Pair::open(adverts).await?;
        let mut rows = Vec::new();
        for blow in [Blow::Kill, Blow::Power, Blow::Freeze, Blow::Split] {
            let mut row = PeerRow { fault: blow.title(), broke: Vec::new(), mended: Vec::new() };
            // It is known well enough: a fifth of our own.
            for n in 1..=runs.div_ceil(5) {
                eprintln!("drill: {}: {} ({n} of {})", adverts.name(), blow.title(), runs.div_ceil(5));
                let (broke, mended) = pair.round(blow).await?;
                row.broke.push(broke);
                row.mended.push(mended);
            }
            rows.push(row);
        }
        all.push(Peer { name: adverts.name(), rows });
    }
    Ok(all)
}

/// Two machines with both on each. Everything ends when dropped.
struct Pair {
    processes: Vec<(&'static str, Child)>,
    watching: Watching,
    _backends: Vec<tandem_tests::peers::Backend>,
    dir: TempDir,
    adverts: Adverts,
    ground: Ground,
}

impl Drop for Pair {
    fn drop(&mut self) {
        for (_, process) in &mut self.processes {
            for pid in family(process.id()) {
                kill(pid);
            }
            let _ = process.wait();
        }
    }
}

impl Pair {
    async fn open(adverts: Adverts) -> anyhow::Result<Self> {
        let ground = Ground::new().await?;
        let backends = backends(&ground).await?;
        let watching = Watching::begin(&ground).await?;
        let dir = tempfile::Builder::new().prefix("tandem-drill-").tempdir()?;
        let mut pair = Self { processes: Vec::new(), watching, _backends: backends, dir, adverts, ground };
        for machine in PROXIES {
            pair.start(machine).await?;
        }
        pair.watching.traffic.calm(0, PATIENCE).await?;
        Ok(pair)
    }

    async fn start(&mut self, machine: &'static str) -> anyhow::Result<()> {
        let home = self.dir.path().join(machine);
        std::fs::create_dir_all(&home)?;
        std::fs::write(home.join("nginx.conf"), nginx(&home))?;
        std::fs::write(home.join("keepalived.conf"), keepalived(machine, self.adverts))?;
        let at = |file: &str| home.join(file).to_string_lossy().into_owned();
        for stale in ["keepalived.pid", "vrrp.pid"] {
            // keepalived that was killed would find itself running already.
            let _ = std::fs::remove_file(home.join(stale));
        }
        let nginx = ["-p".to_owned(), at(""), "-c".to_owned(), at("nginx.conf")];
        let keepalived = [
            "--dont-fork".to_owned(),
            "--vrrp".to_owned(),
            "--log-console".to_owned(),
            format!("--use-file={}", at("keepalived.conf")),
            format!("--pid={}", at("keepalived.pid")),
            format!("--vrrp_pid={}", at("vrrp.pid")),
        ];
        self.spawn(machine, "nginx", &nginx).await?;
        self.spawn(machine, "keepalived", &keepalived).await
    }

    async fn spawn(&mut self, machine: &'static str, program: &str, line: &[String]) -> anyhow::Result<()> {
        let path: PathBuf = self.dir.path().join(machine).join(format!("{program}.log"));
        let log = File::options().create(true).append(true).open(path)?;
        let mut command = Command::new(program);
        command.args(line).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        die_with_parent(&mut command);
        let child = self.ground.at(machine).run(async move { command.spawn() }).await?;
        self.processes.push((machine, child.with_context(|| format!("cannot start {program}"))?));
        Ok(())
    }

    fn family(&self, machine: &str) -> Vec<u32> {
        self.processes.iter().filter(|(m, _)| *m == machine).flat_map(|(_, p)| family(p.id())).collect()
    }

    async fn round(&mut self, blow: Blow) -> anyhow::Result<(Figures, Figures)> {
        self.watching.traffic.calm(0, PATIENCE).await?;
        let master = until("one has the address", PATIENCE, || async {
            match self.watching.eyes.holders()[..] {
                [one] => Some(one),
                _ => None,
            }
        })
        .await?;
        let pids = self.family(master);
        let ground = &self.ground;
        let strike = async {
            let cuts = [Net::Lan, Net::Ctl].into_iter().flat_map(|net| Cut::off(master, net));
            match blow {
                Blow::Kill => pids.iter().copied().for_each(kill),
                Blow::Freeze => return Ok(Some(Paused::frozen(&pids)?)),
                Blow::Power => ground.cut(cuts).await?,
                Blow::Split => {
                    ground.cut(cuts).await?;
                    tokio::time::sleep(SPLIT).await;
                }
            }
            Ok(None)
        };
        let (broke, paused) = self.watching.measure(First::Calm, LINGER, LIMIT, strike).await?;
        let begun = now();
        if blow == Blow::Kill {
            for (_, process) in self.processes.iter_mut().filter(|(m, _)| *m == master) {
                let _ = process.wait();
            }
            self.processes.retain(|(m, _)| *m != master);
            // What it left behind: who mends it by hand takes this off first.
            let _ = self.ground.at(master).ip(&format!("address del {VIP}/32 dev lan")).await;
            self.start(master).await?;
        }
        let ground = &self.ground;
        let mend = async {
            drop(paused);
            ground.heal().await
        };
        // Times are as good as they get; and a master alone on its island keeps the address until this.
        let (mended, ()) = self.watching.measure(First::Anyhow, LINGER * 2, PATIENCE, mend).await?;
        self.watching.traffic.calm(begun, PATIENCE).await?;
        Ok((broke, mended))
    }
}

fn kill(pid: u32) {
    let Ok(pid) = i32::try_from(pid) else { return };
    // SAFETY: plain system call; the process is our child or a child of one, which has not been waited for.
    #[allow(unsafe_code)]
    unsafe {
        libc::kill(pid, libc::SIGKILL);
    }
}

fn keepalived(machine: &str, adverts: Adverts) -> String {
    let priority = if machine == PROXIES[0] { 150 } else { 100 };
    let (version, interval) = match adverts {
        Adverts::EachSecond => (2, "1"),
        Adverts::EachTenth => (3, "0.1"),
    };
    format!(
        "global_defs {{\n  vrrp_version {version}\n}}\nvrrp_instance main {{\n  state BACKUP\n  nopreempt\n  interface lan\n  \
         virtual_router_id 77\n  priority {priority}\n  advert_int {interval}\n  virtual_ipaddress {{\n    {VIP}/32 dev lan\n  }}\n}}\n"
    )
}

fn nginx(home: &Path) -> String {
    let home = home.display();
    let servers: String = BACKENDS.iter().map(|(_, address)| format!("server {address}:9000; ")).collect();
    let places: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("  {kind}_temp_path {home}/{kind};\n"))
        .collect();
    format!(
        "daemon off;\nmaster_process off;\npid {home}/nginx.pid;\nerror_log {home}/error.log;\nevents {{ worker_connections 8192; }}\n\
         http {{\n  access_log off;\n{places}  upstream chat {{ {servers}}}\n  server {{\n    listen 80;\n    location / {{\n      \
         proxy_pass http://chat;\n      proxy_http_version 1.1;\n      proxy_set_header Upgrade $http_upgrade;\n      \
         proxy_set_header Connection upgrade;\n      proxy_read_timeout 1h;\n      proxy_connect_timeout 1s;\n    }}\n  }}\n}}\n"
    )
}
