//! Why we end a session that neither side ended, and what its two ends are told then. Pure.

use std::fmt;

use super::frames::Fault;
use super::relay::Side;

/// Why we end a session that neither side ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Ended {
    /// The address it was reached at is on another node now.
    #[error("its address moved to another node")]
    AddressLeft,
    /// No byte for longer than allowed.
    #[error("idle too long")]
    Idle,
    /// Its backend drains, and its turn had come.
    #[error("its backend drains")]
    BackendDrained,
    /// The same with the listener its client came in by.
    #[error("its listener drains")]
    ListenerDrained,
    /// The same with this node.
    #[error("this node drains")]
    NodeDrained,
    /// This node stops.
    #[error("this node stops")]
    Stopping,
    /// One side is a ghost.
    #[error("the {0} does not answer pings")]
    Mute(Side),
    /// It is as old as its route lets sessions be.
    #[error("it is as old as max_age")]
    Old,
    /// The client says more than its route lets it.
    #[error("the client sent more than {0} allow")]
    Flood(Rate),
    /// What one side sent is no frame, or too large.
    #[error("the {0} sent {1}")]
    Broken(Side, Fault),
}

/// What a client may send so much of in a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rate {
    Messages,
    Bytes,
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Messages => "messages_per_second",
            Self::Bytes => "bytes_per_second",
        })
    }
}

impl Ended {
    /// The code that both sides are closed with (RFC 6455 section 7.4.1).
    pub(super) fn code(self) -> u16 {
        match self {
            // Its backend may be restarted; to the client that is all the service there was.
            Self::BackendDrained => 1012,
            Self::Flood(_) => 1008,
            Self::Broken(_, fault) => fault.code(),
            Self::AddressLeft
            | Self::Idle
            | Self::ListenerDrained
            | Self::NodeDrained
            | Self::Stopping
            | Self::Mute(_)
            | Self::Old => 1001,
        }
    }

    /// The side that cannot be told, since nothing reaches it any more.
    pub(super) fn unreachable(self) -> Option<Side> {
        match self {
            Self::AddressLeft => Some(Side::Client),
            Self::Mute(side) => Some(side),
            _ => None,
        }
    }

    /// What is said beside the code: to whom the fault may be, what it is; to others nothing of how things are here.
    pub(super) fn reason(self) -> String {
        match self {
            Self::Flood(_) | Self::Broken(..) => self.to_string(),
            _ => String::new(),
        }
    }
}
