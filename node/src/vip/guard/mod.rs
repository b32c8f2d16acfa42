//! The guard: a process of its own that takes addresses off when tandemd cannot.
//!
//! ```text
//!  tandemd ── Hold(address, until) at each acknowledged heartbeat ──▶ guard ── at `until`, or when tandemd is gone ──▶ kernel: off
//!          ◀─ Here(number): I am alive, and have heard all before ───
//! ```
//! See `node/decisions/0019`.

mod book;
mod clock;
mod handle;
mod process;
mod removal;
mod words;

pub(super) use handle::Guard;
pub use process::run;
