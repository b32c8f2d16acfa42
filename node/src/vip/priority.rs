//! The keeper's thread goes before the data plane.

/// Nice value of the keeper's thread: it runs for some µs at a time, and late is the one thing it must not be.
const NICE: libc::c_int = -10;

/// Raises the calling thread. Without the right to (CAP_SYS_NICE) it stays as it is: the lease still fences it.
#[allow(unsafe_code)]
pub(super) fn raise() {
    // SAFETY: both calls take and return plain integers. On Linux a nice value belongs to one thread, named by its id.
    let done = unsafe { libc::setpriority(libc::PRIO_PROCESS, libc::gettid().cast_unsigned(), NICE) };
    if done != 0 {
        tracing::debug!(
            "the keeper of the virtual addresses runs at normal priority: {}",
            std::io::Error::last_os_error()
        );
    }
}
