//! The machine's file system, and sled.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use super::database::{self, Database};
use super::files::{Entry, Files, Found, LockFile, OpenFile};

/// `std::fs`.
#[derive(Clone, Copy, Debug)]
pub(super) struct SystemFiles;

impl Files for SystemFiles {
    fn look(&self, path: &Path) -> io::Result<Option<Found>> {
        match fs::metadata(path) {
            Ok(metadata) => Ok(Some(Found::from(metadata))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let entry = |entry: fs::DirEntry| Ok(Entry { name: entry.file_name(), is_dir: entry.file_type()?.is_dir() });
        fs::read_dir(dir)?.map(|found| found.and_then(entry)).collect()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::copy(from, to).map(drop)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir_all(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        DirBuilder::new().mode(0o700).create(dir)
    }

    fn sync_file(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn OpenFile>> {
        Ok(Box::new(File::open(path)?))
    }

    fn open_blocks(&self, path: &Path, direct: bool) -> io::Result<Box<dyn OpenFile>> {
        let flags = if direct { libc::O_DIRECT | libc::O_DSYNC } else { libc::O_DSYNC };
        Ok(Box::new(open_durable(path, flags)?))
    }

    fn open_lock(&self, path: &Path) -> io::Result<Box<dyn LockFile>> {
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        Ok(Box::new(options?))
    }

    fn free_space(&self, dir: &Path) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(dir)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }

    fn open_database(&self, dir: &Path) -> sled::Result<Box<dyn Database>> {
        database::open_sled(dir)
    }
}

fn open_durable(path: &Path, flags: i32) -> io::Result<File> {
    match OpenOptions::new().write(true).custom_flags(flags).open(path) {
        Err(e) if flags != libc::O_DSYNC && e.raw_os_error() == Some(libc::EINVAL) => open_durable(path, libc::O_DSYNC),
        result => result,
    }
}

impl From<fs::Metadata> for Found {
    fn from(metadata: fs::Metadata) -> Found {
        Found { identity: (metadata.dev(), metadata.ino()), length: metadata.len(), is_dir: metadata.is_dir() }
    }
}

impl OpenFile for File {
    fn found(&self) -> io::Result<Found> {
        self.metadata().map(Found::from)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn sync_data(&self) -> io::Result<()> {
        File::sync_data(self)
    }
}

impl LockFile for File {
    fn found(&self) -> io::Result<Found> {
        self.metadata().map(Found::from)
    }

    fn try_lock(&self) -> Result<(), TryLockError> {
        File::try_lock(self)
    }

    fn try_lock_shared(&self) -> Result<(), TryLockError> {
        File::try_lock_shared(self)
    }

    fn unlock(&self) -> io::Result<()> {
        File::unlock(self)
    }

    fn text(&self) -> io::Result<String> {
        let mut text = String::new();
        // A process's number is short.
        self.take(32).read_to_string(&mut text)?;
        Ok(text)
    }

    fn set_text(&self, text: &str) -> io::Result<()> {
        self.set_len(0)?;
        let mut file = self;
        file.write_all(text.as_bytes())
    }
}
