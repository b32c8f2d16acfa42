//! A backend may be a name: DNS says who serves, and when it says nothing more, its last word holds.

use std::time::Duration;

use tandem_tests::clock::until;
use tandem_tests::cluster::{Cluster, Company, PATIENCE};
use tandem_tests::dns::Dns;
use tandem_tests::peers::{Backend, Session};

/// Until a new session comes to this backend.
async fn comes_to(cluster: &Cluster, name: &str) {
    let came = until("a session comes there", PATIENCE, || async {
        let session = Session::open(cluster.vip()).await.ok()?;
        (session.backend == name).then_some(())
    });
    came.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_follow_dns_and_outlive_it() {
    let mut cluster = Cluster::prepare(Company::Shared).await.unwrap();
    let dns = Dns::start(cluster.subnet.at(53, 5353)).await.unwrap();
    for node in &mut cluster.nodes {
        let mut file = std::fs::read_to_string(&node.config).unwrap();
        file += &format!("\n[dns]\nservers = [\"{}\"]\n", dns.address);
        std::fs::write(&node.config, file).unwrap();
        node.start().unwrap();
    }
    cluster.settled().await.unwrap();
    let one = Backend::start(cluster.subnet.at(11, 9001), "one").await.unwrap();
    let two = Backend::start(cluster.subnet.at(12, 9001), "two").await.unwrap();
    dns.addresses("chat.internal", 1, &[one.address.ip()]);
    cluster.serve(&[], "tcp").await.unwrap();
    let said = cluster.ctl(&["backend", "add", "chat", "chat.internal:9001"]).await.unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    comes_to(&cluster, "one").await;
    let mut old = Session::open(cluster.vip()).await.unwrap();

    dns.addresses("chat.internal", 1, &[two.address.ip()]);
    comes_to(&cluster, "two").await;
    assert_eq!(Session::open(cluster.vip()).await.unwrap().backend, "two", "the first one gets no more");
    old.echo_within(b"still here", Duration::from_secs(1)).await.unwrap();
    let listed = cluster.ctl(&["backend", "ls"]).await.unwrap();
    assert!(listed.out.contains(&format!("{} (chat.internal:9001)", two.address)), "{listed:?}");

    drop(dns);
    let told = until("status tells of it", PATIENCE * 2, || async {
        let status = cluster.ctl(&["status"]).await.ok()?;
        status.out.contains("backend chat.internal:9001, as seen from ").then_some(status.out)
    });
    let told = told.await.unwrap();
    assert!(told.contains(": last answer of ") && told.contains("[dns] in node.toml"), "{told}");
    assert_eq!(Session::open(cluster.vip()).await.unwrap().backend, "two");
}
