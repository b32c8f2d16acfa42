//! Which certificate a client is shown: by the name it asks for, and by what it can verify.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureAlgorithm, SignatureScheme};

thread_local! {
    /// rustls tells a resolver what a client asks for, and nobody else; it does so while it takes records, on the thread
    /// that takes them.
    static LAST: RefCell<Option<Vouched>> = const { RefCell::new(None) };
}

/// Chooses among the certificates of a listener.
#[derive(Debug)]
pub(super) struct Shown(Arc<Certificates>);

impl Shown {
    /// Each with its names in small letters. The first is also for those who ask for none of the names.
    pub(super) fn new(all: &[(&[String], Arc<CertifiedKey>)]) -> Self {
        Self(Arc::new(Certificates::new(all)))
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let key = self.0.choose(hello.server_name(), hello.signature_schemes())?;
        LAST.set(Some(Vouched { all: Arc::clone(&self.0), key: Arc::clone(&key) }));
        Some(key)
    }
}

/// What was chosen on this thread since this was asked last.
pub(super) fn last() -> Option<Vouched> {
    LAST.take()
}

/// The certificate that a client was shown, among those it could have been.
#[derive(Debug)]
pub(in crate::proxy) struct Vouched {
    all: Arc<Certificates>,
    key: Arc<CertifiedKey>,
}

impl Vouched {
    /// Whether a client that asked for this host, without a port, could have been shown the same.
    pub(in crate::proxy) fn speaks_for(&self, host: &str) -> bool {
        let host = host.strip_suffix('.').unwrap_or(host);
        self.all.of(Some(host)).iter().any(|key| Arc::ptr_eq(key, &self.key))
    }
}

/// The certificates of a listener.
#[derive(Debug)]
struct Certificates {
    /// As in the certificates: in small letters, perhaps with `*` for the first label.
    by_name: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// For those who ask for no name, or for one that is in none.
    others: Vec<Arc<CertifiedKey>>,
}

impl Certificates {
    fn new(all: &[(&[String], Arc<CertifiedKey>)]) -> Self {
        let mut by_name: HashMap<String, Vec<Arc<CertifiedKey>>> = HashMap::new();
        for (names, key) in all {
            for name in *names {
                by_name.entry(name.clone()).or_default().push(Arc::clone(key));
            }
        }
        // The first one's twins of another kind are as good as itself.
        let twins = all.first().map(|(names, _)| *names).unwrap_or_default();
        let others = all.iter().filter(|(names, _)| names.first() == twins.first());
        let mut others: Vec<_> = others.map(|(_, key)| Arc::clone(key)).collect();
        // Stable: of two alike the one named first.
        by_name.values_mut().chain([&mut others]).for_each(|keys| keys.sort_by_key(|key| is_slow(key)));
        Self { by_name, others }
    }

    fn choose(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.of(name).iter().find(|key| key.key.choose_scheme(schemes).is_some()).cloned()
    }

    fn of(&self, name: Option<&str>) -> &[Arc<CertifiedKey>] {
        name.and_then(|name| self.named(name)).unwrap_or(&self.others)
    }

    fn named(&self, name: &str) -> Option<&Vec<Arc<CertifiedKey>>> {
        let name = name.to_ascii_lowercase();
        // One label, as RFC 9525 section 6.3 has it.
        self.by_name.get(&name).or_else(|| self.by_name.get(&format!("*.{}", name.split_once('.')?.1)))
    }
}

/// To sign with RSA costs ten times as much.
fn is_slow(key: &CertifiedKey) -> bool {
    key.key.algorithm() == SignatureAlgorithm::RSA
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rcgen::{CertificateParams, KeyPair};
    use rustls::crypto::aws_lc_rs::default_provider;
    use rustls::pki_types::PrivateKeyDer;

    use super::*;

    fn certified(names: &[String], algorithm: &'static rcgen::SignatureAlgorithm) -> Arc<CertifiedKey> {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let der = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let certified = CertifiedKey::from_der(vec![certificate.der().clone()], der, &default_provider());
        Arc::new(certified.unwrap())
    }

    fn names(of: &str) -> Vec<String> {
        of.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_name_decides_then_what_the_client_can_verify() {
        const BOTH: &[SignatureScheme] = &[SignatureScheme::RSA_PSS_SHA256, SignatureScheme::ECDSA_NISTP256_SHA256];
        const RSA: &[SignatureScheme] = &[SignatureScheme::RSA_PSS_SHA256];
        let all = [
            (names("a.example"), &rcgen::PKCS_RSA_SHA256),
            (names("a.example"), &rcgen::PKCS_ECDSA_P256_SHA256),
            (names("*.b.example x.c.example"), &rcgen::PKCS_ECDSA_P256_SHA256),
        ];
        let keys: Vec<_> = all.iter().map(|(names, algorithm)| certified(names, algorithm)).collect();
        let given: Vec<_> = all.iter().zip(&keys).map(|((n, _), key)| (n.as_slice(), Arc::clone(key))).collect();
        let shown = Arc::new(Certificates::new(&given));
        let which = |name: Option<&str>, schemes| {
            let chosen = shown.choose(name, schemes)?;
            keys.iter().position(|key| Arc::ptr_eq(key, &chosen))
        };
        let (rsa, ecdsa, other) = (Some(0), Some(1), Some(2));
        assert_eq!(which(Some("A.Example"), BOTH), ecdsa, "it is quicker");
        assert_eq!(which(Some("a.example"), RSA), rsa);
        for name in ["deep.b.example", "x.c.example"] {
            assert_eq!(which(Some(name), BOTH), other, "{name}");
        }
        for stranger in [None, Some("b.example"), Some("x.y.b.example"), Some("y.c.example"), Some("localhost")] {
            assert_eq!((which(stranger, BOTH), which(stranger, RSA)), (ecdsa, rsa), "{stranger:?}");
        }
        assert_eq!(which(Some("x.c.example"), RSA), None, "rather nothing than what is not its own");

        let speaks =
            |key: usize, host| Vouched { all: Arc::clone(&shown), key: Arc::clone(&keys[key]) }.speaks_for(host);
        for (host, expected) in [
            ("A.example", [true, true, false]),
            ("a.example.", [true, true, false]),
            ("stranger.example", [true, true, false]),
            ("", [true, true, false]),
            ("x.b.example", [false, false, true]),
            ("x.c.example", [false, false, true]),
        ] {
            assert_eq!([0, 1, 2].map(|key| speaks(key, host)), expected, "{host}");
        }
    }
}
