//! Stretches of time in which something was seen to be so again and again, and what two of them have in common. Pure.

use tandem_tests::clock::Micros;

use super::arp::{Claim, Mac};
use crate::talk::Sample;

/// Two looks, or two answers, further apart than this say nothing of the time between them.
const UNSEEN: Micros = 50_000;

/// From the first time it was seen to the last.
pub(crate) type Span = (Micros, Micros);

/// When an address was there, as far as the looks at it prove: an overlap of such spans is at least so long.
pub(crate) fn held(samples: &[Sample]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    let mut before: Option<&Sample> = None;
    for sample in samples {
        match (before.filter(|b| b.holds && sample.before - b.after < UNSEEN), spans.last_mut()) {
            (Some(_), Some(last)) if sample.holds => last.1 = sample.before,
            _ if sample.holds => spans.push((sample.after, sample.after)),
            _ => {}
        }
        before = Some(sample);
    }
    spans
}

/// When `mac` answered for the address.
pub(crate) fn answered(claims: &[Claim], mac: Mac) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for claim in claims.iter().filter(|c| c.mac == mac) {
        match spans.last_mut().filter(|last| claim.at - last.1 < UNSEEN) {
            Some(last) => last.1 = claim.at,
            None => spans.push((claim.at, claim.at)),
        }
    }
    spans
}

/// How long both were so.
pub(crate) fn both(a: &[Span], b: &[Span]) -> Micros {
    let overlap = |x: &Span, y: &Span| x.1.min(y.1).saturating_sub(x.0.max(y.0));
    a.iter().flat_map(|x| b.iter().map(move |y| overlap(x, y))).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at: Micros, holds: bool) -> Sample {
        Sample { before: at, after: at + 10, holds }
    }

    #[test]
    fn a_hand_over_is_no_overlap_and_one_of_20_ms_is() {
        let a: Vec<Sample> = (0..10).map(|n| look(n * 5_000, n < 5)).collect();
        let after: Vec<Sample> = (0..10).map(|n| look(n * 5_000 + 2_000, n >= 5)).collect();
        assert_eq!(both(&held(&a), &held(&after)), 0);
        let early: Vec<Sample> = (0..10).map(|n| look(n * 5_000 + 2_000, n >= 1)).collect();
        assert_eq!(both(&held(&a), &held(&early)), 20_000 - 7_010);
    }

    #[test]
    fn what_nobody_looked_at_proves_nothing() {
        let gap = [look(0, true), look(500_000, true)];
        assert_eq!(held(&gap), [(10, 10), (500_010, 500_010)]);
    }

    #[test]
    fn two_answers_to_each_question_are_two_holders() {
        let (one, other) = ([1; 6], [2; 6]);
        let said = |n: Micros, mac| Claim { at: n * 5_000, mac, unasked: false };
        let claims: Vec<Claim> = (0..10).flat_map(|n| [said(n, one), said(n, other)]).collect();
        assert_eq!(both(&answered(&claims, one), &answered(&claims, other)), 45_000);
        let turns: Vec<Claim> = (0..10).map(|n| said(n, if n < 5 { one } else { other })).collect();
        assert_eq!(both(&answered(&turns, one), &answered(&turns, other)), 0);
    }
}
