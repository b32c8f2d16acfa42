//! What only this node knows of itself, as a message.

use std::time::{Duration, Instant};

use tandem_proto::admin::v1 as pb;
use tandem_proto::millis;

use crate::control::{Control, LEVEL};
use crate::proxy;
use crate::secrets::Secrets;

use super::leaving::Leaving;
use super::service::{Rooms, Who};
use super::{room, sealing};

/// This node's own view, now, with the backends that were asked for.
pub(super) fn report(
    who: &Who,
    started: Instant,
    leaving: Leaving,
    rooms: &Rooms,
    ask: &pb::ReportRequest,
) -> pb::NodeReport {
    let (here, state) = (rooms.control.here(), rooms.control.now());
    let mut report = pb::NodeReport {
        name: who.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: state.revision,
        changed_at_unix_ms: state.changed_at_unix_ms,
        applied: here.applied,
        uptime_ms: millis(started.elapsed()),
        leader: here.leader.unwrap_or(0),
        term: here.term,
        leads: leads(&rooms.control, rooms.lease),
        draining: leaving != Leaving::No,
        fatal: here.fatal.unwrap_or_default(),
        data_free_bytes: room::left(&who.data_dir),
        removed: here.removed,
        level: LEVEL,
        ..Default::default()
    };
    let secrets = who.secrets.as_deref();
    report.papers = who.desk.as_ref().map(|desk| desk.report());
    report.secret = secrets.map(Secrets::fingerprint).unwrap_or_default();
    if let Some(plane) = &rooms.plane {
        report.certificates = sealing::reports(secrets, &state.config);
        report.held = plane.keeper.held().borrow().iter().map(ToString::to_string).collect();
        report.vip_trouble = plane.keeper.trouble().unwrap_or_default();
        let seen = plane.proxy.report();
        report.sessions = seen.sessions;
        report.drain_left_ms = seen.drain_left.map(millis);
        report.listeners = seen.listeners.into_iter().map(listener).collect();
        report.backends = seen.backends.into_iter().map(backend).collect();
        report.names = seen.names.into_iter().map(name_report).collect();
        report.count();
        report.keep(ask);
    }
    report
}

/// A leader whose lease has run out is none.
pub(super) fn leads(control: &Control, lease: Duration) -> bool {
    control.here().lease_end(lease).is_some_and(|end| Instant::now() < end)
}

fn listener(l: proxy::ListenerReport) -> pb::ListenerReport {
    let (state, error) = match l.state {
        proxy::Listening::Bound => (pb::ListenerState::Bound, String::new()),
        proxy::Listening::Away => (pb::ListenerState::Away, String::new()),
        proxy::Listening::Failed(error) => (pb::ListenerState::Failed, error),
    };
    pb::ListenerReport {
        name: l.name.to_string(),
        address: l.address.to_string(),
        state: state.into(),
        error,
        draining: l.draining,
        drain_left_ms: l.drain_left.map(millis),
        sessions: l.sessions,
    }
}

fn backend(b: proxy::BackendReport) -> pb::BackendReport {
    pb::BackendReport {
        upstream: b.upstream.to_string(),
        address: b.address.to_string(),
        name: b.said.host().map_or_else(String::new, |_| b.said.to_string()),
        up: b.up,
        error: b.error.unwrap_or_default(),
        tls_error: b.tls_error.unwrap_or_default(),
        ejected_for_ms: b.ejected_for.map_or(0, |left| u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1)),
        ejections_total: b.ejections_total,
        sessions: b.sessions,
        sessions_total: b.sessions_total,
        requests_total: b.requests_total,
        drain_left_ms: b.drain_left.map(millis),
    }
}

fn name_report(n: proxy::NameReport) -> pb::NameReport {
    pb::NameReport {
        name: n.name.to_string(),
        servers: u32::try_from(n.servers).unwrap_or(u32::MAX),
        trouble: n.trouble.unwrap_or_default(),
    }
}
