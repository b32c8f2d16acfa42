//! From a command line to its exit code.

use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;

use super::change::{Terms, drain, make, move_vip};
use super::task::{Look, Task};
use super::{certificate, document, list, log, route, status};
use crate::args::{Args, Common};
use crate::client::Client;
use crate::output::{Error, Reader, Told, tell};

/// Does what the command line says.
pub(crate) async fn run(args: Args) -> ExitCode {
    let Args { common, command } = args;
    let reader = if common.json { Reader::Programs } else { Reader::People };
    let client = Client::new(common.nodes.clone(), common.timeout);
    let outcome = match Task::of(command) {
        Task::Watch => return status::watch(&client, reader).await,
        Task::Look(look) => see(look, &client).await,
        Task::Change(change) => make(&client, change, terms(common)).await,
        Task::Apply(file) => match document::read(&file) {
            Ok(change) => make(&client, change, terms(common)).await,
            Err(refused) => Err(refused),
        },
        Task::PutCertificate { place, name, files } => match certificate::put(&client, place, name, files).await {
            Ok(change) => make(&client, change, terms(common)).await,
            Err(refused) => Err(refused),
        },
        Task::SetRoute { name, what, clear } => match route::set(&client, &name, *what, &clear).await {
            Ok((change, seen)) => {
                let terms = terms(common);
                let expect_revision = terms.expect_revision.or(Some(seen));
                make(&client, change, Terms { expect_revision, ..terms }).await
            }
            Err(refused) => Err(refused),
        },
        Task::Move(request) => move_vip(&client, request).await,
        Task::Drain(request) => drain(&client, request).await,
        Task::Levels(request) => log::levels(&client, &request).await,
    };
    tell(reader, outcome)
}

async fn see(look: Look, client: &Client) -> Result<Told, Error> {
    match look {
        Look::Status => status::once(client).await,
        Look::Upstreams => list::upstreams(client).await,
        Look::Backends { upstream } => list::backends(client, upstream.as_deref()).await,
        Look::Routes => route::list(client).await,
        Look::RouteTest(request) => route::test(client, &request).await,
        Look::Listeners => list::listeners(client).await,
        Look::Certificates => certificate::list(client).await,
        Look::Vips => list::vips(client).await,
        Look::Settings => list::settings(client).await,
        Look::Document => document::show(client).await,
    }
}

fn terms(common: Common) -> Terms {
    Terms {
        expect_revision: common.expect_revision,
        actor: common.actor.unwrap_or_else(whoami),
        request_id: common.request_id.unwrap_or_else(|| format!("{:032x}", rand::random::<u128>())),
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
