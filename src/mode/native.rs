//! Opening native mode: Redis alone.

use super::handover::hand_over;
use super::stores::Stores;
use crate::config::{Backend, Config};
use crate::error::Result;
use crate::process::Process;
use crate::store::host::HostStore;
use crate::store::redis::RedisStore;

/// Opens native mode's store, and brings it what another mode left in the local store or in Atlantis's own.
pub(super) fn open(stores: &dyn Stores, config: &Config, host: Option<HostStore>, process: &Process<'_>) -> Result<RedisStore> {
    if let Some(folder) = config.locking.data_dir.as_deref() {
        // With `backend: sled`, Atlantis's own store is only looked at (`host::refuse_forgotten`): it has nothing to hand over.
        let has_own = host.is_some() && config.locking.backend == Backend::Boltdb;
        if has_own || stores.has_local(folder)? {
            hand_over(stores, config, host, process)?;
        }
    }
    stores.redis(&config.locking.enhanced.redis)(process.instance)
}
