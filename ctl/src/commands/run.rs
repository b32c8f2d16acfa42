//! From a command line to its exit code.

use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;

use tandem_proto::Problems;

use super::change::{Mode, Terms, drain, make, move_vip};
use super::task::{Look, Task, Wanted};
use super::{
    backup, certificate, document, edit, history, list, log, members, plan, route, status, transaction, trust,
};
use crate::args::{Args, Common};
use crate::bundle;
use crate::client::Client;
use crate::output::{Error, Reader, Told, tell};

/// Does what the command line says.
pub(crate) async fn run(args: Args) -> ExitCode {
    let Args { common, command } = args;
    let reader = if common.json { Reader::Programs } else { Reader::People };
    let task = Task::of(command);
    if let Some(problems) = misplaced(&task, &common) {
        return tell(reader, Err(Error::Refused { problems, revision: None }));
    }
    let way = match bundle::way(common.nodes.clone(), common.bundle.clone()) {
        Ok(way) => way,
        Err(why) => {
            let mend = "or say that nothing is to be shown: --bundle \"\"";
            let problems = Problems::one("bundle", "", why, mend);
            return tell(reader, Err(Error::Refused { problems, revision: None }));
        }
    };
    let client = Client::new(way.nodes, common.timeout, way.papers);
    let outcome = match task {
        Task::Watch => return status::watch(&client, reader).await,
        Task::Revisions { after } => return history::watch(&client, after, reader).await,
        Task::Look(look) => see(look, &client, reader).await,
        Task::Export { file, revision } => document::export(&client, &file, revision).await,
        Task::Backup(file) => backup::write(&client, &file).await,
        Task::Move(request) => move_vip(&client, request).await,
        Task::Drain(request) => drain(&client, request).await,
        Task::Members(request) => members::set(&client, request).await,
        Task::Token(command) => trust::token(&client, command, terms(common).actor).await,
        Task::Ca(command) => trust::ca(&client, command, terms(common).actor).await,
        Task::Levels(request) => log::levels(&client, &request).await,
        Task::Change(wanted) => change(wanted, &client, common).await,
    };
    tell(reader, outcome)
}

/// Options that would be passed over without a word.
fn misplaced(task: &Task, common: &Common) -> Option<Problems> {
    if matches!(task, Task::Change(_)) {
        return None;
    }
    let said = [
        ("--dry-run", common.dry_run),
        ("--expect-revision", common.expect_revision.is_some()),
        ("--reason", common.reason.is_some()),
    ];
    let mut problems = Problems::default();
    for (option, _) in said.into_iter().filter(|(_, said)| *said) {
        let mend = "leave it out; it goes with changes of the config";
        problems.add(option, "", "says nothing to this command", mend);
    }
    Some(problems).filter(|problems| !problems.is_empty())
}

/// A change of the config, from wherever it is said.
async fn change(wanted: Wanted, client: &Client, common: Common) -> Result<Told, Error> {
    let terms = terms(common);
    let seen_at = |terms: Terms, seen| Terms { expect_revision: terms.expect_revision.or(Some(seen)), ..terms };
    let (change, terms) = match wanted {
        Wanted::Edits(change) => (change, terms),
        Wanted::Apply(file) => (document::read(&file)?, terms),
        Wanted::Restore(file) => (backup::read(&file)?, terms),
        Wanted::PutCertificate { place, name, files } => (certificate::put(client, place, name, files).await?, terms),
        Wanted::SetRoute { name, what, clear } => {
            let seen = client.config().await?;
            (route::set(&seen, &name, *what, &clear)?, seen_at(terms, seen.revision))
        }
        Wanted::Transaction(file) => match transaction::read(client, &file).await? {
            (change, Some(seen)) => (change, seen_at(terms, seen)),
            (change, None) => (change, terms),
        },
        Wanted::Edit => return edit::edit(client, terms).await,
    };
    make(client, change, terms).await
}

async fn see(look: Look, client: &Client, reader: Reader) -> Result<Told, Error> {
    match look {
        Look::Status => status::once(client, reader).await,
        Look::Nodes => members::list(client, reader).await,
        Look::Upstreams => list::upstreams(client).await,
        Look::Backends { upstream } => list::backends(client, upstream.as_deref()).await,
        Look::Routes => route::list(client).await,
        Look::RouteTest(request) => route::test(client, &request).await,
        Look::Listeners => list::listeners(client).await,
        Look::Certificates => certificate::list(client).await,
        Look::Vips => list::vips(client).await,
        Look::Settings => list::settings(client).await,
        Look::Document { revision } => document::show(client, revision).await,
        Look::Check { file } => document::check(&file),
        Look::DiffFile { file } => plan::with_file(client, &file).await,
        Look::DiffRevision { revision } => plan::of_revision(client, revision).await,
        Look::History(request) => history::list(client, request).await,
    }
}

fn terms(common: Common) -> Terms {
    Terms {
        expect_revision: common.expect_revision,
        actor: common.actor.unwrap_or_else(whoami),
        request_id: common.request_id.unwrap_or_else(|| format!("{:032x}", rand::random::<u128>())),
        reason: common.reason.unwrap_or_default(),
        mode: if common.dry_run { Mode::DryRun } else { Mode::Make },
    }
}

/// user@host, as far as the system tells.
fn whoami() -> String {
    let named = |key| std::env::var(key).ok().filter(|name| !name.is_empty());
    let number = || std::fs::metadata("/proc/self").map_or("unknown".to_owned(), |own| format!("uid{}", own.uid()));
    let user = named("USER").or_else(|| named("LOGNAME")).unwrap_or_else(number);
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    match host.as_deref().map(str::trim).filter(|host| !host.is_empty()) {
        Some(host) => format!("{user}@{host}"),
        None => user,
    }
}
