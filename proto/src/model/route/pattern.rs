//! A regex that must fit the whole of a text.

use std::cmp::Ordering;
use std::fmt;

use regex::{Captures, Regex, RegexBuilder};

use crate::Problems;

/// What a compiled pattern may take, in bytes: enough for any path, too little for `(a{1000}){1000}`.
const LIMIT: usize = 256 * 1024;

/// A regex that must fit the whole of a text. Its time is linear in the text's length, whatever the pattern.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    regex: Regex,
}

impl Pattern {
    /// # Errors
    /// Why it is none, in one line.
    pub fn new(text: &str) -> Result<Self, String> {
        // Alone first: "a)|(b" would be balanced by the parentheses around it.
        compile(text)?;
        let regex = compile(&format!(r"\A(?:{text})\z"))?;
        Ok(Self { text: text.to_owned(), regex })
    }

    pub(super) fn check(path: &str, given: &str, problems: &mut Problems) -> Option<Self> {
        Self::new(given).map_err(|why| problems.add(path, given, format!("is no pattern: {why}"), MEND)).ok()
    }

    /// Whether the whole text fits.
    pub fn fits(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// The groups of a text that fits.
    pub fn captures<'t>(&self, text: &'t str) -> Option<Captures<'t>> {
        self.regex.captures(text)
    }

    /// Number of the group that `{name}` or `{1}` speaks of; 0 is the whole.
    pub(super) fn group(&self, name: &str) -> Option<usize> {
        match name.parse::<usize>() {
            Ok(number) => (number < self.regex.captures_len()).then_some(number),
            Err(_) => self.regex.capture_names().position(|known| known == Some(name)),
        }
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

const MEND: &str = "write a regex (https://docs.rs/regex) that fits the whole of it, like \"/room/[0-9]+\"";

fn compile(text: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(text).size_limit(LIMIT).dfa_size_limit(LIMIT).build();
    // Syntax errors draw a picture first and say the word last.
    built.map_err(|e| {
        let all = e.to_string();
        let last = all.lines().last().unwrap_or_default().trim();
        last.trim_start_matches("error: ").trim_end_matches('.').to_lowercase()
    })
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl PartialOrd for Pattern {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pattern {
    fn cmp(&self, other: &Self) -> Ordering {
        self.text.cmp(&other.text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_whole_must_fit() {
        let pattern = Pattern::new("/a|/ab").unwrap();
        assert!(pattern.fits("/a") && pattern.fits("/ab"));
        assert!(!pattern.fits("/abc") && !pattern.fits("x/a") && !pattern.fits("/a\n"));
    }

    #[test]
    fn a_pattern_cannot_break_out_or_grow_without_bound() {
        assert_eq!(Pattern::new("a)|(b").unwrap_err(), "unopened group");
        assert_eq!(Pattern::new("/a(").unwrap_err(), "unclosed group");
        assert!(Pattern::new("(a{1000}){1000}").unwrap_err().contains("size limit"));
        assert!(Pattern::new("(?x)a # b").is_err(), "a comment would swallow the end");
    }
}
