//! A connection to the target, plain or by TLS, and the WebSocket handshake on it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context, ensure};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::order::{Order, Secure};
use crate::backend::header;
use crate::certificate::NAME;

/// A key and what its answer must be (RFC 6455, section 1.3): always the same, so that checking it costs nothing.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A connection, whatever is below it.
pub(super) trait Duplex: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Duplex for T {}

/// Connects, again and again; what it learns for resumption is its own.
pub(super) struct Dial {
    target: SocketAddr,
    secure: Option<(TlsConnector, ServerName<'static>)>,
    // Some: TLS sessions are to be resumed; true: one is known by now.
    resumes: Option<bool>,
}

impl Dial {
    /// To this order's target.
    ///
    /// # Errors
    /// The certificate is no such thing.
    pub(super) fn new(order: &Order) -> anyhow::Result<Self> {
        let secure = order.secure.as_ref().map(connector).transpose()?;
        let resumes = order.secure.as_ref().and_then(|s| s.resume.then_some(false));
        Ok(Self { target: order.target, secure, resumes })
    }

    /// A new connection.
    ///
    /// # Errors
    /// Refused, or the TLS handshake is not as ordered.
    pub(super) async fn connect(&mut self) -> anyhow::Result<Box<dyn Duplex>> {
        let stream = TcpStream::connect(self.target).await.context("connect")?;
        stream.set_nodelay(true)?;
        let Some((connector, name)) = &self.secure else { return Ok(Box::new(stream)) };
        let stream = connector.connect(name.clone(), stream).await.context("TLS handshake")?;
        let kind = stream.get_ref().1.handshake_kind();
        let expected = if self.resumes == Some(true) { HandshakeKind::Resumed } else { HandshakeKind::Full };
        ensure!(kind == Some(expected), "the TLS handshake was {kind:?}, and {expected:?} was ordered");
        self.resumes = self.resumes.map(|_| true);
        Ok(Box::new(stream))
    }

    /// A new connection on which the handshake is done.
    ///
    /// # Errors
    /// As for [`Self::connect`], or the answer is not the right 101.
    pub(super) async fn upgrade(&mut self) -> anyhow::Result<Box<dyn Duplex>> {
        let mut stream = self.connect().await?;
        let request = format!(
            "GET /echo HTTP/1.1\r\nHost: {NAME}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.context("sending the handshake")?;
        stream.flush().await?;
        let mut answer = [0; 2048];
        let mut filled = 0;
        while !answer[..filled].ends_with(b"\r\n\r\n") {
            let read = stream.read(&mut answer[filled..]).await.context("reading the handshake's answer")?;
            ensure!(read > 0, "closed in the middle of the handshake's answer");
            filled += read;
        }
        let answer = &answer[..filled];
        let right = answer.starts_with(b"HTTP/1.1 101 ") && header(answer, "sec-websocket-accept") == Some(ACCEPT);
        ensure!(right, "the handshake's answer: {}", String::from_utf8_lossy(answer));
        Ok(stream)
    }
}

/// TLS 1.3 with one suite and one group, so that every server does the same arithmetic.
fn connector(secure: &Secure) -> anyhow::Result<(TlsConnector, ServerName<'static>)> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&secure.certificate)?)?;
    let provider = CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = if secure.resume { Resumption::in_memory_sessions(8) } else { Resumption::disabled() };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((TlsConnector::from(Arc::new(config)), ServerName::try_from(NAME)?))
}
