//! One look at a backend: what its kind of check tries, all of it within the check's time.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use ::http::header::{HOST, HeaderValue, USER_AGENT};
use ::http::request::Builder;
use tokio::time::Instant;

use super::super::backend::authority;
use super::super::stream::Stream;
use super::error::Error;
use super::watch::Told;
use super::{http, websocket};
use crate::config::model::CheckKind;

/// What a backend's log calls a check.
const NAME: &str = concat!("tandem-check/", env!("CARGO_PKG_VERSION"));

/// Tries what `told` says at a backend.
///
/// # Errors
/// What was found wrong with it.
pub(super) async fn look(backend: SocketAddr, told: &Told) -> Result<(), Error> {
    let check = &told.check;
    let patience = Patience { until: Instant::now() + check.timeout, all: check.timeout };
    let address = check.port.map_or(backend, |port| SocketAddr::new(backend.ip(), port.get()));
    let stream = connect(address, told).await?;
    match check.kind {
        // That the connection came about is all that is asked.
        CheckKind::None | CheckKind::Tcp | CheckKind::Tls => Ok(()),
        CheckKind::Http => http::ask(stream, request(address, told), check, patience).await,
        CheckKind::Websocket => websocket::talk(stream, request(address, told), check, patience).await,
    }
}

/// Connects as for clients, but speaks for nobody, and no TLS where only TCP is asked for.
async fn connect(address: SocketAddr, told: &Told) -> Result<Stream, Error> {
    let within = told.check.timeout;
    let connected = match told.check.kind {
        CheckKind::None | CheckKind::Tcp => told.dialing.connect(address, within, None).await.map(Stream::from),
        CheckKind::Tls | CheckKind::Http | CheckKind::Websocket => {
            told.dialing.open(address, told.host.as_deref(), within, None).await
        }
    };
    connected.map_err(Error::Dial)
}

/// What both kinds of request say.
fn request(address: SocketAddr, told: &Told) -> Builder {
    let check = &told.check;
    let host = check.host.clone().unwrap_or_else(|| authority(told.host.as_deref(), address));
    let host = HeaderValue::from_str(&host).expect("the model lets visible ASCII through only");
    Builder::new().uri(&check.path).header(HOST, host).header(USER_AGENT, NAME)
}

/// The time that a look has, all its steps together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    until: Instant,
    all: Duration,
}

impl Patience {
    /// Waits for a step that brings `what`.
    ///
    /// # Errors
    /// Those of the step; [`Error::Late`].
    pub(super) async fn wait<T, E: Into<Error>>(
        self,
        what: &'static str,
        step: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout_at(self.until, step).await {
            Ok(done) => done.map_err(Into::into),
            Err(_) => Err(Error::Late { what, within: self.all }),
        }
    }
}
