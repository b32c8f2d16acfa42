//! Snapshots as files: the newest three, each complete in itself, with the hash of its bytes in its name.
//!
//! `sha256sum` of a file says what its name must end with. A file gets its name after its bytes are safe, so one that has
//! the name is whole, or was damaged since.

use std::io;

use aws_lc_rs::digest;
use prost::Message;
use tandem_proto::raft::v1 as pb;

use super::FORMAT;
use crate::control::disk::{Disk, File};

/// How many are kept.
const KEPT: usize = 3;
const PREFIX: &str = "snapshot-";
const UNDER_WAY: &str = "snapshot.tmp";

/// The name of a file with these bytes, which ends at this log index. Names sort by index.
fn name_of(index: u64, bytes: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, bytes);
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{PREFIX}{index:020}-{hex}")
}

fn index_in(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok()
}

/// Writes one; when this returns it is safe, under the name returned.
pub(super) fn put(disk: &impl Disk, file: &pb::SnapshotFile) -> io::Result<String> {
    let bytes = file.encode_to_vec();
    let index = file.meta.as_ref().and_then(|m| m.last.as_ref()).map_or(0, |last| last.index);
    let name = name_of(index, &bytes);
    let under_way = disk.open(UNDER_WAY)?;
    under_way.set_len(0)?;
    under_way.write(0, &bytes)?;
    under_way.sync()?;
    disk.rename(UNDER_WAY, &name)?;
    disk.sync_names()?;
    Ok(name)
}

/// Reads one that must be there.
pub(super) fn get(disk: &impl Disk, name: &str) -> Result<pb::SnapshotFile, String> {
    let bytes = disk.read(name).map_err(|e| format!("{name}: {e}"))?;
    if index_in(name).is_none_or(|index| name_of(index, &bytes) != name) {
        return Err(format!("{name}: its bytes have another hash than its name says"));
    }
    let file = pb::SnapshotFile::decode(bytes.as_slice()).map_err(|e| format!("{name}: {e}"))?;
    if file.format > FORMAT {
        return Err(format!("{name} has format {}, this tandemd knows {FORMAT}", file.format));
    }
    Ok(file)
}

/// The names of all, newest first.
pub(super) fn names(disk: &impl Disk) -> io::Result<Vec<String>> {
    let mut names: Vec<String> = disk.names()?.into_iter().filter(|name| index_in(name).is_some()).collect();
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}

/// The newest one that is whole.
pub(super) fn newest_good(disk: &impl Disk) -> Option<pb::SnapshotFile> {
    names(disk).ok()?.iter().find_map(|name| get(disk, name).ok())
}

/// Removes what is newer than `current` (it was never recorded), what is too old, and what was under way.
pub(super) fn prune(disk: &impl Disk, current: Option<&str>) -> io::Result<()> {
    let newest = current.and_then(index_in);
    let mut kept = 0;
    for name in names(disk)? {
        let recorded = current == Some(name.as_str()) || index_in(&name) < newest;
        if recorded && kept < KEPT {
            kept += 1;
        } else {
            disk.remove(&name)?;
        }
    }
    if disk.names()?.iter().any(|name| name == UNDER_WAY) {
        disk.remove(UNDER_WAY)?;
    }
    Ok(())
}
