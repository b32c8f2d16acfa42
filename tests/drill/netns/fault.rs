//! What may happen to a cluster, and what is promised for each: the failure table of the design, line by line. Pure.

/// Something that happens to the cluster. The *holder* is the proxy that has the address when it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Fault {
    Kill,
    Stop,
    Freeze,
    FreezeAll,
    Power,
    CannotSpeak,
    CannotHear,
    HolderControlCut,
    PairCut,
    WitnessLost,
    StandbyLost,
    TwoLost,
    AllControlCut,
    Split,
    PlugPulled,
    GatewayLost,
    DiskFull,
    FsyncFails,
    Starved,
    ClockJumps,
    LeaderLost,
    Stale,
    Rolling,
    TenInARow,
    Move,
    MoveLoaded,
}

/// Which timers the cluster has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Timers {
    Default,
    Fast,
}

impl Timers {
    /// As `--timers` of `tandemd init` takes it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Fast => "fast",
        }
    }

    /// The lease, in microseconds: a follower votes for nobody else so long after a heartbeat.
    pub(crate) fn lease(self) -> u64 {
        match self {
            Self::Default => 300_000,
            Self::Fast => 150_000,
        }
    }
}

/// What is promised, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Limits {
    /// New connections are out for less than this at the median.
    pub(crate) out_p50: u64,
    /// And at the worst.
    pub(crate) out_max: u64,
    /// Two proxies have the address for no longer than this.
    pub(crate) two: u64,
    /// Held sessions may break: their proxy is gone, or gives them up.
    pub(crate) may_break: bool,
    /// Where the address is to be afterwards.
    pub(crate) address: Address,
    /// Changes are acknowledged all the time, save for less than this; none where they may stop.
    pub(crate) changes: Option<u64>,
}

/// A failover, its times still to be said.
const GOES: Limits = Limits { out_p50: 0, out_max: 0, two: 0, may_break: true, address: Address::Goes, changes: None };

impl Limits {
    fn out_for(self, ms: u64) -> Self {
        Self { out_p50: ms, out_max: ms, ..self }
    }

    fn anywhere(self) -> Self {
        Self { address: Address::Either, ..self }
    }
}

/// What becomes of the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Address {
    /// No other proxy has it at any time.
    Stays,
    /// Another proxy has it in the end.
    Goes,
    /// One or the other.
    Either,
}

/// How often it is tried in a run of `--runs N`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tries {
    /// N times.
    Many,
    /// Once for each ten.
    Few,
}

impl Fault {
    /// All, in the order in which they are drilled.
    pub(crate) const ALL: [Self; 26] = [
        Self::Move,
        Self::Kill,
        Self::Power,
        Self::Freeze,
        Self::Stop,
        Self::FreezeAll,
        Self::CannotSpeak,
        Self::CannotHear,
        Self::HolderControlCut,
        Self::PairCut,
        Self::WitnessLost,
        Self::StandbyLost,
        Self::TwoLost,
        Self::AllControlCut,
        Self::Split,
        Self::PlugPulled,
        Self::GatewayLost,
        Self::DiskFull,
        Self::FsyncFails,
        Self::Starved,
        Self::ClockJumps,
        Self::LeaderLost,
        Self::Stale,
        Self::Rolling,
        Self::TenInARow,
        Self::MoveLoaded,
    ];

    /// The shortest sensible drill.
    pub(crate) const QUICK: [Self; 6] =
        [Self::Move, Self::Kill, Self::Power, Self::PairCut, Self::WitnessLost, Self::ClockJumps];

    /// What `--random` draws from: all that is over at once when it is mended.
    pub(crate) const RANDOM: [Self; 12] = [
        Self::Kill,
        Self::Stop,
        Self::Freeze,
        Self::Power,
        Self::CannotSpeak,
        Self::CannotHear,
        Self::PairCut,
        Self::WitnessLost,
        Self::StandbyLost,
        Self::AllControlCut,
        Self::ClockJumps,
        Self::Move,
    ];

    /// How people call it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Stop => "stop (SIGSTOP)",
            Self::Freeze => "freeze",
            Self::FreezeAll => "freeze, guard too",
            Self::Power => "power",
            Self::CannotSpeak => "one-way link, cannot speak",
            Self::CannotHear => "one-way link, cannot hear",
            Self::HolderControlCut => "holder off the control link",
            Self::PairCut => "A-B cut only",
            Self::WitnessLost => "witness lost",
            Self::StandbyLost => "standby lost",
            Self::TwoLost => "two of three lost",
            Self::AllControlCut => "all control links cut",
            Self::Split => "L2 split and heal",
            Self::PlugPulled => "client cable out",
            Self::GatewayLost => "gateway lost",
            Self::DiskFull => "disk full",
            Self::FsyncFails => "fsync error",
            Self::Starved => "CPU starvation",
            Self::ClockJumps => "clock jumps",
            Self::LeaderLost => "leader that is not holder, killed",
            Self::Stale => "stale node revived",
            Self::Rolling => "rolling restart of all three",
            Self::TenInARow => "ten failovers in a row",
            Self::Move => "vip move",
            Self::MoveLoaded => "vip move under load",
        }
    }

    /// What happens, and what is to come of it.
    pub(crate) fn expects(self) -> &'static str {
        match self {
            Self::Kill => {
                "SIGKILL of the holder's tandemd: the guard removes the address within 10 ms, the standby has it after failover time"
            }
            Self::Stop => {
                "the holder hangs: the address is gone from it when its lease ends, and on the standby after failover time"
            }
            Self::Freeze => "cgroup freezer on the holder's tandemd alone: as SIGSTOP",
            Self::FreezeAll => {
                "daemon and guard frozen together: the kernel's lifetime of 2 s is all that is left to take the address off, so both may have it for 2.6 s"
            }
            Self::Power => {
                "nothing passes to or from the holder any more, and it does not notice: the standby has the address after failover time"
            }
            Self::CannotSpeak => {
                "the holder's control link carries nothing out: it drops the address at lease end, the standby takes it"
            }
            Self::CannotHear => {
                "the holder's control link carries nothing in: its lease ends for want of answers, the standby takes the address when the heartbeats dry up"
            }
            Self::HolderControlCut => {
                "the holder is cut from the others and clients still reach it: it drops the address at lease end, the standby takes it"
            }
            Self::PairCut => {
                "the proxies do not hear each other, the witness hears both: the holder keeps the address, no term inflation"
            }
            Self::WitnessLost => "nothing changes, and changes are still taken",
            Self::StandbyLost => "nothing changes, and changes are still taken",
            Self::TwoLost => {
                "standby and witness are gone: the holder drops the address and arbitrates after about 2.6 s; no changes meanwhile"
            }
            Self::AllControlCut => {
                "nobody hears anybody, the clients' Ethernet is whole: the best rank claims the address after about 2.6 s, the other one sees it by ARP"
            }
            Self::Split => {
                "the holder is alone on its island for 3 s, the others are the majority: they have the address after failover time, it stays there after healing"
            }
            Self::PlugPulled => "the holder's interface has no carrier: it hands over by itself within 1 s",
            Self::GatewayLost => {
                "the gateway does not answer the holder, and does answer the standby: handed over within 1 s"
            }
            Self::DiskFull => {
                "consensus stops on the holder, the data plane goes on; the standby has the address after failover time"
            }
            Self::FsyncFails => "every fsync of the holder fails: as a full disk",
            Self::Starved => {
                "the holder has 1 % of a CPU for 2 s: it keeps its lease or loses the address in time, and never both have it"
            }
            Self::ClockJumps => "the holder's wall clock goes an hour ahead, then an hour behind: nothing happens",
            Self::LeaderLost => {
                "the leader is killed while another proxy holds the address: that one keeps it, or has it again after failover time"
            }
            Self::Stale => {
                "the standby comes back after 2 s of changes it has not seen: nobody notices, nothing is lost"
            }
            Self::Rolling => "SIGTERM and start of each node, the holder too: each hand-over is a planned one",
            Self::TenInARow => "the holder of the moment is killed, ten times: each time as once",
            Self::Move => "release, transfer, claim: planned, about 10 ms",
            Self::MoveLoaded => "the same while busy sessions take both cores",
        }
    }

    /// How often it is tried.
    pub(crate) fn tries(self) -> Tries {
        match self {
            Self::Kill | Self::Power | Self::Freeze | Self::Move => Tries::Many,
            _ => Tries::Few,
        }
    }

    /// What is promised.
    pub(crate) fn limits(self, timers: Timers) -> Limits {
        let failover = match timers {
            Timers::Default => Limits { out_p50: 700, out_max: 1_000, ..GOES },
            Timers::Fast => Limits { out_p50: 350, out_max: 550, ..GOES },
        };
        let unnoticed =
            Limits { may_break: false, address: Address::Stays, changes: Some(1_000), ..failover.out_for(100) };
        let within = |ms| failover.out_for(ms);
        match self {
            Self::Kill
            | Self::Stop
            | Self::Freeze
            | Self::Power
            | Self::CannotSpeak
            | Self::HolderControlCut
            | Self::Split
            | Self::DiskFull
            | Self::FsyncFails => failover,
            Self::TenInARow | Self::LeaderLost => failover.anywhere(),
            // Until the kernel has dropped it, whoever asks may be sent to the frozen one.
            Self::FreezeAll => Limits { two: 2_600, ..within(2_600 + failover.out_max) },
            // What was on the way still arrives, and each of it holds off the election anew.
            Self::CannotHear => within(2_000),
            Self::TwoLost | Self::AllControlCut => within(3_500).anywhere(),
            Self::PlugPulled | Self::GatewayLost => within(1_000),
            Self::Starved => within(2_000 + failover.out_max).anywhere(),
            Self::PairCut | Self::WitnessLost | Self::StandbyLost | Self::ClockJumps | Self::Stale => unnoticed,
            Self::Move => within(30),
            Self::MoveLoaded => within(100),
            Self::Rolling => within(100).anywhere(),
        }
    }
}
