//! Certificates and TLS, written and read, set and refused.
#![allow(clippy::unwrap_used)]

use std::sync::LazyLock;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::*;
use crate::config::v1::edit::Edit;
use crate::model::{ClientAuth, Name, ProxyProtocol, SEALED, TlsVersion};

/// A server's certificate and its authority's, PEM, and the server's key.
fn made(name: &str) -> (String, String, String) {
    let params = |cn: &str| {
        let mut params = CertificateParams::new([cn.to_owned(), "10.0.0.9".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, cn);
        params
    };
    let mut ca = params(&format!("ca.{name}"));
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = params(name).signed_by(&key, &ca).unwrap();
    (server.pem(), ca.pem(), key.serialize_pem())
}

fn sealed() -> Vec<u8> {
    [SEALED, b"what only the secret opens"].concat()
}

fn certificate(name: &str, chain_pem: String) -> pb::Certificate {
    pb::Certificate { name: name.into(), chain_pem, sealed_key: sealed() }
}

static START: LazyLock<Config> = LazyLock::new(start);

/// One certificate, a listener and an upstream that use it.
fn start() -> Config {
    let (server, ca, _) = made("chat.example.com");
    let listener = pb::Listener {
        name: "public".into(),
        address: "10.0.0.100:443".into(),
        tls: Some(pb::ListenerTls {
            certificates: vec!["web".into()],
            min_version: pb::TlsVersion::Tls13.into(),
            client_auth: pb::ClientAuth::Optional.into(),
            client_ca_pem: ca.clone(),
        }),
        ..Default::default()
    };
    let upstream = pb::Upstream {
        name: "chat".into(),
        tls: Some(pb::UpstreamTls {
            server_name: Some("Chat.Internal".into()),
            ca_pem: Some(ca.clone()),
            certificate: Some("web".into()),
            ..Default::default()
        }),
        check: Some(pb::Check { kind: pb::CheckKind::Tls.into(), ..Default::default() }),
        ..Default::default()
    };
    let config = pb::Config {
        listeners: vec![listener],
        upstreams: vec![upstream],
        certificates: vec![certificate("web", server + &ca)],
        ..Default::default()
    };
    Config::try_from(&config).unwrap()
}

fn edited(edits: impl IntoIterator<Item = Edit>) -> Result<Config, String> {
    let edits: Vec<pb::Edit> = edits.into_iter().map(|edit| pb::Edit { edit: Some(edit) }).collect();
    START.edited(&edits).map_err(|problems| problems.to_string())
}

fn set_tls(tls: pb::ListenerTls) -> Edit {
    Edit::SetListener(pb::SetListener { name: "public".into(), tls: Some(tls), ..Default::default() })
}

#[test]
fn written_and_read_they_are_the_same() {
    let config = START.clone();
    let text = render(&config);
    assert_eq!(Config::try_from(&parse(&text).unwrap()).unwrap(), config, "{text}");
    assert_eq!(Config::try_from(&pb::Config::from(&config)).unwrap(), config);
    let web = &config.certificates["web"];
    assert_eq!((web.names(), web.chain().len()), (&["chat.example.com".to_owned(), "10.0.0.9".to_owned()][..], 2));
    assert!(web.not_before() < web.not_after());
    assert_eq!(config.upstreams["chat"].tls.as_ref().unwrap().server_name.as_deref(), Some("chat.internal"));
}

#[test]
fn a_listener_keeps_what_a_set_does_not_name() {
    let tls = |config: &Config| config.listeners["public"].tls.clone();
    let before = tls(&START).unwrap();
    let set = edited([set_tls(pb::ListenerTls { min_version: pb::TlsVersion::Tls12.into(), ..Default::default() })]);
    let after = tls(&set.unwrap()).unwrap();
    assert_eq!((before.min_version, after.min_version), (TlsVersion::Tls13, TlsVersion::Tls12));
    assert_eq!((&after.certificates, after.client_auth), (&before.certificates, ClientAuth::Optional));
    assert_eq!(after.client_ca, before.client_ca);

    let off = pb::ListenerTls { client_auth: pb::ClientAuth::Off.into(), ..Default::default() };
    assert!(tls(&edited([set_tls(off)]).unwrap()).unwrap().client_ca.is_empty());

    let set = pb::SetListener {
        name: "public".into(),
        address: Some("10.0.0.100:8443".into()),
        no_tls: true,
        http2: Some(pb::Http2::Off.into()),
        proxy_protocol: Some(pb::ProxyProtocol::Required.into()),
        proxy_from: Some(pb::Networks { networks: vec!["10.0.0.0/24".into()] }),
        max_sessions: Some(7),
        ..Default::default()
    };
    let off = pb::ProxyProtocol::Off.into();
    let off = pb::SetListener { name: "public".into(), proxy_protocol: Some(off), ..Default::default() };
    let plain = edited([Edit::SetListener(set.clone())]).unwrap();
    let public = &plain.listeners["public"];
    assert_eq!((public.address.port(), &public.tls), (8443, &None));
    assert!(!public.speaks_http2(true));
    assert_eq!((public.proxy_protocol, public.proxy_from.len()), (ProxyProtocol::Required, 1));
    let plain = edited([Edit::SetListener(set), Edit::SetListener(off)]).unwrap();
    let public = &plain.listeners["public"];
    assert_eq!((public.proxy_protocol, public.proxy_from.len()), (ProxyProtocol::Off, 0));
    assert_eq!(public.max_sessions.map(|n| n.get()), Some(7));
}

#[test]
fn an_upstream_keeps_what_a_set_does_not_name() {
    let set = |set| Edit::SetUpstream(pb::SetUpstream { name: "chat".into(), ..set });
    let tls = |tls| pb::SetUpstream { tls: Some(tls), ..Default::default() };
    let other = pb::UpstreamTls { server_name: Some(String::new()), ca_pem: Some(String::new()), ..Default::default() };
    let after = edited([set(tls(other))]).unwrap();
    let after = after.upstreams["chat"].tls.clone().unwrap();
    assert_eq!((&after.server_name, after.ca.len()), (&None, 0));
    assert_eq!(after.certificate.as_ref().map(Name::as_str), Some("web"));

    let anew = pb::SetUpstream { no_tls: true, ..tls(pb::UpstreamTls::default()) };
    assert_eq!(*edited([set(anew)]).unwrap().upstreams["chat"].tls.clone().unwrap(), Default::default());
    let said = edited([set(pb::SetUpstream { no_tls: true, ..Default::default() })]).unwrap_err();
    assert!(said.contains("upstreams.chat.check.kind = \"tls\": needs an upstream with tls"), "{said}");
    let said = edited([set(tls(pb::UpstreamTls { insecure: Some(true), ..Default::default() }))]).unwrap_err();
    assert!(said.contains("upstreams.chat.tls.ca: is used by nobody while insecure is true"), "{said}");
}

#[test]
fn a_certificate_comes_changes_and_goes() {
    let (server, ca, _) = made("other.example.com");
    let added = edited([Edit::AddCertificate(certificate("other", server.clone() + &ca))]).unwrap();
    assert_eq!(added.certificates.len(), 2);
    let set = edited([Edit::SetCertificate(certificate("web", server.clone()))]).unwrap();
    assert_eq!(set.certificates["web"].names()[0], "other.example.com");
    let gone =
        edited([Edit::AddCertificate(certificate("other", server.clone())), Edit::RemoveCertificate("other".into())]);
    assert_eq!(gone.unwrap(), START.clone());

    let said = edited([Edit::RemoveCertificate("web".into())]).unwrap_err();
    assert!(said.contains("is used by listener public, upstream chat"), "{said}");
    let said = edited([Edit::SetCertificate(certificate("webb", server.clone()))]).unwrap_err();
    assert!(said.contains("is not there; known: web"), "{said}");
    let said = edited([Edit::AddCertificate(certificate("web", server))]).unwrap_err();
    assert!(said.contains("is there already"), "{said}");
    let said = edited([set_tls(pb::ListenerTls { certificates: vec!["webb".into()], ..Default::default() })]);
    let said = said.unwrap_err();
    assert!(
        said.contains("listeners.public.tls.certificates = \"webb\": is no certificate here; known: web"),
        "{said}"
    );
}

#[test]
fn what_is_no_certificate_is_refused_and_a_key_is_not_told() {
    let (server, ca, key) = made("chat.example.com");
    let said = |given: pb::Certificate| edited([Edit::SetCertificate(given)]).unwrap_err();
    let cases = [
        (server.clone() + &key, "has a PRIVATE KEY in it"),
        (ca.clone() + &server, "certificate 2 is not of who signed certificate 1"),
        (String::new(), "has no certificate in it"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(), "is not X.509 in block 1"),
        ("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".to_owned(), "is no PEM"),
    ];
    let secret = key.lines().nth(1).unwrap();
    for (chain, why) in cases {
        let said = said(certificate("web", chain));
        assert!(said.contains("certificates.web.chain") && said.contains(why), "{said}");
        assert!(!said.contains(secret), "{said}");
    }
    let plain = pb::Certificate { sealed_key: key.clone().into_bytes(), ..certificate("web", server) };
    let said = said(plain);
    assert!(said.contains("certificates.web.sealed_key: is no sealed key") && !said.contains(secret), "{said}");
}

#[test]
fn what_tls_cannot_be_is_told_all_at_once() {
    let text = r#"
        listeners.a = { address = "10.0.0.1:443", tls = {} }
        listeners.b = { address = "10.0.0.2:443", tls = { certificates = ["w", "w"], client_auth = "required" } }
        listeners.c = { address = "10.0.0.3:443", tls = { certificates = ["w"], min_version = "1.1" } }
        upstreams.u.tls = { server_name = "a b", certificate = "W" }
    "#;
    let said = parse(text).unwrap_err().to_string();
    let all = [
        "listeners.a.tls.certificates: is missing",
        "listeners.b.tls.certificates[1] = \"w\": is there twice",
        "listeners.b.tls.client_ca: is missing",
        "listeners.c.tls.min_version = \"1.1\": is not known here; use one of: 1.2, 1.3",
        "upstreams.u.tls.server_name = \"a b\": is neither",
        "upstreams.u.tls.certificate = \"W\": is no name",
    ];
    for problem in all {
        assert!(said.contains(problem), "{problem} in\n{said}");
    }
}

/// What takes a change of them back survives being written down.
#[test]
fn a_renewed_certificate_and_new_terms_are_taken_back() {
    let (server, ..) = made("chat.example.com");
    let listener = pb::SetListener { name: "public".into(), no_tls: true, ..Default::default() };
    let check = Some(pb::Check { kind: pb::CheckKind::Tcp.into(), ..Default::default() });
    let upstream = pb::SetUpstream { name: "chat".into(), no_tls: true, check, ..Default::default() };
    let edits =
        [Edit::SetCertificate(certificate("web", server)), Edit::SetListener(listener), Edit::SetUpstream(upstream)];
    let after = START.edited(&edits.map(|edit| pb::Edit { edit: Some(edit) })).unwrap();
    let undo = crate::model::Undo::between(&START, &after);
    let read = crate::model::Undo::try_from(&undo.message()).unwrap();
    let mut config = after.clone();
    read.apply(&mut config);
    assert_eq!((&config, &read), (&*START, &undo));
    let touched: Vec<String> = undo.touched(&after).into_iter().map(|t| t.path).collect();
    assert_eq!(touched, ["listeners.public", "upstreams.chat", "certificates.web"]);
    let told = format!("{:?}", crate::model::Difference::between(&START, &after));
    assert!(!told.contains("only the secret opens") && !told.contains("sealed_key"), "{told}");
}
