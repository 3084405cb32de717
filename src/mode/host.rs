//! Atlantis's own store (its BoltDB file), as the program passes it in.

use std::path::Path;

use crate::config::{Backend, Config};
use crate::error::{Code, Error, Result};
use crate::store::contract::copy::CopyStore as _;
use crate::store::contract::local::LocalStore as _;
use crate::store::host::HostStore;
use crate::store::sled::SledStore;

/// The error of Atlantis's own store that was not passed in.
pub(super) fn no_host() -> Error {
    Error::new(
        Code::InvalidConfig,
        "locking.backend: boltdb, the default, is Atlantis's own code, and none was passed in: pass that in (in Go: WithBoltDB or WithLegacy, \
         in package client WithHost; in C: a host store), or set locking.backend: sled and locking.data_dir for the embedded store",
    )
}

/// Refuses to begin with `backend: sled` while Atlantis's own store has locks: they would be granted again.
///
/// Invariant: absence is not a decision. With `backend: sled`, Atlantis's own store is only looked at, and is never a copy that is kept
/// up to date: what is held there is not known in the embedded store, however long that one has been in use. A store that cannot be
/// read may have locks.
pub(super) fn refuse_forgotten(config: &Config, host: Option<&HostStore>) -> Result<()> {
    let Some(host) = host.filter(|_| config.locking.backend == Backend::Sled) else { return Ok(()) };
    let dump = host.dump().map_err(|e| e.context("looking for locks in the store that was passed in"))?;
    let locks = dump.entries.iter().filter(|entry| entry.key.lock().is_some()).count();
    if locks == 0 {
        return Ok(());
    }
    Err(Error::new(
        Code::InvalidConfig,
        format!(
            "Atlantis's own store (atlantis.db, or what was passed in its place) has locks ({locks}), which locking.backend: sled \
             would not know, and grant again: keep locking.backend: boltdb, or release them first, or move them with `atlantis locking migrate`, or move \
             Atlantis's file away to begin without them"
        ),
    ))
}

/// The mirror of [`refuse_forgotten`]: refuses to begin with Atlantis's own store alone while an embedded store that never followed it
/// has locks, of strict or hybrid mode with `backend: sled`.
pub(super) fn refuse_left_behind(local: &SledStore, folder: &Path) -> Result<()> {
    let everything = local.everything()?;
    let locks = everything.iter().filter(|(key, state)| key.lock().is_some() && state.value.is_some()).count();
    if locks == 0 {
        return Ok(());
    }
    Err(Error::new(
        Code::InvalidConfig,
        format!(
            "the embedded store in {} (locking.data_dir) has locks ({locks}), which locking.backend: boltdb would not know, and grant \
             again: keep locking.backend: sled, or release them first, or move them with `atlantis locking migrate`, or move that folder \
             away to begin without them",
            folder.display()
        ),
    ))
}

/// Refuses to begin with Atlantis's own store alone while that lacks locks that were granted: it did not take them, perhaps because its disk
/// is full, and would grant them again once it takes others.
pub(super) fn refuse_incomplete(lacks: &[String], config: &Config) -> Result<()> {
    let Some(first) = lacks.first().filter(|_| !config.locking.enhanced.allow_incomplete_rollback) else { return Ok(()) };
    Err(Error::new(
        Code::HostStore,
        format!(
            "strict mode would not know all locks: {first} ({} such). Make room on its disk and start again. To begin without them all the \
             same, set locking.enhanced.allow_incomplete_rollback: true; a lock among them can then be granted again",
            lacks.len()
        ),
    ))
}
