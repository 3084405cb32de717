//! Whether the store is still at its paths.
//!
//! Invariant: a change is acknowledged only if, after it became durable, the paths of the lock file, the journal and sled's log still
//! led to the files that the store has open. So what was acknowledged was where the next opening looks for it, and nobody else could
//! open a store at that path meanwhile: who is kept out is kept out by the lock file *at the path* (`folder.rs`).
//!
//! Without this look a store whose folder was moved, deleted, replaced by a copy or mounted over would go on in files that nobody
//! will ever open again, beside a second store at its path.
//!
//! Faults noticed, by the next group or the next `ping`, for good (`health.rs`): those, one of the three files alone replaced or
//! deleted, a part of the path that can no longer be looked into, a journal that was cut short. What was acknowledged before is in the
//! files that are open; who deletes them loses it, and no look can prevent that. Between the look and the caller's hearing of it lies a
//! moment, as between any answer and its arrival.
//!
//! Not noticed at once: a change of the path that another machine made on a network file system, for as long as this one's kernel
//! remembers the old names.
//!
//! The folder itself needs no look: another folder with the same three files can only be made of hard links, and is locked by ours.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Code, Error, Result};

/// The files that must stay where they are. Safe from any thread.
#[derive(Debug)]
pub(super) struct Ground {
    dir: PathBuf,
    files: [Place; 3],
}

/// A file that is open, and where it was opened.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    file: (u64, u64),
    /// It has at least so many bytes.
    length: u64,
}

impl Place {
    fn of(path: PathBuf, file: &File, length: u64) -> io::Result<Place> {
        Ok(Place { path, file: identity(&file.metadata()?), length })
    }

    fn check(&self) -> std::result::Result<(), String> {
        let path = self.path.display();
        match fs::metadata(&self.path) {
            Ok(found) if identity(&found) != self.file => {
                Err(format!("{path} is another file than the one that the store has open"))
            }
            Ok(found) if found.len() < self.length => {
                Err(format!("{path} was cut to {} bytes; the store had made it {} bytes long", found.len(), self.length))
            }
            Ok(_) => Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(format!("{path} is gone")),
            Err(e) => Err(format!("{path} cannot be looked at: {e}")),
        }
    }
}

impl Ground {
    /// The files as they are open; the journal never has fewer than `journal_length` bytes.
    pub(super) fn new(dir: &Path, lock: &File, log: &File, journal: &File, journal_length: u64) -> io::Result<Ground> {
        let files = [
            Place::of(dir.join("lock"), lock, 0)?,
            Place::of(dir.join("journal"), journal, journal_length)?,
            Place::of(dir.join("sled/db"), log, 0)?,
        ];
        Ok(Ground { dir: dir.to_owned(), files })
    }

    /// Looks at each path.
    ///
    /// Errors: `StoreFailed`, with what was found and what to do.
    pub(super) fn check(&self) -> Result<()> {
        self.files.iter().try_for_each(Place::check).map_err(|found| self.lost(&found))
    }

    fn lost(&self, found: &str) -> Error {
        let dir = self.dir.display();
        let found = if self.dir.exists() { found.to_owned() } else { format!("{dir} is gone") };
        let text = format!(
            "{found}. Somebody moved, deleted, replaced or mounted over the store's files while they were in use. Stop this server. \
             If its folder was moved, put it back at {dir}, in the place of what is there now, and start again; if it was deleted, \
             restore it from a backup, or start with an empty one: its locks are lost then"
        );
        Error::new(Code::StoreFailed, text)
    }
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}
