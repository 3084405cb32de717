//! At which keys the shadow has what the store that decides has, so that a difference there is one.

use std::collections::{HashMap, HashSet};

use crate::store::contract::local::EntryKey;

/// Most keys that are remembered one by one.
const MOST: usize = 100_000;

/// The keys that are trusted: all project locks once they were compared, but for those that are named; command locks and pull
/// statuses, which no store lists, one by one.
#[derive(Debug, Default)]
pub(super) struct Trust {
    locks: bool,
    named: HashMap<EntryKey, bool>,
}

impl Trust {
    /// Whether this key is trusted.
    pub fn has(&self, key: &EntryKey) -> bool {
        self.named.get(key).copied().unwrap_or_else(|| self.by_default(key))
    }

    /// Whether the project locks are.
    pub fn has_locks(&self) -> bool {
        self.locks
    }

    /// Trusts this key from now on, or not.
    pub fn set(&mut self, key: &EntryKey, is_trusted: bool) {
        if is_trusted == self.by_default(key) {
            self.named.remove(key);
        } else if self.named.len() < MOST {
            self.named.insert(key.clone(), is_trusted);
        } else {
            self.lose();
        }
    }

    /// Trusts nothing.
    pub fn lose(&mut self) {
        *self = Trust::default();
    }

    /// All project locks were compared, but for these.
    pub fn gain_locks(&mut self, but: &HashSet<EntryKey>) {
        self.named.retain(|key, _| !matches!(key, EntryKey::Project(_)));
        self.locks = true;
        but.iter().for_each(|key| self.set(key, false));
    }

    fn by_default(&self, key: &EntryKey) -> bool {
        self.locks && matches!(key, EntryKey::Project(_))
    }
}
