//! Looking at the store of a server that does not run.
//!
//! sled cannot open its files without writing to them, and so repairs, cuts and creates. So the store's files are copied to a private
//! folder in the system's temporary one, and the copy is opened, with every check that an opening makes. What that costs: room for
//! two copies of the data there for as long as it is open, and the time to write and sync them. The copy holds lock values, and so
//! clone URLs with tokens, for this user's eyes only; closing removes it, kill -9 leaves it behind.
//!
//! Invariants:
//! - Nothing in the store's folder changes, its times of change included.
//! - The copy is of one moment: while it is made, a shared lock keeps servers out. A server that starts meanwhile waits (`folder.rs`).
//! - Beside a server that has the folder open there is no look: `StoreBusy`.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;

use super::folder::{busy, create_private_dir, not_writable, unreadable};
use super::open::{absolute, copy_store};
use super::store::SledStore;
use crate::call::Call;
use crate::clock::Clock;
use crate::error::{Code, Error, Result};
use crate::store::contract::local::{Conflict, EntryKey, KeyState, LocalStore as _, RedisRecord};
use crate::store::read_only::{ReadOnly, Reads};
use crate::store::{Listing, LockInfo, LockKey, Store as _};

/// What the store's folder may hold that counts; the first two are files.
const PARTS: [&str; 4] = ["format.json", "journal", "sled", "sled.saved"];

/// The embedded store as it was when it was opened to look at it.
#[derive(Debug)]
pub struct SledReader {
    store: SledStore,
    // Behind the store, which is closed first.
    copy: Mutex<Option<Copy>>,
}

impl SledStore {
    /// Opens a copy of the store in the folder `dir`, of which nothing is changed.
    ///
    /// It needs room for two copies of the data in the system's temporary folder (`TMPDIR`) until it is closed.
    ///
    /// Errors: `StoreBusy` if a server has the folder open; `InvalidConfig` if no store was created there; `StoreNotWritable` if the
    /// folder cannot be read or the temporary one not be written; `StoreNewerFormat`; `StoreDamaged`.
    pub fn open_read_only(dir: &Path, clock: Arc<dyn Clock>) -> Result<ReadOnly<SledReader>> {
        let dir = absolute(dir)?;
        let copy = copy(&dir)?;
        let store = SledStore::open(&copy.0, clock)
            .map_err(|e| e.context(format!("in a copy of {}, made to look at it", dir.display())))?;
        Ok(ReadOnly(SledReader { store, copy: Mutex::new(Some(copy)) }))
    }
}

impl SledReader {
    /// What the store remembers of its Redis.
    pub fn redis_record(&self) -> Result<Option<RedisRecord>> {
        self.store.redis_record()
    }

    /// The conflicts that it remembers.
    pub fn conflicts(&self) -> Result<Vec<Conflict>> {
        self.store.conflicts()
    }

    /// What it knows of each key.
    pub fn everything(&self) -> Result<Vec<(EntryKey, KeyState)>> {
        self.store.everything()
    }
}

impl Reads for SledReader {
    fn get(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        self.store.get(key, call)
    }

    fn list(&self, call: &Call) -> Result<Listing> {
        self.store.list(call)
    }

    fn lock_info(&self, key: LockKey<'_>, call: &Call) -> Result<Option<LockInfo>> {
        self.store.lock_info(key, call)
    }

    fn pull_status(&self, key: &str, call: &Call) -> Result<Option<Vec<u8>>> {
        self.store.pull_status(key, call)
    }

    fn ping(&self, call: &Call) -> Result<()> {
        self.store.ping(call)
    }

    /// None: those of the copy's disk are no concern of the server's.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    fn close(&self) -> Result<()> {
        let closed = self.store.close();
        drop(self.copy.lock().take());
        closed
    }
}

/// A private folder, removed on drop.
#[derive(Debug)]
struct Copy(PathBuf);

impl Copy {
    fn new() -> Result<Copy> {
        let random =
            getrandom::u64().map_err(|e| Error::new(Code::Internal, format!("the system gives no random numbers: {e}")))?;
        let path = std::env::temp_dir().join(format!("atlock-look-{random:016x}"));
        create_private_dir(&path).map_err(|e| not_writable(&path, &e))?;
        Ok(Copy(path))
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // What stays behind is in the temporary folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn copy(dir: &Path) -> Result<Copy> {
    refuse_if_none(dir)?;
    let lock = lock_shared(dir)?;
    let copy = Copy::new()?;
    let copied = PARTS.iter().try_for_each(|part| {
        let (from, to) = (dir.join(part), copy.0.join(part));
        match fs::metadata(&from) {
            Ok(found) if found.is_dir() => copy_store(&from, &to),
            Ok(_) => fs::copy(&from, &to).map(drop),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(e),
        }
    });
    if let Some(lock) = lock {
        // Closing the file is not enough: a child process that is just being started has it open until its exec.
        let _ = lock.unlock();
    }
    match copied {
        Ok(()) => Ok(copy),
        Err(e) if matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => Err(not_writable(&copy.0, &e)),
        Err(e) => Err(unreadable(dir, &e)),
    }
}

/// A wrong path is not an empty store.
fn refuse_if_none(dir: &Path) -> Result<()> {
    for part in ["format.json", "sled"] {
        match fs::metadata(dir.join(part)) {
            Ok(_) => return Ok(()),
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(e) => return Err(unreadable(dir, &e)),
        }
    }
    let text =
        format!("there is no store in {}: is locking.data_dir right? A server creates its store when it starts", dir.display());
    Err(Error::new(Code::InvalidConfig, text))
}

/// Keeps servers out; `None` where no store was ever locked.
fn lock_shared(dir: &Path) -> Result<Option<File>> {
    let mut file = match File::open(dir.join("lock")) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(unreadable(dir, &e)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(busy(dir, &mut file)),
        Err(TryLockError::Error(e)) => Err(unreadable(dir, &e)),
    }
}
