//! Certificates as PEM text (RFC 7468), and back.

use pem::{EncodeConfig, LineEnding, Pem};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::Problems;

/// One `-----BEGIN …-----`.
const CERTIFICATE: &str = "CERTIFICATE";
/// All of a system's roots are 220 kB; every node keeps, and sends, the whole config.
const MAX_TEXT: usize = 512 * 1024;

/// The certificates in a text: at least one, nothing else. The text itself is not told in problems, for there may be a key
/// in it.
pub(super) fn read(path: &str, text: &str, problems: &mut Problems) -> Option<Vec<CertificateDer<'static>>> {
    match certificates(text) {
        Ok(all) => Some(all),
        Err((why, mend)) => {
            problems.add(path, "", why, mend);
            None
        }
    }
}

fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, (String, &'static str)> {
    const MEND: &str = "give -----BEGIN CERTIFICATE----- blocks, as the authority sent them";
    if text.len() > MAX_TEXT {
        return Err((format!("is longer than {MAX_TEXT} bytes"), "give only the certificates that are needed"));
    }
    let blocks = pem::parse_many(text).map_err(|e| (format!("is no PEM: {e}"), MEND))?;
    if let Some(other) = blocks.iter().find(|block| block.tag() != CERTIFICATE) {
        let key = other.tag().ends_with("PRIVATE KEY");
        let mend = if key { "take it out: keys are given apart, and sealed before they are kept" } else { MEND };
        return Err((format!("has a {} in it", other.tag()), mend));
    }
    if blocks.is_empty() {
        return Err(("has no certificate in it".to_owned(), MEND));
    }
    for (i, block) in blocks.iter().enumerate() {
        parsed(block.contents()).map_err(|why| (format!("is not X.509 in block {}: {why}", i + 1), MEND))?;
    }
    Ok(blocks.into_iter().map(|block| block.into_contents().into()).collect())
}

/// One certificate, all of the bytes.
pub(super) fn parsed(der: &[u8]) -> Result<X509Certificate<'_>, String> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err("there is more behind it".to_owned()),
        Err(e) => Err(e.to_string()),
    }
}

/// The text of certificates; [`read`] reads it back.
pub(super) fn text(certificates: &[CertificateDer<'_>]) -> String {
    let blocks: Vec<Pem> = certificates.iter().map(|der| Pem::new(CERTIFICATE, der.to_vec())).collect();
    pem::encode_many_config(&blocks, EncodeConfig::new().set_line_ending(LineEnding::LF))
}
