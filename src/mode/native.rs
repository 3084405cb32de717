//! Opening native mode: Redis alone.

use super::handover::hand_over;
use crate::config::Config;
use crate::error::Result;
use crate::process::Process;
use crate::store::host::HostStore;
use crate::store::redis::RedisStore;
use crate::store::sled::SledStore;

/// Opens native mode's store, and brings it what another mode left in the local store or in Atlantis's own.
pub(super) fn open(config: &Config, host: Option<HostStore>, process: &Process<'_>) -> Result<RedisStore> {
    if config.locking.data_dir.as_deref().is_some_and(|folder| host.is_some() || SledStore::is_in(folder)) {
        hand_over(config, host, process)?;
    }
    RedisStore::open(&config.locking.enhanced.redis, process.instance)
}
