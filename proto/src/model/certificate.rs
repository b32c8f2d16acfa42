//! A certificate and its sealed private key.

use std::fmt;
use std::net::IpAddr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{GeneralName, X509Certificate};

use super::{Name, pem};
use crate::config::v1 as pb;
use crate::{Problems, Table};

/// What every sealed key begins with; what does not is no sealed key, a plain one least of all.
pub const SEALED: &[u8] = b"tandem-sealed-1:";
/// The longest RSA key in use is 9 kB.
const MAX_KEY: usize = 64 * 1024;

/// A certificate and its private key, which only nodes that have the secret can read.
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    sealed_key: Vec<u8>,
    names: Vec<String>,
    not_before: i64,
    not_after: i64,
}

impl Certificate {
    /// The certificate, then those that vouch for it, each for the one before.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Its private key as the nodes' secret sealed it: begins with [`SEALED`].
    pub fn sealed_key(&self) -> &[u8] {
        &self.sealed_key
    }

    /// The hosts it is for, in lower case as its alternative names have them: `chat.example.com`, `*.example.com`, `10.0.0.1`.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// From when it is good, in seconds since 1970.
    pub fn not_before(&self) -> i64 {
        self.not_before
    }

    /// Until when it is good, in seconds since 1970.
    pub fn not_after(&self) -> i64 {
        self.not_after
    }

    /// A certificate that has expired may be added: nothing is better for it once it has become the truth than what says so.
    pub(super) fn check(path: &str, given: &pb::Certificate, problems: &mut Problems) -> Option<Self> {
        let sealed = given.sealed_key.starts_with(SEALED) && given.sealed_key.len() <= MAX_KEY;
        if !sealed {
            let mend = "let a node seal it: tandemctl certificate add NAME --chain FILE --key FILE";
            problems.add(format!("{path}.sealed_key"), "", "is no sealed key", mend);
        }
        let path = format!("{path}.chain");
        let chain = pem::read(&path, &given.chain_pem, problems)?;
        let parsed: Vec<X509Certificate<'_>> = chain.iter().filter_map(|der| pem::parsed(der).ok()).collect();
        let broken = parsed.windows(2).position(|pair| pair[0].issuer().as_raw() != pair[1].subject().as_raw());
        if let Some(i) = broken {
            let mend = "begin with the server's own, then who signed it, then who signed that";
            let why = format!("is out of order: certificate {} is not of who signed certificate {}", i + 2, i + 1);
            problems.add(path, parsed[i + 1].subject(), why, mend);
            return None;
        }
        let leaf = parsed.first().filter(|_| sealed)?;
        let (names, validity) = (names(leaf), leaf.validity());
        let (not_before, not_after) = (validity.not_before.timestamp(), validity.not_after.timestamp());
        Some(Self { chain, sealed_key: given.sealed_key.clone(), names, not_before, not_after })
    }

    pub(super) fn message(&self, name: &Name) -> pb::Certificate {
        pb::Certificate {
            name: name.to_string(),
            chain_pem: pem::text(&self.chain),
            sealed_key: self.sealed_key.clone(),
        }
    }

    pub(super) fn read(name: String, t: &mut Table, problems: &mut Problems) -> pb::Certificate {
        let key = t.text("sealed_key", problems).unwrap_or_default();
        pb::Certificate {
            name,
            chain_pem: t.text("chain", problems).unwrap_or_default(),
            // What is no base64 is no sealed key either.
            sealed_key: BASE64_STANDARD.decode(key).unwrap_or_default(),
        }
    }

    pub(super) fn table(&self) -> toml::Table {
        toml::toml! {
            chain = (pem::text(&self.chain))
            sealed_key = (BASE64_STANDARD.encode(&self.sealed_key))
        }
    }
}

/// A log line needs neither the chain nor the key.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Certificate");
        debug.field("names", &self.names).field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// RFC 5280 section 4.2.1.6. The subject's common name counts for nothing (RFC 9525 section 2).
fn names(leaf: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(alternatives)) = leaf.subject_alternative_name() else { return Vec::new() };
    let names = alternatives.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| IpAddr::from(b).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|b| IpAddr::from(b).to_string()),
        },
        _ => None,
    });
    names.collect()
}
