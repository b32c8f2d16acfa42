//! Whom a client takes for the node it dialled: names are those of members, not of hosts.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::bundle::spki_hash;
use super::identity::{Identity, Who};

/// Who may answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expect {
    /// Any node of the cluster.
    AnyNode,
    /// This one, and no other.
    Exactly(Who),
}

impl Expect {
    fn fits(&self, who: &Who) -> bool {
        match self {
            Self::AnyNode => matches!(who, Who::Node(_) | Who::Witness(_)),
            Self::Exactly(wanted) => who == wanted,
        }
    }
}

fn stranger(why: String) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(rustls::OtherError(Arc::new(Refused(why)))))
}

/// Why a certificate that is genuine is still the wrong one.
#[derive(Debug)]
struct Refused(String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// Believes nodes of one cluster.
#[derive(Debug)]
pub(super) struct Members {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    cluster: String,
    expect: Expect,
}

impl Members {
    pub(super) fn new(
        roots: Arc<RootCertStore>,
        provider: Arc<CryptoProvider>,
        cluster: String,
        expect: Expect,
    ) -> Self {
        Self { roots, provider, cluster, expect }
    }
}

fn signed(
    certificate: &CertificateDer<'_>,
    between: &[CertificateDer<'_>],
    roots: &RootCertStore,
    provider: &CryptoProvider,
    now: UnixTime,
) -> Result<(), rustls::Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    let algorithms = provider.signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&parsed, roots, between, now, algorithms)
}

impl ServerCertVerifier for Members {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        signed(certificate, between, &self.roots, &self.provider, now)?;
        match Identity::of_certificate(certificate) {
            Some(found) if found.cluster == self.cluster && self.expect.fits(&found.who) => {
                Ok(ServerCertVerified::assertion())
            }
            Some(found) if found.cluster != self.cluster => {
                Err(stranger(format!("a node of another cluster answers there: {}", found.cluster)))
            }
            Some(found) => Err(stranger(match &self.expect {
                Expect::AnyNode => format!("{} answers there, which is no node", found.who),
                Expect::Exactly(who) => format!("{} answers there, not {who}", found.who),
            })),
            None => Err(stranger("nobody of a Tandem cluster answers there".to_owned())),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Believes one authority, known by the hash of its key alone: what a token tells a newcomer.
#[derive(Debug)]
pub struct Pinned {
    pin: [u8; 32],
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    /// How a newcomer speaks to the join port. It shows no certificate, for it has none.
    ///
    /// # Errors
    /// Never in practice: TLS 1.3 is there.
    pub fn client(pin: [u8; 32]) -> Result<ClientConfig, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let verifier = Self { pin, provider: Arc::clone(&provider) };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        shown: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let pinned = shown.iter().find(|c| spki_hash(c) == Some(self.pin)).ok_or_else(|| {
            stranger("the cluster's authority is not the one the token names: wrong host, or somebody between".into())
        })?;
        let mut roots = RootCertStore::empty();
        roots.add(pinned.clone().into_owned())?;
        signed(certificate, &[], &roots, &self.provider, now)?;
        match Identity::of_certificate(certificate) {
            Some(Identity { who: Who::Node(_), .. }) => Ok(ServerCertVerified::assertion()),
            _ => Err(stranger("no proxy of the cluster answers there".to_owned())),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.3 only".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
