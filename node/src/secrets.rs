//! The nodes' secret: what it sealed, every node that has the same file can open, and nobody else.
//!
//! A sealed key is [`SEALED`], the mark of the secret that sealed it (4 bytes), a nonce (12), and AES-256-GCM over the key
//! with the certificate's name beside it: a key moved to another name does not open.

use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tandem_proto::Problems;
use tandem_proto::model::{Name, SEALED};
use zeroize::Zeroizing;

/// What a line of the file begins with: another form gets another number.
const PREFIX: &str = "tandem-secret-1:";
/// A secret's length in bytes.
const LENGTH: usize = 32;
const MARK: usize = 4;

/// Why a key stays sealed here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Sealed elsewhere.
    #[error(
        "its key was sealed by secret {0}, which this node does not have; copy the file [secrets] names from the others"
    )]
    Unknown(String),
    /// Moved, or not whole.
    #[error("its key does not open: it was sealed for another name, or is damaged")]
    Broken,
}

/// One or more secrets: the first seals, all open.
pub struct Secrets(Vec<Secret>);

struct Secret {
    mark: [u8; MARK],
    key: RandomizedNonceKey,
    root: Prk,
}

/// How many bytes to derive.
struct Bytes(usize);

impl KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

impl Secret {
    fn new(bytes: &[u8; LENGTH]) -> Result<Self, Unspecified> {
        let root = Salt::new(HKDF_SHA256, PREFIX.as_bytes()).extract(bytes);
        let mut key = Zeroizing::new([0; LENGTH]);
        let mut mark = [0; MARK];
        root.expand(&[b"seal"], Bytes(LENGTH))?.fill(&mut *key)?;
        root.expand(&[b"mark"], Bytes(MARK))?.fill(&mut mark)?;
        Ok(Self { mark, key: RandomizedNonceKey::new(&AES_256_GCM, &*key)?, root })
    }
}

impl Secrets {
    /// Reads the file: a secret a line; empty lines and those that begin with `#` are passed over.
    ///
    /// # Errors
    /// Every mistake in it; what it holds is not told.
    pub fn read(path: &Path) -> Result<Self, Problems> {
        let name = path.display().to_string();
        let unreadable = |e: std::io::Error| {
            let mend = format!("copy it from another node, or make the first one: tandemd secret {name}");
            Problems::one(&name, "", format!("cannot be read: {e}"), mend)
        };
        let mut file = File::open(path).map_err(unreadable)?;
        let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let why = format!("may be read by others than its owner: its mode is {mode:o}");
            return Err(Problems::one(&name, "", why, format!("chmod 600 {name}")));
        }
        let mut text = Zeroizing::new(String::new());
        file.read_to_string(&mut text).map_err(unreadable)?;
        Self::parse(&name, &text)
    }

    fn parse(name: &str, text: &str) -> Result<Self, Problems> {
        let mut problems = Problems::default();
        let mut all = Vec::new();
        for (i, line) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty() && !l.starts_with('#')) {
            match secret(line.trim()) {
                Some(secret) => all.push(secret),
                None => {
                    let mend = "write each line as `tandemd secret` does";
                    problems.add(format!("{name} line {}", i + 1), "", "is no secret", mend);
                }
            }
        }
        if all.is_empty() && problems.is_empty() {
            let mend = "copy it from another node, or make the first one: tandemd secret FILE";
            problems.add(name, "", "holds no secret", mend);
        }
        problems.into_result().map(|()| Self(all))
    }

    /// Which secret seals, in a few letters: alike on all nodes, if they are to open what the others sealed.
    pub fn fingerprint(&self) -> String {
        self.0.first().map_or_else(String::new, |first| shown(first.mark))
    }

    /// What only these secrets open again, and only under this name.
    ///
    /// # Panics
    /// Never: AES-GCM seals whatever is shorter than 64 GiB.
    pub fn seal(&self, name: &Name, plain: &[u8]) -> Vec<u8> {
        let first = self.0.first().expect("a file without a secret is refused");
        // Room for all of it, so that growing leaves no copy of the key behind.
        let mut sealed = Vec::with_capacity(plain.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(plain);
        let aad = Aad::from(name.as_str());
        let nonce = first.key.seal_in_place_append_tag(aad, &mut sealed).expect("a key is shorter than 64 GiB");
        [SEALED, &first.mark, nonce.as_ref(), &sealed].concat()
    }

    /// What was sealed under this name.
    ///
    /// # Errors
    /// It was sealed by another secret, or under another name, or has been changed.
    pub fn open(&self, name: &Name, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Error> {
        let (mark, rest) =
            sealed.strip_prefix(SEALED).and_then(<[u8]>::split_first_chunk::<MARK>).ok_or(Error::Broken)?;
        let secret = self.0.iter().find(|s| s.mark == *mark).ok_or_else(|| Error::Unknown(shown(*mark)))?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or(Error::Broken)?;
        let mut plain = Zeroizing::new(rest.to_vec());
        let aad = Aad::from(name.as_str());
        let opened = secret.key.open_in_place(Nonce::from(nonce), aad, &mut plain).map_err(|_| Error::Broken)?.len();
        plain.truncate(opened);
        Ok(plain)
    }

    /// Seals the private key of a certificate.
    ///
    /// # Errors
    /// It is no key, or not the key of that certificate. The key is not told.
    pub fn seal_key(&self, name: &Name, chain_pem: &str, key_pem: &str) -> Result<Vec<u8>, Problems> {
        let path = |what: &str| format!("certificates.{name}.{what}");
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|e| {
            let mend = "give an unencrypted PEM file: -----BEGIN PRIVATE KEY-----, EC PRIVATE KEY or RSA PRIVATE KEY";
            Problems::one(path("key"), "", format!("is no private key: {e}"), mend)
        })?;
        let key = any_supported_type(&key).map_err(|e| {
            let why = format!("is of no kind that TLS is spoken with here: {e}");
            Problems::one(path("key"), "", why, "use ECDSA (P-256, P-384, P-521), Ed25519, or RSA of 2048 bits or more")
        })?;
        let leaf = CertificateDer::from_pem_slice(chain_pem.as_bytes()).map_err(|e| {
            let mend = "give a PEM file that begins with the certificate the key belongs to";
            Problems::one(path("chain"), "", format!("has no certificate in it: {e}"), mend)
        })?;
        CertifiedKey::new(vec![leaf], key).keys_match().map_err(|e| {
            let mend = "give the key this certificate was made for, and the certificate first in the chain's file";
            Problems::one(path("key"), "", format!("is not the key of the chain's first certificate: {e}"), mend)
        })?;
        Ok(self.seal(name, key_pem.as_bytes()))
    }

    /// A key for the session tickets of `purpose`: the same on every node with the same secret.
    ///
    /// # Panics
    /// Never: HKDF gives up to 8 kB.
    pub fn ticket_key(&self, purpose: &[u8]) -> Zeroizing<[u8; 32]> {
        let first = self.0.first().expect("a file without a secret is refused");
        let mut key = Zeroizing::new([0; 32]);
        let filled = first.root.expand(&[b"ticket", purpose], Bytes(32)).and_then(|okm| okm.fill(&mut *key));
        filled.expect("32 bytes are fewer than HKDF can give");
        key
    }
}

/// The secrets themselves are in no log line.
impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|s| shown(s.mark))).finish()
    }
}

fn secret(line: &str) -> Option<Secret> {
    let bytes = Zeroizing::new(BASE64_STANDARD.decode(line.strip_prefix(PREFIX)?).ok()?);
    Secret::new(bytes.as_slice().try_into().ok()?).ok()
}

fn shown(mark: [u8; MARK]) -> String {
    mark.iter().map(|b| format!("{b:02x}")).collect()
}

/// A new secret, as a line of the file.
///
/// # Errors
/// The system has no randomness to give.
pub fn fresh() -> std::io::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0; LENGTH]);
    aws_lc_rs::rand::fill(&mut *bytes).map_err(|_| std::io::Error::other("the system gives no randomness"))?;
    let text = Zeroizing::new(BASE64_STANDARD.encode(*bytes));
    Ok(Zeroizing::new(format!("{PREFIX}{}\n", *text)))
}

/// Puts a new secret into a new file, which its owner alone may read.
///
/// # Errors
/// The file is there already, or cannot be made.
pub fn create(path: &Path) -> std::io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(fresh()?.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn secrets(lines: &[&str]) -> Secrets {
        Secrets::parse("secret", &lines.concat()).unwrap()
    }

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn what_one_node_seals_another_opens_and_a_stranger_does_not() {
        let line = fresh().unwrap();
        let (here, there, stranger) = (secrets(&[&line]), secrets(&[&line]), secrets(&[&fresh().unwrap()]));
        let sealed = here.seal(&name("web"), b"the key");
        assert_eq!(there.open(&name("web"), &sealed).unwrap().as_slice(), b"the key");
        assert_eq!(stranger.open(&name("web"), &sealed), Err(Error::Unknown(here.fingerprint())));
        assert_eq!(there.open(&name("mail"), &sealed), Err(Error::Broken), "it was sealed for web");
        for i in 0..sealed.len() {
            let mut other = sealed.clone();
            other[i] ^= 1;
            assert!(there.open(&name("web"), &other).is_err(), "byte {i} is another");
            assert!(there.open(&name("web"), &sealed[..i]).is_err(), "cut at {i}");
        }
        assert_ne!(sealed, here.seal(&name("web"), b"the key"), "a nonce is never used twice");
        assert_eq!(here.fingerprint(), there.fingerprint());
        assert_ne!(here.fingerprint(), stranger.fingerprint());
    }

    #[test]
    fn tickets_of_one_node_are_good_at_another_and_for_one_purpose() {
        let line = fresh().unwrap();
        let (here, there) = (secrets(&[&line]), secrets(&[&line]));
        assert_eq!(here.ticket_key(b"public"), there.ticket_key(b"public"));
        assert_ne!(here.ticket_key(b"public"), here.ticket_key(b"inner"));
        assert_ne!(here.ticket_key(b"public"), secrets(&[&fresh().unwrap()]).ticket_key(b"public"));
    }

    #[test]
    fn a_secret_is_replaced_step_by_step() {
        let (old, new) = (fresh().unwrap(), fresh().unwrap());
        let (before, between, after) = (secrets(&[&old]), secrets(&[&new, &old]), secrets(&[&new]));
        let (first, second) = (before.seal(&name("web"), b"1"), between.seal(&name("web"), b"2"));
        assert_eq!(between.open(&name("web"), &first).unwrap().as_slice(), b"1");
        assert_eq!(after.open(&name("web"), &second).unwrap().as_slice(), b"2");
        assert!(after.open(&name("web"), &first).is_err());
    }

    #[test]
    fn a_file_is_read_by_its_owner_alone_and_every_mistake_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let said = || Secrets::read(&path).map(drop).unwrap_err().to_string();
        assert!(said().contains("cannot be read") && said().contains("tandemd secret"), "{}", said());
        create(&path).unwrap();
        assert!(Secrets::read(&path).is_ok());
        assert!(create(&path).is_err(), "a secret in use must not be lost");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(said().contains("its mode is 640; chmod 600"), "{}", said());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let good = fresh().unwrap();
        std::fs::write(&path, format!("# the nodes' secret\n{}hunter2\n\ntandem-secret-1:c2hvcnQ=\n", *good)).unwrap();
        let said = said();
        assert!(said.contains("line 3: is no secret") && said.contains("line 5: is no secret"), "{said}");
        assert!(!said.contains("hunter2") && !said.contains("c2hvcnQ"), "{said}");
    }

    #[test]
    fn a_key_is_sealed_only_with_its_certificate() {
        let secrets = secrets(&[&fresh().unwrap()]);
        let made = rcgen::generate_simple_self_signed(["chat.example.com".to_owned()]).unwrap();
        let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let web = name("web");
        let sealed = secrets.seal_key(&web, &chain, &key).unwrap();
        assert_eq!(secrets.open(&web, &sealed).unwrap().as_slice(), key.as_bytes());
        let said = |chain: &str, key: &str| secrets.seal_key(&web, chain, key).unwrap_err().to_string();
        assert!(said(&chain, &other).contains("certificates.web.key: is not the key of the chain's first certificate"));
        assert!(said(&chain, &chain).contains("certificates.web.key: is no private key"));
        assert!(said(&key, &key).contains("certificates.web.chain: has no certificate in it"));
    }
}
