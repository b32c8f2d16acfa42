//! How an answer leaves: data on stdout, talk on stderr, the outcome as exit code.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde_json::{Value, json};
use tandem_proto::Problems;

use crate::client;

/// Done.
const DONE: u8 = 0;
/// Refused: nothing was changed.
pub(crate) const REFUSED: u8 = 1;
/// No answer in time.
const UNREACHABLE: u8 = 2;

/// What a command found out, for both kinds of reader.
#[derive(Debug)]
pub(crate) struct Told {
    /// For people, on stdout.
    pub(crate) people: String,
    /// For programs, on stdout with `--json`.
    pub(crate) programs: Value,
    /// For people, on stderr.
    pub(crate) notes: Vec<String>,
}

/// Why a command came to nothing.
#[derive(Debug)]
pub(crate) enum Error {
    /// Nothing was changed. The revision is absent when no node was asked.
    Refused { problems: Problems, revision: Option<u64> },
    /// A node said no, in words of its own.
    Denied { node: String, why: String },
    /// Nobody could answer in time.
    Unreachable { nobody: client::Unreachable, doubt: Doubt },
}

/// What may have happened although no answer came.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Doubt {
    /// Nothing: it was a question, or it was never sent.
    Nothing,
    /// The change with this request id.
    Change(String),
    /// The move.
    Move,
    /// Something that this command shows.
    SeenBy(&'static str),
}

impl Error {
    /// What the client says; `doubt` counts only if a request went out whose answer never came.
    pub(crate) fn of(error: client::Error, doubt: Doubt) -> Self {
        match error {
            client::Error::Denied { node, why } => Self::Denied { node, why },
            client::Error::Unreachable(nobody) => {
                let doubt = if nobody.unsure { doubt } else { Doubt::Nothing };
                Self::Unreachable { nobody, doubt }
            }
        }
    }
}

impl From<client::Error> for Error {
    fn from(error: client::Error) -> Self {
        Self::of(error, Doubt::Nothing)
    }
}

/// Who reads stdout.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Reader {
    People,
    Programs,
}

/// Tells it, and says with which code to leave.
pub(crate) fn tell(reader: Reader, outcome: Result<Told, Error>) -> ExitCode {
    let (out, talk, code) = match outcome {
        Ok(told) if reader == Reader::Programs => (line(&told.programs), String::new(), DONE),
        Ok(told) => {
            let talk: String = told.notes.iter().map(|note| format!("note: {note}\n")).collect();
            (told.people, talk, DONE)
        }
        Err(error) if reader == Reader::Programs => {
            let (value, code) = failure(&error);
            (line(&value), String::new(), code)
        }
        Err(error) => (String::new(), complaint(&error), failure(&error).1),
    };
    // Whoever closed the pipe has read enough.
    let _ = std::io::stdout().lock().write_all(out.as_bytes());
    let _ = std::io::stdout().lock().flush();
    let _ = std::io::stderr().lock().write_all(talk.as_bytes());
    ExitCode::from(code)
}

/// The same in one text, for a person who watches.
pub(crate) fn words(outcome: Result<Told, Error>) -> String {
    match outcome {
        Ok(told) => told.people + &told.notes.iter().map(|note| format!("note: {note}\n")).collect::<String>(),
        Err(error) => complaint(&error),
    }
}

fn line(value: &Value) -> String {
    format!("{value}\n")
}

/// A failure for programs, and its exit code.
fn failure(error: &Error) -> (Value, u8) {
    match error {
        Error::Refused { problems, revision } => {
            let all: Vec<Value> = problems
                .clone()
                .into_vec()
                .iter()
                .map(|p| json!({"path": p.path, "value": p.value, "why": p.why, "mend": p.mend}))
                .collect();
            (json!({"refused": all, "revision": revision}), REFUSED)
        }
        Error::Denied { node, why } => {
            let all = [json!({"path": "", "value": "", "why": why, "mend": ""})];
            (json!({"refused": all, "revision": null, "node": node}), REFUSED)
        }
        Error::Unreachable { nobody, doubt } => {
            let tried: Vec<Value> = nobody.tried.iter().map(|(node, why)| json!({"node": node, "why": why})).collect();
            let id = if let Doubt::Change(id) = doubt { Some(id) } else { None };
            (json!({"unreachable": tried, "maybe_done": *doubt != Doubt::Nothing, "request_id": id}), UNREACHABLE)
        }
    }
}

/// A failure for people.
fn complaint(error: &Error) -> String {
    match error {
        Error::Refused { problems, revision } => {
            let head = match revision {
                Some(revision) => format!("refused, nothing was changed (revision {revision}):"),
                None => "refused, nothing was sent:".to_owned(),
            };
            let all: String = problems.to_string().lines().map(|problem| format!("\n  {problem}")).collect();
            format!("{head}{all}\n")
        }
        Error::Denied { node, why } => format!("refused by {node}: {why}\n"),
        Error::Unreachable { nobody, doubt } => match doubt {
            Doubt::Nothing => format!("{nobody}\n"),
            Doubt::Change(id) => format!(
                "{nobody}\nThe change may have been made all the same. Send it again with --request-id {id}: it applies once\n"
            ),
            Doubt::SeenBy(look) => format!("{nobody}\nThe change may have been made all the same: see {look}\n"),
            Doubt::Move => format!("{nobody}\nThe move may have been made all the same: see tandemctl vip ls\n"),
        },
    }
}

/// Columns under headings, two blanks apart, nothing drawn.
pub(crate) fn table(heads: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(heads.iter().copied());
    table.add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let lines: Vec<String> = table.lines().map(|l| l.trim_end().to_owned()).collect();
    lines.join("\n") + "\n"
}

/// How loud a word is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Tone {
    Good,
    Odd,
    Bad,
}

/// Colours words, if somebody sees them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ink(bool);

impl Ink {
    /// Colour only on a terminal whose owner has nothing against it (<https://no-color.org>).
    pub(crate) fn of_stdout() -> Self {
        Self(std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()))
    }

    /// The words alone.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self(false)
    }

    pub(crate) fn say(self, tone: Tone, words: &str) -> String {
        let code = match tone {
            Tone::Good => "32",
            Tone::Odd => "33",
            Tone::Bad => "1;31",
        };
        if self.0 { format!("\x1b[{code}m{words}\x1b[0m") } else { words.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_nothing_trails() {
        let text =
            table(&["NAME", "UP"], vec![vec!["chat".into(), "3/3".into()], vec!["a-long-one".into(), String::new()]]);
        assert_eq!(text, "NAME        UP\nchat        3/3\na-long-one\n");
    }
}
