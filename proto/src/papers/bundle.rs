//! One PEM file that proves who somebody is: the key, its certificate, and the authorities whose word is believed.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::identity::{Identity, hex};
use super::verify::{Expect, Verifier};

/// Before the first block: where the cluster's nodes are, host:port, separated by commas.
const NODES: &str = "Tandem-Nodes: ";

/// Why a file proves nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No key, or no certificate, or what is there is none.
    #[error("{0}")]
    Incomplete(String),
    /// rustls said no.
    #[error("the key and the certificate in it are of no use: {0}")]
    Unusable(String),
}

/// What proves who somebody is.
pub struct Papers {
    /// Whom the certificate names.
    pub identity: Identity,
    /// Where nodes of the cluster are, host:port; may be empty.
    pub nodes: Vec<String>,
    /// From when the certificate holds, in seconds since 1970.
    pub not_before: i64,
    /// Until when.
    pub not_after: i64,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    authorities: Vec<CertificateDer<'static>>,
}

/// No word about the key.
impl fmt::Debug for Papers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Papers({})", self.identity)
    }
}

/// What every certificate of an authority's key has in common: SHA-256 of its public key, in hex.
pub fn fingerprint(certificate: &[u8]) -> Option<String> {
    spki_hash(certificate).map(|hash| hex(&hash))
}

pub(super) fn spki_hash(certificate: &[u8]) -> Option<[u8; 32]> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    digest(&SHA256, parsed.public_key().raw).as_ref().try_into().ok()
}

pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}

fn roots(authorities: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(|e| Error::Unusable(e.to_string()))?;
    }
    Ok(Arc::new(roots))
}

impl Papers {
    /// Reads a file's text: the first certificate is the owner's, the others are authorities.
    ///
    /// # Errors
    /// What is missing. The key is not told.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let missing = |what: &str| Error::Incomplete(format!("there is no {what} in it"));
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| missing("private key"))?;
        let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        let mut all = all.map_err(|e| Error::Incomplete(format!("a certificate in it cannot be read: {e}")))?;
        if all.len() < 2 {
            return Err(missing(if all.is_empty() { "certificate" } else { "authority's certificate" }));
        }
        let certificate = all.remove(0);
        let identity = Identity::of_certificate(&certificate)
            .ok_or_else(|| Error::Incomplete("its certificate names nobody of a Tandem cluster".to_owned()))?;
        let (not_before, not_after) = validity(&certificate).ok_or_else(|| missing("certificate that can be read"))?;
        let nodes = text.lines().take_while(|l| !l.starts_with("-----")).find_map(|l| l.strip_prefix(NODES));
        let nodes = nodes.into_iter().flat_map(|l| l.split(',')).map(|n| n.trim().to_owned());
        let nodes = nodes.filter(|n| !n.is_empty()).collect();
        Ok(Self { identity, nodes, not_before, not_after, certificate, key, authorities: all })
    }

    /// The file's text, of its parts.
    pub fn text(key_pem: &str, certificate_pem: &str, authorities_pem: &[String], nodes: &[String]) -> String {
        let head = if nodes.is_empty() { String::new() } else { format!("{NODES}{}\n", nodes.join(",")) };
        let mut text = head;
        for part in [key_pem, certificate_pem].into_iter().chain(authorities_pem.iter().map(String::as_str)) {
            text.push_str(part.trim_end());
            text.push('\n');
        }
        text
    }

    /// Fingerprints of the authorities that are believed.
    pub fn believes(&self) -> Vec<String> {
        self.authorities.iter().filter_map(|a| fingerprint(a)).collect()
    }

    /// Fingerprint of the authority that signed the certificate; `None` if it is not among those believed. Authorities have
    /// names of their own: the name is enough to tell them apart, if not to believe them.
    pub fn signer(&self) -> Option<String> {
        let (_, ours) = X509Certificate::from_der(&self.certificate).ok()?;
        let signed = |authority: &&CertificateDer<'static>| {
            X509Certificate::from_der(authority).is_ok_and(|(_, a)| a.subject().as_raw() == ours.issuer().as_raw())
        };
        fingerprint(self.authorities.iter().find(signed)?)
    }

    /// How it speaks to a node: TLS 1.3, both sides shown and checked.
    ///
    /// # Errors
    /// The key is not the certificate's.
    pub fn client(&self, expect: Expect) -> Result<ClientConfig, Error> {
        let verifier = Verifier::members(roots(&self.authorities)?, self.identity.cluster.clone(), expect);
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|e| Error::Unusable(e.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(vec![self.certificate.clone()], self.key.clone_key())
            .map_err(|e| Error::Unusable(e.to_string()))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would not be asked again who it is.
        config.resumption = rustls::client::Resumption::disabled();
        Ok(config)
    }

    /// How a node is spoken to: TLS 1.3; who shows no certificate of these authorities does not get in.
    ///
    /// # Errors
    /// The key is not the certificate's.
    pub fn server(&self) -> Result<ServerConfig, Error> {
        let verifier = WebPkiClientVerifier::builder_with_provider(roots(&self.authorities)?, provider())
            .build()
            .map_err(|e| Error::Unusable(e.to_string()))?;
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|e| Error::Unusable(e.to_string()))?;
        let config = builder.with_client_cert_verifier(verifier);
        self.finished(config.with_single_cert(vec![self.certificate.clone()], self.key.clone_key()))
    }

    /// How a newcomer, who has no certificate yet, is spoken to. It is shown the authorities too, and knows one by its hash.
    ///
    /// # Errors
    /// The key is not the certificate's.
    pub fn door(&self) -> Result<ServerConfig, Error> {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|e| Error::Unusable(e.to_string()))?;
        let chain = std::iter::once(&self.certificate).chain(&self.authorities).cloned().collect();
        self.finished(builder.with_no_client_auth().with_single_cert(chain, self.key.clone_key()))
    }

    fn finished(&self, config: Result<ServerConfig, rustls::Error>) -> Result<ServerConfig, Error> {
        let mut config = config.map_err(|e| Error::Unusable(e.to_string()))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

/// From when until when a certificate (DER) holds, in seconds since 1970.
pub fn validity(certificate: &[u8]) -> Option<(i64, i64)> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some((parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp()))
}
