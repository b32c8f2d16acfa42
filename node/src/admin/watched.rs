//! What those who watch this node are told: what keeps it from being ready, and its metrics.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use rustix::process::{Resource, getrlimit};

use super::leaving::Leaving;
use super::report::leads;
use super::room;
use super::service::{Admin, Plane, Rooms};
use crate::config::model::{Certificate, Name};
use crate::metrics::Page;
use crate::proxy::{ListenerReport, Listening};

/// Why this node is not ready, a line each; none if it is. A listener whose address is on another node is no obstacle.
pub(super) fn obstacles(admin: &Admin) -> Vec<String> {
    let rooms = match admin.rooms() {
        Ok(rooms) => rooms,
        Err(e) => return vec![e.message().to_owned()],
    };
    let leaving = match *admin.leaving().borrow() {
        Leaving::No => None,
        Leaving::Draining { .. } => Some("draining: it takes no new clients".to_owned()),
        Leaving::Ending => Some("this node is about to end".to_owned()),
    };
    let fatal = rooms.control.here().fatal.map(|why| format!("it does not vote: {why}"));
    let listeners = rooms.plane.iter().flat_map(|plane| plane.proxy.report().listeners);
    leaving.into_iter().chain(fatal).chain(listeners.filter_map(|l| obstacle(&l))).collect()
}

fn obstacle(l: &ListenerReport) -> Option<String> {
    match &l.state {
        Listening::Bound | Listening::Away => None,
        Listening::Failed(why) => Some(format!("listener {} cannot listen at {}: {why}", l.name, l.address)),
    }
}

/// Everything there is to know of this node, now.
#[allow(clippy::cast_precision_loss)]
pub(super) fn write(admin: &Admin, page: &mut Page<'_>) -> fmt::Result {
    descriptors(page)?;
    let left = room::left(admin.data_dir()).map(|bytes| (vec![], bytes as f64)).into_iter().collect();
    page.gauge(
        "store_free_bytes",
        "Room on the disk of the data directory; without any, this node does not vote.",
        left,
    )?;
    let Ok(rooms) = admin.rooms() else { return Ok(()) };
    consensus(rooms, page)?;
    match &rooms.plane {
        Some(plane) => traffic(plane, page),
        None => Ok(()),
    }
}

#[allow(clippy::cast_precision_loss)]
fn consensus(rooms: &Rooms, page: &mut Page<'_>) -> fmt::Result {
    let here = rooms.control.here();
    let mut one = |name: &str, help: &str, value: f64| page.gauge(name, help, vec![(vec![], value)]);
    one("config_revision", "Revision of the config applied here.", rooms.control.now().revision as f64)?;
    one("raft_term", "Current term.", here.term as f64)?;
    one("raft_leader_id", "Number of the leader; 0 if none is known.", here.leader.unwrap_or(0) as f64)?;
    one("raft_leads", "1 while this node leads and its lease runs.", leads(&rooms.control, rooms.lease).into())?;
    one("raft_applied_index", "Index of the last applied log entry.", here.applied as f64)?;
    one("raft_fatal", "1 if consensus has stopped on this node.", here.fatal.is_some().into())?;
    let expiry =
        |(name, c): (&Name, &Arc<Certificate>)| (vec![("certificate", name.to_string())], c.not_after() as f64);
    let expiries = rooms.control.now().config.certificates.iter().map(expiry).collect();
    let help = "When each certificate expires, in seconds since 1970.";
    page.gauge("certificate_expiry_timestamp_seconds", help, expiries)?;
    let timings = rooms.control.timings();
    page.histogram("raft_apply_seconds", "Applying one change to the state.", [&timings.apply].into_iter())?;
    page.histogram("store_write_seconds", "Making one batch safe on disk.", [&timings.write].into_iter())?;
    page.histogram("store_snapshot_seconds", "One snapshot, until it is safe.", [&timings.snapshot].into_iter())?;
    let leading = here.leader == Some(here.me);
    let acked = here.quorum_acked.filter(|_| leading).map(|at| Instant::now().saturating_duration_since(at));
    let since = acked.map(|since| (vec![], since.as_secs_f64())).into_iter().collect();
    page.gauge("raft_quorum_ack_age_seconds", "Since a majority last acknowledged; only while this node leads.", since)
}

#[allow(clippy::cast_precision_loss)]
fn traffic(plane: &Plane, page: &mut Page<'_>) -> fmt::Result {
    let seen = plane.proxy.report();
    page.gauge("sessions_open", "Open sessions.", vec![(vec![], seen.sessions as f64)])?;
    page.gauge("draining", "1 while this node takes no new clients.", vec![(vec![], seen.draining.into())])?;
    plane.proxy.counted(page)?;
    let held = plane.keeper.held().borrow().iter().map(|ip| (vec![("address", ip.to_string())], 1.0)).collect();
    page.gauge("vip_held", "1 for each virtual address this node holds.", held)?;
    let trouble = plane.keeper.trouble().is_some().into();
    page.gauge(
        "vip_trouble",
        "1 while something is wrong with how addresses are kept; see status.",
        vec![(vec![], trouble)],
    )?;
    let conflicts = vec![(vec![], plane.keeper.notes().conflicts)];
    page.counter("vip_conflicts", "How often another machine said to have an address of this node.", conflicts)?;
    let mut listeners = Vec::new();
    for l in &seen.listeners {
        let is = match l.state {
            Listening::Bound => "bound",
            Listening::Away => "away",
            Listening::Failed(_) => "failed",
        };
        for state in ["bound", "away", "failed"] {
            let labels = vec![("listener", l.name.to_string()), ("state", state.to_owned())];
            listeners.push((labels, (state == is).into()));
        }
    }
    page.gauge("listener_state", "1 for the state each listener is in.", listeners)?;
    let labels = |b: &crate::proxy::BackendReport| {
        vec![("upstream", b.upstream.to_string()), ("backend", b.address.to_string())]
    };
    let up = seen.backends.iter().map(|b| (labels(b), b.up.into())).collect();
    page.gauge("backend_up", "1 if the checks find the backend healthy.", up)?;
    let out = seen.backends.iter().map(|b| (labels(b), b.ejected_for.is_some().into())).collect();
    page.gauge("backend_ejected", "1 while the backend gets no clients because it failed too many in a row.", out)?;
    let ejections = seen.backends.iter().map(|b| (labels(b), b.ejections_total)).collect();
    page.counter("ejections", "How often each backend was ejected.", ejections)?;
    let open = seen.backends.iter().map(|b| (labels(b), b.sessions as f64)).collect();
    page.gauge("backend_sessions_open", "Open sessions of each backend.", open)?;
    let total = seen.backends.iter().map(|b| (labels(b), b.sessions_total)).collect();
    page.counter("backend_sessions", "Sessions opened to each backend.", total)?;
    let requests = seen.backends.iter().map(|b| (labels(b), b.requests_total)).collect();
    page.counter("backend_requests", "Plain requests each backend answered.", requests)
}

/// Open files and their limit; left out where the system does not tell.
#[allow(clippy::cast_precision_loss)]
fn descriptors(page: &mut Page<'_>) -> fmt::Result {
    let one = |n: f64| (vec![], n);
    let open = std::fs::read_dir("/proc/self/fd").ok().map(|all| one(all.count() as f64));
    page.gauge("process_open_files", "Open files of this process.", open.into_iter().collect())?;
    let limit = getrlimit(Resource::Nofile).current.map(|n| n as f64);
    page.gauge("process_max_open_files", "How many it may have open.", limit.map(one).into_iter().collect())
}
