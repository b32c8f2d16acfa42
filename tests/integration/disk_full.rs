//! A disk that fills up stops consensus on its node, and nothing else; with room again, a restart is all it takes.

use std::ffi::CString;
use std::path::Path;
use std::time::Duration;

use tandem_proto::config::v1::edit::Edit;
use tandem_proto::config::v1::{Listener, Upstream};
use tandem_tests::admin::Admin;
use tandem_tests::clock::until;
use tandem_tests::cluster::{Cluster, Company, PATIENCE};
use tandem_tests::peers::{Backend, Session};

#[test]
fn the_node_serves_on_and_comes_back() {
    // A thread with mounts of its own: they are gone with it, however it ends.
    let told = std::thread::spawn(|| {
        if !own_mounts() {
            return false;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(fill());
        true
    });
    if !told.join().unwrap() {
        eprintln!("SKIPPED: disk_full needs root, to mount a small disk; run it as root");
    }
}

async fn fill() {
    let mut cluster = Cluster::prepare(Company::Shared).await.unwrap();
    let data = cluster.dir().join("b");
    std::fs::create_dir(&data).unwrap();
    let _small = Small::mount(&data);
    for node in &mut cluster.nodes {
        node.start().unwrap();
    }
    cluster.settled().await.unwrap();
    let backend = Backend::start(cluster.subnet.at(11, 9001), "one").await.unwrap();
    cluster.serve(&[backend.address], "none").await.unwrap();
    let admin = cluster.admin().unwrap();
    let own = cluster.subnet.at(50, 8081);
    let listener = Listener { name: "own".into(), address: own.to_string(), ..Default::default() };
    admin.change(Edit::AddListener(listener)).await.unwrap();
    cluster.settled().await.unwrap();

    // Someone else's file takes what is left.
    let filler = data.join("core.4711");
    let filled = std::fs::write(&filler, vec![1; 64 << 20]).unwrap_err();
    assert_eq!(filled.raw_os_error(), Some(libc::ENOSPC));
    let mut acknowledged = change_until_b_stops(&admin).await;
    let said = warning(&admin).await.unwrap();
    assert!(said.contains("No space left on device") && said.contains("make room"), "{said}");
    for n in 0..10 {
        acknowledged.push(upstream(&admin, &format!("without-b-{n}")).await);
    }
    Session::open(own).await.unwrap().echo(b"while it is full").await.unwrap();

    // Restarted too early it serves all the same.
    let b = cluster.node("b").unwrap();
    b.kill();
    b.start().unwrap();
    let address = b.address;
    until("b answers again", PATIENCE, || async { admin.config_of(address).await.ok() }).await.unwrap();

    std::fs::remove_file(&filler).unwrap();
    let b = cluster.node("b").unwrap();
    b.kill();
    b.start().unwrap();
    cluster.settled().await.unwrap();
    let (_, config) = admin.config_of(address).await.unwrap();
    for name in &acknowledged {
        assert!(config.upstreams.iter().any(|u| u.name == *name), "{name} was acknowledged");
    }
    until("nothing is wrong any more", PATIENCE, || async { warning(&admin).await.is_none().then_some(()) })
        .await
        .unwrap();
}

async fn upstream(admin: &Admin, name: &str) -> String {
    admin.change(Edit::AddUpstream(Upstream { name: name.to_owned(), ..Default::default() })).await.unwrap();
    name.to_owned()
}

async fn change_until_b_stops(admin: &Admin) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let start = std::time::Instant::now();
    while warning(admin).await.is_none() {
        assert!(start.elapsed() < Duration::from_secs(60), "b writes on a full disk");
        for _ in 0..20 {
            acknowledged.push(upstream(admin, &format!("u{}", acknowledged.len())).await);
        }
    }
    acknowledged
}

/// What is said of b's vote.
async fn warning(admin: &Admin) -> Option<String> {
    let status = admin.status().await.ok()?;
    status.warnings.into_iter().find(|w| w.starts_with("b does not vote"))
}

/// Gives this thread, and what it starts, mounts of its own.
fn own_mounts() -> bool {
    // SAFETY: plain system calls; CLONE_FS too, or a thread may not have mounts of its own.
    #[allow(unsafe_code)]
    unsafe {
        libc::unshare(libc::CLONE_NEWNS | libc::CLONE_FS) == 0
            && libc::mount(
                std::ptr::null(),
                c"/".as_ptr(),
                std::ptr::null(),
                libc::MS_REC | libc::MS_PRIVATE,
                std::ptr::null(),
            ) == 0
    }
}

/// A disk of one megabyte, there until dropped: a directory with a disk on it cannot be removed.
struct Small(CString);

impl Small {
    fn mount(at: &Path) -> Self {
        let at = CString::new(at.to_string_lossy().as_bytes()).unwrap();
        // SAFETY: all strings end in zero and live until the call returns.
        #[allow(unsafe_code)]
        let mounted =
            unsafe { libc::mount(c"small".as_ptr(), at.as_ptr(), c"tmpfs".as_ptr(), 0, c"size=1m".as_ptr().cast()) };
        assert_eq!(mounted, 0, "{}", std::io::Error::last_os_error());
        Self(at)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        // SAFETY: the string ends in zero and lives until the call returns.
        #[allow(unsafe_code)]
        unsafe {
            libc::umount2(self.0.as_ptr(), libc::MNT_DETACH);
        }
    }
}
