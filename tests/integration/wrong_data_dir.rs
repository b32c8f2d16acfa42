//! A node that is told wrongly says so and does not start.

use tandem_tests::cluster::{Cluster, Company, node_toml};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_of_another_node_or_cluster_is_refused() {
    let mut cluster = Cluster::start(Company::Shared).await.unwrap();
    let addresses: Vec<_> = cluster.nodes.iter().map(|n| (n.name.clone(), n.address)).collect();
    let peers: Vec<(&str, _)> = addresses.iter().map(|(n, a)| (n.as_str(), *a)).collect();
    let disk = cluster.dir().join("a");
    let address = cluster.node("a").unwrap().address;
    let b_address = cluster.node("b").unwrap().address;
    for name in ["a", "b"] {
        cluster.node(name).unwrap().kill();
    }

    let wrong = [
        ("another cluster", "a", node_toml("other", "a", &disk, address, &peers), "other"),
        ("another node", "b", node_toml("test", "b", &disk, b_address, &peers), "\"b\""),
    ];
    for (what, name, text, culprit) in wrong {
        let node = cluster.node(name).unwrap();
        let right = std::fs::read_to_string(&node.config).unwrap();
        let before = node.said().len();
        std::fs::write(&node.config, text).unwrap();
        node.start().unwrap();
        let code = node.ended().await.unwrap();
        let said = node.said()[before..].to_owned();
        assert_eq!(code, 1, "{what}: {said}");
        assert!(said.contains("data directory") && said.contains(culprit), "{what}: culprit: {said}");
        assert!(said.contains("data_dir"), "{what}: mend: {said}");
        std::fs::write(&node.config, right).unwrap();
    }

    for name in ["a", "b"] {
        cluster.node(name).unwrap().start().unwrap();
    }
    cluster.settled().await.expect("nothing was harmed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mistake_of_a_node_toml_is_told_at_once() {
    let mut cluster = Cluster::prepare(Company::Shared).await.unwrap();
    let node = cluster.node("a").unwrap();
    std::fs::write(
        &node.config,
        "cluster = \"Test!\"\nname = \"c\"\ndata_dir = \"/tmp/nowhere\"\ncolour = \"red\"\n\
         [control]\nlisten = \"10.0.0.1:7440\"\ntimers = \"slow\"\n\
         [peers]\na = { address = \"127.0.0.1\" }\n[vip]\nprovider = \"magic\"\n",
    )
    .unwrap();
    node.start().unwrap();
    assert_eq!(node.ended().await.unwrap(), 1);
    let said = node.said();
    for culprit in ["Test!", "colour", "10.0.0.1:7440", "insecure", "slow", "peers.a.address", "magic"] {
        assert!(said.contains(culprit), "{culprit} is not named:\n{said}");
    }
}
