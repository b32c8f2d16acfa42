//! What an operator is told, situation by situation.

use tandem_proto::admin::v1::{CertificateReport, ListenerReport, NameReport};
use tandem_proto::config::v1 as pb;
use tandem_proto::raft::v1::Member;

use super::*;
use crate::config::model::Vip;

fn node(id: u64, name: &str, role: Role, report: Option<NodeReport>) -> NodeStatus {
    let member =
        Member { id, name: name.into(), address: format!("10.0.0.{id}:7440"), role: role.into(), to_vote: false };
    NodeStatus { member: Some(member), reachable: report.is_some(), voter: true, report, lagging: false }
}

fn up(held: bool, leads: bool) -> Option<NodeReport> {
    let held = if held { vec!["10.0.0.100".into()] } else { vec![] };
    Some(NodeReport { revision: 5, term: 2, leads, held, ..Default::default() })
}

fn config() -> Config {
    let mut config = Config::default();
    if let (Some(name), Ok(address)) = (Name::new("main"), "10.0.0.100".parse()) {
        config.vips.insert(name, Vip { address });
    }
    config
}

fn told(nodes: &[NodeStatus]) -> (Vec<String>, String) {
    let config = config();
    let g = Gathered { nodes, config: &config, revision: 5, now_s: 0 };
    (warnings(&g), next_failure(&g))
}

#[test]
fn all_well() {
    let (warnings, next) = told(&[
        node(1, "a", Role::Proxy, up(true, true)),
        node(2, "b", Role::Proxy, up(false, false)),
        node(3, "w", Role::Witness, up(false, false)),
    ]);
    assert_eq!(warnings, Vec::<String>::new());
    assert_eq!(next, "if a fails the address moves to b; config stays writable");
}

#[test]
fn a_certificate_is_spoken_of_before_it_expires_and_a_key_that_does_not_open() {
    let made = rcgen::generate_simple_self_signed(["chat.example.com".to_owned()]).expect("a name to certify");
    let sealed_key = [crate::config::model::SEALED, b"key"].concat();
    let web = pb::Certificate { name: "web".into(), chain_pem: made.cert.pem(), sealed_key };
    let config = pb::Config { certificates: vec![web], ..Default::default() };
    let config = Config::try_from(&config).expect("a config of one certificate");
    let end = config.certificates["web"].not_after();
    let closed = CertificateReport { name: "web".into(), error: "its key does not open".into() };
    let report = NodeReport { leads: true, certificates: vec![closed], ..Default::default() };
    let nodes = [node(1, "a", Role::Proxy, Some(report))];
    let day = 24 * 60 * 60;
    for (now_s, said) in [
        (end - 15 * day, None),
        (end - 14 * day, Some("certificate web expires in 14 days: tandemctl certificate set web")),
        (end - 1, Some("certificate web expires in 0 days: ")),
        (end + 1, Some("certificate web has expired: ")),
    ] {
        let all = warnings(&Gathered { nodes: &nodes, config: &config, revision: 0, now_s });
        let expiry = all.iter().find(|w| w.contains("expire"));
        assert_eq!(expiry.is_some(), said.is_some(), "{all:?}");
        assert!(expiry.is_none_or(|w| said.is_some_and(|s| w.starts_with(s))), "{all:?}");
        assert!(all.contains(&"a: certificate web: its key does not open".to_owned()), "{all:?}");
    }
}

#[test]
fn one_that_drains_is_no_standby() {
    let draining = up(false, false).map(|r| NodeReport { draining: true, ..r });
    let (warnings, next) = told(&[
        node(1, "a", Role::Proxy, up(true, true)),
        node(2, "b", Role::Proxy, draining),
        node(3, "w", Role::Witness, up(false, false)),
    ]);
    assert_eq!(warnings, ["b takes no new clients: tandemctl node resume b, or end it"]);
    assert_eq!(next, "if a fails the address is lost: no other proxy is up; config stays writable");
}

#[test]
fn proxies_that_seal_with_different_secrets_are_spoken_of() {
    let sealing = |secret: &str| Some(NodeReport { secret: secret.into(), ..up(true, true).unwrap_or_default() });
    let differing = |b: &str| {
        let nodes = [node(1, "a", Role::Proxy, sealing("0a")), node(2, "b", Role::Proxy, sealing(b))];
        told(&nodes).0.into_iter().find(|w| w.contains("secrets"))
    };
    assert!(differing("0b").is_some_and(|w| w.contains("(a with 0a, b with 0b)")));
    assert_eq!(differing("0a"), None);
    assert_eq!(differing(""), None, "that one opens none is told with its certificates");
}

#[test]
fn a_moment_behind_is_not_lagging() {
    let lags = |revision, age_ms: u64| {
        let newest = up(true, true).map(|r| NodeReport { revision, changed_at_unix_ms: 100_000, ..r });
        let mut nodes = [
            node(1, "a", Role::Proxy, newest),
            node(2, "b", Role::Proxy, up(false, false)),
            node(3, "w", Role::Witness, None),
        ];
        tell_lagging(&mut nodes, 100_000 + age_ms);
        nodes.map(|n| n.lagging)
    };
    let (all_well, b_lags) = ([false; 3], [false, true, false]);
    assert_eq!([lags(5, 60_000), lags(6, 1000), lags(6, 1001)], [all_well, all_well, b_lags]);
    assert_eq!([lags(105, 0), lags(106, 0)], [all_well, b_lags], "changes that never pause must not hide it");
    let mut nodes = [node(1, "b", Role::Proxy, up(true, true))];
    nodes[0].lagging = true;
    assert!(told(&nodes).0.contains(&"b is 0 behind (revision 5): see its log".to_owned()));
}

#[test]
fn a_listener_that_drains_is_spoken_of() {
    let text = "listeners.public = { address = \"10.0.0.1:80\", state = \"draining\" }";
    let said = tandem_proto::document::parse(text).expect("a document");
    let config = Config::try_from(&said).expect("a config");
    let report = |left| {
        let listener =
            ListenerReport { name: "public".into(), draining: true, drain_left_ms: left, ..Default::default() };
        up(true, true).map(|r| NodeReport { listeners: vec![listener], ..r })
    };
    let said = |left_a, left_b| {
        let nodes = [node(1, "a", Role::Proxy, report(left_a)), node(2, "b", Role::Proxy, report(left_b))];
        let g = Gathered { nodes: &nodes, config: &config, revision: 5, now_s: 0 };
        warnings(&g).into_iter().find(|w| w.starts_with("listener public")).unwrap_or_default()
    };
    let end = "tandemctl listener resume public, or rm it";
    assert_eq!(said(None, None), format!("listener public takes no new clients: {end}"));
    let left = format!("listener public takes no new clients, its sessions have 42 s left: {end}");
    assert_eq!(said(Some(300), Some(41_300)), left);
}

#[test]
fn the_witness_is_down() {
    let (warnings, next) = told(&[
        node(1, "a", Role::Proxy, up(true, true)),
        node(2, "b", Role::Proxy, up(false, false)),
        node(3, "w", Role::Witness, None),
    ]);
    assert_eq!(warnings, ["w does not answer; no spare vote until it is back"]);
    assert_eq!(
        next,
        "if a fails nobody can be elected: the address is lost until a vote returns; \
         config becomes read-only (no spare vote until w is back)"
    );
}

#[test]
fn two_of_three_are_down() {
    let (warnings, next) = told(&[
        node(1, "a", Role::Proxy, up(false, false)),
        node(2, "b", Role::Proxy, None),
        node(3, "w", Role::Witness, None),
    ]);
    assert_eq!(warnings[0], "main (10.0.0.100) is held by nobody: clients cannot reach it");
    assert_eq!(warnings[1], "no quorum: config is read-only; bring back 1 of b or w");
    assert_eq!(next, "there is no quorum now: config stays read-only until b or w returns");
}

#[test]
fn a_name_that_does_not_resolve_is_told_once_for_all_who_see_it() {
    let trouble = |held, leads| {
        let name = NameReport { name: "chat:80".into(), servers: 1, trouble: "last answer kept".into() };
        up(held, leads).map(|r| NodeReport { names: vec![name], ..r })
    };
    let (warnings, _) = told(&[
        node(1, "a", Role::Proxy, trouble(true, true)),
        node(2, "b", Role::Proxy, trouble(false, false)),
        node(3, "w", Role::Witness, up(false, false)),
    ]);
    assert_eq!(warnings, ["backend chat:80, as seen from a, b: last answer kept"]);
}

#[test]
fn two_holders_are_shouted_first() {
    let (warnings, _) = told(&[
        node(1, "a", Role::Proxy, up(true, true)),
        node(2, "b", Role::Proxy, up(true, false)),
        node(3, "w", Role::Witness, up(false, false)),
    ]);
    assert_eq!(warnings[0], "main (10.0.0.100) is held by a AND b: report this with both logs");
}

#[test]
fn a_disk_that_fills_up_is_told_while_there_is_time() {
    let with = |left: u64, fatal: &str| {
        let report =
            NodeReport { data_free_bytes: Some(left), fatal: fatal.into(), ..up(true, true).unwrap_or_default() };
        told(&[
            node(1, "a", Role::Proxy, Some(report)),
            node(2, "b", Role::Proxy, up(false, false)),
            node(3, "w", Role::Witness, up(false, false)),
        ])
        .0
    };
    assert_eq!(with(64 << 20, ""), Vec::<String>::new());
    assert_eq!(with(12 << 20, ""), ["a: 12 MiB left on the disk of its data directory: make room, or a will not vote"]);
    assert_eq!(with(0, "the disk is full").iter().filter(|w| w.contains("MiB")).count(), 0, "it is said once");
}

#[test]
fn a_learner_is_no_standby_and_an_old_build_is_spoken_of() {
    let levelled = |level| up(false, false).map(|r| NodeReport { level, ..r });
    let nodes = [
        node(1, "a", Role::Proxy, up(true, true).map(|r| NodeReport { level: 2, ..r })),
        NodeStatus { voter: false, ..node(2, "b", Role::Proxy, levelled(0)) },
        node(3, "w", Role::Witness, levelled(2)),
    ];
    let (warnings, next) = told(&nodes);
    assert_eq!(warnings[0][..39], *"2 voters tolerate no more failures than");
    assert_eq!(warnings[1], "changes that need level 2 are refused until tandemd is upgraded on b (level 1)");
    assert!(next.starts_with("if a fails the address is lost: no other proxy is up"), "{next}");
}
