//! The handshake, on either side.

use std::io;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{AlertDescription, ClientConfig, ServerConfig};
use tokio::net::TcpStream;

use super::error::Error;
use super::records::{Cut, Secured};
use super::talk::Talk;

/// A handshake with a client that led to nothing.
#[derive(Debug)]
pub(in crate::proxy) struct Failed {
    /// Why.
    pub(in crate::proxy) why: io::Error,
    /// To close it so that the last word arrives.
    pub(in crate::proxy) socket: TcpStream,
}

/// Why a backend could not be met. The operator must mend it.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum Unmet {
    /// It is not whom we expect, as far as we can tell.
    #[error(
        "its certificate is not believed: {0}; the operator must say who vouches for it or whom to expect: tandemctl upstream set NAME --tls-ca FILE, --tls-server-name HOST"
    )]
    Unbelieved(rustls::CertificateError),
    /// We are not whom it expects.
    #[error(
        "it does not believe us: {0:?}; the operator must give us a certificate it knows: tandemctl upstream set NAME --tls-cert CERTIFICATE"
    )]
    Refused(AlertDescription),
    /// The rest.
    #[error("no TLS with it: {0}; the operator must see that it speaks TLS, in a version that is allowed")]
    Other(io::Error),
}

/// Whether it is of TLS that a connection to a backend did not come about.
pub(in crate::proxy) fn is_unmet(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<Unmet>() || inner.is::<Error>())
}

impl From<io::Error> for Unmet {
    fn from(error: io::Error) -> Self {
        match error.get_ref().and_then(|inner| inner.downcast_ref()) {
            Some(rustls::Error::InvalidCertificate(why)) => Self::Unbelieved(why.clone()),
            Some(rustls::Error::AlertReceived(
                alert @ (AlertDescription::CertificateRequired
                | AlertDescription::BadCertificate
                | AlertDescription::UnknownCA
                | AlertDescription::AccessDenied),
            )) => Self::Refused(*alert),
            _ => Self::Other(error),
        }
    }
}

/// Meets a client.
///
/// # Errors
/// It cannot be met on these terms; it was told so.
pub(in crate::proxy) async fn accept(socket: TcpStream, terms: &Arc<ServerConfig>) -> Result<Box<Secured>, Failed> {
    let talk = match UnbufferedServerConnection::new(Arc::clone(terms)) {
        Ok(talk) => Talk::Server(talk),
        Err(error) => return Err(Failed { why: io::Error::other(error), socket }),
    };
    let mut secured = Box::new(Secured::new(socket, talk, Cut::End));
    match secured.shake_hands().await {
        Ok(()) => Ok(secured),
        Err(why) => Err(Failed { why, socket: secured.into_socket() }),
    }
}

/// Meets a backend that must prove that it is `name`.
///
/// # Errors
/// It cannot be met on these terms; it was told so.
pub(in crate::proxy) async fn connect(
    socket: TcpStream,
    terms: &Arc<ClientConfig>,
    name: ServerName<'static>,
) -> Result<Box<Secured>, Unmet> {
    let talk = UnbufferedClientConnection::new(Arc::clone(terms), name).map_err(io::Error::other)?;
    let mut secured = Box::new(Secured::new(socket, Talk::Client(talk), Cut::Failure));
    secured.shake_hands().await?;
    Ok(secured)
}
