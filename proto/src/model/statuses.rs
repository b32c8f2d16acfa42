//! Which HTTP statuses are good.

use std::fmt;
use std::str::FromStr;

/// Ranges of HTTP statuses, as written: at least one, each within 100..=599.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statuses(Vec<(u16, u16)>);

impl Default for Statuses {
    fn default() -> Self {
        Self(vec![(200, 399)])
    }
}

impl Statuses {
    /// Whether one of the ranges has it.
    pub fn contain(&self, status: u16) -> bool {
        self.0.iter().any(|(from, to)| (*from..=*to).contains(&status))
    }

    /// Each range as people write it.
    pub(super) fn texts(&self) -> Vec<String> {
        let text = |(from, to): &(u16, u16)| if from == to { from.to_string() } else { format!("{from}-{to}") };
        self.0.iter().map(text).collect()
    }
}

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.texts().join(", "))
    }
}

impl FromStr for Statuses {
    type Err = ();

    /// `204`, `200-399`, or several of them with commas between.
    fn from_str(given: &str) -> Result<Self, ()> {
        let status = |text: &str| text.trim().parse().ok().filter(|s: &u16| (100..=599).contains(s)).ok_or(());
        let range = |text: &str| {
            let (from, to) = text.split_once('-').unwrap_or((text, text));
            let (from, to) = (status(from)?, status(to)?);
            if from <= to { Ok((from, to)) } else { Err(()) }
        };
        given.split(',').map(range).collect::<Result<Vec<_>, ()>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_written_alike() {
        let read = |text: &str| text.parse::<Statuses>();
        let some = read("204,300 - 304, 404").map(|s| (s.to_string(), s.contain(302), s.contain(400), s.contain(404)));
        assert_eq!(some, Ok(("204, 300-304, 404".to_owned(), true, false, true)));
        assert_eq!(Statuses::default().to_string(), "200-399");
        for bad in ["", "ok", "99", "600", "300-200", "200-", "200,,204", "2xx"] {
            assert_eq!(read(bad), Err(()), "{bad}");
        }
    }
}
