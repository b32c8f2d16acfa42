//! How much room there is where the store writes.

use std::ffi::CString;
use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Bytes that tandemd may still write to the disk of `dir`; `None` if the system does not tell.
pub(super) fn left(dir: &Path) -> Option<u64> {
    let path = CString::new(dir.as_os_str().as_bytes()).ok()?;
    let mut told = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path ends in zero and outlives the call, which fills `told` wholly when it returns 0, and only then is
    // it read.
    #[allow(unsafe_code)]
    let told = unsafe {
        if libc::statvfs(path.as_ptr(), told.as_mut_ptr()) != 0 {
            return None;
        }
        told.assume_init()
    };
    told.f_bavail.checked_mul(told.f_frsize)
}

#[cfg(test)]
mod tests {
    use super::left;

    #[test]
    fn there_is_room_here_and_no_word_of_what_is_not_there() {
        assert!(left(&std::env::temp_dir()).is_some_and(|bytes| bytes > 0));
        assert_eq!(left("/proc/no/such/place".as_ref()), None);
    }
}
