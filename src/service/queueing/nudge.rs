//! What wakes the thread that looks at queues before its time.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::clock::Clock;
use crate::sync::{Condvar, Mutex};

/// What the thread is to do before its time.
#[derive(Debug, Default)]
pub(in crate::service) struct Nudge {
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Wanted {
    stop: bool,
    repos: BTreeSet<String>,
}

impl Nudge {
    pub(super) fn look_at(&self, repo: &str) {
        if self.wanted.lock().repos.insert(repo.to_owned()) {
            self.changed.notify_all();
        }
    }

    pub(super) fn stop(&self) {
        self.wanted.lock().stop = true;
        self.changed.notify_all();
    }

    /// Waits until the tick, or soon after the last look if a repository is to be looked at; returns those. `None`: it is over.
    pub(super) fn wait(&self, tick: Instant, soon: Instant, clock: &dyn Clock) -> Option<BTreeSet<String>> {
        let mut wanted = self.wanted.lock();
        loop {
            let until = if wanted.repos.is_empty() { tick } else { soon.min(tick) };
            if wanted.stop {
                return None;
            }
            if clock.now() >= until {
                return Some(std::mem::take(&mut wanted.repos));
            }
            self.changed.wait_until(&mut wanted, until);
        }
    }
}
