//! What the drill found, for people and for programs, and which promises it breaks.

use std::fmt::Write as _;

use serde::Serialize;
use tandem_tests::clock::Micros;
use tandem_tests::story::percentile;

use crate::talk::Sample;

/// Two looks further apart than this say nothing of the time between them.
const UNSEEN: Micros = 100_000;

/// Everything.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    pub(crate) changes: Changes,
    /// Looks at the proxies' addresses.
    pub(crate) samples: usize,
    /// When both had the address, microseconds since boot.
    pub(crate) two_holders: Vec<Micros>,
}

/// One kind of event.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) event: &'static str,
    pub(crate) rounds: Vec<Round>,
}

impl Row {
    pub(crate) fn new(event: &'static str, rounds: Vec<Round>) -> Self {
        Self { event, rounds }
    }

    fn out(&self) -> Vec<u64> {
        let mut all: Vec<u64> = self.rounds.iter().map(|r| r.out_ms).collect();
        all.sort_unstable();
        all
    }

    fn sum(&self, of: impl Fn(&Round) -> usize) -> usize {
        self.rounds.iter().map(of).sum()
    }
}

/// What clients saw of it once.
#[derive(Serialize)]
pub(crate) struct Round {
    /// Longest time without an answered new connection, less the time between two of them.
    pub(crate) out_ms: u64,
    /// New connections that got no answer.
    pub(crate) failed: usize,
    pub(crate) held: usize,
    pub(crate) broken: usize,
    pub(crate) reconnected: usize,
    /// From when it happened until the last session was back.
    pub(crate) within_ms: Option<u64>,
    /// From tandemctl's return until the first session on the new backend.
    pub(crate) first_session_ms: Option<u64>,
    /// Of all nodes; or how they differ. `None` while a node is away.
    pub(crate) revision: Option<Result<u64, String>>,
}

/// What became of the config.
#[derive(Serialize)]
pub(crate) struct Changes {
    pub(crate) acknowledged: usize,
    /// Acknowledged, and not there.
    pub(crate) lost: Vec<String>,
    pub(crate) agreed: Result<u64, String>,
}

impl Report {
    pub(crate) fn table(&self) -> String {
        let mut out = String::new();
        let head = [
            "event",
            "rounds",
            "out p50 ms",
            "out max ms",
            "failed",
            "held",
            "broken",
            "back",
            "within ms",
            "revision",
        ];
        let mut lines = vec![head.map(str::to_owned)];
        for row in &self.rows {
            let silent = row.out();
            let within = row.rounds.iter().filter_map(|r| r.within_ms).max();
            let equal = row.rounds.iter().filter_map(|r| r.revision.as_ref()).map(Result::is_ok).reduce(|a, b| a && b);
            lines.push([
                row.event.to_owned(),
                row.rounds.len().to_string(),
                percentile(&silent, 50).to_string(),
                percentile(&silent, 100).to_string(),
                row.sum(|r| r.failed).to_string(),
                row.sum(|r| r.held).to_string(),
                row.sum(|r| r.broken).to_string(),
                row.sum(|r| r.reconnected).to_string(),
                within.map_or("-".to_owned(), |ms| ms.to_string()),
                equal.map_or("-", |equal| if equal { "equal" } else { "DIFFERS" }).to_owned(),
            ]);
        }
        let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
        for line in &lines {
            let _ = write!(out, "{:<width$}", line[0], width = width(0));
            for (column, cell) in line.iter().enumerate().skip(1) {
                let _ = write!(out, "  {cell:>width$}", width = width(column));
            }
            out.push('\n');
        }
        let first = self.rows.iter().flat_map(|r| &r.rounds).find_map(|r| r.first_session_ms);
        let _ = writeln!(
            out,
            "\nout: new connections without an answer, one tried every 10 ms · within: until the last broken session was back\n\
             first session on the added backend {} ms after tandemctl returned\n\
             two holders seen in {} of {} looks · {} changes acknowledged, {} lost",
            first.map_or("never".to_owned(), |ms| ms.to_string()),
            self.two_holders.len(),
            self.samples,
            self.changes.acknowledged,
            self.changes.lost.len(),
        );
        out
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        let mut all = serde_json::json!(self);
        all["broken_promises"] = self.broken_promises().into();
        all
    }

    /// Every promise that was not kept, with the figure that breaks it.
    pub(crate) fn broken_promises(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let mut hold = |kept: bool, what: String| {
            if !kept {
                broken.push(what);
            }
        };
        for row in &self.rows {
            let silent = row.out();
            let (p50, max, event) = (percentile(&silent, 50), percentile(&silent, 100), row.event);
            let limit = match event {
                "holder killed" | "holder cut off" | "backend killed" => 2_000,
                _ => 250,
            };
            hold(max < limit, format!("{event}: new connections were out for {max} ms; promised: less than {limit}"));
            if event == "holder killed" {
                hold(
                    p50 < 1_000,
                    format!("{event}: new connections were out for {p50} ms at the median; promised: less than 1000"),
                );
            }
            if matches!(event, "backend added" | "killed node revived" | "network healed") {
                let (n, failed) = (row.sum(|r| r.broken), row.sum(|r| r.failed));
                hold(n == 0, format!("{event}: {n} sessions broke; promised: none"));
                hold(failed == 0, format!("{event}: {failed} new connections failed; promised: none"));
            }
            let (n, back) = (row.sum(|r| r.broken), row.sum(|r| r.reconnected));
            hold(n == back, format!("{event}: {n} sessions broke and {back} came back"));
            for round in &row.rounds {
                if let Some(Err(said)) = &round.revision {
                    hold(false, format!("{event}: the nodes' revisions differ: {said}"));
                }
                if event == "backend added" {
                    let ms = round.first_session_ms;
                    let kept = ms.is_some_and(|ms| ms < 100);
                    hold(kept, format!("{event}: first session on it after {ms:?} ms; promised: within 100"));
                }
            }
        }
        let double = self.two_holders.len();
        hold(double == 0, format!("two nodes had the address in {double} looks; promised: never"));
        hold(self.samples > 1_000, format!("only {} looks at the addresses: that proves nothing", self.samples));
        let lost = &self.changes.lost;
        hold(lost.is_empty(), format!("acknowledged changes are lost: {}", lost.join(", ")));
        hold(self.changes.acknowledged > 20, format!("only {} changes were acknowledged", self.changes.acknowledged));
        if let Err(said) = &self.changes.agreed {
            hold(false, format!("at the end the nodes' revisions differ: {said}"));
        }
        broken
    }
}

/// When one had the address between two looks, close together, at which the other had it too.
pub(crate) fn two_holders(a: &[Sample], b: &[Sample]) -> Vec<Micros> {
    let mut all = inside_spans(a, &spans(b));
    all.extend(inside_spans(b, &spans(a)));
    all.sort_unstable();
    all
}

/// Spans in which an address was there all the time.
fn spans(samples: &[Sample]) -> Vec<(Micros, Micros)> {
    samples
        .windows(2)
        .filter(|pair| pair[0].holds && pair[1].holds && pair[1].before - pair[0].after < UNSEEN)
        .map(|pair| (pair[0].after, pair[1].before))
        .collect()
}

fn inside_spans(samples: &[Sample], spans: &[(Micros, Micros)]) -> Vec<Micros> {
    let within = |s: &Sample| {
        let next = spans.partition_point(|(from, _)| *from <= s.before);
        next.checked_sub(1).is_some_and(|at| s.after <= spans[at].1)
    };
    samples.iter().filter(|s| s.holds && within(s)).map(|s| s.before).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at: Micros, holds: bool) -> Sample {
        Sample { before: at, after: at + 10, holds }
    }

    #[test]
    fn a_hand_over_is_no_double_and_an_overlap_is() {
        let a = [look(0, true), look(20_000, true), look(40_000, false), look(60_000, false)];
        let handed = [look(10_000, false), look(30_000, true), look(50_000, true)];
        assert_eq!(two_holders(&a, &handed), Vec::<Micros>::new(), "a had it at 20 ms, b at 30: that may be in turn");
        let early = [look(10_000, true), look(30_000, true)];
        assert_eq!(two_holders(&a, &early), [10_000, 20_000]);
    }

    #[test]
    fn what_nobody_looked_at_proves_nothing() {
        let a = [look(0, true), look(500_000, true)];
        assert_eq!(two_holders(&a, &[look(250_000, true)]), Vec::<Micros>::new());
    }

    #[test]
    fn broken_promises_are_named_with_their_figures() {
        let round = |out_ms, broken, first_session_ms| Round {
            out_ms,
            failed: 0,
            held: 20,
            broken,
            reconnected: broken,
            within_ms: None,
            first_session_ms,
            revision: Some(Ok(7)),
        };
        let changes = |lost: Vec<String>| Changes { acknowledged: 100, lost, agreed: Ok(7) };
        let good = Report {
            rows: vec![
                Row::new("backend added", vec![round(3, 0, Some(20))]),
                Row::new("holder killed", vec![round(600, 20, None), round(1_400, 20, None), round(500, 20, None)]),
            ],
            changes: changes(Vec::new()),
            samples: 2_000,
            two_holders: Vec::new(),
        };
        assert_eq!(good.broken_promises(), Vec::<String>::new());
        let bad = Report {
            rows: vec![
                Row::new("backend added", vec![round(3, 1, Some(150))]),
                Row::new("holder killed", vec![round(1_100, 20, None), round(2_400, 20, None), round(1_200, 20, None)]),
                Row::new("vip move", vec![round(251, 20, None)]),
            ],
            changes: changes(vec!["written-3 on b".to_owned()]),
            samples: 2_000,
            two_holders: vec![5],
        };
        let broken = bad.broken_promises();
        assert_eq!(broken.len(), 7, "{broken:#?}");
        for figure in ["1 sessions", "150", "2400", "1200", "251", "1 looks", "written-3"] {
            assert!(broken.iter().any(|b| b.contains(figure)), "{figure} in {broken:#?}");
        }
    }
}
