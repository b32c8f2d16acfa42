//! The disk as the store sees it: files by name in one directory, each safe when it has been synced.
//!
//! The one seam below everything that must survive. [`Directory`] is the real one; a simulation puts a disk here that
//! loses what was not synced, and dies between any two calls.

use std::fs::{self, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// A directory of files.
pub trait Disk: Send + Sync + 'static {
    /// A file of it.
    type File: File;

    /// Opens `name` for this process alone; makes it, empty, if there is none.
    ///
    /// # Errors
    /// `WouldBlock` if another process has it open; what the system says otherwise.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// All of a file, also where nothing can be written any more.
    ///
    /// # Errors
    /// What the system says.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// The names of all files.
    ///
    /// # Errors
    /// What the system says.
    fn names(&self) -> io::Result<Vec<String>>;

    /// Gives a file another name, in place of the one that has it.
    ///
    /// # Errors
    /// What the system says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// What the system says.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Returns when names made, changed and removed before are safe.
    ///
    /// # Errors
    /// What the system says; then nothing is known of what is safe.
    fn sync_names(&self) -> io::Result<()>;
}

/// An open file.
pub trait File: std::fmt::Debug + Send + Sync + 'static {
    /// Its length in bytes.
    ///
    /// # Errors
    /// What the system says.
    fn length(&self) -> io::Result<u64>;

    /// Cuts it, or lengthens it by zeros.
    ///
    /// # Errors
    /// What the system says.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Fills `out` from this offset on.
    ///
    /// # Errors
    /// `UnexpectedEof` if the file ends before; what the system says otherwise.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Writes all of `data` at this offset.
    ///
    /// # Errors
    /// What the system says; then any part of it may have been written.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Returns when everything written before is safe.
    ///
    /// # Errors
    /// What the system says; then nothing is known of what is safe, and asking again proves nothing.
    fn sync(&self) -> io::Result<()>;
}

/// A directory of this machine.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// This directory, made if there is none.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(path: &Path) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        Ok(Self(path.to_owned()))
    }
}

impl Disk for Directory {
    type File = fs::File;

    fn open(&self, name: &str) -> io::Result<fs::File> {
        let file = fs::File::options().read(true).write(true).create(true).truncate(false).open(self.0.join(name))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(io::Error::new(io::ErrorKind::WouldBlock, "another process uses it")),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        fs::read(self.0.join(name))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.0.join(from), self.0.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        fs::File::open(&self.0)?.sync_all()
    }
}

impl File for fs::File {
    fn length(&self) -> io::Result<u64> {
        self.metadata().map(|m| m.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        Self::set_len(self, len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(out, offset)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write_all_at(data, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
