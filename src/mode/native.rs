//! Opening native mode: Redis alone.

use super::handover::hand_over;
use super::stores::Stores;
use crate::config::{Backend, Config};
use crate::error::Result;
use crate::process::Process;
use crate::store::host::HostStore;
use crate::store::redis::RedisStore;

/// Opens native mode's store, and brings it what another mode left in the local store or in Atlantis's own.
///
/// Invariant: `data_dir` says that Redis alone knows the locks from now on, also if nothing was in it before: another mode would take a new
/// folder for one without locks.
pub(super) fn open(stores: &dyn Stores, config: &Config, host: Option<HostStore>, process: &Process<'_>) -> Result<RedisStore> {
    if config.locking.data_dir.is_some() {
        // With `backend: sled`, Atlantis's own store is only looked at (`host::refuse_forgotten`): it has nothing to hand over.
        hand_over(stores, config, host.filter(|_| config.locking.backend == Backend::Boltdb), process)?;
    }
    stores.redis(&config.locking.enhanced.redis)(process.instance)
}
