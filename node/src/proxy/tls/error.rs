//! What is wrong with what the operator gave for TLS.

use std::fmt::Display;

use crate::config::model::Name;

/// Why a listener or an upstream cannot speak TLS here. The operator must mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::proxy) enum Error {
    /// Its key cannot be had, or is not its own.
    #[error("certificate {name}: {why}; give it again: tandemctl certificate set {name} --chain FILE --key FILE")]
    Certificate {
        /// Its name in the config.
        name: Name,
        /// What is wrong.
        why: String,
    },
    /// This node opens no key at all.
    #[error(
        "certificate {0}: this node has no secret to open its key with; give it the file of the others: [secrets] file in node.toml"
    )]
    NoSecret(Name),
    /// Nobody can be verified with it.
    #[error("the CA of {of}: {why}; give it the certificates of those who vouch for them")]
    Authorities {
        /// Whom it is to verify.
        of: &'static str,
        /// What is wrong.
        why: String,
    },
    /// The library refuses.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

impl Error {
    pub(super) fn certificate(name: &Name, why: impl Display) -> Self {
        Self::Certificate { name: name.clone(), why: why.to_string() }
    }

    pub(super) fn authorities(of: &'static str, why: impl Display) -> Self {
        Self::Authorities { of, why: why.to_string() }
    }

    pub(super) fn setup(why: impl Display) -> Self {
        Self::Setup(why.to_string())
    }
}
