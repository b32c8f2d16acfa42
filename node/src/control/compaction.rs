//! How long the log grows before a snapshot stands for its beginning. Pure.

/// When snapshots are taken, and what of the log stays beside them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compaction {
    /// Entries after the last snapshot until the next one is taken.
    pub every: u64,
    /// Entries that stay in the log although a snapshot has them: a peer that lacks no more is not sent a snapshot.
    pub keep: u64,
}

impl Compaction {
    /// A few MiB of log at most; a node that was away for a moment gets entries.
    pub const DEFAULT: Self = Self { every: 1000, keep: 200 };
}
