//! The way to a node port: plain, or over TLS with the papers of the moment.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower::{Service, service_fn};

use super::bundle::Papers;
use super::verify::Expect;

/// The papers of the moment: they are renewed while connections come and go.
pub type Current = watch::Receiver<Arc<Papers>>;

/// A node port, as every channel to one is made.
///
/// # Errors
/// An address that is none.
pub fn endpoint(address: &str) -> Result<Endpoint, tonic::transport::Error> {
    // Whether TLS is spoken is decided below it: tonic's own has no way to change certificates.
    Endpoint::from_shared(format!("http://{address}"))
}

/// Makes TLS connections for an [`Endpoint`]: each shows the papers of that moment, and `expect` must answer.
pub fn connector(
    papers: Current,
    expect: Expect,
) -> impl Service<http::Uri, Response = TokioIo<TlsStream<TcpStream>>, Error = io::Error, Future: Send> + Send + 'static
{
    service_fn(move |uri: http::Uri| {
        let config = papers.borrow().client(expect.clone());
        async move {
            let config = config.map_err(io::Error::other)?;
            connect(&uri, config).await.map(TokioIo::new)
        }
    })
}

/// The way to `endpoint`, over TLS: connects when first used, and again after each loss.
pub fn channel(endpoint: &Endpoint, papers: Current, expect: Expect) -> Channel {
    endpoint.connect_with_connector_lazy(connector(papers, expect))
}

/// A connection to the host of `uri`.
pub fn connect(
    uri: &http::Uri,
    config: ClientConfig,
) -> impl Future<Output = io::Result<TlsStream<TcpStream>>> + use<> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let port = uri.port_u16().unwrap_or(0);
    async move {
        let stream = TcpStream::connect((host.as_str(), port)).await?;
        stream.set_nodelay(true)?;
        // A peer that dies between is noticed by HTTP/2 pings later; here the handshake must end.
        let name = ServerName::try_from("tandem").map_err(io::Error::other)?;
        let shaken = TlsConnector::from(Arc::new(config)).connect(name, stream);
        tokio::time::timeout(Duration::from_secs(5), shaken)
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no TLS handshake within 5 s"))?
    }
}
