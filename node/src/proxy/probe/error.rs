//! Why a check failed, in the words an operator reads beside the backend.

use std::io;
use std::time::Duration;

use http::StatusCode;
use tokio_tungstenite::tungstenite;

use super::super::backend::shortage;
use super::super::error::Failure;
use super::super::limits::Limit;

/// What was found wrong. The operator must mend the backend, or what is expected of it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// No connection.
    #[error(transparent)]
    Dial(io::Error),
    /// Not all of it came in time.
    #[error("no {what} within {within:?}")]
    Late {
        /// What was waited for.
        what: &'static str,
        /// The time for the whole check.
        within: Duration,
    },
    /// It ended the connection, or what it said is none of what it may say.
    #[error("{}", .0.with_cause())]
    Answer(#[from] Failure),
    /// Another status than a good one.
    #[error("answered {}", .0.as_u16())]
    Status(StatusCode),
    /// Not the expected answer.
    #[error("{0:?} is not in the first 64 KiB of its answer")]
    Body(String),
    /// Another subprotocol than the one asked for, or none (RFC 6455 section 4.1).
    #[error("did not agree to subprotocol {0:?}")]
    Subprotocol(String),
    /// It ended the session politely, but too early.
    #[error("closed before its {0}")]
    Closed(&'static str),
    /// What it said after the handshake is no WebSocket, or it broke off.
    #[error("{0}")]
    Websocket(Box<tungstenite::Error>),
}

impl Error {
    /// What this node lacks, if that is why.
    pub(super) fn shortage(&self) -> Option<Limit> {
        match self {
            Self::Dial(error) => shortage(error),
            _ => None,
        }
    }
}

impl From<hyper::Error> for Error {
    fn from(error: hyper::Error) -> Self {
        Self::Answer(Failure::Connection(error))
    }
}

impl From<tungstenite::Error> for Error {
    fn from(error: tungstenite::Error) -> Self {
        Self::Websocket(Box::new(error))
    }
}
