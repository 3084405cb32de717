//! Looking at the store of a server that does not run.
//!
//! sled cannot open its files without writing to them, and so repairs, cuts and creates. So the store's files are copied to a private
//! folder in the system's temporary one, and the copy is opened, with every check that an opening makes. What that costs: room for
//! two copies of the data there for as long as it is open, and the time to write and sync them. The copy holds lock values, sealed if those of the
//! store are, and so clone URLs with tokens, for this user's eyes only; closing removes it. A signal that ends the process (Ctrl-C, SIGTERM, kill -9) leaves it behind, and a later
//! look of the same user removes it once it is an hour old.
//!
//! Invariants:
//! - Nothing in the store's folder changes, its times of change included.
//! - The copy is of one moment: while it is made, a shared lock keeps servers out. A server that starts meanwhile waits (`folder.rs`),
//!   so a look that has kept servers out for 8 s gives up.
//! - A copy that somebody has open is not removed: its own `lock` file is locked, as in any store's folder.
//! - Beside a server that has the folder open there is no look: `StoreBusy`.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sync::Mutex;

use super::files::Files as _;
use super::folder::{LOOKING, busy, not_writable, unreadable};
use super::moved::refuse_marked;
use super::open::{absolute, copy_store};
use super::store::SledStore;
use super::system_files::SystemFiles;
use crate::call::Call;
use crate::clock::Clock;
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::sealing::MasterKeys;
use crate::store::contract::local::{Conflict, EntryKey, Held, KeyState, LocalStore as _, RedisRecord};
use crate::store::read_only::{ReadOnly, Reads};
use crate::store::{DocumentKey, Listing, LockInfo, LockKey, Store as _};

/// What the store's folder may hold that counts; the first two are files.
const PARTS: [&str; 4] = ["format.json", "journal", "sled", "sled.saved"];

/// The beginning of a copy's name.
const NAME: &str = "atlock-look-";
/// A copy that is older, and that nobody has open, was left behind.
const LEFT_BEHIND: Duration = Duration::from_secs(3600);
/// So many bytes are copied between two looks at the time.
const PIECE: u64 = 8 << 20;

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
    /// folder cannot be read or the temporary one not be written; `Timeout` if copying takes longer than a server that starts would wait;
    /// `StoreNewerFormat`; `StoreDamaged`; `StoreMoved` if a migration has moved its locks away, or is about to.
    ///
    /// `masters` opens what is sealed; `EncryptionKey` if no key that is given does.
    pub fn open_read_only(dir: &Path, clock: Arc<dyn Clock>, masters: Option<&MasterKeys>) -> Result<ReadOnly<SledReader>> {
        refuse_marked(SledStore::mark_in(dir)?, dir)?;
        SledStore::read_to_migrate(dir, clock, masters)
    }

    /// The same, also of a store with a mark: for a migration.
    pub fn read_to_migrate(dir: &Path, clock: Arc<dyn Clock>, masters: Option<&MasterKeys>) -> Result<ReadOnly<SledReader>> {
        let dir = absolute(dir)?;
        let copy = copy(&dir, LOOKING)?;
        let store = SledStore::open_sealed(&copy.0, clock, masters)
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

    /// The largest fencing token that it has given or been given.
    pub fn last_token(&self) -> Result<FencingToken> {
        self.store.last_token()
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

    fn document(&self, key: DocumentKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        self.store.document(key, call)
    }

    fn ping(&self, call: &Call) -> Result<()> {
        self.store.ping(call)
    }

    fn queues(&self, call: &Call) -> Result<Vec<String>> {
        self.store.queues(call)
    }

    fn held(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Held>> {
        self.store.held(key, call)
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
        let temporary = std::env::temp_dir();
        let path = temporary.join(format!("{NAME}{random:016x}"));
        SystemFiles.create_dir(&path).map_err(|e| not_writable(&path, &e))?;
        let copy = Copy(path);
        // Its owner is who looks.
        if let Ok(ours) = fs::metadata(&copy.0) {
            remove_left_behind(&temporary, ours.uid());
        }
        Ok(copy)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // What stays behind is in the temporary folder.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Removes the copies of this user's looks that were ended by a signal. What cannot be removed stays.
fn remove_left_behind(temporary: &Path, user: u32) {
    for entry in fs::read_dir(temporary).into_iter().flatten().flatten() {
        let is_copy = entry.file_name().to_str().is_some_and(|name| name.starts_with(NAME));
        // Of the entry itself, not of what a link leads to.
        let Some(found) = entry.metadata().ok().filter(|found| is_copy && found.is_dir() && found.uid() == user) else {
            continue;
        };
        let is_old = found.modified().is_ok_and(|at| at.elapsed().is_ok_and(|age| age > LEFT_BEHIND));
        let lock = File::open(entry.path().join("lock"));
        if is_old && lock.as_ref().map_or(true, |lock| lock.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Copies the store; `limit` is how long servers may be kept out for that.
fn copy(dir: &Path, limit: Duration) -> Result<Copy> {
    refuse_if_none(dir)?;
    let lock = lock_shared(dir)?;
    let give_up = Instant::now() + limit;
    let copy = Copy::new()?;
    let copy_file = |from: &Path, to: &Path| copy_until(from, to, give_up);
    let copied = PARTS.iter().try_for_each(|part| {
        let (from, to) = (dir.join(part), copy.0.join(part));
        match fs::metadata(&from) {
            Ok(found) if found.is_dir() => copy_store(&SystemFiles, &from, &to, &copy_file),
            Ok(_) => copy_file(&from, &to),
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
        Err(e) if e.kind() == io::ErrorKind::TimedOut => Err(too_slow(dir, limit)),
        Err(e) => Err(unreadable(dir, &e)),
    }
}

/// Copies a file; an error of kind `TimedOut` where that is not done in time.
fn copy_until(from: &Path, to: &Path, give_up: Instant) -> io::Result<()> {
    let from = File::open(from)?;
    let mut to = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    loop {
        if Instant::now() >= give_up {
            return Err(io::ErrorKind::TimedOut.into());
        }
        if io::copy(&mut (&from).take(PIECE), &mut to)? < PIECE {
            return Ok(());
        }
    }
}

fn too_slow(dir: &Path, limit: Duration) -> Error {
    let text = format!(
        "the store in {} was not copied within {} s, and a server that starts does not wait longer: try again while the disk is less \
         busy, or set TMPDIR to a faster one",
        dir.display(),
        limit.as_secs()
    );
    Error::new(Code::Timeout, text)
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
    let file = match File::open(dir.join("lock")) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(unreadable(dir, &e)),
    };
    match file.try_lock_shared() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Err(busy(dir, &file)),
        Err(TryLockError::Error(e)) => Err(unreadable(dir, &e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;

    #[test]
    fn a_look_that_is_too_slow_lets_servers_in() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("locks");
        SledStore::open(&dir, Arc::new(SystemClock)).unwrap().close().unwrap();
        let error = copy(&dir, Duration::ZERO).unwrap_err();
        assert!(error.code() == Code::Timeout && error.message().contains("was not copied within 0 s"), "{error}");
        SledStore::open(&dir, Arc::new(SystemClock)).unwrap().close().unwrap();
    }

    #[test]
    fn a_file_of_several_pieces_is_copied_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let bytes: Vec<u8> = (0..2 * PIECE + 5).map(|at| (at % 251) as u8).collect();
        fs::write(&from, &bytes).unwrap();
        copy_until(&from, &to, Instant::now() + Duration::from_secs(60)).unwrap();
        assert!(fs::read(&to).unwrap() == bytes);
    }
}
