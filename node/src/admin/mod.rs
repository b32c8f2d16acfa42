//! Answers the operator's questions and carries out changes: the only way anything changes.

mod caller;
mod guard;
mod http;
mod leaving;
mod members;
mod past;
mod peers;
mod plan;
mod report;
mod rights;
mod room;
mod sealing;
mod serve;
mod service;
mod socket;
mod stamp;
mod status;
mod watched;

pub use caller::{Caller, Role, Source};
pub use guard::{Guarded, Port};
pub use http::serve as serve_http;
pub use serve::serve;
pub use service::{Admin, Plane, Rooms, Who};
pub use socket::Socket;
