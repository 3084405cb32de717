//! What a diagnosis may put right in Redis: the indexes, and side hashes of locks that are gone.
//!
//! Invariant: no lock, no command lock and no document changes, and no lock moves to another key. Each change is a script that looks again
//! at what it was told before it writes, as at each start of a server (`legacy_keys.rs`, `indexes.rs`): so servers may be at work meanwhile.
//!
//! Faults survived: whatever a start survives. What was done before a fault stays done, and doing all again changes nothing more.

use std::time::Duration;

use super::open;
use super::store::RedisStore;
use crate::call::{Call, RequestId};
use crate::config;
use crate::domain::lock::ProjectLock;
use crate::error::Result;
use crate::store::Store as _;

/// How long it may take, as at a start.
const PATIENCE: Duration = Duration::from_secs(120);

/// Puts into the indexes the locks that the index of all locks lacks; returns how many.
///
/// Errors: those of [`RedisStore::open`]; those of Redis.
pub fn mend_index(settings: &config::Redis) -> Result<usize> {
    mended(settings, |store, call| {
        let current = |key: &[u8], value: &[u8]| {
            let lock = ProjectLock::parse(value).ok().map(|lock| lock.fields().key());
            // A lock under the key of Atlantis before v0.40 waits for a server.
            Ok(lock.filter(|current| current.as_bytes() == key))
        };
        Ok(store.fill_indexes(call, current)?.1)
    })
}

/// Removes members of the index without a lock, and gives side hashes without a lock the end that a release gives them; returns how many
/// side hashes.
///
/// Errors: those of [`RedisStore::open`]; those of Redis.
pub fn mend_leftovers(settings: &config::Redis) -> Result<usize> {
    mended(settings, |store, call| {
        // Members whose locks are gone are trimmed when they are met.
        store.index_locks(call, |_| Ok(()))?;
        let mut locks = Vec::new();
        store.orphaned_sides(call, |_, lock| locks.push(lock.to_owned()))?;
        let count = locks.len();
        store.end_orphans(locks.into_iter(), call)?;
        Ok(count)
    })
}

fn mended(settings: &config::Redis, mend: impl FnOnce(&RedisStore, &Call) -> Result<usize>) -> Result<usize> {
    let store = RedisStore::of(open::open(settings)?, settings, "");
    let call = Call::new(RequestId::from_text("mend"), store.redis.clock.now() + PATIENCE);
    let done = store.refuse_marked(settings).and_then(|()| mend(&store, &call));
    store.close()?;
    done
}
