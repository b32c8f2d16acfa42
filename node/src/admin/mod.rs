//! Answers the operator's questions and carries out changes: the only way anything changes.

mod http;
mod leaving;
mod past;
mod peers;
mod plan;
mod report;
mod room;
mod sealing;
mod service;
mod stamp;
mod status;
mod watched;

pub use http::serve as serve_http;
pub use service::{Admin, Plane, Rooms, Who};
