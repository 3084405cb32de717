//! Which marked places a course of events came by. Each thread has its own: all tasks of a simulation run on one.

use std::cell::RefCell;
use std::collections::BTreeSet;

thread_local! {
    static MET: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
}

/// The course of events comes by this place.
pub(crate) fn met(name: &str) {
    MET.with_borrow_mut(|met| {
        if !met.contains(name) {
            met.insert(name.to_owned());
        }
    });
}

/// What was met since the last time.
pub(crate) fn take() -> BTreeSet<String> {
    MET.take()
}
