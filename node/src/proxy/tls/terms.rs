//! On what terms TLS is spoken with clients and with backends.

use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme, SupportedProtocolVersion,
};

use super::error::Error;
use super::shown::Shown;
use super::tickets::Tickets;
use crate::config::model::{Certificate, ClientAuth, ListenerTls, Name, TlsVersion, UpstreamTls};

/// One for all; aws-lc: the quickest of those rustls knows, and FIPS where somebody needs it.
static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// The newest first.
static VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

/// A certificate with its key, opened.
pub(super) struct Identity<'a> {
    /// As in the config.
    pub(super) name: &'a Name,
    pub(super) certificate: &'a Certificate,
    pub(super) key: PrivateKeyDer<'static>,
}

impl Identity<'_> {
    fn certified(self) -> Result<Arc<CertifiedKey>, Error> {
        let certified = CertifiedKey::from_der(self.certificate.chain().to_vec(), self.key, &PROVIDER);
        certified.map(Arc::new).map_err(|e| Error::certificate(self.name, e))
    }
}

/// How clients of a listener are met. `ticket_key`: of this listener and these terms alone, for whoever has a ticket was
/// let in by them.
///
/// # Errors
/// What the operator must mend.
pub(super) fn server(
    tls: &ListenerTls,
    identities: Vec<Identity<'_>>,
    http2: bool,
    ticket_key: &[u8; 32],
) -> Result<Arc<ServerConfig>, Error> {
    let keys = identities.into_iter().map(|i| Ok((i.certificate.names(), i.certified()?)));
    let shown = Shown::new(&keys.collect::<Result<Vec<_>, Error>>()?);
    let builder = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER));
    let builder = builder.with_protocol_versions(versions(tls.min_version)).map_err(Error::setup)?;
    let builder = match tls.client_auth {
        ClientAuth::Off => builder.with_no_client_auth(),
        ClientAuth::Optional | ClientAuth::Required => {
            let roots = Arc::new(roots(&tls.client_ca).map_err(|e| Error::authorities("clients", e))?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&PROVIDER));
            let optional = tls.client_auth == ClientAuth::Optional;
            let verifier = if optional { verifier.allow_unauthenticated() } else { verifier };
            builder.with_client_cert_verifier(verifier.build().map_err(|e| Error::authorities("clients", e))?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(shown));
    let spoken: &[&[u8]] = if http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
    config.alpn_protocols = spoken.iter().map(|protocol| protocol.to_vec()).collect();
    // Nothing is kept here that another node would miss.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.ticketer = Arc::new(Tickets::new(ticket_key, wall_clock));
    // Each connection brings the one with which to come again.
    config.send_tls13_tickets = 1;
    Ok(Arc::new(config))
}

/// How backends of an upstream are met.
///
/// # Errors
/// What the operator must mend.
pub(super) fn client(tls: &UpstreamTls, identity: Option<Identity<'_>>) -> Result<Arc<ClientConfig>, Error> {
    let builder = ClientConfig::builder_with_provider(Arc::clone(&PROVIDER));
    let builder = builder.with_protocol_versions(versions(tls.min_version)).map_err(Error::setup)?;
    let verifier: Arc<dyn ServerCertVerifier> = if tls.insecure {
        Arc::new(Unverified)
    } else {
        let roots = match tls.ca.as_slice() {
            [] => RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() },
            given => roots(given).map_err(|e| Error::authorities("backends", e))?,
        };
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&PROVIDER));
        verifier.build().map_err(|e| Error::authorities("backends", e))?
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(Identity { name, certificate, key }) => {
            let built = builder.with_client_auth_cert(certificate.chain().to_vec(), key);
            built.map_err(|e| Error::certificate(name, e))?
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Nodes agree on no other; a ticket's day may be one off.
#[allow(clippy::disallowed_methods)]
fn wall_clock() -> SystemTime {
    SystemTime::now()
}

fn versions(oldest: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    match oldest {
        TlsVersion::Tls12 => &VERSIONS,
        TlsVersion::Tls13 => &VERSIONS[..1],
    }
}

fn roots(given: &[CertificateDer<'static>]) -> Result<RootCertStore, rustls::Error> {
    let mut roots = RootCertStore::empty();
    given.iter().try_for_each(|certificate| roots.add(certificate.clone()))?;
    Ok(roots)
}

/// Takes every certificate, but only from who has its key.
#[derive(Debug)]
struct Unverified;

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &PROVIDER.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &PROVIDER.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}
