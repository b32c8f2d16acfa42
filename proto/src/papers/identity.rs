//! What a certificate calls its owner: `spiffe://CLUSTER/node/ID`, `/witness/ID` or `/user/NAME/ACCESS`. Pure.

use std::fmt;
use std::str::FromStr;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::model::Name;

/// What a user may do; each may do what those before it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Look.
    Viewer,
    /// Run the service: backends, drains, moves.
    Operator,
    /// Everything.
    Admin,
}

/// Somebody of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// A proxy, by its number.
    Node(u64),
    /// A witness, by its number.
    Witness(u64),
    /// A person or a program.
    User {
        /// Its name.
        name: String,
        /// What it may do.
        access: Access,
    },
}

/// The name in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's id, in hex.
    pub cluster: String,
    /// Who in it.
    pub who: Who,
}

const SCHEME: &str = "spiffe://";

impl Identity {
    /// Somebody of the cluster with this id.
    pub fn new(cluster_id: &[u8], who: Who) -> Self {
        Self { cluster: hex(cluster_id), who }
    }

    /// Whom a certificate (DER) names; `None`: nobody of any cluster. One name it must be, and no other.
    pub fn of_certificate(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate.subject_alternative_name().ok()??;
        match names.value.general_names.as_slice() {
            [GeneralName::URI(uri)] => uri.parse().ok(),
            _ => None,
        }
    }
}

/// Bytes as two letters each.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        })
    }
}

impl FromStr for Access {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Viewer, Self::Operator, Self::Admin].into_iter().find(|a| a.to_string() == text).ok_or(())
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(id) => write!(f, "node/{id}"),
            Self::Witness(id) => write!(f, "witness/{id}"),
            Self::User { name, access } => write!(f, "user/{name}/{access}"),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.cluster, self.who)
    }
}

impl FromStr for Identity {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (cluster, who) = text.strip_prefix(SCHEME).and_then(|rest| rest.split_once('/')).ok_or(())?;
        let parts: Vec<&str> = who.split('/').collect();
        let who = match *parts.as_slice() {
            ["node", id] => Who::Node(id.parse().map_err(|_| ())?),
            ["witness", id] => Who::Witness(id.parse().map_err(|_| ())?),
            ["user", name, access] if Name::new(name).is_some() => {
                Who::User { name: name.to_owned(), access: access.parse()? }
            }
            _ => return Err(()),
        };
        let identity = Self { cluster: cluster.to_owned(), who };
        // One way to write each: nobody is called "007" beside 7.
        if identity.to_string() == text { Ok(identity) } else { Err(()) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_back_as_it_was_written_and_every_other_is_nobodys() {
        for name in ["spiffe://0aff/node/7", "spiffe://0aff/witness/12", "spiffe://0aff/user/anna/operator"] {
            assert_eq!(name.parse::<Identity>().unwrap().to_string(), name);
        }
        for name in [
            "",
            "spiffe://0aff",
            "spiffe://0aff/node/007",
            "spiffe://0aff/node/-1",
            "spiffe://0aff/node/1/",
            "spiffe://0aff/node",
            "spiffe://0aff/user/anna",
            "spiffe://0aff/user/anna/root",
            "spiffe://0aff/user//admin",
            "https://0aff/node/7",
        ] {
            assert!(name.parse::<Identity>().is_err(), "{name}");
        }
    }

    #[test]
    fn an_admin_may_what_an_operator_may() {
        assert!(Access::Admin > Access::Operator && Access::Operator > Access::Viewer);
    }
}
