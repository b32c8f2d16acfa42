//! The terms of every listener and upstream, made once and kept while nothing they are made from changes: a change of
//! something else costs no handshake and forgets no session that could be resumed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ServerConfig};
use zeroize::Zeroizing;

use super::error::Error;
use super::terms::{self, Identity};
use crate::config::model::{Certificate, Config, ListenerTls, Name, UpstreamTls};

/// What opens the keys that the config keeps sealed.
pub trait Keys: fmt::Debug + Send + Sync {
    /// The private key of the certificate with this name, PEM.
    ///
    /// # Errors
    /// Why it stays sealed, for the operator.
    fn open(&self, name: &Name, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, String>;

    /// A key for the session tickets of `purpose`, the same on every node that opens the same keys.
    fn ticket_key(&self, purpose: &[u8]) -> Zeroizing<[u8; 32]>;
}

/// See the module.
#[derive(Debug, Default)]
pub(in crate::proxy) struct Known {
    keys: Option<Arc<dyn Keys>>,
    servers: BTreeMap<Name, Made<(Arc<ListenerTls>, bool), ServerConfig>>,
    clients: BTreeMap<Name, Made<Arc<UpstreamTls>, ClientConfig>>,
}

/// Terms, and what they were made from.
#[derive(Debug)]
struct Made<F, T> {
    from: F,
    certificates: Vec<Arc<Certificate>>,
    terms: Result<Arc<T>, Error>,
}

impl<F: PartialEq, T> Made<F, T> {
    fn is_of(&self, from: &F, certificates: &[Arc<Certificate>]) -> bool {
        self.from == *from && self.certificates == certificates
    }
}

impl Known {
    /// `keys`: none on a node that has no secret.
    pub(in crate::proxy) fn new(keys: Option<Arc<dyn Keys>>) -> Self {
        Self { keys, ..Self::default() }
    }

    /// How a listener's clients are met. `http2`: they may choose it.
    ///
    /// # Errors
    /// What the operator must mend.
    pub(in crate::proxy) fn server(
        &mut self,
        listener: &Name,
        tls: &Arc<ListenerTls>,
        http2: bool,
        config: &Config,
    ) -> Result<Arc<ServerConfig>, Error> {
        let from = (Arc::clone(tls), http2);
        let certificates = named(config, &tls.certificates);
        if let Some(made) = self.servers.get(listener).filter(|made| made.is_of(&from, &certificates)) {
            return made.terms.clone();
        }
        let terms = self.make_server(listener, tls, http2, config);
        self.servers.insert(listener.clone(), Made { from, certificates, terms: terms.clone() });
        terms
    }

    /// How an upstream's backends are met.
    ///
    /// # Errors
    /// What the operator must mend.
    pub(in crate::proxy) fn client(
        &mut self,
        upstream: &Name,
        tls: &Arc<UpstreamTls>,
        config: &Config,
    ) -> Result<Arc<ClientConfig>, Error> {
        let certificates = named(config, &tls.certificate);
        if let Some(made) = self.clients.get(upstream).filter(|made| made.is_of(tls, &certificates)) {
            return made.terms.clone();
        }
        let identity = tls.certificate.as_ref().map(|name| self.identity(name, config)).transpose();
        let terms = identity.and_then(|identity| terms::client(tls, identity));
        self.clients.insert(upstream.clone(), Made { from: Arc::clone(tls), certificates, terms: terms.clone() });
        terms
    }

    /// Forgets what is in the config no more.
    pub(in crate::proxy) fn forget_unused(&mut self, config: &Config) {
        self.servers.retain(|name, _| config.listeners.get(name).is_some_and(|l| l.tls.is_some()));
        self.clients.retain(|name, _| config.upstreams.get(name).is_some_and(|u| u.tls.is_some()));
    }

    fn make_server(
        &self,
        listener: &Name,
        tls: &ListenerTls,
        http2: bool,
        config: &Config,
    ) -> Result<Arc<ServerConfig>, Error> {
        let identities = tls.certificates.iter().map(|name| self.identity(name, config));
        let identities = identities.collect::<Result<Vec<_>, _>>()?;
        let key = match &self.keys {
            Some(keys) => keys.ticket_key(&purpose(listener, tls)),
            // The model lets no listener through that shows nothing, and showing takes a key.
            None => return Err(Error::setup("there is no secret")),
        };
        terms::server(tls, identities, http2, &key)
    }

    fn identity<'a>(&self, name: &'a Name, config: &'a Config) -> Result<Identity<'a>, Error> {
        let certificate = config.certificates.get(name).ok_or_else(|| Error::certificate(name, "is not there"))?;
        let keys = self.keys.as_ref().ok_or_else(|| Error::NoSecret(name.clone()))?;
        let opened = keys.open(name, certificate.sealed_key()).map_err(|why| Error::certificate(name, why))?;
        let key = PrivateKeyDer::from_pem_slice(&opened).map_err(|why| Error::certificate(name, why))?;
        Ok(Identity { name, certificate, key })
    }
}

fn named<'a>(config: &Config, names: impl IntoIterator<Item = &'a Name>) -> Vec<Arc<Certificate>> {
    names.into_iter().filter_map(|name| config.certificates.get(name).cloned()).collect()
}

/// What tickets are for: a client that was let in by one listener has proved nothing to another one, nor to this one
/// after it asks for more.
fn purpose(listener: &Name, tls: &ListenerTls) -> Vec<u8> {
    let mut said = Context::new(&SHA256);
    for piece in [listener.as_str().as_bytes(), tls.client_auth.word().as_bytes()] {
        said.update(&piece.len().to_be_bytes());
        said.update(piece);
    }
    for authority in &tls.client_ca {
        said.update(&authority.len().to_be_bytes());
        said.update(authority);
    }
    said.finish().as_ref().to_vec()
}
