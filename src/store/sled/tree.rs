//! The open sled tree, shared by the readers and the one writer.

use super::database::{self, Database};
use super::group::Group;
use super::health::Health;
use super::read::{View, failed};
use crate::error::{Code, Error, Result};
use crate::sealing::Sealing;
use crate::sync::RwLock;

/// The tree, until it is closed. Readers share it; applying a group excludes them, so that a read of several tree entries
/// sees all of a group or nothing of it.
pub(super) struct Tree {
    db: RwLock<Option<Box<dyn Database>>>,
    sealing: Sealing,
    health: Health,
}

impl Tree {
    /// Shares an open database.
    pub(super) fn new(db: Box<dyn Database>, sealing: Sealing) -> Tree {
        Tree { db: RwLock::new(Some(db)), sealing, health: Health::default() }
    }

    /// How values are written and read.
    pub(super) fn sealing(&self) -> &Sealing {
        &self.sealing
    }

    /// Whether the store still works.
    pub(super) fn health(&self) -> &Health {
        &self.health
    }

    /// Reads; an I/O error or a panic in sled ends the store. `f` must not call this again.
    pub(super) fn read<T>(&self, f: impl FnOnce(View<'_>) -> Result<T>) -> Result<T> {
        self.health.check()?;
        let db = self.db.read();
        self.health.watch(|| f(View { db: db.as_deref().ok_or_else(closed)?, sealing: &self.sealing }))
    }

    /// Applies a group, unseen until it is whole: one that is in the journal, or not.
    pub(super) fn apply(&self, group: Group, in_journal: bool) -> Result<()> {
        let db = self.db.write();
        let db = db.as_deref().ok_or_else(closed)?;
        if in_journal { group.apply(db) } else { group.apply_batch(db) }.map_err(failed)
    }

    /// Hands everything to the kernel. It is not durable: sled calls sync_file_range, not fsync.
    pub(super) fn flush(&self) -> Result<()> {
        let db = self.db.read();
        db.as_ref().ok_or_else(closed)?.flush().map_err(failed)
    }

    /// Waits for the readers and closes the database. Does nothing the second time.
    pub(super) fn close(&self) -> Result<()> {
        let Some(db) = self.db.write().take() else { return Ok(()) };
        database::close(db)
    }
}

/// The store was closed.
pub(super) fn closed() -> Error {
    Error::new(Code::Closed, "the store is closed")
}
