//! The kernel's table of tracked connections, which churn can fill: then it drops what everybody sends.

use std::fs;
use std::time::Duration;

use tokio::time::sleep;

/// Waits until half of the table is free: one turn of churn can take a third. A closed connection stays in it for two
/// minutes, and where packet filters stand (a container engine sets them up) loopback is tracked too.
pub(crate) async fn room() {
    let mut told = false;
    while let (Some(used), Some(size)) = (read("count"), read("max")) {
        if used < size / 2 {
            return;
        }
        if !told {
            eprintln!("bench-peers: waiting for room in the kernel's connection tracking: {used} of {size} are taken");
            told = true;
        }
        sleep(Duration::from_secs(1)).await;
    }
}

fn read(what: &str) -> Option<u64> {
    fs::read_to_string(format!("/proc/sys/net/netfilter/nf_conntrack_{what}")).ok()?.trim().parse().ok()
}
