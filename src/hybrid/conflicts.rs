//! Locks that both stores granted: found by recovery, shown to people, ended by the pull whose lock was overruled.

use crate::sync::Mutex;

use crate::error::Result;
use crate::store::contract::local::{Conflict, EntryKey};

/// The conflicts that are not over. The local store remembers them across restarts. Safe from any thread.
pub(super) struct Conflicts(Mutex<Vec<Conflict>>);

impl Conflicts {
    pub(super) fn new(before: Vec<Conflict>) -> Conflicts {
        Conflicts(Mutex::new(before))
    }

    /// One was found; `remember` tells the local store so.
    pub(super) fn found(&self, conflict: Conflict, remember: impl FnOnce()) {
        let mut conflicts = self.0.lock();
        remember();
        conflicts.push(conflict);
    }

    /// All of them.
    pub(super) fn all(&self) -> Vec<Conflict> {
        self.0.lock().clone()
    }

    /// The keys of all of them.
    pub(super) fn keys(&self) -> Vec<EntryKey> {
        self.0.lock().iter().map(|conflict| conflict.key.clone()).collect()
    }

    /// The one at this key is over, if its overruled lock is admitted. `forget` hands the local store that, before another one can be
    /// found.
    pub(super) fn end(&self, key: &EntryKey, admits: impl Fn(&[u8]) -> Result<bool>, forget: impl FnOnce()) -> Option<Conflict> {
        let mut conflicts = self.0.lock();
        let is_meant = |conflict: &Conflict| conflict.key == *key && admits(&conflict.local.value).unwrap_or(false);
        let place = conflicts.iter().position(is_meant)?;
        forget();
        Some(conflicts.remove(place))
    }
}
