//! How TLS is spoken: to clients, and to backends.

use rustls_pki_types::{CertificateDer, ServerName};

use super::{Name, pem, words};
use crate::config::v1 as pb;
use crate::{Problems, Table};

/// How a listener's clients speak TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTls {
    /// At least one; the first is for clients that ask for a host none of them covers, or for none (RFC 6066 section 3).
    pub certificates: Vec<Name>,
    /// Older ones are refused.
    pub min_version: TlsVersion,
    /// Whether clients show a certificate.
    pub client_auth: ClientAuth,
    /// Who vouches for clients; empty exactly if none is asked for.
    pub client_ca: Vec<CertificateDer<'static>>,
}

/// How backends are spoken to over TLS.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct UpstreamTls {
    /// The host name or address their certificates must have; `None`: the backend's own.
    pub server_name: Option<String>,
    /// Who vouches for them; empty: those whom the web trusts.
    pub ca: Vec<CertificateDer<'static>>,
    /// Any certificate will do, so that whoever is on the way may be the backend.
    pub insecure: bool,
    /// What is shown to them.
    pub certificate: Option<Name>,
    /// Older ones are refused.
    pub min_version: TlsVersion,
}

/// A version of TLS. Those before are broken (RFC 8996).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum TlsVersion {
    /// RFC 5246.
    #[default]
    Tls12,
    /// RFC 8446.
    Tls13,
}

words::words!(TlsVersion = pb::TlsVersion { Tls12 = "1.2", Tls13 = "1.3" });

/// Whether clients show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    Off,
    /// They may; one that nobody known vouches for is refused.
    Optional,
    /// They must.
    Required,
}

words::words!(ClientAuth = pb::ClientAuth { Off = "off", Optional = "optional", Required = "required" });

impl ListenerTls {
    /// `given` over what was before; what it does not say stays. `path` is the listener's.
    pub(super) fn merged(
        before: Option<&Self>,
        path: &str,
        given: &pb::ListenerTls,
        problems: &mut Problems,
    ) -> Option<Self> {
        let path = format!("{path}.tls");
        let certificates = match before {
            Some(before) if given.certificates.is_empty() => before.certificates.clone(),
            _ => names(&format!("{path}.certificates"), &given.certificates, problems)?,
        };
        let kept = before.map(|b| (b.min_version, b.client_auth)).unwrap_or_default();
        let client_auth = ClientAuth::said(given.client_auth).unwrap_or(kept.1);
        let path = format!("{path}.client_ca");
        let client_ca = match given.client_ca_pem.as_str() {
            "" => before.map(|b| b.client_ca.clone()).unwrap_or_default(),
            text => pem::read(&path, text, problems)?,
        };
        match client_auth {
            ClientAuth::Off if !given.client_ca_pem.is_empty() => problems.add(
                path,
                "",
                "is used by nobody while client_auth is off",
                "set client_auth to \"optional\" or \"required\", or leave client_ca out",
            ),
            ClientAuth::Optional | ClientAuth::Required if client_ca.is_empty() => problems.add(
                path,
                "",
                "is missing: no client's certificate would be believed",
                "give the certificates of those who vouch for clients, PEM",
            ),
            _ => {}
        }
        let client_ca = if client_auth == ClientAuth::Off { Vec::new() } else { client_ca };
        let min_version = TlsVersion::said(given.min_version).unwrap_or(kept.0);
        Some(Self { certificates, min_version, client_auth, client_ca })
    }

    pub(super) fn message(&self) -> pb::ListenerTls {
        pb::ListenerTls {
            certificates: self.certificates.iter().map(ToString::to_string).collect(),
            min_version: self.min_version.into(),
            client_auth: self.client_auth.into(),
            client_ca_pem: pem::text(&self.client_ca),
        }
    }

    pub(super) fn read(mut t: Table, problems: &mut Problems) -> pb::ListenerTls {
        let tls = pb::ListenerTls {
            certificates: t.text_list("certificates", problems),
            min_version: words::read(&mut t, "min_version", TlsVersion::WORDS, problems),
            client_auth: words::read(&mut t, "client_auth", ClientAuth::WORDS, problems),
            client_ca_pem: t.text("client_ca", problems).unwrap_or_default(),
        };
        t.finish(problems);
        tls
    }

    pub(super) fn table(&self) -> toml::Table {
        let names: Vec<String> = self.certificates.iter().map(ToString::to_string).collect();
        let mut t = toml::toml! { certificates = (names) };
        if self.min_version != TlsVersion::default() {
            t.insert("min_version".to_owned(), self.min_version.word().into());
        }
        if self.client_auth != ClientAuth::Off {
            t.insert("client_auth".to_owned(), self.client_auth.word().into());
            t.insert("client_ca".to_owned(), pem::text(&self.client_ca).into());
        }
        t
    }
}

impl UpstreamTls {
    /// `given` over this one; what it does not say stays. `path` is the upstream's.
    pub(super) fn merged(&self, path: &str, given: &pb::UpstreamTls, problems: &mut Problems) -> Self {
        let path = format!("{path}.tls");
        let server_name = match given.server_name.as_deref() {
            None => self.server_name.clone(),
            Some("") => None,
            Some(name) if ServerName::try_from(name).is_ok() => Some(name.to_ascii_lowercase()),
            Some(name) => {
                let mend = "write it like \"chat.example.com\", without a port";
                problems.add(format!("{path}.server_name"), name, "is neither a host name nor an address", mend);
                None
            }
        };
        let ca = match given.ca_pem.as_deref() {
            None => self.ca.clone(),
            Some("") => Vec::new(),
            Some(text) => pem::read(&format!("{path}.ca"), text, problems).unwrap_or_default(),
        };
        let certificate = match given.certificate.as_deref() {
            None => self.certificate.clone(),
            Some("") => None,
            Some(name) => Name::check(&format!("{path}.certificate"), name, problems),
        };
        let insecure = given.insecure.unwrap_or(self.insecure);
        if insecure && !ca.is_empty() {
            let mend = "take one of the two out; without insecure, backends are verified";
            problems.add(format!("{path}.ca"), "", "is used by nobody while insecure is true", mend);
        }
        let min_version = TlsVersion::said(given.min_version).unwrap_or(self.min_version);
        Self { server_name, ca, insecure, certificate, min_version }
    }

    pub(super) fn message(&self) -> pb::UpstreamTls {
        pb::UpstreamTls {
            server_name: self.server_name.clone(),
            ca_pem: (!self.ca.is_empty()).then(|| pem::text(&self.ca)),
            insecure: self.insecure.then_some(true),
            certificate: self.certificate.as_ref().map(ToString::to_string),
            min_version: self.min_version.into(),
        }
    }

    pub(super) fn read(mut t: Table, problems: &mut Problems) -> pb::UpstreamTls {
        let tls = pb::UpstreamTls {
            server_name: t.text("server_name", problems),
            ca_pem: t.text("ca", problems),
            insecure: t.flag("insecure", problems),
            certificate: t.text("certificate", problems),
            min_version: words::read(&mut t, "min_version", TlsVersion::WORDS, problems),
        };
        t.finish(problems);
        tls
    }

    pub(super) fn table(&self) -> toml::Table {
        let mut t = toml::Table::new();
        let mut put = |key: &str, value: Option<toml::Value>| {
            if let Some(value) = value {
                t.insert(key.to_owned(), value);
            }
        };
        put("server_name", self.server_name.clone().map(Into::into));
        put("ca", (!self.ca.is_empty()).then(|| pem::text(&self.ca).into()));
        put("insecure", self.insecure.then(|| true.into()));
        put("certificate", self.certificate.as_ref().map(|name| name.as_str().into()));
        let min = self.min_version;
        put("min_version", (min != TlsVersion::default()).then(|| min.word().into()));
        t
    }
}

/// At least one, each once.
fn names(path: &str, given: &[String], problems: &mut Problems) -> Option<Vec<Name>> {
    if given.is_empty() {
        problems.add(path, "", "is missing", "name at least one of: tandemctl certificate ls");
        return None;
    }
    let mut all = Vec::new();
    for (i, text) in given.iter().enumerate() {
        let path = format!("{path}[{i}]");
        match Name::check(&path, text, problems)? {
            name if all.contains(&name) => problems.add(path, name, "is there twice", "name each once"),
            name => all.push(name),
        }
    }
    Some(all)
}
