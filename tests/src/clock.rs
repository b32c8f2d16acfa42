//! One clock for every process on a machine, containers included.

use std::future::Future;
use std::time::{Duration, Instant};

/// Microseconds since the machine started.
pub type Micros = u64;

/// Now, on a clock that all processes of this machine share and that no one can set.
pub fn now() -> Micros {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec for the kernel to write to; CLOCK_BOOTTIME exists on every Linux this runs on.
    #[allow(unsafe_code)]
    unsafe {
        libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time);
    }
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1_000_000 + nanos / 1_000
}

/// Milliseconds between two moments; zero if they are the other way round.
pub fn millis(from: Micros, to: Micros) -> u64 {
    to.saturating_sub(from) / 1_000
}

/// Asks again and again until there is an answer.
///
/// # Errors
/// `what` was waited for, if the deadline passes first.
pub async fn until<T, F>(what: &str, deadline: Duration, mut ask: impl FnMut() -> F) -> anyhow::Result<T>
where
    F: Future<Output = Option<T>>,
{
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return Ok(answer);
        }
        anyhow::ensure!(start.elapsed() < deadline, "waited {deadline:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
