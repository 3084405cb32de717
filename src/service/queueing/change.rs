//! Changing a queue.
//!
//! Invariant: a change is made to the document that was read, or not at all. The gates that it changed are set after it, with its revision,
//! so that a gate which is set late undoes no later one.
//!
//! A change takes a few timeouts of an operation at most, however many others come before it and however many keys it looks at: its turn, its
//! looks at locks, the swap and the gates have one each.

use std::collections::{BTreeMap, BTreeSet};

use super::super::state::State;
use super::memory::micros;
use super::open_runs::LEASE;
use super::place::ReadQueue;
use crate::call::{AnsweredBy, Call};
use crate::domain::lock::ProjectLock;
use crate::error::{Code, Error, Result};
use crate::queue::{Digest, Event, Gate, Holder, PullId, Queue};
use crate::store::contract::local::{EntryKey, Held};
use crate::store::{DocumentKey, Expected, LockKey, Release, Swap};
use crate::sync::mark;

/// How often a change is tried that others come before.
const MAX_TRIES: u32 = 50;
/// A revision later than all others: for a gate that no queue has.
const LAST_REVISION: u64 = 1 << 53;

/// What grants obey at the keys that somebody wants.
type Gates<'a> = BTreeMap<&'a str, Gate>;

/// What came of a change.
pub(super) struct Changed<T> {
    pub answer: T,
    pub queue: ReadQueue,
    /// Keys that were closed by the change, and are free.
    pub free: Vec<String>,
    /// Whether anybody's place is over, or a key is kept for somebody: a join concerns nobody but who joined.
    concerns_others: bool,
}

impl State {
    /// One question to the store.
    pub(super) fn step(&self) -> Call {
        self.calls.within(self.router.timeout())
    }

    pub(in crate::service) fn now(&self) -> u64 {
        self.clock.unix_micros()
    }

    /// The queue of a repository as it is.
    pub(super) fn queue(&self, repo: &str) -> Result<ReadQueue> {
        let call = self.step();
        let document = self.store().document(DocumentKey::Queue(repo), &call)?;
        Ok(ReadQueue { queue: Queue::decode(document.as_deref())?, stale: is_fallback(&call) })
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
        let _turn = self.queueing.turns.take(&[EntryKey::Queue(repo.to_owned())], self.step().deadline)?;
        let key = DocumentKey::Queue(repo);
        let mut call = self.step();
        let mut current = self.store().document(key, &call)?;
        for _ in 0..MAX_TRIES {
            let before = Queue::decode(current.as_deref())?;
            let mut queue = before.clone();
            let answer = change(&mut queue, self.now())?;
            if queue == before {
                let queue = ReadQueue { queue, stale: is_fallback(&call) };
                return Ok(Changed { answer, queue, free: Vec::new(), concerns_others: false });
            }
            queue.bump(self.now());
            let (expected, new) = (current.as_deref().map_or(Expected::Absent, Expected::Bytes), queue.encode());
            call = self.step();
            match self.store().swap_document(key, expected, new.as_deref(), &call)? {
                Swap::Done => {
                    let (was, is) = (before.gates(), queue.gates());
                    let free = self.set_gates(&was, &is, queue.revision())?;
                    let concerns_others = queue.len() < before.len() || concerns_others(&was, &is);
                    let queue = ReadQueue { queue, stale: is_fallback(&call) };
                    return Ok(Changed { answer, queue, free, concerns_others });
                }
                Swap::Conflict(found) => current = mark!("queue: another change came first", found),
            }
        }
        Err(Error::new(Code::Timeout, format!("the {key} keeps changing; it was left as it is")))
    }

    /// Says at each key whose gate changed what grants obey; returns the keys that were closed and are free.
    fn set_gates(&self, was: &Gates<'_>, is: &Gates<'_>, revision: u64) -> Result<Vec<String>> {
        let until = self.step().deadline;
        let keys: BTreeSet<&str> = was.keys().chain(is.keys()).copied().collect();
        let mut free = Vec::new();
        for key in keys {
            let gate = is.get(key).unwrap_or(&Gate::Open);
            if was.get(key).unwrap_or(&Gate::Open) != gate {
                let is_held = self.store().set_gate(key, revision, gate, &self.calls.until(until))?;
                if *gate == Gate::Closed && !is_held {
                    mark!("queue: a key is closed and free");
                    free.push(key.to_owned());
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

    /// Says anew what grants of one key obey, whatever was said there before: the gate is of a queue that is gone. Where somebody waits, the
    /// key is open at no moment.
    pub(super) fn replace_gate(&self, repo: &str, key: &str) -> Result<()> {
        let queue = self
            .change(repo, |queue, now| {
                queue.bump(now);
                Ok(())
            })?
            .queue;
        let gate = queue.gate(key);
        let revision = if gate == Gate::Open { LAST_REVISION } else { queue.revision() };
        self.store().set_gate(key, revision, &gate, &self.step()).map(drop)
    }

    /// Decides who is next for keys that were freed, or without any for all; what is told is looked at once the queue is written.
    pub(super) fn dispatch(&self, repo: &str, freed: &[String]) -> Result<ReadQueue> {
        let changed = self.change(repo, |queue, now| self.dispatch_in(repo, queue, freed, now))?;
        self.queueing.dispatched(repo, changed.answer);
        self.queueing.nudge_after_dispatch(repo, &changed.queue);
        Ok(changed.queue)
    }

    /// The same within a change of the queue.
    pub(super) fn dispatch_in(&self, repo: &str, queue: &mut Queue, freed: &[String], now: u64) -> Result<Vec<Event>> {
        if queue.is_empty() {
            return Ok(Vec::new());
        }
        self.prepare(repo, queue, now)?;
        let until = self.step().deadline;
        let look = |key: String| {
            let found = self.store().get(LockKey::Project(&key), &self.calls.until(until))?;
            let holder = self.holder(repo, &key, found.as_deref(), now);
            Ok((key, holder))
        };
        let holders: Result<_> = queue.keys_to_look_at(freed).into_iter().map(look).collect();
        Ok(queue.dispatch(&holders?, &self.queueing.rules, now))
    }

    /// What comes before a dispatch: sets of the dead are taken back, and who is at work keeps what is reserved to it.
    pub(super) fn prepare(&self, repo: &str, queue: &mut Queue, now: u64) -> Result<()> {
        self.take_sets_back(queue)?;
        queue.give_up(now);
        for pull in self.queueing.runs.lock().pulls_of(repo) {
            queue.extend(&pull, now + micros(LEASE));
            queue.claim(&pull, now + micros(LEASE));
        }
        Ok(())
    }

    /// Who holds a key where this is stored. A lock that is frozen is kept for nobody: its time would run out.
    pub(super) fn holder(&self, repo: &str, key: &str, value: Option<&[u8]>, now: u64) -> Holder {
        match value.map(ProjectLock::parse) {
            None if self.queueing.frozen.denies_key(repo, key, now) => Holder::Unknown,
            None => Holder::Free,
            Some(Ok(lock)) => Holder::Held(PullId::of(&lock)),
            Some(Err(_)) => Holder::Unknown,
        }
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
                    self.take_back_lock(&release)?;
                }
            }
            queue.taken_back(&pull);
        }
        Ok(())
    }

    /// A pull's lock was released by a call that began at this time: whoever waits for it is next. It fails no release.
    pub(in crate::service) fn freed(&self, repo: &str, key: &str, pull: &PullId, begun: u64) {
        if self.queueing.is_for(repo) {
            let freed = [key.to_owned()];
            // What fails here is kept for the status, and the next tick tries again.
            let changed = self.change(repo, |queue, now| {
                queue.gave_up(pull, key, begun);
                self.dispatch_in(repo, queue, &freed, now)
            });
            if let Ok(changed) = changed {
                self.queueing.dispatched(repo, changed.answer);
                self.queueing.nudge_after_dispatch(repo, &changed.queue);
            }
        }
        self.queueing.wake();
    }
}

/// Whether the local store answered in Redis's place.
fn is_fallback(call: &Call) -> bool {
    call.answered_by() == Some(AnsweredBy::Fallback)
}

/// Whether a caller who waits may see another gate.
fn concerns_others(was: &Gates<'_>, is: &Gates<'_>) -> bool {
    let is_new = |(key, gate): (&&str, &Gate)| *gate != Gate::Closed && was.get(key) != Some(gate);
    was.keys().any(|key| !is.contains_key(key)) || is.iter().any(is_new)
}
