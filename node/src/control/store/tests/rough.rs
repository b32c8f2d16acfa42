//! A disk in memory that loses what was not synced, and dies or fails at a call chosen before.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::control::disk::{Disk, File};

/// What happens at the chosen call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The power goes: this call does nothing, and none after it.
    PowerLoss,
    /// This call fails, and what was not synced may be gone: the kernel forgets pages it could not write.
    Error(i32),
}

#[derive(Debug, Clone, Default)]
struct Content {
    /// What a reader sees.
    now: Vec<u8>,
    /// What outlives a power loss.
    safe: Vec<u8>,
    /// In between, in order.
    pending: Vec<(u64, Option<Vec<u8>>)>,
}

type Shared = Arc<Mutex<Content>>;

#[derive(Debug, Default)]
struct Names {
    now: BTreeMap<String, Shared>,
    /// What they would be after a power loss: as of the last sync, and after each change since.
    possible: Vec<BTreeMap<String, Shared>>,
    calls: usize,
    fate: Option<(usize, Fate)>,
    dead: bool,
}

#[derive(Debug, Clone, Default)]
pub(super) struct Rough(Arc<Mutex<Names>>);

#[derive(Debug)]
pub(super) struct RoughFile {
    content: Shared,
    disk: Rough,
}

fn apply(to: &mut Vec<u8>, offset: u64, data: Option<&[u8]>) {
    let offset = usize::try_from(offset).unwrap();
    let Some(data) = data else { return to.resize(offset, 0) };
    if to.len() < offset + data.len() {
        to.resize(offset + data.len(), 0);
    }
    to[offset..offset + data.len()].copy_from_slice(data);
}

impl Rough {
    /// A disk with these files, all safe.
    pub(super) fn with(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let content = |bytes: Vec<u8>| Content { now: bytes.clone(), safe: bytes, pending: vec![] };
        let now: BTreeMap<_, _> =
            files.into_iter().map(|(name, bytes)| (name, Arc::new(Mutex::new(content(bytes))))).collect();
        Self(Arc::new(Mutex::new(Names { possible: vec![now.clone()], now, ..Names::default() })))
    }

    pub(super) fn destined(self, at: usize, fate: Fate) -> Self {
        self.names().fate = Some((at, fate));
        self
    }

    /// How many calls were made.
    pub(super) fn calls(&self) -> usize {
        self.names().calls
    }

    /// What another process would find now.
    pub(super) fn files(&self) -> BTreeMap<String, Vec<u8>> {
        self.names().now.iter().map(|(name, content)| (name.clone(), content.lock().unwrap().now.clone())).collect()
    }

    /// What is found after the power comes back: each write that was not synced happened, or did not, or in part.
    pub(super) fn after_power_loss(&self, seed: u64) -> Self {
        let mut chance = StdRng::seed_from_u64(seed);
        let names = self.names();
        let which = chance.random_range(0..names.possible.len().max(1));
        let found = names.possible.get(which).cloned().unwrap_or_default();
        let mut survived = |content: &Shared| {
            let content = content.lock().unwrap();
            let mut bytes = content.safe.clone();
            for (offset, data) in &content.pending {
                let whole = data.as_ref().map_or(0, Vec::len);
                match chance.random_range(0..3) {
                    0 => {}
                    1 => apply(&mut bytes, *offset, data.as_deref()),
                    // Disks write sectors.
                    _ => {
                        let part = chance.random_range(0..=whole / 512) * 512;
                        apply(&mut bytes, *offset, data.as_deref().map(|d| &d[..part]));
                    }
                }
            }
            bytes
        };
        Self::with(found.iter().map(|(name, content)| (name.clone(), survived(content))).collect::<Vec<_>>())
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Counts a call that changes something, and lets its fate strike.
    fn call(&self) -> io::Result<()> {
        let mut names = self.names();
        if names.dead {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        names.calls += 1;
        match names.fate {
            Some((at, fate)) if at == names.calls => {
                names.dead = fate == Fate::PowerLoss;
                let Fate::Error(code) = fate else { return Err(io::Error::from_raw_os_error(libc::EIO)) };
                Err(io::Error::from_raw_os_error(code))
            }
            _ => Ok(()),
        }
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Shared>)) -> io::Result<()> {
        self.call()?;
        let mut names = self.names();
        change(&mut names.now);
        let now = names.now.clone();
        names.possible.push(now);
        Ok(())
    }
}

impl Disk for Rough {
    type File = RoughFile;

    fn open(&self, name: &str) -> io::Result<RoughFile> {
        if !self.names().now.contains_key(name) {
            self.change(|names| drop(names.insert(name.to_owned(), Shared::default())))?;
        }
        let content = Arc::clone(&self.names().now[name]);
        Ok(RoughFile { content, disk: self.clone() })
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let names = self.names();
        let content = names.now.get(name).ok_or(io::ErrorKind::NotFound)?;
        let bytes = content.lock().unwrap().now.clone();
        Ok(bytes)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(Self::names(self).now.keys().cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(|names| {
            if let Some(content) = names.remove(from) {
                names.insert(to.to_owned(), content);
            }
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(|names| drop(names.remove(name)))
    }

    fn sync_names(&self) -> io::Result<()> {
        self.call()?;
        let mut names = self.names();
        names.possible = vec![names.now.clone()];
        Ok(())
    }
}

impl File for RoughFile {
    fn length(&self) -> io::Result<u64> {
        Ok(self.content.lock().unwrap().now.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.call()?;
        let mut content = self.content.lock().unwrap();
        apply(&mut content.now, len, None);
        content.pending.push((len, None));
        Ok(())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let content = self.content.lock().unwrap();
        let offset = usize::try_from(offset).unwrap();
        let from = content.now.get(offset..offset + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(from);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.call()?;
        let mut content = self.content.lock().unwrap();
        apply(&mut content.now, offset, Some(data));
        content.pending.push((offset, Some(data.to_vec())));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let said = self.disk.call();
        let mut content = self.content.lock().unwrap();
        content.pending.clear();
        if said.is_ok() {
            content.safe = content.now.clone();
        } else {
            content.now = content.safe.clone();
        }
        said
    }
}
