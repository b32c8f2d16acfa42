//! TLS at the shared address: a client resumes its TLS session on the node that takes over, and the key of the certificate
//! is nowhere in the clear.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use tandem_tests::binaries;
use tandem_tests::clock::until;
use tandem_tests::cluster::{Cluster, Company, PATIENCE};
use tandem_tests::peers::Backend;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const HOST: &str = "chat.example.com";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_resumes_on_the_node_that_takes_over() {
    let mut cluster = Cluster::prepare(Company::Shared).await.unwrap();
    let secret = cluster.dir().join("cluster.key");
    let made = Command::new(binaries::path("tandemd").unwrap()).arg("secret").arg(&secret).status().unwrap();
    assert!(made.success());
    // The witness has none.
    for node in cluster.nodes.iter_mut().filter(|n| n.name != "w") {
        let config = std::fs::read_to_string(&node.config).unwrap();
        std::fs::write(&node.config, format!("{config}\n[secrets]\nfile = \"{}\"\n", secret.display())).unwrap();
    }
    for node in &mut cluster.nodes {
        node.start().unwrap();
    }
    cluster.settled().await.unwrap();
    let backend = Backend::start(cluster.subnet.at(11, 9001), "one").await.unwrap();
    cluster.serve(&[backend.address], "none").await.unwrap();
    let certificate = rcgen::generate_simple_self_signed([HOST.to_owned()]).unwrap();
    let (chain, key) = (cluster.dir().join("chain.pem"), cluster.dir().join("key.pem"));
    std::fs::write(&chain, certificate.cert.pem()).unwrap();
    std::fs::write(&key, certificate.signing_key.serialize_pem()).unwrap();
    let (chain, key) = (chain.to_string_lossy().into_owned(), key.to_string_lossy().into_owned());
    for args in [
        &["certificate", "add", "web", "--chain", &chain, "--key", &key][..],
        &["listener", "set", "web", "--tls-cert", "web"],
    ] {
        let said = cluster.ctl(args).await.unwrap();
        assert_eq!(said.code, 0, "{args:?}: {said:?}");
    }

    let mut roots = RootCertStore::empty();
    roots.add(certificate.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let client = TlsConnector::from(Arc::new(client.with_root_certificates(roots).with_no_client_auth()));
    let vip = cluster.vip();
    let session = || async {
        let socket = TcpStream::connect(vip).await.ok()?;
        let stream = client.connect(ServerName::try_from(HOST).ok()?, socket).await.ok()?;
        let (mut session, _) = tokio_tungstenite::client_async(format!("wss://{HOST}/"), stream).await.ok()?;
        // Something is read: the ticket comes along.
        futures_util::SinkExt::send(&mut session, "hello".into()).await.ok()?;
        let said = futures_util::StreamExt::next(&mut session).await?.ok()?;
        assert_eq!(said, "hello".into());
        session.get_ref().get_ref().1.handshake_kind()
    };
    assert_eq!(until("a session in TLS", PATIENCE, session).await.unwrap(), HandshakeKind::Full);

    let holder = cluster.holder().await.unwrap();
    cluster.node(&holder).unwrap().kill();
    let kind = until("the other node takes over", PATIENCE, session).await.unwrap();
    assert_eq!(kind, HandshakeKind::Resumed);

    let body: Vec<String> = certificate.signing_key.serialize_pem().lines().map(str::to_owned).collect();
    let (pem, der) = (body[1].as_bytes(), certificate.signing_key.serialize_der());
    for node in &cluster.nodes {
        let data = cluster.dir().join(&node.name);
        assert!(!holds(&data, pem) && !holds(&data, &der[der.len() / 2..]), "{} keeps the key in the clear", node.name);
        assert!(!node.said().contains(&body[1]));
    }
    let shown = cluster.ctl(&["config", "show"]).await.unwrap();
    assert!(shown.out.contains("sealed_key") && !shown.out.contains(&body[1]), "{shown:?}");
}

/// Whether any file below has these bytes in it.
fn holds(dir: &Path, bytes: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return holds(&path, bytes);
        }
        // The local socket of a node is neither, and nothing is kept in it.
        path.is_file() && std::fs::read(path).unwrap().windows(bytes.len()).any(|window| window == bytes)
    })
}
