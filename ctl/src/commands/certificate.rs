//! Certificates: sealed and put, listed.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tandem_proto::Problems;
use tandem_proto::admin::v1::{ReportRequest, SealRequest, StatusReply};
use tandem_proto::config::v1 as pb;
use tandem_proto::config::v1::edit::Edit;
use tandem_proto::model::Certificate;

use super::document::checked;
use super::task::Change;
use super::view::reports;
use super::words::or_dash;
use crate::args::Files;
use crate::client::Client;
use crate::output::{Error, Told, table};

/// Whether there is a certificate of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// There must be none.
    New,
    /// There must be one.
    Taken,
}

/// The change that puts a certificate there, its key sealed by a node.
pub(super) async fn put(client: &Client, place: Place, name: String, files: Files) -> Result<Change, Error> {
    let refused = |problems| Error::Refused { problems, revision: None };
    let Files { chain: chain_pem, key } = files;
    let key_pem = read(&key).map_err(refused)?;
    let request = SealRequest { name: name.clone(), chain_pem: chain_pem.clone(), key_pem };
    let sealed = client.seal(&request).await?;
    if !sealed.problems.is_empty() {
        return Err(refused(sealed.problems.into()));
    }
    let certificate = pb::Certificate { name: name.clone(), chain_pem, sealed_key: sealed.sealed_key };
    let (edit, done) = match place {
        Place::New => (Edit::AddCertificate(certificate), format!("certificate {name} added")),
        Place::Taken => (Edit::SetCertificate(certificate), format!("certificate {name} set; new handshakes use it")),
    };
    Ok(Change { edits: vec![edit], done, ..Default::default() })
}

fn read(key: &Path) -> Result<String, Problems> {
    std::fs::read_to_string(key).map_err(|e| {
        let mend = "name the PEM file of the certificate's private key";
        Problems::one(key.display().to_string(), "", format!("cannot be read: {e}"), mend)
    })
}

/// `certificate ls`.
pub(super) async fn list(client: &Client) -> Result<Told, Error> {
    let (reply, status) = client.config_and_status(&ReportRequest::brief()).await?;
    let config = checked(&reply)?;
    let now = now_s();
    let (mut rows, mut all) = (Vec::new(), Vec::new());
    for (name, certificate) in &config.certificates {
        let users = config.certificate_users(name.as_str());
        let closed = closed(&status, name.as_str());
        let names = certificate.names().join(", ");
        let keys: Vec<String> = closed.iter().map(|(node, why)| format!("CLOSED on {node}: {why}")).collect();
        rows.push(vec![
            name.to_string(),
            or_dash(names),
            expires(certificate, now),
            or_dash(users.join(", ")),
            if keys.is_empty() { "opens".to_owned() } else { keys.join("; ") },
        ]);
        let closed: Vec<Value> = closed.iter().map(|(node, why)| json!({"node": node, "error": why})).collect();
        all.push(json!({
            "name": name.as_str(),
            "names": certificate.names(),
            "not_before_unix_s": certificate.not_before(),
            "not_after_unix_s": certificate.not_after(),
            "used_by": users,
            "closed": closed,
        }));
    }
    let people = table(&["CERTIFICATE", "FOR", "EXPIRES", "USED BY", "KEY"], rows);
    let programs = json!({"revision": reply.revision, "certificates": all});
    Ok(Told { people, programs, notes: Vec::new() })
}

/// The nodes that cannot open its key, and why.
fn closed(status: &StatusReply, certificate: &str) -> Vec<(String, String)> {
    let all = reports(status).filter_map(|(node, r)| {
        let found = r.certificates.iter().find(|c| c.name == certificate && !c.error.is_empty())?;
        Some((node, found.error.clone()))
    });
    all.collect()
}

fn expires(certificate: &Certificate, now_s: i64) -> String {
    let end = Duration::from_secs(u64::try_from(certificate.not_after()).unwrap_or(0));
    let date = humantime::format_rfc3339_seconds(UNIX_EPOCH + end).to_string();
    let date = date.split('T').next().unwrap_or_default();
    match (certificate.not_after() - now_s).div_euclid(24 * 60 * 60) {
        ..0 => format!("EXPIRED {date}"),
        0 => format!("within a day, {date}"),
        1 => format!("in 1 day, {date}"),
        days => format!("in {days} days, {date}"),
    }
}

/// What the day is, for people to read.
#[allow(clippy::disallowed_methods)]
fn now_s() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}
