//! How a node comes to the node port of another: a line that connects when first used, and again after each loss.

use std::sync::Arc;
use std::time::Duration;

use tandem_proto::papers::{self, Current, Expect};
use tonic::Status;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tower::BoxError;
use tower::ServiceExt as _;
use tower::util::BoxCloneSyncService;

use super::standing::{Member, Role};

/// The way to a node port: connects when first used, again after each loss, and notices a silent peer.
///
/// # Errors
/// An address that is none.
fn channel(address: &str) -> Result<Channel, tonic::transport::Error> {
    Ok(port(address)?.connect_timeout(Duration::from_millis(250)).connect_lazy())
}

fn port(address: &str) -> Result<Endpoint, tonic::transport::Error> {
    Ok(papers::endpoint(address)?
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(1))
        .keep_alive_timeout(Duration::from_secs(1))
        .keep_alive_while_idle(true))
}

/// Over TLS, and nobody but this member may answer; one without a number is whoever is a node at its address.
fn secured(member: &Member, papers: Current) -> Result<Channel, tonic::transport::Error> {
    let who = match member.role {
        Role::Proxy => papers::Who::Node(member.id),
        Role::Witness => papers::Who::Witness(member.id),
    };
    let expect = if member.id == 0 { Expect::AnyNode } else { Expect::Exactly(who) };
    // A handshake is a few milliseconds of work at both ends, and a machine may be busy.
    let port = port(&member.address)?.connect_timeout(Duration::from_secs(1));
    Ok(papers::channel(&port, papers, expect))
}

/// A way to one node port: a gRPC request in, its reply out, and again after each loss.
pub type Line = BoxCloneSyncService<http::Request<Body>, http::Response<Body>, Status>;

type Dialled = Result<Line, BoxError>;

/// How this node comes to a line to another; a simulation brings its own network.
#[derive(Clone)]
pub struct Dial(Arc<dyn Fn(&Member) -> Dialled + Send + Sync>);

impl Dial {
    /// Lines are what `dial` makes of an address.
    pub fn by(dial: impl Fn(&str) -> Dialled + Send + Sync + 'static) -> Self {
        Self(Arc::new(move |member| dial(&member.address)))
    }

    /// Over TCP, see [`channel`].
    pub fn tcp() -> Self {
        Self::by(|address| Ok(line(channel(address)?)))
    }

    /// Over TLS: each side shows the papers of the moment, and knows the other by them.
    pub fn secured(papers: Current) -> Self {
        Self(Arc::new(move |member| Ok(line(secured(member, papers.clone())?))))
    }

    /// To whatever node is there.
    pub(super) fn line(&self, address: &str) -> Dialled {
        self.to(&Member { address: address.to_owned(), ..Member::default() })
    }

    /// To this member.
    ///
    /// # Errors
    /// An address that is none.
    pub fn to(&self, member: &Member) -> Dialled {
        (self.0)(member)
    }
}

impl std::fmt::Debug for Dial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Dial")
    }
}

fn line(channel: Channel) -> Line {
    Line::new(channel.map_err(|e| Status::from_error(e.into())))
}
