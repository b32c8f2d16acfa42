//! How long what is safe and what is applied took, for those who watch.

use crate::metrics::Histogram;

/// Counted from the start of the process.
#[derive(Debug, Default)]
pub struct Timings {
    /// One change applied to the state.
    pub apply: Histogram,
    /// One batch of votes and entries made safe on disk.
    pub write: Histogram,
    /// One snapshot, from the state to a file that is safe.
    pub snapshot: Histogram,
}
