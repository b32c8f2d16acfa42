//! Who changed what, when, from where and why: looked up, and told as it comes.

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tandem_proto::admin::v1::HistoryRequest;
use tandem_proto::config::v1::Record;
use tokio::time::sleep;
use tonic::Code;

use super::document::plain;
use super::tree;
use super::words::or_dash;
use crate::client::Client;
use crate::output::{Error, Reader, Told, table, tell};

/// From a broken watch to the next try.
const PAUSE: Duration = Duration::from_millis(200);

/// Asks for the one revision before `revision`.
pub(super) fn before(revision: u64) -> HistoryRequest {
    HistoryRequest { before: revision, limit: 1 }
}

/// `config history`.
pub(super) async fn list(client: &Client, request: HistoryRequest) -> Result<Told, Error> {
    let reply = client.history(request).await?;
    let heads = ["REVISION", "WHEN", "WHO", "FROM", "WHAT", "WHY"];
    let rows = reply.records.iter().map(|r| {
        let source = or_dash(plain(&r.source));
        vec![r.revision.to_string(), when(r), who(r), source, what(r), or_dash(plain(&r.reason))]
    });
    let people =
        if reply.records.is_empty() { "nothing was changed yet\n".to_owned() } else { table(&heads, rows.collect()) };
    let oldest = reply.oldest_config;
    let cut = reply.records.last().is_some_and(|r| r.revision < oldest);
    let note = format!("configs are kept from revision {oldest} on; of older ones only these lines");
    Ok(Told {
        people,
        programs: json!({"revisions": reply.records.iter().map(programs).collect::<Value>(), "oldest_config": oldest}),
        notes: cut.then_some(note).into_iter().collect(),
    })
}

fn when(r: &Record) -> String {
    match r.at_unix_ms {
        0 => "-".to_owned(),
        at => humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_millis(at)).to_string(),
    }
}

fn who(r: &Record) -> String {
    match (plain(&r.actor), r.actor_proven) {
        (actor, _) if actor.is_empty() => "unknown".to_owned(),
        (actor, true) => actor,
        (actor, false) => format!("{actor}, unproven"),
    }
}

fn what(r: &Record) -> String {
    let brief = tree::brief(&r.touched, r.touched_more);
    match (r.rollback_to, r.restored_from.as_str()) {
        (Some(to), _) => format!("back to {to}: {brief}"),
        (None, "") => brief,
        (None, cluster) => format!("restored from {}", plain(cluster)),
    }
}

fn programs(r: &Record) -> Value {
    let touched: Vec<Value> = r.touched.iter().map(|t| json!({"path": t.path, "what": tree::word(t)})).collect();
    json!({
        "revision": r.revision,
        "at_unix_ms": r.at_unix_ms,
        "actor": r.actor,
        "actor_proven": r.actor_proven,
        "source": r.source,
        "reason": r.reason,
        "request_id": r.request_id,
        "touched": touched,
        "touched_more": r.touched_more,
        "rollback_to": r.rollback_to,
        "restored_from": if r.restored_from.is_empty() { None } else { Some(&r.restored_from) },
    })
}

/// `config watch`: until the reader goes away, or no node answers. One that ends is no end: another goes on after it.
pub(super) async fn watch(client: &Client, after: Option<u64>, reader: Reader) -> ExitCode {
    let mut last = match after {
        Some(after) => after,
        // What is made while we look for another node shall not be missed: so we must know where we began.
        None => match client.config().await {
            Ok(reply) => reply.revision,
            Err(e) => return tell(reader, Err(e.into())),
        },
    };
    loop {
        let mut stream = match client.watch(Some(last)).await {
            Ok(stream) => stream,
            Err(e) => return tell(reader, Err(e.into())),
        };
        let broken = loop {
            match stream.message().await {
                Ok(Some(record)) => {
                    last = record.revision;
                    if say(&record, reader).is_err() {
                        return ExitCode::SUCCESS;
                    }
                }
                Ok(None) => break None,
                Err(status) => break Some(status),
            }
        };
        if let Some(forgotten) = broken.filter(|s| s.code() == Code::OutOfRange) {
            let why = format!("{}; begin anew: tandemctl config watch", forgotten.message());
            return tell(reader, Err(Error::Denied { node: "the node watched".to_owned(), why }));
        }
        sleep(PAUSE).await;
    }
}

fn say(r: &Record, reader: Reader) -> std::io::Result<()> {
    let line = match reader {
        Reader::Programs => programs(r).to_string(),
        Reader::People => {
            let from = if r.source.is_empty() { String::new() } else { format!(" from {}", plain(&r.source)) };
            let why = if r.reason.is_empty() { String::new() } else { format!(" ({})", plain(&r.reason)) };
            format!("{}  {}  {}{from}: {}{why}", r.revision, when(r), who(r), what(r))
        }
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}
