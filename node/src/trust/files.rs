//! Files that hold keys: readable by their owner alone, and whole or not there.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use tandem_proto::Problems;
use tandem_proto::papers::Papers;
use zeroize::Zeroizing;

/// Replaces a file; whoever reads it sees the old text or the new one. Returns when it is on disk.
///
/// # Errors
/// The disk does not take it.
pub fn put(path: &Path, text: &[u8]) -> io::Result<()> {
    let dir = path.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir)?;
    let new = path.with_extension("new");
    let _ = std::fs::remove_file(&new);
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(text)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    File::open(dir)?.sync_all()
}

/// Reads papers.
///
/// # Errors
/// There are none, or they are not whole.
pub fn read(path: &Path) -> Result<Arc<Papers>, Problems> {
    let name = path.display().to_string();
    let mend = "restore it; or move node.toml and data_dir away, and let this machine join anew: tandemd join --help";
    let text = std::fs::read_to_string(path)
        .map(Zeroizing::new)
        .map_err(|e| Problems::one(&name, "", format!("cannot be read: {e}"), mend))?;
    Papers::parse(&text).map(Arc::new).map_err(|e| Problems::one(&name, "", e.to_string(), mend))
}
