//! An authority of our own, what it signs, and keys as a node opens them.

use std::collections::BTreeMap;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};
use tandem_proto::config::v1 as pb;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use zeroize::Zeroizing;

use super::super::rig::{PATIENCE, Rig, name};
use crate::config::model::{self, Config, Name, SEALED};
use crate::proxy::Keys;

/// Who vouches for certificates.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) certificate: CertificateDer<'static>,
}

/// A certificate with its key.
pub(super) struct Issued {
    pub(super) chain: CertificateDer<'static>,
    chain_pem: String,
    key_pem: String,
}

impl Authority {
    pub(super) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    pub(super) fn issue(&self, host: &str) -> Issued {
        self.issue_with(host, &rcgen::PKCS_ECDSA_P256_SHA256)
    }

    pub(super) fn issue_with(&self, host: &str, algorithm: &'static rcgen::SignatureAlgorithm) -> Issued {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = CertificateParams::new([host.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        Issued { chain: certificate.der().clone(), chain_pem: certificate.pem(), key_pem: key.serialize_pem() }
    }

    fn roots(&self) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        Arc::new(roots)
    }

    /// A client that believes it.
    pub(super) fn client(&self) -> ClientConfig {
        self.client_of(rustls::DEFAULT_VERSIONS, None)
    }

    pub(super) fn client_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        shows: Option<&Issued>,
    ) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(provider()).with_protocol_versions(versions).unwrap();
        let builder = builder.with_root_certificates(self.roots());
        let mut config = match shows {
            Some(issued) => builder.with_client_auth_cert(vec![issued.chain.clone()], issued.key()).unwrap(),
            None => builder.with_no_client_auth(),
        };
        config.resumption = Resumption::in_memory_sessions(8);
        config
    }

    /// A backend in TLS in front of a plain one; `asks`: of its clients a certificate of ours.
    pub(super) async fn backend(
        &self,
        issued: &Issued,
        plain: std::net::SocketAddr,
        asks: bool,
    ) -> std::net::SocketAddr {
        self.backend_at("127.0.0.1:0".parse().unwrap(), issued, plain, asks).await
    }

    /// The same, there.
    pub(super) async fn backend_at(
        &self,
        at: std::net::SocketAddr,
        issued: &Issued,
        plain: std::net::SocketAddr,
        asks: bool,
    ) -> std::net::SocketAddr {
        let builder = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions().unwrap();
        let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(self.roots(), provider());
        let builder = match asks {
            true => builder.with_client_cert_verifier(verifier.build().unwrap()),
            false => builder.with_no_client_auth(),
        };
        let config = builder.with_single_cert(vec![issued.chain.clone()], issued.key()).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = tokio::net::TcpListener::bind(at).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut secured) = acceptor.accept(socket).await else { return };
                    let mut behind = TcpStream::connect(plain).await.unwrap();
                    drop(tokio::io::copy_bidirectional(&mut secured, &mut behind).await);
                });
            }
        });
        address
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

impl Issued {
    /// With the key of another one.
    pub(super) fn swap_key(&mut self, other: &Self) {
        self.key_pem.clone_from(&other.key_pem);
    }

    fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes()).unwrap()
    }
}

/// As in a config.
pub(super) fn certificates(all: &[(&str, &Issued)]) -> BTreeMap<Name, Arc<model::Certificate>> {
    let certificate = |(name, issued): &(&str, &Issued)| pb::Certificate {
        name: (*name).to_owned(),
        chain_pem: issued.chain_pem.clone(),
        sealed_key: [SEALED, issued.key_pem.as_bytes()].concat(),
    };
    let given = pb::Config { certificates: all.iter().map(certificate).collect(), ..Default::default() };
    Config::try_from(&given).unwrap().certificates
}

/// Keys that are sealed with nothing; tickets are of those with the same number.
#[derive(Debug)]
pub(super) struct Open(pub(super) u8);

impl Keys for Open {
    fn open(&self, _: &Name, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, String> {
        let key = sealed.strip_prefix(SEALED).ok_or("not sealed")?;
        Ok(key.to_vec().into())
    }

    fn ticket_key(&self, purpose: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut key = <[u8; 32]>::try_from(purpose).unwrap();
        key.iter_mut().for_each(|b| *b ^= self.0);
        key.into()
    }
}

/// A rig whose listener shows these, in this order.
pub(super) async fn rig(
    upstream: model::Upstream,
    shown: &[(&str, &Issued)],
    change: impl FnOnce(&mut Config, &mut model::ListenerTls),
) -> Rig {
    Rig::of(with(super::super::rig::config(super::super::rig::free_address(), upstream), shown, change), |settings| {
        settings.keys = Some(Arc::new(Open(1)));
    })
    .await
}

/// The config, with TLS at its listener.
pub(super) fn with(
    mut config: Config,
    shown: &[(&str, &Issued)],
    change: impl FnOnce(&mut Config, &mut model::ListenerTls),
) -> Config {
    config.certificates.append(&mut certificates(shown));
    let mut tls = model::ListenerTls {
        certificates: shown.iter().map(|(n, _)| name(n)).collect(),
        min_version: model::TlsVersion::Tls12,
        client_auth: model::ClientAuth::Off,
        client_ca: Vec::new(),
    };
    change(&mut config, &mut tls);
    config.listeners.values_mut().for_each(|l| l.tls = Some(Arc::new(tls.clone())));
    config
}

/// Connects, and asks for this host.
pub(super) async fn dial(rig: &Rig, client: &Arc<ClientConfig>, host: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let connector = TlsConnector::from(Arc::clone(client));
    let host = ServerName::try_from(host.to_owned()).unwrap();
    tokio::time::timeout(PATIENCE, connector.connect(host, rig.connect().await)).await.unwrap()
}
