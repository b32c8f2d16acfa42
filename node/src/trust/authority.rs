//! Makes authorities, and signs for the cluster's members what they are called. What a request asks to be called is ignored.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls::pki_types::CertificateSigningRequestDer;
use tandem_proto::model::Name;
use tandem_proto::papers::{Identity, fingerprint};
use time::OffsetDateTime;
use zeroize::Zeroizing;

/// An authority's life: longer than a cluster's, for nobody looks at it.
const AUTHORITY: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How far machines' clocks may be apart.
const SKEW: Duration = Duration::from_secs(3600);

/// Why nothing is signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot be signed: {0}")]
pub struct Error(String);

impl From<rcgen::Error> for Error {
    fn from(e: rcgen::Error) -> Self {
        Self(e.to_string())
    }
}

fn time(unix_s: i64) -> Result<OffsetDateTime, Error> {
    OffsetDateTime::from_unix_timestamp(unix_s).map_err(|e| Error(e.to_string()))
}

fn seconds(d: Duration) -> i64 {
    i64::try_from(d.as_secs()).unwrap_or(i64::MAX)
}

/// A new authority: its certificate and its private key, both PEM. `now_s`: seconds since 1970.
///
/// # Errors
/// The system has no randomness to give.
pub fn new_authority(cluster: &str, now_s: i64) -> Result<(String, Zeroizing<String>), Error> {
    let key = KeyPair::generate()?;
    // A name of its own: by it a certificate is known to be the old authority's or the new one's.
    let hash = key_mark(&key);
    let mut params = CertificateParams::default();
    params.distinguished_name = named(&format!("Tandem {cluster} {hash}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = time(now_s - seconds(SKEW))?;
    params.not_after = time(now_s + seconds(AUTHORITY))?;
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), Zeroizing::new(key.serialize_pem())))
}

fn key_mark(key: &KeyPair) -> String {
    let hash = digest(&SHA256, &key.subject_public_key_info());
    hash.as_ref().iter().take(4).map(|b| format!("{b:02x}")).collect()
}

fn named(name: &str) -> DistinguishedName {
    let mut all = DistinguishedName::new();
    all.push(DnType::CommonName, name);
    all
}

/// Under which name an authority's key is sealed; `None`: that is no certificate.
pub fn sealed_as(certificate_pem: &str) -> Option<Name> {
    let certificate = pem::parse(certificate_pem).ok()?;
    Name::new(&format!("authority.{}", &fingerprint(certificate.contents())?[..32]))
}

/// A new key (PEM), and the request that asks to certify it (PKCS #10, DER).
///
/// # Errors
/// The system has no randomness to give.
pub fn request() -> Result<(Zeroizing<String>, Vec<u8>), Error> {
    let key = KeyPair::generate()?;
    let request = CertificateParams::default().serialize_request(&key)?;
    Ok((Zeroizing::new(key.serialize_pem()), request.der().to_vec()))
}

fn parsed(request: &[u8]) -> Result<CertificateSigningRequestParams, Error> {
    CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request)).map_err(Error::from)
}

/// SHA-256 of the key a request is for.
///
/// # Errors
/// It is no request, or not signed by that key.
pub fn key_hash(request: &[u8]) -> Result<Vec<u8>, Error> {
    Ok(digest(&SHA256, &parsed(request)?.public_key.subject_public_key_info()).as_ref().to_vec())
}

/// An authority whose key was opened. Short-lived: made where something is to be signed.
pub struct Signer(Issuer<'static, KeyPair>);

impl Signer {
    /// Of an authority's certificate and key, both PEM.
    ///
    /// # Errors
    /// They are none.
    pub fn new(certificate_pem: &str, key_pem: &str) -> Result<Self, Error> {
        Ok(Self(Issuer::from_ca_cert_pem(certificate_pem, KeyPair::from_pem(key_pem)?)?))
    }

    /// A certificate (PEM) for the key of `request`, in which its owner is called `identity`, from `now_s` for `life`.
    ///
    /// # Errors
    /// The request is none, or not signed by its key.
    pub fn sign(&self, request: &[u8], identity: &Identity, now_s: i64, life: Duration) -> Result<String, Error> {
        let asked = parsed(request)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&identity.who.to_string());
        let name = identity.to_string().try_into()?;
        params.subject_alt_names = vec![SanType::URI(name)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Nodes are both; a user that listened would be refused by its name.
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.is_ca = IsCa::ExplicitNoCa;
        params.not_before = time(now_s - seconds(SKEW.min(life / 3)))?;
        params.not_after = time(now_s + seconds(life))?;
        Ok(params.signed_by(&asked.public_key, &self.0)?.pem())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tandem_proto::papers::{Papers, Who};

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3600);

    #[test]
    fn what_is_signed_is_called_what_the_signer_says_and_not_what_was_asked() {
        let (authority, key) = new_authority("chat", 1_800_000_000).unwrap();
        let signer = Signer::new(&authority, &key).unwrap();
        let mine = KeyPair::generate().unwrap();
        let mut greedy = CertificateParams::default();
        greedy.subject_alt_names = vec![SanType::URI("spiffe://0a/user/eve/admin".try_into().unwrap())];
        greedy.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let request = greedy.serialize_request(&mine).unwrap();
        let identity = Identity::new(&[10], Who::Witness(3));
        let signed = signer.sign(request.der(), &identity, 1_800_000_000, 90 * DAY).unwrap();
        let text = Papers::text(&mine.serialize_pem(), &signed, std::slice::from_ref(&authority), &[]);
        let papers = Papers::parse(&text).unwrap();
        assert_eq!(papers.identity.to_string(), "spiffe://0a/witness/3");
        assert_eq!(papers.not_after, 1_800_000_000 + 90 * 24 * 3600);
        assert_eq!(papers.signer().as_deref(), papers.believes().first().map(String::as_str));
        assert!(!signed.contains("eve"));
        assert!(Signer::new(&signed, &mine.serialize_pem()).unwrap().sign(request.der(), &identity, 0, DAY).is_ok());
    }

    #[test]
    fn a_request_that_its_own_key_did_not_sign_is_refused() {
        let (_, mut request) = request().unwrap();
        assert_eq!(key_hash(&request).unwrap().len(), 32);
        let last = request.len() - 1;
        request[last] ^= 1;
        assert!(key_hash(&request).is_err());
        assert!(key_hash(b"no request").is_err());
    }

    #[test]
    fn each_authority_has_a_name_of_its_own() {
        let (one, _) = new_authority("chat", 0).unwrap();
        let (two, _) = new_authority("chat", 0).unwrap();
        assert_ne!(sealed_as(&one), sealed_as(&two));
        assert!(sealed_as(&one).is_some());
    }
}
