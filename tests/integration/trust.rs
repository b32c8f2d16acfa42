//! Two commands make a cluster in which nobody speaks who is not of it.

use std::time::{Duration, Instant};

use tandem_proto::admin::v1::StatusRequest;
use tandem_proto::admin::v1::admin_client::AdminClient;
use tandem_proto::papers::{self, Expect, Papers};
use tandem_proto::raft::v1 as raft;
use tandem_proto::raft::v1::raft_client::RaftClient;
use tandem_tests::binaries;
use tandem_tests::clock::until;
use tandem_tests::cluster::PATIENCE;
use tandem_tests::secured::Secured;
use tonic::Code;
use tonic::transport::Channel;

fn door(cluster: &Secured, whose: &str, file: &str, expect: Expect) -> Channel {
    let endpoint = papers::endpoint(&cluster.address(1).to_string()).unwrap().connect_timeout(Duration::from_secs(3));
    papers::channel(&endpoint, cluster.papers(whose, file).unwrap(), expect)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_commands_make_a_secured_cluster() {
    let mut cluster = Secured::prepare().await.unwrap();
    let start = Instant::now();
    cluster.form().await.unwrap();
    println!("from empty disks to a secured cluster of three: {:?}", start.elapsed());

    // The witness has no key that opens anything but its own connections.
    let witness = cluster.home("w").join("data");
    assert!(!witness.join("secret").exists() && !witness.join("admin.pem").exists());
    assert_eq!(cluster.kept("b", "secret").unwrap(), cluster.kept("a", "secret").unwrap());
    // Both tokens are used up, so nobody can join.
    let tokens = cluster.ctl(&["token", "ls"]).await.unwrap();
    assert_eq!(tokens.out.matches("used by node").count(), 2, "{tokens:?}");

    // A proxy that joined can administer the cluster, too.
    until("b has papers for its administrator", PATIENCE, || async {
        let bundle = cluster.home("b").join("data/admin.pem");
        let said = cluster.ctl_with(&bundle, &["vip", "ls"]).await.ok()?;
        (said.code == 0 && said.out.contains("main")).then_some(())
    })
    .await
    .unwrap();

    // A restart of all, as after a power cut.
    for name in ["a", "b", "w"] {
        cluster.kill(name);
    }
    for name in ["a", "b", "w"] {
        cluster.revive(name).unwrap();
    }
    cluster.settled(3).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_good_once_for_its_role_and_at_its_cluster() {
    let mut cluster = Secured::prepare().await.unwrap();
    cluster.init().await.unwrap();
    let proxy = cluster.token("proxy").unwrap();

    cluster.join_with("x", &proxy, &["--role", "witness"], 9).unwrap();
    assert_eq!(cluster.ended("x").await.unwrap(), 1);
    assert!(cluster.said("x").contains("this token is for a proxy"), "{}", cluster.said("x"));

    cluster.join("b", "proxy", 2).unwrap();
    cluster.settled(2).await.unwrap();
    cluster.join_with("y", &proxy, &[], 8).unwrap();
    assert_eq!(cluster.ended("y").await.unwrap(), 1);
    assert!(cluster.said("y").contains("was used before"), "{}", cluster.said("y"));
    assert!(cluster.said("a").contains("refused to join"), "and it is logged:\n{}", cluster.said("a"));

    // Carried to another cluster, whoever that is, a token is not even shown.
    let mut other = cluster.beside().unwrap();
    other.init().await.unwrap();
    let witness = cluster.token("witness").unwrap();
    other.join_with("z", &witness, &[], 7).unwrap();
    assert_eq!(other.ended("z").await.unwrap(), 1);
    assert!(other.said("z").contains("not the one the token names"), "{}", other.said("z"));
    assert!(!other.said("a").contains("refused to join"), "the secret has left the machine:\n{}", other.said("a"));

    // Removed, it is worth nothing.
    let listed = cluster.ctl(&["--json", "token", "ls"]).await.unwrap();
    let id = witness.split('.').nth(2).unwrap();
    assert!(listed.out.contains(id), "{listed:?}");
    assert_eq!(cluster.ctl(&["token", "rm", id]).await.unwrap().code, 0);
    let made = cluster.ctl(&["--json", "token", "create", "--role", "witness"]).await.unwrap();
    assert_eq!(made.code, 0, "{made:?}");
    cluster.join_with("v", &witness, &[], 6).unwrap();
    assert_eq!(cluster.ended("v").await.unwrap(), 1);
    assert!(cluster.said("v").contains("not known here"), "{}", cluster.said("v"));
    cluster.settled(2).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_and_impostors_are_refused_and_logged() {
    let cluster = Secured::start().await.unwrap();
    let mut other = cluster.beside().unwrap();
    other.init().await.unwrap();

    // Without a certificate.
    let plain = Channel::from_shared(format!("http://{}", cluster.address(1))).unwrap().connect_lazy();
    assert!(AdminClient::new(plain).status(StatusRequest::default()).await.is_err());
    // With one of another cluster: it does not take ours for its own either.
    let stranger = AdminClient::new(door_of(&other, &cluster)).status(StatusRequest::default()).await;
    assert!(stranger.is_err());
    let said = cluster
        .ctl_with(
            &other.home("a").join("data/admin.pem"),
            &["--node", &cluster.address(1).to_string(), "--timeout", "1s", "status"],
        )
        .await
        .unwrap();
    assert_eq!(said.code, 2, "{said:?}");

    // A witness administers nothing.
    let witness =
        AdminClient::new(door(&cluster, "w", "node.pem", Expect::AnyNode)).status(StatusRequest::default()).await;
    assert_eq!(witness.unwrap_err().code(), Code::PermissionDenied);
    // A user is no node.
    let user = door(&cluster, "a", "admin.pem", Expect::AnyNode);
    let vote = raft::VoteRequest::default();
    assert_eq!(RaftClient::new(user).pre_vote(vote).await.unwrap_err().code(), Code::PermissionDenied);
    // A node speaks for itself alone.
    let b = cluster.papers("b", "node.pem").unwrap();
    let papers::Who::Node(id) = b.borrow().identity.who else { panic!("b is a proxy") };
    let cluster_id: Vec<u8> = hex(&b.borrow().identity.cluster);
    let other_id = 5 - id;
    let envelope = raft::Envelope { cluster_id, epoch: 1, from: other_id, to: 1, lease_ms: 300 };
    let forged = raft::VoteRequest { envelope: Some(envelope), ..Default::default() };
    let forged = RaftClient::new(door(&cluster, "b", "node.pem", Expect::AnyNode)).pre_vote(forged).await.unwrap_err();
    let why = format!("node {id} says that it is node {other_id}");
    assert!(forged.code() == Code::PermissionDenied && forged.message().contains(&why), "{forged}");
    // Who is dialled must be who answers.
    let wrong = door(&cluster, "b", "node.pem", Expect::Exactly(papers::Who::Node(7)));
    assert!(RaftClient::new(wrong).pre_vote(raft::VoteRequest::default()).await.is_err());

    let log = cluster.said("a");
    let refused: Vec<&str> = log.lines().filter(|l| l.contains("refused") && l.contains("127.")).collect();
    assert!(refused.len() >= 3, "each is logged with its address:\n{log}");
    cluster.settled(3).await.unwrap();
}

/// The way to `to` with the papers of an administrator of `of`.
fn door_of(of: &Secured, to: &Secured) -> Channel {
    let endpoint = papers::endpoint(&to.address(1).to_string()).unwrap().connect_timeout(Duration::from_secs(3));
    papers::channel(&endpoint, of.papers("a", "admin.pem").unwrap(), Expect::AnyNode)
}

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_renew_themselves_and_an_expired_one_is_refused() {
    let mut cluster = Secured::start().await.unwrap();
    // From now on they live for seconds.
    for name in ["a", "b"] {
        cluster.kill(name);
        let file = cluster.home(name).join("node.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text.replace("[trust]\n", "[trust]\ncertificate_life = \"12s\"\n")).unwrap();
        // Which nodes there are stands before them, and may be news.
        let papers = |cluster: &Secured| {
            let kept = cluster.kept(name, "node.pem").unwrap();
            kept.split_once("-----BEGIN").unwrap().1.to_owned()
        };
        let old = papers(&cluster);
        cluster.revive(name).unwrap();
        cluster.settled(3).await.unwrap();
        assert!(papers(&cluster) == old, "90 days are not over");
    }
    // An authority that is new makes all certificates new: with a short life.
    assert_eq!(cluster.ctl(&["ca", "rotate"]).await.unwrap().code, 0);
    let short = |cluster: &Secured, name: &str, file: &str| {
        let papers = Papers::parse(&cluster.kept(name, file).ok()?).ok()?;
        (papers.not_after - papers.not_before < 60).then_some(papers.not_after)
    };
    let first = until("all certificates are short-lived", PATIENCE * 2, || async {
        let all = [("a", "node.pem"), ("b", "node.pem"), ("w", "node.pem"), ("a", "admin.pem")];
        let ends: Option<Vec<i64>> = all.into_iter().map(|(n, f)| short(&cluster, n, f)).collect();
        ends
    })
    .await
    .unwrap();
    let copy = cluster.home("a").join("copy.pem");
    std::fs::copy(cluster.home("a").join("data/admin.pem"), &copy).unwrap();

    // The old authority goes; everybody stays.
    let retired = until("the old authority is retired", PATIENCE * 2, || async {
        let said = cluster.ctl(&["ca", "retire"]).await.ok()?;
        (said.code == 0).then_some(said)
    });
    retired.await.unwrap();
    until("all have been renewed since", PATIENCE * 4, || async {
        let now = [("a", "node.pem"), ("b", "node.pem"), ("w", "node.pem"), ("a", "admin.pem")];
        let newer =
            now.into_iter().zip(&first).all(|((n, f), old)| short(&cluster, n, f).is_some_and(|end| end > *old + 6));
        newer.then_some(())
    })
    .await
    .unwrap();
    cluster.settled(3).await.unwrap();

    // What has run out lets nobody in.
    until("the copy is refused", PATIENCE * 2, || async {
        let said = cluster.ctl_with(&copy, &["--timeout", "1s", "status"]).await.ok()?;
        (said.code == 2).then_some(())
    })
    .await
    .unwrap();
    // And a node that has to connect anew is let in with what it has.
    cluster.kill("w");
    cluster.revive("w").unwrap();
    cluster.settled(3).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_quorum_is_forced_while_members_answer_who_ask_for_a_certificate() {
    let mut cluster = Secured::start().await.unwrap();
    cluster.kill("a");
    let mut command = tokio::process::Command::new(binaries::path("tandemd").unwrap());
    let config = cluster.home("a").join("node.toml");
    let said = command.args(["force-quorum", "--i-know", "--config"]).arg(config).output().await.unwrap();
    let err = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    assert!(err.contains("nothing was changed: b, w answer"), "{err}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_node_is_refused_at_once_and_says_so() {
    let cluster = Secured::start().await.unwrap();
    let said = cluster.ctl(&["node", "rm", "b"]).await.unwrap();
    assert_eq!(said.code, 0, "{said:?}");
    until("b knows that it is out", PATIENCE, || async {
        cluster.said("b").contains("was removed from the cluster; to come back").then_some(())
    })
    .await
    .unwrap();
    // Its certificate is genuine for weeks to come, and good for nothing.
    let door = door(&cluster, "b", "node.pem", Expect::AnyNode);
    let denied = RaftClient::new(door).append(raft::AppendRequest::default()).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied, "{denied}");
    assert!(denied.message().contains("was removed from this cluster"), "{denied}");
}
