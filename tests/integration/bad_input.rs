//! A mistake is named with its place and its mend, all of them at once, and nothing is half done.

use std::net::TcpListener;

use serde_json::Value;
use tandem_tests::cluster::{Cluster, Company, Said, ctl, document};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_refusal_names_culprit_and_mend_and_changes_nothing() {
    let cluster = Cluster::start(Company::Shared).await.unwrap();
    let backend = cluster.subnet.at(11, 9001);
    cluster.serve(&[backend], "none").await.unwrap();
    let before = config(&cluster).await;
    let backend = backend.to_string();

    // The command line; what the answer must name: place, value, mend.
    let cases: [(&[&str], &[&str]); 14] = [
        (&["backend", "add", "chat", "not-an-address"], &["chat", "not-an-address", "port"]),
        (&["backend", "add", "chat", "127.0.0.1"], &["127.0.0.1", "port"]),
        (&["backend", "add", "nowhere", "127.0.0.1:9000"], &["nowhere", "no upstream", "known: chat"]),
        (&["backend", "add", "chat", &backend], &[&backend, "already", "backend set"]),
        (&["backend", "rm", "chat", "127.0.0.1:1"], &["127.0.0.1:1", "known:", &backend]),
        (&["backend", "add", "chat", "127.0.0.1:9000", "--expect-revision", "999"], &["expect_revision", "999"]),
        (&["upstream", "rm", "chat"], &["chat", "all", "route rm all"]),
        (&["upstream", "rm", "nowhere"], &["nowhere", "known: chat"]),
        (&["upstream", "add", "chat"], &["chat", "already"]),
        (&["upstream", "add", "Bad Name"], &["Bad Name", "a-z"]),
        (&["route", "add", "other", "--upstream", "nowhere"], &["routes.other", "nowhere", "known: chat"]),
        (&["route", "add", "other", "--upstream", "chat"], &["routes.all", "host or path"]),
        (&["route", "add", "other", "--upstream", "chat", "--path", "chat"], &["other", "chat", "begin with /"]),
        (&["listener", "add", "other", "somewhere"], &["other", "somewhere"]),
    ];
    for (line, named) in cases {
        let said = cluster.ctl(line).await.unwrap();
        refused(line, &said, named);
    }
    assert_eq!(config(&cluster).await, before, "nothing was half applied");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_document_with_several_mistakes_gets_all_of_them_told_at_once() {
    let cluster = Cluster::start(Company::Shared).await.unwrap();
    cluster.serve(&[cluster.subnet.at(11, 9001)], "none").await.unwrap();
    let before = config(&cluster).await;
    let file = cluster.dir().join("wrong.toml");
    let good = document(cluster.vip(), &[cluster.subnet.at(12, 9001)], "none");
    let wrong = "[[upstreams.chat.backends]]\naddress = \"10.0.0.300:9000\"\n\n\
                 [routes.lost]\nhost = \"lost.example\"\nupstream = \"nowhere\"\n\n\
                 [upstreams.other]\nbalance = \"fastest\"\nchek = { kind = \"tcp\" }\n";
    std::fs::write(&file, format!("colour = \"red\"\n{good}{wrong}")).unwrap();
    let file = file.to_string_lossy().into_owned();

    let said = cluster.ctl(&["config", "apply", &file]).await.unwrap();
    let named = ["colour", "10.0.0.300:9000", "routes.lost.upstream", "nowhere", "fastest", "chek"];
    refused(&["config", "apply"], &said, &named);

    let said = cluster.ctl(&["config", "apply", &file, "--json"]).await.unwrap();
    assert_eq!(said.code, 1, "{said:?}");
    let answer: Value = serde_json::from_str(&said.out).expect("one JSON document on stdout");
    let all = answer["refused"].as_array().expect("the reasons");
    assert!(all.len() >= 5, "{answer:#}");
    for problem in all {
        assert!(problem["path"].is_string() && problem["why"].as_str().is_some_and(|w| !w.is_empty()), "{problem}");
    }
    assert_eq!(config(&cluster).await, before);

    std::fs::write(&file, "this is no TOML").unwrap();
    let said = cluster.ctl(&["config", "apply", &file]).await.unwrap();
    refused(&["config", "apply"], &said, &["line 1"]);
    let said = cluster.ctl(&["config", "apply", "/nowhere/at/all.toml"]).await.unwrap();
    refused(&["config", "apply"], &said, &["/nowhere/at/all.toml"]);
    assert_eq!(config(&cluster).await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_taken_on_a_node_is_found_before_the_change_is_made() {
    let cluster = Cluster::start(Company::Shared).await.unwrap();
    cluster.serve(&[cluster.subnet.at(11, 9001)], "none").await.unwrap();
    let before = config(&cluster).await;
    let taken = TcpListener::bind(cluster.subnet.at(50, 0)).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let line = ["listener", "add", "second", &address];

    let said = cluster.ctl(&line).await.unwrap();
    refused(&line, &said, &["second", &address, "in use"]);
    assert!(["a", "b"].iter().any(|node| said.err.contains(&format!("node {node}"))), "the node is named: {said:?}");
    assert_eq!(config(&cluster).await, before);

    drop(taken);
    let said = cluster.ctl(&line).await.unwrap();
    assert_eq!(said.code, 0, "free again: {said:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_made_at_the_expected_revision_is_taken_and_the_next_one_is_stale() {
    let cluster = Cluster::start(Company::Shared).await.unwrap();
    cluster.serve(&[cluster.subnet.at(11, 9001)], "none").await.unwrap();
    let now = cluster.settled().await.unwrap().revision.to_string();
    let first = ["backend", "add", "chat", "127.0.0.1:9001", "--expect-revision", &now];
    assert_eq!(cluster.ctl(&first).await.unwrap().code, 0);
    let second = ["backend", "add", "chat", "127.0.0.1:9002", "--expect-revision", &now];
    refused(&second, &cluster.ctl(&second).await.unwrap(), &["expect_revision", &now]);

    // The same request sent twice: once applied, twice told.
    let line = ["backend", "add", "chat", "127.0.0.1:9003", "--request-id", "only-once"];
    let (one, two) = (cluster.ctl(&line).await.unwrap(), cluster.ctl(&line).await.unwrap());
    assert_eq!((one.code, two.code), (0, 0), "{one:?} {two:?}");
    assert_eq!(cluster.settled().await.unwrap().revision.to_string(), (now.parse::<u64>().unwrap() + 2).to_string());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_there_is_another_exit_code_than_refused() {
    let mut cluster = Cluster::start(Company::Shared).await.unwrap();
    let said = ctl("127.0.0.1:1", &["status", "--timeout", "1s"]).await.unwrap();
    assert_eq!(said.code, 2, "{said:?}");
    assert!(said.err.contains("127.0.0.1:1"), "who was asked is named: {said:?}");
    assert_eq!(cluster.ctl(&["no-such-verb"]).await.unwrap().code, 1, "a mistyped command is refused");

    // One of three left: it can be looked at, not changed.
    cluster.node("b").unwrap().kill();
    cluster.node("w").unwrap().kill();
    let said = cluster.ctl(&["upstream", "add", "chat", "--timeout", "2s"]).await.unwrap();
    assert_eq!(said.code, 2, "{said:?}");
    let said = cluster.ctl(&["status", "--timeout", "3s"]).await.unwrap();
    assert_eq!(said.code, 0, "status is what one looks at now: {said:?}");
}

fn refused(line: &[&str], said: &Said, named: &[&str]) {
    assert_eq!(said.code, 1, "tandemctl {}: {said:?}", line.join(" "));
    assert!(said.out.is_empty(), "stdout is for data: {said:?}");
    for word in named {
        assert!(
            said.err.contains(word),
            "tandemctl {}: the answer does not name {word:?}:\n{}",
            line.join(" "),
            said.err
        );
    }
}

async fn config(cluster: &Cluster) -> String {
    let said = cluster.ctl(&["config", "show"]).await.unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    said.out
}
