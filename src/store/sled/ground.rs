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

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::{Files, Found};
use crate::error::{Code, Error, Result};

/// The files that must stay where they are. Safe from any thread.
#[derive(Debug)]
pub(super) struct Ground {
    files: Arc<dyn Files>,
    dir: PathBuf,
    places: [Place; 3],
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
    fn check(&self, files: &dyn Files) -> std::result::Result<(), String> {
        let path = self.path.display();
        match files.look(&self.path) {
            Ok(Some(found)) if found.identity != self.file => {
                Err(format!("{path} is another file than the one that the store has open"))
            }
            Ok(Some(found)) if found.length < self.length => {
                Err(format!("{path} was cut to {} bytes; the store had made it {} bytes long", found.length, self.length))
            }
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(format!("{path} is gone")),
            Err(e) => Err(format!("{path} cannot be looked at: {e}")),
        }
    }
}

impl Ground {
    /// The files as they are open; the journal never has fewer than `journal_length` bytes.
    pub(super) fn new(files: Arc<dyn Files>, dir: &Path, lock: Found, log: Found, journal: Found, journal_length: u64) -> Ground {
        let places = [("lock", lock, 0), ("journal", journal, journal_length), ("sled/db", log, 0)];
        let places = places.map(|(name, found, length)| Place { path: dir.join(name), file: found.identity, length });
        Ground { files, dir: dir.to_owned(), places }
    }

    /// Looks at each path.
    ///
    /// Errors: `StoreFailed`, with what was found and what to do.
    pub(super) fn check(&self) -> Result<()> {
        self.places.iter().try_for_each(|place| place.check(&*self.files)).map_err(|found| self.lost(&found))
    }

    fn lost(&self, found: &str) -> Error {
        let dir = self.dir.display();
        let is_there = matches!(self.files.look(&self.dir), Ok(Some(_)));
        let found = if is_there { found.to_owned() } else { format!("{dir} is gone") };
        let text = format!(
            "{found}. Somebody moved, deleted, replaced or mounted over the store's files while they were in use. Stop this server. \
             If its folder was moved, put it back at {dir}, in the place of what is there now, and start again; if it was deleted, \
             restore it from a backup, or start with an empty one: its locks are lost then"
        );
        Error::new(Code::StoreFailed, text)
    }
}
