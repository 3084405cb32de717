//! Waiting for locks: what the queue of a repository (`crate::queue`) means for the operations.
//!
//! | file | what it does |
//! |---|---|
//! | `change` | changes a queue by compare-and-swap, and then says at each key what grants obey |
//! | `attempt` | one try to take a lock, in order, and joining the queue when that is refused |
//! | `wait` | a caller who waits until it has the lock |
//! | `runs` | a plan, apply or unlock of a pull from begin to end: what it gives up meanwhile is given up at its end |
//! | `sets` | all locks of a plan, or none newly |
//! | `wait_set` | a caller who waits until it has all locks of a set |
//! | `json` | what these operations take and answer, for whoever is not Rust |
//! | `tick`, `nudge` | looks at each queue now and then, or soon |
//! | `deadlock`, `seen` | pulls that wait for each other in a circle |
//! | `freeze`, `frozen` | locks that nobody is to take for now |
//! | `explain` | why a lock is as it is, and what would free it |
//! | `look` | who waits where, what a grant is worth, counters |
//!
//! Invariants:
//! - Order only refuses: a lock is taken by [`Store::grant`](crate::store::Store::grant) for a caller who asks for it, and released because a
//!   person, Atlantis, or the end of its command asked for that. Nothing here takes a lock from its holder, and nothing expires.
//! - A queue that cannot be read or written fails no lock: the caller is answered as without a queue, and the status says so.
//! - With the queue off, no document and no gate is read or written.
//!
//! Faults survived: a crash between any two steps. Two steps stand apart: the queue's document, and the gate beside each lock. The document
//! is written first, and says which gates there are; the next tick puts right what a crash left. A key that is free and gated without anybody
//! behind it is opened by the next who asks.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{Config, DeadlockDetection, LockTimeouts, PriorityQueue};
use crate::error::Error;
use crate::queue::{PullId, Rules};
use crate::sync::{Condvar, Mutex};

use self::frozen::Frozen;
use self::look::Waits;
use self::nudge::Nudge;
use self::runs::Runs;
use self::seen::Deadlocks;

mod attempt;
mod change;
pub mod deadlock;
pub mod explain;
pub mod freeze;
mod frozen;
pub mod json;
pub mod look;
mod nudge;
pub mod runs;
mod seen;
mod sets;
mod tick;
pub mod wait;
pub mod wait_set;

pub(super) use self::attempt::{Asker, Attempt};
pub(super) use self::tick::Ticker;

/// How long a key is kept for a caller who waits, and so takes it at once.
const CALLER_COMES: Duration = Duration::from_secs(60);
/// Most cancellations that are remembered before their callers have asked.
const MOST_CANCELLED: usize = 1_000;

/// What one process knows of queues, beside what stands in the store. Safe from any thread.
#[derive(Debug)]
pub(super) struct Queueing {
    pub(super) settings: PriorityQueue,
    pub(super) timeouts: LockTimeouts,
    detection: DeadlockDetection,
    rules: Rules,
    /// One change of a queue at a time within this process: others would be refused by its swap.
    turns: Mutex<HashMap<String, Arc<Mutex<()>>>>,
    /// The repositories in whose queues somebody was when they were last seen.
    repos: Mutex<BTreeSet<String>>,
    runs: Mutex<Runs>,
    changed: Signal,
    /// Callers who are to stop waiting, by the names that they gave themselves.
    cancelled: Mutex<VecDeque<String>>,
    /// Why the last change of a queue failed; `None` once one succeeded.
    trouble: Mutex<Option<String>>,
    waits: Waits,
    /// How many callers wait for a lock, by repository, pull and key.
    callers: Mutex<HashMap<(String, PullId, String), usize>>,
    /// How many callers wait.
    waiting: Mutex<usize>,
    deadlocks: Deadlocks,
    pub(super) frozen: Frozen,
    nudge: Arc<Nudge>,
}

impl Queueing {
    pub(super) fn new(config: &Config) -> Queueing {
        let enhanced = &config.locking.enhanced;
        let (settings, timeouts) = (enhanced.priority_queue.clone(), enhanced.timeouts.clone());
        let rules = Rules {
            aging: micros(settings.aging),
            reservation: micros(timeouts.default),
            caller_reservation: micros(CALLER_COMES.min(timeouts.default)),
            collect_after: micros(timeouts.default),
        };
        Queueing {
            settings,
            timeouts,
            detection: enhanced.deadlock_detection.clone(),
            rules,
            turns: Mutex::default(),
            repos: Mutex::default(),
            runs: Mutex::default(),
            changed: Signal::default(),
            cancelled: Mutex::default(),
            trouble: Mutex::default(),
            waits: Waits::default(),
            callers: Mutex::default(),
            waiting: Mutex::default(),
            deadlocks: Deadlocks::default(),
            frozen: Frozen::default(),
            nudge: Arc::default(),
        }
    }

    /// Whether there are queues.
    pub(super) fn is_enabled(&self) -> bool {
        self.settings.enabled
    }

    /// What an operator should know.
    pub(super) fn warning(&self) -> Option<String> {
        self.trouble.lock().as_ref().map(|why| format!("nobody joins a queue, and locks are given to whoever comes first: {why}"))
    }

    /// A queue could not be read or changed.
    fn failed(&self, error: &Error) {
        *self.trouble.lock() = Some(error.message().to_owned());
    }

    /// Wakes all who wait, and waits until they have left their places, or until then: nothing is to be waited for any more.
    pub(super) fn close(&self, until: Instant) {
        loop {
            let seen = self.changed.generation();
            if *self.waiting.lock() == 0 {
                return;
            }
            self.wake();
            if !self.changed.wait(seen + 1, until) {
                return;
            }
        }
    }

    /// A caller waits until this is dropped.
    fn present(&self) -> Present<'_> {
        *self.waiting.lock() += 1;
        Present(self)
    }

    /// Something changed that somebody may wait for.
    pub(super) fn wake(&self) {
        self.changed.notify();
    }

    /// A lock was released.
    pub(super) fn released(&self, key: &str, now: Instant) {
        self.waits.released(key, now);
    }

    /// A caller begins to wait for a lock.
    fn comes(&self, repo: &str, pull: &PullId, key: &str) {
        *self.callers.lock().entry((repo.to_owned(), pull.clone(), key.to_owned())).or_default() += 1;
    }

    /// A caller waits no more.
    fn goes(&self, repo: &str, pull: &PullId, key: &str) {
        if let Entry::Occupied(mut callers) = self.callers.lock().entry((repo.to_owned(), pull.clone(), key.to_owned())) {
            *callers.get_mut() -= 1;
            if *callers.get() == 0 {
                callers.remove();
            }
        }
    }

    /// Whether a caller waits for a lock.
    fn is_waited_for(&self, repo: &str, pull: &PullId, key: &str) -> bool {
        self.callers.lock().contains_key(&(repo.to_owned(), pull.clone(), key.to_owned()))
    }

    /// Whoever waits under this name is to stop, also if that has not begun yet.
    fn cancel(&self, name: &str) {
        let mut cancelled = self.cancelled.lock();
        cancelled.push_back(name.to_owned());
        if cancelled.len() > MOST_CANCELLED {
            cancelled.pop_front();
        }
        drop(cancelled);
        self.wake();
    }

    /// Whether this caller is to stop; asked once.
    fn is_cancelled(&self, name: &str) -> bool {
        let mut cancelled = self.cancelled.lock();
        let found = cancelled.iter().position(|other| other == name);
        found.and_then(|at| cancelled.remove(at)).is_some()
    }
}

/// A caller who waits, or has not left its place yet.
struct Present<'a>(&'a Queueing);

impl Drop for Present<'_> {
    fn drop(&mut self) {
        *self.0.waiting.lock() -= 1;
        self.0.wake();
    }
}

/// Wakes whoever waits for something to change.
#[derive(Debug, Default)]
struct Signal {
    generation: Mutex<u64>,
    changed: Condvar,
}

impl Signal {
    /// To be asked before what is waited for is looked at.
    fn generation(&self) -> u64 {
        *self.generation.lock()
    }

    fn notify(&self) {
        *self.generation.lock() += 1;
        self.changed.notify_all();
    }

    /// Waits for a change since `seen`, or until then; returns whether there was one.
    fn wait(&self, seen: u64, until: Instant) -> bool {
        let mut generation = self.generation.lock();
        while *generation == seen {
            if self.changed.wait_until(&mut generation, until).timed_out() {
                return *generation != seen;
            }
        }
        true
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
