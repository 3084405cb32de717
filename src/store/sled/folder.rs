//! The folder on disk: who may use it, and in which format it is.
//!
//! ```text
//! <dir>/lock           flock; holds the pid of the process that has the folder open. Shared while somebody copies the store
//!                      to look at it (`read_only.rs`): an opener waits for that, and for nobody else
//! <dir>/format.json    {"format":1,…}; written last, so it says that the store was created completely. 2 where keys are those of Atlantis before
//!                      v0.40 (`rekey.rs`), 3 where there are data keys (`sealed.rs`), 4 for both
//! <dir>/migration.json the mark of a migration (`moved.rs`)
//! <dir>/journal        the last acknowledged groups (`journal.rs`)
//! <dir>/sled/          sled's own files
//! <dir>/sled.creating/ a store that was not yet created completely; nothing in it was ever acknowledged
//! <dir>/sled.saving/   a copy of sled/ that is not whole, or what is left of sled.saved/
//! <dir>/sled.saved/    sled/ as it was, only while the copy in its place is checked on opening
//! ```

use std::fs::{self, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::files::{Files, LockFile, OpenFile};
use super::ground::Ground;
use super::journal::Journal;
use crate::clock::Clock;
use crate::domain::key::KeyFormat;
use crate::error::{Code, Error, Result};

/// What the format's number says. Numbers of their own, so that no version takes old keys for today's, or sealed values for damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Format {
    keys: KeyFormat,
    /// Whether there are data keys.
    is_sealed: bool,
}

impl Format {
    fn of_a_new_store() -> Format {
        Format { keys: KeyFormat::of_process(), is_sealed: false }
    }
}

/// All formats, from number 1 on.
const FORMATS: [Format; 4] = [
    Format { keys: KeyFormat::Current, is_sealed: false },
    Format { keys: KeyFormat::Old, is_sealed: false },
    Format { keys: KeyFormat::Current, is_sealed: true },
    Format { keys: KeyFormat::Old, is_sealed: true },
];

/// Free space below which an operator is warned, bytes. Opening needs room for a second copy of the data, too.
const LITTLE_SPACE: u64 = 64 << 20;

/// How long an opener waits for those who copy the store to look at it.
const READERS: Duration = Duration::from_secs(10);
/// How long one of them may take: an opener that began to wait with it has the folder in time.
pub(super) const LOOKING: Duration = Duration::from_secs(8);
/// Time between two looks whether they are done.
const PAUSE: Duration = Duration::from_millis(5);

#[derive(Serialize, Deserialize)]
struct FormatFile {
    format: u64,
    #[serde(default)]
    written_by: String,
}

/// A locked folder. Dropping it lets others in.
#[derive(Debug)]
pub(super) struct Folder {
    files: Arc<dyn Files>,
    dir: PathBuf,
    lock: Box<dyn LockFile>,
}

impl Folder {
    /// Creates the folder if it is missing, durably and for this user alone, and locks it.
    ///
    /// Errors: `StoreNotWritable`; `StoreBusy`, at once, if another opener has it, or if it is being looked at for long.
    pub(super) fn lock(files: &Arc<dyn Files>, dir: &Path, clock: &dyn Clock) -> Result<Folder> {
        Folder::lock_within(files, dir, clock, READERS)
    }

    fn lock_within(files: &Arc<dyn Files>, dir: &Path, clock: &dyn Clock, readers: Duration) -> Result<Folder> {
        let opened = create_durably(&**files, dir).and_then(|()| files.open_lock(&dir.join("lock")));
        let file = opened.map_err(|e| not_writable(dir, &e))?;
        let give_up = clock.now() + readers;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if is_only_read(&*file) => {
                    if clock.now() >= give_up {
                        return Err(looked_at(dir));
                    }
                    clock.sleep(PAUSE);
                }
                Err(TryLockError::WouldBlock) => return Err(busy(dir, &*file)),
                Err(TryLockError::Error(e)) => return Err(not_writable(dir, &e)),
            }
        }
        file.set_text(&format!("{}\n", std::process::id())).map_err(|e| not_writable(dir, &e))?;
        Ok(Folder { files: Arc::clone(files), dir: dir.to_owned(), lock: file })
    }

    /// The folder's path.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Path of one of its files.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The file system that the folder is on.
    pub(super) fn files(&self) -> &dyn Files {
        &*self.files
    }

    /// Whether it has a file or folder of this name.
    pub(super) fn has(&self, name: &str) -> io::Result<bool> {
        Ok(self.files.look(&self.path(name))?.is_some())
    }

    /// Makes the names in it durable.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.files.sync_dir(&self.dir)
    }

    /// What the open store stands on: this folder's lock file, sled's log and the journal.
    pub(super) fn ground(&self, log: &dyn OpenFile, journal: &Journal) -> io::Result<Ground> {
        let (lock, log, file) = (self.lock.found()?, log.found()?, journal.found()?);
        Ok(Ground::new(Arc::clone(&self.files), &self.dir, lock, log, file, journal.length()))
    }

    /// Whether the format file is there.
    ///
    /// Errors: `StoreNewerFormat`; `StoreDamaged` if it cannot be read.
    pub(super) fn has_format(&self) -> Result<bool> {
        Ok(self.format()?.is_some())
    }

    /// How the store's keys are made; `None` if the format file is not there.
    ///
    /// Errors: as [`Folder::has_format`].
    pub(super) fn keys(&self) -> Result<Option<KeyFormat>> {
        Ok(self.format()?.map(|format| format.keys))
    }

    fn format(&self) -> Result<Option<Format>> {
        let path = self.path("format.json");
        let bytes = match self.files.read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.damaged(format!("{} cannot be read: {e}", path.display()))),
        };
        let file: FormatFile =
            serde_json::from_slice(&bytes).map_err(|e| self.damaged(format!("{} is not in its format: {e}", path.display())))?;
        let Some(format) = usize::try_from(file.format).ok().and_then(|number| FORMATS.get(number.checked_sub(1)?)) else {
            let text = format!(
                "the store in {} has format {}, written by {:?}; this version reads formats up to {}: use that newer version",
                self.dir.display(),
                file.format,
                file.written_by,
                FORMATS.len()
            );
            return Err(Error::new(Code::StoreNewerFormat, text));
        };
        Ok(Some(*format))
    }

    /// Says in the format file whether the store has data keys.
    pub(super) fn set_sealed(&self, is_sealed: bool) -> Result<()> {
        self.change(|format| Format { is_sealed, ..format })
    }

    /// Says in the format file that the store's keys are made as this process makes them.
    pub(super) fn set_keys(&self) -> Result<()> {
        self.change(|format| Format { keys: KeyFormat::of_process(), ..format })
    }

    fn change(&self, change: impl FnOnce(Format) -> Format) -> Result<()> {
        let is = self.format()?;
        match change(is.unwrap_or_else(Format::of_a_new_store)) {
            to_be if is == Some(to_be) => Ok(()),
            to_be => self.write(to_be).map_err(|e| self.not_writable(&e)),
        }
    }

    /// Writes the format file of a new store, atomically and durably.
    pub(super) fn write_format(&self) -> io::Result<()> {
        self.write(Format::of_a_new_store())
    }

    fn write(&self, format: Format) -> io::Result<()> {
        let format = FORMATS.iter().zip(1..).find(|(known, _)| **known == format).map_or(0, |(_, number)| number);
        let text =
            serde_json::to_vec(&FormatFile { format, written_by: concat!("atlock ", env!("CARGO_PKG_VERSION")).to_owned() })?;
        let new = self.path("format.json.new");
        self.files.write(&new, &text)?;
        self.files.rename(&new, &self.path("format.json"))?;
        self.sync()
    }

    /// An error of code `StoreDamaged` about this folder, with what to do.
    pub(super) fn damaged(&self, what: impl std::fmt::Display) -> Error {
        let text = format!(
            "the store in {} is damaged: {what}. No data in it was changed. Restore the whole folder from a backup; or, \
             if its locks may be lost, move it away and start with an empty one",
            self.dir.display()
        );
        Error::new(Code::StoreDamaged, text)
    }

    /// An error of code `StoreNotWritable` about this folder.
    pub(super) fn not_writable(&self, error: &io::Error) -> Error {
        not_writable(&self.dir, error)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Closing the file is not enough: a child process that is just being started has it open until its exec.
        let _ = self.lock.unlock();
    }
}

/// A text for an operator if the disk is nearly full: a store that cannot write refuses everything.
pub(super) fn little_space(files: &dyn Files, dir: &Path) -> Option<String> {
    let free = files.free_space(dir).ok()?;
    (free < LITTLE_SPACE).then(|| {
        let (dir, free, little) = (dir.display(), free >> 20, LITTLE_SPACE >> 20);
        format!("the disk of {dir} has {free} MiB left: the store refuses everything once it is full; keep {little} MiB free")
    })
}

/// Whether those who have the folder only look at it.
fn is_only_read(file: &dyn LockFile) -> bool {
    let is_only_read = file.try_lock_shared().is_ok();
    if is_only_read {
        // Else two openers would wait for each other.
        let _ = file.unlock();
    }
    is_only_read
}

/// The store in this folder is another's, or this process has it open already.
pub(super) fn busy(dir: &Path, file: &dyn LockFile) -> Error {
    // The holder may be about to write it.
    let pid = file.text().unwrap_or_default();
    let dir = dir.display();
    let text = match pid.trim() {
        "" => format!("the store in {dir} is in use by another opener: stop it, or give this one a folder of its own"),
        own if own == std::process::id().to_string() => {
            format!(
                "the store in {dir} is open in this process ({own}) already: use it where it is open, or close it there first"
            )
        }
        other => format!("the store in {dir} is in use by process {other}: stop it, or give this one a folder of its own"),
    };
    Error::new(Code::StoreBusy, text)
}

/// Whether the folder has this file.
///
/// Errors: `StoreNotWritable` if that cannot be told.
pub(super) fn is_there(dir: &Path, name: &str) -> Result<bool> {
    match fs::metadata(dir.join(name)) {
        Ok(_) => Ok(true),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(false),
        Err(e) => {
            let text = format!(
                "the folder {} of locking.data_dir cannot be looked at: {e}. A store there may have locks, which would be granted again: \
                 give this user the folder, or start as the user that has it; or name the folder that is meant",
                dir.display()
            );
            Err(Error::new(Code::StoreNotWritable, text))
        }
    }
}

/// Nobody has the store in this folder; the pid in the lock file is that of the last one who had.
fn looked_at(dir: &Path) -> Error {
    let text = format!(
        "the store in {} is being looked at by an `atlock` command: wait for its end, or end it, and try again",
        dir.display()
    );
    Error::new(Code::StoreBusy, text)
}

/// An error of code `StoreNotWritable`: whoever looks may not even read.
pub(super) fn unreadable(dir: &Path, error: &io::Error) -> Error {
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => ". Run the command as the user that the server runs as (sudo -u …)",
        _ => "",
    };
    let text = format!("the store's folder {} cannot be read: {error}{remedy}", dir.display());
    Error::new(Code::StoreNotWritable, text)
}

pub(super) fn not_writable(dir: &Path, error: &io::Error) -> Error {
    use io::ErrorKind::{QuotaExceeded, StorageFull};
    let remedy = match error.kind() {
        StorageFull | QuotaExceeded => "Make room on its disk; opening needs as much as the store has",
        _ => "Give this user a writable folder there",
    };
    let text = format!("the store's folder {} cannot be written: {error}. {remedy}", dir.display());
    Error::new(Code::StoreNotWritable, text)
}

/// Creates a folder and the missing ones above it. Each is in its parent, on disk, before this returns.
fn create_durably(files: &dyn Files, dir: &Path) -> io::Result<()> {
    let is_there = || matches!(files.look(dir), Ok(Some(found)) if found.is_dir);
    let parent = match dir.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None if is_there() => return Ok(()),
        None => return Err(io::ErrorKind::NotFound.into()),
    };
    if is_there() {
        return sync_name(files, parent);
    }
    create_durably(files, parent)?;
    match files.create_dir(dir) {
        // A second opener was faster.
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists && is_there() => {}
        result => result?,
    }
    files.sync_dir(parent)
}

/// Makes the name of a folder that somebody made durable: who made it may have been ended before. What cannot be synced is not this
/// user's, or on another file system: nobody who runs this made it.
fn sync_name(files: &dyn Files, parent: &Path) -> io::Result<()> {
    use io::ErrorKind::{InvalidInput, PermissionDenied, ReadOnlyFilesystem, Unsupported};
    match files.sync_dir(parent) {
        Err(e) if matches!(e.kind(), InvalidInput | PermissionDenied | ReadOnlyFilesystem | Unsupported) => Ok(()),
        result => result,
    }
}

/// Removes a folder and all in it, if it is there.
pub(super) fn remove_dir(files: &dyn Files, dir: &Path) -> io::Result<()> {
    match files.remove_dir_all(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::super::system_files::SystemFiles;
    use super::*;
    use crate::clock::SystemClock;

    fn lock_within(dir: &Path, readers: Duration) -> Result<Folder> {
        let files: Arc<dyn Files> = Arc::new(SystemFiles);
        Folder::lock_within(&files, dir, &SystemClock, readers)
    }

    fn lock(dir: &Path) -> Result<Folder> {
        lock_within(dir, READERS)
    }

    #[test]
    fn a_full_disk_and_a_folder_of_another_user_have_remedies_of_their_own() {
        let text = |kind: io::ErrorKind| not_writable(Path::new("/x"), &kind.into()).message().to_owned();
        assert!(text(io::ErrorKind::StorageFull).ends_with("Make room on its disk; opening needs as much as the store has"));
        assert!(text(io::ErrorKind::PermissionDenied).ends_with("Give this user a writable folder there"));
    }

    #[test]
    fn an_opener_waits_for_who_looks_and_for_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        drop(lock(dir.path()).unwrap());
        let reader = File::open(dir.path().join("lock")).unwrap();
        reader.try_lock_shared().unwrap();
        std::thread::scope(|scope| {
            let openers: Vec<_> = (0..2).map(|_| scope.spawn(|| lock(dir.path()))).collect();
            std::thread::sleep(Duration::from_millis(100));
            assert!(openers.iter().all(|opener| !opener.is_finished()));
            reader.unlock().unwrap();
            // Of two, one has it, and keeps it until both have an answer.
            let answers: Vec<_> = openers.into_iter().map(|opener| opener.join().unwrap()).collect();
            assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
        });
    }

    #[test]
    fn an_opener_that_waited_too_long_names_no_server_that_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        drop(lock(dir.path()).unwrap());
        let reader = File::open(dir.path().join("lock")).unwrap();
        reader.try_lock_shared().unwrap();
        let error = lock_within(dir.path(), Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.code(), Code::StoreBusy);
        assert!(
            error.message().contains("is being looked at by an `atlock` command") && !error.message().contains("process"),
            "{error}"
        );
        reader.unlock().unwrap();
        let _server = lock(dir.path()).unwrap();
        let error = lock_within(dir.path(), Duration::from_millis(50)).unwrap_err();
        assert!(error.message().contains(&format!("is open in this process ({}) already", std::process::id())), "{error}");
    }

    /// As by a child process between its fork and its exec.
    #[test]
    fn a_closed_folder_is_free_although_its_file_is_still_open_elsewhere() {
        let dir = tempfile::tempdir().unwrap();
        let file = File::create(dir.path().join("lock")).unwrap();
        file.try_lock().unwrap();
        let _inherited = file.try_clone().unwrap();
        let folder = Folder { files: Arc::new(SystemFiles), dir: dir.path().to_owned(), lock: Box::new(file) };
        assert_eq!(lock(dir.path()).unwrap_err().code(), Code::StoreBusy);
        drop(folder);
        lock(dir.path()).unwrap();
    }
}
