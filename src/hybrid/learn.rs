//! What the local store learns of Redis, whenever it suits.

use super::core::Core;
use crate::domain::token::FencingToken;
use crate::store::contract::local::{Change, EntryKey, Held, MAX_VALUE_BYTES};
use crate::store::contract::shared::Remote;

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

/// The local store did not know a lock that Redis has released: it must learn what it is not to bring back.
pub(super) fn release_of(key: &EntryKey, was: Held) -> [Change; 2] {
    // What no local store can keep is none that may come back as a lock.
    let was = Some(was).filter(|was| was.value.len() <= MAX_VALUE_BYTES);
    [Change::Set(key.clone(), was), Change::Intend(key.clone(), None)]
}
