//! What was measured, as a Markdown table and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::contender::Contender;
use crate::load::Figures;
use crate::measured::{Measured, Verdict, number};
use crate::quartiles::Quartiles;
use crate::rows::ROWS;

/// The columns of the table, ours last.
const PRODUCTS: [&str; 4] = ["nginx", "HAProxy", "Envoy", "Tandem"];

/// Everything for programs: what was measured, and what it says. [`Measured`] is read back from it.
pub(crate) fn json(measured: &Measured) -> Value {
    let mut all = json!(measured);
    all["verdicts"] = json!(measured.verdicts());
    all
}

/// Everything for people.
pub(crate) fn markdown(measured: &Measured) -> String {
    let mut out = String::from("| | nginx | HAProxy | Envoy | Tandem | to the best peer | target | |\n|---|");
    out.push_str(&"---:|".repeat(6));
    out.push_str("---|\n");
    for verdict in measured.verdicts() {
        out.push_str(&line(&verdict));
    }
    let rounds = measured.rows.values().map(Vec::len);
    let (least, most) = (rounds.clone().min().unwrap_or(0), rounds.max().unwrap_or(0));
    let rounds = if least == most { most.to_string() } else { format!("{least} to {most}") };
    let seconds = measured.window_ms as f64 / 1e3;
    let versions: Vec<String> = measured.versions.iter().map(|(who, version)| format!("{who} {version}")).collect();
    let _ = writeln!(
        out,
        "\nMedians of {rounds} rounds with {seconds} s a figure; every proxy in a fresh process each time, one worker on core 0, clients and \
         backends on core 1. The ratio is to the best peer of the same round: median [quartiles]. Processor time and memory are \
         those of the proxy's whole process tree; kernel memory is not counted. {}. {}.",
        versions.join(", "),
        measured.machine,
    );
    for absent in &measured.absent {
        let _ = writeln!(out, "\nNot measured: {absent}.");
    }
    for failure in &measured.failures {
        let _ = writeln!(out, "\nFailed: {}", failure.replace('\n', " · "));
    }
    out.push_str("\n<details><summary>All figures</summary>\n\n");
    details(measured, &mut out);
    out.push_str("\n</details>\n");
    out
}

fn line(verdict: &Verdict) -> String {
    let mut out = format!("| {}, {} |", verdict.title, verdict.figure.unit());
    for product in PRODUCTS {
        let mine = verdict.figures.iter().find(|(who, _)| who.product() == product);
        let cell = match mine {
            Some((_, figure)) if product == "Tandem" => format!("**{}**", number(figure.median)),
            Some((_, figure)) => number(figure.median),
            None => String::new(),
        };
        let _ = write!(out, " {cell} |");
    }
    let ratio = verdict.ratios.get(&verdict.ours).map(spread).unwrap_or_default();
    let met = match verdict.met {
        Some(true) => "met",
        Some(false) => "**missed**",
        None => "not measured",
    };
    let _ = writeln!(out, " {ratio} | {} | {met} |", verdict.target);
    out
}

fn spread(q: &Quartiles) -> String {
    format!("{:.2} [{:.2}–{:.2}]", q.median, q.low, q.high)
}

fn details(measured: &Measured, out: &mut String) {
    out.push_str("| row | who | rounds | figures: median [quartiles] |\n|---|---|---:|---|\n");
    for row in ROWS {
        let Some(rounds) = measured.rows.get(row.id) else { continue };
        for who in row.contenders {
            let mine: Vec<&Figures> = rounds.iter().filter_map(|round| round.get(who)).collect();
            let Some(first) = mine.first() else { continue };
            let _ = writeln!(out, "| {} | {} | {} | {} |", row.id, who.name(), mine.len(), all(first, &mine));
        }
    }
}

fn all(first: &Figures, mine: &[&Figures]) -> String {
    let figures = first.keys().filter_map(|figure| {
        let q = Quartiles::of(mine.iter().filter_map(|f| f.get(figure)).copied())?;
        Some(format!("{} [{}–{}] {}", number(q.median), number(q.low), number(q.high), figure.unit()))
    });
    figures.collect::<Vec<_>>().join(" · ")
}

/// Whom a picture shows beside us in this comparison, with their ratio to the best.
pub(crate) fn rivals(verdict: &Verdict) -> impl Iterator<Item = (Contender, f64)> {
    verdict.ratios.iter().filter(|(who, _)| **who != verdict.ours).map(|(who, q)| (*who, q.median))
}
