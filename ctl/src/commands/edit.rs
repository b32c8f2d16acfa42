//! `config edit`: the config in the operator's own editor, and back.

use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

use serde_json::json;
use tandem_proto::config::v1::edit::Edit;
use tandem_proto::{document, model};
use tempfile::NamedTempFile;

use super::change::{Mode, Terms, make};
use super::document::{checked, unusable};
use super::task::Change;
use super::{plan, tree};
use crate::client::Client;
use crate::output::{Error, Ink, Told};

/// What we say to whoever edits; taken out before the text is read.
const SAID: &str = "#! ";

/// Lets the operator edit until it can be applied, or nothing more is changed.
pub(super) async fn edit(client: &Client, terms: Terms) -> Result<Told, Error> {
    let reply = client.config().await?;
    let before = checked(&reply)?;
    let original = document::render(&before);
    let help = format!("revision {}; what is saved is applied, what is left as it is changes nothing", reply.revision);
    let mut file = temporary(&[help], &original)?;
    let mut last = original.clone();
    let (config, text) = loop {
        run_editor(file.path())?;
        let text = unsaid(&std::fs::read_to_string(file.path()).map_err(lost)?);
        if text == original {
            let people = "nothing changed\n".to_owned();
            return Ok(Told {
                people,
                programs: json!({"revision": reply.revision, "changes": []}),
                notes: Vec::new(),
            });
        }
        match document::parse(&text) {
            Ok(config) => break (config, text),
            // Closed without another word: it is given up.
            Err(problems) if text == last => {
                let kept = keep(file)?;
                let revision = None;
                let mut problems = problems;
                problems.add(
                    "text",
                    "",
                    format!("is kept in {kept}"),
                    format!("mend it, then: tandemctl config apply {kept}"),
                );
                return Err(Error::Refused { problems, revision });
            }
            Err(problems) => {
                let told: Vec<String> = ["not applied:".to_owned()]
                    .into_iter()
                    .chain(problems.to_string().lines().map(str::to_owned))
                    .collect();
                file = temporary(&told, &text)?;
                last = text;
            }
        }
    };
    let after = model::Config::try_from(&config).map_err(|problems| Error::Refused { problems, revision: None })?;
    let steps = plan::steps(&before, &after);
    let change =
        Change { edits: vec![Edit::Replace(config)], done: "config is as edited".to_owned(), ..Default::default() };
    let mode = terms.mode;
    // What someone else has changed meanwhile would be undone.
    let terms = Terms { expect_revision: terms.expect_revision.or(Some(reply.revision)), ..terms };
    match make(client, change, terms).await {
        Ok(told) if mode == Mode::DryRun => Ok(told),
        Ok(told) => Ok(Told { people: tree::people(&steps, Ink::of_stdout()) + &told.people, ..told }),
        Err(e) => {
            let kept = keep(temporary(&[], &text)?)?;
            eprintln!("what was edited is kept in {kept}");
            Err(e)
        }
    }
}

fn lost(e: io::Error) -> Error {
    unusable("editor", &format!("its file cannot be used: {e}"), "see that the directory for temporary files has room")
}

/// A file for the editor, readable by its owner alone.
fn temporary(said: &[String], text: &str) -> Result<NamedTempFile, Error> {
    let made = || -> io::Result<NamedTempFile> {
        let mut file = tempfile::Builder::new().prefix("tandem-").suffix(".toml").tempfile()?;
        for line in said {
            writeln!(file, "{SAID}{line}")?;
        }
        file.write_all(text.as_bytes())?;
        file.flush()?;
        Ok(file)
    };
    made().map_err(lost)
}

fn keep(file: NamedTempFile) -> Result<String, Error> {
    file.keep().map(|(_, path)| path.display().to_string()).map_err(|e| lost(e.error))
}

fn unsaid(text: &str) -> String {
    text.split_inclusive('\n').filter(|line| !line.starts_with(SAID)).collect()
}

/// Runs $VISUAL or $EDITOR, which may have arguments of its own.
fn run_editor(file: &Path) -> Result<(), Error> {
    let named = |key| std::env::var(key).ok().filter(|name| !name.trim().is_empty());
    let editor = named("VISUAL").or_else(|| named("EDITOR")).unwrap_or_else(|| "vi".to_owned());
    let ran = Command::new("sh").arg("-c").arg(format!("{editor} \"$1\"")).arg("sh").arg(file).status();
    match ran {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            Err(unusable("editor", &format!("{editor:?} ended with {status}"), "set EDITOR to one that works here"))
        }
        Err(e) => Err(unusable("editor", &format!("{editor:?} cannot be run: {e}"), "set EDITOR to one that is here")),
    }
}
