//! What is on its way to the local store: changes that a caller waits for, and changes that go along with the next ones.
//!
//! Invariants:
//! - Changes reach the local store in the order in which they came here.
//! - What is on its way counts as known ([`WriteBehind::queued`]): nobody decides by what the local store had before.
//! - With `durability: sync`, what a caller's acknowledgement rests on is on the local store's disk before the caller is told. With
//!   `async` it rests on Redis alone.
//! - A change that the local store did not make, and whose caller was not told so, is never forgotten: the store then counts as
//!   incomplete ([`Arming::fell_behind`]).

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::sync::Mutex;

use super::arming::Arming;
use crate::clock::Clock;
use crate::config::Durability;
use crate::domain::lock::{ProjectLock, PullRef};
use crate::error::{Code, Error, Result};
use crate::store::contract::local::{Change, EntryKey, Held, LocalStore, Ticket};

/// Most changes that wait until it suits.
const MAX_QUEUED: usize = 256;

/// The local store behind its queue. Safe from any thread.
pub(super) struct WriteBehind {
    store: Arc<dyn LocalStore>,
    arming: Arc<Arming>,
    clock: Arc<dyn Clock>,
    durability: Durability,
    /// Longest time that everybody waits for room in the local store's own queue.
    timeout: Duration,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    /// Changes that nobody waits for: they go along with the next, or in the thread's next round.
    queued: Vec<Change>,
    /// What the local store will have at a key, once it has made all that it was handed; and which batch of changes says so.
    values: HashMap<EntryKey, (u64, Option<Held>)>,
    /// The batch that was submitted last.
    last_batch: u64,
}

impl Queue {
    fn push(&mut self, change: Change) {
        self.overlay_in(self.last_batch + 1, &change);
        self.queued.push(change);
    }

    /// `batch` is the one with which the change is submitted.
    fn overlay_in(&mut self, batch: u64, change: &Change) {
        if let Some((key, held)) = value_of(change) {
            self.values.insert(key.clone(), (batch, held.cloned()));
        }
    }

    /// This batch, and all before it, is not on its way any more.
    fn landed(&mut self, batch: u64) {
        self.values.retain(|_, (of, _)| *of > batch);
    }

    fn is_empty(&self) -> bool {
        self.queued.is_empty() && self.values.is_empty()
    }

    /// The batch that was to be submitted will not be made.
    fn not_taken(&mut self) {
        self.values.retain(|_, (batch, _)| *batch != self.last_batch);
    }

    fn strike(&mut self, keys: &[EntryKey]) {
        for key in keys {
            self.values.remove(key);
        }
    }
}

/// What a change makes the value of a key.
fn value_of(change: &Change) -> Option<(&EntryKey, Option<&Held>)> {
    match change {
        Change::Intend(key, held) | Change::SetHere(key, held) | Change::Set(key, held) | Change::Adopt(key, held, _) => {
            Some((key, held.as_ref()))
        }
        Change::Conflict(key, held) => Some((key, Some(held))),
        _ => None,
    }
}

/// What was submitted to the local store; with `durability: sync` it can be waited for.
pub(super) struct Submitted<'a> {
    behind: &'a WriteBehind,
    keys: Vec<EntryKey>,
    ticket: Option<Ticket>,
}

impl Submitted<'_> {
    /// Waits for the disk.
    pub(super) fn wait(self, deadline: Instant) -> Result<()> {
        let Some(ticket) = self.ticket else { return Ok(()) };
        ticket.wait(deadline).inspect_err(|_| self.behind.queue.lock().strike(&self.keys))
    }
}

impl WriteBehind {
    pub(super) fn new(
        store: Arc<dyn LocalStore>,
        arming: Arc<Arming>,
        clock: Arc<dyn Clock>,
        durability: Durability,
        timeout: Duration,
    ) -> WriteBehind {
        WriteBehind { store, arming, clock, durability, timeout, queue: Mutex::default() }
    }

    /// The local store itself: it has what was [flushed](WriteBehind::flush).
    pub(super) fn store(&self) -> &dyn LocalStore {
        &*self.store
    }

    /// What is on its way to a key; `None` if nothing is. Look here before the local store: what is not here any more is there.
    pub(super) fn queued(&self, key: &EntryKey) -> Option<Option<Held>> {
        self.queue.lock().values.get(key).map(|(_, value)| value.clone())
    }

    /// The keys of the project locks that this pull is about to hold in the local store.
    pub(super) fn queued_by(&self, pull: PullRef<'_>) -> BTreeSet<EntryKey> {
        let is_meant = |(key, (_, held)): &(&EntryKey, &(u64, Option<Held>))| {
            matches!(key, EntryKey::Project(_)) && held.as_ref().is_some_and(|held| is_of(&held.value, pull))
        };
        self.queue.lock().values.iter().filter(is_meant).map(|(key, _)| key.clone()).collect()
    }

    /// Queues a change for the local store, whenever it suits.
    pub(super) fn enqueue(&self, change: Change) {
        self.queue.lock().push(change);
    }

    /// Writes changes to the local store, after all that is queued: waits until they are on disk.
    pub(super) fn write(&self, changes: Vec<Change>, deadline: Instant) -> Result<()> {
        let (ticket, batch) = {
            let mut queue = self.queue.lock();
            (self.submit_queued(&mut queue, changes, deadline)?, queue.last_batch)
        };
        let answer = ticket.wait(deadline);
        // What is late may still be made; after any other answer nothing of it, or before it, is on its way.
        if !answer.as_ref().is_err_and(is_late) {
            self.queue.lock().landed(batch);
        }
        answer
    }

    fn submit_queued(&self, queue: &mut Queue, changes: Vec<Change>, deadline: Instant) -> Result<Ticket> {
        // Everybody waits for whoever waits for room in the local store's queue.
        let deadline = deadline.min(self.clock.now() + self.timeout);
        let queued = std::mem::take(&mut queue.queued);
        queue.last_batch += 1;
        changes.iter().for_each(|change| queue.overlay_in(queue.last_batch, change));
        let is_alone = queued.is_empty();
        self.store.submit(queued, changes, deadline).inspect_err(|error| {
            queue.not_taken();
            if !is_alone {
                self.arming.fell_behind(error);
            }
        })
    }

    /// Hands the local store what a caller's acknowledgement rests on: it can be waited for. With `durability: async` it rests on
    /// Redis alone, and the changes are queued.
    pub(super) fn submit(&self, changes: Vec<Change>, deadline: Instant) -> Result<Submitted<'_>> {
        let mut queue = self.queue.lock();
        if self.durability == Durability::Sync {
            let keys: Vec<EntryKey> = changes.iter().filter_map(|change| value_of(change).map(|(key, _)| key.clone())).collect();
            let ticket = self.submit_queued(&mut queue, changes, deadline)?;
            return Ok(Submitted { behind: self, keys, ticket: Some(ticket) });
        }
        changes.into_iter().for_each(|change| queue.push(change));
        let is_full = queue.queued.len() >= MAX_QUEUED;
        drop(queue);
        if is_full {
            // Redis goes on without a local store that does not work; its health tells.
            let _ = self.flush(deadline);
        }
        Ok(Submitted { behind: self, keys: Vec::new(), ticket: None })
    }

    /// Waits until the local store has everything that it was handed or that is queued for it. Its state of a key is up to date then,
    /// if the key is the caller's.
    pub(super) fn flush(&self, deadline: Instant) -> Result<()> {
        if self.queue.lock().is_empty() {
            return Ok(());
        }
        // It is made after all the others. What is only late will still be made.
        self.write(Vec::new(), deadline).inspect_err(|error| {
            if !is_late(error) {
                self.arming.fell_behind(error);
            }
        })
    }
}

/// Whether an error says that time was over.
pub(super) fn is_late(error: &Error) -> bool {
    matches!(error.code(), Code::Timeout | Code::OutcomeUnknown)
}

/// Whether this pull holds the lock with this value.
pub(super) fn is_of(value: &[u8], pull: PullRef<'_>) -> bool {
    ProjectLock::parse(value).is_ok_and(|lock| lock.pull() == pull)
}
