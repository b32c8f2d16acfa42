//! The config as one document: shown, and applied.

use std::io::Read;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tandem_proto::admin::v1::GetConfigReply;
use tandem_proto::config::v1 as pb;
use tandem_proto::config::v1::edit::Edit;
use tandem_proto::{Problems, document, model};

use super::files;
use super::task::Change;
use crate::client::Client;
use crate::output::{Error, Told};

/// `config show`.
pub(super) async fn show(client: &Client, revision: Option<u64>) -> Result<Told, Error> {
    let reply = client.config_of(revision).await?;
    let config = checked(&reply)?;
    let by = if reply.changed_by.is_empty() { String::new() } else { format!(" by {}", plain(&reply.changed_by)) };
    let record = reply.record.clone().unwrap_or_default();
    let why = if record.reason.is_empty() { String::new() } else { format!(": {}", plain(&record.reason)) };
    let head = match reply.changed_at_unix_ms {
        0 => format!("# revision {}\n", reply.revision),
        at => {
            let at = SystemTime::UNIX_EPOCH + Duration::from_millis(at);
            format!("# revision {}, {}{by}{why}\n", reply.revision, humantime::format_rfc3339_seconds(at))
        }
    };
    Ok(Told {
        people: format!("{head}\n{}", document::render(&config)),
        programs: json!({
            "revision": reply.revision,
            "changed_at_unix_ms": reply.changed_at_unix_ms,
            "changed_by": reply.changed_by,
            "source": record.source,
            "reason": record.reason,
            "config": as_json(&config),
        }),
        notes: Vec::new(),
    })
}

/// An actor is any text; a line break in it would end the comment.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The change that makes the config what `file` says.
pub(super) fn read(file: &Path) -> Result<Change, Error> {
    let (name, config) = parsed(file)?;
    let done = format!("config is now that of {name}");
    Ok(Change { edits: vec![Edit::Replace(config)], done, ..Default::default() })
}

/// What `file` is called, and the config it says.
pub(super) fn parsed(file: &Path) -> Result<(String, pb::Config), Error> {
    let (name, text) = text(file, "name a TOML file, or - for stdin")?;
    let config = document::parse(&text).map_err(|problems| Error::Refused { problems, revision: None })?;
    Ok((name, config))
}

/// What `file` is called, and what is in it; `-` is stdin.
pub(super) fn text(file: &Path, mend: &str) -> Result<(String, String), Error> {
    let stdin = file.as_os_str() == "-";
    let read = if stdin {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    let name = if stdin { "stdin".to_owned() } else { file.display().to_string() };
    match read {
        Ok(text) => Ok((name, text)),
        Err(e) => Err(unusable(&name, &format!("cannot be read: {e}"), mend)),
    }
}

/// A file that will not do; nothing was sent.
pub(super) fn unusable(name: &str, why: &str, mend: &str) -> Error {
    Error::Refused { problems: Problems::one(name, "", why, mend), revision: None }
}

/// `config check`.
pub(super) fn check(file: &Path) -> Result<Told, Error> {
    let (name, config) = parsed(file)?;
    let backends: usize = config.upstreams.iter().map(|u| u.backends.len()).sum();
    let counts = [
        ("listener", config.listeners.len()),
        ("route", config.routes.len()),
        ("upstream", config.upstreams.len()),
        ("backend", backends),
        ("vip", config.vips.len()),
        ("certificate", config.certificates.len()),
    ];
    let words: Vec<String> =
        counts.iter().map(|(kind, n)| format!("{n} {kind}{}", if *n == 1 { "" } else { "s" })).collect();
    let counted: Value =
        counts.iter().map(|(kind, n)| (format!("{kind}s"), json!(n))).collect::<serde_json::Map<_, _>>().into();
    Ok(Told {
        people: format!("{name} is valid: {}\n", words.join(", ")),
        programs: json!({"valid": true, "file": name, "holds": counted}),
        notes: Vec::new(),
    })
}

/// `config export`.
pub(super) async fn export(client: &Client, file: &Path, revision: Option<u64>) -> Result<Told, Error> {
    let reply = client.config_of(revision).await?;
    let text = document::render(&checked(&reply)?);
    let (name, revision) = (file.display().to_string(), reply.revision);
    let written = files::replace(file, text.as_bytes());
    written
        .map_err(|e| unusable(&name, &format!("cannot be written: {e}"), "name a file in a directory that is yours"))?;
    Ok(Told {
        people: format!("revision {revision} written to {name}\n"),
        programs: json!({"revision": revision, "file": name}),
        notes: Vec::new(),
    })
}

/// The config as it is meant. A node of a later version may say what this program cannot mean.
pub(super) fn checked(reply: &GetConfigReply) -> Result<model::Config, Error> {
    let given = reply.config.clone().unwrap_or_default();
    model::Config::try_from(&given).map_err(|problems| Error::Refused { problems, revision: Some(reply.revision) })
}

/// The TOML document's shape, in JSON.
pub(super) fn as_json(config: &model::Config) -> Value {
    let document: toml::Table = document::render(config).parse().expect("what render writes is TOML");
    let mut all = serde_json::to_value(document).expect("a table of texts and numbers is JSON");
    for kind in ["listeners", "routes", "upstreams", "vips", "certificates", "settings"] {
        if all.get(kind).is_none() {
            all[kind] = json!({});
        }
    }
    all
}
