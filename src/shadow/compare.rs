//! What the shadow would have decided.
//!
//! Invariants:
//! - The shadow is asked what the store that decides was asked, in its order, from the same state. Where the order or the state
//!   is not known (operations that crossed; what was not told; what failed), nothing is compared: the shadow is given what the
//!   other store has since, and the key is trusted again by the first operation that has crossed no other. So a difference is the
//!   shadow's, or one of a store that was changed by somebody else; never one of the order in which answers came.
//! - A difference counts once: the shadow is given what the other store has.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use super::observed::{Answer, Asked, Observed, Said, described};
use super::trust::Trust;
use crate::call::{Call, Calls};
use crate::domain::lock::{ProjectLock, PullRef};
use crate::error::{Code, Error, Result};
use crate::store::contract::local::{EntryKey, Named};
use crate::store::{DocumentKey, Expected, Grant, Granted, Listing, LockKey, Store, Swap};

/// How long what grows with the number of locks may take beside the usual timeout.
const GROWING: Duration = Duration::from_secs(60);
/// How many threads give the shadow what it lacks.
const WRITERS: usize = 8;

/// The shadow's store, and where it is trusted.
#[derive(Debug)]
pub(super) struct Follower<'a> {
    store: &'a dyn Store,
    calls: &'a Calls,
    timeout: Duration,
    trust: Trust,
}

/// What came of a comparison.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The same was decided.
    Same,
    /// Something else was.
    Different { key: String, decided: String, shadow: String },
    /// Nothing could be compared.
    Uncertain,
    /// The shadow failed.
    Failed(Error),
}

impl<'a> Follower<'a> {
    /// Over this store, which is empty.
    pub fn new(store: &'a dyn Store, calls: &'a Calls, timeout: Duration) -> Follower<'a> {
        Follower { store, calls, timeout, trust: Trust::default() }
    }

    /// Whether all project locks were compared since something was last missed.
    pub fn is_in_step(&self) -> bool {
        self.trust.has_locks()
    }

    /// Something was missed.
    pub fn lose_step(&mut self) {
        self.trust.lose();
    }

    /// Follows one operation; how long the shadow took, if it was asked.
    pub fn follow(&mut self, seen: &Observed) -> (Verdict, Option<Duration>) {
        if seen.after_gap {
            self.trust.lose();
        }
        let followed = match (&seen.asked, seen.asked.key()) {
            (Asked::ReleaseByPull { repo, num }, _) => self.release_by_pull(PullRef { repo, num: *num }, seen),
            (_, Some(key)) => self.one(key, seen),
            (_, None) => self.list(seen),
        };
        followed.unwrap_or_else(|error| {
            self.miss(seen);
            (Verdict::Failed(error), None)
        })
    }

    /// What this operation did is not known to the shadow.
    pub fn miss(&mut self, seen: &Observed) {
        match seen.asked.key() {
            Some(key) => self.trust.set(key, false),
            None => self.trust.lose(),
        }
    }

    fn one(&mut self, key: &EntryKey, seen: &Observed) -> Result<(Verdict, Option<Duration>)> {
        let is_known = !seen.crossed.all && !matches!(seen.answer, Answer::NotKnown);
        if !is_known || !self.trust.has(key) {
            let after = seen.after();
            after.map_or(Ok(()), |after| self.give(key, after))?;
            self.trust.set(key, is_known && after.is_some());
            return Ok((Verdict::Uncertain, None));
        }
        let begun = Instant::now();
        let answer = self.ask(key, seen)?;
        let took = Some(begun.elapsed());
        if seen.answer.agrees(&answer) {
            return Ok((Verdict::Same, took));
        }
        let after = seen.after();
        self.trust.set(key, after.is_some());
        after.map_or(Ok(()), |after| self.give(key, after))?;
        Ok((different(key, seen.answer.described(), answer.described()), took))
    }

    /// Asks the shadow the same.
    fn ask(&self, key: &EntryKey, seen: &Observed) -> Result<Answer> {
        let call = self.call();
        Ok(match &seen.asked {
            Asked::Grant { .. } if matches!(seen.answer, Answer::Kept) => {
                self.get(key)?.map_or(Answer::Kept, |value| Answer::Held(Said::This(value)))
            }
            Asked::Grant { value, .. } => match self.grant(lock_of(key)?, value)? {
                Granted::Yes { .. } => Answer::Granted,
                Granted::Held { value } => Answer::Held(Said::This(value)),
                Granted::NotYet => Answer::Kept,
            },
            Asked::Release { only_if, .. } => Answer::Was(Said::of(self.store.release(&only_if.release(lock_of(key)?), &call)?)),
            Asked::Discard(_) => Answer::Was(Said::of(self.store.discard(lock_of(key)?, &call)?)),
            Asked::Swap { expected, new, .. } => match &seen.answer {
                Answer::Left(said) => {
                    self.put_document(document_of(key)?, seen.after().flatten())?;
                    Answer::Left(said.clone())
                }
                _ => match self.store.swap_document(document_of(key)?, expected.borrowed(), new.as_deref(), &call)? {
                    Swap::Done => Answer::Swapped,
                    Swap::Conflict(current) => Answer::Was(Said::of(current)),
                },
            },
            Asked::Get(_) | Asked::List { .. } | Asked::ReleaseByPull { .. } => Answer::Was(Said::of(self.get(key)?)),
        })
    }

    fn list(&mut self, seen: &Observed) -> Result<(Verdict, Option<Duration>)> {
        let is_garbled = matches!(seen.asked, Asked::List { fragile: true, .. }) && !seen.crossed.keys.is_empty();
        let decided = match &seen.answer {
            Answer::Locks(locks) if locks.incomplete().is_none() && !seen.crossed.all && !is_garbled => by_key(locks),
            _ => return Ok((Verdict::Uncertain, None)),
        };
        let begun = Instant::now();
        let listing = self.store.list(&self.growing())?;
        let (took, shadow) = (Some(begun.elapsed()), by_key(&listing));
        let keys: HashSet<&EntryKey> = decided.keys().chain(shadow.keys()).collect();
        let is_wrong = |key: &&&EntryKey| !seen.crossed.keys.contains(**key) && decided.get(**key) != shadow.get(**key);
        let wrong: Vec<&EntryKey> = keys.iter().filter(is_wrong).copied().collect();
        let was_in_step = self.trust.has_locks();
        let first = wrong.iter().filter(|key| self.trust.has(key)).min();
        let verdict = first.map(|key| different(key, told(decided.get(*key)), told(shadow.get(*key))));
        self.give_all(&wrong.iter().map(|key| (*key, decided.get(*key).copied())).collect::<Vec<_>>())?;
        self.trust.gain_locks(&seen.crossed.keys);
        Ok((verdict.unwrap_or(if was_in_step { Verdict::Same } else { Verdict::Uncertain }), took))
    }

    fn release_by_pull(&mut self, pull: PullRef<'_>, seen: &Observed) -> Result<(Verdict, Option<Duration>)> {
        let begun = Instant::now();
        let listing = self.store.release_by_pull(pull, &self.growing())?;
        let (took, shadow) = (Some(begun.elapsed()), by_key(&listing));
        let decided = match &seen.answer {
            Answer::Locks(locks) if locks.incomplete().is_none() && !seen.crossed.all && self.trust.has_locks() => by_key(locks),
            _ => {
                self.trust.lose();
                return Ok((Verdict::Uncertain, None));
            }
        };
        let keys: HashSet<&EntryKey> = decided.keys().chain(shadow.keys()).collect();
        let wrong: Vec<&EntryKey> = keys.into_iter().filter(|key| decided.get(*key) != shadow.get(*key)).collect();
        let first = wrong.iter().filter(|key| self.trust.has(key) && !seen.crossed.keys.contains(**key)).min();
        let verdict = first.map(|key| different(key, told(decided.get(*key)), told(shadow.get(*key))));
        // What was released here is gone there, and what was not released here is still held.
        let after = |key: &EntryKey| if decided.contains_key(key) { None } else { shadow.get(key).copied() };
        self.give_all(&wrong.iter().map(|key| (*key, after(key))).collect::<Vec<_>>())?;
        seen.crossed.keys.iter().for_each(|key| self.trust.set(key, false));
        Ok((verdict.unwrap_or(Verdict::Same), took))
    }

    /// Gives the shadow what the other store has at these keys.
    pub fn give_all(&self, entries: &[(&EntryKey, Option<&[u8]>)]) -> Result<()> {
        let one_by_one =
            |entries: &[(&EntryKey, Option<&[u8]>)]| entries.iter().try_for_each(|(key, value)| self.give(key, *value));
        if entries.len() <= WRITERS {
            return one_by_one(entries);
        }
        // A store makes durable together what is asked together.
        std::thread::scope(|scope| {
            let parts = entries.chunks(entries.len().div_ceil(WRITERS));
            let writers: Vec<_> = parts.map(|part| scope.spawn(move || one_by_one(part))).collect();
            let stopped = || Error::new(Code::Internal, "a thread that filled the shadow has stopped");
            writers.into_iter().try_for_each(|writer| writer.join().unwrap_or_else(|_| Err(stopped())))
        })
    }

    fn give(&self, key: &EntryKey, value: Option<&[u8]>) -> Result<()> {
        if self.get(key)?.as_deref() == value {
            return Ok(());
        }
        match key.named() {
            Named::Document(document) => self.put_document(document, value),
            Named::Lock(lock) => {
                self.store.discard(lock, &self.call())?;
                let Some(value) = value else { return Ok(()) };
                match self.grant(lock, value)? {
                    Granted::Yes { .. } => Ok(()),
                    _ => Err(Error::new(
                        Code::StoreMoved,
                        format!("the shadow refuses {lock}, which it has just released: another program uses it"),
                    )),
                }
            }
        }
    }

    fn grant(&self, key: LockKey<'_>, value: &[u8]) -> Result<Granted> {
        let lock = match key {
            LockKey::Project(_) => Some(ProjectLock::parse(value)?),
            LockKey::Command(_) => None,
        };
        self.store.grant(&Grant { key, lock: lock.as_ref(), value, in_order: false }, &self.call())
    }

    fn get(&self, key: &EntryKey) -> Result<Option<Vec<u8>>> {
        match key.named() {
            Named::Lock(lock) => self.store.get(lock, &self.call()),
            Named::Document(document) => self.store.document(document, &self.call()),
        }
    }

    fn put_document(&self, key: DocumentKey<'_>, value: Option<&[u8]>) -> Result<()> {
        self.store.swap_document(key, Expected::Any, value, &self.call()).map(drop)
    }

    fn call(&self) -> Call {
        self.calls.within(self.timeout)
    }

    fn growing(&self) -> Call {
        self.calls.within(self.timeout + GROWING)
    }
}

fn by_key(locks: &Listing) -> BTreeMap<EntryKey, &[u8]> {
    let key = |value: &[u8]| ProjectLock::parse(value).ok().map(|lock| EntryKey::Project(lock.fields().key()));
    locks.values().filter_map(|value| Some((key(value)?, value))).collect()
}

fn told(value: Option<&&[u8]>) -> String {
    value.map_or_else(|| "nothing".to_owned(), |value| described(value))
}

fn different(key: &EntryKey, decided: String, shadow: String) -> Verdict {
    let shadow = if shadow == decided { format!("{shadow}, with other bytes") } else { shadow };
    Verdict::Different { key: key.to_string(), decided, shadow }
}

fn lock_of(key: &EntryKey) -> Result<LockKey<'_>> {
    key.lock().ok_or_else(|| Error::new(Code::Internal, format!("{key} is no lock")))
}

fn document_of(key: &EntryKey) -> Result<DocumentKey<'_>> {
    match key.named() {
        Named::Document(document) => Ok(document),
        Named::Lock(lock) => Err(Error::new(Code::Internal, format!("{lock} is no document"))),
    }
}
