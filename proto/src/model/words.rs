//! Enums that people write as one word.

use std::time::Duration;

use crate::{Problems, Table};

/// Gives an enum of ours its words, and its way to and from the enum of the messages (whose variants have the same names).
macro_rules! words {
    ($type:ident = pb::$wire:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $type {
            /// How people write each of them.
            pub const WORDS: &[(&str, Self)] = &[$(($word, Self::$variant)),+];

            /// How people write this one.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// What a message says; `None` if it says nothing.
            pub(super) fn said(given: i32) -> Option<Self> {
                match pb::$wire::try_from(given).unwrap_or_default() {
                    $(pb::$wire::$variant => Some(Self::$variant),)+
                    pb::$wire::Unspecified => None,
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.word())
            }
        }

        impl From<$type> for pb::$wire {
            fn from(meant: $type) -> Self {
                match meant { $($type::$variant => Self::$variant),+ }
            }
        }

        impl From<$type> for i32 {
            fn from(meant: $type) -> Self {
                pb::$wire::from(meant) as Self
            }
        }
    };
}
pub(super) use words;

/// One of `words` under `key`; zero, which says nothing, if it is absent or unknown.
pub(super) fn read<T: Copy + Into<i32>>(
    t: &mut Table,
    key: &'static str,
    words: &[(&str, T)],
    problems: &mut Problems,
) -> i32 {
    let Some(text) = t.text(key, problems) else { return 0 };
    if let Some((_, found)) = words.iter().find(|(word, _)| *word == text) {
        return (*found).into();
    }
    let all: Vec<&str> = words.iter().map(|(w, _)| *w).collect();
    problems.add(t.path(key), text, "is not known here", format!("use one of: {}", all.join(", ")));
    0
}

/// A length of time under `key` in milliseconds; zero, which says nothing, if it is absent.
pub(super) fn read_ms(t: &mut Table, key: &'static str, problems: &mut Problems) -> u32 {
    t.duration(key, problems).map_or(0, |d| millis(d).max(1))
}

/// The same, `None` if it is absent.
pub(super) fn read_some_ms(t: &mut Table, key: &'static str, problems: &mut Problems) -> Option<u32> {
    t.duration(key, problems).map(|d| millis(d).max(1))
}

/// A length of time in milliseconds, or the word "off" as zero; `None` if it is absent.
pub(super) fn read_ms_or_off(t: &mut Table, key: &'static str, problems: &mut Problems) -> Option<u32> {
    let text = t.text(key, problems)?;
    if text == OFF {
        return Some(0);
    }
    match humantime::parse_duration(&text) {
        Ok(d) if !d.is_zero() => Some(millis(d).max(1)),
        _ => {
            problems.add(t.path(key), text, "is not a length of time", "write it like \"500ms\" or \"2s\", or \"off\"");
            None
        }
    }
}

/// How "never" is written where a length of time may stand.
const OFF: &str = "off";

/// A length of time, or [`OFF`].
pub(super) fn time_or_off(d: Option<Duration>) -> String {
    d.map_or_else(|| OFF.to_owned(), time)
}

/// Milliseconds of a message where zero means never.
pub(super) fn unless_zero(ms: u32) -> Option<Duration> {
    (ms > 0).then(|| Duration::from_millis(ms.into()))
}

/// Whole milliseconds, as messages carry them.
pub(super) fn millis(d: Duration) -> u32 {
    u32::try_from(d.as_millis()).unwrap_or(u32::MAX)
}

/// A length of time as people write it.
pub(super) fn time(d: Duration) -> String {
    humantime::format_duration(d).to_string()
}
