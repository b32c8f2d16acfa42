//! The clock that leases are measured on: tokio's, which only goes forward and which a simulation can hold.

use std::time::Instant;

/// Now, for timers and leases alike: whoever wakes at a time finds that this time has come.
pub fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
