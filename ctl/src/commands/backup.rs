//! All of a cluster's config and history in one file: written, and read for another cluster.
//!
//! A line for people (`head -1` shows it), then a [`pb::Backup`] as bytes, which the line's CRC32C vouches for.

use std::path::Path;
use std::time::{Duration, SystemTime};

use prost::Message;
use serde_json::json;
use tandem_proto::config::v1 as pb;

use super::document::{plain, unusable};
use super::files;
use super::task::Change;
use crate::client::Client;
use crate::output::{Error, Told};

/// How the line begins. Another layout gets another number.
const MAGIC: &str = "tandem-backup 1 ";

const KEYS: &str = "keys of certificates are sealed in it: keep the file of [secrets] too, they open with nothing else";

/// `backup`.
pub(super) async fn write(client: &Client, file: &Path) -> Result<Told, Error> {
    let backup = client.backup().await?;
    let bytes = packed(&backup);
    let name = file.display().to_string();
    files::create(file, &bytes).map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => unusable(&name, "is there already", "choose another name"),
        _ => unusable(&name, &format!("cannot be written: {e}"), "name a file in a directory that is yours"),
    })?;
    let certificates = backup.config.as_ref().map_or(0, |config| config.certificates.len());
    let revision = backup.revision;
    Ok(Told {
        people: format!(
            "cluster {} at revision {revision} written to {name} ({} bytes)\n",
            plain(&backup.cluster),
            bytes.len()
        ),
        programs: json!({"cluster": backup.cluster, "revision": revision, "file": name, "bytes": bytes.len()}),
        notes: (certificates > 0).then(|| KEYS.to_owned()).into_iter().collect(),
    })
}

fn when(backup: &pb::Backup) -> String {
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(backup.made_at_unix_ms);
    humantime::format_rfc3339_seconds(at).to_string()
}

fn packed(backup: &pb::Backup) -> Vec<u8> {
    let body = backup.encode_to_vec();
    let (cluster, revision, made) = (plain(&backup.cluster), backup.revision, when(backup));
    let head =
        format!("{MAGIC}crc32c={:08x} cluster={cluster} revision={revision} made={made}\n", crc32c::crc32c(&body));
    [head.into_bytes(), body].concat()
}

/// The change that makes a cluster what `file` says.
pub(super) fn read(file: &Path) -> Result<Change, Error> {
    let name = file.display().to_string();
    let bytes = std::fs::read(file)
        .map_err(|e| unusable(&name, &format!("cannot be read: {e}"), "name a file that tandemctl backup wrote"))?;
    let backup = unpacked(&bytes).map_err(|(why, mend)| unusable(&name, why, mend))?;
    let done =
        format!("restored cluster {} as of revision {}, {}", plain(&backup.cluster), backup.revision, when(&backup));
    Ok(Change { restore: Some(Box::new(backup)), done, ..Default::default() })
}

fn unpacked(bytes: &[u8]) -> Result<pb::Backup, (&'static str, &'static str)> {
    const OTHER: &str = "take another backup";
    let end = bytes.iter().take(1024).position(|b| *b == b'\n');
    let head = end.and_then(|end| std::str::from_utf8(&bytes[..end]).ok()).unwrap_or_default();
    let Some(rest) = head.strip_prefix(MAGIC) else {
        return Err(match head.starts_with("tandem-backup ") {
            true => ("is a backup of a newer kind", "use the tandemctl that wrote it"),
            false => ("is no backup", "name a file that tandemctl backup wrote"),
        });
    };
    let crc = rest.strip_prefix("crc32c=").and_then(|rest| u32::from_str_radix(rest.split(' ').next()?, 16).ok());
    let body = &bytes[head.len() + 1..];
    if crc != Some(crc32c::crc32c(body)) {
        return Err(("is damaged: its checksum does not hold", OTHER));
    }
    pb::Backup::decode(body).map_err(|_| ("makes no sense, though its checksum holds", OTHER))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_comes_back_and_no_flipped_or_missing_byte_passes() {
        let backup = pb::Backup {
            cluster: "chat".into(),
            revision: 42,
            made_at_unix_ms: 1_790_000_000_000,
            ..Default::default()
        };
        let bytes = packed(&backup);
        assert!(bytes.starts_with(b"tandem-backup 1 crc32c="));
        assert_eq!(unpacked(&bytes).unwrap(), backup);
        let body = bytes.iter().position(|b| *b == b'\n').unwrap() + 1;
        for at in body..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert_eq!(unpacked(&bad).unwrap_err().0, "is damaged: its checksum does not hold");
            assert!(unpacked(&bytes[..at]).is_err());
        }
        assert_eq!(unpacked(b"").unwrap_err().0, "is no backup");
        assert_eq!(unpacked(b"tandem-backup 2 x\n").unwrap_err().0, "is a backup of a newer kind");
    }
}
