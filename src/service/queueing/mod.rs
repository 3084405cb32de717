//! Waiting for locks: what the queue of a repository (`crate::queue`) means for the operations.
//!
//! | file | what it does |
//! |---|---|
//! | `change` | changes a queue by compare-and-swap, and then says at each key what grants obey |
//! | `attempt` | one try to take a lock, in order, and joining the queue when that is refused |
//! | `wait` | a caller who waits until it has the lock |
//! | `runs` | a plan, apply or unlock of a pull from begin to end: what it gives up meanwhile is given up at its end |
//! | `sets` | all locks of a plan, or none newly |
//! | `tick` | looks at each queue now and then |
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

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{Config, LockTimeouts, PriorityQueue};
use crate::error::Error;
use crate::queue::Rules;
use crate::sync::{Condvar, Mutex};

use self::look::Waits;
use self::runs::Runs;

mod attempt;
mod change;
pub mod look;
pub mod runs;
mod sets;
#[cfg(test)]
mod simulation;
mod tick;
pub mod wait;

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
    /// How many callers wait.
    waiting: Mutex<usize>,
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
            rules,
            turns: Mutex::default(),
            repos: Mutex::default(),
            runs: Mutex::default(),
            changed: Signal::default(),
            cancelled: Mutex::default(),
            trouble: Mutex::default(),
            waits: Waits::default(),
            waiting: Mutex::default(),
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

    /// Something changed that somebody may wait for.
    pub(super) fn wake(&self) {
        self.changed.notify();
    }

    /// A lock was released.
    pub(super) fn released(&self, key: &str, now: Instant) {
        self.waits.released(key, now);
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
