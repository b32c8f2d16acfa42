//! A machine of the drill: a thread with a network and mounts of its own, which end with it, as does what it started.
//!
//! Nothing has a name outside of this process, so two drills never meet, and one that is killed leaves nothing behind.

use std::future::Future;
use std::io;
use std::process::Stdio;

use anyhow::{Context, ensure};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::runtime::{EnterGuard, Handle};
use tokio::sync::oneshot;

/// See the module.
pub(crate) struct Place {
    handle: Handle,
    path: String,
    _end: oneshot::Sender<()>,
}

impl Place {
    /// Makes one.
    ///
    /// # Errors
    /// This process may not: it takes root.
    pub(crate) fn new(name: &str) -> anyhow::Result<Self> {
        let (ready, readiness) = std::sync::mpsc::channel();
        let (end, ended) = oneshot::channel::<()>();
        let thread = move || {
            let made = separate().and_then(|path| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                Ok((path, runtime))
            });
            match made {
                Ok((path, runtime)) => {
                    // Nobody waits only if the drill has ended meanwhile.
                    let _ = ready.send(Ok((runtime.handle().clone(), path)));
                    let _ = runtime.block_on(ended);
                    runtime.shutdown_background();
                }
                Err(why) => {
                    let _ = ready.send(Err(why));
                }
            }
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(thread)?;
        let (handle, path) = readiness.recv()?.with_context(|| {
            format!("cannot make a network namespace for {name}, so nothing was drilled; run as root, and not in a container that forbids it")
        })?;
        Ok(Self { handle, path, _end: end })
    }

    /// What other machines name its network by.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Tasks that are started while this lives run here.
    pub(crate) fn enter(&self) -> EnterGuard<'_> {
        self.handle.enter()
    }

    /// Does it here.
    ///
    /// # Errors
    /// It panicked.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        job: impl Future<Output = T> + Send + 'static,
    ) -> anyhow::Result<T> {
        self.handle.spawn(job).await.context("a job of the drill panicked")
    }

    /// Runs `ip` here.
    ///
    /// # Errors
    /// What it says.
    pub(crate) async fn ip(&self, line: &str) -> anyhow::Result<String> {
        self.program("ip", line, "").await
    }

    /// Runs a program here to its end.
    ///
    /// # Errors
    /// It is not on this machine, or what it says.
    pub(crate) async fn program(&self, program: &str, line: &str, input: &str) -> anyhow::Result<String> {
        let (program, line, input) = (program.to_owned(), line.to_owned(), input.to_owned());
        self.run(async move {
            let mut command = Command::new(&program);
            command.args(line.split_whitespace()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
            let mut child = command.spawn().with_context(|| format!("cannot start {program}: install it"))?;
            if let Some(mut stdin) = child.stdin.take() {
                stdin.write_all(input.as_bytes()).await?;
            }
            let output = child.wait_with_output().await?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{program} {line}: {}", said.trim());
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        })
        .await?
    }

    /// Mounts a small disk on a directory, for this machine alone.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) async fn small_disk(&self, at: &std::path::Path, megabytes: u32) -> anyhow::Result<()> {
        let line = format!("-t tmpfs -o size={megabytes}m small {}", at.display());
        self.program("mount", &line, "").await.map(|_| ())
    }
}

/// Gives the calling thread a network and mounts of its own; the path of the network.
fn separate() -> io::Result<String> {
    // SAFETY: plain system calls whose strings end in zero and are static; they change the calling thread alone.
    #[allow(unsafe_code)]
    let (made, thread) = unsafe {
        let private = libc::MS_REC | libc::MS_PRIVATE;
        // CLONE_FS too, or a thread may not have mounts of its own.
        let made = libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWNS | libc::CLONE_FS) == 0
            && libc::mount(std::ptr::null(), c"/".as_ptr(), std::ptr::null(), private, std::ptr::null()) == 0;
        (made, libc::gettid())
    };
    if !made {
        return Err(io::Error::last_os_error());
    }
    Ok(format!("/proc/{}/task/{thread}/ns/net", std::process::id()))
}
