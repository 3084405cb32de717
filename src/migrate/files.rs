//! The files of a migration: written whole and durably, or not at all, for this user alone.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::error::{Code, Error, Result};

/// A folder that one migration has to itself until it is dropped.
#[derive(Debug)]
pub(super) struct WorkFolder {
    pub path: PathBuf,
    lock: File,
}

impl WorkFolder {
    /// Creates it if it is missing. Errors: `StoreBusy` if another process has it.
    pub fn open(path: &Path) -> Result<WorkFolder> {
        let path = std::path::absolute(path).map_err(|e| failed(path, &e))?;
        if let Err(e) = DirBuilder::new().mode(0o700).recursive(true).create(&path) {
            return Err(failed(&path, &e));
        }
        let lock = path.join("lock");
        let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&lock);
        let file = file.map_err(|e| failed(&lock, &e))?;
        match file.try_lock() {
            Ok(()) => Ok(WorkFolder { path, lock: file }),
            Err(TryLockError::WouldBlock) => {
                let text = format!("another `atlock` command is at the migration in {}: wait for its end", path.display());
                Err(Error::new(Code::StoreBusy, text))
            }
            Err(TryLockError::Error(e)) => Err(failed(&lock, &e)),
        }
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        // Closing the file is not enough: a child process that is just being started has it open until its exec.
        let _ = self.lock.unlock();
    }
}

/// Writes a file whole and durably.
pub(super) fn write_whole(path: &Path, write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) -> Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = path.with_file_name(name);
    let written = || {
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        let mut buffered = io::BufWriter::new(file);
        write(&mut buffered)?;
        buffered.flush()?;
        buffered.get_ref().sync_all()?;
        fs::rename(&new, path)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    };
    written().map_err(|e| failed(path, &e))
}

/// A file's content.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| Error::new(Code::InvalidArgument, format!("{} cannot be read: {e}", path.display())))
}

fn failed(path: &Path, error: &io::Error) -> Error {
    let text = format!("{} cannot be written: {error}. Name a folder that this user may write with --work", path.display());
    Error::new(Code::StoreNotWritable, text)
}

/// How many bytes may still be written on the disk of this file or folder, which may not be there yet; `None` if that is not known.
pub(super) fn room_on_disk(path: &Path) -> Option<u64> {
    let above = path.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    rustix::fs::statvfs(above).ok().map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize))
}
