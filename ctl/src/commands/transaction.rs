//! Many changes from a file, as one.

use std::path::Path;

use clap::Parser;
use tandem_proto::Problems;
use tandem_proto::admin::v1::GetConfigReply;
use tandem_proto::config::v1 as pb;
use tandem_proto::config::v1::edit::Edit;

use super::document::{checked, text, unusable};
use super::task::{Change, Task, Wanted};
use super::{certificate, route};
use crate::args::Line;
use crate::client::Client;
use crate::output::Error;

/// All changes of `file` as one, and the revision they were made for, if they were made for one.
pub(super) async fn read(client: &Client, file: &Path) -> Result<(Change, Option<u64>), Error> {
    let (name, text) = text(file, "name a file of changes, or - for stdin")?;
    let wanted = lines(&name, &text).map_err(|problems| Error::Refused { problems, revision: None })?;
    if wanted.is_empty() {
        return Err(unusable(&name, "has no change in it", "write one a line, like: backend add chat 10.0.0.11:9000"));
    }
    let count = wanted.len();
    let (mut edits, mut seen): (Vec<Edit>, Option<GetConfigReply>) = (Vec::new(), None);
    for wanted in wanted {
        match wanted {
            Wanted::Edits(change) => edits.extend(change.edits),
            Wanted::PutCertificate { place, name, files } => {
                edits.extend(certificate::put(client, place, name, files).await?.edits);
            }
            Wanted::SetRoute { name, what, clear } => {
                if seen.is_none() {
                    seen = Some(client.config().await?);
                }
                let as_then = after(seen.as_ref().unwrap_or(&GetConfigReply::default()), &edits)?;
                edits.extend(route::set(&as_then, &name, *what, &clear)?.edits);
            }
            // `lines` lets none of these through.
            Wanted::Apply(_) | Wanted::Restore(_) | Wanted::Transaction(_) | Wanted::Edit => {}
        }
    }
    let done = format!("{count} {} made as one", if count == 1 { "change" } else { "changes" });
    Ok((Change { edits, done, ..Default::default() }, seen.map(|seen| seen.revision)))
}

/// The config as it is once the edits before a line are made.
fn after(seen: &GetConfigReply, edits: &[Edit]) -> Result<GetConfigReply, Error> {
    let edits: Vec<pb::Edit> = edits.iter().map(|edit| pb::Edit { edit: Some(edit.clone()) }).collect();
    let config = checked(seen)?.edited(&edits);
    let config = config.map_err(|problems| Error::Refused { problems, revision: Some(seen.revision) })?;
    Ok(GetConfigReply { config: Some((&config).into()), ..seen.clone() })
}

/// What each line asks for, or what is wrong with every line that is.
fn lines(name: &str, text: &str) -> Result<Vec<Wanted>, Problems> {
    let (mut all, mut problems) = (Vec::new(), Problems::default());
    for (n, line) in (1..).zip(text.lines()) {
        let mut wrong = |why: String, mend: &str| problems.add(format!("{name}:{n}"), line, why, mend);
        let Some(words) = shlex::split(line) else {
            wrong("has a quote that does not end".to_owned(), "end it");
            continue;
        };
        if words.is_empty() {
            continue;
        }
        match Line::try_parse_from(words).map(|line| Task::of(line.command)) {
            Ok(Task::Change(Wanted::Edits(change))) if change.rollback_to.is_none() => all.push(Wanted::Edits(change)),
            Ok(Task::Change(wanted @ (Wanted::SetRoute { .. } | Wanted::PutCertificate { .. }))) => all.push(wanted),
            Ok(_) => wrong("is no change of single things".to_owned(), "take it out of the transaction"),
            Err(e) => wrong(first_line(&e), "see: tandemctl --help"),
        }
    }
    problems.into_result().map(|()| all)
}

fn first_line(e: &clap::Error) -> String {
    let text = e.to_string();
    let line = text.lines().next().unwrap_or_default();
    format!("is not understood: {}", line.strip_prefix("error: ").unwrap_or(line))
}
