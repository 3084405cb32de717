//! Changing a queue.
//!
//! Invariant: a change is made to the document that was read, or not at all. The gates that it changed are set after it, with its revision,
//! so that a gate which is set late undoes no later one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::state::State;
use super::micros;
use super::runs::LEASE;
use crate::call::Call;
use crate::domain::lock::ProjectLock;
use crate::error::{Code, Error, Result};
use crate::queue::{Digest, Event, Gate, Holder, PullId, Queue};
use crate::store::contract::local::Held;
use crate::store::{DocumentKey, Expected, LockKey, Release, Store, Swap};
use crate::sync::mark;

/// How often a change is tried that others come before.
const MAX_TRIES: u32 = 50;
/// A revision later than all others: for a gate that no queue has.
const LAST_REVISION: u64 = 1 << 53;

/// What came of a change.
pub(super) struct Changed<T> {
    pub answer: T,
    pub queue: Queue,
    /// Keys that were closed by the change, and are free.
    pub free: Vec<String>,
    /// Whether anybody's place is over, or a key is kept for somebody: a join concerns nobody but who joined.
    concerns_others: bool,
}

impl State {
    pub(super) fn store(&self) -> &dyn Store {
        self.router.store()
    }

    /// One question to the store.
    pub(super) fn step(&self) -> Call {
        self.calls.within(self.router.timeout())
    }

    pub(super) fn now(&self) -> u64 {
        self.clock.unix_micros()
    }

    /// The queue of a repository as it is.
    pub(super) fn queue(&self, repo: &str) -> Result<Queue> {
        Queue::decode(self.store().document(DocumentKey::Queue(repo), &self.step())?.as_deref())
    }

    /// Changes the queue of a repository; `change` may be asked more than once, each time with what is there by then.
    pub(super) fn change<T>(&self, repo: &str, mut change: impl FnMut(&mut Queue, u64) -> Result<T>) -> Result<Changed<T>> {
        let changed = self.try_change(repo, &mut change);
        match &changed {
            Ok(changed) => {
                *self.queueing.trouble.lock() = None;
                let mut repos = self.queueing.repos.lock();
                if changed.queue.is_empty() {
                    repos.remove(repo)
                } else {
                    repos.insert(repo.to_owned())
                };
                drop(repos);
                if changed.concerns_others {
                    self.queueing.wake();
                }
            }
            Err(error) if error.code() == Code::QueueFull || error.code() == Code::InvalidArgument => {}
            Err(error) => self.queueing.failed(error),
        }
        changed
    }

    fn try_change<T>(&self, repo: &str, change: &mut impl FnMut(&mut Queue, u64) -> Result<T>) -> Result<Changed<T>> {
        let turn = Arc::clone(self.queueing.turns.lock().entry(repo.to_owned()).or_default());
        let _turn = turn.lock();
        let key = DocumentKey::Queue(repo);
        let mut current = self.store().document(key, &self.step())?;
        for _ in 0..MAX_TRIES {
            let before = Queue::decode(current.as_deref())?;
            let mut queue = before.clone();
            let answer = change(&mut queue, self.now())?;
            if queue == before {
                return Ok(Changed { answer, queue, free: Vec::new(), concerns_others: false });
            }
            queue.bump(self.now());
            let (expected, new) = (current.as_deref().map_or(Expected::Absent, Expected::Bytes), queue.encode());
            match self.store().swap_document(key, expected, new.as_deref(), &self.step())? {
                Swap::Done => {
                    let free = self.set_gates(&before, &queue)?;
                    let concerns_others = concerns_others(&before, &queue);
                    return Ok(Changed { answer, queue, free, concerns_others });
                }
                Swap::Conflict(found) => current = mark!("queue: another change came first", found),
            }
        }
        Err(Error::new(Code::Timeout, format!("the {key} keeps changing; it was left as it is")))
    }

    /// Says at each key whose gate changed what grants obey; returns the keys that were closed and are free.
    fn set_gates(&self, before: &Queue, after: &Queue) -> Result<Vec<String>> {
        let (before, gates) = (before.gates(), after.gates());
        let keys: BTreeSet<&String> = before.keys().chain(gates.keys()).collect();
        let mut free = Vec::new();
        for key in keys {
            let gate = gates.get(key).unwrap_or(&Gate::Open);
            if before.get(key).unwrap_or(&Gate::Open) != gate {
                let is_held = self.store().set_gate(key, after.revision(), gate, &self.step())?;
                if *gate == Gate::Closed && !is_held {
                    mark!("queue: a key is closed and free");
                    free.push(key.clone());
                }
            }
        }
        Ok(free)
    }

    /// Says anew what grants obey at all keys of a queue: a store may have forgotten.
    pub(super) fn assert_gates(&self, queue: &Queue) -> Result<()> {
        queue
            .gates()
            .iter()
            .try_for_each(|(key, gate)| self.store().set_gate(key, queue.revision(), gate, &self.step()).map(drop))
    }

    /// The same at one key, whatever was said there before: its gate is of a queue that is gone.
    pub(super) fn replace_gate(&self, key: &str, queue: &Queue) -> Result<()> {
        self.store().set_gate(key, LAST_REVISION, &Gate::Open, &self.step())?;
        match queue.gate(key) {
            Gate::Open => Ok(()),
            gate => self.store().set_gate(key, queue.revision(), &gate, &self.step()).map(drop),
        }
    }

    /// Decides who is next for keys that were freed, or without any for all; what is told is looked at once the queue is written.
    pub(super) fn dispatch(&self, repo: &str, freed: &[String]) -> Result<Queue> {
        let changed = self.change(repo, |queue, now| self.dispatch_in(repo, queue, freed, now))?;
        self.queueing.waits.count(&changed.answer);
        Ok(changed.queue)
    }

    /// The same within a change of the queue.
    pub(super) fn dispatch_in(&self, repo: &str, queue: &mut Queue, freed: &[String], now: u64) -> Result<Vec<Event>> {
        if queue.is_empty() {
            return Ok(Vec::new());
        }
        self.take_sets_back(queue)?;
        queue.give_up(now);
        for pull in self.queueing.runs.lock().pulls_of(repo) {
            queue.extend(&pull, now + micros(LEASE));
        }
        let holders = self.holders(queue.keys_to_look_at(freed))?;
        Ok(queue.dispatch(&holders, &self.queueing.rules, now))
    }

    /// Who holds these keys.
    fn holders(&self, keys: BTreeSet<String>) -> Result<BTreeMap<String, Holder>> {
        let holder = |value: Option<Vec<u8>>| match value.as_deref().map(ProjectLock::parse) {
            None => Holder::Free,
            Some(Ok(lock)) => Holder::Held(PullId::of(&lock)),
            Some(Err(_)) => Holder::Unknown,
        };
        let look = |key: String| {
            let found = self.store().get(LockKey::Project(&key), &self.step())?;
            Ok((key, holder(found)))
        };
        keys.into_iter().map(look).collect()
    }

    /// Takes back what a process was granted of a set before it died: exactly those locks. That it was given up is written by then.
    fn take_sets_back(&self, queue: &mut Queue) -> Result<()> {
        for (pull, acquiring) in queue.given_up() {
            for (key, digest) in &acquiring.keys {
                let lock = LockKey::Project(key);
                if let Some(Held { value, .. }) = self.store().held(lock, &self.step())?
                    && Digest::of(&value) == *digest
                {
                    mark!("queue: a set is taken back from a caller who is gone");
                    let release = Release { key: lock, fields: None, pull_num: None, value: Some(&value) };
                    self.store().release(&release, &self.step())?;
                }
            }
            queue.taken_back(&pull);
        }
        Ok(())
    }

    /// Locks were released: whoever waits for them is next. It fails no release.
    pub(in crate::service) fn freed(&self, repo: &str, keys: &[String]) {
        if self.queueing.is_enabled() && !keys.is_empty() {
            // What failed is kept for the status, and the next tick tries again.
            let _ = self.dispatch(repo, keys);
        }
        self.queueing.wake();
    }
}

/// Whether a caller who waits may see another gate, or no place any more.
fn concerns_others(before: &Queue, after: &Queue) -> bool {
    let (was, is) = (before.gates(), after.gates());
    let is_new = |(key, gate): (&String, &Gate)| *gate != Gate::Closed && was.get(key) != Some(gate);
    after.len() < before.len() || was.keys().any(|key| !is.contains_key(key)) || is.iter().any(is_new)
}
