//! What one process knows of queues, beside what stands in the store.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::config::{Config, DeadlockDetection, LockTimeouts, PriorityQueue};
use crate::error::{Code, Error};
use crate::hybrid::key_locks::KeyLocks;
use crate::queue::{Event, PullId, Queue, Rules};
use crate::sync::{Condvar, Mutex};

use super::counts::Waits;
use super::frozen::Frozen;
use super::nudge::Nudge;
use super::open_runs::Runs;
use super::place::Left;
use super::seen::Deadlocks;

/// How long a key is kept for a caller who waits, and so takes it at once.
const CALLER_COMES: Duration = Duration::from_secs(60);
/// Most pulls that left of which nobody asked.
const MOST_LEFT: usize = 1_000;
/// Most cancellations that are remembered before their callers have asked.
const MOST_CANCELLED: usize = 1_000;

/// What one process knows of queues, beside what stands in the store. Safe from any thread.
#[derive(Debug)]
pub(in crate::service) struct Queueing {
    pub(in crate::service) settings: PriorityQueue,
    pub(in crate::service) timeouts: LockTimeouts,
    pub(super) detection: DeadlockDetection,
    pub(super) rules: Rules,
    /// One change of a queue at a time within this process: others would be refused by its swap.
    pub(super) turns: KeyLocks,
    /// The repositories in whose queues somebody was when they were last seen.
    pub(super) repos: Mutex<BTreeSet<String>>,
    pub(super) runs: Mutex<Runs>,
    pub(super) changed: Signal,
    /// Callers who are to stop waiting, by the names that they gave themselves.
    pub(super) cancelled: Mutex<VecDeque<String>>,
    /// Why the last change of a queue failed; `None` once one succeeded.
    pub(super) trouble: Mutex<Option<String>>,
    pub(super) waits: Waits,
    /// How many callers wait for a lock, by repository, pull and key.
    pub(super) callers: Mutex<HashMap<(String, PullId, String), usize>>,
    /// How many callers wait.
    pub(super) waiting: Mutex<usize>,
    /// Pulls that left because they missed too often, of which nobody was told yet.
    pub(super) left: Mutex<VecDeque<Left>>,
    pub(super) deadlocks: Deadlocks,
    pub(in crate::service) frozen: Frozen,
    pub(in crate::service) nudge: Arc<Nudge>,
    /// How often everything was looked at.
    pub(super) ticks: AtomicU32,
    /// Whether who waits when this closes is to keep its place.
    keeps_places: AtomicBool,
}

impl Queueing {
    pub(in crate::service) fn new(config: &Config) -> Queueing {
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
            turns: KeyLocks::default(),
            repos: Mutex::default(),
            runs: Mutex::default(),
            changed: Signal::default(),
            cancelled: Mutex::default(),
            trouble: Mutex::default(),
            waits: Waits::default(),
            callers: Mutex::default(),
            waiting: Mutex::default(),
            left: Mutex::default(),
            deadlocks: Deadlocks::default(),
            frozen: Frozen::default(),
            nudge: Arc::default(),
            ticks: AtomicU32::default(),
            keeps_places: AtomicBool::default(),
        }
    }

    /// Whether there are queues.
    pub(in crate::service) fn is_enabled(&self) -> bool {
        self.settings.enabled
    }

    /// Whether who is refused a lock of this repository waits in order.
    pub(in crate::service) fn is_for(&self, repo: &str) -> bool {
        self.settings.is_for(repo)
    }

    /// Why a repository has no queue while others have one; `None` if it has, or none has.
    pub(super) fn left_out(&self, repo: &str) -> Option<String> {
        let why = || format!("{repo:?} has no queue: locking.enhanced.priority_queue.repos has no pattern that fits");
        (self.is_enabled() && !self.is_for(repo)).then(why)
    }

    /// What was counted, as whole families of OpenMetrics text.
    pub(in crate::service) fn waits_text(&self) -> String {
        self.waits.text()
    }

    /// What an operator should know.
    pub(in crate::service) fn warning(&self) -> Option<String> {
        self.trouble.lock().as_ref().map(|why| format!("nobody joins a queue, and locks are given to whoever comes first: {why}"))
    }

    /// A queue could not be read or changed.
    pub(super) fn failed(&self, error: &Error) {
        *self.trouble.lock() = Some(error.message().to_owned());
    }

    /// Wakes all who wait, and waits until they have left their places, or until then: nothing is to be waited for any more.
    pub(in crate::service) fn close(&self, until: Instant) {
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

    /// Who waits when this closes keeps its place: the same caller asks the next opening.
    pub(super) fn keep_places(&self) {
        self.keeps_places.store(true, Ordering::SeqCst);
    }

    /// Whether a wait that ended with this error has its place still.
    pub(super) fn keeps_place_after(&self, error: &Error) -> bool {
        error.code() == Code::Closed && self.keeps_places.load(Ordering::SeqCst)
    }

    /// A caller waits until this is dropped.
    pub(super) fn present(&self) -> Present<'_> {
        *self.waiting.lock() += 1;
        Present(self)
    }

    /// Something changed that somebody may wait for.
    pub(in crate::service) fn wake(&self) {
        self.changed.notify();
    }

    /// A lock was released.
    pub(in crate::service) fn released(&self, key: &str, now: Instant) {
        self.waits.released(key, now);
    }

    /// A caller begins to wait for a lock.
    pub(super) fn comes(&self, repo: &str, pull: &PullId, key: &str) {
        *self.callers.lock().entry((repo.to_owned(), pull.clone(), key.to_owned())).or_default() += 1;
    }

    /// A caller waits no more.
    pub(super) fn goes(&self, repo: &str, pull: &PullId, key: &str) {
        if let Entry::Occupied(mut callers) = self.callers.lock().entry((repo.to_owned(), pull.clone(), key.to_owned())) {
            *callers.get_mut() -= 1;
            if *callers.get() == 0 {
                callers.remove();
            }
        }
    }

    /// Whether a caller waits for a lock.
    pub(super) fn is_waited_for(&self, repo: &str, pull: &PullId, key: &str) -> bool {
        self.callers.lock().contains_key(&(repo.to_owned(), pull.clone(), key.to_owned()))
    }

    /// Whoever waits under this name is to stop, also if that has not begun yet.
    pub(super) fn cancel(&self, name: &str) {
        let mut cancelled = self.cancelled.lock();
        cancelled.push_back(name.to_owned());
        if cancelled.len() > MOST_CANCELLED {
            cancelled.pop_front();
        }
        drop(cancelled);
        self.wake();
    }

    /// Whether this caller is to stop; asked once.
    pub(super) fn is_cancelled(&self, name: &str) -> bool {
        let mut cancelled = self.cancelled.lock();
        let found = cancelled.iter().position(|other| other == name);
        found.and_then(|at| cancelled.remove(at)).is_some()
    }
}

impl Queueing {
    /// Somebody joined, and may have closed a circle: two have to wait for that.
    pub(super) fn nudge(&self, repo: &str, queue: &Queue) {
        if queue.len() > 1 {
            self.nudge.look_at(repo);
        }
    }

    /// A dispatch was written: what it did is counted, and who left is kept for whoever tells people.
    pub(super) fn dispatched(&self, repo: &str, events: Vec<Event>) {
        self.waits.count(&events);
        for event in events {
            let Event::Left { waiter, keys } = event else { continue };
            let mut left = self.left.lock();
            left.push_back(Left { repo: repo.to_owned(), waiter, keys });
            if left.len() > MOST_LEFT {
                left.pop_front();
            }
            drop(left);
            self.wake();
        }
    }

    /// Locks changed hands: that may have closed a circle of reservations, or ended one of locks.
    pub(super) fn nudge_after_dispatch(&self, repo: &str, queue: &Queue) {
        if queue.may_have_soft_circle() || self.deadlocks.repos().contains(repo) {
            self.nudge.look_at(repo);
        }
    }

    /// All queues are to be looked at soon.
    pub(super) fn nudge_all(&self) {
        let repos = self.repos.lock().clone();
        repos.iter().for_each(|repo| self.nudge.look_at(repo));
    }
}

/// A caller who waits, or has not left its place yet.
pub(super) struct Present<'a>(&'a Queueing);

impl Drop for Present<'_> {
    fn drop(&mut self) {
        *self.0.waiting.lock() -= 1;
        self.0.wake();
    }
}

/// Wakes whoever waits for something to change.
#[derive(Debug, Default)]
pub(super) struct Signal {
    generation: Mutex<u64>,
    changed: Condvar,
}

impl Signal {
    /// To be asked before what is waited for is looked at.
    pub(super) fn generation(&self) -> u64 {
        *self.generation.lock()
    }

    pub(super) fn notify(&self) {
        *self.generation.lock() += 1;
        self.changed.notify_all();
    }

    /// Waits for a change since `seen`, or until then; returns whether there was one.
    pub(super) fn wait(&self, seen: u64, until: Instant) -> bool {
        let mut generation = self.generation.lock();
        while *generation == seen {
            if self.changed.wait_until(&mut generation, until).timed_out() {
                return *generation != seen;
            }
        }
        true
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
