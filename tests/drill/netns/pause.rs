//! Stops processes, or leaves them next to no CPU, by control groups of their own: they do not notice, and cannot resist.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, bail};

/// Some processes in a group, frozen or starved until dropped.
pub(crate) struct Paused {
    group: PathBuf,
    /// What ends it: a file of the group, and a word.
    end: (&'static str, &'static str),
}

impl Paused {
    /// Freezes all threads of these processes.
    ///
    /// # Errors
    /// This machine has no cgroup v2.
    pub(crate) fn frozen(pids: &[u32]) -> anyhow::Result<Self> {
        let group = Self::with(&mount("cgroup2", None)?, pids, ("cgroup.freeze", "0"))?;
        group.write("cgroup.freeze", "1")?;
        Ok(group)
    }

    /// Leaves these processes 1 % of one CPU.
    ///
    /// # Errors
    /// This machine has no cpu controller, v1 or v2.
    pub(crate) fn starved(pids: &[u32]) -> anyhow::Result<Self> {
        if let Ok(mount) = mount("cgroup", Some("cpu")) {
            let group = Self::with(&mount, pids, ("cpu.cfs_quota_us", "-1"))?;
            group.write("cpu.cfs_quota_us", "1000")?;
            return Ok(group);
        }
        let mount = mount("cgroup2", None)?;
        // Fails where another manager has it; then the next line says so.
        let _ = fs::write(mount.join("cgroup.subtree_control"), "+cpu");
        let group = Self::with(&mount, pids, ("cpu.max", "max"))?;
        group.write("cpu.max", "1000 100000")?;
        Ok(group)
    }

    fn with(mount: &Path, pids: &[u32], end: (&'static str, &'static str)) -> anyhow::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        sweep(mount);
        let n = NEXT.fetch_add(1, Ordering::Relaxed);
        let group = mount.join(format!("{PREFIX}{}-{n}", std::process::id()));
        fs::create_dir(&group).with_context(|| format!("cannot make the control group {}", group.display()))?;
        let group = Self { group, end };
        for pid in pids {
            group.write("cgroup.procs", &pid.to_string())?;
        }
        Ok(group)
    }

    fn write(&self, file: &str, text: &str) -> anyhow::Result<()> {
        let path = self.group.join(file);
        fs::write(&path, text).with_context(|| format!("{}: {text}", path.display()))
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        let (file, text) = self.end;
        let _ = self.write(file, text);
        // A group can be removed when it is empty: its processes go back to where everybody is.
        let Some(parent) = self.group.parent() else { return };
        for pid in fs::read_to_string(self.group.join("cgroup.procs")).unwrap_or_default().lines() {
            let _ = fs::write(parent.join("cgroup.procs"), pid);
        }
        let _ = fs::remove_dir(&self.group);
    }
}

const PREFIX: &str = "tandem-drill-";

/// Removes the groups of drills that were killed.
fn sweep(mount: &Path) {
    for entry in fs::read_dir(mount).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|n| n.strip_prefix(PREFIX)?.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir(entry.path());
        }
    }
}

/// Where control groups of this kind are mounted, and with this controller.
fn mount(kind: &str, controller: Option<&str>) -> anyhow::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    for line in mounts.lines() {
        let mut words = line.split(' ').skip(1);
        let (Some(at), Some(found), Some(options)) = (words.next(), words.next(), words.next()) else { continue };
        if found == kind && controller.is_none_or(|c| options.split(',').any(|o| o == c)) {
            return Ok(at.into());
        }
    }
    bail!("no {kind} {} is mounted on this machine", controller.unwrap_or("file system"))
}

/// A process and all that came of it.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let mut all = vec![pid];
    let mut next = 0;
    while let Some(pid) = all.get(next).copied() {
        next += 1;
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            all.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    all
}
