//! What one process is made to believe, by a library loaded before all others: its disk fails, or is full; its calendar jumps.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use tokio::process::Command;

/// Three words of eight bytes each, as `lies.c` reads them.
const LENGTH: usize = 24;
/// What the library is called, in the map of a process that has loaded it too.
const LIBRARY: &str = "lies.so";

/// Builds the library in `dir`.
///
/// # Errors
/// There is no C compiler, without which nothing here would have been linked.
pub(crate) async fn build(dir: &Path) -> anyhow::Result<PathBuf> {
    let (source, library) = (dir.join("lies.c"), dir.join(LIBRARY));
    std::fs::write(&source, include_str!("lies.c"))?;
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
    let output = cc.output().await.context("cannot start cc; install build-essential")?;
    ensure!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
    Ok(library)
}

/// Whether a process hears the lies at all: one that is linked statically does not.
pub(crate) fn heard_by(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/maps")).is_ok_and(|map| map.contains(LIBRARY))
}

/// What one node is told. It is read at each use, so a change is believed at once.
pub(crate) struct Lies {
    library: PathBuf,
    file: PathBuf,
}

impl Lies {
    /// The truth, to begin with.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn none(library: &Path, file: PathBuf) -> anyhow::Result<Self> {
        std::fs::write(&file, [0; LENGTH])?;
        Ok(Self { library: library.to_owned(), file })
    }

    /// For the process that is to be lied to.
    pub(crate) fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", self.library.clone()), ("LIES", self.file.clone())]
    }

    /// Every fsync fails with EIO, or none.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn disk_fails(&self, fails: bool) -> anyhow::Result<()> {
        self.say(0, i64::from(fails))
    }

    /// No page of the store finds room, not even one that is written again.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn disk_is_full(&self, full: bool) -> anyhow::Result<()> {
        self.say(16, i64::from(full))
    }

    /// The wall clock is so far ahead of the truth (negative: behind).
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn seconds_ahead(&self, seconds: i64) -> anyhow::Result<()> {
        self.say(8, seconds)
    }

    /// In place: the file is mapped by a process, and a new one would not be.
    fn say(&self, at: u64, word: i64) -> anyhow::Result<()> {
        use std::os::unix::fs::FileExt as _;
        let file = std::fs::File::options().write(true).open(&self.file)?;
        file.write_all_at(&word.to_ne_bytes(), at)?;
        Ok(())
    }
}
