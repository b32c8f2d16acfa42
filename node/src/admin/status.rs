//! The cluster in words: what is wrong, and what the next failure would do. Pure.

use std::collections::{BTreeMap, BTreeSet};

use tandem_proto::admin::v1::{ListenerState, NodeReport, NodeStatus, VipStatus};
use tandem_proto::raft::v1::Role;

use crate::config::model::{Config, Name, State};

/// What was gathered from the nodes.
pub(super) struct Gathered<'a> {
    pub(super) nodes: &'a [NodeStatus],
    pub(super) config: &'a Config,
    pub(super) revision: u64,
    /// Seconds since 1970.
    pub(super) now_s: i64,
}

/// Who says to hold each virtual address.
pub(super) fn vips(g: &Gathered<'_>) -> Vec<VipStatus> {
    let holders = |address: &str| {
        let holds = |n: &&NodeStatus| n.report.as_ref().is_some_and(|r| r.held.iter().any(|h| h == address));
        g.nodes.iter().filter(holds).map(name).collect()
    };
    g.config
        .vips
        .iter()
        .map(|(vip, v)| {
            let address = v.address.to_string();
            VipStatus { name: vip.to_string(), holders: holders(&address), address }
        })
        .collect()
}

/// So long a change may take to be everywhere.
const SOON_MS: u64 = 1000;
/// And so many of them, when they come without a pause.
const MANY: u64 = 100;

/// Says of each node whether it lags, for which a moment is not enough. `now_ms`: since 1970.
pub(super) fn tell_lagging(nodes: &mut [NodeStatus], now_ms: u64) {
    let reports = nodes.iter().filter_map(|n| n.report.as_ref());
    let Some((newest, at)) = reports.map(|r| (r.revision, r.changed_at_unix_ms)).max() else { return };
    let may_lack = if now_ms.saturating_sub(at) > SOON_MS { 0 } else { MANY };
    for node in nodes {
        node.lagging = node.report.as_ref().is_some_and(|r| newest - r.revision > may_lack);
    }
}

/// The node that leads within its lease, if one says so.
pub(super) fn leading(nodes: &[NodeStatus]) -> Option<&NodeReport> {
    nodes.iter().filter_map(|n| n.report.as_ref()).filter(|r| r.leads).max_by_key(|r| r.term)
}

fn name(n: &NodeStatus) -> String {
    n.member.as_ref().map_or_else(String::new, |m| m.name.clone())
}

pub(super) fn is_proxy(n: &NodeStatus) -> bool {
    n.member.as_ref().is_some_and(|m| m.role() != Role::Witness)
}

fn join(names: &[String]) -> String {
    names.join(" or ")
}

struct Votes {
    voters: usize,
    up: usize,
    majority: usize,
    down: Vec<String>,
}

fn votes(nodes: &[NodeStatus]) -> Votes {
    let voters: Vec<&NodeStatus> = nodes.iter().filter(|n| n.voter).collect();
    let alive = |n: &&NodeStatus| n.report.as_ref().is_some_and(|r| r.fatal.is_empty());
    let down = voters.iter().filter(|n| !alive(n)).map(|n| name(n)).collect();
    Votes { voters: voters.len(), up: voters.iter().filter(|n| alive(n)).count(), majority: voters.len() / 2 + 1, down }
}

/// What is not as it should be, worst first, each with what to do.
pub(super) fn warnings(g: &Gathered<'_>) -> Vec<String> {
    let mut all = Vec::new();
    let votes = votes(g.nodes);
    for vip in vips(g) {
        match vip.holders.as_slice() {
            [_] => {}
            [] => all.push(format!("{} ({}) is held by nobody: clients cannot reach it", vip.name, vip.address)),
            many => all.push(format!(
                "{} ({}) is held by {}: report this with both logs",
                vip.name,
                vip.address,
                many.join(" AND ")
            )),
        }
    }
    if leading(g.nodes).is_none() {
        let need = votes.majority.saturating_sub(votes.up);
        all.push(if need > 0 {
            format!("no quorum: config is read-only; bring back {need} of {}", join(&votes.down))
        } else {
            "no leader at this moment: an election is under way; ask again in a second".to_owned()
        });
    }
    for n in g.nodes {
        let Some(r) = &n.report else {
            let spare = if votes.up <= votes.majority { "; no spare vote until it is back" } else { "" };
            all.push(format!("{} does not answer{spare}", name(n)));
            continue;
        };
        if !r.fatal.is_empty() {
            all.push(format!("{} does not vote: {}", name(n), r.fatal));
        }
        if let Some(left) = r.data_free_bytes.filter(|left| *left < LITTLE_ROOM && r.fatal.is_empty()) {
            let mib = left >> 20;
            all.push(format!(
                "{0}: {mib} MiB left on the disk of its data directory: make room, or {0} will not vote",
                name(n)
            ));
        }
        if r.draining && !r.removed {
            all.push(format!("{0} takes no new clients: tandemctl node resume {0}, or end it", name(n)));
        }
        if !r.vip_trouble.is_empty() {
            all.push(format!("{}: {}", name(n), r.vip_trouble));
        }
        if n.lagging {
            all.push(format!(
                "{} is {} behind (revision {}): see its log",
                name(n),
                g.revision - r.revision,
                r.revision
            ));
        }
        for l in r.listeners.iter().filter(|l| l.state() == ListenerState::Failed) {
            all.push(format!("{}: listener {} cannot listen on {}: {}", name(n), l.name, l.address, l.error));
        }
    }
    all.extend(listeners_draining(g));
    all.extend(upstreams_down(g));
    all.extend(certificates(g));
    all.extend(names_in_trouble(g));
    all.extend(even(votes.voters));
    all.extend(old_builds(g));
    all
}

/// A store is a few megabytes and grows little; what fills the disk is something else, and does so fast.
const LITTLE_ROOM: u64 = 64 << 20;

/// An even number of voters is one too many, or one too few.
pub(super) fn even(voters: usize) -> Option<String> {
    (voters > 0 && voters.is_multiple_of(2)).then(|| {
        format!(
            "{voters} voters tolerate no more failures than {}: let a witness join (tandemctl token create --role witness), promote a \
             learner, or demote one",
            voters - 1
        )
    })
}

/// Members that keep the others from what is new.
fn old_builds(g: &Gathered<'_>) -> Option<String> {
    let levels = || g.nodes.iter().filter_map(|n| Some((name(n), n.report.as_ref()?.level.max(1))));
    let newest = levels().map(|(_, level)| level).max()?;
    let old: Vec<String> = levels().filter(|(_, l)| *l < newest).map(|(n, l)| format!("{n} (level {l})")).collect();
    (!old.is_empty()).then(|| {
        format!("changes that need level {newest} are refused until tandemd is upgraded on {}", old.join(", "))
    })
}

/// So long before its end a certificate is spoken of. What renews by itself renews a month before.
const SOON_DAYS: i64 = 14;

/// Certificates that have expired or soon will, and keys that a node cannot open.
fn certificates(g: &Gathered<'_>) -> Vec<String> {
    let mut all = Vec::new();
    for (certificate, c) in &g.config.certificates {
        let mend = format!("tandemctl certificate set {certificate} --chain FILE --key FILE");
        // A day that has begun counts not.
        match (c.not_after() - g.now_s).div_euclid(24 * 60 * 60) {
            ..0 => all.push(format!("certificate {certificate} has expired: {mend}")),
            days @ 0..=SOON_DAYS => all.push(format!("certificate {certificate} expires in {days} days: {mend}")),
            _ => {}
        }
    }
    for (n, r) in g.nodes.iter().filter_map(|n| Some((n, n.report.as_ref()?))) {
        for c in r.certificates.iter().filter(|c| !c.error.is_empty()) {
            all.push(format!("{}: certificate {}: {}", name(n), c.name, c.error));
        }
    }
    all.extend(secrets_differ(g));
    all
}

/// Proxies that seal with different secrets; each may open what the others sealed, and yet resume none of their sessions.
fn secrets_differ(g: &Gathered<'_>) -> Option<String> {
    let sealing = g.nodes.iter().filter_map(|n| Some((name(n), &n.report.as_ref()?.secret)));
    let sealing: Vec<(String, &String)> = sealing.filter(|(_, secret)| !secret.is_empty()).collect();
    let (_, first) = sealing.first()?;
    sealing.iter().any(|(_, secret)| secret != first).then(|| {
        let each: Vec<String> = sealing.iter().map(|(node, secret)| format!("{node} with {secret}")).collect();
        let mend = "give all the same file: [secrets] in node.toml";
        format!(
            "proxies seal with different secrets ({}), and TLS sessions are not resumed across them: {mend}",
            each.join(", ")
        )
    })
}

/// Listeners that take no new clients, and how long sessions have left where they have longest.
fn listeners_draining(g: &Gathered<'_>) -> Vec<String> {
    let draining = g.config.listeners.iter().filter(|(_, l)| l.state == State::Draining);
    let line = |(listener, _): (&Name, _)| {
        let reports = g.nodes.iter().filter_map(|n| n.report.as_ref()).flat_map(|r| &r.listeners);
        let left = reports.filter(|l| l.name == listener.as_str()).filter_map(|l| l.drain_left_ms).max();
        let left = left.map(|ms| format!(", its sessions have {} s left", ms.div_ceil(1000))).unwrap_or_default();
        format!("listener {listener} takes no new clients{left}: tandemctl listener resume {listener}, or rm it")
    };
    draining.map(line).collect()
}

/// Upstreams that this node reaches through some backend.
fn serving(r: &NodeReport) -> BTreeSet<&str> {
    r.upstreams.iter().filter(|u| u.serve > 0).map(|u| u.name.as_str()).collect()
}

/// An upstream that no proxy can reach through any backend.
fn upstreams_down(g: &Gathered<'_>) -> Vec<String> {
    let proxies: Vec<(&NodeStatus, BTreeSet<&str>)> =
        g.nodes.iter().filter(|n| is_proxy(n)).filter_map(|n| Some((n, serving(n.report.as_ref()?)))).collect();
    let mut all = Vec::new();
    for (upstream, u) in &g.config.upstreams {
        if u.backends.is_empty() {
            all.push(format!("upstream {upstream} has no backend: tandemctl backend add {upstream} ADDRESS"));
            continue;
        }
        let none_up = |(_, serving): &&(&NodeStatus, BTreeSet<&str>)| !serving.contains(upstream.as_str());
        let seen: Vec<String> = proxies.iter().filter(none_up).map(|(n, _)| name(n)).collect();
        if !seen.is_empty() {
            all.push(format!("upstream {upstream}: no backend is up as seen from {}", seen.join(", ")));
        }
    }
    all
}

/// A backend's name that cannot be resolved, and the nodes that cannot, a line for each trouble.
fn names_in_trouble(g: &Gathered<'_>) -> Vec<String> {
    let mut all: BTreeMap<(&str, &str), Vec<String>> = BTreeMap::new();
    for node in g.nodes {
        let names = node.report.iter().flat_map(|r| &r.names).filter(|n| !n.trouble.is_empty());
        for n in names {
            all.entry((&n.name, &n.trouble)).or_default().push(name(node));
        }
    }
    let line = |((name, trouble), seen): ((&str, &str), Vec<String>)| {
        format!("backend {name}, as seen from {}: {trouble}", seen.join(", "))
    };
    all.into_iter().map(line).collect()
}

/// What the next single failure would do, in words.
pub(super) fn next_failure(g: &Gathered<'_>) -> String {
    let votes = votes(g.nodes);
    if votes.up < votes.majority {
        return format!("there is no quorum now: config stays read-only until {} returns", join(&votes.down));
    }
    let holders: Vec<String> = vips(g).into_iter().flat_map(|v| v.holders).collect();
    let standby: Vec<String> = g
        .nodes
        .iter()
        .filter(|n| n.voter && is_proxy(n) && n.report.as_ref().is_some_and(NodeReport::is_fit))
        .map(name)
        .filter(|n| !holders.contains(n))
        .collect();
    let config = if votes.up > votes.majority {
        "config stays writable".to_owned()
    } else if votes.down.is_empty() {
        "config becomes read-only (no vote to spare)".to_owned()
    } else {
        format!("config becomes read-only (no spare vote until {} is back)", join(&votes.down))
    };
    if g.config.vips.is_empty() {
        return format!("no virtual IP is configured; {config}");
    }
    let address = match (holders.first(), standby.as_slice()) {
        (None, _) => "the address is held by nobody".to_owned(),
        (Some(holder), []) => format!("if {holder} fails the address is lost: no other proxy is up"),
        (Some(holder), _) if votes.up <= votes.majority => {
            format!("if {holder} fails nobody can be elected: the address is lost until a vote returns")
        }
        (Some(holder), standby) => format!("if {holder} fails the address moves to {}", join(standby)),
    };
    format!("{address}; {config}")
}

#[cfg(test)]
mod tests;
