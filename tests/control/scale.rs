//! Ten thousand backends in five hundred upstreams: what changing, saving, starting and listing them takes.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::ensure;
use tandem_proto::admin::v1::ReportRequest;
use tandem_proto::admin::v1::peer_client::PeerClient;
use tandem_proto::config::v1::edit::Edit;
use tandem_proto::config::v1::{AddBackend, Backend, Check, CheckKind, Config, SetBackend, Upstream};
use tandem_tests::admin::{Admin, command};
use tandem_tests::clock::until;
use tandem_tests::cluster::{Cluster, Company, PATIENCE};
use tonic::transport::Channel;

use crate::page::{Page, gained};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many upstreams.
    #[arg(long, default_value_t = 500)]
    upstreams: usize,
    /// How many backends in each.
    #[arg(long, default_value_t = 20)]
    backends: usize,
    /// Changes a second, to sustain.
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// How long, in seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u32,
}

/// A figure, what it should be, and whether it is.
struct Figure {
    what: String,
    is: f64,
    unit: &'static str,
    limit: Option<f64>,
}

#[derive(Default)]
struct Figures(Vec<Figure>);

impl Figures {
    fn add(&mut self, what: impl Into<String>, is: f64, unit: &'static str, limit: Option<f64>) {
        let figure = Figure { what: what.into(), is, unit, limit };
        let verdict = match figure.limit {
            None => String::new(),
            Some(limit) => format!("< {limit} {unit}  {}", if is < limit { "met" } else { "MISSED" }),
        };
        println!("{:<62} {:>9.2} {:<6} {verdict}", figure.what, figure.is, figure.unit);
        self.0.push(figure);
    }
}

pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let mut cluster = Cluster::prepare(Company::Alone).await?;
    for (node, last) in cluster.nodes.iter().zip(1..) {
        let http = format!("\n[admin]\nhttp = \"{}\"\n", cluster.subnet.at(last, 7441));
        let mut text = std::fs::read_to_string(&node.config)?;
        text.push_str(&http);
        std::fs::write(&node.config, text)?;
    }
    for node in &mut cluster.nodes {
        node.start()?;
    }
    cluster.settled().await?;
    let admin = cluster.admin()?;
    let mut figures = Figures::default();
    println!("small: one upstream");
    admin.change(Edit::AddUpstream(upstream("small", 0, 0))).await?;
    live_everywhere(&cluster, &admin, &mut figures).await?;

    println!("large: {} backends in {} upstreams", args.upstreams * args.backends, args.upstreams);
    let config = Config {
        upstreams: (0..args.upstreams).map(|n| upstream(&format!("u{n:03}"), n, args.backends)).collect(),
        ..Default::default()
    };
    let begun = Instant::now();
    admin.send(&command(Edit::Replace(config)), Duration::from_secs(30)).await?;
    figures.add("all of it in one change", millis(begun), "ms", None);
    cluster.settled().await?;
    sustained(&cluster, &admin, &args, &mut figures).await?;
    snapshot(&cluster, &admin, &mut figures).await?;
    lists(&cluster, &mut figures).await?;
    starts(&mut cluster, &admin, &mut figures).await?;
    for node in &cluster.nodes {
        let bytes = node.memory()?;
        #[allow(clippy::cast_precision_loss)]
        figures.add(format!("memory of {}", node.name), bytes as f64 / f64::from(1 << 20), "MiB", None);
    }
    let missed: Vec<&str> =
        figures.0.iter().filter(|f| f.limit.is_some_and(|l| f.is >= l)).map(|f| f.what.as_str()).collect();
    ensure!(missed.is_empty(), "missed: {}", missed.join("; "));
    Ok(())
}

fn upstream(name: &str, n: usize, backends: usize) -> Upstream {
    let backend = |b: usize| Backend { address: address(n, b), ..Default::default() };
    Upstream {
        name: name.to_owned(),
        // Ten thousand checks a second of nobody would be what is measured.
        check: Some(Check { kind: CheckKind::None.into(), ..Default::default() }),
        backends: (0..backends).map(backend).collect(),
        ..Default::default()
    }
}

fn address(n: usize, b: usize) -> String {
    format!("10.{}.{}.{}:9000", n / 250, n % 250, b + 1)
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1000.0
}

fn percentile(sorted: &[f64], percent: usize) -> f64 {
    sorted.get((sorted.len() * percent / 100).min(sorted.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// From the answer to `backend add` until each proxy's data plane has it.
async fn live_everywhere(cluster: &Cluster, admin: &Admin, figures: &mut Figures) -> anyhow::Result<()> {
    let proxies: Vec<PeerClient<Channel>> = cluster
        .nodes
        .iter()
        .filter(|n| !n.name.starts_with('w'))
        .map(|n| Ok(PeerClient::new(Channel::from_shared(format!("http://{}", n.address))?.connect_lazy())))
        .collect::<anyhow::Result<_>>()?;
    let (mut add, mut live) = (Vec::new(), Vec::new());
    for n in 0..200 {
        let address = format!("10.9.{}.{}:9000", n / 100, n % 100 + 1);
        let backend = Some(Backend { address: address.clone(), ..Default::default() });
        let begun = Instant::now();
        admin.change(Edit::AddBackend(AddBackend { upstream: "small".into(), backend })).await?;
        add.push(millis(begun));
        let answered = Instant::now();
        for proxy in &proxies {
            while !has(proxy, &address).await? {
                ensure!(answered.elapsed() < PATIENCE, "{address} does not become live");
            }
        }
        live.push(millis(answered));
    }
    add.sort_by(f64::total_cmp);
    live.sort_by(f64::total_cmp);
    figures.add("backend add, until it is answered: p50", percentile(&add, 50), "ms", None);
    figures.add("backend add, until it is answered: p99", percentile(&add, 99), "ms", None);
    figures.add("then, until it is live on every node: p50", percentile(&live, 50), "ms", None);
    figures.add("then, until it is live on every node: p99", percentile(&live, 99), "ms", Some(50.0));
    Ok(())
}

async fn has(proxy: &PeerClient<Channel>, address: &str) -> anyhow::Result<bool> {
    let ask = ReportRequest { upstream: "small".to_owned(), ..Default::default() };
    let report = proxy.clone().report(ask).await?.into_inner();
    Ok(report.backends.iter().any(|b| b.address == address))
}

async fn pages(cluster: &Cluster) -> anyhow::Result<Vec<Page>> {
    let mut pages = Vec::new();
    for last in (1..).take(cluster.nodes.len()) {
        pages.push(Page::of(cluster.subnet.at(last, 7441)).await?);
    }
    Ok(pages)
}

/// Changes at a given pace, whether or not the last was answered: how late each answer came.
async fn sustained(cluster: &Cluster, admin: &Admin, args: &Args, figures: &mut Figures) -> anyhow::Result<()> {
    let before = pages(cluster).await?;
    let mut pace = tokio::time::interval(Duration::from_secs(1) / args.rate);
    let begun = Instant::now();
    let changes = (0..args.rate * args.seconds).map(|n| n as usize);
    let mut answers = Vec::new();
    for n in changes {
        let due = pace.tick().await;
        let (admin, upstream) = (admin.clone(), n % args.upstreams);
        let address = address(upstream, n / args.upstreams % args.backends);
        let weight = Some(1 + u32::try_from(n % 500)?);
        let set = SetBackend { upstream: format!("u{upstream:03}"), address, weight, ..Default::default() };
        answers.push(tokio::spawn(async move {
            admin.send(&command(Edit::SetBackend(set)), Duration::from_secs(10)).await?;
            anyhow::Ok(due.elapsed().as_secs_f64() * 1000.0)
        }));
    }
    let mut late = Vec::new();
    for answer in answers {
        late.push(answer.await??);
    }
    let took = begun.elapsed().as_secs_f64();
    late.sort_by(f64::total_cmp);
    #[allow(clippy::cast_precision_loss)]
    let rate = late.len() as f64 / took;
    ensure!(rate > f64::from(args.rate) * 0.98, "{rate:.0} changes a second instead of {}", args.rate);
    figures.add(format!("changes a second, for {} s", args.seconds), rate, "1/s", None);
    figures.add("from when it was due to its answer: p50", percentile(&late, 50), "ms", None);
    figures.add("from when it was due to its answer: p99", percentile(&late, 99), "ms", None);
    let settling = Instant::now();
    cluster.settled().await?;
    figures.add("then, until all nodes agree", millis(settling), "ms", None);
    let after = pages(cluster).await?;
    for ((before, after), node) in before.iter().zip(&after).zip(&cluster.nodes) {
        let (count, mean, within) = gained(before, after, "tandem_raft_apply_seconds", "0.001")?;
        figures.add(format!("apply on {}: mean", node.name), mean, "ms", Some(1.0));
        figures.add(
            format!("apply on {}: slower than 1 ms", node.name),
            (1.0 - within / count) * 100.0,
            "%",
            Some(1.0),
        );
        let (_, mean, _) = gained(before, after, "tandem_store_write_seconds", "0.001")?;
        figures.add(format!("a batch made safe on {}: mean", node.name), mean, "ms", None);
    }
    Ok(())
}

async fn snapshot(cluster: &Cluster, admin: &Admin, figures: &mut Figures) -> anyhow::Result<()> {
    let before = pages(cluster).await?;
    admin.change(Edit::AddUpstream(upstream("one-more", 999, 0))).await?;
    let count = "tandem_store_snapshot_seconds_count";
    let taken = until("every node takes a snapshot", PATIENCE, || async {
        let after = pages(cluster).await.ok()?;
        let more = |(b, a): (&Page, &Page)| Some(a.value(count).ok()? > b.value(count).ok()?);
        before.iter().zip(&after).all(|pair| more(pair) == Some(true)).then_some(after)
    });
    let after = taken.await?;
    for ((before, after), node) in before.iter().zip(&after).zip(&cluster.nodes) {
        let (_, mean, _) = gained(before, after, "tandem_store_snapshot_seconds", "1.0")?;
        figures.add(format!("snapshot on {}", node.name), mean, "ms", Some(1000.0));
    }
    Ok(())
}

async fn lists(cluster: &Cluster, figures: &mut Figures) -> anyhow::Result<()> {
    for args in [&["upstream", "ls"][..], &["backend", "ls", "u000"], &["status"], &["config", "show"]] {
        let mut times = Vec::new();
        for _ in 0..5 {
            let begun = Instant::now();
            let said = cluster.ctl(args).await?;
            times.push(millis(begun));
            ensure!(said.code == 0, "{args:?}: {said:?}");
        }
        times.sort_by(f64::total_cmp);
        figures.add(format!("tandemctl {}", args.join(" ")), percentile(&times, 50), "ms", Some(200.0));
    }
    Ok(())
}

/// From the start of the process until it has the whole config.
async fn starts(cluster: &mut Cluster, admin: &Admin, figures: &mut Figures) -> anyhow::Result<()> {
    for name in ["b", "w"] {
        let revision = cluster.settled().await?.revision;
        let node = cluster.node(name)?;
        node.kill();
        let begun = Instant::now();
        node.start()?;
        let address: SocketAddr = node.address;
        until("it has its config", PATIENCE, || async {
            admin.config_of(address).await.ok().filter(|(at, _)| *at >= revision)
        })
        .await?;
        figures.add(format!("start of {name}"), millis(begun), "ms", Some(2000.0));
    }
    Ok(())
}
