//! A process that uses the disk: what it asks of it, and what becomes of that.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::database::LogDatabase;
use super::disk::{Disk, State};
use super::file::{ALL, share};
use super::handle::Handle;
use crate::store::sled::database::Database;
use crate::store::sled::files::{Entry, Files, Found, LockFile, OpenFile};

/// What is asked of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    Look,
    List,
    Read,
    /// Content, durable with it.
    Write,
    /// Whole blocks, durable.
    WriteBlocks,
    /// Content that is not durable.
    Append,
    Cut,
    Create,
    Copy,
    Rename,
    RemoveFile,
    RemoveFolder,
    CreateFolder,
    SyncFile,
    SyncFolder,
    Open,
    SetText,
}

/// One operation, before it is made.
#[derive(Debug)]
pub(crate) struct Operation<'a> {
    pub what: What,
    pub path: &'a Path,
}

/// What becomes of an operation. A number says how much of it is done first, from nothing, 0, to all, 255; reading has no half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Done,
    Fails(ErrorKind, u8),
    /// It is the last that the process does.
    Dies(u8),
}

/// Called before each operation. It may wait, also until the process is dead, and it may panic: then the process is dead.
pub(crate) type Hook = Arc<dyn Fn(&Operation<'_>) -> Fate + Send + Sync>;

/// A process on the disk. From its death on, everything it asks fails and changes nothing.
#[derive(Clone)]
pub(crate) struct Process {
    pub(super) disk: Arc<Disk>,
    is_alive: Arc<AtomicBool>,
    hook: Hook,
}

impl Disk {
    /// Starts a process.
    pub(crate) fn process(self: &Arc<Disk>, hook: Hook) -> Process {
        let is_alive = Arc::new(AtomicBool::new(true));
        self.state().add_process(Arc::clone(&is_alive));
        Process { disk: Arc::clone(self), is_alive, hook }
    }
}

impl std::fmt::Debug for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Process {{ is_dead: {} }}", self.is_dead())
    }
}

/// A hook that panics ends its process.
struct DiesByPanic<'a>(&'a AtomicBool);

impl Drop for DiesByPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(false, Ordering::SeqCst);
        }
    }
}

pub(super) fn dead() -> io::Error {
    io::Error::other("the process is dead")
}

/// How an operation is made: how much of it, and whether a sync forgets what it does not write.
#[derive(Clone, Copy)]
pub(super) struct How {
    pub(super) part: u8,
    pub(super) forgets: bool,
}

impl How {
    /// Whether what cannot be done by half is done.
    pub(super) fn is_done(self) -> bool {
        self.part >= 128
    }
}

impl Process {
    pub(crate) fn is_dead(&self) -> bool {
        !self.is_alive.load(Ordering::SeqCst)
    }

    fn ask(&self, what: What, path: &Path) -> io::Result<Fate> {
        // What drops while a panic unwinds must not panic once more.
        if self.is_dead() || std::thread::panicking() {
            return Err(dead());
        }
        let dies = DiesByPanic(&self.is_alive);
        let fate = (self.hook)(&Operation { what, path });
        drop(dies);
        if self.is_dead() { Err(dead()) } else { Ok(fate) }
    }

    pub(super) fn reads<T>(&self, what: What, path: &Path, f: impl FnOnce(&mut State) -> io::Result<T>) -> io::Result<T> {
        match self.ask(what, path)? {
            Fate::Done => f(&mut self.disk.state()),
            Fate::Fails(kind, _) => Err(kind.into()),
            Fate::Dies(_) => {
                self.is_alive.store(false, Ordering::SeqCst);
                Err(dead())
            }
        }
    }

    pub(super) fn makes<T>(&self, what: What, path: &Path, f: impl FnOnce(&mut State, How) -> io::Result<T>) -> io::Result<T> {
        let fate = self.ask(what, path)?;
        let state = &mut self.disk.state();
        match fate {
            Fate::Done => f(state, How { part: ALL, forgets: false }),
            Fate::Fails(kind, part) => {
                let _ = f(state, How { part, forgets: true });
                Err(kind.into())
            }
            Fate::Dies(part) => {
                let _ = f(state, How { part, forgets: false });
                self.is_alive.store(false, Ordering::SeqCst);
                Err(dead())
            }
        }
    }

    fn handle(&self, path: &Path, node: usize, is_durable: bool) -> Handle {
        let number = self.disk.state().next_handle();
        Handle::new(self.clone(), path, node, is_durable, number)
    }

    fn open_as(&self, path: &Path, is_durable: bool) -> io::Result<Handle> {
        let node = self.reads(What::Open, path, |state| state.resolve(path))?;
        Ok(self.handle(path, node, is_durable))
    }

    /// Opens a file to append to it; creates it if it is missing.
    pub(super) fn open_log(&self, path: &Path) -> io::Result<Handle> {
        let created = |state: &mut State, how: How| match how.is_done() {
            true => state.create(path),
            false => Err(ErrorKind::NotFound.into()),
        };
        let node = self.makes(What::Create, path, created)?;
        Ok(self.handle(path, node, false))
    }
}

/// Writes as much as there is room for.
pub(super) fn write(state: &mut State, node: usize, bytes: &[u8], at: usize, is_durable: bool) -> io::Result<()> {
    let grows = (at + bytes.len()).saturating_sub(state.length(node).unwrap_or(0));
    let room = state.room_for(grows);
    let fits = &bytes[..bytes.len() - (grows - room).min(bytes.len())];
    let file = state.file(node)?;
    if is_durable {
        file.write_durably(fits, at)
    } else {
        file.write(fits, at)
    }
    if room < grows { Err(ErrorKind::StorageFull.into()) } else { Ok(()) }
}

/// Replaces a file's content. Nothing of it is durable.
fn replace(state: &mut State, path: &Path, bytes: &[u8], part: u8) -> io::Result<usize> {
    let node = state.create(path)?;
    state.file(node)?.cut(0);
    write(state, node, &bytes[..share(part, bytes.len())], 0, false)?;
    Ok(node)
}

impl Files for Process {
    fn look(&self, path: &Path) -> io::Result<Option<Found>> {
        self.reads(What::Look, path, |state| match state.resolve(path) {
            Ok(node) => Ok(Some(found(state, node))),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let names = self.reads(What::List, dir, |state| state.list(dir))?;
        Ok(names.into_iter().map(|(name, is_dir)| Entry { name, is_dir }).collect())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        self.reads(What::Read, path, |state| {
            let node = state.resolve(path)?;
            Ok(state.file(node)?.bytes().to_vec())
        })
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.makes(What::Write, path, |state, how| {
            if how.part == 0 {
                return Ok(());
            }
            let node = replace(state, path, bytes, how.part)?;
            // By half: not even what was written is durable.
            if how.part == ALL {
                state.file(node)?.sync(ALL, false);
            }
            Ok(())
        })
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.makes(What::Copy, to, |state, how| {
            let from = state.resolve(from)?;
            let bytes = state.file(from)?.bytes().to_vec();
            if how.part == 0 { Ok(()) } else { replace(state, to, &bytes, how.part).map(drop) }
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.makes(What::Rename, to, |state, how| if how.is_done() { state.rename(from, to) } else { Ok(()) })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.makes(What::RemoveFile, path, |state, how| if how.is_done() { state.remove(path) } else { Ok(()) })
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        self.makes(What::RemoveFolder, dir, |state, how| {
            let mut all = state.below(dir)?;
            all.push(dir.to_owned());
            all.iter().take(share(how.part, all.len())).try_for_each(|path| state.remove(path))
        })
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.makes(What::CreateFolder, dir, |state, how| if how.is_done() { state.create_dir(dir) } else { Ok(()) })
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        self.makes(What::SyncFile, path, |state, how| {
            let node = state.resolve(path)?;
            state.file(node)?.sync(how.part, how.forgets);
            Ok(())
        })
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.makes(What::SyncFolder, dir, |state, how| if how.is_done() { state.sync_dir(dir) } else { Ok(()) })
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        Ok(Box::new(self.open_as(path, false)?))
    }

    fn open_blocks(&self, path: &Path, _direct: bool) -> io::Result<Box<dyn OpenFile>> {
        Ok(Box::new(self.open_as(path, true)?))
    }

    fn open_lock(&self, path: &Path) -> io::Result<Box<dyn LockFile>> {
        Ok(Box::new(self.open_log(path)?))
    }

    fn free_space(&self, _dir: &Path) -> io::Result<u64> {
        Ok(self.disk.state().free() as u64)
    }

    fn open_database(&self, dir: &Path) -> sled::Result<Box<dyn Database>> {
        Ok(Box::new(LogDatabase::open(self, dir)?))
    }
}

pub(super) fn found(state: &State, node: usize) -> Found {
    let length = state.length(node);
    Found { identity: (1, node as u64), length: length.unwrap_or(0) as u64, is_dir: length.is_none() }
}
