//! Whoever may open a node's socket administers the cluster from there, without a certificate and without a port.

use tandem_tests::cluster::{Cluster, Company, ctl};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_socket_of_a_node_takes_what_its_port_takes() {
    let mut cluster = Cluster::start(Company::Shared).await.unwrap();
    let status = cluster.settled().await.unwrap();
    let leader = status.nodes.iter().filter_map(|n| n.member.as_ref()).find(|m| m.id == status.leader).unwrap();
    let path = cluster.dir().join(&leader.name).join("admin.sock");
    let socket = format!("unix:{}", path.display());

    let said = ctl(&socket, &["upstream", "add", "chat", "--backend", "127.0.0.1:9001"]).await.unwrap();
    assert_eq!(said.code, 0, "{}{}", said.out, said.err);
    let said = ctl(&socket, &["backend", "ls", "chat"]).await.unwrap();
    assert!(said.out.contains("127.0.0.1:9001"), "{}{}", said.out, said.err);

    let leader = leader.name.clone();
    let node = cluster.node(&leader).unwrap();
    node.kill();
    assert!(path.exists(), "a killed node cleans nothing up");
    node.start().unwrap();
    cluster.settled().await.unwrap();
    let said = ctl(&socket, &["status"]).await.unwrap();
    assert_eq!(said.code, 0, "what the killed node left is in nobody's way: {}{}", said.out, said.err);

    cluster.node(&leader).unwrap().stop().await.unwrap();
    assert!(!path.exists(), "a stopped node leaves nothing behind");
}
