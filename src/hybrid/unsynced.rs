//! The keys on which the two stores may differ.

use std::collections::{BTreeSet, HashSet};

use crate::sync::Mutex;

use crate::store::contract::local::EntryKey;

type Keys = Mutex<HashSet<EntryKey>>;

/// Sets of keys. Safe from any thread; no lock of another part is taken while one of these is held.
#[derive(Default)]
pub(super) struct Unsynced {
    /// Decided here since recovery last looked.
    dirty: Keys,
    /// Decided here since both stores last agreed.
    decided: Keys,
    /// Nobody knows what Redis made of the last change, of this process or, at the start, of the one before: the local store calls
    /// others pending only until it is handed the outcome.
    in_doubt: Keys,
}

impl Unsynced {
    /// The local store decided a key.
    pub(super) fn add_decided(&self, key: &EntryKey) {
        self.dirty.lock().insert(key.clone());
        self.decided.lock().insert(key.clone());
    }

    /// The start found that the one before did so.
    pub(super) fn add_decided_before(&self, key: EntryKey) {
        self.decided.lock().insert(key);
    }

    /// How many keys Redis does not know of yet.
    pub(super) fn count(&self) -> usize {
        self.decided.lock().len()
    }

    /// Both stores agree.
    pub(super) fn all_synced(&self) {
        self.decided.lock().clear();
    }

    /// Recovery looks at all keys from now on.
    pub(super) fn forget_dirty(&self) {
        self.dirty.lock().clear();
    }

    /// Recovery looks at those that were decided since it last did.
    pub(super) fn take_dirty(&self) -> BTreeSet<EntryKey> {
        self.dirty.lock().drain().collect()
    }

    /// Recovery has to look at them once more.
    pub(super) fn add_dirty(&self, keys: impl IntoIterator<Item = EntryKey>) {
        self.dirty.lock().extend(keys);
    }

    /// Nobody knows what Redis made of the last change of this key.
    pub(super) fn doubt(&self, key: &EntryKey) {
        self.in_doubt.lock().insert(key.clone());
    }

    /// It is known.
    pub(super) fn know(&self, key: &EntryKey) {
        self.in_doubt.lock().remove(key);
    }

    /// All keys of which nobody knows, in order.
    pub(super) fn doubts(&self) -> BTreeSet<EntryKey> {
        self.in_doubt.lock().iter().cloned().collect()
    }

    /// Whether nobody knows.
    pub(super) fn is_in_doubt(&self, key: &EntryKey) -> bool {
        self.in_doubt.lock().contains(key)
    }
}
