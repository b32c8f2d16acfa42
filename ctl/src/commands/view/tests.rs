//! What the operator sees, in each state that matters.
#![allow(clippy::unwrap_used)]

use tandem_proto::admin::v1::{BackendReport, ListenerReport};
use tandem_proto::raft::v1::Member;

use super::*;

/// As on a screen without colour.
fn show(status: &StatusReply) -> String {
    let mut status = status.clone();
    for report in status.nodes.iter_mut().filter_map(|n| n.report.as_mut()) {
        report.count();
    }
    format!("\n{}", people(&status, Ink::none()))
}

fn node(id: u64, name: &str, role: Role) -> NodeStatus {
    let member =
        Member { id, name: name.into(), address: format!("10.0.0.{id}:7440"), role: role.into(), to_vote: false };
    let mut report = NodeReport { name: name.into(), revision: 12, ..Default::default() };
    if role == Role::Proxy {
        report.listeners = vec![ListenerReport {
            name: "public".into(),
            address: "10.0.0.100:80".into(),
            state: ListenerState::Bound.into(),
            ..Default::default()
        }];
        report.backends = ["10.0.1.1:9000", "10.0.1.2:9000"]
            .map(|address| BackendReport {
                upstream: "chat".into(),
                address: address.into(),
                up: true,
                ..Default::default()
            })
            .to_vec();
    }
    NodeStatus { member: Some(member), reachable: true, voter: true, report: Some(report), lagging: false }
}

/// Two proxies and a witness, a leads and holds, 431 sessions.
fn healthy() -> StatusReply {
    let mut a = node(1, "a", Role::Proxy);
    let report = a.report.as_mut().unwrap();
    report.held = vec!["10.0.0.100".into()];
    report.sessions = 431;
    report.backends[0].sessions = 216;
    report.backends[1].sessions = 215;
    StatusReply {
        cluster: "demo".into(),
        revision: 12,
        leader: 1,
        term: 3,
        quorum: true,
        nodes: vec![a, node(2, "b", Role::Proxy), node(3, "w", Role::Witness)],
        vips: vec![VipStatus { name: "main".into(), address: "10.0.0.100".into(), holders: vec!["a".into()] }],
        warnings: vec![],
        next_failure: "a dies: b takes 10.0.0.100, changes are still taken".into(),
        answered_by: "b".into(),
        level: 2,
    }
}

#[test]
fn a_node_that_drains_says_what_is_left() {
    let mut status = healthy();
    let b = report(&mut status, 1);
    (b.draining, b.drain_left_ms, b.sessions) = (true, Some(41_300), 17);
    let shown = show(&status);
    assert!(shown.contains("demo DEGRADED"), "{shown}");
    let line = shown.lines().find(|l| l.starts_with("b ")).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(words[2..], ["proxy", "follower", "DRAINING,", "42s", "left", "12", "17", "-"], "{line}");
    let json = programs(&status);
    assert_eq!(json["nodes"][1]["state"], "follower");
    assert_eq!(
        (&json["nodes"][1]["report"]["draining"], &json["nodes"][1]["report"]["drain_left_ms"]),
        (&true.into(), &41_300.into())
    );
    report(&mut status, 1).drain_left_ms = None;
    assert!(show(&status).contains("follower DRAINING  12"), "{}", show(&status));
}

#[test]
fn a_listener_that_drains_and_a_backend_without_tls_are_not_all_well() {
    let mut status = healthy();
    report(&mut status, 0).listeners[0].draining = true;
    report(&mut status, 0).listeners[0].drain_left_ms = Some(5000);
    let shown = show(&status);
    assert!(shown.contains("demo DEGRADED"), "{shown}");
    let listener = &programs(&status)["nodes"][0]["report"]["listeners"][0];
    assert_eq!((&listener["draining"], &listener["drain_left_ms"]), (&true.into(), &5000.into()));

    let mut status = healthy();
    for node in [0, 1] {
        report(&mut status, node).backends[1].tls_error = "its certificate is not believed".into();
    }
    let shown = show(&status);
    assert!(shown.contains("demo DEGRADED"), "{shown}");
    let line = "no TLS: 10.0.1.2:9000 of chat, seen from a, b: its certificate is not believed\n";
    assert!(shown.contains(line) && shown.contains("1/2      1/2"), "{shown}");
}

fn report(status: &mut StatusReply, node: usize) -> &mut NodeReport {
    status.nodes[node].report.as_mut().unwrap()
}

fn lose(status: &mut StatusReply, node: usize) {
    status.nodes[node].reachable = false;
    status.nodes[node].report = None;
}

#[test]
fn healthy_is_short() {
    let expected = "
demo OK: revision 12, quorum 3 of 3, leader a, holder a (seen from b)

NODE  ADDRESS        ROLE     STATE     REVISION  SESSIONS  HOLDS
a     10.0.0.1:7440  proxy    leader    12        431       10.0.0.100
b     10.0.0.2:7440  proxy    follower  12        0         -
w     10.0.0.3:7440  witness  follower  12        -         -

VIP   ADDRESS     HOLDER
main  10.0.0.100  a

UPSTREAM  SESSIONS  UP ON a  UP ON b
chat      431       2/2      2/2

next failure: a dies: b takes 10.0.0.100, changes are still taken
";
    assert_eq!(show(&healthy()), expected);
}

#[test]
fn a_node_is_down() {
    let mut status = healthy();
    lose(&mut status, 1);
    status.answered_by = "a".into();
    status.warnings = vec!["b is not reached: no spare vote; start it again".into()];
    status.next_failure = "a dies: nobody is left to take 10.0.0.100".into();
    let expected = "
demo DEGRADED: revision 12, quorum 2 of 3, leader a, holder a (seen from a)

warning: b is not reached: no spare vote; start it again

NODE  ADDRESS        ROLE     STATE        REVISION  SESSIONS  HOLDS
a     10.0.0.1:7440  proxy    leader       12        431       10.0.0.100
b     10.0.0.2:7440  proxy    UNREACHABLE  -         -         -
w     10.0.0.3:7440  witness  follower     12        -         -

VIP   ADDRESS     HOLDER
main  10.0.0.100  a

UPSTREAM  SESSIONS  UP ON a
chat      431       2/2

next failure: a dies: nobody is left to take 10.0.0.100
";
    assert_eq!(show(&status), expected);
}

#[test]
fn no_quorum() {
    let mut status = healthy();
    lose(&mut status, 0);
    lose(&mut status, 2);
    status.quorum = false;
    status.leader = 0;
    status.vips[0].holders.clear();
    status.next_failure = String::new();
    status.warnings = vec!["no quorum: config is read-only; bring back 1 of a or w".into()];
    let expected = "
demo CRITICAL: revision 12, NO QUORUM (1 of 3 voters reached): read-only, NO LEADER, NO HOLDER (seen from b)

warning: no quorum: config is read-only; bring back 1 of a or w

NODE  ADDRESS        ROLE     STATE        REVISION  SESSIONS  HOLDS
a     10.0.0.1:7440  proxy    UNREACHABLE  -         -         -
b     10.0.0.2:7440  proxy    follower     12        0         -
w     10.0.0.3:7440  witness  UNREACHABLE  -         -         -

VIP   ADDRESS     HOLDER
main  10.0.0.100  NONE SEEN (a not reached)

UPSTREAM  SESSIONS  UP ON b
chat      0         2/2
";
    assert_eq!(show(&status), expected);
}

#[test]
fn nobody_holds_the_address() {
    let mut status = healthy();
    status.vips[0].holders.clear();
    report(&mut status, 0).held.clear();
    status.warnings = vec!["main (10.0.0.100) is held by nobody: clients cannot reach it".into()];
    let expected = "
demo CRITICAL: revision 12, quorum 3 of 3, leader a, NO HOLDER (seen from b)

warning: main (10.0.0.100) is held by nobody: clients cannot reach it

NODE  ADDRESS        ROLE     STATE     REVISION  SESSIONS  HOLDS
a     10.0.0.1:7440  proxy    leader    12        431       -
b     10.0.0.2:7440  proxy    follower  12        0         -
w     10.0.0.3:7440  witness  follower  12        -         -

VIP   ADDRESS     HOLDER
main  10.0.0.100  NONE

UPSTREAM  SESSIONS  UP ON a  UP ON b
chat      431       2/2      2/2

next failure: a dies: b takes 10.0.0.100, changes are still taken
";
    assert_eq!(show(&status), expected);
}

#[test]
fn two_hold_the_address() {
    let mut status = healthy();
    status.vips[0].holders.push("b".into());
    report(&mut status, 1).held = vec!["10.0.0.100".into()];
    status.warnings = vec!["main (10.0.0.100) is held by a AND b: report this with both logs".into()];
    let expected = "
demo CRITICAL: revision 12, quorum 3 of 3, leader a, TWO HOLDERS (seen from b)

warning: main (10.0.0.100) is held by a AND b: report this with both logs

NODE  ADDRESS        ROLE     STATE     REVISION  SESSIONS  HOLDS
a     10.0.0.1:7440  proxy    leader    12        431       10.0.0.100
b     10.0.0.2:7440  proxy    follower  12        0         10.0.0.100
w     10.0.0.3:7440  witness  follower  12        -         -

VIP   ADDRESS     HOLDER
main  10.0.0.100  TWICE: a, b

UPSTREAM  SESSIONS  UP ON a  UP ON b
chat      431       2/2      2/2

next failure: a dies: b takes 10.0.0.100, changes are still taken
";
    assert_eq!(show(&status), expected);
}

#[test]
fn a_node_lags_behind_and_another_has_stopped() {
    let mut status = healthy();
    report(&mut status, 1).revision = 9;
    status.nodes[1].lagging = true;
    report(&mut status, 2).fatal = "no space left on device".into();
    status.warnings = vec![
        "b is 3 behind (revision 9): see its log".into(),
        "w does not vote: the disk under /var/lib/tandem takes no writes (No space left on device); make room or mend it, then restart tandemd".into(),
    ];
    let expected = "
demo DEGRADED: revision 12, quorum 3 of 3, leader a, holder a (seen from b)

warning: b is 3 behind (revision 9): see its log
warning: w does not vote: the disk under /var/lib/tandem takes no writes (No space left on device); make room or mend it, then restart tandemd

NODE  ADDRESS        ROLE     STATE     REVISION         SESSIONS  HOLDS
a     10.0.0.1:7440  proxy    leader    12               431       10.0.0.100
b     10.0.0.2:7440  proxy    follower  9 (behind by 3)  0         -
w     10.0.0.3:7440  witness  STOPPED   12               -         -

VIP   ADDRESS     HOLDER
main  10.0.0.100  a

UPSTREAM  SESSIONS  UP ON a  UP ON b
chat      431       2/2      2/2

next failure: a dies: b takes 10.0.0.100, changes are still taken
";
    assert_eq!(show(&status), expected);
}

#[test]
fn the_asked_node_may_itself_lag_behind() {
    let mut status = healthy();
    status.revision = 9;
    report(&mut status, 1).revision = 9;
    assert!(show(&status).contains("demo OK: revision 12, "), "it may be a moment behind: {}", show(&status));
    status.nodes[1].lagging = true;
    let text = show(&status);
    assert!(text.contains("revision 12, "), "{text}");
    assert!(text.contains("9 (behind by 3)"), "{text}");
}

#[test]
fn a_listener_failed_and_backends_are_down() {
    let mut status = healthy();
    let b = report(&mut status, 1);
    b.listeners[0].state = ListenerState::Failed.into();
    b.listeners[0].error = "address in use".into();
    for node in [0, 1] {
        let backend = &mut report(&mut status, node).backends[1];
        backend.up = false;
        backend.error = "connection refused".into();
    }
    status.warnings = vec!["b: listener public cannot listen on 10.0.0.100:80: address in use".into()];
    let expected = "
demo DEGRADED: revision 12, quorum 3 of 3, leader a, holder a (seen from b)

warning: b: listener public cannot listen on 10.0.0.100:80: address in use
down: 10.0.1.2:9000 of chat, seen from a, b: connection refused

NODE  ADDRESS        ROLE     STATE     REVISION  SESSIONS  HOLDS
a     10.0.0.1:7440  proxy    leader    12        431       10.0.0.100
b     10.0.0.2:7440  proxy    follower  12        0         -
w     10.0.0.3:7440  witness  follower  12        -         -

VIP   ADDRESS     HOLDER
main  10.0.0.100  a

UPSTREAM  SESSIONS  UP ON a  UP ON b
chat      431       1/2      1/2

next failure: a dies: b takes 10.0.0.100, changes are still taken
";
    assert_eq!(show(&status), expected);
}

#[test]
fn a_backend_is_down_here_and_ejected_there() {
    let mut status = healthy();
    let here = &mut report(&mut status, 0).backends[1];
    (here.ejected_for_ms, here.error) = (11_200, "failed 5 clients in a row, the last: no answer".into());
    let there = &mut report(&mut status, 1).backends[0];
    (there.up, there.error) = (false, "check: answered 503".into());
    let expected = "
demo DEGRADED: revision 12, quorum 3 of 3, leader a, holder a (seen from b)

down: 10.0.1.1:9000 of chat, seen from b: check: answered 503
ejected: 10.0.1.2:9000 of chat, by a (back in 12 s): failed 5 clients in a row, the last: no answer

NODE  ADDRESS        ROLE     STATE     REVISION  SESSIONS  HOLDS
a     10.0.0.1:7440  proxy    leader    12        431       10.0.0.100
b     10.0.0.2:7440  proxy    follower  12        0         -
w     10.0.0.3:7440  witness  follower  12        -         -

VIP   ADDRESS     HOLDER
main  10.0.0.100  a

UPSTREAM  SESSIONS  UP ON a  UP ON b
chat      431       1/2      1/2

next failure: a dies: b takes 10.0.0.100, changes are still taken
";
    assert_eq!(show(&status), expected);
}

#[test]
fn a_hundred_dead_backends_fit_on_the_screen() {
    let mut status = healthy();
    let many = (0..100).map(|i| BackendReport {
        upstream: "game".into(),
        address: format!("10.0.2.{i}:9000"),
        error: "timed out".into(),
        ..Default::default()
    });
    report(&mut status, 0).backends.extend(many);
    let text = show(&status);
    assert!(text.contains("more: 92 backends: tandemctl backend ls\n"), "{text}");
    assert!(text.lines().count() < 30, "{text}");
}

#[test]
fn what_is_so_by_choice_is_told_but_does_not_spoil_the_verdict() {
    let mut status = healthy();
    status.warnings = vec!["the node port authenticates nobody (insecure = true)".into()];
    let text = show(&status);
    assert!(text.starts_with("\ndemo OK: "), "{text}");
    assert!(text.contains("\nwarning: the node port authenticates nobody"), "{text}");
}

#[test]
fn programs_get_words_not_numbers() {
    let mut status = healthy();
    lose(&mut status, 1);
    let all = programs(&status);
    assert_eq!(all["verdict"], "degraded");
    assert_eq!(all["leader"], "a");
    assert_eq!(all["nodes"][0]["state"], "leader");
    assert_eq!(all["nodes"][0]["report"]["listeners"][0]["state"], "bound");
    assert_eq!(all["nodes"][0]["report"]["behind"], 0);
    assert_eq!(all["nodes"][1]["state"], "unreachable");
    assert_eq!(all["nodes"][1]["report"], Value::Null);
    assert_eq!(all["vips"][0]["holders"][0], "a");
}
