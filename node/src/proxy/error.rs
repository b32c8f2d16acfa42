//! What can go wrong with one request, and what the client is told of it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use http::StatusCode;

use super::limits::{Limit, Refusal};
use crate::config::model::{Name, Unwelcome};

/// Why a request is not answered by a backend. The text is for the client: it names the upstream, never a backend.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The operator has no route for it, or the client asks the wrong server.
    #[error("no route takes {host:?} with path {path:?}")]
    NoRoute { host: String, path: String },
    /// The host has another certificate than the connection was opened with, so that its client may not have meant this
    /// server (RFC 9110 section 15.5.20). The client must connect anew.
    #[error("this connection is not for {0:?}, which has another certificate: connect anew")]
    Misdirected(String),
    /// A page that may not open WebSockets (RFC 6455 section 10.2). The operator may let it.
    #[error("{why}; the operator can allow it: tandemctl route set {route} --origin …")]
    Origin { route: Name, why: Unwelcome },
    /// The operator must mend the upstream.
    #[error("no backend of upstream {0} is up and active")]
    NobodyUp(Name),
    /// Every backend that was tried failed. The operator must look at them.
    #[error("upstream {upstream}: {failure}")]
    Tried { upstream: Name, failure: Failure },
    /// Not a WebSocket handshake (RFC 6455 section 4.2.1). The client must mend it.
    #[error("{0}")]
    Handshake(&'static str),
    /// A WebSocket version other than 13. The client must use 13.
    #[error("only WebSocket version 13 is spoken here")]
    Version,
    /// The client asked for something HTTP cannot mean here.
    #[error("{0}")]
    Request(&'static str),
    /// Its body began but nothing more of it came. The client must send on.
    #[error("nothing of the body came within {0:?}")]
    Slow(Duration),
    /// The operator takes this place out of service. The client must connect again, elsewhere if it can.
    #[error("{0} takes no new clients: it is being taken out of service")]
    Draining(&'static str),
    /// A limit is reached. The client must wait; the operator may raise it.
    #[error("{0}")]
    Limited(#[from] Refusal),
}

/// How one backend failed before it answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// This node lacks what a connection needs: the operator must mend that here, not at the backend.
    #[error("{0}")]
    Shortage(Limit),
    /// No connection.
    #[error("the backend could not be reached")]
    Dial(#[source] io::Error),
    /// The connection ended before an answer, or the answer was no HTTP.
    #[error("the backend ended the connection without an answer")]
    Connection(#[source] hyper::Error),
    /// It ended before an answer, and was asked by hand.
    #[error("the backend ended the connection without an answer")]
    Broken(#[source] io::Error),
    /// It took the request and stayed silent.
    #[error("the backend gave no answer within {0:?}")]
    Silent(Duration),
    /// It answered with what is no HTTP.
    #[error("the backend's answer cannot be read: {0}")]
    Unreadable(&'static str),
    /// It answered the handshake with something else than it must.
    #[error("the backend answered the WebSocket handshake wrongly: {0}")]
    Handshake(&'static str),
}

impl Failure {
    /// Logs what the client is not told: which backend, and the cause.
    pub(super) fn log(&self, upstream: &Name, backend: SocketAddr) {
        let cause = self.cause().unwrap_or_default();
        tracing::warn!(%upstream, %backend, cause, "{self}");
    }

    /// For the operator.
    pub(super) fn with_cause(&self) -> String {
        self.cause().map_or_else(|| self.to_string(), |cause| format!("{self}: {cause}"))
    }

    fn cause(&self) -> Option<String> {
        std::error::Error::source(self).map(ToString::to_string)
    }
}

impl Error {
    /// The status that says who must act.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::NoRoute { .. } => StatusCode::NOT_FOUND,
            Self::Misdirected(_) => StatusCode::MISDIRECTED_REQUEST,
            Self::Origin { .. } => StatusCode::FORBIDDEN,
            Self::NobodyUp(_) | Self::Limited(_) | Self::Draining(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Tried { failure: Failure::Silent(_), .. } => StatusCode::GATEWAY_TIMEOUT,
            Self::Tried { .. } => StatusCode::BAD_GATEWAY,
            Self::Handshake(_) | Self::Request(_) => StatusCode::BAD_REQUEST,
            Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Slow(_) => StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// Whether the client, not the operator, must mend it.
    pub(super) fn is_clients(&self) -> bool {
        self.status().is_client_error()
    }
}
