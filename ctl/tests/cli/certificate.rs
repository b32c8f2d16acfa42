//! Certificates are put with their keys sealed, and TLS is asked for by flags.

use std::path::{Path, PathBuf};

use serde_json::json;
use tandem_proto::admin::v1::{CertificateReport, GetConfigReply, NodeReport, NodeStatus, SealRequest, StatusReply};
use tandem_proto::config::v1 as pb;
use tandem_proto::config::v1::edit::Edit;
use tandem_proto::model::SEALED;
use tandem_proto::raft::v1::Member;

use crate::fake::{Node, Say, tandemctl};

/// Chain and key in files, and what they say.
struct Made {
    dir: tempfile::TempDir,
    chain: String,
    key: String,
}

impl Made {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["chat.example.com".to_owned()]).unwrap();
        let all =
            Self { dir: tempfile::tempdir().unwrap(), chain: made.cert.pem(), key: made.signing_key.serialize_pem() };
        std::fs::write(all.path("chain.pem"), &all.chain).unwrap();
        std::fs::write(all.path("key.pem"), &all.key).unwrap();
        all
    }

    fn path(&self, file: &str) -> PathBuf {
        Path::new(self.dir.path()).join(file)
    }

    fn files(&self) -> String {
        format!("--chain {} --key {}", self.path("chain.pem").display(), self.path("key.pem").display())
    }

    fn certificate(&self) -> pb::Certificate {
        let sealed_key = [SEALED, b"key"].concat();
        pb::Certificate { name: "web".into(), chain_pem: self.chain.clone(), sealed_key }
    }
}

fn edits(node: &Node) -> Vec<Edit> {
    node.changes().into_iter().flat_map(|c| c.edits).filter_map(|e| e.edit).collect()
}

#[tokio::test]
async fn a_key_goes_to_a_node_that_can_seal_it_and_only_sealed_any_further() {
    let made = Made::new();
    let witness = Node::start([Say::Done(4, Vec::new())]).await;
    witness.is(StatusReply { answered_by: "witness".into(), ..Default::default() });
    let proxy = Node::start([Say::Done(4, Vec::new())]).await;
    let nodes = [witness.address.as_str(), proxy.address.as_str()];
    let ran = tandemctl(&nodes, &format!("certificate add web {}", made.files())).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "revision 4: certificate web added\n"), "{}", ran.err);
    let sealed = SealRequest { name: "web".into(), chain_pem: made.chain.clone(), key_pem: made.key.clone() };
    assert_eq!(proxy.seals(), [sealed]);
    assert_eq!(edits(&witness), [Edit::AddCertificate(made.certificate())], "the first node leads here");

    let ran = tandemctl(&[&proxy.address], &format!("cert set web {}", made.files())).await;
    assert_eq!(ran.out, "revision 4: certificate web set; new handshakes use it\n", "{}", ran.err);
    assert_eq!(edits(&proxy), [Edit::SetCertificate(made.certificate())]);

    let ran = tandemctl(&[&witness.address], &format!("certificate add web {}", made.files())).await;
    assert!(ran.code != 0 && ran.err.contains("w has no secret to seal with"), "{ran:?}");
    let ran = tandemctl(&nodes, "certificate add web --chain /nowhere/chain.pem --key /nowhere/key.pem").await;
    assert!(ran.code != 0 && ran.err.contains("/nowhere/chain.pem"), "{ran:?}");
}

#[tokio::test]
async fn they_are_listed_with_their_end_and_users_and_where_a_key_stays_closed() {
    let made = Made::new();
    let listener = pb::Listener {
        name: "public".into(),
        address: "10.0.0.100:443".into(),
        tls: Some(pb::ListenerTls { certificates: vec!["web".into()], ..Default::default() }),
        ..Default::default()
    };
    let config = pb::Config { listeners: vec![listener], certificates: vec![made.certificate()], ..Default::default() };
    let node = Node::start([]).await;
    node.has(GetConfigReply { revision: 3, config: Some(config), ..Default::default() });
    let closed = CertificateReport { name: "web".into(), error: "sealed by another secret".into() };
    let report = NodeReport { certificates: vec![closed], ..Default::default() };
    let member = Member { name: "b".into(), ..Default::default() };
    let b = NodeStatus { member: Some(member), report: Some(report), ..Default::default() };
    node.is(StatusReply { nodes: vec![b], ..Default::default() });
    let said = tandemctl(&[&node.address], "certificate ls").await.out;
    for word in ["web", "chat.example.com", " days, 4096-01-01", "listener public", "CLOSED on b: sealed by another"] {
        assert!(said.contains(word), "{word} in\n{said}");
    }
    let json = tandemctl(&[&node.address], "certificate ls --json").await.json();
    let web = &json["certificates"][0];
    assert_eq!((&web["name"], &web["used_by"]), (&json!("web"), &json!(["listener public"])));
    assert_eq!(web["closed"], json!([{"node": "b", "error": "sealed by another secret"}]));
}

#[tokio::test]
async fn tls_is_asked_for_by_flags() {
    let made = Made::new();
    let node = Node::start([Say::Done(4, Vec::new())]).await;
    let ca = made.path("chain.pem");
    let ca = ca.display();
    for line in [
        format!("listener set public --tls-cert web,old --tls-min 1.3 --client-auth required --client-ca {ca}"),
        "listener set public --no-tls --address 10.0.0.1:80".to_owned(),
        format!("upstream set chat --tls-ca {ca} --tls-server-name chat.internal --tls-cert web"),
        "upstream set chat --tls --check tls".to_owned(),
        "upstream set chat --tls-insecure".to_owned(),
        "upstream set chat --no-tls".to_owned(),
    ] {
        let ran = tandemctl(&[&node.address], &line).await;
        assert_eq!(ran.code, 0, "{line}: {}", ran.err);
    }
    let listener = |set| Edit::SetListener(pb::SetListener { name: "public".into(), ..set });
    let upstream = |set| Edit::SetUpstream(pb::SetUpstream { name: "chat".into(), ..set });
    let tls = pb::ListenerTls {
        certificates: vec!["web".into(), "old".into()],
        min_version: pb::TlsVersion::Tls13.into(),
        client_auth: pb::ClientAuth::Required.into(),
        client_ca_pem: made.chain.clone(),
    };
    let verified = pb::UpstreamTls {
        server_name: Some("chat.internal".into()),
        ca_pem: Some(made.chain.clone()),
        certificate: Some("web".into()),
        ..Default::default()
    };
    let check = pb::Check { kind: pb::CheckKind::Tls.into(), ..Default::default() };
    let insecure = pb::UpstreamTls { insecure: Some(true), ..Default::default() };
    let expected = [
        listener(pb::SetListener { tls: Some(tls), ..Default::default() }),
        listener(pb::SetListener { no_tls: true, address: Some("10.0.0.1:80".into()), ..Default::default() }),
        upstream(pb::SetUpstream { tls: Some(verified), ..Default::default() }),
        upstream(pb::SetUpstream { tls: Some(Default::default()), check: Some(check), ..Default::default() }),
        upstream(pb::SetUpstream { tls: Some(insecure), ..Default::default() }),
        upstream(pb::SetUpstream { no_tls: true, ..Default::default() }),
    ];
    assert_eq!(edits(&node), expected);
}
