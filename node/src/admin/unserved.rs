//! Settings that the model knows and this version's data plane does not act on: refused, so that nobody relies on them.
//! What it learns to do is taken out here by the same change.

use tandem_proto::Problems;

use crate::config::model::Config;

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
    }
    problems
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use super::*;
    use crate::config::model::{ClientAuth, Listener, ListenerTls, Name, TlsVersion, Upstream, UpstreamTls};

    #[test]
    fn what_nobody_acts_on_is_refused_all_at_once() {
        let name = |text: &str| Name::new(text).unwrap();
        let mut listener = Listener::at(([10, 0, 0, 1], 443).into());
        listener.tls = Some(Arc::new(ListenerTls {
            certificates: vec![name("web")],
            min_version: TlsVersion::default(),
            client_auth: ClientAuth::default(),
            client_ca: Vec::new(),
        }));
        let tls = UpstreamTls { certificate: Some(name("me")), ..UpstreamTls::default() };
        let upstream = Upstream { tls: Some(Arc::new(tls)), ..Upstream::default() };
        let config = Config {
            listeners: [(name("web"), listener)].into(),
            upstreams: [(name("chat"), Arc::new(upstream))].into(),
            ..Config::default()
        };
        let said = unserved(&config).to_string();
        let paths = ["listeners.web.tls", "upstreams.chat.tls.certificate"];
        for path in paths {
            assert!(said.contains(path), "{path} in\n{said}");
        }
        assert_eq!(said.lines().count(), paths.len(), "{said}");
    }

    #[test]
    fn what_is_acted_on_is_not() {
        let text = r#"
            [upstreams.chat]
            check = { kind = "http", path = "/healthz", port = 81, jitter = 20 }
            eject = { after = 3 }
            [[upstreams.chat.backends]]
            address = "chat.internal:9000"
            [[upstreams.chat.backends]]
            address = "srv:_chat._tcp.internal"
            [upstreams.secret]
            check.kind = "tls"
            tls = { server_name = "chat.internal", min_version = "1.3" }
            [upstreams.quiet]
            check.kind = "none"
        "#;
        let config = tandem_proto::document::parse(text).unwrap();
        assert_eq!(unserved(&Config::try_from(&config).unwrap()).to_string(), "");
    }
}
