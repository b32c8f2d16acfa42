//! The guard on a real network. Another process of this test program plays tandemd, and is killed, stopped, frozen and starved;
//! the kernel says when the address was gone. Needs root.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::AddressAttribute;

use super::keeper::Settings;
use super::keeper::tests::World;
use super::lease::RENEW_EVERY;
use super::namespace::{Namespace, VIP, cable, has_vip, here, skipped, until, vip};
use crate::control::Role;

/// As the default timers have it.
const LEASE: Duration = Duration::from_millis(300);
const MARGIN: Duration = Duration::from_millis(60);
/// How often a majority acknowledges.
const BEAT: Duration = Duration::from_millis(50);
/// A guard that works at once (10 ms, most of it tandemd's own end), on a machine that does other things too.
const AT_ONCE: Duration = Duration::from_millis(50);
const ROUNDS: usize = 5;

/// What `Guard::start` starts in tests.
#[test]
#[ignore = "no test: the guard process of the others"]
fn as_guard() {
    // Started by a person it has no channel, and says so.
    let _ = super::guard(std::io::stdin().as_fd().try_clone_to_owned().unwrap());
}

const DAEMON: &str = "TANDEM_TEST_DAEMON";

/// Leads, with a majority that acknowledges, until it is ended.
#[test]
#[ignore = "no test: the daemon of the others"]
fn as_daemon() {
    if std::env::var_os(DAEMON).is_none() {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::new(Role::Proxy, &[VIP]);
        let settings = Settings { provider: here(), lease: LEASE, margin: MARGIN };
        let _keeper = world.start_by(settings).unwrap();
        loop {
            world.lead(7);
            tokio::time::sleep(BEAT).await;
        }
    });
}

/// A daemon that holds, in the namespace of a node.
struct Daemon {
    process: Child,
    node: Namespace,
    _neighbour: Namespace,
    gone: mpsc::Receiver<Instant>,
}

impl Daemon {
    fn start() -> Option<Self> {
        let (node, neighbour) = cable()?;
        let gone = deletions(&node);
        let process = node.run(|| async {
            let me = std::env::current_exe().unwrap();
            let mut daemon = Command::new(me);
            daemon.args(["vip::guarding::as_daemon", "--exact", "--ignored", "--nocapture"]).env(DAEMON, "1");
            daemon.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap()
        });
        let daemon = Self { process, node, _neighbour: neighbour, gone };
        daemon.node.run(|| until("it holds", has_vip));
        Some(daemon)
    }

    fn signal(&self, signal: libc::c_int) -> Instant {
        send(self.process.id(), signal)
    }

    /// Its guard, while it has one.
    fn guard(&self) -> u32 {
        let pid = self.process.id();
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let children: BTreeSet<u32> = tasks
            .filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok())
            .flat_map(|list| list.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<u32>>())
            .filter(|child| !fs::read_to_string(format!("/proc/{child}/stat")).is_ok_and(|s| s.contains(") Z ")))
            .collect();
        assert_eq!(children.len(), 1, "one guard: {children:?}");
        children.into_iter().next().unwrap()
    }

    /// Takes its guard away, and waits until another one is at work.
    fn loses(&self, guard: u32, signal: libc::c_int) {
        let lost = send(guard, signal);
        let patience = || assert!(lost.elapsed() < Duration::from_secs(10), "no other guard comes");
        while self.is_guarded_by(guard) {
            patience();
            std::thread::sleep(Duration::from_millis(5));
        }
        tell("a lost guard", vec![lost.elapsed()]);
        // Renewals ask it: two of them later it has answered.
        std::thread::sleep(RENEW_EVERY * 2);
        assert_ne!(self.guard(), guard);
    }

    /// How long after `since` the kernel said that the address is gone.
    fn gone_after(&self, since: Instant) -> Duration {
        let gone = self.gone.recv_timeout(Duration::from_secs(10)).expect("it is never gone");
        assert!(gone >= since, "it was gone before anything was done");
        gone - since
    }

    /// The same where it may have been gone and come back before.
    fn gone_at_last_after(&self, since: Instant) -> Duration {
        loop {
            let gone = self.gone.recv_timeout(Duration::from_secs(10)).expect("it is never gone");
            if gone >= since {
                return gone - since;
            }
        }
    }

    /// Whether this is its guard, and alive.
    fn is_guarded_by(&self, guard: u32) -> bool {
        let stat = fs::read_to_string(format!("/proc/{guard}/stat"));
        let parent = format!(" {} ", self.process.id());
        stat.is_ok_and(|stat| stat.contains(&parent) && !stat.contains(") Z "))
    }

    fn holds(&self) -> bool {
        self.node.run(|| async { has_vip() })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[allow(unsafe_code)]
fn send(pid: u32, signal: libc::c_int) -> Instant {
    let now = Instant::now();
    // SAFETY: plain integers; the process is ours, and not waited for yet.
    assert_eq!(unsafe { libc::kill(pid.cast_signed(), signal) }, 0, "no process {pid}");
    now
}

/// When the virtual address is deleted, by whomever, as it happens.
fn deletions(node: &Namespace) -> mpsc::Receiver<Instant> {
    let (tell, told) = mpsc::channel();
    let (ready, readiness) = mpsc::channel();
    let path = node.path.clone();
    std::thread::spawn(move || {
        enter(&path);
        foremost();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let groups = [MulticastGroup::Ipv4Ifaddr];
            let (connection, _handle, mut messages) = rtnetlink::new_multicast_connection(&groups).unwrap();
            tokio::spawn(connection);
            ready.send(()).unwrap();
            while let Some((message, _)) = messages.next().await {
                let NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelAddress(message)) = message.payload else {
                    continue;
                };
                let ours = message.attributes.contains(&AddressAttribute::Local(vip()));
                if ours && tell.send(Instant::now()).is_err() {
                    return;
                }
            }
        });
    });
    readiness.recv().unwrap();
    told
}

#[allow(unsafe_code)]
fn enter(namespace: &str) {
    let namespace = fs::File::open(namespace).unwrap();
    // SAFETY: plain integers; it changes the namespace of this thread only.
    assert_eq!(unsafe { libc::setns(std::os::fd::AsRawFd::as_raw_fd(&namespace), libc::CLONE_NEWNET) }, 0);
}

/// The clock of a test must not starve with what it measures: the lowest of the real-time priorities is before all else.
#[allow(unsafe_code)]
fn foremost() {
    let first = libc::sched_param { sched_priority: 1 };
    // SAFETY: plain integers and a struct that outlives the call; it concerns this thread only, and may be refused.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const first) };
}

fn tell(what: &str, mut took: Vec<Duration>) {
    took.sort();
    let ms: Vec<String> = took.iter().map(|t| format!("{:.1}", t.as_secs_f64() * 1e3)).collect();
    writeln!(std::io::stderr(), "{what}: gone after {} ms", ms.join(" ")).unwrap();
}

/// By the lease's end another node may hold: the fence is `MARGIN` before it.
fn within_the_lease(took: &[Duration]) {
    assert!(took.iter().all(|t| *t < LEASE), "held beyond its lease: {took:?}");
}

#[test]
fn a_killed_daemon_leaves_no_address() {
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        let Some(daemon) = Daemon::start() else { return };
        took.push(daemon.gone_after(daemon.signal(libc::SIGKILL)));
    }
    tell("SIGKILL", took.clone());
    within_the_lease(&took);
    took.sort();
    assert!(took[ROUNDS / 2] <= AT_ONCE, "{took:?}");
}

#[test]
fn a_stopped_daemon_holds_no_longer_than_its_lease() {
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        let Some(daemon) = Daemon::start() else { return };
        took.push(daemon.gone_after(daemon.signal(libc::SIGSTOP)));
    }
    tell("SIGSTOP", took.clone());
    within_the_lease(&took);
}

#[test]
fn a_stopped_daemon_that_goes_on_has_nothing_until_a_majority_answers() {
    let Some(daemon) = Daemon::start() else { return };
    daemon.gone_after(daemon.signal(libc::SIGSTOP));
    daemon.signal(libc::SIGCONT);
    // This one's majority answers at once.
    daemon.node.run(|| until("it holds again", has_vip));
    daemon.gone_after(daemon.signal(libc::SIGKILL));
}

#[test]
fn a_frozen_daemon_holds_no_longer_than_its_lease() {
    let Some(daemon) = Daemon::start() else { return };
    let Some(freezer) = Freezer::new() else {
        return skipped("no cgroup to freeze a process in: mount the freezer (v1) or cgroup2, and run as root");
    };
    freezer.take(daemon.process.id());
    let took = [daemon.gone_after(freezer.freeze())];
    tell("cgroup freezer", took.to_vec());
    within_the_lease(&took);
}

#[test]
fn a_killed_guard_is_replaced_and_nothing_is_lost() {
    let Some(daemon) = Daemon::start() else { return };
    let first = daemon.guard();
    daemon.loses(first, libc::SIGKILL);
    assert!(daemon.gone.try_recv().is_err() && daemon.holds(), "its guard died, and it let go");
    let took = [daemon.gone_after(daemon.signal(libc::SIGKILL))];
    tell("SIGKILL under the second guard", took.to_vec());
    within_the_lease(&took);
}

#[test]
fn a_stopped_guard_is_replaced() {
    let Some(daemon) = Daemon::start() else { return };
    let first = daemon.guard();
    daemon.loses(first, libc::SIGSTOP);
    daemon.node.run(|| until("it holds", has_vip));
    let took = [daemon.gone_at_last_after(daemon.signal(libc::SIGKILL))];
    tell("SIGKILL after the guard was stopped", took.to_vec());
    within_the_lease(&took);
}

#[test]
fn both_stopped_the_kernel_drops_it() {
    let Some(daemon) = Daemon::start() else { return };
    let guard = daemon.guard();
    let stopped = daemon.signal(libc::SIGSTOP);
    send(guard, libc::SIGSTOP);
    let took = daemon.gone_after(stopped);
    tell("SIGSTOP of tandemd and its guard", vec![took]);
    send(guard, libc::SIGKILL);
    assert!(took < Duration::from_millis(3800), "{took:?}");
}

#[test]
#[ignore = "starves whatever runs beside it for a second: run it alone"]
fn a_starved_daemon_holds_no_longer_than_its_lease() {
    let Some(daemon) = Daemon::start() else { return };
    let cores = std::thread::available_parallelism().unwrap().get();
    // Before everything but real-time processes, never real-time themselves: those could stop the whole machine. They end
    // by themselves, twice over.
    let spinners: Vec<Child> = (0..cores * 2)
        .map(|_| {
            let mut spinner = Command::new("nice");
            spinner.args(["-n", "-20", "timeout", "-s", "KILL", "1", "sh", "-c", "ulimit -t 2; while :; do :; done"]);
            spinner.stdin(Stdio::null()).spawn().unwrap()
        })
        .collect();
    // It may be held through, or let go and taken again; with the daemon stopped it must go, and stay away.
    std::thread::sleep(LEASE);
    let stopped = daemon.signal(libc::SIGSTOP);
    std::thread::sleep(LEASE);
    let holds = daemon.holds();
    let gone: Vec<Instant> = daemon.gone.try_iter().collect();
    for mut spinner in spinners {
        let _ = spinner.wait();
    }
    let took = gone.last().expect("it is never gone").saturating_duration_since(stopped);
    tell("busy neighbours at nice -20, and SIGSTOP", vec![took]);
    within_the_lease(&[took]);
    assert!(!holds, "held by a daemon that is stopped");
}

/// A cgroup whose processes can be frozen.
struct Freezer {
    dir: PathBuf,
    state: &'static str,
    frozen: &'static str,
    thawed: &'static str,
}

impl Freezer {
    /// `None` where there is none to be had.
    fn new() -> Option<Self> {
        let name = format!("td-guard-{}", std::process::id());
        [
            ("/sys/fs/cgroup/freezer", "freezer.state", "FROZEN", "THAWED"),
            ("/sys/fs/cgroup/unified", "cgroup.freeze", "1", "0"),
            ("/sys/fs/cgroup", "cgroup.freeze", "1", "0"),
        ]
        .into_iter()
        .find_map(|(root, state, frozen, thawed)| {
            let dir = PathBuf::from(root).join(&name);
            fs::create_dir(&dir).ok()?;
            let made = Self { dir, state, frozen, thawed };
            made.dir.join(state).exists().then_some(made)
        })
    }

    fn take(&self, pid: u32) {
        fs::write(self.dir.join("cgroup.procs"), pid.to_string()).unwrap();
    }

    fn freeze(&self) -> Instant {
        let now = Instant::now();
        fs::write(self.dir.join(self.state), self.frozen).unwrap();
        now
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        let _ = fs::write(self.dir.join(self.state), self.thawed);
        // Its processes go to where it is.
        let parent = self.dir.parent().unwrap().join("cgroup.procs");
        for pid in fs::read_to_string(self.dir.join("cgroup.procs")).unwrap_or_default().lines() {
            let _ = fs::write(&parent, pid);
        }
        let _ = fs::remove_dir(&self.dir);
    }
}
