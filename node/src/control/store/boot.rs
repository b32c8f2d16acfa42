//! From files to what is kept, or to the reason why this node must not vote.
//!
//! ```text
//!   mark ── records ── snapshot: each must check, and none may be behind another ──▶ kept
//!     │ one does not check, or the disk takes no writes
//!     └──▶ the newest snapshot that is whole: enough to serve traffic, never enough to vote
//! ```

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use tandem_proto::raft::v1 as pb;

use super::mark::{Found, Mark};
use super::records::{self, Records, Trouble};
use super::snapshots;
use super::writer::{Books, Failed};
use super::{Error, FILE, FORMAT, Kept, Op};
use crate::control::disk::{Disk, File};

/// Why a store does not open.
pub(super) enum Unfit {
    /// tandemd must not start like this.
    Refused(Error),
    /// It may start, and must not vote.
    MustNotVote(String),
}

/// Opens everything in `disk`, which errors call `dir`.
pub(super) fn boot<D: Disk>(disk: &D, dir: &Path) -> Result<(Books<D>, Kept), Unfit> {
    let on_disk = |e| disk_said(dir, e);
    let (mark, found) = Mark::open(disk).map_err(on_disk)?;
    let file = disk.open(FILE).map_err(on_disk)?;
    if begins_here(disk, &file, found, dir)? {
        file.set_len(0).and_then(|()| mark.move_to(0)).map_err(on_disk)?;
    }
    // A file whose name is lost with the power is an empty disk, which forgot its vote.
    disk.sync_names().map_err(on_disk)?;
    // redb asserts on some kinds of damage: that, too, is a damaged file and no bug of ours.
    let opened = catch_unwind(AssertUnwindSafe(|| records::open(file)));
    let (db, mut records) = opened
        .unwrap_or_else(|_| Err(Trouble::Damaged("redb could not make sense of it".into())))
        .map_err(|trouble| unfit(dir, trouble))?;
    let acknowledged = match found {
        Found::At(number) => number,
        // The first transaction comes before the first mark where a store of format 1 is taken over.
        Found::Nothing if records.sequence <= 1 => 0,
        Found::Nothing => return Err(damaged(dir, "tandem.mark is gone")),
        Found::Garbled if records.sequence == 0 && records.format.is_none() => 0,
        Found::Garbled => return Err(damaged(dir, "tandem.mark does not match its checksums")),
    };
    if records.sequence < acknowledged {
        let why = format!("{FILE} ends at write {}, {acknowledged} were acknowledged", records.sequence);
        return Err(damaged(dir, why));
    }
    let mut books = Books { db, mark, sequence: records.sequence };
    if records.format == Some(FORMAT) {
        books.mark.move_to(books.sequence).map_err(|e| disk_said(dir, e))?;
    } else {
        take_over(disk, &mut books, &mut records).map_err(|failed| unfit(dir, failed.into()))?;
    }
    let mut kept = records.kept;
    if let Some(name) = &records.snapshot {
        let file = snapshots::get(disk, name).map_err(|why| damaged(dir, why))?;
        kept.snapshot = Some((file.meta.unwrap_or_default(), Arc::new(file.state)));
    }
    whole(&kept).map_err(|why| damaged(dir, why))?;
    snapshots::prune(disk, records.snapshot.as_deref()).map_err(|e| disk_said(dir, e))?;
    Ok((books, kept))
}

/// What can be had without a store that checks.
pub(super) fn salvaged(disk: &impl Disk, why: String) -> Kept {
    let file = snapshots::newest_good(disk);
    let identity = file.as_ref().and_then(|f| f.identity.clone());
    let snapshot = file.and_then(|f| Some((f.meta?, Arc::new(f.state))));
    Kept { identity, snapshot, unfit: Some(why), ..Kept::default() }
}

/// Nothing was ever acknowledged here: what there is, a crash left behind while it was made.
fn begins_here<D: Disk>(disk: &D, file: &D::File, found: Found, dir: &Path) -> Result<bool, Unfit> {
    let empty = file.length().map_err(|e| disk_said(dir, e))? == 0;
    let snapshots = !snapshots::names(disk).map_err(|e| disk_said(dir, e))?.is_empty();
    match found {
        Found::At(0) if !snapshots => Ok(true),
        Found::Nothing | Found::Garbled if empty && !snapshots => Ok(true),
        _ if empty => Err(damaged(dir, format!("{FILE} is empty or gone"))),
        _ => Ok(false),
    }
}

/// Makes a store of this format from an empty one, or from one of format 1, whose snapshot was two records.
fn take_over<D: Disk>(disk: &D, books: &mut Books<D>, records: &mut Records) -> Result<(), Failed> {
    if let Some((meta, state)) = records.old_snapshot.take() {
        let identity = records.kept.identity.clone();
        let file = pb::SnapshotFile { format: FORMAT, identity, meta: Some(meta), state };
        records.snapshot = Some(snapshots::put(disk, &file)?);
    }
    let name = records.snapshot.iter().map(|name| Op::Meta(records::SNAPSHOT, name.clone().into_bytes()));
    let format = Op::Meta(records::FORMAT_KEY, FORMAT.to_le_bytes().to_vec());
    let ops: Vec<Op> = name.chain([format, Op::Forget(records::OLD_HEAD), Op::Forget(records::OLD_DATA)]).collect();
    books.write(ops.iter())?;
    if records.format.is_some() {
        tracing::info!(
            "the store was of format 1 and is of format {FORMAT} now; older versions do not read it any more"
        );
    }
    Ok(())
}

/// What each record says for itself must also hold together.
fn whole(kept: &Kept) -> Result<(), String> {
    let begins = kept.purged.map_or(0, |purged| purged.index + 1);
    if let Some((first, _)) = kept.log.first_key_value()
        && *first != begins
    {
        return Err(format!("the log begins at {first} instead of {begins}"));
    }
    let covered = kept.snapshot.as_ref().and_then(|(meta, _)| meta.last.as_ref()).map(|last| last.index);
    if kept.purged.is_some_and(|purged| covered.is_none_or(|covered| covered < purged.index)) {
        return Err(format!("the log begins at {begins} and no snapshot tells what was before"));
    }
    Ok(())
}

fn damaged(dir: &Path, why: impl std::fmt::Display) -> Unfit {
    Unfit::MustNotVote(format!(
        "the store in {} is damaged ({why}); move it away and bring this node back as a new one: the others have the config",
        dir.display()
    ))
}

fn unfit(dir: &Path, trouble: Trouble) -> Unfit {
    match trouble {
        Trouble::Disk(e) => disk_said(dir, e),
        Trouble::Damaged(why) => damaged(dir, why),
        // Nothing is wrong with it: whoever moved it away would lose a good vote and log.
        Trouble::Beyond(why) => Unfit::MustNotVote(format!("the store in {}: {why}", dir.display())),
        Trouble::Newer(found) => Unfit::Refused(Error::Newer { path: dir.join(FILE), found }),
    }
}

/// A disk that is full, read-only or failing is no reason to serve nobody.
fn disk_said(dir: &Path, e: io::Error) -> Unfit {
    use io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull, UnexpectedEof};
    match e.kind() {
        UnexpectedEof => damaged(dir, e),
        StorageFull | QuotaExceeded | ReadOnlyFilesystem => Unfit::MustNotVote(no_writes(dir, &e)),
        _ if e.raw_os_error() == Some(libc::EIO) => Unfit::MustNotVote(no_writes(dir, &e)),
        _ => Unfit::Refused(Error::Open { path: dir.to_owned(), why: e.to_string() }),
    }
}

pub(super) fn no_writes(dir: &Path, e: &dyn std::error::Error) -> String {
    format!("the disk under {} takes no writes ({e}); make room or mend it, then restart tandemd", dir.display())
}

impl From<Failed> for Trouble {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Disk(e) => Self::Disk(e),
            Failed::Records(e) => e.into(),
        }
    }
}
