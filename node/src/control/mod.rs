//! One log, one truth: every change goes through consensus, every node applies the same changes in the same order.

mod standing;
pub mod state;

pub use standing::{Member, NodeId, Role, Standing};
