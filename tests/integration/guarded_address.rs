//! A node that is killed leaves no address behind, and no process: its guard takes the address off and ends. Needs root.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tandem_tests::binaries;
use tandem_tests::clock::until;
use tandem_tests::cluster::{PATIENCE, ctl};

const ADDRESS: &str = "10.9.0.100";

/// A named namespace with an interface `here`; gone when dropped.
struct Netns(String);

impl Netns {
    fn new() -> Option<Self> {
        let netns = Self(format!("tdguard-{}", std::process::id()));
        if !ip(&format!("netns add {}", netns.0)).is_some_and(|made| made.status.success()) {
            // Past the test harness, which shows nothing of a test that passes.
            let mut stderr = std::io::stderr();
            writeln!(stderr, "SKIPPED: needs root and iproute2 to make a network namespace").unwrap();
            return None;
        }
        for line in [
            "link set lo up",
            "link add here type veth peer name there",
            "link set here up",
            "link set there up",
            "address add 10.9.0.1/24 dev here",
        ] {
            let done = ip(&format!("-n {} {line}", netns.0)).unwrap();
            assert!(done.status.success(), "ip {line}: {}", String::from_utf8_lossy(&done.stderr));
        }
        Some(netns)
    }

    fn has_address(&self) -> bool {
        let shown = ip(&format!("-n {} -4 -oneline address show dev here", self.0)).unwrap();
        String::from_utf8_lossy(&shown.stdout).contains(ADDRESS)
    }

    fn processes(&self) -> Vec<String> {
        let pids = ip(&format!("netns pids {}", self.0)).unwrap();
        String::from_utf8_lossy(&pids.stdout).split_whitespace().map(str::to_owned).collect()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        ip(&format!("netns del {}", self.0));
    }
}

fn ip(arguments: &str) -> Option<std::process::Output> {
    Command::new("ip").args(arguments.split_whitespace()).output().ok()
}

/// Killed and waited for at the end, whatever that is.
struct Killed(Child);

impl Killed {
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        self.kill();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_node_leaves_no_address_and_no_process() {
    let Some(netns) = Netns::new() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("node.toml");
    let text = format!(
        "cluster = \"test\"\nname = \"a\"\ndata_dir = \"{}\"\n[control]\nlisten = \"127.0.0.1:7440\"\n[peers]\n\
         a = {{ address = \"127.0.0.1:7440\" }}\n[vip]\nprovider = \"linux\"\ninterface = \"here\"\n[proxy]\nworkers = 1\n",
        dir.path().join("a").display()
    );
    std::fs::write(&file, text).unwrap();
    let mut tandemd = Command::new("ip");
    tandemd.args(["netns", "exec", &netns.0]).arg(binaries::path("tandemd").unwrap());
    tandemd.args(["run", "--config"]).arg(&file).stdin(Stdio::null());
    let mut tandemd = Killed(tandemd.spawn().unwrap());

    let socket = format!("unix:{}", dir.path().join("a/admin.sock").display());
    until("it takes the address", PATIENCE, || async {
        let said = ctl(&socket, &["vip", "add", "main", ADDRESS]).await.ok()?;
        (said.code == 0 || said.err.contains("exists")).then_some(())
    })
    .await
    .unwrap();
    until("it holds the address", PATIENCE, || async { netns.has_address().then_some(()) }).await.unwrap();
    assert_eq!(netns.processes().len(), 2, "tandemd and its guard");

    let killed = Instant::now();
    tandemd.kill();
    while netns.has_address() {
        assert!(
            killed.elapsed() < Duration::from_secs(1),
            "its guard leaves it there, and its kernel lifetime is longer"
        );
    }
    println!("gone {} ms after SIGKILL, seen by `ip`", killed.elapsed().as_millis());
    until("the guard has ended", PATIENCE, || async { netns.processes().is_empty().then_some(()) }).await.unwrap();
}
