//! Who gets the next session. Pure: time, chance and the rotation are handed in.

mod affinity;
mod candidate;
mod choice;
mod ejection;
mod hash;
mod latency;
mod ramp;
mod rotation;
mod sticky;
mod two;

pub(super) use affinity::Affinity;
pub(super) use candidate::Candidate;
pub(super) use choice::{Choice, choose};
pub(super) use ejection::{Company, Ejection, may_go};
pub(super) use hash::mark;
pub(super) use latency::Latency;
pub(super) use ramp::ramped;
pub(super) use rotation::Rotation;
pub(super) use sticky::Sticky;
