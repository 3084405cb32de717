//! What the local store learns of Redis, whenever it suits.

use super::core::Core;
use crate::domain::token::FencingToken;
use crate::store::contract::local::{Change, EntryKey, Held, MAX_VALUE_BYTES};
use crate::store::contract::shared::Remote;
use crate::sync::mark;

/// Redis made what was intended.
pub(super) fn confirm(core: &Core, key: &EntryKey, token: FencingToken) {
    core.unsynced.know(key);
    core.local.enqueue(Change::Confirm(key.clone(), token));
}

/// The local store takes what Redis has at a key; of what it cannot keep, only that something is there.
pub(super) fn adopt(core: &Core, key: &EntryKey, remote: &Remote) {
    core.unsynced.know(key);
    if remote.value.as_ref().is_some_and(|value| value.len() > MAX_VALUE_BYTES) {
        core.arming.add_set_aside(key.clone());
        return;
    }
    core.local.enqueue(Change::Adopt(key.clone(), remote.held(), remote.token));
}

/// Redis holds a lock that nobody here took.
pub(super) fn took_other(core: &Core, key: &EntryKey, remote: &Remote) {
    adopt(core, key, remote);
    core.saw_other(format!("it took the {key}"));
}

/// Redis has released a lock, and the local store could not write that down in time. It learns of it with the next changes if the lock is the
/// one that it knew; else nobody knows what the key holds.
pub(super) fn released_unwritten(core: &Core, key: &EntryKey, known: Option<&Held>, was: &Held) {
    if known.is_some_and(|held| held.value == was.value) {
        mark!("learn: a release that could not be written down");
        release_of(key, was.clone()).into_iter().for_each(|change| core.local.enqueue(change));
    } else {
        mark!("learn: another lock was released than the one known here", core.unsynced.doubt(key))
    }
}

/// The local store did not know a lock that Redis has released: it must learn what it is not to bring back.
pub(super) fn release_of(key: &EntryKey, was: Held) -> [Change; 2] {
    // What no local store can keep is none that may come back as a lock.
    let was = Some(was).filter(|was| was.value.len() <= MAX_VALUE_BYTES);
    [Change::Set(key.clone(), was), Change::Intend(key.clone(), None)]
}
