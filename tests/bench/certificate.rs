//! The certificate every contender shows: self-signed, ECDSA P-256.

use std::fs;
use std::path::{Path, PathBuf};

/// The host it is for.
pub(crate) const NAME: &str = "bench.test";

/// One certificate in files.
#[derive(Debug, Clone)]
pub(crate) struct Certificate {
    /// PEM.
    pub(crate) chain: PathBuf,
    /// PEM.
    pub(crate) key: PathBuf,
    /// Both in one file, as HAProxy wants them.
    pub(crate) both: PathBuf,
}

impl Certificate {
    /// Makes one in this directory.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub(crate) fn make(dir: &Path) -> anyhow::Result<Self> {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
        let files = Self { chain: dir.join("chain.pem"), key: dir.join("key.pem"), both: dir.join("both.pem") };
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        fs::write(&files.chain, &chain)?;
        fs::write(&files.key, &key)?;
        fs::write(&files.both, chain + &key)?;
        Ok(files)
    }
}
