//! The config as one document: shown, and applied.

use std::io::Read;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use tandem_proto::admin::v1::GetConfigReply;
use tandem_proto::config::v1::edit::Edit;
use tandem_proto::{Problems, document, model};

use super::task::Change;
use crate::client::Client;
use crate::output::{Error, Told};

/// `config show`.
pub(super) async fn show(client: &Client) -> Result<Told, Error> {
    let reply = client.config().await?;
    let config = checked(&reply)?;
    let by = if reply.changed_by.is_empty() { String::new() } else { format!(" by {}", plain(&reply.changed_by)) };
    let head = match reply.changed_at_unix_ms {
        0 => format!("# revision {}\n", reply.revision),
        at => {
            let at = SystemTime::UNIX_EPOCH + Duration::from_millis(at);
            format!("# revision {}, {}{by}\n", reply.revision, humantime::format_rfc3339_seconds(at))
        }
    };
    Ok(Told {
        people: format!("{head}\n{}", document::render(&config)),
        programs: json!({
            "revision": reply.revision,
            "changed_at_unix_ms": reply.changed_at_unix_ms,
            "changed_by": reply.changed_by,
            "config": as_json(&config),
        }),
        notes: Vec::new(),
    })
}

/// An actor is any text; a line break in it would end the comment.
fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The change that makes the config what `file` says.
pub(super) fn read(file: &Path) -> Result<Change, Error> {
    let refused = |problems| Error::Refused { problems, revision: None };
    let stdin = file.as_os_str() == "-";
    let read = if stdin {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    let name = if stdin { "stdin".to_owned() } else { file.display().to_string() };
    let text = read.map_err(|e| {
        refused(Problems::one(&name, "", format!("cannot be read: {e}"), "name a TOML file, or - for stdin"))
    })?;
    let config = document::parse(&text).map_err(refused)?;
    Ok(Change { edits: vec![Edit::Replace(config)], done: format!("config is now that of {name}") })
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
