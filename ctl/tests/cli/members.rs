//! `node`: what is asked of the leader, and what is told of its answer.

use tandem_proto::admin::v1::set_member_request::Change;
use tandem_proto::admin::v1::{NewMember, NodeReport, NodeStatus, StatusReply};
use tandem_proto::raft::v1::{Member, Role};
use tonic::Code;

use crate::fake::{Node, Say, tandemctl};

#[tokio::test]
async fn each_change_is_one_request_and_one_answer() {
    let new =
        |name: &str, address: &str| NewMember { name: name.into(), address: address.into(), ..Default::default() };
    for (line, asked, told) in [
        (
            "node add c --address 10.0.0.4:7440 --role witness",
            Change::Add(NewMember { role: Role::Witness.into(), learner: Some(false), ..new("c", "10.0.0.4:7440") }),
            "c is in, as node 4; 4 voters now\n",
        ),
        ("node replace b", Change::Replace(new("b", "")), "b is in anew, as node 4; 4 voters now\n"),
        (
            "node replace b --address 10.0.0.9:7440",
            Change::Replace(new("b", "10.0.0.9:7440")),
            "b is in anew, as node 4; 4 voters now\n",
        ),
        ("node rm c", Change::Remove("c".into()), "c (node 4) is removed for good; 4 voters now\n"),
        ("node promote c", Change::Promote("c".into()), "c votes; 4 voters now\n"),
        ("node demote c", Change::Demote("c".into()), "c is a learner: it votes no more; 4 voters now\n"),
    ] {
        let leader = Node::start([Say::Done(1, Vec::new())]).await;
        let follower = Node::start([Say::Leads(leader.address.clone())]).await;
        let ran = tandemctl(&[&follower.address], line).await;
        assert_eq!((ran.code, ran.out.as_str()), (0, told), "{line}: {ran:?}");
        assert_eq!(ran.err, "note: 4 voters tolerate no more failures than 3\n", "{line}");
        let sent: Vec<_> = leader.members().into_iter().filter_map(|r| r.change).collect();
        assert_eq!(sent, [asked], "{line}");
    }
}

#[tokio::test]
async fn a_refusal_is_told_and_a_broken_answer_is_not_asked_for_again() {
    let node = Node::start([Say::Deny(Code::InvalidArgument, "the cluster would lose its quorum")]).await;
    let ran = tandemctl(&[&node.address], "node rm w").await;
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.err.contains("the cluster would lose its quorum"), "{ran:?}");

    let node = Node::start([Say::Break]).await;
    let ran = tandemctl(&[&node.address], "node rm w --timeout 1s").await;
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.err.contains("may have been made all the same: see tandemctl node ls"), "{ran:?}");
    assert_eq!(node.members().len(), 1);
}

#[tokio::test]
async fn the_list_says_who_votes() {
    let node = |id, name: &str, voter, to_vote, up| NodeStatus {
        member: Some(Member {
            id,
            name: name.into(),
            address: format!("10.0.0.{id}:7440"),
            role: Role::Proxy.into(),
            to_vote,
        }),
        reachable: up,
        voter,
        lagging: false,
        report: up.then(|| NodeReport { version: "0.1.0".into(), level: 2, ..Default::default() }),
    };
    let fake = Node::start([Say::NoLeader]).await;
    fake.is(StatusReply {
        leader: 1,
        level: 2,
        nodes: vec![
            node(1, "a", true, false, true),
            node(5, "b", false, true, false),
            node(6, "c", false, false, true),
        ],
        ..Default::default()
    });
    let ran = tandemctl(&[&fake.address], "node ls").await;
    assert_eq!(
        ran.out,
        "NODE  NUMBER  ADDRESS        ROLE   VOTES           STATE        VERSION\n\
         a     1       10.0.0.1:7440  proxy  yes             leader       0.1.0\n\
         b     5       10.0.0.5:7440  proxy  once caught up  UNREACHABLE  -\n\
         c     6       10.0.0.6:7440  proxy  no              learner      0.1.0\n"
    );
    let json = tandemctl(&[&fake.address], "node ls --json").await.json();
    assert_eq!((json["level"].as_u64(), json["nodes"][1]["to_vote"].as_bool()), (Some(2), Some(true)));
}
