//! TLS to backends: who they are is made sure of before a byte of a client goes there.

use std::sync::Arc;

use tandem_tests::dns::Dns;

use super::super::rig::{Rig, active, config, echo_backend, echoes, free_address, lives_and_ends, name, unchecked};
use super::authority::{Authority, Issued, Open, certificates};
use crate::config::model::{Balance, Check, CheckKind, UpstreamTls};

/// A plain listener; its one backend is spoken to in these terms.
async fn rig(backend: std::net::SocketAddr, tls: UpstreamTls, shows: &[(&str, &Issued)]) -> Rig {
    let mut upstream = unchecked(Balance::RoundRobin, &[backend]);
    upstream.tls = Some(Arc::new(tls));
    let mut config = config(free_address(), upstream);
    config.certificates = certificates(shows);
    Rig::of(config, |settings| settings.keys = Some(Arc::new(Open(1)))).await
}

fn trusting(authority: &Authority, server_name: Option<&str>) -> UpstreamTls {
    let ca = vec![authority.certificate.clone()];
    UpstreamTls { server_name: server_name.map(str::to_owned), ca, ..UpstreamTls::default() }
}

async fn answer(rig: &Rig) -> String {
    rig.say(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await
}

#[tokio::test]
async fn a_backend_is_believed_by_name_or_address() {
    let authority = Authority::new();
    let plain = echo_backend("b1").await;
    for (host, server_name) in [("b.internal", Some("b.internal")), ("127.0.0.1", None)] {
        let backend = authority.backend(&authority.issue(host), plain, false).await;
        let rig = rig(backend, trusting(&authority, server_name), &[]).await;
        assert!(answer(&rig).await.ends_with("\r\n\r\nb1\n"));
        let (session, _) = rig.session().await;
        lives_and_ends(&rig, backend, session).await;
    }
}

/// A proxy whose backend is `host`, which DNS says to be at `backend`.
async fn named(host: &str, backend: std::net::SocketAddr, tls: UpstreamTls, kind: CheckKind) -> (Rig, Dns) {
    let dns = Dns::start("127.0.0.1:0".parse().unwrap()).await.unwrap();
    dns.addresses(host, 60, &[backend.ip()]);
    let mut upstream = unchecked(Balance::RoundRobin, &[]);
    upstream.backends = [(format!("{host}:{}", backend.port()).parse().unwrap(), active())].into();
    upstream.check = Check { kind, ..Check::default() };
    upstream.tls = Some(Arc::new(tls));
    let at = dns.address;
    let rig = Rig::of(config(free_address(), upstream), |settings| settings.dns = vec![at]).await;
    rig.eventually("resolved", |r| r.backends.len() == 1).await;
    (rig, dns)
}

#[tokio::test]
async fn a_backend_with_a_name_is_believed_by_it_wherever_dns_says_it_is() {
    let authority = Authority::new();
    let plain = echo_backend("b1").await;
    let backend = authority.backend(&authority.issue("b.internal"), plain, false).await;
    let (by_name, _dns) = named("b.internal", backend, trusting(&authority, None), CheckKind::Tls).await;
    assert!(answer(&by_name).await.ends_with("\r\n\r\nb1\n"));
    echoes(&mut by_name.session().await.0, "by its name").await;
    assert!(by_name.backend(backend).up, "its check met it by its name too");

    let by_address = authority.backend(&authority.issue("127.0.0.1"), plain, false).await;
    let (rig, _dns) = named("b.internal", by_address, trusting(&authority, None), CheckKind::None).await;
    let said = answer(&rig).await;
    assert!(said.starts_with("HTTP/1.1 502 "), "what DNS says proves nothing: {said}");
    let (rig, _dns) = named("c.internal", backend, trusting(&authority, Some("b.internal")), CheckKind::None).await;
    assert!(answer(&rig).await.ends_with("\r\n\r\nb1\n"), "a server name that is said comes first");
}

#[tokio::test]
async fn one_that_cannot_prove_who_it_is_gets_no_byte_of_a_client() {
    let (authority, other) = (Authority::new(), Authority::new());
    let plain = echo_backend("b1").await;
    let backend = authority.backend(&authority.issue("b.internal"), plain, false).await;
    let wrong = [
        trusting(&authority, Some("c.internal")),
        trusting(&authority, None),
        trusting(&other, Some("b.internal")),
        UpstreamTls { server_name: Some("b.internal".to_owned()), ..UpstreamTls::default() },
    ];
    for tls in wrong {
        let rig = rig(backend, tls.clone(), &[]).await;
        let said = answer(&rig).await;
        assert!(said.starts_with("HTTP/1.1 502 ") && said.contains("could not be reached"), "{tls:?}: {said}");
        assert!(rig.try_session().await.is_err());
    }
    let anybody = UpstreamTls { insecure: true, ..UpstreamTls::default() };
    let rig = rig(backend, anybody, &[]).await;
    let (mut session, _) = rig.session().await;
    echoes(&mut session, "asked for").await;
}

#[tokio::test]
async fn what_is_wrong_with_tls_is_told_until_somebody_gets_there() {
    let authority = Authority::new();
    let plain = echo_backend("b1").await;
    let backend = authority.backend(&authority.issue("b.internal"), plain, false).await;
    let rig = rig(backend, trusting(&authority, Some("c.internal")), &[]).await;
    assert_eq!(rig.backend(backend).tls_error, None, "nobody has tried");
    assert!(answer(&rig).await.starts_with("HTTP/1.1 502 "));
    let why = rig.backend(backend).tls_error.unwrap();
    assert!(why.contains("certificate is not believed") && why.contains("tandemctl upstream set"), "{why}");
    rig.edit(|u| u.tls = Some(Arc::new(trusting(&authority, Some("b.internal")))));
    rig.eventually("said of the old terms only", |r| r.backends[0].tls_error.is_none()).await;
    assert!(answer(&rig).await.ends_with("\r\n\r\nb1\n"));

    for by_check in [false, true] {
        let address = free_address();
        let silent = tokio::net::TcpListener::bind(address).await.unwrap();
        let gone = tokio::spawn(async move { drop(silent.accept().await.unwrap()) });
        rig.edit(|u| u.backends = [(address.into(), active())].into());
        rig.eventually("another one", |r| r.backends[0].address == address).await;
        assert!(answer(&rig).await.starts_with("HTTP/1.1 502 "));
        gone.await.unwrap();
        assert!(rig.backend(address).tls_error.unwrap().contains("see that it speaks TLS"));
        authority.backend_at(address, &authority.issue("b.internal"), plain, false).await;
        if by_check {
            rig.edit(|u| u.check = Check { kind: CheckKind::Tls, ..Check::default() });
        } else {
            assert!(answer(&rig).await.ends_with("\r\n\r\nb1\n"));
        }
        rig.eventually("somebody got there", |r| r.backends[0].tls_error.is_none()).await;
    }
}

#[tokio::test]
async fn a_backend_that_asks_who_we_are_is_told() {
    let authority = Authority::new();
    let plain = echo_backend("b1").await;
    let backend = authority.backend(&authority.issue("b.internal"), plain, true).await;
    let ours = authority.issue("proxy");
    let without = trusting(&authority, Some("b.internal"));
    let with = UpstreamTls { certificate: Some(name("ours")), ..without.clone() };
    let rig_with = rig(backend, with, &[("ours", &ours)]).await;
    assert!(answer(&rig_with).await.ends_with("\r\n\r\nb1\n"));
    let refused = answer(&rig(backend, without, &[]).await).await;
    assert!(refused.starts_with("HTTP/1.1 502 "), "{refused}");
}

#[tokio::test]
async fn a_check_by_tls_finds_a_backend_that_is_somebody_else() {
    let authority = Authority::new();
    let plain = echo_backend("b1").await;
    let backend = authority.backend(&authority.issue("b.internal"), plain, false).await;
    let rig = rig(backend, trusting(&authority, Some("c.internal")), &[]).await;
    rig.edit(|u| u.check = Check { kind: CheckKind::Tls, ..Check::default() });
    let report = rig.eventually("down", |r| !r.backends[0].up).await;
    let why = report.backends[0].error.clone().unwrap_or_default();
    assert!(why.contains("certificate is not believed") && why.contains("the operator"), "{why}");
    rig.edit(|u| u.tls = Some(Arc::new(trusting(&authority, Some("b.internal")))));
    rig.eventually("up", |r| r.backends[0].up).await;
}
