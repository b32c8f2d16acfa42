//! Settings that the model knows and this version's data plane does not act on: refused, so that nobody relies on them.
//! What it learns to do is taken out here by the same change.

use tandem_proto::Problems;

use crate::config::model::{Address, Config};

/// Every such setting in a config, each with what to write instead.
pub(super) fn unserved(config: &Config) -> Problems {
    let mut problems = Problems::default();
    let why = "is not acted on by this version";
    for name in config.listeners.iter().filter(|(_, l)| l.tls.is_some()).map(|(name, _)| name) {
        problems.add(format!("listeners.{name}.tls"), "", why, "leave it out");
    }
    for (name, upstream) in &config.upstreams {
        let path = format!("upstreams.{name}");
        if let Some(certificate) = upstream.tls.as_ref().and_then(|tls| tls.certificate.as_ref()) {
            problems.add(format!("{path}.tls.certificate"), certificate, why, "leave it out");
        }
        for address in upstream.backends.keys().filter(|a| !matches!(a, Address::Ip(_))) {
            let why = "is a name, which this version does not resolve";
            problems.add(format!("{path}.backends.{address}"), address, why, "write it like \"10.0.0.11:9000\"");
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn said(text: &str) -> String {
        let config = tandem_proto::document::parse(text).unwrap();
        unserved(&Config::try_from(&config).unwrap()).to_string()
    }

    #[test]
    fn what_nobody_acts_on_is_refused_all_at_once() {
        let said = said(
            r#"
            [upstreams.chat]
            backends = [{ address = "chat.internal:9000" }, { address = "srv:_chat._tcp.internal" }]
            "#,
        );
        let paths = ["backends.chat.internal:9000", "backends.srv:"];
        for path in paths {
            assert!(said.contains(&format!("upstreams.chat.{path}")), "{path} in\n{said}");
        }
        assert_eq!(said.lines().count(), paths.len(), "{said}");
    }

    #[test]
    fn what_is_acted_on_is_not() {
        let text = r#"
            [upstreams.chat]
            check = { kind = "http", path = "/healthz", port = 81, jitter = 20 }
            eject = { after = 3 }
            backends = [{ address = "10.0.0.11:9000" }]
            [upstreams.secret]
            check.kind = "tls"
            tls = { server_name = "chat.internal", min_version = "1.3" }
            [upstreams.quiet]
            check.kind = "none"
        "#;
        assert_eq!(said(text), "");
    }
}
