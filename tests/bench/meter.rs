//! What a process tree has used of processor and memory, as the kernel accounts for it.

use std::fs;
use std::time::Duration;

use anyhow::Context;

/// A tick of the times in /proc: USER_HZ, which is 100 on every architecture this runs on.
const TICK: Duration = Duration::from_millis(10);

/// A process and all its children and theirs, as they were when it was made.
pub(crate) struct Meter {
    pids: Vec<u32>,
}

impl Meter {
    /// Of the tree that grows from `root`.
    pub(crate) fn new(root: u32) -> Self {
        let mut parents: Vec<(u32, u32)> = Vec::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // One that has ended meanwhile is nobody's child.
            if let Ok(parent) = stat(pid, 1) {
                parents.push((pid, u32::try_from(parent).unwrap_or(0)));
            }
        }
        let mut pids = vec![root];
        let mut at = 0;
        while let Some(pid) = pids.get(at).copied() {
            pids.extend(parents.iter().filter(|(_, parent)| *parent == pid).map(|(child, _)| *child));
            at += 1;
        }
        Self { pids }
    }

    /// Everyone in it, the root first.
    pub(crate) fn pids(&self) -> &[u32] {
        &self.pids
    }

    /// Processor time so far, in user code and in the kernel, of all threads.
    ///
    /// # Errors
    /// One of the processes has ended.
    pub(crate) fn processor(&self) -> anyhow::Result<Duration> {
        let mut ticks = 0;
        for pid in &self.pids {
            ticks += stat(*pid, 11)? + stat(*pid, 12)?;
        }
        Ok(TICK * u32::try_from(ticks)?)
    }

    /// Bytes of memory; a page shared by n processes counts as 1/n in each (PSS).
    ///
    /// # Errors
    /// One of the processes has ended, or is not ours to look at.
    pub(crate) fn memory(&self) -> anyhow::Result<u64> {
        self.pids.iter().map(|pid| bytes(*pid, "smaps_rollup", "Pss:")).sum()
    }

    /// Bytes of memory that are there, shared ones counted in each process (RSS).
    ///
    /// # Errors
    /// One of the processes has ended.
    pub(crate) fn resident(&self) -> anyhow::Result<u64> {
        self.pids.iter().map(|pid| bytes(*pid, "status", "VmRSS:")).sum()
    }

    /// Open file descriptors.
    ///
    /// # Errors
    /// One of the processes has ended, or is not ours to look at.
    pub(crate) fn descriptors(&self) -> anyhow::Result<usize> {
        let of = |pid: &u32| {
            let path = format!("/proc/{pid}/fd");
            Ok(fs::read_dir(&path).with_context(|| format!("cannot read {path}"))?.count())
        };
        self.pids.iter().map(of).sum()
    }
}

/// A line of a file in /proc/PID that counts memory.
fn bytes(pid: u32, file: &str, label: &str) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/{file}");
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(label)).with_context(|| format!("{path}: no {label}"))?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

/// A number of /proc/PID/stat, counted from the state (0) on.
fn stat(pid: u32, field: usize) -> anyhow::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).with_context(|| format!("process {pid} has ended"))?;
    // The name before it is in brackets, and may itself hold brackets and blanks.
    let fields = text.rsplit_once(") ").map(|(_, fields)| fields).context("/proc/PID/stat has changed its form")?;
    fields.split(' ').nth(field).and_then(|n| n.parse().ok()).context("/proc/PID/stat has changed its form")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_tree_is_metered_whole() {
        let busy = "sh -c 'i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; read x' & wait";
        let mut child = Command::new("sh").args(["-c", busy]).stdin(Stdio::piped()).spawn().unwrap();
        let start = std::time::Instant::now();
        while Meter::new(child.id()).pids().len() < 2 || Meter::new(child.id()).processor().unwrap() < TICK {
            assert!(start.elapsed() < Duration::from_secs(10), "the grandchild's work is never seen");
            std::thread::sleep(Duration::from_millis(5));
        }
        let meter = Meter::new(child.id());
        assert!(meter.memory().unwrap() > 10_000);
        assert!(meter.resident().unwrap() >= meter.memory().unwrap());
        assert!(meter.descriptors().unwrap() >= 6, "each has its three streams");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
