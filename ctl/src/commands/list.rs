//! Lists: what the config names, beside what the nodes find.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tandem_proto::Problems;
use tandem_proto::admin::v1::{BackendReport, ListenerReport, ListenerState, ReportRequest, StatusReply};
use tandem_proto::model::{Address, Backend, Balance, CheckKind, Name, State, Upstream};

use super::document::{as_json, checked};
use super::health::found;
use super::view::{holders, reports, vip_json};
use super::words::{left, listener_state, or_dash};
use crate::client::Client;
use crate::output::{Error, Told, table};

pub(super) async fn upstreams(client: &Client) -> Result<Told, Error> {
    let reply = client.config().await?;
    let config = checked(&reply)?;
    let rows = config.upstreams.iter().map(|(name, u)| vec![name.to_string(), balance(u), check(u), backends_of(u)]);
    let people = table(&["UPSTREAM", "BALANCE", "CHECK", "BACKENDS"], rows.collect());
    Ok(told(people, reply.revision, "upstreams", as_json(&config)["upstreams"].take()))
}

fn check(upstream: &Upstream) -> String {
    let check = &upstream.check;
    let every = format!("every {}", humantime::format_duration(check.interval));
    match check.kind {
        CheckKind::None => "none".to_owned(),
        kind @ (CheckKind::Tcp | CheckKind::Tls) => format!("{kind} {every}"),
        CheckKind::Http => format!("{} {} {every}, {}", check.method, check.path, check.statuses),
        kind @ CheckKind::Websocket => format!("{kind} {} {every}", check.path),
    }
}

/// Who gets the next session, and what sways it.
fn balance(upstream: &Upstream) -> String {
    let mut text = upstream.balance.to_string();
    if upstream.balance == Balance::Hash {
        text.push_str(&format!(" on {}", upstream.hash_on));
    }
    if let Some(sticky) = &upstream.sticky {
        text.push_str(&format!(", sticky by {}", sticky.cookie));
    }
    if !upstream.slow_start.is_zero() {
        text.push_str(&format!(", slow start {}", humantime::format_duration(upstream.slow_start)));
    }
    text
}

fn backends_of(upstream: &Upstream) -> String {
    let draining = upstream.backends.values().filter(|b| b.state == State::Draining).count();
    let all = upstream.backends.len();
    if draining == 0 { all.to_string() } else { format!("{all} ({draining} draining)") }
}

pub(super) async fn backends(client: &Client, only: Option<&str>) -> Result<Told, Error> {
    let ask = ReportRequest { upstream: only.unwrap_or_default().to_owned(), ..Default::default() };
    let (reply, status) = client.config_and_status(&ask).await?;
    let config = checked(&reply)?;
    if let Some(name) = only
        && !config.upstreams.contains_key(name)
    {
        let known: Vec<&str> = config.upstreams.keys().map(tandem_proto::model::Name::as_str).collect();
        let mend = format!("known: {}", or_dash(known.join(", ")));
        let problems = Problems::one(format!("upstreams.{name}"), name, "is no upstream here", mend);
        return Err(Error::Refused { problems, revision: Some(reply.revision) });
    }
    let found_by_nodes = by_backend(&status);
    let mut rows = Vec::new();
    let mut all = Vec::new();
    for (name, upstream) in config.upstreams.iter().filter(|(name, _)| only.is_none_or(|o| o == name.as_str())) {
        for (address, backend) in &upstream.backends {
            let zone = backend.zone.as_ref().map_or("", Name::as_str);
            let key = (name.as_str(), address.to_string());
            let seen = found_by_nodes.get(&key).map_or(&[][..], Vec::as_slice);
            let sessions = |seen: &[(String, &BackendReport)]| seen.iter().map(|(_, b)| b.sessions).sum::<u64>();
            for (server, seen) in servers(address, seen) {
                rows.push(vec![
                    name.to_string(),
                    server,
                    weight(address, backend),
                    state(backend, &seen),
                    or_dash(zone.to_owned()),
                    found(&seen),
                    sessions(&seen).to_string(),
                ]);
            }
            all.push(json!({
                "upstream": name.as_str(),
                "address": address.to_string(),
                "weight": backend.weight.get(),
                "state": backend.state.word(),
                "backup": backend.backup,
                "zone": zone,
                "sessions": sessions(seen),
                "seen": seen.iter().map(|(node, b)| backend_json(node, b)).collect::<Vec<_>>(),
            }));
        }
    }
    let people = table(&["UPSTREAM", "BACKEND", "WEIGHT", "STATE", "ZONE", "HEALTH", "SESSIONS"], rows);
    Ok(told(people, reply.revision, "backends", Value::Array(all)))
}

/// What each node finds of each backend, or of each server that its name stands for: by upstream, and as the config says it.
fn by_backend(status: &StatusReply) -> BTreeMap<(&str, String), Vec<(String, &BackendReport)>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (node, report) in reports(status) {
        for b in &report.backends {
            let said = if b.name.is_empty() { &b.address } else { &b.name };
            all.entry((b.upstream.as_str(), said.clone())).or_default().push((node.clone(), b));
        }
    }
    all
}

/// What is seen of each server behind a backend; a name that stands for none now is a line too.
fn servers<'a>(
    address: &Address,
    seen: &[(String, &'a BackendReport)],
) -> Vec<(String, Vec<(String, &'a BackendReport)>)> {
    if address.host().is_none() || seen.is_empty() {
        return vec![(address.to_string(), seen.to_vec())];
    }
    let mut all: BTreeMap<&str, Vec<(String, &BackendReport)>> = BTreeMap::new();
    for (node, b) in seen {
        all.entry(&b.address).or_default().push((node.clone(), b));
    }
    all.into_iter().map(|(server, seen)| (format!("{server} ({address})"), seen)).collect()
}

fn weight(address: &Address, backend: &Backend) -> String {
    match address {
        Address::Service(_) => "of DNS".to_owned(),
        Address::Ip(_) | Address::Name { .. } => backend.weight.to_string(),
    }
}

/// What the config says of it, and how long its sessions have where they have longest.
fn state(backend: &Backend, seen: &[(String, &BackendReport)]) -> String {
    let mut words = vec![backend.state.to_string()];
    words.extend(seen.iter().filter_map(|(_, b)| b.drain_left_ms).max().map(left));
    if backend.backup {
        words.push("backup".to_owned());
    }
    words.join(", ")
}

fn backend_json(node: &str, b: &BackendReport) -> Value {
    json!({
        "node": node, "address": b.address, "up": b.up, "error": b.error, "sessions": b.sessions,
        "sessions_total": b.sessions_total, "requests_total": b.requests_total,
        "ejected_for_ms": b.ejected_for_ms, "ejections_total": b.ejections_total,
        "drain_left_ms": b.drain_left_ms,
    })
}

pub(super) async fn listeners(client: &Client) -> Result<Told, Error> {
    let (reply, status) = client.config_and_status(&ReportRequest::brief()).await?;
    let config = checked(&reply)?;
    let mut rows = Vec::new();
    let mut all = Vec::new();
    for (name, listener) in &config.listeners {
        let seen: Vec<(String, &ListenerReport)> = reports(&status)
            .filter_map(|(node, r)| Some((node, r.listeners.iter().find(|l| l.name == name.as_str())?)))
            .collect();
        let words: Vec<String> = seen.iter().map(|(node, l)| binding(node, l)).collect();
        rows.push(vec![name.to_string(), listener.address.to_string(), or_dash(words.join(", "))]);
        let seen: Vec<Value> = seen.iter().map(|(node, l)| listener_json(node, l)).collect();
        all.push(json!({
            "name": name.as_str(), "address": listener.address.to_string(), "state": listener.state.word(), "seen": seen,
        }));
    }
    let people = table(&["LISTENER", "ADDRESS", "STATE"], rows);
    Ok(told(people, reply.revision, "listeners", Value::Array(all)))
}

fn listener_json(node: &str, l: &ListenerReport) -> Value {
    json!({
        "node": node, "state": listener_state(l.state()), "error": l.error,
        "draining": l.draining, "drain_left_ms": l.drain_left_ms,
    })
}

fn binding(node: &str, l: &ListenerReport) -> String {
    let draining = match (l.draining, l.drain_left_ms) {
        (false, _) => String::new(),
        (true, None) => " draining".to_owned(),
        (true, Some(ms)) => format!(" draining ({})", left(ms)),
    };
    match l.state() {
        ListenerState::Failed => format!("{node} FAILED: {}", or_dash(l.error.clone())),
        state => format!("{node} {}{draining}", listener_state(state)),
    }
}

pub(super) async fn vips(client: &Client) -> Result<Told, Error> {
    let status = client.status(&ReportRequest::brief()).await?;
    let rows = status.vips.iter().map(|v| vec![v.name.clone(), v.address.clone(), holders(&status, v)]);
    let people = table(&["VIP", "ADDRESS", "HOLDER"], rows.collect());
    let all = status.vips.iter().map(vip_json).collect();
    Ok(told(people, status.revision, "vips", Value::Array(all)))
}

pub(super) async fn settings(client: &Client) -> Result<Told, Error> {
    let reply = client.config().await?;
    let words = checked(&reply)?.settings.words();
    let all: serde_json::Map<String, Value> =
        words.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    let rows = words.into_iter().map(|(key, value)| vec![key.to_owned(), value]);
    let people = table(&["SETTING", "VALUE"], rows.collect());
    Ok(told(people, reply.revision, "settings", Value::Object(all)))
}

fn told(people: String, revision: u64, kind: &str, all: Value) -> Told {
    Told { people, programs: json!({"revision": revision, kind: all}), notes: Vec::new() }
}
