//! The records of the store in redb's file, each with a CRC32C of its key and value.
//!
//! A trial flipped bytes in a closed file and redb read them back silently: so nothing is believed that does not check.

use std::collections::BTreeMap;
use std::io;

use prost::Message;
use redb::{Database, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use tandem_proto::raft::v1 as pb;

use super::{COMMITTED, FORMAT, IDENTITY, Kept, PURGED, VOTE};
use crate::control::disk::File;
use crate::control::raft::Entry;
use crate::control::wire;

pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
pub(super) const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");

/// Version of the layout.
pub(super) const FORMAT_KEY: &str = "format";
/// How many transactions there were: the mark must not be ahead of it.
pub(super) const SEQUENCE: &str = "sequence";
/// Name of the newest snapshot's file.
pub(super) const SNAPSHOT: &str = "snapshot";
/// In format 1 the newest snapshot was two records.
pub(super) const OLD_HEAD: &str = "snapshot_head";
pub(super) const OLD_DATA: &str = "snapshot_data";

/// Why the records cannot be used.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The disk said no.
    Disk(io::Error),
    /// What was read is not what was written.
    Damaged(String),
    /// Written by a newer tandemd.
    Newer(u32),
    /// Whole, and more than this tandemd knows how to apply; says who must act.
    Beyond(String),
}

impl From<redb::Error> for Trouble {
    fn from(e: redb::Error) -> Self {
        match e {
            // redb speaks of what it read in the same words; only the system's errors have a number.
            redb::Error::Io(e) if e.raw_os_error().is_some() => Self::Disk(e),
            other => Self::Damaged(other.to_string()),
        }
    }
}

fn broken(e: impl Into<redb::Error>) -> Trouble {
    Trouble::from(e.into())
}

/// What the records say.
#[derive(Default)]
pub(super) struct Records {
    /// `None`: nothing was written yet.
    pub(super) format: Option<u32>,
    pub(super) sequence: u64,
    /// All but the snapshot.
    pub(super) kept: Kept,
    /// Name of the snapshot's file.
    pub(super) snapshot: Option<String>,
    /// The snapshot of a store of format 1.
    pub(super) old_snapshot: Option<(pb::SnapshotMeta, Vec<u8>)>,
}

/// A file of ours as redb wants to see it. Its lock is the file's own.
#[derive(Debug)]
struct Pages<F>(F);

impl<F: File> redb::StorageBackend for Pages<F> {
    fn len(&self) -> io::Result<u64> {
        self.0.length()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

/// Opens the file, and checks every page and record of it.
pub(super) fn open(file: impl File) -> Result<(Database, Records), Trouble> {
    let mut db = Database::builder().create_with_backend(Pages(file)).map_err(broken)?;
    if !db.check_integrity().map_err(broken)? {
        return Err(Trouble::Damaged("pages did not match their checksums".into()));
    }
    let records = read(&db)?;
    Ok((db, records))
}

/// crc32c(key ‖ value) ‖ value
pub(super) fn sealed(key: &[u8], value: &[u8]) -> Vec<u8> {
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), value);
    [&crc.to_le_bytes(), value].concat()
}

fn unsealed<'a>(key: &[u8], record: &'a [u8]) -> Option<&'a [u8]> {
    let (crc, value) = record.split_first_chunk::<4>()?;
    (u32::from_le_bytes(*crc) == crc32c::crc32c_append(crc32c::crc32c(key), value)).then_some(value)
}

struct Meta(ReadOnlyTable<&'static str, &'static [u8]>);

impl Meta {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, Trouble> {
        let Some(record) = self.0.get(key).map_err(broken)? else { return Ok(None) };
        let value = unsealed(key.as_bytes(), record.value()).map(<[u8]>::to_vec);
        value.map(Some).ok_or_else(|| Trouble::Damaged(format!("record {key}")))
    }

    fn decode<M: Message + Default>(&self, key: &str) -> Result<Option<M>, Trouble> {
        let bad = |e| Trouble::Damaged(format!("record {key}: {e}"));
        self.get(key)?.map(|value| M::decode(value.as_slice()).map_err(bad)).transpose()
    }

    fn number<const N: usize>(&self, key: &str) -> Result<Option<[u8; N]>, Trouble> {
        let bad = |_| Trouble::Damaged(format!("record {key}"));
        self.get(key)?.map(|value| value.try_into().map_err(bad)).transpose()
    }
}

fn read(db: &Database) -> Result<Records, Trouble> {
    let txn = db.begin_read().map_err(broken)?;
    let meta = match txn.open_table(META) {
        Ok(table) => Meta(table),
        Err(TableError::TableDoesNotExist(_)) => return Ok(Records::default()),
        Err(e) => return Err(broken(e)),
    };
    let format = meta.number(FORMAT_KEY)?.map(u32::from_le_bytes);
    if let Some(newer) = format.filter(|found| *found > FORMAT) {
        return Err(Trouble::Newer(newer));
    }
    let vote = meta.decode::<pb::Vote>(VOTE)?.map(|v| wire::vote_in(Some(v))).transpose();
    let log_id = |key| meta.decode::<pb::LogId>(key).map(|id| id.map(wire::log_id_in));
    let old_snapshot = match (meta.decode(OLD_HEAD)?, meta.get(OLD_DATA)?) {
        (Some(head), Some(data)) => Some((head, data)),
        (None, None) => None,
        _ => return Err(Trouble::Damaged("half a snapshot".into())),
    };
    let name = meta.get(SNAPSHOT)?.map(String::from_utf8).transpose();
    let kept = Kept {
        identity: meta.decode(IDENTITY)?,
        vote: vote.map_err(|e| Trouble::Damaged(e.to_string()))?,
        committed: log_id(COMMITTED)?,
        purged: log_id(PURGED)?,
        log: read_log(&txn)?,
        ..Kept::default()
    };
    Ok(Records {
        format,
        sequence: meta.number(SEQUENCE)?.map_or(0, u64::from_le_bytes),
        kept,
        snapshot: name.map_err(|_| Trouble::Damaged(format!("record {SNAPSHOT}")))?,
        old_snapshot,
    })
}

fn read_log(txn: &ReadTransaction) -> Result<BTreeMap<u64, Entry>, Trouble> {
    let table = txn.open_table(LOG).map_err(broken)?;
    let mut log = BTreeMap::new();
    for row in table.iter().map_err(broken)? {
        let (key, record) = row.map_err(broken)?;
        let index = key.value();
        let bad = || Trouble::Damaged(format!("log entry {index}"));
        let value = unsealed(&index.to_be_bytes(), record.value()).ok_or_else(bad)?;
        let entry = wire::entry_in(pb::Entry::decode(value).map_err(|_| bad())?).map_err(|e| match e {
            wire::Malformed::Newer(_) => Trouble::Beyond(e.to_string()),
            wire::Malformed::Senseless(_) => bad(),
        })?;
        if log.last_key_value().is_some_and(|(last, _)| last + 1 != index) {
            return Err(Trouble::Damaged(format!("a hole in the log before {index}")));
        }
        log.insert(index, entry);
    }
    Ok(log)
}
