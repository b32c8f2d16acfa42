//! Whoever watches a node learns what it does: one line when a session opens and one when it ends, levels that change
//! while it runs, and metrics under the names the dashboard asks for.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tandem_tests::binaries::workspace;
use tandem_tests::clock::until;
use tandem_tests::cluster::{Cluster, Company, PATIENCE};
use tandem_tests::peers::{Backend, Session};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A cluster whose nodes log JSON and answer those who watch.
async fn watched() -> Cluster {
    let mut cluster = Cluster::prepare(Company::Shared).await.unwrap();
    for (node, last) in cluster.nodes.iter_mut().zip(1..) {
        let mut file = std::fs::read_to_string(&node.config).unwrap();
        file += &format!("\n[log]\nformat = \"json\"\n[admin]\nhttp = \"{}\"\n", cluster.subnet.at(last, 7441));
        std::fs::write(&node.config, file).unwrap();
        node.start().unwrap();
    }
    cluster.settled().await.unwrap();
    cluster
}

async fn get(address: SocketAddr, path: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The lines a node has logged under the target `access`.
fn access(log: &str) -> Vec<Value> {
    let line = |line: &str| serde_json::from_str::<Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    log.lines().map(line).filter(|l| l["target"] == "access").collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_a_line_when_it_opens_and_one_when_it_ends() {
    let mut cluster = watched().await;
    let backend = Backend::start(cluster.subnet.at(11, 9001), "one").await.unwrap();
    cluster.serve(&[backend.address], "tcp").await.unwrap();
    let holder = cluster.holder().await.unwrap();
    let mut session = Session::open(cluster.vip()).await.unwrap();
    session.echo(b"hello").await.unwrap();
    drop(session);
    let node = cluster.node(&holder).unwrap();
    let lines = until("both lines are there", PATIENCE, || async {
        let lines = access(&node.said());
        (lines.len() >= 2).then_some(lines)
    });
    let lines = lines.await.unwrap();
    let (opened, ended) = (&lines[0], &lines[1]);
    assert_eq!(
        (opened["message"].as_str(), ended["message"].as_str()),
        (Some("session opened"), Some("session ended"))
    );
    for line in [opened, ended] {
        assert_eq!(line["client"], opened["client"]);
        assert_eq!((&line["listener"], &line["upstream"]), (&Value::from("web"), &Value::from("chat")), "{line}");
        assert_eq!(line["backend"], backend.address.to_string());
    }
    assert_eq!(ended["by"], "client");
    assert!(ended["seconds"].as_f64().unwrap() >= 0.0 && !ended["why"].as_str().unwrap().is_empty(), "{ended}");
    // A masked frame of five bytes is eleven on the wire.
    assert_eq!((&ended["from_client"], &ended["from_backend"]), (&Value::from(11), &Value::from(7)), "{ended}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn levels_change_while_the_node_runs() {
    let mut cluster = watched().await;
    let backend = Backend::start(cluster.subnet.at(11, 9001), "one").await.unwrap();
    cluster.serve(&[backend.address], "tcp").await.unwrap();
    let holder = cluster.holder().await.unwrap();
    let bad = cluster.ctl(&["log", "set", "loud"]).await.unwrap();
    assert!(bad.code == 1 && bad.err.contains("\"loud\" is no level"), "{bad:?}");
    let said = cluster.ctl(&["log", "set", "info,access=off"]).await.unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(said.out.matches("info,access=off").count(), 3, "every node: {}", said.out);
    drop(Session::open(cluster.vip()).await.unwrap());
    let said = cluster.ctl(&["log", "set", "info", "--on", &holder]).await.unwrap();
    assert_eq!((said.code, said.out.lines().count()), (0, 2), "{said:?}");
    let second = Session::open(cluster.vip()).await.unwrap();
    let node = cluster.node(&holder).unwrap();
    let lines = until("the second session is logged", PATIENCE, || async {
        let lines = access(&node.said());
        lines.iter().any(|l| l["message"] == "session opened").then_some(lines)
    });
    let opened = lines.await.unwrap().iter().filter(|l| l["message"] == "session opened").count();
    assert_eq!(opened, 1, "the first one is not logged");
    drop(second);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_dashboard_asks_for_what_a_node_tells() {
    let cluster = watched().await;
    let backend = Backend::start(cluster.subnet.at(11, 9001), "one").await.unwrap();
    cluster.serve(&[backend.address], "tcp").await.unwrap();
    let holder = cluster.holder().await.unwrap();
    let place = cluster.nodes.iter().position(|n| n.name == holder).unwrap();
    let http = cluster.subnet.at(u8::try_from(place + 1).unwrap(), 7441);
    let mut session = Session::open(cluster.vip()).await.unwrap();
    session.echo(b"hello").await.unwrap();

    assert!(get(http, "/healthz").await.starts_with("HTTP/1.1 200"), "alive");
    assert!(get(http, "/readyz").await.starts_with("HTTP/1.1 200"), "ready");
    assert!(get(http, "/other").await.starts_with("HTTP/1.1 404"), "nothing else");
    let page = until("the session is counted", Duration::from_secs(5), || async {
        let page = get(http, "/metrics").await;
        page.lines().any(|l| l == "tandem_sessions_open 1.0").then_some(page)
    });
    let page = page.await.unwrap();
    assert!(page.contains("tandem_sessions_total 1\n"), "{page}");

    let dashboard = std::fs::read_to_string(workspace().join("grafana/tandem.json")).unwrap();
    serde_json::from_str::<Value>(&dashboard).unwrap();
    let asked = names(&dashboard);
    assert!(asked.len() > 15, "the dashboard asks for {asked:?}");
    // A counter without a sample yet is told of by its type alone.
    let counters = page.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.strip_suffix(" counter"));
    let told: BTreeSet<String> = names(&page).into_iter().chain(counters.map(|name| format!("{name}_total"))).collect();
    let missing: Vec<&String> = asked.iter().filter(|name| !told.contains(*name)).collect();
    assert!(missing.is_empty(), "on the dashboard and not on the page: {missing:?}");
}

/// Every metric named in a text.
fn names(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !word(c)).filter(|w| w.starts_with("tandem_")).map(ToOwned::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_ask_and_never_go_do_not_pile_up() {
    let cluster = watched().await;
    let asked = cluster.subnet.at(1, 7441);
    let mut idle = Vec::new();
    for _ in 0..64 {
        idle.push(TcpStream::connect(asked).await.unwrap());
    }
    let mut one_more = Box::pin(get(asked, "/healthz"));
    let early = tokio::time::timeout(Duration::from_millis(500), &mut one_more).await;
    assert!(early.is_err(), "one more than 64 is answered at once: {early:?}");
    idle.pop();
    let answer = tokio::time::timeout(PATIENCE, one_more).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(cluster.ctl(&["status"]).await.unwrap().code, 0, "operators have a port of their own");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_drains_is_alive_and_not_ready() {
    let cluster = watched().await;
    let asked = cluster.subnet.at(1, 7441);
    let answers = async |path: &str, expected: &str, part: &str| {
        let right = async || {
            let answer = get(asked, path).await;
            (answer.starts_with(&format!("HTTP/1.1 {expected}")) && answer.contains(part)).then_some(())
        };
        until(&format!("{path} answers {expected} {part:?}"), PATIENCE, right).await.unwrap();
    };
    answers("/readyz", "200", "ready").await;
    assert_eq!(cluster.ctl(&["node", "drain", "a"]).await.unwrap().code, 0);
    answers("/readyz", "503", "draining: it takes no new clients").await;
    answers("/healthz", "200", "alive").await;
    answers("/metrics", "200", "tandem_draining 1").await;
    assert_eq!(cluster.ctl(&["node", "resume", "a"]).await.unwrap().code, 0);
    answers("/readyz", "200", "ready").await;
    answers("/metrics", "200", "tandem_draining 0").await;
}
