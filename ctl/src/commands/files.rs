//! Files that are there whole or not at all.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use tempfile::{NamedTempFile, TempPath};

/// Writes a file that is not there yet, readable by its owner alone.
pub(super) fn create(file: &Path, bytes: &[u8]) -> io::Result<()> {
    beside(file, bytes)?.persist_noclobber(file).map_err(|e| e.error)
}

/// The same whether it is there or not.
pub(super) fn replace(file: &Path, bytes: &[u8]) -> io::Result<()> {
    beside(file, bytes)?.persist(file).map_err(|e| e.error)
}

/// On disk under another name: a full disk or a kill leaves nothing under this one.
fn beside(file: &Path, bytes: &[u8]) -> io::Result<TempPath> {
    let dir =
        file.parent().filter(|dir| !dir.as_os_str().is_empty()).map_or_else(|| PathBuf::from("."), Path::to_path_buf);
    let mut temporary = NamedTempFile::new_in(dir)?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    Ok(temporary.into_temp_path())
}
