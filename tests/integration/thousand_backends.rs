//! A thousand backends come and go under busy sessions, and no client can tell.

use std::time::{Duration, Instant};

use tandem_proto::config::v1::edit::Edit;
use tandem_proto::config::v1::{AddBackend, Backend as Given, RemoveBackend};
use tandem_tests::clock::now;
use tandem_tests::cluster::{Cluster, Company};
use tandem_tests::peers::{Backend, hurry};
use tandem_tests::story::{Story, broken, held, percentile, round_trips};
use tokio::time::sleep;

const QUIET: Duration = Duration::from_secs(5);
const BUSY: usize = 64;
const BACKENDS: u16 = 1000;
/// An add and a remove each: a hundred changes a second. Faster than that, three nodes, the clients and this test compete
/// for the cores of one machine, and what is measured is the scheduler.
const PACE: Duration = Duration::from_millis(20);
/// Below this, a debug build on a machine that does other things too measures its scheduler.
const FLOOR_US: u64 = if cfg!(debug_assertions) { 10_000 } else { 1_000 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_session_breaks_and_the_tail_does_not_double() {
    let cluster = Cluster::start(Company::Alone).await.unwrap();
    let one = Backend::start(cluster.subnet.at(11, 9001), "one").await.unwrap();
    cluster.serve(&[one.address], "none").await.unwrap();
    let mut story = Story::default();
    let _busy = hurry(cluster.vip(), BUSY, 125, Duration::from_millis(20), story.teller());
    while held(story.read()) < BUSY {
        assert_eq!(broken(story.read(), 0, now()), 0);
        sleep(Duration::from_millis(20)).await;
    }

    let quiet_from = now();
    sleep(QUIET).await;
    let quiet_to = now();

    let admin = cluster.admin().unwrap();
    let begun = Instant::now();
    let mut pace = tokio::time::interval(PACE);
    for n in 0..BACKENDS {
        pace.tick().await;
        // Nobody is there, and nobody is sent there: weight is for new sessions only, and there are none.
        let address = cluster.subnet.at(12, 10_000 + n).to_string();
        let backend = Some(Given { address: address.clone(), ..Given::default() });
        admin.change(Edit::AddBackend(AddBackend { upstream: "chat".to_owned(), backend })).await.unwrap();
        if n >= 20 {
            let address = cluster.subnet.at(12, 10_000 + n - 20).to_string();
            admin.change(Edit::RemoveBackend(RemoveBackend { upstream: "chat".to_owned(), address })).await.unwrap();
        }
    }
    let took = begun.elapsed();
    let busy_to = now();
    sleep(QUIET).await;
    let end = now();

    let seen = story.read();
    assert_eq!((held(seen), broken(seen, 0, now())), (BUSY, 0));
    let busy = round_trips(seen, quiet_to, busy_to);
    // What the machine does besides changes with the minute: the quiet before and after both count.
    let mut quiet = [round_trips(seen, quiet_from, quiet_to), round_trips(seen, busy_to, end)].concat();
    quiet.sort_unstable();
    let p99 = |all: &[u64]| percentile(all, 99);
    println!(
        "{} changes in {took:?}; echo p50/p99 µs: quiet {}/{} ({} echoes), under changes {}/{} ({} echoes)",
        2 * BACKENDS - 20,
        percentile(&quiet, 50),
        p99(&quiet),
        quiet.len(),
        percentile(&busy, 50),
        p99(&busy),
        busy.len()
    );
    assert!(quiet.len() > 1_000 && busy.len() > 1_000, "too few echoes to speak of a p99");
    let limit = (2 * p99(&quiet)).max(FLOOR_US);
    assert!(p99(&busy) <= limit, "the p99 rose from {} to {} µs", p99(&quiet), p99(&busy));
    let admin_view = cluster.settled().await.unwrap();
    assert!(admin_view.revision > u64::from(BACKENDS));
}
