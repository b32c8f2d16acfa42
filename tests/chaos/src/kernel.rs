//! The kernel's chance, replaced: whoever asks this process for random bytes gets those of the seed.
//!
//! openraft draws its election timeouts from `rand`, tokio picks among ready branches, the standard library salts its hash
//! maps: all of them ask `getrandom(2)` once and go on from there. Answering it ourselves makes a run repeatable without
//! a build of its own (`--cfg tokio_unstable`) and without a door in the product. A process runs one seed: tokio also
//! counts its runtimes, process-wide.

use std::sync::atomic::{AtomicU64, Ordering};

static STATE: AtomicU64 = AtomicU64::new(0);

/// From now on the bytes are those of this seed. To be called first of all.
pub(crate) fn seed(seed: u64) {
    STATE.store(seed, Ordering::Relaxed);
}

#[allow(unsafe_code)]
// SAFETY: the symbol is libc's, with libc's signature and meaning: it fills `len` bytes and says how many. It is meant to
// take its place, in this program alone.
#[unsafe(no_mangle)]
extern "C" fn getrandom(buffer: *mut u8, len: usize, _flags: u32) -> isize {
    for at in 0..len {
        let state = STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let byte = crate::chance::mix(state).to_be_bytes()[0];
        // SAFETY: the caller promises `len` writable bytes.
        unsafe { buffer.add(at).write(byte) };
    }
    isize::try_from(len).unwrap_or(isize::MAX)
}
