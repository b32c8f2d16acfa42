//! The picture: how far from the best peer each is, on a scale where left is better.

use std::fmt::Write as _;

use crate::measured::{Measured, Verdict, number};
use crate::report::rivals;

const WIDTH: f64 = 980.0;
/// Where the scale begins: left of it stand the titles, right of it the figures.
const LEFT: f64 = 350.0;
const RIGHT: f64 = WIDTH - 110.0;
const TOP: f64 = 84.0;
const ROW: f64 = 34.0;
/// The ends of the scale, as times the best peer's cost.
const BEST: f64 = 0.125;
const WORST: f64 = 16.0;

/// Colours that can be read on white and, by the reader's own choice, on black.
const STYLE: &str = "
  text { font: 13px system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif; fill: #1f2328 }
  .title { font-size: 17px; font-weight: 600 }
  .quiet { fill: #59636e; font-size: 12px }
  .value { font-weight: 600 }
  .grid { stroke: #d1d9e0; stroke-width: 1 }
  .even { stroke: #59636e; stroke-width: 1.5 }
  .met { fill: #1a7f37 } .missed { fill: #bc4c00 }
  .target { stroke: #1f2328; stroke-width: 2 }
  .nginx { fill: #8250df } .haproxy { fill: #0969da } .envoy { fill: #bf3989 }
  @media (prefers-color-scheme: dark) {
    text { fill: #f0f6fc } .quiet { fill: #9198a1 } .grid { stroke: #3d444d } .even { stroke: #9198a1 }
    .met { fill: #3fb950 } .missed { fill: #f0883e } .target { stroke: #f0f6fc }
    .nginx { fill: #ab7df8 } .haproxy { fill: #4493f8 } .envoy { fill: #db61a2 }
  }
";

/// All comparisons with a peer, as SVG.
pub(crate) fn svg(measured: &Measured) -> String {
    let verdicts: Vec<Verdict> = measured.verdicts();
    let shown: Vec<&Verdict> = verdicts.iter().filter(|v| v.ratios.contains_key(&v.ours)).collect();
    let bottom = TOP + ROW * shown.len() as f64;
    let height = bottom + 44.0;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" aria-label=\"Tandem's cost over that of the best peer, for each row of the table\">\n<style>{STYLE}</style>\n"
    );
    text(&mut out, "title", 16.0, 28.0, "start", "Cost over that of the best peer, same work, same round");
    legend(&mut out);
    scale(&mut out, bottom);
    for (n, verdict) in shown.iter().enumerate() {
        row(&mut out, verdict, TOP + ROW * (n as f64 + 0.5));
    }
    out.push_str("</svg>\n");
    out
}

fn legend(out: &mut String) {
    let mut x = 16.0;
    let _ = writeln!(out, "<rect class=\"met\" x=\"{x}\" y=\"43\" width=\"22\" height=\"12\" rx=\"3\"/>");
    text(out, "quiet", x + 28.0, 53.0, "start", "Tandem, target met");
    x += 160.0;
    let _ = writeln!(out, "<rect class=\"missed\" x=\"{x}\" y=\"43\" width=\"22\" height=\"12\" rx=\"3\"/>");
    text(out, "quiet", x + 28.0, 53.0, "start", "Tandem, target missed");
    x += 178.0;
    let _ = writeln!(out, "<line class=\"target\" x1=\"{x}\" x2=\"{x}\" y1=\"41\" y2=\"57\"/>");
    text(out, "quiet", x + 8.0, 53.0, "start", "target");
    x += 74.0;
    for (class, name) in [("nginx", "nginx"), ("haproxy", "HAProxy"), ("envoy", "Envoy")] {
        let _ = writeln!(out, "<circle class=\"{class}\" cx=\"{x}\" cy=\"49\" r=\"5\"/>");
        text(out, "quiet", x + 10.0, 53.0, "start", name);
        x += 84.0;
    }
}

fn scale(out: &mut String, bottom: f64) {
    let mut mark = BEST;
    while mark <= WORST {
        let at = x(mark);
        let even = (mark - 1.0).abs() < f64::EPSILON;
        let class = if even { "even" } else { "grid" };
        let _ = writeln!(out, "<line class=\"{class}\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>");
        let label = if even { "best peer".to_owned() } else { format!("{mark} ×") };
        text(out, "quiet", at, bottom + 18.0, "middle", &label);
        mark *= 2.0;
    }
    text(out, "quiet", LEFT, bottom + 36.0, "start", "← better");
    text(out, "quiet", RIGHT, bottom + 36.0, "end", "worse →");
}

fn row(out: &mut String, verdict: &Verdict, middle: f64) {
    text(out, "", LEFT - 14.0, middle + 4.5, "end", verdict.title);
    // Less is better in the picture, also where more is better in the table.
    let cost = |ratio: f64| if verdict.figure.more_is_better() { 1.0 / ratio } else { ratio };
    let Some(ours) = verdict.ratios.get(&verdict.ours) else { return };
    let at = x(cost(ours.median));
    let (from, to) = (at.min(x(1.0)), at.max(x(1.0)));
    let class = if verdict.met == Some(false) { "missed" } else { "met" };
    // A tie has a width too.
    let (from, width) = if to - from < 6.0 { (at - 3.0, 6.0) } else { (from, to - from) };
    let _ = writeln!(
        out,
        "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"14\" rx=\"3\"/>",
        middle - 7.0
    );
    for (who, ratio) in rivals(verdict) {
        let class = who.product().to_lowercase();
        let _ = writeln!(out, "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"{middle:.1}\" r=\"5\"/>", x(cost(ratio)));
    }
    if let Some(target) = verdict.target_ratio {
        let at = x(cost(target));
        let _ = writeln!(
            out,
            "<line class=\"target\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
            middle - 11.0,
            middle + 11.0
        );
    }
    let said = format!("{} ×", number(cost(ours.median)));
    text(out, "value", RIGHT + 18.0, middle + 4.5, "start", &said);
}

/// Where a ratio is on the logarithmic scale; what is off it stands at its end.
fn x(ratio: f64) -> f64 {
    let share = (ratio.clamp(BEST, WORST) / BEST).ln() / (WORST / BEST).ln();
    LEFT + (RIGHT - LEFT) * share
}

fn text(out: &mut String, class: &str, x: f64, y: f64, anchor: &str, said: &str) {
    let said = said.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(out, "<text class=\"{class}\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{said}</text>");
}
