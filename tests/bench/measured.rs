//! What was measured, and what it says about each comparison.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::contender::Contender;
use crate::load::{Figure, Figures};
use crate::quartiles::Quartiles;
use crate::rows::{Line, ROWS, Target};

/// Everything of one or more runs.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// What it ran on.
    pub(crate) machine: String,
    /// How long each figure was measured, milliseconds.
    pub(crate) window_ms: u64,
    /// Who took part, and in which version.
    pub(crate) versions: BTreeMap<String, String>,
    /// Who did not, and why.
    pub(crate) absent: Vec<String>,
    /// What went wrong.
    pub(crate) failures: Vec<String>,
    /// By row and round.
    pub(crate) rows: BTreeMap<String, Vec<Round>>,
}

/// One round of one row.
pub(crate) type Round = BTreeMap<Contender, Figures>;

/// What one comparison came to.
#[derive(Serialize)]
pub(crate) struct Verdict {
    /// Which one.
    pub(crate) title: &'static str,
    /// What was compared.
    pub(crate) figure: Figure,
    /// The figure of each who took part in it.
    pub(crate) figures: BTreeMap<Contender, Quartiles>,
    /// Over the best rival's of the same round; for the rivals too. None where the figure is a ratio itself.
    pub(crate) ratios: BTreeMap<Contender, Quartiles>,
    /// Ours.
    pub(crate) ours: Contender,
    /// What was to be reached, for people.
    pub(crate) target: String,
    /// That as a ratio to the best rival, for a picture.
    pub(crate) target_ratio: Option<f64>,
    /// Whether it was; none: not measured.
    pub(crate) met: Option<bool>,
    /// Rounds it is made of.
    pub(crate) rounds: usize,
}

impl Measured {
    /// Adds another run's. Rows that both have get the rounds of both.
    pub(crate) fn extend(&mut self, other: Self) {
        for (row, rounds) in other.rows {
            self.rows.entry(row).or_default().extend(rounds);
        }
        for absent in other.absent {
            if !self.absent.contains(&absent) {
                self.absent.push(absent);
            }
        }
        self.failures.extend(other.failures);
        self.versions.extend(other.versions);
        self.window_ms = self.window_ms.max(other.window_ms);
        self.machine = other.machine;
    }

    /// What the measured rows say, in the order of the table.
    pub(crate) fn verdicts(&self) -> Vec<Verdict> {
        let mut verdicts = Vec::new();
        for row in ROWS {
            let Some(rounds) = self.rows.get(row.id) else { continue };
            verdicts.extend(row.lines.iter().map(|line| verdict(line, rounds)));
        }
        verdicts
    }
}

fn verdict(line: &Line, rounds: &[Round]) -> Verdict {
    let everyone = || line.rivals.iter().copied().chain([line.ours]);
    let figure_of = |round: &Round, who: Contender| round.get(&who).and_then(|f| f.get(&line.figure)).copied();
    let best = |round: &Round| {
        let figures = line.rivals.iter().filter_map(|who| figure_of(round, *who));
        figures.reduce(|a, b| if line.figure.more_is_better() { a.max(b) } else { a.min(b) })
    };
    let over_best = |round: &Round, who| {
        let compared = !line.figure.is_ratio();
        compared.then(|| Some(figure_of(round, who)? / best(round)?)).flatten()
    };
    let collect = |of: &dyn Fn(&Round, Contender) -> Option<f64>| -> BTreeMap<Contender, Quartiles> {
        everyone()
            .filter_map(|who| Some((who, Quartiles::of(rounds.iter().filter_map(|round| of(round, who)))?)))
            .collect()
    };
    let (figures, ratios) = (collect(&figure_of), collect(&over_best));
    let reached = |value: f64, bound: f64| if line.figure.more_is_better() { value >= bound } else { value <= bound };
    let sign = if line.figure.more_is_better() { "≥" } else { "≤" };
    let (target, target_ratio, met) = match line.target {
        Target::Ratio(bound) => {
            (format!("{sign} {bound:.2} ×"), Some(bound), ratios.get(&line.ours).map(|q| reached(q.median, bound)))
        }
        Target::Absolute(bound) => {
            let best = Quartiles::of(rounds.iter().filter_map(best)).map(|q| q.median);
            let met = figures.get(&line.ours).map(|q| reached(q.median, bound));
            (format!("{sign} {}", number(bound)), best.map(|best| bound / best), met)
        }
    };
    let ours = rounds.iter().filter(|round| figure_of(round, line.ours).is_some()).count();
    Verdict {
        title: line.title,
        figure: line.figure,
        figures,
        ratios,
        ours: line.ours,
        target,
        target_ratio,
        met,
        rounds: ours,
    }
}

/// A figure with three digits that count, thousands apart.
pub(crate) fn number(figure: f64) -> String {
    if figure.abs() < 9.995 {
        return format!("{figure:.2}");
    }
    if figure.abs() < 99.95 {
        return format!("{figure:.1}");
    }
    let digits = format!("{figure:.0}");
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 && digits.len() > 3 {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::contender::Contender::{Envoy, Haproxy, Nginx, Tandem};

    fn rounds(figure: Figure, of: &[&[(Contender, f64)]]) -> Vec<Round> {
        let round =
            |all: &&[(Contender, f64)]| all.iter().map(|(who, f)| (*who, Figures::from([(figure, *f)]))).collect();
        of.iter().map(round).collect()
    }

    #[test]
    fn each_round_is_compared_with_its_own_best() {
        let given = rounds(
            Figure::CpuMicros,
            &[
                &[(Nginx, 10.0), (Haproxy, 20.0), (Envoy, 30.0), (Tandem, 9.0)],
                &[(Nginx, 40.0), (Haproxy, 20.0), (Envoy, 30.0), (Tandem, 20.0)],
                &[(Nginx, 10.0), (Haproxy, 20.0), (Tandem, 11.0)],
            ],
        );
        let verdict = verdict(&ROWS[0].lines[0], &given);
        assert_eq!(verdict.ratios[&Tandem], Quartiles { low: 0.95, median: 1.0, high: 1.05 });
        assert_eq!((verdict.met, verdict.rounds), (Some(true), 3));
        assert_eq!(verdict.ratios[&Haproxy].median, 2.0);
    }

    #[test]
    fn where_more_is_better_the_best_has_most() {
        let http = crate::rows::find("http").unwrap();
        let given = rounds(Figure::PerSecond, &[&[(Nginx, 100.0), (Haproxy, 500.0), (Tandem, 89.0)]]);
        let verdict = verdict(&http.lines[0], &given);
        assert_eq!((verdict.ratios[&Tandem].median, verdict.met), (0.89, Some(false)), "only nginx is its rival");
    }

    #[test]
    fn a_figure_of_its_own_needs_no_rival() {
        let idle = crate::rows::find("idle").unwrap();
        let alone = verdict(&idle.lines[0], &rounds(Figure::SessionBytes, &[&[(Tandem, 1_400.0)]]));
        assert_eq!((alone.met, alone.target_ratio), (Some(true), None));
        let nobody = verdict(&idle.lines[0], &rounds(Figure::SessionBytes, &[&[(Nginx, 18_000.0)]]));
        assert_eq!((nobody.met, nobody.rounds), (None, 0));
    }

    #[test]
    fn numbers_are_short() {
        let all = [0.963, 9.999, 17.04, 183.4, 9_089.0, 98_123.0, 1_234_567.0].map(number);
        assert_eq!(all, ["0.96", "10.0", "17.0", "183", "9\u{202f}089", "98\u{202f}123", "1\u{202f}234\u{202f}567"]);
    }
}
