//! What a change would do, without doing it: what it touches, and which sessions end of it.

use std::collections::BTreeMap;
use std::time::Duration;

use tandem_proto::Problems;
use tandem_proto::admin::v1 as pb;
use tandem_proto::config::v1::Command;

use super::sealing::plain_keys;
use super::service::{Admin, Rooms, refused};
use super::stamp::wordy;
use super::status::is_proxy;
use crate::config::model::{Config, Difference, State};

impl Admin {
    /// The plan of a change, or why it would be refused.
    pub(super) async fn planned(&self, rooms: &Rooms, command: &Command) -> pb::PlanReply {
        use pb::plan_reply::Outcome;
        let state = rooms.control.now();
        let no = |problems| match refused(problems, state.revision).outcome {
            Some(pb::change_reply::Outcome::Refused(refused)) => {
                pb::PlanReply { outcome: Some(Outcome::Refused(refused)) }
            }
            _ => pb::PlanReply { outcome: None },
        };
        let mut screened = plain_keys(command);
        screened.append(wordy(command));
        let next = match screened.into_result().and_then(|()| state.plan(command)) {
            Ok(next) => next,
            Err(problems) => return no(problems),
        };
        let (problems, mut notes) = self.try_new(rooms, &state.config, &next).await;
        if !problems.is_empty() {
            return no(problems);
        }
        let nodes = self.gather(rooms, &pb::ReportRequest::default()).await;
        let away = nodes.iter().filter(|n| is_proxy(n) && n.report.is_none()).filter_map(|n| n.member.as_ref());
        notes.extend(away.map(|m| format!("{} does not answer: its sessions are not counted", m.name)));
        let reports: Vec<&pb::NodeReport> = nodes.iter().filter_map(|n| n.report.as_ref()).collect();
        let steps = steps(&state.config, &next, &reports);
        pb::PlanReply { outcome: Some(Outcome::Plan(pb::Plan { revision: state.revision, steps, notes })) }
    }
}

/// What is touched, each with its sessions.
fn steps(now: &Config, next: &Config, reports: &[&pb::NodeReport]) -> Vec<pb::Step> {
    let open = open(now, reports);
    let ended = ended(now, next);
    let step = |d: Difference| {
        let sessions = open.get(&d.touch.path).copied().unwrap_or(0);
        let within = ended.get(&d.touch.path);
        pb::Step {
            sessions,
            ends: within.map_or(0, |_| sessions),
            ends_within_ms: within.map_or(0, |within| u32::try_from(within.as_millis()).unwrap_or(u32::MAX)),
            ..d.into()
        }
    };
    Difference::between(now, next).into_iter().map(step).collect()
}

fn backend_path(upstream: &dyn std::fmt::Display, address: &dyn std::fmt::Display) -> String {
    format!("upstreams.{upstream}.backends.{address}")
}

/// Sessions open now, by the path of what they are of.
fn open(now: &Config, reports: &[&pb::NodeReport]) -> BTreeMap<String, u64> {
    let mut open = BTreeMap::new();
    let mut count = |path: String, sessions: u64| *open.entry(path).or_insert(0) += sessions;
    for report in reports {
        for b in &report.backends {
            let said = if b.name.is_empty() { &b.address } else { &b.name };
            count(backend_path(&b.upstream, said), b.sessions);
        }
        for l in &report.listeners {
            count(format!("listeners.{}", l.name), l.sessions);
            let there = |ip| now.listeners.get(l.name.as_str()).is_some_and(|known| known.address.ip() == ip);
            for (vip, _) in now.vips.iter().filter(|(_, v)| there(v.address)) {
                count(format!("vips.{vip}"), l.sessions);
            }
        }
    }
    open
}

/// What each listener and backend does with its sessions, by path.
fn drains(config: &Config) -> BTreeMap<String, (State, Option<Duration>)> {
    let listeners = config.listeners.iter().map(|(name, l)| (format!("listeners.{name}"), (l.state, l.drain_within)));
    let backends = config.upstreams.iter().flat_map(|(name, u)| {
        u.backends.iter().map(move |(address, b)| (backend_path(name, address), (b.state, b.drain_within)))
    });
    listeners.chain(backends).collect()
}

/// Whose sessions the change ends, and after which time: of what it drains with a time, and of addresses that go.
/// Whatever else goes or changes keeps the sessions it has.
fn ended(now: &Config, next: &Config) -> BTreeMap<String, Duration> {
    let (mut ended, was, is) = (BTreeMap::new(), drains(now), drains(next));
    for (path, drain) in &is {
        if let (State::Draining, Some(within)) = drain
            && was.get(path) != Some(drain)
        {
            ended.insert(path.clone(), *within);
        }
    }
    for (path, drain) in was.into_iter().filter(|(path, _)| !is.contains_key(path)) {
        // Removing it does not give its sessions more time than they had.
        if let (State::Draining, Some(within)) = drain {
            ended.insert(path, within);
        }
    }
    for (name, vip) in &now.vips {
        if next.vips.get(name).is_none_or(|v| v.address != vip.address) {
            ended.insert(format!("vips.{name}"), Duration::ZERO);
        }
    }
    ended
}

impl Admin {
    /// Whether every proxy that can be asked could listen where `next` newly wants it to.
    pub(super) async fn try_new(&self, rooms: &Rooms, now: &Config, next: &Config) -> (Problems, Vec<String>) {
        let new = super::service::new_listeners(now, next);
        if new.is_empty() { Default::default() } else { self.try_listeners(rooms, &new).await }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const NOW: &str = r#"
        listeners = { web = { address = "10.0.0.100:80" }, side = { address = "10.0.0.1:81" } }
        routes.all = { upstream = "chat" }
        vips.main.address = "10.0.0.100"
        [upstreams.chat]
        backends = [{ address = "10.0.1.1:9000" }, { address = "10.0.1.2:9000" }]
    "#;

    fn config(text: &str) -> Config {
        Config::try_from(&tandem_proto::document::parse(text).unwrap()).unwrap()
    }

    fn report(web: u64) -> pb::NodeReport {
        let listener = |name: &str, sessions| pb::ListenerReport { name: name.into(), sessions, ..Default::default() };
        let backend = |address: &str, sessions| pb::BackendReport {
            upstream: "chat".into(),
            address: address.into(),
            sessions,
            ..Default::default()
        };
        pb::NodeReport {
            listeners: vec![listener("web", web), listener("side", 1)],
            backends: vec![backend("10.0.1.1:9000", web), backend("10.0.1.2:9000", 1)],
            ..Default::default()
        }
    }

    /// path, sessions, ended, within
    fn told(next: &str) -> Vec<(String, u64, u64, u32)> {
        told_of(NOW, next)
    }

    fn told_of(now: &str, next: &str) -> Vec<(String, u64, u64, u32)> {
        let steps = steps(&config(now), &config(next), &[&report(5), &report(2)]);
        steps.into_iter().map(|s| (s.touch.unwrap().path, s.sessions, s.ends, s.ends_within_ms)).collect()
    }

    #[test]
    fn only_what_drains_with_a_time_or_loses_its_address_ends_sessions() {
        assert_eq!(told(NOW), []);
        let first = "upstreams.chat.backends.10.0.1.1:9000".to_owned();
        let removed = NOW.replace(r#"{ address = "10.0.1.1:9000" },"#, "");
        assert_eq!(told(&removed), [(first.clone(), 7, 0, 0)]);
        let drained = NOW.replace(r#""10.0.1.1:9000""#, r#""10.0.1.1:9000", state = "draining""#);
        assert_eq!(told(&drained), [(first.clone(), 7, 0, 0)]);
        let ended = drained.replace(r#""draining""#, r#""draining", drain_within = "10m""#);
        assert_eq!(told(&ended), [(first.clone(), 7, 7, 600_000)]);
        assert_eq!(told_of(&ended, NOW), [(first.clone(), 7, 0, 0)], "they are spared");
        assert_eq!(told_of(&ended, &removed), [(first.clone(), 7, 7, 600_000)], "their time runs on");
        let homeless = NOW.replace(r#"vips.main.address = "10.0.0.100""#, "");
        assert_eq!(told(&homeless), [("vips.main".to_owned(), 7, 7, 0)]);
        let closed = NOW.replace(r#", side = { address = "10.0.0.1:81" }"#, "");
        assert_eq!(told(&closed), [("listeners.side".to_owned(), 2, 0, 0)]);
    }
}
