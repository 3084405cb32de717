//! All that the engine asks of the file system, and of sled: the seam at which a simulated disk takes the place of the real one.
//!
//! Invariants that the engine rests on, whoever is behind this:
//! - [`OpenFile::write_at`] of a file opened by [`Files::open_blocks`] is durable when it returns; so is a file's content after
//!   [`Files::write`], [`Files::sync_file`] and [`OpenFile::sync_data`], and a folder's names after [`Files::sync_dir`]. Nothing else is.
//! - A rename replaces a name at once: whoever looks, also after a crash, finds the old file or the new one.
//! - A file that is open stays the same file wherever its name goes.
//! - A failed sync may have forgotten what it should have written: the next one succeeds, and reading shows what is on no disk.
//!
//! The machine's own is in `system_files.rs`.

use std::ffi::OsString;
use std::fmt::Debug;
use std::fs::TryLockError;
use std::io;
use std::path::Path;

use super::database::Database;

/// What is at a path, or open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Device and inode: no other file has them as long as this one is open.
    pub identity: (u64, u64),
    /// Bytes of a file.
    pub length: u64,
    pub is_dir: bool,
}

/// An entry of a folder.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub name: OsString,
    pub is_dir: bool,
}

/// The file system. Safe from any thread.
pub(crate) trait Files: Debug + Send + Sync {
    /// What is at the path; `None` if nothing is.
    fn look(&self, path: &Path) -> io::Result<Option<Found>>;
    /// The entries of a folder.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;
    /// A whole file.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Creates a file for this user alone, or replaces its content. The content is durable, the name is not.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    /// Copies a file.
    fn copy(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file or a folder another name, in the place of what has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a folder and all in it.
    fn remove_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Creates a folder for this user alone, whatever the process's umask.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes a file's content durable.
    fn sync_file(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Opens a file, to sync it.
    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>>;
    /// Opens a file to write whole blocks, durably; `direct`: past the page cache, where the file system takes that.
    fn open_blocks(&self, path: &Path, direct: bool) -> io::Result<Box<dyn OpenFile>>;
    /// Opens the file whose lock stands for its folder, for this user alone; creates it if it is missing.
    fn open_lock(&self, path: &Path) -> io::Result<Box<dyn LockFile>>;
    /// Bytes that are free on the folder's disk.
    fn free_space(&self, dir: &Path) -> io::Result<u64>;
    /// Opens the database in a folder, and creates what is missing of it. Like sled it may panic, and repairs destructively.
    fn open_database(&self, dir: &Path) -> sled::Result<Box<dyn Database>>;
}

/// An open file.
pub(crate) trait OpenFile: Debug + Send + Sync {
    fn found(&self) -> io::Result<Found>;
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()>;
    fn sync_data(&self) -> io::Result<()>;
}

/// An open file with an advisory lock, which ends with it.
pub(crate) trait LockFile: Debug + Send + Sync {
    fn found(&self) -> io::Result<Found>;
    fn try_lock(&self) -> Result<(), TryLockError>;
    fn try_lock_shared(&self) -> Result<(), TryLockError>;
    fn unlock(&self) -> io::Result<()>;
    /// Its text, if nobody has read or written it by this file.
    fn text(&self) -> io::Result<String>;
    /// Replaces its text.
    fn set_text(&self, text: &str) -> io::Result<()>;
}
