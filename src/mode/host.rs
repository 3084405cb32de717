//! Atlantis's own store (its BoltDB file), as the program passes it in.

use crate::config::{Backend, Config};
use crate::error::{Code, Error, Result};
use crate::store::contract::copy::CopyStore as _;
use crate::store::host::HostStore;
use crate::store::sled::SledStore;

/// The error of Atlantis's own store that was not passed in.
pub(super) fn no_host() -> Error {
    Error::new(
        Code::InvalidConfig,
        "locking.backend: boltdb is Atlantis's own code, and none was passed in: pass a host store to atlock_open \
         (in Go: WithLegacy or WithBoltDB), or set locking.backend: sled and locking.data_dir for the embedded store",
    )
}

/// Refuses to begin with an embedded store that is new while Atlantis's own has locks: they would be granted again.
///
/// Invariant: absence is not a decision. With `backend: sled`, Atlantis's own store is only looked at, and only where the embedded
/// one is new. A store that cannot be read may have locks.
pub(super) fn refuse_forgotten(config: &Config, host: Option<&HostStore>) -> Result<()> {
    let is_new = !config.locking.data_dir.as_deref().is_some_and(SledStore::is_in);
    let Some(host) = host.filter(|_| is_new && config.locking.backend == Backend::Sled) else { return Ok(()) };
    let dump = host.dump().map_err(|e| e.context("looking for locks in the store that was passed in"))?;
    let locks = dump.entries.iter().filter(|entry| entry.key.lock().is_some()).count();
    if locks == 0 {
        return Ok(());
    }
    Err(Error::new(
        Code::InvalidConfig,
        format!(
            "Atlantis's own store (atlantis.db, or what was passed in its place) has locks ({locks}), which locking.backend: sled \
             would not know, and grant again: keep locking.backend: boltdb, or release them first, or move Atlantis's file away to begin without them"
        ),
    ))
}
