//! What a change touches, thing by thing and value by value, as lines to read.

use std::time::Duration;

use serde_json::{Value, json};
use tandem_proto::admin::v1::Step;
use tandem_proto::config::v1::{Touch, What};

use crate::output::{Ink, Tone};

/// For people: `+` what comes, `-` what goes, `~` what stays and changes.
pub(super) fn people(steps: &[Step], ink: Ink) -> String {
    let mut text = String::new();
    for step in steps {
        let touch = step.touch.clone().unwrap_or_default();
        let (sign, tone) = look(&touch);
        text.push_str(&ink.say(tone, &format!("{sign} {}", touch.path)));
        text.push_str(&format!("{}\n", sessions(step, ink)));
        for field in &step.fields {
            let mut line = |sign, tone, value: &Option<String>| {
                if let Some(value) = value {
                    text.push_str(&ink.say(tone, &format!("{sign}   {} = {value}", field.key)));
                    text.push('\n');
                }
            };
            line('-', Tone::Bad, &field.before);
            line('+', Tone::Good, &field.after);
        }
    }
    text
}

/// `+upstreams.chat ~settings`: in one line.
pub(super) fn brief(touched: &[Touch], more: u32) -> String {
    let mut words: Vec<String> = touched.iter().map(|t| format!("{}{}", look(t).0, t.path)).collect();
    if more > 0 {
        words.push(format!("and {more} more"));
    }
    if words.is_empty() { "nothing".to_owned() } else { words.join(" ") }
}

fn look(touch: &Touch) -> (char, Tone) {
    match touch.what() {
        What::Added => ('+', Tone::Good),
        What::Removed => ('-', Tone::Bad),
        What::Changed | What::Unspecified => ('~', Tone::Odd),
    }
}

fn sessions(step: &Step, ink: Ink) -> String {
    match (step.sessions, step.ends) {
        (0, _) => String::new(),
        (open, 0) => format!("  ({open} sessions go on)"),
        (_, ends) => {
            let when = match step.ends_within_ms {
                0 => "at once".to_owned(),
                ms => format!("those left after {}", humantime::format_duration(Duration::from_millis(ms.into()))),
            };
            ink.say(Tone::Bad, &format!("  (ends {ends} sessions, {when})"))
        }
    }
}

/// For programs.
pub(super) fn programs(steps: &[Step]) -> Value {
    let one = |step: &Step| {
        let touch = step.touch.clone().unwrap_or_default();
        let fields: Vec<Value> =
            step.fields.iter().map(|f| json!({"key": f.key, "before": f.before, "after": f.after})).collect();
        json!({
            "path": touch.path,
            "what": word(&touch),
            "fields": fields,
            "sessions": step.sessions,
            "ends": step.ends,
            "ends_within_ms": step.ends_within_ms,
        })
    };
    steps.iter().map(one).collect()
}

/// What became of it, in a word.
pub(super) fn word(touch: &Touch) -> &'static str {
    match touch.what() {
        What::Added => "added",
        What::Removed => "removed",
        What::Changed | What::Unspecified => "changed",
    }
}
