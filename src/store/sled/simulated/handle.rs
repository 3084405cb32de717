//! A file that a process has open, and its lock.

use std::fs::TryLockError;
use std::io;
use std::path::{Path, PathBuf};

use super::disk::Lock;
use super::file::{ALL, share};
use super::process::{Process, What, dead, found, write};
use crate::store::sled::files::{Found, LockFile, OpenFile};

/// An open file.
pub(super) struct Handle {
    process: Process,
    path: PathBuf,
    node: usize,
    is_durable: bool,
    number: u64,
}

impl Handle {
    pub(super) fn new(process: Process, path: &Path, node: usize, is_durable: bool, number: u64) -> Handle {
        Handle { process, path: path.to_owned(), node, is_durable, number }
    }

    pub(super) fn read(&self) -> io::Result<Vec<u8>> {
        self.process.reads(What::Read, &self.path, |state| Ok(state.file(self.node)?.bytes().to_vec()))
    }

    pub(super) fn cut(&self, length: usize) -> io::Result<()> {
        self.process.makes(What::Cut, &self.path, |state, how| {
            if how.is_done() {
                state.file(self.node)?.cut(length);
            }
            Ok(())
        })
    }

    pub(super) fn is_dead(&self) -> bool {
        self.process.is_dead()
    }

    /// Locks are memory's matter: the disk has no say.
    fn locks<T>(&self, f: impl FnOnce(&mut Lock) -> Result<T, TryLockError>) -> Result<T, TryLockError> {
        if self.is_dead() {
            return Err(TryLockError::Error(dead()));
        }
        f(self.process.disk.state().lock_of(self.node))
    }
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Handle {{ {} }}", self.path.display())
    }
}

impl OpenFile for Handle {
    fn found(&self) -> io::Result<Found> {
        if self.is_dead() { Err(dead()) } else { Ok(found(&self.process.disk.state(), self.node)) }
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let what = if self.is_durable { What::WriteBlocks } else { What::Append };
        self.process.makes(what, &self.path, |state, how| {
            let at = usize::try_from(at).map_err(io::Error::other)?;
            // A durable write that is not finished may be torn.
            let is_durable = self.is_durable && how.part == ALL;
            write(state, self.node, &bytes[..share(how.part, bytes.len())], at, is_durable)
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.process.makes(What::SyncFile, &self.path, |state, how| {
            state.file(self.node)?.sync(how.part, how.forgets);
            Ok(())
        })
    }
}

impl LockFile for Handle {
    fn found(&self) -> io::Result<Found> {
        OpenFile::found(self)
    }

    fn try_lock(&self) -> Result<(), TryLockError> {
        self.locks(|lock| {
            let is_shared = lock.shared.iter().any(|other| *other != self.number);
            if is_shared || lock.exclusive.is_some_and(|other| other != self.number) {
                return Err(TryLockError::WouldBlock);
            }
            lock.shared.clear();
            lock.exclusive = Some(self.number);
            Ok(())
        })
    }

    fn try_lock_shared(&self) -> Result<(), TryLockError> {
        self.locks(|lock| {
            if lock.exclusive.is_some_and(|other| other != self.number) {
                return Err(TryLockError::WouldBlock);
            }
            lock.exclusive = None;
            lock.shared.insert(self.number);
            Ok(())
        })
    }

    fn unlock(&self) -> io::Result<()> {
        let state = &mut self.process.disk.state();
        let lock = state.lock_of(self.node);
        lock.shared.remove(&self.number);
        lock.exclusive = lock.exclusive.filter(|holder| *holder != self.number);
        Ok(())
    }

    fn text(&self) -> io::Result<String> {
        String::from_utf8(self.read()?).map_err(io::Error::other)
    }

    fn set_text(&self, text: &str) -> io::Result<()> {
        self.process.makes(What::SetText, &self.path, |state, how| {
            state.file(self.node)?.cut(0);
            write(state, self.node, &text.as_bytes()[..share(how.part, text.len())], 0, false)
        })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let _ = LockFile::unlock(self);
    }
}
