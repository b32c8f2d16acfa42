//! Backends that are names, with a real DNS server to ask.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use tandem_tests::dns::Dns;
use tandem_tests::subnet::Subnet;
use tokio::net::TcpListener;

use super::rig::{Rig, active, echoes, unchecked, until};
use crate::config::model::{Balance, Check, CheckKind, Upstream};
use crate::demo::echo;
use crate::metrics;
use crate::proxy::Report;

/// The port of every backend here.
const PORT: u16 = 9000;

/// A DNS server, and three backends `1`, `2` and `3` whose addresses end so.
struct Town {
    dns: Dns,
    subnet: Subnet,
}

impl Town {
    async fn new() -> Self {
        let subnet = Subnet::claim().unwrap();
        for last in 1..=3 {
            let listener = TcpListener::bind(subnet.at(last, PORT)).await.unwrap();
            tokio::spawn(echo::serve(listener, last.to_string()));
        }
        Self { dns: Dns::start(subnet.at(53, 53_53)).await.unwrap(), subnet }
    }

    fn ips(&self, last: &[u8]) -> Vec<IpAddr> {
        last.iter().map(|n| self.subnet.ip(*n)).collect()
    }

    /// The name has these addresses, for a second at a time.
    fn say(&self, name: &str, last: &[u8]) {
        self.dns.addresses(name, 1, &self.ips(last));
    }

    /// A proxy with one worker, so that turns are exact.
    async fn proxy(&self, backends: &[&str]) -> Rig {
        let backends = backends.iter().map(|address| (address.parse().unwrap(), active())).collect();
        let upstream = Upstream { backends, ..unchecked(Balance::RoundRobin, &[]) };
        Rig::with(upstream, |settings| (settings.workers, settings.dns) = (1, vec![self.dns.address])).await
    }

    fn are(&self, report: &Report, last: &[u8]) -> bool {
        let mut seen: Vec<SocketAddr> = report.backends.iter().map(|b| b.address).collect();
        seen.sort_unstable();
        seen == last.iter().map(|n| self.subnet.at(*n, PORT)).collect::<Vec<_>>()
    }
}

/// How many of so many sessions each backend gets.
async fn sessions(rig: &Rig, n: usize) -> BTreeMap<String, usize> {
    let mut got = BTreeMap::new();
    for _ in 0..n {
        *got.entry(rig.session().await.1).or_default() += 1;
    }
    got
}

fn each(of: &[(&str, usize)]) -> BTreeMap<String, usize> {
    of.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
}

#[tokio::test]
async fn all_addresses_of_a_name_serve_and_one_that_leaves_keeps_its_sessions() {
    let town = Town::new().await;
    town.say("chat.test", &[1, 2]);
    let rig = town.proxy(&["chat.test:9000"]).await;
    let report = rig.eventually("resolved", |r| town.are(r, &[1, 2])).await;
    assert_eq!((report.names[0].name.to_string().as_str(), report.names[0].servers), ("chat.test:9000", 2));
    assert_eq!(sessions(&rig, 4).await, each(&[("1", 2), ("2", 2)]));
    let (mut old, first) = rig.session().await;
    assert_eq!(first, "1");

    town.say("chat.test", &[2, 3]);
    rig.eventually("others", |r| town.are(r, &[2, 3])).await;
    assert_eq!(sessions(&rig, 4).await, each(&[("2", 2), ("3", 2)]));
    echoes(&mut old, "still here").await;
    assert_eq!(rig.backend(town.subnet.at(2, PORT)).sessions_total, 4, "who stays goes on counting");
}

#[tokio::test]
async fn without_an_answer_the_last_one_is_kept_and_told_of() {
    let town = Town::new().await;
    town.dns.forget("chat.test");
    let rig = town.proxy(&["chat.test:9000"]).await;
    let trouble = |report: &Report| report.names.first().and_then(|n| n.trouble.clone()).unwrap_or_default();
    rig.eventually("unknown", |r| trouble(r).starts_with("no address known yet: DNS has no A or AAAA record")).await;
    assert!(rig.say(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.starts_with("HTTP/1.1 503 "));

    town.say("chat.test", &[1]);
    rig.eventually("resolved", |r| town.are(r, &[1]) && trouble(r).is_empty()).await;
    town.dns.forget("chat.test");
    rig.eventually("forgotten", |r| trouble(r).starts_with("last answer of ") && trouble(r).contains("no A")).await;
    town.say("chat.test", &[1]);
    rig.eventually("there again", |r| trouble(r).is_empty()).await;
    town.dns.mute(true);
    let report = rig.eventually("unanswered", |r| trouble(r).starts_with("last answer of ")).await;
    assert!(trouble(&report).contains("DNS fails: ") && town.are(&report, &[1]), "{report:#?}");
    assert_eq!(sessions(&rig, 2).await, each(&[("1", 2)]));
    town.dns.mute(false);
    rig.eventually("answered", |r| trouble(r).is_empty()).await;

    let handle = rig.proxy.handle();
    let page = metrics::page(move |page| handle.counted(page)).unwrap();
    for line in
        ["tandem_dns_name_servers{name=\"chat.test:9000\"} 1.0", "tandem_dns_name_trouble{name=\"chat.test:9000\"} 0.0"]
    {
        assert!(page.lines().any(|l| l == line), "{line} in\n{page}");
    }
    for result in ["answered", "nothing", "failed"] {
        let line =
            page.lines().find_map(|l| l.strip_prefix(&format!("tandem_dns_lookups_total{{result=\"{result}\"}} ")));
        assert!(line.unwrap().parse::<u64>().unwrap() >= 1, "{result} in\n{page}");
    }
}

#[tokio::test]
async fn a_service_tells_ports_weights_and_who_comes_last() {
    let town = Town::new().await;
    let name = "_chat._tcp.test";
    for (target, last) in [("one.test", 1), ("two.test", 2), ("three.test", 3)] {
        town.say(target, &[last]);
    }
    let (one, two, three) = ((10, 3, PORT, "one.test"), (10, 1, PORT, "two.test"), (20, 9, PORT, "three.test"));
    town.dns.services(name, 1, &[one, two, three, (10, 9, PORT, "gone.test")]);
    let rig = town.proxy(&["srv:_chat._tcp.test"]).await;
    rig.eventually("resolved", |r| town.are(r, &[1, 2, 3])).await;
    assert_eq!(sessions(&rig, 8).await, each(&[("1", 6), ("2", 2)]), "the third is a backup");
    town.dns.services(name, 1, &[three]);
    rig.eventually("alone", |r| town.are(r, &[3])).await;
    assert_eq!(sessions(&rig, 2).await, each(&[("3", 2)]), "now it is the first");
}

#[tokio::test]
async fn who_has_two_names_is_one_backend() {
    let town = Town::new().await;
    town.say("a.test", &[1]);
    town.say("b.test", &[1, 2]);
    let rig = town.proxy(&["a.test:9000", "b.test:9000"]).await;
    rig.eventually("resolved", |r| town.are(r, &[1, 2]) && r.names.len() == 2).await;
    assert_eq!(sessions(&rig, 4).await, each(&[("1", 2), ("2", 2)]));
    town.say("a.test", &[3]);
    rig.eventually("one of its names is gone", |r| town.are(r, &[1, 2, 3])).await;
    let kept = rig.backend(town.subnet.at(1, PORT));
    assert_eq!((kept.said.to_string().as_str(), kept.sessions_total), ("b.test:9000", 2));
    rig.edit(|upstream| upstream.backends.clear());
    rig.eventually("no more", |r| r.names.is_empty() && r.backends.is_empty()).await;
}

#[tokio::test]
async fn a_check_calls_a_backend_by_its_name() {
    let town = Town::new().await;
    let spy = TcpListener::bind(town.subnet.at(4, PORT)).await.unwrap();
    town.say("chat.test", &[4]);
    let rig = town.proxy(&["chat.test:9000"]).await;
    rig.edit(|u| u.check = Check { kind: CheckKind::Http, ..Check::default() });
    let (mut socket, _) = spy.accept().await.unwrap();
    let head = until(&mut socket, "\r\n\r\n").await;
    assert!(head.to_ascii_lowercase().contains("\r\nhost: chat.test:9000\r\n"), "{head}");
}
