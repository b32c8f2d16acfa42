//! The high-water mark: how many writes were acknowledged, kept apart from the writes themselves.
//!
//! After a crash redb takes a newest write that does not check for one that was under way, and goes back to the one
//! before. That is right for a torn write and wrong for a damaged one that was acknowledged, and redb cannot tell them
//! apart. The mark can: it moves after the write is safe and before anybody is told.

use std::io;

use crate::control::disk::{Disk, File};

/// Its file: two slots, written in turn, so that a torn one leaves the other.
pub(super) const FILE: &str = "tandem.mark";

/// Slots lie in sectors of their own.
const APART: u64 = 4096;
/// The number and its CRC32C.
const SLOT: usize = 12;

/// What the file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// There is none.
    Nothing,
    /// So many writes were acknowledged; one more may have been.
    At(u64),
    /// Neither slot can be read.
    Garbled,
}

#[derive(Debug)]
pub(super) struct Mark<F>(F);

impl<F: File> Mark<F> {
    /// Opens the file, and says what is in it.
    pub(super) fn open(disk: &impl Disk<File = F>) -> io::Result<(Self, Found)> {
        let file = disk.open(FILE)?;
        let length = file.length()?;
        let slot = |n: u64| -> io::Result<Option<u64>> {
            let mut slot = [0; SLOT];
            if length < n * APART + SLOT as u64 {
                return Ok(None);
            }
            file.read(n * APART, &mut slot)?;
            Ok(number_in(&slot))
        };
        let found = match slot(0)?.max(slot(1)?) {
            Some(number) => Found::At(number),
            None if length == 0 => Found::Nothing,
            None => Found::Garbled,
        };
        Ok((Self(file), found))
    }

    /// Moves to `number`, one more than before, or the same; or begins there.
    pub(super) fn move_to(&self, number: u64) -> io::Result<()> {
        self.0.write(number % 2 * APART, &slot_of(number))?;
        self.0.sync()
    }
}

fn slot_of(number: u64) -> [u8; SLOT] {
    let mut slot = [0; SLOT];
    let (value, crc) = slot.split_at_mut(8);
    value.copy_from_slice(&number.to_le_bytes());
    crc.copy_from_slice(&crc32c::crc32c(value).to_le_bytes());
    slot
}

fn number_in(slot: &[u8; SLOT]) -> Option<u64> {
    let (value, crc) = slot.split_first_chunk::<8>()?;
    (crc == crc32c::crc32c(value).to_le_bytes()).then_some(u64::from_le_bytes(*value))
}
