//! Locks go along from one mode to another.
//!
//! Invariant: a mode begins with every lock that was acknowledged in another one, or does not begin, or says which it may lack.

use std::sync::Arc;
use std::time::Duration;

use super::hybrid::both;
use super::stores::Stores;
use crate::config::{Backend, Config, Enhanced};
use crate::error::Result;
use crate::process::Process;
use crate::store::Store as _;
use crate::store::contract::local::{Change, LocalStore as _, RedisRecord};
use crate::store::host::HostStore;
use crate::store::sled::SledStore;

/// Longest time for the local store to write one thing down.
const LONG: Duration = Duration::from_secs(60);

/// Native mode begins: what the local store has goes to Redis, which alone knows the locks from then on.
pub(super) fn hand_over(stores: &dyn Stores, config: &Config, host: Option<HostStore>, process: &Process<'_>) -> Result<()> {
    let mut config = config.clone();
    // No fallback: the opening fails without Redis.
    config.locking.enhanced.legacy_fallback = false;
    if host.is_none() {
        config.locking.backend = Backend::Sled;
    }
    let store = both(stores, &config, host.map(Arc::new), process)?;
    store.note_handed_over().and(store.close())
}

/// Why strict mode may lack locks, after hybrid or native mode.
pub(super) fn lacking(record: Option<&RedisRecord>, settings: &Enhanced) -> Option<String> {
    record.and_then(|record| record.lacks_at_start(None, settings.allow_unseen_redis))
}

/// Strict mode begins: if hybrid or native mode left a local store that may lack locks, these are fetched from Redis. Without it, this
/// is an error; or, where that is allowed, the answer is a warning.
pub(super) fn fetch_from_redis(
    stores: &dyn Stores,
    config: &Config,
    host: Option<Arc<HostStore>>,
    record: Option<RedisRecord>,
    process: &Process<'_>,
) -> Result<Option<String>> {
    let Some(missing) = lacking(record.as_ref(), &config.locking.enhanced) else { return Ok(None) };
    let mut hybrid = config.clone();
    // No fallback: the opening fails without Redis.
    hybrid.locking.enhanced.legacy_fallback = false;
    match both(stores, &hybrid, host, process).and_then(|store| store.close()) {
        Ok(()) => Ok(None),
        Err(error) if config.locking.enhanced.allow_incomplete_rollback => Ok(Some(format!(
            "strict mode began without locks that may be held: {missing}, and Redis could not be asked for them ({error}); \
             locking.enhanced.allow_incomplete_rollback is true"
        ))),
        Err(error) => Err(error.context(format!(
            "strict mode would not know all locks: {missing}; it needs Redis once to fetch them (locking.enhanced.redis). To \
             begin without them all the same, set locking.enhanced.allow_incomplete_rollback: true; a lock among them can then \
             be granted again"
        ))),
    }
}

/// Strict mode begins though locks may be lacking: what it grants may be held, and the next start of hybrid mode is to know that.
pub(super) fn note_blindness(local: &SledStore, is_blind: bool, process: &Process<'_>) -> Result<()> {
    let Some(record) = local.redis_record()?.filter(|record| is_blind && !record.granted_blindly) else { return Ok(()) };
    let deadline = process.clock.now() + LONG;
    let record = RedisRecord { granted_blindly: true, ..record };
    local.submit(Vec::new(), vec![Change::Redis(record)], deadline)?.wait(deadline)
}
