//! Whom a client takes for the node it dialled: names are those of members, not of hosts.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::bundle::{provider, spki_hash};
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

fn stranger(why: impl Into<String>) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(rustls::OtherError(Arc::new(Refused(why.into())))))
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

/// Checks who answers: that the certificate was signed by whom we believe, and that its name may answer.
#[derive(Debug)]
pub(super) struct Verifier {
    believed: Believed,
    provider: Arc<CryptoProvider>,
}

/// Who is believed.
#[derive(Debug)]
enum Believed {
    /// Nodes of one cluster.
    Members { roots: Arc<RootCertStore>, cluster: String, expect: Expect },
    /// Proxies of the one authority whose key has this hash: all that a token tells a newcomer.
    Pinned([u8; 32]),
}

impl Verifier {
    /// For a member: `expect` of this cluster answers.
    pub(super) fn members(roots: Arc<RootCertStore>, cluster: String, expect: Expect) -> Self {
        Self { believed: Believed::Members { roots, cluster, expect }, provider: provider() }
    }

    fn judge(&self, shown: &Shown<'_>) -> Result<(), rustls::Error> {
        match &self.believed {
            Believed::Members { roots, cluster, expect } => {
                shown.signed(shown.between, roots, &self.provider)?;
                shown.is_member(cluster, expect)
            }
            Believed::Pinned(pin) => {
                let pinned = shown.between.iter().find(|c| spki_hash(c) == Some(*pin)).ok_or_else(|| {
                    stranger("the cluster's authority is not the one the token names: wrong host, or somebody between")
                })?;
                let mut roots = RootCertStore::empty();
                roots.add(pinned.clone().into_owned())?;
                shown.signed(&[], &roots, &self.provider)?;
                match Identity::of_certificate(shown.certificate) {
                    Some(Identity { who: Who::Node(_), .. }) => Ok(()),
                    _ => Err(stranger("no proxy of the cluster answers there")),
                }
            }
        }
    }
}

/// How a newcomer, who has no certificate yet, speaks to the join port of the authority whose key has this hash.
///
/// # Errors
/// Never in practice: TLS 1.3 is there.
pub fn newcomer(pin: [u8; 32]) -> Result<ClientConfig, rustls::Error> {
    let verifier = Verifier { believed: Believed::Pinned(pin), provider: provider() };
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// What the other end shows of itself.
struct Shown<'a> {
    certificate: &'a CertificateDer<'a>,
    between: &'a [CertificateDer<'a>],
    now: UnixTime,
}

impl Shown<'_> {
    fn signed(
        &self,
        between: &[CertificateDer<'_>],
        roots: &RootCertStore,
        provider: &CryptoProvider,
    ) -> Result<(), rustls::Error> {
        let parsed = ParsedCertificate::try_from(self.certificate)?;
        let algorithms = provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, roots, between, self.now, algorithms)
    }

    fn is_member(&self, cluster: &str, expect: &Expect) -> Result<(), rustls::Error> {
        let Some(found) = Identity::of_certificate(self.certificate) else {
            return Err(stranger("nobody of a Tandem cluster answers there"));
        };
        if found.cluster != cluster {
            return Err(stranger(format!("a node of another cluster answers there: {}", found.cluster)));
        }
        if expect.fits(&found.who) {
            return Ok(());
        }
        Err(stranger(match expect {
            Expect::AnyNode => format!("{} answers there, which is no node", found.who),
            Expect::Exactly(who) => format!("{} answers there, not {who}", found.who),
        }))
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.judge(&Shown { certificate, between, now })?;
        Ok(ServerCertVerified::assertion())
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
