//! The records of the store in redb's file, each with a CRC32C of its key and value.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use prost::Message;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tandem_proto::raft::v1 as pb;

use super::{COMMITTED, Error, FORMAT, IDENTITY, Kept, PURGED, SNAPSHOT_DATA, SNAPSHOT_HEAD, VOTE};
use crate::control::disk::File;
use crate::control::raft::Entry;
use crate::control::wire;

pub(super) const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
pub(super) const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");

const FORMAT_KEY: &str = "format";

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

pub(super) fn damaged(path: &Path, why: impl std::fmt::Display) -> Error {
    Error::Damaged { path: path.to_owned(), why: why.to_string() }
}

/// Opens the file and checks every page and record. `path` is for the errors.
pub(super) fn open(file: impl File, path: &Path) -> Result<(Database, Kept), Error> {
    let cannot = |e: redb::DatabaseError| Error::Open { path: path.to_owned(), why: e.to_string() };
    let mut db = Database::builder().create_with_backend(Pages(file)).map_err(|e| match e {
        redb::DatabaseError::Storage(redb::StorageError::Corrupted(why)) => damaged(path, why),
        other => cannot(other),
    })?;
    match db.check_integrity() {
        Ok(true) => {}
        Ok(false) => return Err(damaged(path, "pages did not match their checksums")),
        Err(e) => return Err(damaged(path, e)),
    }
    let kept = load(&db, path)?;
    Ok((db, kept))
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

fn load(db: &Database, path: &Path) -> Result<Kept, Error> {
    let damaged = |why: String| damaged(path, why);
    let txn = db.begin_write().map_err(|e| damaged(e.to_string()))?;
    // Tables are made at the first open, so that reading finds them.
    drop(txn.open_table(LOG).map_err(|e| damaged(e.to_string()))?);
    {
        let mut meta = txn.open_table(META).map_err(|e| damaged(e.to_string()))?;
        let found = meta.get(FORMAT_KEY).map_err(|e| damaged(e.to_string()))?.map(|v| v.value().to_vec());
        match found {
            None => {
                let record = sealed(FORMAT_KEY.as_bytes(), &FORMAT.to_le_bytes());
                meta.insert(FORMAT_KEY, record.as_slice()).map_err(|e| damaged(e.to_string()))?;
            }
            Some(record) => {
                let value = unsealed(FORMAT_KEY.as_bytes(), &record).and_then(|v| v.try_into().ok());
                let found = u32::from_le_bytes(value.ok_or_else(|| damaged("record format".into()))?);
                if found > FORMAT {
                    return Err(Error::Newer { path: path.to_owned(), found });
                }
            }
        }
    }
    txn.commit().map_err(|e| damaged(e.to_string()))?;
    read(db).map_err(damaged)
}

fn read(db: &Database) -> Result<Kept, String> {
    let txn = db.begin_read().map_err(|e| e.to_string())?;
    let meta = txn.open_table(META).map_err(|e| e.to_string())?;
    let get = |key: &str| -> Result<Option<Vec<u8>>, String> {
        let Some(record) = meta.get(key).map_err(|e| e.to_string())? else { return Ok(None) };
        unsealed(key.as_bytes(), record.value()).map(|v| Some(v.to_vec())).ok_or_else(|| format!("record {key}"))
    };
    fn decode<M: Message + Default>(key: &str, value: Option<Vec<u8>>) -> Result<Option<M>, String> {
        value.map(|v| M::decode(v.as_slice()).map_err(|e| format!("record {key}: {e}"))).transpose()
    }
    let log_id = |key: &str| Ok::<_, String>(decode::<pb::LogId>(key, get(key)?)?.map(wire::log_id_in));
    let vote = decode::<pb::Vote>(VOTE, get(VOTE)?)?;
    let snapshot = match (decode::<pb::SnapshotMeta>(SNAPSHOT_HEAD, get(SNAPSHOT_HEAD)?)?, get(SNAPSHOT_DATA)?) {
        (Some(head), Some(data)) => Some((head, Arc::new(data))),
        (None, None) => None,
        _ => return Err("half a snapshot".into()),
    };
    Ok(Kept {
        identity: decode(IDENTITY, get(IDENTITY)?)?,
        vote: vote.map(|v| wire::vote_in(Some(v))).transpose().map_err(|e| e.to_string())?,
        committed: log_id(COMMITTED)?,
        purged: log_id(PURGED)?,
        log: read_log(&txn)?,
        snapshot,
    })
}

fn read_log(txn: &redb::ReadTransaction) -> Result<BTreeMap<u64, Entry>, String> {
    let table = txn.open_table(LOG).map_err(|e| e.to_string())?;
    let mut log = BTreeMap::new();
    for row in table.iter().map_err(|e| e.to_string())? {
        let (key, record) = row.map_err(|e| e.to_string())?;
        let index = key.value();
        let bad = || format!("log entry {index}");
        let value = unsealed(&index.to_be_bytes(), record.value()).ok_or_else(bad)?;
        let entry = pb::Entry::decode(value).ok().and_then(|e| wire::entry_in(e).ok()).ok_or_else(bad)?;
        if log.last_key_value().is_some_and(|(last, _)| last + 1 != index) {
            return Err(format!("a hole in the log before {index}"));
        }
        log.insert(index, entry);
    }
    Ok(log)
}
