//! A private key is on no disk and in no answer but sealed, and a node that cannot open it says so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tandem_tests::binaries;
use tandem_tests::clock::until;
use tandem_tests::cluster::{Cluster, Company, PATIENCE, Said};

/// The operator's own files: away from what nodes write.
struct Desk {
    dir: tempfile::TempDir,
    chain: String,
    key: String,
}

impl Desk {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["chat.example.com".to_owned()]).unwrap();
        let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let desk = Self { dir: tempfile::tempdir().unwrap(), chain, key };
        let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let both = desk.chain.clone() + &desk.key;
        for (file, text) in [("chain", &desk.chain), ("key", &desk.key), ("other", &other), ("both", &both)] {
            fs::write(desk.path(file), text).unwrap();
        }
        let made = Command::new(binaries::path("tandemd").unwrap()).arg("secret").arg(desk.path("secret")).status();
        assert!(made.unwrap().success());
        desk
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    async fn put(&self, cluster: &Cluster, verb: &str, chain: &str, key: &str) -> Said {
        let (chain, key) = (self.path(chain), self.path(key));
        let files = ["--chain", &chain.to_string_lossy(), "--key", &key.to_string_lossy()];
        cluster.ctl(&[&["certificate", verb, "web"], &files[..]].concat()).await.unwrap()
    }
}

/// The files under `dir` that have `line` in them.
fn holding(dir: &Path, line: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
        match entry.file_type().unwrap() {
            t if t.is_dir() => found.extend(holding(&entry.path(), line)),
            // A snapshot may be replaced while one looks.
            _ => {
                let bytes = fs::read(entry.path()).unwrap_or_default();
                if bytes.windows(line.len()).any(|w| w == line.as_bytes()) {
                    found.push(entry.path());
                }
            }
        }
    }
    found
}

fn give_secret(cluster: &mut Cluster, name: &str, secret: &Path) {
    let node = cluster.node(name).unwrap();
    let file = fs::read_to_string(&node.config).unwrap();
    fs::write(&node.config, format!("{file}\n[secrets]\nfile = \"{}\"\n", secret.display())).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_nowhere_in_the_clear_and_a_node_without_the_secret_says_so() {
    let desk = Desk::new();
    let mut cluster = Cluster::prepare(Company::Shared).await.unwrap();
    give_secret(&mut cluster, "a", &desk.path("secret"));
    for node in &mut cluster.nodes {
        node.start().unwrap();
    }
    cluster.settled().await.unwrap();

    let said = desk.put(&cluster, "add", "chain", "other").await;
    assert!(said.code == 1 && said.err.contains("is not the key of the chain's first certificate"), "{said:?}");
    let said = desk.put(&cluster, "add", "chain", "key").await;
    assert_eq!((said.code, said.out.contains("certificate web added")), (0, true), "{said:?}");
    let said = desk.put(&cluster, "set", "both", "key").await;
    assert!(said.code == 1 && said.err.contains("has a private key in it that is not sealed"), "{said:?}");
    cluster.settled().await.unwrap();

    let body = |pem: &str| pem.lines().nth(1).unwrap().to_owned();
    assert!(holding(cluster.dir(), &body(&desk.chain)).len() >= 3, "the chain is on every disk");
    assert_eq!(holding(cluster.dir(), &body(&desk.key)), Vec::<PathBuf>::new(), "the key is on a disk in the clear");
    for look in [&["config", "show"][..], &["config", "show", "--json"], &["status"], &["certificate", "ls"]] {
        let said = cluster.ctl(look).await.unwrap();
        assert!(said.code == 0 && !said.out.contains(&body(&desk.key)), "{look:?}: {said:?}");
    }
    let document = desk.path("shown.toml");
    fs::write(&document, cluster.ctl(&["config", "show"]).await.unwrap().out).unwrap();
    let said = cluster.ctl(&["config", "apply", &document.to_string_lossy()]).await.unwrap();
    assert_eq!(said.code, 0, "what is shown can be applied: {said:?}");

    let closed = "b: certificate web: there is no secret to open its key with";
    let warned = cluster.ctl(&["status"]).await.unwrap().out;
    assert!(warned.contains(closed) && !warned.contains("a: certificate web"), "{warned}");
    give_secret(&mut cluster, "b", &desk.path("secret"));
    let b = cluster.node("b").unwrap();
    b.stop().await.unwrap();
    b.start().unwrap();
    until("b opens the key", PATIENCE, || async {
        let said = cluster.ctl(&["certificate", "ls"]).await.ok()?;
        let all_up = cluster.admin().ok()?.status().await.ok()?.nodes.iter().all(|n| n.reachable);
        (all_up && said.code == 0 && !said.out.contains("CLOSED")).then_some(())
    })
    .await
    .unwrap();
}
