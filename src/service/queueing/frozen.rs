//! The freezes as this process knows them: all that a grant looks at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::Error;
use crate::queue::freeze::Freezes;
use crate::sync::{Mutex, MutexGuard};

/// The freezes as they were last read. Safe from any thread.
#[derive(Debug, Default)]
pub(in crate::service) struct Frozen {
    /// Whether there are any: all that a grant looks at otherwise.
    any: AtomicBool,
    known: Mutex<Arc<Freezes>>,
    trouble: Mutex<Option<String>>,
    /// One at a time reads the document and learns from it: an older one never replaces a newer one.
    turn: Mutex<()>,
}

impl Frozen {
    /// The freezes; `None` if there are none.
    pub(super) fn now(&self) -> Option<Arc<Freezes>> {
        self.any.load(Ordering::Acquire).then(|| Arc::clone(&self.known.lock()))
    }

    /// Whether nobody is to take the lock of this key.
    pub(super) fn denies_key(&self, repo: &str, key: &str, now: u64) -> bool {
        self.now().is_some_and(|freezes| freezes.denies_key(repo, key, now))
    }

    /// What an operator should know.
    pub(in crate::service) fn warning(&self) -> Option<String> {
        self.trouble.lock().as_ref().map(|why| format!("freezes cannot be read, those known before count: {why}"))
    }

    /// One at a time reads the document and learns from it, or changes it.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock()
    }

    /// The document could not be read.
    pub(super) fn failed(&self, error: &Error) {
        *self.trouble.lock() = Some(error.message().to_owned());
    }

    /// These are there; returns whether others were known before.
    pub(super) fn learn(&self, freezes: Freezes) -> bool {
        *self.trouble.lock() = None;
        let mut known = self.known.lock();
        let is_new = **known != freezes;
        self.any.store(!freezes.is_empty(), Ordering::Release);
        *known = Arc::new(freezes);
        is_new
    }
}
