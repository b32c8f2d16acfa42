//! The leader is found from any node, a request applies once, and the search ends.

use std::time::{Duration, Instant};

use tandem_proto::admin::v1::{NodeStatus, StatusReply};
use tandem_proto::raft::v1::Member;
use tonic::Code;

use crate::fake::{Node, Say, frozen, nobody, tandemctl};

const ADD: &str = "backend add chat 127.0.0.1:9004";

fn done(revision: u64) -> Say {
    Say::Done(revision, Vec::new())
}

#[tokio::test]
async fn a_follower_names_the_leader_and_that_is_one_hop() {
    let leader = Node::start([done(12)]).await;
    let follower = Node::start([Say::Leads(leader.address.clone())]).await;
    let ran = tandemctl(&[&follower.address], ADD).await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!(ran.out, "revision 12: backend 127.0.0.1:9004 added to chat\n");
    assert_eq!((follower.changes().len(), leader.changes().len()), (1, 1));
    assert_eq!(follower.changes()[0].request_id, leader.changes()[0].request_id);
}

#[tokio::test]
async fn an_election_is_waited_for_and_the_request_keeps_its_id() {
    let node = Node::start([Say::NoLeader, Say::Break, Say::NoLeader, done(3)]).await;
    let ran = tandemctl(&[&node.address], ADD).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    let ids: Vec<String> = node.changes().into_iter().map(|c| c.request_id).collect();
    assert_eq!(ids.len(), 4);
    assert!(ids[0].len() == 32 && ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

#[tokio::test]
async fn two_runs_are_two_requests() {
    let node = Node::start([done(3)]).await;
    for _ in 0..2 {
        assert_eq!(tandemctl(&[&node.address], ADD).await.code, 0);
    }
    let changes = node.changes();
    assert_ne!(changes[0].request_id, changes[1].request_id);
}

#[tokio::test]
async fn dead_and_frozen_nodes_are_passed_over() {
    let (frozen, _listener) = frozen().await;
    let alive = Node::start([done(5)]).await;
    let dead = nobody().await;
    let started = Instant::now();
    let ran = tandemctl(&[&dead, &frozen, &alive.address], &format!("{ADD} --timeout 6s")).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_dead_leader_does_not_hold_the_search_up() {
    let dead = nobody().await;
    let node = Node::start([Say::Leads(dead.clone()), Say::Leads(dead), done(7)]).await;
    let ran = tandemctl(&[&node.address], ADD).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(node.changes().len(), 3);
}

#[tokio::test]
async fn a_node_cut_off_from_the_leader_still_tells_where_the_others_are() {
    let leader = Node::start([done(8)]).await;
    let lonely = Node::start([Say::NoLeader]).await;
    let member = Member { id: 2, address: leader.address.clone(), ..Default::default() };
    lonely.is(StatusReply {
        nodes: vec![NodeStatus { member: Some(member), ..Default::default() }],
        ..Default::default()
    });
    let ran = tandemctl(&[&lonely.address], ADD).await;
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(leader.changes().len(), 1);
}

#[tokio::test]
async fn nodes_that_name_each_other_end_in_words_not_in_a_circle() {
    let a = Node::start([]).await;
    let b = Node::start([Say::Leads(a.address.clone())]).await;
    a.will([Say::Leads(b.address.clone())]);
    let ran = tandemctl(&[&a.address], &format!("{ADD} --timeout 700ms")).await;
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    let expected = format!(
        "no answer within 700ms:\n  {a}  says that {b} leads\n  {b}  says that {a} leads\n",
        a = a.address,
        b = b.address
    );
    assert!(ran.err.starts_with(&expected), "{}", ran.err);
    assert!(a.changes().len() < 10, "{} requests", a.changes().len());
}

#[tokio::test]
async fn nobody_there_is_told_in_time_node_by_node() {
    let (one, two) = (nobody().await, nobody().await);
    let started = Instant::now();
    let ran = tandemctl(&[&one, &two], &format!("{ADD} --timeout 400ms")).await;
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(400) && took < Duration::from_secs(2), "{took:?}");
    assert_eq!((ran.code, ran.out.as_str()), (2, ""));
    for node in [&one, &two] {
        assert!(ran.err.contains(&format!("  {node}  Connection refused")), "{}", ran.err);
    }
    assert!(ran.err.contains("--node HOST:PORT"), "{}", ran.err);
    assert!(!ran.err.contains("may have been made"), "nothing was sent: {}", ran.err);

    let ran = tandemctl(&[&one], "status --json --timeout 200ms").await;
    assert_eq!(ran.code, 2);
    let json = ran.json();
    assert_eq!(json["unreachable"][0]["node"], one);
    assert_eq!(json["maybe_done"], false);
}

#[tokio::test]
async fn a_change_whose_answer_never_came_can_be_sent_again_by_its_id() {
    let node = Node::start([Say::Nothing]).await;
    let ran = tandemctl(&[&node.address], &format!("{ADD} --timeout 600ms --request-id r1")).await;
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("may have been made"), "{}", ran.err);
    assert!(ran.err.contains("--request-id r1"), "{}", ran.err);
    assert!(node.changes().iter().all(|c| c.request_id == "r1"));

    let ran = tandemctl(&[&node.address], &format!("{ADD} --timeout 600ms --request-id r1 --json")).await;
    assert_eq!((ran.json()["maybe_done"].clone(), ran.json()["request_id"].clone()), (true.into(), "r1".into()));
}

#[tokio::test]
async fn a_move_goes_to_the_leader() {
    let leader = Node::start([done(0)]).await;
    let follower = Node::start([Say::NoLeader, Say::Leads(leader.address.clone())]).await;
    let ran = tandemctl(&[&follower.address], "vip move main --to b").await;
    assert_eq!((ran.code, ran.err.as_str()), (0, ""));
    assert_eq!(ran.out, "virtual IP main moved from a to b in 9 ms\n");
    assert_eq!(leader.moves()[0].to, "b");
}

#[tokio::test]
async fn a_move_is_never_made_twice() {
    let other = Node::start([done(0)]).await;
    for word in [Say::Break, Say::Nothing] {
        let node = Node::start([word]).await;
        let ran = tandemctl(&[&node.address, &other.address], "vip move --timeout 600ms").await;
        assert_eq!(ran.code, 2, "{ran:?}");
        assert!(ran.err.contains("may have been made all the same: see tandemctl vip ls"), "{}", ran.err);
        assert_eq!((node.moves().len(), other.moves().len()), (1, 0));
    }
}

#[tokio::test]
async fn a_no_is_a_no_and_is_not_asked_again() {
    let node = Node::start([Say::Deny(Code::InvalidArgument, "no proxy is called x")]).await;
    let other = Node::start([done(0)]).await;
    let nodes = [node.address.as_str(), other.address.as_str()];
    let ran = tandemctl(&nodes, "vip move --to x").await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert_eq!(ran.err, format!("refused by {}: no proxy is called x\n", node.address));
    let ran = tandemctl(&nodes, "vip move --to x --json").await;
    assert_eq!(ran.code, 1);
    assert_eq!(ran.json()["refused"][0]["why"], "no proxy is called x");
    assert!(other.moves().is_empty());
}
