//! All locks of a plan, or none newly.
//!
//! Invariant: of a set, either all locks are granted, or those that were are released again, also by others after a crash. Before the first
//! grant the ticket says which values are being granted, and to which keys (`Acquiring`); whoever looks at the queue after the caller's time is
//! over releases exactly those. A lock that the pull had before is no part of that.
//!
//! The order is decided in the queue, in one step: a set's keys are reserved all at once, or none. So a grant of a reserved set fails only where
//! a stock server slips in, or the store does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;

use super::super::Service;
use super::attempt::{Asker, Once, refuse_namesake};
use super::change::Changed;
use super::memory::micros;
use super::open_runs::SetState;
use super::place::{Blocker, InRun, Waiting};
use super::wait::is_of;
use crate::config::Sets;
use crate::domain::json::parse_json;
use crate::domain::lock::ProjectLock;
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::queue::{Digest, Priority, PullId, Queue, Waiter};
use crate::store::{LockKey, Release};
use crate::sync::mark;

/// Most locks of one set.
const MOST: usize = 500;
/// How long the caller of a set may be at work before others take back what it was granted.
const AT_WORK: Duration = Duration::from_secs(120);

/// The locks of a set by their keys; `locks` is a JSON array of them.
///
/// Errors: `InvalidJson`; `InvalidArgument` for one key twice; `TooLarge` for more than 500; those of `check_member`.
pub(super) fn members(locks: &[u8], mut check_member: impl FnMut(&Asker<'_>) -> Result<()>) -> Result<BTreeMap<String, Vec<u8>>> {
    let locks: Vec<&RawValue> = parse_json(locks)?;
    if locks.len() > MOST {
        return Err(Error::new(Code::TooLarge, format!("a set of {} locks is over the limit of {MOST}", locks.len())));
    }
    let mut members = BTreeMap::new();
    for lock in locks {
        let asker = Asker::of(lock.get().as_bytes())?;
        check_member(&asker)?;
        if members.insert(asker.key.clone(), lock.get().as_bytes().to_vec()).is_some() {
            return Err(Error::new(Code::InvalidArgument, format!("a set has the lock {:?} twice", asker.key)));
        }
    }
    Ok(members)
}

/// What a set needs to know.
#[derive(Clone)]
pub(super) struct Set {
    pub repo: String,
    pub pull: PullId,
    pub waiter: Waiter,
    pub priority: Priority,
    /// Whether a blocked caller waits, and not the pull by Atlantis.
    pub calls: bool,
    /// What is to be granted, by key.
    pub wanted: BTreeMap<String, Vec<u8>>,
}

impl Service {
    pub(super) fn is_whole(&self) -> bool {
        self.queueing.settings.sets == Sets::Whole
    }

    /// Takes the set of a run, once; `None` if the pull has all of it.
    pub(super) fn take_set(&self, run: u64, asker: &Asker<'_>) -> Result<Option<InRun>> {
        // Of the tries of one run, which come at once, the first asks for all.
        let asking = Arc::clone(&self.queueing.runs.lock().get(run)?.asking);
        let _asking = asking.lock();
        let set = {
            let mut runs = self.queueing.runs.lock();
            let run = runs.get(run)?;
            match &run.set {
                SetState::Granted => return Ok(None),
                SetState::Refused(blocker) => {
                    let blocker = blocker.clone();
                    drop(runs);
                    return self.refused_set(asker, blocker).map(Some);
                }
                SetState::NotAsked => {}
            }
            let waiter = asker.waiter(&run.recipe)?;
            let (repo, pull, wanted) = (run.repo.clone(), run.pull.clone(), run.declared.clone());
            Set { repo, pull, waiter, priority: run.priority, calls: false, wanted }
        };
        let (state, own) = self.ask_for_set(set)?;
        let refused = match &state {
            SetState::Refused(blocker) => Some(self.refused_set(asker, blocker.clone())?),
            SetState::NotAsked | SetState::Granted => None,
        };
        let mut runs = self.queueing.runs.lock();
        let run = runs.get(run)?;
        if refused.is_some() {
            // The plans of what the pull has are gone; it keeps what it applied, and waits holding that.
            let given_up = own.into_iter().filter(|(key, _)| !run.applied.contains(key));
            run.deferred.extend(given_up);
        }
        run.set = state;
        Ok(refused)
    }

    /// Asks for all at once; returns also the locks that the pull had before.
    pub(super) fn ask_for_set(&self, mut set: Set) -> Result<(SetState, BTreeMap<String, Vec<u8>>)> {
        let own = self.own_locks(&set)?;
        set.wanted.retain(|key, _| !own.contains_key(key));
        if set.wanted.is_empty() {
            return Ok((SetState::Granted, own));
        }
        for value in set.wanted.values() {
            if let Some(frozen) = self.frozen(&Asker::of(value)?) {
                return Err(frozen);
            }
        }
        let keys: Vec<String> = set.wanted.keys().cloned().collect();
        let digests: BTreeMap<String, Digest> = set.wanted.iter().map(|(key, value)| (key.clone(), Digest::of(value))).collect();
        let asked = self.change(&set.repo, |queue, now| {
            queue.join(&set.waiter, &keys, set.priority, true, set.calls, now)?;
            let events = self.dispatch_in(&set.repo, queue, &keys, now)?;
            if keys.iter().all(|key| queue.admits(key, Some(&set.pull))) {
                let until = now + micros(AT_WORK);
                return Ok((queue.begin_acquiring(&set.pull, digests.clone(), until), events));
            }
            Ok((false, events))
        })?;
        let (is_begun, events) = asked.answer;
        self.queueing.dispatched(&set.repo, events);
        self.queueing.nudge(&set.repo, &asked.queue);
        if !is_begun {
            mark!("queue: a set is refused");
            return Ok((SetState::Refused(self.blocker(&asked.queue, &set, &keys)?), own));
        }
        let (granted, is_over) = self.grant_set(&set);
        let pull = &set.pull;
        let is_granted = matches!(&granted, Ok(None));
        let ended = self.change(&set.repo, |queue, now| {
            // Whoever takes the caller for dead releases its locks; so does the next look if some could not be taken back here.
            let is_whole = is_over && queue.end_acquiring(pull) && is_granted;
            if is_whole {
                keys.iter().for_each(|key| {
                    queue.took(pull, key);
                });
            }
            Ok((is_whole, self.dispatch_in(&set.repo, queue, &keys, now)?))
        });
        let ended = ended.map(|Changed { answer: (is_whole, events), queue, .. }| {
            self.queueing.dispatched(&set.repo, events);
            (is_whole, queue)
        });
        match (granted?, ended) {
            (Some(blocker), _) => Ok((SetState::Refused(blocker), own)),
            (None, Ok((true, _))) => mark!("queue: a set is granted", Ok((SetState::Granted, own))),
            (None, ended) => {
                mark!("queue: the caller of a set was taken for gone");
                // Without the word that it is whole, the set is released: the ticket still says which locks these are.
                self.take_back(&set)?;
                let (_, queue) = ended?;
                Ok((SetState::Refused(self.blocker(&queue, &set, &keys)?), own))
            }
        }
    }

    /// Grants each; on a refusal takes back what was granted, and says what was refused. One that fails may have been granted all the same.
    /// `false`: some could not be taken back.
    fn grant_set(&self, set: &Set) -> (Result<Option<Blocker>>, bool) {
        for (key, value) in &set.wanted {
            let blocker = match Asker::of(value).and_then(|asker| self.grant_once(&asker, true, &self.step())) {
                Ok(Once::Granted { .. }) => continue,
                Ok(Once::Held { value, .. }) => Ok(Blocker { key: key.clone(), pull: pull_of(&value) }),
                Ok(Once::NotYet) => Ok(Blocker { key: key.clone(), pull: None }),
                Err(error) => Err(error),
            };
            mark!("queue: a set is taken back");
            let taken_back = self.take_back(set);
            let is_over = taken_back.is_ok();
            return (taken_back.and(blocker.map(Some)), is_over);
        }
        (Ok(None), true)
    }

    /// Releases what was granted of a set, and what may have been: exactly those locks.
    fn take_back(&self, set: &Set) -> Result<()> {
        set.wanted.iter().try_for_each(|(key, value)| {
            let release = Release { key: LockKey::Project(key), fields: None, pull_num: None, value: Some(value) };
            self.take_back_lock(&release)
        })
    }

    /// The locks of the set that the pull has.
    pub(super) fn own_locks(&self, set: &Set) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut own = BTreeMap::new();
        for key in set.wanted.keys() {
            if let Some(value) = self.store().get(LockKey::Project(key), &self.step())?
                && is_of(&value, &set.pull, &set.repo)
                && self.is_settled(&set.repo, &set.pull, key, &value)?
            {
                own.insert(key.clone(), value);
            }
        }
        Ok(own)
    }

    /// The first lock of the set that the pull cannot have.
    fn blocker(&self, queue: &Queue, set: &Set, keys: &[String]) -> Result<Blocker> {
        for key in keys {
            if let Some(value) = self.store().get(LockKey::Project(key), &self.step())? {
                return Ok(Blocker { key: key.clone(), pull: pull_of(&value) });
            }
        }
        let kept = keys.iter().find(|key| !queue.admits(key, Some(&set.pull)));
        let key = kept.or(keys.first()).cloned().unwrap_or_default();
        let first = queue.ahead(&set.pull, &key, &self.queueing.rules).first().map(|ticket| ticket.pull().clone());
        Ok(Blocker { key, pull: first })
    }

    /// The refusal of one lock of a set, for the sake of another.
    fn refused_set(&self, asker: &Asker<'_>, blocker: Blocker) -> Result<InRun> {
        let queue = self.queue(asker.repo())?;
        let waiting = Waiting::of(&queue, &asker.pull(), &asker.key, "set", &self.queueing.rules);
        let waiting = waiting.map(|waiting| Waiting { blocker: Some(blocker.clone()), ..waiting });
        let Some(pull) = &blocker.pull else {
            let text = format!("{} is taken together with {:?}, which cannot be had", asker.key(), blocker.key);
            return Err(Error::new(Code::SetIncomplete, text));
        };
        let value = would_be_lock(pull, asker.repo(), asker.value)?;
        refuse_namesake(&asker.key(), &ProjectLock::parse(&value)?, &asker.lock)?;
        Ok(InRun { acquired: false, token: FencingToken::NONE, value, waiting })
    }
}

/// The lock that whoever is in the way would have in place of the one that was asked for.
pub(super) fn would_be_lock(blocker: &PullId, repo: &str, asked: &[u8]) -> Result<Vec<u8>> {
    let waiter = Waiter {
        pull: blocker.clone(),
        user: String::new(),
        url: String::new(),
        host_type: 0,
        author: String::new(),
        recipe: String::new(),
    };
    waiter.would_be_lock(repo, asked)
}

fn pull_of(value: &[u8]) -> Option<PullId> {
    ProjectLock::parse(value).ok().map(|lock| PullId::of(&lock))
}
