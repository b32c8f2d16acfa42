//! Five voters and twenty learners: a data plane of twenty-four proxies, and one truth on all of them.

use std::time::{Duration, Instant};

use tandem_proto::config::v1 as pb;
use tandem_proto::raft::v1::Role;
use tandem_tests::clock::until;
use tandem_tests::cluster::{Cluster, Company};

/// Twenty-five processes start on whatever machine this is.
const PATIENCE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_is_live_on_five_voters_and_twenty_learners() {
    let mut cluster = Cluster::start(Company::Alone).await.unwrap();
    for (i, last) in (20..42).enumerate() {
        let more = if i < 2 { "" } else { "learner = true" };
        cluster.newcomer(&format!("n{last}"), last, more).unwrap().start().unwrap();
    }
    let admin = cluster.admin().unwrap();
    until("all are in", PATIENCE, || async {
        let status = admin.status().await.ok()?;
        let voters = status.nodes.iter().filter(|n| n.voter).count();
        (status.nodes.len() == 25 && voters == 5 && status.nodes.iter().all(|n| n.reachable)).then_some(())
    })
    .await
    .unwrap();

    let start = Instant::now();
    let backend = pb::Backend { address: cluster.subnet.at(11, 9001).to_string(), ..Default::default() };
    let upstream = pb::Upstream { name: "chat".into(), backends: vec![backend.clone()], ..Default::default() };
    let revision = admin.change(pb::edit::Edit::AddUpstream(upstream)).await.unwrap();
    let took = start.elapsed();
    // Not only in the log: the data plane of each proxy, learners too, has it.
    let seen = until("it is live on all", PATIENCE, || async {
        let nodes = admin.status().await.ok()?.nodes;
        let live = |n: &tandem_proto::admin::v1::NodeStatus| {
            let proxy = n.member.as_ref().is_some_and(|m| m.role() == Role::Proxy);
            let has = |r: &tandem_proto::admin::v1::NodeReport| {
                r.revision >= revision && (!proxy || r.backends.iter().any(|b| b.address == backend.address))
            };
            n.report.as_ref().is_some_and(has)
        };
        nodes.iter().all(live).then_some(nodes.len())
    })
    .await
    .unwrap();
    assert_eq!(seen, 25);
    println!("25 nodes: acknowledged after {took:?}, seen live on all after {:?}", start.elapsed());
}
