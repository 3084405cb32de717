//! Counters of what the service did. They only ever grow, from zero at its start.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;

/// Operations by the store that answered them. Safe from any thread.
#[derive(Debug, Default)]
pub struct Stats {
    legacy_ops: AtomicU64,
    enhanced_ops: AtomicU64,
    errors: AtomicU64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Operations that the legacy store answered.
    pub legacy_ops: u64,
    /// Operations that Redis answered.
    pub enhanced_ops: u64,
    /// Operations that ended with an error; each is counted with its store, too.
    pub errors: u64,
}

impl Stats {
    /// Counts one operation.
    pub fn count(&self, by_enhanced: bool, failed: bool) {
        let operations = if by_enhanced { &self.enhanced_ops } else { &self.legacy_ops };
        operations.fetch_add(1, Ordering::Relaxed);
        if failed {
            self.errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The counters now.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot {
            legacy_ops: self.legacy_ops.load(Ordering::Relaxed),
            enhanced_ops: self.enhanced_ops.load(Ordering::Relaxed),
            errors: self.errors.load(Ordering::Relaxed),
        }
    }
}
