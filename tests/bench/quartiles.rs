//! The middle of some figures, and how far they spread.

use serde::Serialize;

/// The middle half of some figures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Quartiles {
    /// A quarter is less.
    pub(crate) low: f64,
    /// Half is less.
    pub(crate) median: f64,
    /// Three quarters are less.
    pub(crate) high: f64,
}

impl Quartiles {
    /// Of these; none if there are none.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().filter(|f| f.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        // Between two neighbours in proportion.
        let at = |quarters: usize| {
            let (whole, part) = (last * quarters / 4, (last * quarters % 4) as f64 / 4.0);
            let next = (whole + 1).min(last);
            sorted[whole] + (sorted[next] - sorted[whole]) * part
        };
        Some(Self { low: at(1), median: at(2), high: at(3) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_few_and_of_many() {
        let of = |figures: &[f64]| Quartiles::of(figures.iter().copied()).map(|q| (q.low, q.median, q.high));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[f64::NAN]), None);
        assert_eq!(of(&[3.0]), Some((3.0, 3.0, 3.0)));
        assert_eq!(of(&[4.0, 2.0]), Some((2.5, 3.0, 3.5)));
        assert_eq!(of(&[5.0, 1.0, 4.0, 2.0, 3.0]), Some((2.0, 3.0, 4.0)));
        assert_eq!(of(&[7.0, 1.0, 6.0, 2.0, 5.0, 3.0, 4.0]), Some((2.5, 4.0, 5.5)));
    }
}
