//! kill -9, over and over: what was acknowledged is there, what was retried happened once.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tandem_proto::config::v1::edit::Edit;
use tandem_proto::config::v1::{AddBackend, Backend, RemoveBackend, Upstream};
use tandem_tests::admin::{Admin, command};
use tandem_tests::cluster::{Cluster, Company};
use tokio::time::sleep;

use crate::chance::Chance;

/// Each writes to an upstream of its own.
const WRITERS: usize = 4;
/// Backends that a writer leaves before it removes the oldest.
const LEFT: usize = 40;
/// How often what is there is compared with what was acknowledged.
const LOOK_EVERY: u32 = 25;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many.
    #[arg(long, default_value_t = 200)]
    kills: u32,
    /// Which victims, and when.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let mut chance = Chance::new(args.seed);
    let mut cluster = Cluster::start(Company::Alone).await?;
    let admin = cluster.admin()?;
    for n in 0..WRITERS {
        admin.change(Edit::AddUpstream(Upstream { name: format!("writer-{n}"), ..Default::default() })).await?;
    }
    let (mut killed, mut changes, mut leaders) = (0, 0, 0);
    let mut left = vec![Writer::default(); WRITERS];
    let begun = Instant::now();
    while killed < args.kills {
        let before = cluster.settled().await?.revision;
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = left
            .into_iter()
            .enumerate()
            .map(|(n, writer)| tokio::spawn(writer.write(n, admin.clone(), Arc::clone(&stop))))
            .collect();
        for _ in 0..LOOK_EVERY.min(args.kills - killed) {
            let victim = usize::try_from(chance.below(3))?;
            let leader = admin.status().await.map(|s| s.leader).unwrap_or(0);
            leaders += u32::from(leader == victim as u64 + 1);
            cluster.nodes[victim].kill();
            sleep(Duration::from_millis(chance.below(600))).await;
            cluster.nodes[victim].start()?;
            sleep(Duration::from_millis(200 + chance.below(600))).await;
            killed += 1;
        }
        stop.store(true, Ordering::Relaxed);
        left = Vec::new();
        let mut acknowledged = 0;
        for writer in writers {
            let writer = writer.await??;
            acknowledged += writer.acknowledged;
            left.push(Writer { acknowledged: 0, ..writer });
        }
        let revision = cluster.settled().await.context("after the kills the nodes do not agree")?.revision;
        ensure!(
            revision - before == acknowledged,
            "{acknowledged} changes were acknowledged, {} happened",
            revision - before
        );
        compare(&cluster, &admin, revision, &left).await?;
        changes += acknowledged;
        println!("{killed:>4} kills ({leaders} of the leader), {changes} changes acknowledged, none lost, none twice");
    }
    println!("seed {}, {:.0} s", args.seed, begun.elapsed().as_secs_f64());
    Ok(())
}

/// Every node has exactly what the writers were told.
async fn compare(cluster: &Cluster, admin: &Admin, revision: u64, writers: &[Writer]) -> anyhow::Result<()> {
    for node in &cluster.nodes {
        let (at, config) = admin.config_of(node.address).await?;
        ensure!(at == revision, "{} is at revision {at}, the cluster at {revision}", node.name);
        for (n, writer) in writers.iter().enumerate() {
            let name = format!("writer-{n}");
            let upstream = config.upstreams.iter().find(|u| u.name == name).context("an upstream is gone")?;
            let there: BTreeSet<&str> = upstream.backends.iter().map(|b| b.address.as_str()).collect();
            let told: BTreeSet<&str> = writer.there.iter().map(String::as_str).collect();
            ensure!(there == told, "{name} on {}: {there:?}, acknowledged: {told:?}", node.name);
        }
    }
    Ok(())
}

/// One who changes one thing after another, and remembers what is to be there.
#[derive(Clone, Default)]
struct Writer {
    there: VecDeque<String>,
    written: u64,
    acknowledged: u64,
}

impl Writer {
    async fn write(mut self, n: usize, admin: Admin, stop: Arc<AtomicBool>) -> anyhow::Result<Self> {
        let upstream = format!("writer-{n}");
        while !stop.load(Ordering::Relaxed) {
            let address = format!("10.{n}.{}.{}:80", self.written / 250 % 250, self.written % 250);
            let backend = Some(Backend { address: address.clone(), ..Default::default() });
            let add = command(Edit::AddBackend(AddBackend { upstream: upstream.clone(), backend }));
            // Sent until it is answered, under one request id.
            admin.send(&add, Duration::from_secs(30)).await?;
            self.there.push_back(address);
            self.written += 1;
            self.acknowledged += 1;
            if self.there.len() > LEFT {
                let address = self.there.pop_front().context("it is not empty")?;
                let remove = Edit::RemoveBackend(RemoveBackend { upstream: upstream.clone(), address });
                admin.send(&command(remove), Duration::from_secs(30)).await?;
                self.acknowledged += 1;
            }
            sleep(Duration::from_millis(5)).await;
        }
        Ok(self)
    }
}
