//! Serves the services of the node port to who may ask, within limits that no caller can exceed.

use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::Stream;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tower::layer::layer_fn;

use super::guard::{Guarded, Port};
use super::strangers::Members;

/// Requests under way on one connection: a node has a few, tandemctl one. More wait for their turn at the caller.
const STREAMS: u32 = 256;
/// A connection whose other end is gone is noticed after both.
const PING_EVERY: Duration = Duration::from_secs(1);
const PONG_WITHIN: Duration = Duration::from_secs(2);

/// Answers at `incoming` until `closed`, then lets the requests under way finish.
///
/// # Errors
/// The port failed.
pub async fn serve<I, C>(
    routes: Routes,
    port: Port,
    members: Members,
    incoming: I,
    closed: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error>
where
    I: Stream<Item = io::Result<C>>,
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    Server::builder()
        .layer(layer_fn(move |inner| Guarded::new(inner, port, members.clone())))
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PONG_WITHIN))
        .max_concurrent_streams(STREAMS)
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, closed)
        .await
}
