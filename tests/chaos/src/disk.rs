//! A disk that loses what was not synced, and whose machine can die at any sync.
//!
//! Between two syncs of a file its writes reach the platter in any order, whole, in part, or not at all: at a crash each
//! one is tossed for. Names are a journal: at a crash its end is cut off.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tandem_node::control::{Disk, File};

use crate::chance::Chance;

/// What a disk writes at once: a torn write ends at such a border.
const SECTOR: usize = 512;

/// The disk of one machine; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Platter(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    chance: Chance,
    /// Files by number; a name points to one.
    files: Vec<Content>,
    names: BTreeMap<String, usize>,
    safe_names: BTreeMap<String, usize>,
    journal: Vec<Name>,
    /// Handles of an earlier life of the machine are dead.
    life: u64,
    dies_in: Option<u64>,
    died: bool,
    fails: bool,
    /// A sync has failed in this life.
    failed: bool,
    lies: bool,
    /// In the order of the syncs.
    claimed: VecDeque<Claim>,
    syncs: u64,
}

#[derive(Debug, Default)]
struct Content {
    now: Vec<u8>,
    safe: Vec<u8>,
    since: Vec<Change>,
}

/// What a lying disk has said to be safe and is not.
#[derive(Debug)]
enum Claim {
    File(usize, Vec<Change>),
    Names(Vec<Name>),
}

/// How many syncs a lying disk is behind at most.
const BEHIND: usize = 16;

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Len(u64),
}

#[derive(Debug, Clone)]
enum Name {
    Is(String, usize),
    Gone(String),
}

impl Platter {
    pub(crate) fn new(chance: Chance, lies: bool) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            chance,
            files: Vec::new(),
            names: BTreeMap::new(),
            safe_names: BTreeMap::new(),
            journal: Vec::new(),
            life: 0,
            dies_in: None,
            died: false,
            fails: false,
            failed: false,
            lies,
            claimed: VecDeque::new(),
            syncs: 0,
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// This life's handle.
    pub(crate) fn mounted(&self) -> Mounted {
        Mounted { platter: self.clone(), life: self.inner().life }
    }

    /// The machine dies at the n-th sync from now: just before it took effect, or just after.
    pub(crate) fn die_in(&self, syncs: u64) {
        self.inner().dies_in = Some(syncs);
    }

    /// Takes that back.
    pub(crate) fn spare(&self) {
        self.inner().dies_in = None;
    }

    /// Whether it has died of that.
    pub(crate) fn died(&self) -> bool {
        self.inner().died
    }

    /// Whether syncs fail.
    pub(crate) fn fail(&self, fails: bool) {
        self.inner().fails = fails;
    }

    /// Whether what it said lately may be its own fault: it failed, or is off.
    pub(crate) fn troubled(&self) -> bool {
        let inner = self.inner();
        inner.fails || inner.failed || inner.died
    }

    /// How many syncs there were.
    pub(crate) fn syncs(&self) -> u64 {
        self.inner().syncs
    }

    /// The machine loses its power: what was not safe is tossed for, and every open file is dead.
    pub(crate) fn crash(&self) {
        self.inner().crash();
    }
}

impl Inner {
    fn crash(&mut self) {
        self.life += 1;
        (self.dies_in, self.died, self.failed) = (None, false, false);
        // A liar loses the newest of what it said to be safe, and all after it.
        let honest = self.chance.index(self.claimed.len() + 1);
        let lost = honest < self.claimed.len();
        for claim in std::mem::take(&mut self.claimed).into_iter().take(honest) {
            self.make_safe(claim);
        }
        let kept = self.chance.index(self.journal.len() + 1);
        for name in self.journal.drain(..).take(kept).filter(|_| !lost) {
            name.apply(&mut self.safe_names);
        }
        self.names.clone_from(&self.safe_names);
        for file in &mut self.files {
            for change in file.since.drain(..).filter(|_| !lost) {
                if let Some(change) = change.torn(&mut self.chance) {
                    change.apply(&mut file.safe);
                }
            }
            file.now.clone_from(&file.safe);
        }
    }

    fn make_safe(&mut self, claim: Claim) {
        match claim {
            Claim::Names(names) => names.into_iter().for_each(|name| name.apply(&mut self.safe_names)),
            Claim::File(file, changes) => changes.iter().for_each(|change| change.apply(&mut self.files[file].safe)),
        }
    }

    /// A sync takes effect; on a lying disk, later.
    fn synced(&mut self, claim: Claim) {
        if !self.lies {
            return self.make_safe(claim);
        }
        self.claimed.push_back(claim);
        if self.claimed.len() > BEHIND
            && let Some(oldest) = self.claimed.pop_front()
        {
            self.make_safe(oldest);
        }
    }

    fn alive(&self, life: u64) -> io::Result<()> {
        if self.died || self.life != life {
            return Err(io::Error::other("the machine is off"));
        }
        Ok(())
    }

    /// Counts a sync; an error if the machine dies of it or the disk fails. `true`: it dies right after.
    fn sync_begins(&mut self) -> io::Result<bool> {
        self.syncs += 1;
        if self.fails {
            self.failed = true;
            return Err(io::Error::other("injected: the disk did not take it"));
        }
        match self.dies_in.as_mut() {
            Some(0) => {
                let after = self.chance.percent(50);
                self.died = true;
                if after { Ok(true) } else { Err(io::Error::other("the machine is off")) }
            }
            Some(left) => {
                *left -= 1;
                Ok(false)
            }
            None => Ok(false),
        }
    }
}

impl Name {
    fn apply(self, names: &mut BTreeMap<String, usize>) {
        match self {
            Self::Is(name, file) => drop(names.insert(name, file)),
            Self::Gone(name) => drop(names.remove(&name)),
        }
    }
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Len(len) => to.resize(size(*len), 0),
            Self::Write(at, data) => {
                let (at, end) = (size(*at), size(*at) + data.len());
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[at..end].copy_from_slice(data);
            }
        }
    }

    fn torn(self, chance: &mut Chance) -> Option<Self> {
        match (self, chance.between(0, 3)) {
            (_, 0) => None,
            (Self::Write(at, mut data), 1) => {
                let sectors = chance.index(data.len() / SECTOR + 1);
                data.truncate(sectors * SECTOR);
                Some(Self::Write(at, data))
            }
            (whole, _) => Some(whole),
        }
    }
}

fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// The disk during one life of the machine.
#[derive(Debug)]
pub(crate) struct Mounted {
    platter: Platter,
    life: u64,
}

/// An open file during one life of the machine.
#[derive(Debug)]
pub(crate) struct Opened {
    platter: Platter,
    life: u64,
    file: usize,
}

impl Mounted {
    fn alive(&self) -> io::Result<MutexGuard<'_, Inner>> {
        let inner = self.platter.inner();
        inner.alive(self.life)?;
        Ok(inner)
    }

    fn note(inner: &mut Inner, name: Name) {
        name.clone().apply(&mut inner.names);
        inner.journal.push(name);
    }
}

impl Disk for Mounted {
    type File = Opened;

    fn open(&self, name: &str) -> io::Result<Opened> {
        let mut inner = self.alive()?;
        let file = match inner.names.get(name) {
            Some(file) => *file,
            None => {
                inner.files.push(Content::default());
                let file = inner.files.len() - 1;
                Self::note(&mut inner, Name::Is(name.to_owned(), file));
                file
            }
        };
        Ok(Opened { platter: self.platter.clone(), life: self.life, file })
    }

    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let inner = self.alive()?;
        let file = *inner.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(inner.files[file].now.clone())
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.alive()?.names.keys().cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.alive()?;
        let file = *inner.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        // One step of the journal after the other; a crash between them leaves both names, as a crash of rename may.
        Self::note(&mut inner, Name::Is(to.to_owned(), file));
        Self::note(&mut inner, Name::Gone(from.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.alive()?;
        inner.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Self::note(&mut inner, Name::Gone(name.to_owned()));
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut inner = self.alive()?;
        let dies = inner.sync_begins()?;
        let names = std::mem::take(&mut inner.journal);
        inner.synced(Claim::Names(names));
        if dies { Err(io::Error::other("the machine is off")) } else { Ok(()) }
    }
}

impl Opened {
    fn with<T>(&self, f: impl FnOnce(&mut Content) -> io::Result<T>) -> io::Result<T> {
        let mut inner = self.platter.inner();
        inner.alive(self.life)?;
        f(&mut inner.files[self.file])
    }

    fn change(&self, change: Change) -> io::Result<()> {
        self.with(|content| {
            change.apply(&mut content.now);
            content.since.push(change);
            Ok(())
        })
    }
}

impl File for Opened {
    fn length(&self) -> io::Result<u64> {
        self.with(|content| Ok(content.now.len() as u64))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change(Change::Len(len))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.with(|content| {
            let at = size(offset);
            let data = content.now.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
            out.copy_from_slice(data);
            Ok(())
        })
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Change::Write(offset, data.to_vec()))
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.platter.inner();
        inner.alive(self.life)?;
        let dies = inner.sync_begins()?;
        let since = std::mem::take(&mut inner.files[self.file].since);
        inner.synced(Claim::File(self.file, since));
        if dies { Err(io::Error::other("the machine is off")) } else { Ok(()) }
    }
}
