//! The hands on a real network: two namespaces and a cable between them. Needs root; leaves nothing behind, for a namespace
//! ends with the last thread in it.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::IpAddr;
use std::process::Command;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::Error;
use super::hands::{Hands as _, Provided};
use super::keeper::tests::{LEASE, World, holds};
use super::lease::{Action, LIFETIME, Why};
use crate::config::Provider;
use crate::control::Role;

const DEADLINE: Duration = Duration::from_secs(20);
pub(super) const VIP: &str = "10.9.0.100";

/// A thread in a network namespace of its own, which does what it is sent; ends with its last handle.
#[derive(Clone)]
pub(super) struct Namespace {
    jobs: mpsc::Sender<Box<dyn FnOnce() + Send>>,
    pub(super) path: String,
}

impl Namespace {
    /// `None`, and loudly, if this test may not make one.
    #[allow(unsafe_code)]
    pub(super) fn new() -> Option<Self> {
        let (jobs, todo) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let (ready, readiness) = mpsc::channel();
        std::thread::spawn(move || {
            // SAFETY: plain integers in and out; it changes the namespace of this thread only.
            let (made, thread) = unsafe { (libc::unshare(libc::CLONE_NEWNET), libc::gettid()) };
            let path = format!("/proc/{}/task/{thread}/ns/net", std::process::id());
            ready.send((made == 0).then_some(path)).unwrap();
            todo.into_iter().for_each(|job| job());
        });
        let Some(path) = readiness.recv().unwrap() else {
            skipped("needs root: run as root to test virtual addresses on a real interface");
            return None;
        };
        if Command::new("ip").arg("-V").output().is_err() {
            skipped("needs the `ip` command: install iproute2 to test virtual addresses on a real interface");
            return None;
        }
        Some(Self { jobs, path })
    }

    /// Runs it there, in a runtime.
    pub(super) fn run<F, T>(&self, job: impl FnOnce() -> F + Send + 'static) -> T
    where
        F: Future<Output = T>,
        T: Send + 'static,
    {
        let (done, result) = mpsc::channel();
        let job = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            // A job that panics is told below.
            let _ = done.send(runtime.block_on(job()));
        };
        self.jobs.send(Box::new(job)).unwrap();
        result.recv().expect("the job panicked: see above")
    }

    pub(super) fn ip(&self, arguments: &str) -> String {
        let arguments = arguments.to_owned();
        self.run(move || async move { ip(&arguments) })
    }
}

/// Past the test harness, which shows nothing of a test that passes.
pub(super) fn skipped(why: &str) {
    writeln!(std::io::stderr(), "SKIPPED: {why}").unwrap();
}

/// Runs `ip` in the namespace of the calling thread.
pub(super) fn ip(arguments: &str) -> String {
    let done = Command::new("ip").args(arguments.split_whitespace()).output().unwrap();
    assert!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// The Ethernet address of an interface in the namespace of the calling thread.
pub(super) fn mac(interface: &str) -> String {
    let shown = ip(&format!("-oneline link show dev {interface}"));
    shown.split_once("link/ether ").unwrap().1.split(' ').next().unwrap().to_owned()
}

pub(super) fn has_vip() -> bool {
    ip("-4 -oneline address show").contains(VIP)
}

/// The node's end of a cable `here`, up, 10.9.0.1/24; the neighbour's end `there`, 10.9.0.2/24.
pub(super) fn cable() -> Option<(Namespace, Namespace)> {
    let (node, neighbour) = (Namespace::new()?, Namespace::new()?);
    node.ip(&format!("link add here type veth peer name there netns {}", neighbour.path));
    for (namespace, end, address) in [(&node, "here", "10.9.0.1/24"), (&neighbour, "there", "10.9.0.2/24")] {
        namespace.ip(&format!("address add {address} dev {end}"));
        namespace.ip(&format!("link set {end} up"));
    }
    Some((node, neighbour))
}

pub(super) fn here() -> Provider {
    Provider::Linux { interface: "here".into() }
}

pub(super) fn vip() -> IpAddr {
    VIP.parse().unwrap()
}

pub(super) async fn until(what: &str, mut fact: impl FnMut() -> bool) {
    let asked = Instant::now();
    while !fact() {
        assert!(asked.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn an_address_is_added_renewed_and_removed() {
    let Some((node, _neighbour)) = cable() else { return };
    node.run(|| async {
        let mut hands = Provided::open(&here()).await.unwrap();
        // Removing what is not there is as good as removing it.
        hands.act(&Action::Remove(vip(), Why::Stopping)).await.unwrap();
        hands.act(&Action::Add(vip())).await.unwrap();
        let shown = ip("-4 -oneline address show dev here");
        let line = shown.lines().find(|line| line.contains(VIP)).unwrap();
        assert!(line.contains("10.9.0.100/32") && line.contains("noprefixroute"), "{line}");
        assert!(line.contains("valid_lft 2sec") || line.contains("valid_lft 1sec"), "{line}");
        let added = Instant::now();
        while added.elapsed() < LIFETIME * 2 {
            assert!(has_vip(), "gone {:?} after it was added, though renewed", added.elapsed());
            hands.act(&Action::Renew(vip())).await.unwrap();
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        hands.act(&Action::Remove(vip(), Why::Stopping)).await.unwrap();
        assert!(!has_vip());
    });
}

#[test]
fn the_kernel_drops_an_address_that_is_not_renewed() {
    let Some((node, _neighbour)) = cable() else { return };
    node.run(|| async {
        let mut hands = Provided::open(&here()).await.unwrap();
        hands.act(&Action::Add(vip())).await.unwrap();
        let added = Instant::now();
        until("the kernel drops it", || !has_vip()).await;
        let lived = added.elapsed();
        assert!(lived >= Duration::from_millis(1900) && lived <= Duration::from_millis(3800), "it lived {lived:?}");
    });
}

#[test]
fn an_announcement_moves_the_neighbour_to_the_new_holder() {
    let Some((node, neighbour)) = cable() else { return };
    neighbour.ip(&format!("neighbour add {VIP} lladdr 02:00:00:00:00:01 dev there nud stale"));
    let mac = node.run(|| async {
        let mut hands = Provided::open(&here()).await.unwrap();
        hands.act(&Action::Add(vip())).await.unwrap();
        hands.act(&Action::Announce(vip())).await.unwrap();
        mac("here")
    });
    neighbour.run(move || async move {
        until("the neighbour learns the new Ethernet address", || ip("neighbour show").contains(&mac)).await;
    });
}

#[test]
fn leftovers_of_an_earlier_run_are_cleared_and_nothing_else() {
    let Some((node, _neighbour)) = cable() else { return };
    node.run(|| async {
        for address in ["10.9.0.100/32", "10.9.0.101/32"] {
            ip(&format!("address add {address} dev here valid_lft 3000 preferred_lft 3000"));
        }
        ip("address add 10.9.0.102/32 dev here");
        let hands = Provided::open(&here()).await.unwrap();
        let Provided::Linux(linux) = &hands else { panic!("{hands:?}") };
        let addresses: BTreeSet<IpAddr> = [vip(), IpAddr::from([10, 9, 0, 102]), IpAddr::from([10, 9, 0, 1])].into();
        let for_good = linux.interface().clear_leftovers(&addresses).await.unwrap();
        assert_eq!(for_good, BTreeSet::from([IpAddr::from([10, 9, 0, 102])]));
        let shown = ip("-4 -oneline address show dev here");
        assert!(!shown.contains(VIP), "{shown}");
        for kept in ["10.9.0.1/24", "10.9.0.101/32", "10.9.0.102/32"] {
            assert!(shown.contains(kept), "{kept} is missing: {shown}");
        }
    });
}

#[test]
fn the_keeper_claims_lets_go_in_time_and_stops_clean() {
    let Some((node, _neighbour)) = cable() else { return };
    node.run(|| async {
        let world = World::new(Role::Proxy, &[VIP]);
        let keeper = world.start(here()).unwrap();
        let acked = world.lead(7);
        holds(&keeper, &[VIP]).await;
        assert!(has_vip(), "said to be held before it was there");
        until("its lease runs out", || !has_vip()).await;
        assert!(acked.elapsed() < LEASE, "held for {:?} after the last acknowledgement", acked.elapsed());

        world.lead(7);
        holds(&keeper, &[VIP]).await;
        keeper.release(Duration::from_secs(3600)).await.unwrap();
        assert!(!has_vip(), "acknowledged before it was gone");

        world.lead(9);
        holds(&keeper, &[VIP]).await;
        keeper.stop().await;
        assert!(!has_vip(), "left behind");
    });
}

#[test]
fn a_lost_interface_is_not_held_on_to_and_taken_again_when_it_is_back() {
    let Some((node, _neighbour)) = cable() else { return };
    node.run(|| async {
        let world = World::new(Role::Proxy, &[VIP]);
        let keeper = world.start(here()).unwrap();
        world.lead(7);
        holds(&keeper, &[VIP]).await;
        ip("link del here");
        world.lead(7);
        holds(&keeper, &[]).await;
        ip("link add here type veth peer name gone");
        ip("link set here up");
        world.lead(7);
        holds(&keeper, &[VIP]).await;
        assert!(has_vip());
        keeper.stop().await;
    });
}

#[test]
fn a_missing_right_is_reported_at_start_with_its_mend() {
    for right in [CAP_NET_ADMIN, CAP_NET_RAW] {
        let Some((node, _neighbour)) = cable() else { return };
        node.run(move || async move {
            drop_right(right);
            let why = Provided::open(&here()).await.unwrap_err();
            assert!(matches!(why, Error::NoRight { .. }), "{why}");
            assert!(why.to_string().contains("--cap-add NET_ADMIN --cap-add NET_RAW"), "{why}");
        });
    }
}

const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;

/// Of the calling thread only, which lives for one test.
#[allow(unsafe_code)]
fn drop_right(right: u32) {
    // The header and the two halves of capget(2): effective, permitted, inheritable.
    const VERSION_3: u32 = 0x2008_0522;
    let mut header = [VERSION_3, 0];
    let mut sets = [[0_u32; 3]; 2];
    // SAFETY: both calls take a header of two and sets of two times three 32-bit words, which these are, and outlive the calls.
    unsafe {
        assert_eq!(libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()), 0);
        sets[0][0] &= !(1 << right);
        assert_eq!(libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_ptr()), 0);
    }
}
