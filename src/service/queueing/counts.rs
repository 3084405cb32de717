//! What was counted of waiting and holding since the start.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::queue::Event;
use crate::sync::Mutex;

/// What was counted since the start.
#[derive(Debug, Default)]
pub(in crate::service) struct Waits {
    pub(super) counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) waited: Duration,
    pub(super) waits: u64,
    pub(super) held: Duration,
    pub(super) holds: u64,
    pub(super) reserved: u64,
    pub(super) missed: u64,
    pub(super) withdrawn: u64,
    pub(super) deadlocks: u64,
    pub(super) yields: u64,
    /// When this process took the locks that it knows to be held.
    since: HashMap<String, Instant>,
}

impl Waits {
    /// A caller waited, and has the lock.
    pub(super) fn waited(&self, how_long: Duration) {
        let mut counts = self.counts.lock();
        counts.waited += how_long;
        counts.waits += 1;
    }

    pub(in crate::service) fn taken(&self, key: &str, now: Instant) {
        self.counts.lock().since.insert(key.to_owned(), now);
    }

    pub(in crate::service) fn released(&self, key: &str, now: Instant) {
        let mut counts = self.counts.lock();
        if let Some(since) = counts.since.remove(key) {
            counts.held += now - since;
            counts.holds += 1;
        }
    }

    /// A circle was confirmed.
    pub(super) fn deadlock(&self) {
        self.counts.lock().deadlocks += 1;
    }

    /// A pull gave locks back to end a circle.
    pub(super) fn yielded(&self) {
        self.counts.lock().yields += 1;
    }

    pub(super) fn count(&self, events: &[Event]) {
        let mut counts = self.counts.lock();
        for event in events {
            match event {
                Event::Reserved { .. } => counts.reserved += 1,
                Event::Missed { .. } => counts.missed += 1,
                Event::Withdrawn { .. } => counts.withdrawn += 1,
                Event::Took { .. } => {}
            }
        }
    }
}
