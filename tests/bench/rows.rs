//! What is compared, and how well Tandem must do.

use crate::contender::Contender::{
    self, Envoy, Haproxy, HaproxyTuned, Nginx, NginxTuned, Nobody, Tandem, TandemBusyPoll, TandemFrames,
};
use crate::load::{Figure, Work};

/// One piece of work that all contenders do.
pub(crate) struct Row {
    /// What it is called on the command line and in files.
    pub(crate) id: &'static str,
    /// What clients do.
    pub(crate) work: Work,
    /// How they connect.
    pub(crate) transport: Transport,
    /// Who does it.
    pub(crate) contenders: &'static [Contender],
    /// What is compared.
    pub(crate) lines: &'static [Line],
}

/// How clients connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// TCP.
    Plain,
    /// TLS 1.3; where they connect again, from the beginning.
    Tls,
    /// TLS 1.3; where they connect again, they resume.
    Resumed,
}

/// One comparison.
pub(crate) struct Line {
    /// What it is, for people.
    pub(crate) title: &'static str,
    /// What is compared.
    pub(crate) figure: Figure,
    /// Whose.
    pub(crate) ours: Contender,
    /// With the best of these.
    pub(crate) rivals: &'static [Contender],
    /// What must be reached.
    pub(crate) target: Target,
}

/// What must be reached: at most, or, where more is better, at least.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Target {
    /// So many times the best rival's figure of the same round.
    Ratio(f64),
    /// The figure itself.
    Absolute(f64),
}

impl Figure {
    /// Whether a larger one is the better one.
    pub(crate) fn more_is_better(self) -> bool {
        matches!(self, Self::PerSecond | Self::Megabytes | Self::ChangeRatio | Self::Changes)
    }

    /// Whether it already says how much worse a contender is than itself: no matter how others are then.
    pub(crate) fn is_ratio(self) -> bool {
        matches!(self, Self::HeldRatio | Self::ChangeRatio)
    }

    /// Its unit, for people.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::CpuMicros => "CPU µs",
            Self::PerSecond => "1/s",
            Self::Megabytes => "MB/s",
            Self::P50Micros => "p50 µs",
            Self::P99Micros => "p99 µs",
            Self::SessionBytes => "bytes",
            Self::HeldRatio | Self::ChangeRatio => "×",
            Self::Changes => "changes/s",
        }
    }
}

const STOCK: &[Contender] = &[Nginx, Haproxy, Envoy];
const TUNED: &[Contender] = &[NginxTuned, HaproxyTuned];
const USUAL: &[Contender] = &[Nginx, Haproxy, Envoy, Tandem];
const ALL_SIZES: &[Contender] = &[Nobody, Nginx, NginxTuned, Haproxy, HaproxyTuned, Envoy, Tandem];

const fn line(title: &'static str, figure: Figure, rivals: &'static [Contender], target: Target) -> Line {
    Line { title, figure, ours: Tandem, rivals, target }
}

/// All of them, in the order of the table.
pub(crate) const ROWS: &[Row] = &[
    Row {
        id: "echo-64",
        work: Work::Echo { sessions: 64, bytes: 125 },
        transport: Transport::Plain,
        contenders: &[Nobody, Nginx, Haproxy, Envoy, Tandem],
        lines: &[line("CPU per 125 B echo, 64 sessions", Figure::CpuMicros, STOCK, Target::Ratio(1.0))],
    },
    Row {
        id: "echo-512",
        work: Work::Echo { sessions: 512, bytes: 125 },
        transport: Transport::Plain,
        contenders: USUAL,
        lines: &[line("CPU per 125 B echo, 512 sessions", Figure::CpuMicros, STOCK, Target::Ratio(1.0))],
    },
    Row {
        id: "echo-64-tls",
        work: Work::Echo { sessions: 64, bytes: 125 },
        transport: Transport::Tls,
        contenders: USUAL,
        lines: &[line("CPU per 125 B echo, 64 sessions, TLS", Figure::CpuMicros, STOCK, Target::Ratio(0.88))],
    },
    Row {
        id: "echo-512-tls",
        work: Work::Echo { sessions: 512, bytes: 125 },
        transport: Transport::Tls,
        contenders: USUAL,
        lines: &[line("CPU per 125 B echo, 512 sessions, TLS", Figure::CpuMicros, STOCK, Target::Ratio(0.88))],
    },
    Row {
        id: "latency",
        work: Work::Echo { sessions: 1, bytes: 125 },
        transport: Transport::Plain,
        contenders: &[Nobody, Nginx, Haproxy, Envoy, Tandem, TandemBusyPoll],
        lines: &[
            line("p50 of an echo, 1 session", Figure::P50Micros, STOCK, Target::Ratio(1.1)),
            Line {
                title: "p50 of an echo, 1 session, busy_poll",
                figure: Figure::P50Micros,
                ours: TandemBusyPoll,
                rivals: STOCK,
                target: Target::Ratio(0.4),
            },
        ],
    },
    Row {
        id: "echo-64-frames",
        work: Work::Echo { sessions: 64, bytes: 125 },
        transport: Transport::Plain,
        contenders: &[Tandem, TandemFrames],
        lines: &[Line {
            title: "CPU per 125 B echo, 64 sessions, frames understood, over bytes",
            figure: Figure::CpuMicros,
            ours: TandemFrames,
            rivals: &[Tandem],
            target: Target::Ratio(1.1),
        }],
    },
    Row {
        id: "bulk-64k",
        work: Work::Echo { sessions: 16, bytes: 64 << 10 },
        transport: Transport::Plain,
        contenders: ALL_SIZES,
        lines: &[
            line("CPU per 64 KiB echo, 16 sessions, stock peers", Figure::CpuMicros, STOCK, Target::Ratio(0.45)),
            line("CPU per 64 KiB echo, 16 sessions, tuned peers", Figure::CpuMicros, TUNED, Target::Ratio(0.8)),
        ],
    },
    Row {
        id: "bulk-1m",
        work: Work::Echo { sessions: 4, bytes: 1 << 20 },
        transport: Transport::Plain,
        contenders: ALL_SIZES,
        lines: &[
            line("CPU per 1 MiB echo, 4 sessions, stock peers", Figure::CpuMicros, STOCK, Target::Ratio(0.25)),
            line("CPU per 1 MiB echo, 4 sessions, tuned peers", Figure::CpuMicros, TUNED, Target::Ratio(0.5)),
        ],
    },
    Row {
        id: "upgrade",
        work: Work::Upgrades { at_once: 32 },
        transport: Transport::Plain,
        contenders: USUAL,
        lines: &[line("CPU per upgrade", Figure::CpuMicros, STOCK, Target::Ratio(1.0))],
    },
    Row {
        id: "upgrade-tls",
        work: Work::Upgrades { at_once: 32 },
        transport: Transport::Tls,
        contenders: USUAL,
        lines: &[line("CPU per upgrade, full TLS handshake", Figure::CpuMicros, STOCK, Target::Ratio(0.6))],
    },
    Row {
        id: "upgrade-tls-resumed",
        work: Work::Upgrades { at_once: 32 },
        transport: Transport::Resumed,
        contenders: USUAL,
        lines: &[line("CPU per upgrade, resumed TLS", Figure::CpuMicros, STOCK, Target::Ratio(0.8))],
    },
    Row {
        id: "http",
        work: Work::Requests { connections: 64 },
        transport: Transport::Plain,
        contenders: &[Nobody, Nginx, Haproxy, Envoy, Tandem],
        lines: &[line("requests/s, keep-alive, 1 KiB, against nginx", Figure::PerSecond, &[Nginx], Target::Ratio(0.9))],
    },
    Row {
        id: "idle",
        work: Work::Idle { sessions: 8_000 },
        transport: Transport::Plain,
        contenders: USUAL,
        lines: &[line("memory per idle session", Figure::SessionBytes, STOCK, Target::Absolute(1_500.0))],
    },
    Row {
        id: "idle-tls",
        work: Work::Idle { sessions: 2_000 },
        transport: Transport::Tls,
        contenders: USUAL,
        lines: &[line("memory per idle session, TLS", Figure::SessionBytes, STOCK, Target::Absolute(6_000.0))],
    },
    Row {
        id: "held",
        work: Work::Held { held: 9_000, busy: 500 },
        transport: Transport::Plain,
        contenders: USUAL,
        lines: &[line(
            "p99 of 500 busy beside 9 000 held, over alone",
            Figure::HeldRatio,
            STOCK,
            Target::Absolute(1.2),
        )],
    },
    Row {
        id: "changes",
        work: Work::Changes { sessions: 64, per_second: 100 },
        transport: Transport::Plain,
        contenders: &[Tandem],
        lines: &[line(
            "throughput under 100 config changes/s, over alone",
            Figure::ChangeRatio,
            &[],
            Target::Absolute(0.95),
        )],
    },
];

/// The row with this id.
pub(crate) fn find(id: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.id == id)
}

impl Work {
    /// The same with no more sessions than file descriptors allow: a proxy needs two for each.
    pub(crate) fn within(self, descriptors: u64) -> Self {
        let most = usize::try_from(descriptors.saturating_sub(1_000) / 2).unwrap_or(usize::MAX);
        match self {
            Self::Idle { sessions } => Self::Idle { sessions: sessions.min(most) },
            Self::Held { held, busy } => Self::Held { held: held.min(most.saturating_sub(busy)), busy },
            Self::Echo { .. } | Self::Upgrades { .. } | Self::Requests { .. } | Self::Changes { .. } => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_compared_takes_part() {
        for row in ROWS {
            for line in row.lines {
                for who in line.rivals.iter().chain([&line.ours]) {
                    assert!(row.contenders.contains(who), "{}: {who:?} is compared and does not run", row.id);
                }
            }
            let bare = row.contenders.contains(&Nobody);
            assert!(!bare || row.transport == Transport::Plain, "{}: the backends speak no TLS", row.id);
            assert_eq!(ROWS.iter().filter(|other| other.id == row.id).count(), 1, "{} is there twice", row.id);
        }
    }

    #[test]
    fn sessions_fit_the_descriptors() {
        assert_eq!(Work::Held { held: 9_000, busy: 500 }.within(20_000), Work::Held { held: 9_000, busy: 500 });
        assert_eq!(Work::Held { held: 9_000, busy: 500 }.within(4_096), Work::Held { held: 1_048, busy: 500 });
        assert_eq!(Work::Idle { sessions: 8_000 }.within(1_024), Work::Idle { sessions: 12 });
    }
}
