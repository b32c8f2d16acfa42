//! What clients saw of each fault, and which promises that keeps. Pure.

use serde::Serialize;
use tandem_tests::story::percentile;

use super::fault::{Address, Fault, Limits, Timers};

/// What clients saw from one good time to the next.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub(crate) struct Figures {
    /// Longest time without an answered new connection, less the time between two of them.
    pub(crate) out_ms: u64,
    /// Times did not get good again by themselves: `out_ms` is only what was waited.
    pub(crate) for_good: bool,
    /// New connections that got no answer.
    pub(crate) failed: usize,
    /// Held sessions that broke.
    pub(crate) broken: usize,
    /// From when it happened until the last of them was back.
    pub(crate) back_ms: Option<u64>,
    /// Longest time in which no change was acknowledged, less the time between two of them.
    pub(crate) changes_ms: u64,
    /// A proxy had the address that did not have it when it began.
    pub(crate) left: bool,
    /// And has it in the end.
    pub(crate) went: bool,
    /// Both kernels had the address.
    pub(crate) two_had_ms: u64,
    /// Both answered for it on the Ethernet.
    pub(crate) two_answered_ms: u64,
}

/// One try.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Round {
    /// While it happened.
    pub(crate) broke: Figures,
    /// While it was mended; absent where there is nothing to mend.
    pub(crate) mended: Option<Figures>,
    /// Acknowledged and not there, or not everywhere.
    pub(crate) lost: Option<String>,
}

/// All tries of one fault.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) expects: &'static str,
    pub(crate) limits: Limits,
    pub(crate) rounds: Vec<Round>,
    /// Why it was not tried, or not to the end.
    pub(crate) not_run: Option<String>,
    /// Every promise that was not kept, with the figure that breaks it.
    pub(crate) broken: Vec<String>,
}

impl Row {
    /// Judges the rounds.
    pub(crate) fn new(fault: Fault, timers: Timers, rounds: Vec<Round>, not_run: Option<String>) -> Self {
        let limits = fault.limits(timers);
        let broken = broken(&limits, &rounds);
        Self { name: fault.title(), expects: fault.expects(), limits, rounds, not_run, broken }
    }

    /// A figure of all rounds, ascending.
    pub(crate) fn each(&self, of: impl Fn(&Figures) -> u64) -> Vec<u64> {
        let mut all: Vec<u64> = self.rounds.iter().map(|r| of(&r.broke)).collect();
        all.sort_unstable();
        all
    }

    /// The longest that two had it, by either witness, mending included.
    pub(crate) fn two(&self) -> (u64, u64) {
        let both = |r: &Round, of: fn(&Figures) -> u64| of(&r.broke).max(r.mended.as_ref().map_or(0, of));
        let worst = |of: fn(&Figures) -> u64| self.rounds.iter().map(|r| both(r, of)).max().unwrap_or(0);
        (worst(|f| f.two_had_ms), worst(|f| f.two_answered_ms))
    }

    /// In one word.
    pub(crate) fn verdict(&self) -> &'static str {
        match (self.rounds.is_empty(), self.broken.is_empty()) {
            (true, _) => "NOT RUN",
            (false, true) => "kept",
            (false, false) => "BROKEN",
        }
    }
}

fn broken(limits: &Limits, rounds: &[Round]) -> Vec<String> {
    if rounds.is_empty() {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut hold = |kept: bool, what: String| {
        if !kept {
            found.push(what);
        }
    };
    let mut out: Vec<u64> = rounds.iter().map(|r| r.broke.out_ms).collect();
    out.sort_unstable();
    let (p50, max) = (percentile(&out, 50), percentile(&out, 100));
    let never = rounds.iter().filter(|r| r.broke.for_good).count();
    hold(never == 0, format!("new connections were out until it was mended, {never} times of {}", rounds.len()));
    if never == 0 {
        hold(max < limits.out_max, format!("out for {max} ms at worst; promised: less than {}", limits.out_max));
        hold(p50 < limits.out_p50, format!("out for {p50} ms at the median; promised: less than {}", limits.out_p50));
    }
    let (mut two, mut mend_out, mut broke, mut lost) = (0, 0, 0, Vec::new());
    for round in rounds {
        for figures in [Some(&round.broke), round.mended.as_ref()].into_iter().flatten() {
            two = two.max(figures.two_had_ms).max(figures.two_answered_ms);
        }
        if let Some(mended) = round.mended.as_ref().filter(|_| !round.broke.for_good) {
            mend_out = mend_out.max(mended.out_ms);
            broke += mended.broken;
        }
        if !limits.may_break {
            broke += round.broke.broken;
        }
        lost.extend(round.lost.clone());
    }
    let count = |bad: fn(&Round) -> bool| rounds.iter().filter(|r| bad(r)).count();
    let not_back = count(|r| r.mended.as_ref().is_some_and(|m| m.for_good));
    hold(not_back == 0, format!("clients were not served again when it was mended, {not_back} times"));
    // One that never answers is told above.
    let (kept, left) = (count(|r| !r.broke.for_good && !r.broke.went), count(|r| r.broke.left));
    hold(limits.address != Address::Goes || kept == 0, format!("the address did not go to the standby, {kept} times"));
    hold(limits.address != Address::Stays || left == 0, format!("the address went to the standby, {left} times"));
    let back = count(|r| !r.broke.for_good && r.mended.as_ref().is_some_and(|m| m.left));
    hold(
        limits.address == Address::Either || back == 0,
        format!("the address went elsewhere while it was mended, {back} times"),
    );
    let changes = rounds.iter().map(|r| r.broke.changes_ms).max().unwrap_or(0);
    if let Some(most) = limits.changes {
        hold(changes < most, format!("no change was taken for {changes} ms; promised: less than {most}"));
    }
    hold(two <= limits.two, format!("two had the address for {two} ms; promised: at most {}", limits.two));
    hold(mend_out < 100, format!("out for {mend_out} ms while it was mended; promised: less than 100"));
    hold(broke == 0, format!("{broke} sessions broke that had no part in it"));
    hold(lost.is_empty(), lost.join("; "));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(out_ms: u64, two_had_ms: u64) -> Round {
        let broke = Figures { out_ms, two_had_ms, broken: 20, left: true, went: true, ..Figures::default() };
        Round { broke, mended: Some(Figures::default()), lost: None }
    }

    #[test]
    fn a_row_is_kept_until_a_figure_breaks_it_and_names_that() {
        let kept = Row::new(Fault::Kill, Timers::Default, vec![round(500, 0), round(900, 0), round(600, 0)], None);
        assert_eq!((kept.verdict(), kept.broken.len()), ("kept", 0));
        let slow = Row::new(Fault::Kill, Timers::Fast, vec![round(400, 0), round(900, 7), round(500, 0)], None);
        assert_eq!(slow.verdict(), "BROKEN");
        for figure in ["900 ms at worst", "500 ms at the median", "for 7 ms"] {
            assert!(slow.broken.iter().any(|b| b.contains(figure)), "{figure} in {:?}", slow.broken);
        }
        let quiet = Row::new(Fault::WitnessLost, Timers::Default, vec![round(3, 0)], None);
        let told = ["the address went to the standby, 1 times", "20 sessions broke that had no part in it"];
        assert_eq!(quiet.broken, told);
    }

    #[test]
    fn a_fault_that_nobody_answers_is_not_kept() {
        let mut unanswered = round(0, 0);
        (unanswered.broke.left, unanswered.broke.went) = (false, false);
        let row = Row::new(Fault::GatewayLost, Timers::Default, vec![unanswered], None);
        assert_eq!(row.broken, ["the address did not go to the standby, 1 times"]);
    }

    #[test]
    fn changes_that_stop_and_clients_that_stay_away_are_told() {
        let mut bad = round(3, 0);
        bad.broke = Figures { changes_ms: 1_000, ..Figures::default() };
        bad.mended = Some(Figures { for_good: true, left: true, ..Figures::default() });
        let row = Row::new(Fault::StandbyLost, Timers::Default, vec![bad], None);
        for what in ["were not served again", "went elsewhere", "no change was taken for 1000 ms"] {
            assert!(row.broken.iter().any(|b| b.contains(what)), "{what} in {:?}", row.broken);
        }
    }

    #[test]
    fn what_was_not_tried_is_not_kept() {
        let row = Row::new(Fault::Starved, Timers::Default, Vec::new(), Some("no cpu controller".into()));
        assert_eq!(row.verdict(), "NOT RUN");
    }

    #[test]
    fn until_it_was_mended_is_no_time() {
        let mut lasting = round(6_000, 0);
        lasting.broke.for_good = true;
        let row = Row::new(Fault::TwoLost, Timers::Default, vec![lasting], None);
        assert_eq!(row.broken, ["new connections were out until it was mended, 1 times of 1"]);
    }
}
