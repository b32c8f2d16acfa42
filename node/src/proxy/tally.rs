//! What one worker has counted since it started: relaxed atomics it alone writes, summed up when somebody asks.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use http::StatusCode;

use super::error::{Error, Failure};
use super::limits::{LIMITS, Limit};
use super::relay::Side;
use super::screen::Refusal;
use crate::config::model::Name;
use crate::metrics::{Histogram, Page};

/// One worker's counts.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Open sessions.
    pub(super) sessions: AtomicU64,
    /// Sessions ever opened.
    pub(super) sessions_total: AtomicU64,
    /// Bytes of sessions; those of the last second may be missing.
    pub(super) from_client: AtomicU64,
    pub(super) from_backend: AtomicU64,
    /// Connections to backends that came about.
    pub(super) dials: Histogram,
    /// Handshakes from the request to the backend's 101.
    pub(super) handshakes: Histogram,
    upgrades: [AtomicU64; UPGRADES.len()],
    requests: [AtomicU64; CLASSES.len()],
    refused: [AtomicU64; REASONS.len()],
    limits: [AtomicU64; LIMITS.len()],
    /// From our pings to their answers, by side.
    pings: [Histogram; 2],
    /// Sides that did not answer.
    ghosts: [AtomicU64; 2],
    /// By who sent them, and code.
    closes: [[AtomicU64; CODES.len()]; CLOSERS.len()],
}

/// What became of a handshake.
#[derive(Debug, Clone, Copy)]
pub(super) enum Upgrade {
    /// A session.
    Accepted,
    /// The backend answered something else than 101.
    Declined,
    /// It was refused here, or no backend answered.
    Failed,
}

const SIDES: [&str; 2] = ["client", "backend"];
const CLOSERS: [&str; 3] = ["client", "backend", "tandem"];
/// Those of RFC 6455 section 7.4 and its registry, by their own number; others by who may use them.
const CODES: [&str; 18] = [
    "1000", "1001", "1002", "1003", "1005", "1006", "1007", "1008", "1009", "1010", "1011", "1012", "1013", "1014",
    "1015", "3xxx", "4xxx", "other",
];

const UPGRADES: [&str; 3] = ["accepted", "declined", "failed"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
const REASONS: [&str; 17] = [
    "malformed",
    "head_too_large",
    "too_many_fields",
    "head_too_slow",
    "body_too_slow",
    "no_route",
    "no_backend_up",
    "backend_unreachable",
    "backend_silent",
    "backend_broken",
    "bad_handshake",
    "bad_request",
    "origin",
    "limit",
    "proxy_header",
    "draining",
    "misdirected",
];

impl Tally {
    /// One handshake is over.
    pub(super) fn upgrade(&self, result: Upgrade) {
        self.upgrades[result as usize].fetch_add(1, Relaxed);
    }

    /// One plain request is answered.
    pub(super) fn request(&self, status: StatusCode) {
        let class = usize::from(status.as_u16() / 100).clamp(1, CLASSES.len()) - 1;
        self.requests[class].fetch_add(1, Relaxed);
    }

    /// The screen refused something.
    pub(super) fn screened(&self, refusal: Refusal) {
        self.refused[match refusal {
            Refusal::Malformed(_) => 0,
            Refusal::HeadTooLarge(_) => 1,
            Refusal::TooManyFields => 2,
            Refusal::HeadTooSlow(_) => 3,
            Refusal::BodyTooSlow(_) => 4,
        }]
        .fetch_add(1, Relaxed);
    }

    /// A request got no backend's answer.
    pub(super) fn unanswered(&self, error: &Error) {
        self.refused[match error {
            Error::NoRoute { .. } => 5,
            Error::NobodyUp(_) => 6,
            Error::Tried { failure: Failure::Dial(_), .. } => 7,
            Error::Tried { failure: Failure::Silent(_), .. } => 8,
            Error::Tried { .. } => 9,
            Error::Handshake(_) | Error::Version => 10,
            Error::Request(_) => 11,
            Error::Origin { .. } => 12,
            Error::Slow(_) => 4,
            Error::Limited(_) => 13,
            Error::Draining(_) => 15,
            Error::Misdirected(_) => 16,
        }]
        .fetch_add(1, Relaxed);
        if let Error::Limited(refusal) = error {
            self.limited(refusal.limit);
        }
    }

    /// A limit was reached.
    pub(super) fn limited(&self, limit: Limit) {
        self.limits[limit.index()].fetch_add(1, Relaxed);
    }

    /// A side answered our ping after this time.
    pub(super) fn ping(&self, side: Side, after: Duration) {
        self.pings[side as usize].observe(after);
    }

    /// A side is a ghost.
    pub(super) fn ghost(&self, side: Side) {
        self.ghosts[side as usize].fetch_add(1, Relaxed);
    }

    /// A session whose frames were looked after has ended: the codes of the Closes of ours, the client and the backend, and
    /// who ended its stream first, if we did not end it.
    pub(super) fn closed(&self, ours: Option<u16>, client: Option<u16>, backend: Option<u16>, first: Option<Side>) {
        let without = |side| (first == Some(side)).then_some(1006);
        let unsaid = client.is_none() && backend.is_none();
        let of = |said: Option<u16>, side| said.or(without(side).filter(|_| unsaid));
        for (who, code) in [of(client, Side::Client), of(backend, Side::Backend), ours].into_iter().enumerate() {
            if let Some(code) = code {
                self.closes[who][code_index(code)].fetch_add(1, Relaxed);
            }
        }
    }

    /// A client's PROXY header was missing or wrong.
    pub(super) fn unannounced(&self) {
        self.refused[14].fetch_add(1, Relaxed);
    }
}

fn code_index(code: u16) -> usize {
    let word = match code {
        3000..=3999 => "3xxx".to_owned(),
        4000..=4999 => "4xxx".to_owned(),
        code => code.to_string(),
    };
    CODES.iter().position(|known| *known == word).unwrap_or(CODES.len() - 1)
}

/// How the TLS handshakes of one listener ended.
#[derive(Debug, Default)]
pub(super) struct Handshakes([AtomicU64; HANDSHAKES.len()]);

/// How one did.
#[derive(Debug, Clone, Copy)]
pub(super) enum Handshake {
    /// With all of its arithmetic.
    Full,
    /// With a ticket.
    Resumed,
    /// The client, or what it asks for, is refused; or it left.
    Failed,
}

const HANDSHAKES: [&str; 3] = ["full", "resumed", "failed"];

impl Handshakes {
    /// One more.
    pub(super) fn count(&self, how: Handshake) {
        self.0[how as usize].fetch_add(1, Relaxed);
    }
}

/// Writes those of all listeners.
pub(super) fn write_handshakes<'a>(
    all: impl Iterator<Item = (&'a Name, &'a Handshakes)>,
    page: &mut Page<'_>,
) -> fmt::Result {
    let each = |(listener, counted): (&Name, &Handshakes)| {
        let labels = |result: &str| vec![("listener", listener.to_string()), ("result", result.to_owned())];
        let counts = HANDSHAKES.iter().zip(&counted.0);
        counts.map(|(result, n)| (labels(result), n.load(Relaxed))).collect::<Vec<_>>()
    };
    page.counter("tls_handshakes", "TLS handshakes with clients by result.", all.flat_map(each).collect())
}

/// Writes what all workers counted.
pub(super) fn write(all: &[Arc<Tally>], page: &mut Page<'_>) -> fmt::Result {
    let sum = |of: fn(&Tally) -> &AtomicU64| all.iter().map(|t| of(t).load(Relaxed)).sum::<u64>();
    let each = |label: &'static str, words: &[&str], of: fn(&Tally, usize) -> &AtomicU64| {
        let total = |i| all.iter().map(|t| of(t, i).load(Relaxed)).sum();
        words.iter().enumerate().map(|(i, w)| (vec![(label, (*w).to_owned())], total(i))).collect()
    };
    #[allow(clippy::cast_precision_loss)]
    let worker = |(i, t): (usize, &Arc<Tally>)| (vec![("worker", i.to_string())], t.sessions.load(Relaxed) as f64);
    page.gauge("worker_sessions", "Open sessions of each worker.", all.iter().enumerate().map(worker).collect())?;
    let total = vec![(vec![], sum(|t| &t.sessions_total))];
    page.counter("sessions", "Sessions opened.", total)?;
    let way = |way: &str, n| (vec![("from", way.to_owned())], n);
    let bytes = vec![way("client", sum(|t| &t.from_client)), way("backend", sum(|t| &t.from_backend))];
    page.counter("session_bytes", "Bytes relayed in sessions, by the side that sent them.", bytes)?;
    page.counter("upgrades", "WebSocket handshakes by result.", each("result", &UPGRADES, |t, i| &t.upgrades[i]))?;
    page.counter("requests", "Plain requests by class of answer.", each("class", &CLASSES, |t, i| &t.requests[i]))?;
    let refused = each("reason", &REASONS, |t, i| &t.refused[i]);
    page.counter("refused", "Requests that no backend answered, by reason.", refused)?;
    let limits = each("limit", &LIMITS, |t, i| &t.limits[i]);
    page.counter("limit_hits", "Clients that were refused because of a limit.", limits)?;
    let ghosts = each("side", &SIDES, |t, i| &t.ghosts[i]);
    page.counter("ghosts", "Sessions ended because a side did not answer pings.", ghosts)?;
    let closes = |(who, from): (usize, &&str)| {
        let labels = |code: &str| vec![("from", (*from).to_owned()), ("code", code.to_owned())];
        let total = move |code: usize| all.iter().map(|t| t.closes[who][code].load(Relaxed)).sum::<u64>();
        CODES.iter().enumerate().map(|(i, code)| (labels(code), total(i))).collect::<Vec<_>>()
    };
    let closes = CLOSERS.iter().enumerate().flat_map(closes).collect();
    page.counter(
        "session_closes",
        "Closes of sessions whose frames are looked after, by sender and code; 1006: it left without one.",
        closes,
    )?;
    page.histogram("client_ping_seconds", "From a ping to the client's answer.", all.iter().map(|t| &t.pings[0]))?;
    page.histogram("backend_ping_seconds", "From a ping to the backend's answer.", all.iter().map(|t| &t.pings[1]))?;
    page.histogram("dial_seconds", "Connections to backends that came about.", all.iter().map(|t| &t.dials))?;
    let handshakes = all.iter().map(|t| &t.handshakes);
    page.histogram("upgrade_seconds", "WebSocket handshakes that a backend agreed to, dialing included.", handshakes)
}
