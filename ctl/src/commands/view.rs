//! The cluster's state as an operator reads it at night: the verdict first, then what is wrong, then the rest. Pure.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tandem_proto::admin::v1::{ListenerState, NodeReport, NodeStatus, StatusReply, VipStatus};
use tandem_proto::raft::v1::Role;

use super::health;
use super::words::{left, listener_state, node_name, or_dash, role};
use crate::output::{Ink, Tone, table};

/// As many backends are named as a screen has room for.
const NAMED: usize = 8;

/// How the cluster is, as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    /// Everything is as it should be.
    Ok,
    /// Clients are served and changes are taken, but something is broken.
    Degraded,
    /// Clients are not served at an address, changes are not taken, or an address is held twice.
    Critical,
}

impl Verdict {
    fn of(status: &StatusReply) -> Self {
        let node_odd = |n: &NodeStatus| !n.reachable || n.lagging || !n.report.as_ref().is_some_and(NodeReport::is_fit);
        let report_odd = |r: &NodeReport| {
            r.backends.iter().any(|b| !b.takes_clients())
                || r.names.iter().any(|n| !n.trouble.is_empty())
                || r.listeners.iter().any(|l| l.draining || l.state() == ListenerState::Failed)
        };
        if !status.quorum || status.leader == 0 || status.vips.iter().any(|v| v.holders.len() != 1) {
            Self::Critical
        } else if status.nodes.iter().any(node_odd) || reports(status).any(|(_, r)| report_odd(r)) {
            Self::Degraded
        } else {
            Self::Ok
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Critical => "critical",
        }
    }

    fn tone(self) -> Tone {
        match self {
            Self::Ok => Tone::Good,
            Self::Degraded => Tone::Odd,
            Self::Critical => Tone::Bad,
        }
    }
}

/// For people.
pub(super) fn people(status: &StatusReply, ink: Ink) -> String {
    let mut text = verdict_line(status, ink);
    for block in [troubles(status, ink), nodes(status), vips(status), upstreams(status)] {
        if !block.is_empty() {
            text.push('\n');
            text.push_str(&block);
        }
    }
    if !status.next_failure.is_empty() {
        text.push_str(&format!("\nnext failure: {}\n", status.next_failure));
    }
    text
}

fn verdict_line(status: &StatusReply, ink: Ink) -> String {
    let verdict = Verdict::of(status);
    let word = ink.say(verdict.tone(), &verdict.word().to_uppercase());
    let (voters, there) = voters(status);
    let quorum = if status.quorum {
        format!("quorum {there} of {voters}")
    } else {
        ink.say(Tone::Bad, &format!("NO QUORUM ({there} of {voters} voters reached): read-only"))
    };
    let leader = leader(status).map_or_else(|| ink.say(Tone::Bad, "NO LEADER"), |name| format!("leader {name}"));
    let mut parts = vec![format!("revision {}", newest(status)), quorum, leader];
    parts.extend(holder(status, ink));
    format!("{} {word}: {} (seen from {})\n", status.cluster, parts.join(", "), or_dash(status.answered_by.clone()))
}

/// Who holds the virtual IPs; nothing if there is none to hold.
fn holder(status: &StatusReply, ink: Ink) -> Option<String> {
    if status.vips.is_empty() {
        return None;
    }
    if status.vips.iter().any(|v| v.holders.len() > 1) {
        return Some(ink.say(Tone::Bad, "TWO HOLDERS"));
    }
    if status.vips.iter().any(|v| v.holders.is_empty()) {
        return Some(ink.say(Tone::Bad, "NO HOLDER"));
    }
    let mut names: Vec<&str> = status.vips.iter().flat_map(|v| &v.holders).map(String::as_str).collect();
    names.sort_unstable();
    names.dedup();
    Some(format!("holder {}", names.join(", ")))
}

/// What is wrong, one line each: the node's warnings, and the backends that get no clients, of which it warns only when
/// there are no others.
fn troubles(status: &StatusReply, ink: Ink) -> String {
    let seen = reports(status).flat_map(|(node, r)| r.backends.iter().map(move |b| (node.clone(), b)));
    let mut odd = health::troubles(seen);
    let unnamed = odd.len().saturating_sub(NAMED);
    odd.truncate(NAMED);
    let rest = (unnamed > 0).then(|| ("more:", format!("{unnamed} backends: tandemctl backend ls")));
    let warnings = status.warnings.iter().map(|w| ("warning:", w.clone()));
    warnings.chain(odd).chain(rest).map(|(label, what)| format!("{} {what}\n", ink.say(Tone::Odd, label))).collect()
}

fn nodes(status: &StatusReply) -> String {
    let rows = status.nodes.iter().map(|node| {
        let proxy = node.member.as_ref().is_some_and(|m| m.role() == Role::Proxy);
        let of_proxy = |text: fn(&NodeReport) -> String| match &node.report {
            Some(report) if proxy => or_dash(text(report)),
            _ => "-".to_owned(),
        };
        let revision = match (&node.report, behind(status, node)) {
            (None, _) => "-".to_owned(),
            (Some(report), n) if node.lagging => format!("{} (behind by {n})", report.revision),
            (Some(report), _) => report.revision.to_string(),
        };
        vec![
            node_name(node),
            node.member.as_ref().map_or_else(|| "-".to_owned(), |m| m.address.clone()),
            role(node).to_owned(),
            state(status, node),
            revision,
            of_proxy(|r| r.sessions.to_string()),
            of_proxy(|r| r.held.join(", ")),
        ]
    });
    table(&["NODE", "ADDRESS", "ROLE", "STATE", "REVISION", "SESSIONS", "HOLDS"], rows.collect())
}

/// What it does in the cluster now.
pub(super) fn state(status: &StatusReply, node: &NodeStatus) -> String {
    let draining = node.report.as_ref().filter(|r| r.draining);
    let time = draining.and_then(|r| r.drain_left_ms).map(|ms| format!(", {}", left(ms)));
    let base = role_in_quorum(status, node);
    match draining {
        Some(_) => format!("{base} DRAINING{}", time.unwrap_or_default()),
        None => base.to_owned(),
    }
}

fn role_in_quorum(status: &StatusReply, node: &NodeStatus) -> &'static str {
    let leads = status.leader != 0 && node.member.as_ref().is_some_and(|m| m.id == status.leader);
    match &node.report {
        _ if !node.reachable => "UNREACHABLE",
        Some(report) if !report.fatal.is_empty() => "STOPPED",
        _ if leads => "leader",
        _ if node.voter => "follower",
        _ => "learner",
    }
}

fn vips(status: &StatusReply) -> String {
    if status.vips.is_empty() {
        return String::new();
    }
    let rows = status.vips.iter().map(|v| vec![v.name.clone(), v.address.clone(), holders(status, v)]).collect();
    table(&["VIP", "ADDRESS", "HOLDER"], rows)
}

/// In a table: who holds it, louder where that is not one node.
pub(super) fn holders(status: &StatusReply, vip: &VipStatus) -> String {
    match vip.holders.as_slice() {
        [one] => one.clone(),
        [] => {
            let silent: Vec<String> = status
                .nodes
                .iter()
                .filter(|n| !n.reachable && n.member.as_ref().is_none_or(|m| m.role() != Role::Witness))
                .map(node_name)
                .collect();
            if silent.is_empty() { "NONE".to_owned() } else { format!("NONE SEEN ({} not reached)", silent.join(", ")) }
        }
        more => format!("TWICE: {}", more.join(", ")),
    }
}

/// A row for each upstream: backends that take clients out of all, as each proxy finds them.
fn upstreams(status: &StatusReply) -> String {
    let mut counts: BTreeMap<&str, BTreeMap<String, (u32, u32)>> = BTreeMap::new();
    let mut sessions: BTreeMap<&str, u64> = BTreeMap::new();
    let mut proxies: Vec<String> = Vec::new();
    for (node, report) in reports(status) {
        if !report.upstreams.is_empty() {
            proxies.push(node.clone());
        }
        for u in &report.upstreams {
            counts.entry(&u.name).or_default().insert(node.clone(), (u.take_clients, u.backends));
            *sessions.entry(&u.name).or_default() += u.sessions;
        }
    }
    if counts.is_empty() {
        return String::new();
    }
    let heads: Vec<String> = proxies.iter().map(|node| format!("UP ON {node}")).collect();
    let mut all_heads = vec!["UPSTREAM", "SESSIONS"];
    all_heads.extend(heads.iter().map(String::as_str));
    let rows = counts.into_iter().map(|(upstream, seen)| {
        let mut row = vec![upstream.to_owned(), sessions.get(upstream).copied().unwrap_or(0).to_string()];
        row.extend(proxies.iter().map(|node| seen.get(node).map_or("-".to_owned(), |(up, all)| format!("{up}/{all}"))));
        row
    });
    table(&all_heads, rows.collect())
}

/// Every node that answered, with its word.
pub(super) fn reports(status: &StatusReply) -> impl Iterator<Item = (String, &NodeReport)> {
    status.nodes.iter().filter_map(|n| Some((node_name(n), n.report.as_ref()?)))
}

/// The newest revision anyone has.
fn newest(status: &StatusReply) -> u64 {
    reports(status).map(|(_, r)| r.revision).max().unwrap_or(0).max(status.revision)
}

/// How many revisions a node that answered lacks.
fn behind(status: &StatusReply, node: &NodeStatus) -> u64 {
    node.report.as_ref().map_or(0, |r| newest(status) - r.revision)
}

/// How many vote, and how many of them were reached.
fn voters(status: &StatusReply) -> (usize, usize) {
    let voters = || status.nodes.iter().filter(|n| n.voter);
    (voters().count(), voters().filter(|n| n.reachable).count())
}

fn leader(status: &StatusReply) -> Option<String> {
    let leads = |n: &&NodeStatus| n.member.as_ref().is_some_and(|m| m.id == status.leader);
    (status.leader != 0).then(|| status.nodes.iter().find(leads).map_or_else(|| status.leader.to_string(), node_name))
}

/// For programs.
pub(super) fn programs(status: &StatusReply) -> Value {
    json!({
        "cluster": status.cluster,
        "verdict": Verdict::of(status).word(),
        "revision": newest(status),
        "quorum": status.quorum,
        "leader": leader(status),
        "term": status.term,
        "nodes": status.nodes.iter().map(|n| node_json(status, n)).collect::<Vec<_>>(),
        "vips": status.vips.iter().map(vip_json).collect::<Vec<_>>(),
        "warnings": status.warnings,
        "next_failure": status.next_failure,
        "answered_by": status.answered_by,
    })
}

pub(super) fn vip_json(vip: &VipStatus) -> Value {
    json!({"name": vip.name, "address": vip.address, "holders": vip.holders})
}

pub(super) fn node_json(status: &StatusReply, node: &NodeStatus) -> Value {
    let member = node.member.clone().unwrap_or_default();
    json!({
        "name": node_name(node),
        "id": member.id,
        "address": member.address,
        "role": role(node),
        "state": role_in_quorum(status, node).to_lowercase(),
        "reachable": node.reachable,
        "voter": node.voter,
        "lagging": node.lagging,
        "to_vote": member.to_vote,
        "report": node.report.as_ref().map(|r| report_json(r, behind(status, node))),
    })
}

fn report_json(r: &NodeReport, behind: u64) -> Value {
    let listeners = r.listeners.iter().map(|l| {
        json!({
            "name": l.name, "address": l.address, "state": listener_state(l.state()), "error": l.error,
            "draining": l.draining, "drain_left_ms": l.drain_left_ms,
        })
    });
    let backends = r.backends.iter().map(|b| {
        json!({
            "upstream": b.upstream, "address": b.address, "name": b.name, "up": b.up, "error": b.error,
            "sessions": b.sessions, "sessions_total": b.sessions_total, "requests_total": b.requests_total,
            "tls_error": b.tls_error,
            "ejected_for_ms": b.ejected_for_ms, "ejections_total": b.ejections_total,
            "drain_left_ms": b.drain_left_ms,
        })
    });
    let names = r.names.iter().map(|n| json!({"name": n.name, "servers": n.servers, "trouble": n.trouble}));
    json!({
        "version": r.version,
        "revision": r.revision,
        "behind": behind,
        "applied": r.applied,
        "uptime_ms": r.uptime_ms,
        "sessions": r.sessions,
        "draining": r.draining,
        "drain_left_ms": r.drain_left_ms,
        "held": r.held,
        "fatal": r.fatal,
        "removed": r.removed,
        "level": r.level.max(1),
        "secret": r.secret,
        "listeners": listeners.collect::<Vec<_>>(),
        "backends": backends.collect::<Vec<_>>(),
        "names": names.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests;
