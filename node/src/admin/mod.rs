//! Answers the operator's questions and carries out changes: the only way anything changes.

mod caller;
mod guard;
mod http;
mod joining;
mod leaving;
mod members;
mod past;
mod peers;
mod plan;
mod port;
mod renewal;
mod report;
mod rights;
mod room;
mod sealing;
mod serve;
mod service;
mod signing;
mod socket;
mod stamp;
mod status;
mod strangers;
mod tokens;
mod watched;

pub use caller::{Caller, Role, Source};
pub use guard::{Guarded, Port};
pub use http::serve as serve_http;
pub use joining::attend as attend_join;
pub use port::{Asks, Link, incoming};
pub use renewal::attend as attend_papers;
pub use serve::serve;
pub use service::{Admin, Plane, Rooms, Who};
pub use signing::{Desk, authority};
pub use socket::Socket;
pub use strangers::Members;
pub use tokens::{ABOVE, HOUR, fresh as fresh_token, join_port, pin_of};
