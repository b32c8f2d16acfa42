//! Answers the operator's questions and carries out changes: the only way anything changes.

mod peers;
mod report;
mod service;
mod status;

pub use service::{Admin, Plane, Rooms, Who};
