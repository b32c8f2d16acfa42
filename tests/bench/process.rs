//! A child process on one core, which ends with us.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::time::sleep;

use crate::meter::Meter;

/// Where the proxies run.
pub(crate) const PROXY_CORE: usize = 0;
/// Where everybody else runs.
pub(crate) const LOAD_CORE: usize = 1;

/// How long a process may take to end when it is asked to.
const PATIENCE: Duration = Duration::from_secs(3);

/// A running child. Dropped, it and its children are killed.
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts it on this core. Must be called from the main thread: the child ends with the thread that started it.
    ///
    /// # Errors
    /// The program is not there.
    pub(crate) fn start(command: &mut Command, core: usize) -> anyhow::Result<Self> {
        // SAFETY: between fork and exec only async-signal-safe system calls are made, on values made before the fork.
        #[allow(unsafe_code)]
        unsafe {
            command.pre_exec(move || {
                // SIGTERM, and not SIGKILL: a master takes its workers with it.
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
                pin(core)
            });
        }
        let name = command.get_program().to_owned();
        let child = command.spawn().with_context(|| format!("cannot start {}", name.display()))?;
        Ok(Self { child })
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its standard output, if that was a pipe and not yet taken.
    pub(crate) fn output(&mut self) -> Option<std::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// Its standard error, if that was a pipe and not yet taken.
    pub(crate) fn errors(&mut self) -> Option<std::process::ChildStderr> {
        self.child.stderr.take()
    }

    /// Whether it has ended, and how.
    ///
    /// # Errors
    /// Never in practice.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<std::process::ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Asks it to end, waits a while, then kills what is left of it.
    pub(crate) async fn stop(mut self) {
        signal(self.pid(), libc::SIGTERM);
        let start = Instant::now();
        while start.elapsed() < PATIENCE && matches!(self.child.try_wait(), Ok(None)) {
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            for pid in Meter::new(self.pid()).pids() {
                signal(*pid, libc::SIGKILL);
            }
            let _ = self.child.wait();
        }
    }
}

fn signal(pid: u32, signal: i32) {
    let Ok(pid) = i32::try_from(pid) else { return };
    // SAFETY: plain system call; the pid is that of our own child, which has not been waited for, or of a child of it.
    #[allow(unsafe_code)]
    unsafe {
        libc::kill(pid, signal);
    }
}

/// Pins the calling thread, and what it starts from now on, to one core.
///
/// # Errors
/// The machine has no such core, or we may not use it.
pub(crate) fn pin(core: usize) -> std::io::Result<()> {
    // SAFETY: a zeroed cpu_set_t is an empty set, CPU_SET stays within it, and the kernel only reads it.
    #[allow(unsafe_code)]
    let failed = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) != 0
    };
    if failed { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// File descriptors enough for every row. More would only let some of the peers set up larger tables.
const DESCRIPTORS: libc::rlim_t = 24_000;

/// Lets this process and its children have so many file descriptors, or what the system allows; how many that is.
pub(crate) fn descriptors() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for the kernel to write to and to read from.
    #[allow(unsafe_code)]
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max.min(DESCRIPTORS);
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
    limit.rlim_cur
}
