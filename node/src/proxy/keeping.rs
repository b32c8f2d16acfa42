//! How the kernel finds out that the other end of a connection is gone: asked when it is silent, given up when it takes
//! nothing.

use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

use crate::config::model::Settings;

/// What a socket is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Keeping {
    user_timeout: Option<Duration>,
    keepalive: Option<Duration>,
}

impl Keeping {
    /// What the config says.
    pub(super) fn of(settings: &Settings) -> Self {
        Self { user_timeout: settings.tcp_user_timeout, keepalive: settings.tcp_keepalive }
    }

    /// Tells a socket; one that listens hands it on to those it accepts (Linux).
    pub(super) fn apply(self, socket: &impl AsFd) {
        let socket = SockRef::from(socket);
        let told = match self.keepalive {
            // Nine questions a quarter of that apart, unless the user timeout is over before.
            Some(time) => {
                let interval = (time / 4).max(Duration::from_secs(1));
                socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(time).with_interval(interval))
            }
            None => socket.set_keepalive(false),
        };
        if let Err(error) = told.and_then(|()| socket.set_tcp_user_timeout(self.user_timeout)) {
            // Only a socket that is dead already refuses; whoever uses it finds out.
            tracing::debug!(%error, "a socket takes no timers");
        }
    }
}
