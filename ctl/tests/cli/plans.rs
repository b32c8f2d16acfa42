//! What a change would do, told without doing it.

use tandem_proto::config::v1::Problem;

use crate::fake::{Node, Say, tandemctl, tandemctl_fed};
use crate::history::with_past;

#[tokio::test]
async fn a_dry_run_tells_what_changes_and_whose_sessions_end() {
    let node = Node::start([Say::Done(12, vec!["b does not answer: its sessions are not counted".into()])]).await;
    let ran = tandemctl(&[&node.address], "backend drain chat 10.0.1.1:9000 --within 10m --dry-run").await;
    assert_eq!(ran.code, 0);
    assert_eq!(
        ran.out,
        "~ upstreams.chat.backends.10.0.1.1:9000  (ends 17 sessions, those left after 10m)\n\
         -   state = \"active\"\n\
         +   state = \"draining\"\n\
         - listeners.side  (3 sessions go on)\n\
         dry run at revision 12: it ends up to 17 sessions; nothing was changed\n"
    );
    assert_eq!(ran.err, "note: b does not answer: its sessions are not counted\n");
    assert!(node.changes().is_empty(), "it was made");
    assert_eq!(node.plans().len(), 1);
    let json = tandemctl(&[&node.address], "config rollback 3 --dry-run --json").await.json();
    assert_eq!((json["dry_run"].clone(), json["ends"].clone()), (true.into(), 17.into()));
    assert_eq!(json["changes"][0]["fields"][0]["after"], "\"draining\"");
}

#[tokio::test]
async fn a_dry_run_names_the_node_that_cannot_listen() {
    let why = "cannot be listened on by node b: Address already in use";
    let problem = Problem { path: "listeners.x.address".into(), why: why.into(), ..Default::default() };
    let node = Node::start([Say::Refused(12, vec![problem])]).await;
    let ran = tandemctl(&[&node.address], "listener add x 10.0.0.1:80 --dry-run").await;
    assert_eq!((ran.code, ran.out.as_str()), (1, ""));
    assert!(ran.err.contains(why), "{}", ran.err);
}

#[tokio::test]
async fn what_is_no_change_of_the_config_takes_no_option_of_one() {
    let node = Node::start([Say::Done(12, Vec::new())]).await;
    for line in ["vip move", "node drain a", "status", "config watch"] {
        for option in ["--dry-run", "--expect-revision 7", "--reason because"] {
            let ran = tandemctl(&[&node.address], &format!("{line} {option}")).await;
            assert_eq!(ran.code, 1, "{line}");
            let name = option.split(' ').next().unwrap();
            assert!(ran.err.contains(&format!("{name}: says nothing to this command")), "{}", ran.err);
        }
    }
    assert!(node.moves().is_empty() && node.drains().is_empty());
}

#[tokio::test]
async fn a_file_is_held_against_the_config() {
    let node = with_past().await;
    let shown = tandemctl(&[&node.address], "config show").await.out;
    let ran = tandemctl_fed(&[&node.address], "config diff -", &shown).await;
    assert_eq!((ran.code, ran.out.as_str()), (0, "stdin says what revision 3 is\n"));
    let text = shown.replace("round_robin", "least_sessions").replace("10.0.1.1", "10.0.1.2");
    let ran = tandemctl_fed(&[&node.address], "config diff -", &text).await;
    assert_eq!(
        ran.out,
        "~ upstreams.chat\n\
         -   balance = \"round_robin\"\n\
         +   balance = \"least_sessions\"\n\
         - upstreams.chat.backends.10.0.1.1:9000\n\
         -   state = \"active\"\n\
         -   weight = 100\n\
         + upstreams.chat.backends.10.0.1.2:9000\n\
         +   state = \"active\"\n\
         +   weight = 100\n"
    );
    assert!(node.changes().is_empty());
}

#[tokio::test]
async fn a_file_is_checked_without_any_node() {
    let nobody = crate::fake::nobody().await;
    let text = "[upstreams.chat]\n[[upstreams.chat.backends]]\naddress = \"10.0.1.1:9000\"\n";
    let ran = tandemctl_fed(&[&nobody], "config check -", text).await;
    let counts = "0 listeners, 0 routes, 1 upstream, 1 backend, 0 vips, 0 certificates";
    assert_eq!((ran.code, ran.out), (0, format!("stdin is valid: {counts}\n")));
    let ran = tandemctl_fed(&[&nobody], "config check -", "[routes.all]\nupstream = \"chat\"\n").await;
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("routes.all.upstream = \"chat\": is no upstream here"), "{}", ran.err);
}
