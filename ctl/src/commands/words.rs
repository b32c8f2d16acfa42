//! Arguments as the messages that say the same.

use std::time::Duration;

use tandem_proto::admin::v1::{ListenerState, NodeStatus};
use tandem_proto::config::v1 as pb;
use tandem_proto::raft::v1::Role;

use crate::args::{Bounds, How, ListenerTls, Set, Sharing, UpstreamTls, Weighted};

/// The check that `how` asks for; `None` if it says nothing of checks.
pub(super) fn check(how: &How) -> Option<pb::Check> {
    let check = pb::Check {
        kind: how.check.map_or(0, |kind| pb::CheckKind::from(kind).into()),
        interval_ms: how.check_interval.map_or(0, millis),
        timeout_ms: how.check_timeout.map_or(0, millis),
        rise: how.check_rise.unwrap_or(0),
        fall: how.check_fall.unwrap_or(0),
        jitter_percent: how.check_jitter,
        port: how.check_port.map(Into::into),
        method: how.check_method.map_or(0, |method| pb::CheckMethod::from(method).into()),
        path: how.check_path.clone(),
        host: how.check_host.clone(),
        statuses: how.check_status.clone(),
        body: how.check_body.clone(),
        subprotocol: how.check_subprotocol.clone(),
        echo: how.check_echo.clone(),
    };
    (check != pb::Check::default()).then_some(check)
}

/// The ejection that `how` asks for; `None` if it says nothing of it.
pub(super) fn eject(how: &How) -> Option<pb::Eject> {
    let eject = pb::Eject {
        after: how.eject_after,
        base_ms: how.eject_base.map_or(0, millis),
        max_ms: how.eject_max.map_or(0, millis),
        share_percent: how.eject_share.unwrap_or(0),
    };
    (eject != pb::Eject::default()).then_some(eject)
}

/// Adds what `bounds` says of an upstream.
pub(super) fn bounds(bounds: &Bounds, set: &mut pb::SetUpstream) {
    let sources = bounds.source_addresses.iter().filter(|a| !a.is_empty()).cloned().collect();
    set.send_proxy = bounds.send_proxy.map(|s| pb::SendProxy::from(s).into());
    set.max_sessions = bounds.max_sessions;
    set.dial_timeout_ms = bounds.dial_timeout.map(millis);
    set.upgrade_timeout_ms = bounds.upgrade_timeout.map(millis);
    set.response_timeout_ms = bounds.response_timeout.map(millis);
    set.idle_timeout_ms = bounds.idle_timeout.map(millis_or_off);
    set.retries = bounds.retries;
    set.source_addresses = (!bounds.source_addresses.is_empty()).then_some(pb::Addresses { addresses: sources });
}

/// The TLS that a listener is asked to speak; `None` if nothing is said of it.
pub(super) fn listener_tls(tls: &ListenerTls) -> Option<pb::ListenerTls> {
    let said = pb::ListenerTls {
        certificates: tls.tls_cert.clone(),
        min_version: tls.tls_min.map_or(0, Into::into),
        client_auth: tls.client_auth.map_or(0, Into::into),
        client_ca_pem: tls.client_ca.clone().unwrap_or_default(),
    };
    (said != pb::ListenerTls::default()).then_some(said)
}

/// Adds what is said of TLS to backends.
pub(super) fn upstream_tls(tls: &UpstreamTls, set: &mut pb::SetUpstream) {
    let said = pb::UpstreamTls {
        server_name: tls.tls_server_name.clone(),
        ca_pem: tls.tls_ca.clone(),
        insecure: tls.tls_insecure,
        certificate: tls.tls_cert.clone(),
        min_version: tls.tls_min.map_or(0, Into::into),
    };
    set.tls = (tls.tls || said != pb::UpstreamTls::default()).then_some(said);
    set.no_tls = tls.no_tls;
}

/// What `settings set` says.
pub(super) fn settings(set: &Set) -> pb::Settings {
    pb::Settings {
        sessions_per_client_ip: set.sessions_per_client_ip,
        upgrades_per_second_per_ip: set.upgrades_per_second_per_ip,
        upgrades_per_second: set.upgrades_per_second,
        upgrade_burst: set.upgrade_burst,
        max_sessions: set.max_sessions,
        head_timeout_ms: set.head_timeout.map(millis),
        head_max_bytes: set.head_max_bytes,
        body_timeout_ms: set.body_timeout.map(millis),
        keep_alive_ms: set.keep_alive.map(millis),
        close_timeout_ms: set.close_timeout.map(millis),
        tcp_user_timeout_ms: set.tcp_user_timeout.map(millis_or_off),
        tcp_keepalive_ms: set.tcp_keepalive.map(millis_or_off),
    }
}

/// No time at all is "off", which messages write as zero.
pub(super) fn millis_or_off(time: Duration) -> u32 {
    if time.is_zero() { 0 } else { millis(time) }
}

/// Zero would mean the default: less than a millisecond is one.
pub(super) fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX).max(1)
}

pub(super) fn backend(given: Weighted) -> pb::Backend {
    pb::Backend { address: given.address, weight: given.weight.unwrap_or(0), ..Default::default() }
}

/// What `sharing` asks for, as an edit of an upstream that names nothing else.
pub(super) fn sharing(sharing: &Sharing) -> pb::SetUpstream {
    let sticky = pb::Sticky {
        cookie: sharing.sticky.clone().unwrap_or_default(),
        ttl_s: sharing.sticky_ttl,
        secure: sharing.sticky_secure,
    };
    pb::SetUpstream {
        hash_on: sharing.hash_on.as_ref().map(ToString::to_string),
        hash_bound: sharing.hash_bound,
        sticky: (sticky != pb::Sticky::default()).then_some(sticky),
        no_sticky: sharing.no_sticky,
        slow_start_ms: sharing.slow_start.map(|time| u32::try_from(time.as_millis()).unwrap_or(u32::MAX)),
        zone_min_share: sharing.zone_min_share,
        ..Default::default()
    }
}

/// "backend x" or "backends x, y".
pub(super) fn several(thing: &str, names: &[String]) -> String {
    let plural = if names.len() == 1 { "" } else { "s" };
    format!("{thing}{plural} {}", names.join(", "))
}

/// What people call a node: its name, or its number if the name is not known.
pub(super) fn node_name(node: &NodeStatus) -> String {
    match &node.member {
        Some(member) if !member.name.is_empty() => member.name.clone(),
        Some(member) => member.id.to_string(),
        None => "?".to_owned(),
    }
}

pub(super) fn role(node: &NodeStatus) -> &'static str {
    match node.member.as_ref().map(tandem_proto::raft::v1::Member::role) {
        Some(Role::Proxy) => "proxy",
        Some(Role::Witness) => "witness",
        Some(Role::Unspecified) | None => "unknown",
    }
}

pub(super) fn listener_state(state: ListenerState) -> &'static str {
    match state {
        ListenerState::Bound => "bound",
        ListenerState::Away => "away",
        ListenerState::Failed => "failed",
        ListenerState::Unspecified => "unknown",
    }
}

/// How long what drains may keep its sessions, in whole seconds.
pub(super) fn left(ms: u64) -> String {
    match ms.div_ceil(1_000) {
        0 => "time is over".to_owned(),
        seconds => format!("{} left", humantime::format_duration(Duration::from_secs(seconds))),
    }
}

/// Text in a cell, or a dash where there is none.
pub(super) fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}
