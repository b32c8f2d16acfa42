//! A text with places to fill in: `{name}`. `{{` and `}}` are braces.

use std::fmt;

/// A text with places of kind `S` to fill in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template<S> {
    text: String,
    parts: Vec<Part<S>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part<S> {
    Text(String),
    Slot(S),
}

impl<S> Template<S> {
    /// `slot` knows the names that may stand in braces.
    ///
    /// # Errors
    /// Why it is none, in a few words.
    pub(super) fn parse(text: &str, slot: impl Fn(&str) -> Option<S>) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                plain.push_str(brace);
                rest = after;
            } else if brace == "}" {
                return Err("closes a brace that is not open".to_owned());
            } else {
                let Some((name, after)) = rest.split_once('}') else {
                    return Err("opens a brace and does not close it".to_owned());
                };
                let Some(slot) = slot(name) else {
                    return Err(format!("speaks of {{{name}}}, which is not known here"));
                };
                if !plain.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut plain)));
                }
                parts.push(Part::Slot(slot));
                rest = after;
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            parts.push(Part::Text(plain));
        }
        Ok(Self { text: text.to_owned(), parts })
    }

    /// The text, if there is nothing to fill in.
    pub fn fixed(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// What stands between the places, in order.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|p| if let Part::Text(text) = p { Some(text.as_str()) } else { None })
    }

    /// The places, in order.
    pub fn slots(&self) -> impl Iterator<Item = &S> {
        self.parts.iter().filter_map(|p| if let Part::Slot(slot) = p { Some(slot) } else { None })
    }

    /// The text with what `value` writes for each place.
    pub fn fill(&self, mut value: impl FnMut(&S, &mut String)) -> String {
        let mut out = String::with_capacity(self.text.len() + 64);
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Slot(slot) => value(slot, &mut out),
            }
        }
        out
    }
}

/// As it was written.
impl<S> fmt::Display for Template<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str) -> Result<String, String> {
        let slot = |name: &str| (name == "a").then_some(());
        Template::parse(text, slot).map(|t| t.fill(|(), out| out.push_str("<A>")))
    }

    #[test]
    fn places_are_filled_and_doubled_braces_are_braces() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("{a}", "<A>"),
            ("x{a}{a}y", "x<A><A>y"),
            ("{{a}}", "{a}"),
            ("{{{a}}}", "{<A>}"),
        ] {
            assert_eq!(filled(text).as_deref(), Ok(expected), "{text}");
        }
        for text in ["{", "}", "{a", "a}", "{b}", "{}", "{{a}"] {
            assert!(filled(text).is_err(), "{text}");
        }
    }
}
