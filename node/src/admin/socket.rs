//! The local socket: whoever on this machine may open the file administers the cluster, without a certificate.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Owner and group may connect; the file system keeps everyone else out.
const MODE: u32 = 0o660;

/// A socket file, removed when dropped.
#[derive(Debug)]
pub struct Socket(PathBuf);

impl Socket {
    /// Makes the file and listens. A file that a killed node left behind is replaced; one that somebody answers at is not.
    ///
    /// # Errors
    /// Somebody listens there, or the directory or the length of the path does not allow it.
    pub fn bind(path: &Path) -> io::Result<(Self, UnixListener)> {
        if UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another tandemd listens there"));
        }
        // Under its name it never has another mode.
        let fresh = path.with_extension(format!("{}.new", std::process::id()));
        let _ = std::fs::remove_file(&fresh);
        let listener = UnixListener::bind(&fresh)?;
        let made = std::fs::set_permissions(&fresh, PermissionsExt::from_mode(MODE))
            .and_then(|()| std::fs::rename(&fresh, path));
        if let Err(why) = made {
            let _ = std::fs::remove_file(&fresh);
            return Err(why);
        }
        Ok((Self(path.to_owned()), listener))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_killed_nodes_file_is_replaced_and_a_living_ones_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let (socket, _listener) = Socket::bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, MODE);
        assert_eq!(Socket::bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(socket);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
