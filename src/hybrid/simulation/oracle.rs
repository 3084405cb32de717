//! What callers were told, and whether an answer, or what the stores have in the end, fits that.
//!
//! It knows neither Redis nor disks nor who decided; only what was asked for and answered. Where an end is unknown, it excuses
//! either end: such a lock may be there or not. The grant of a key that two hold is never excused.

use std::collections::{BTreeMap, BTreeSet};

use super::redis::{Question, Reply};
use super::show::text;
use super::values::pull_of;
use crate::call::Call;
use crate::domain::lock::ProjectLock;
use crate::error::{Code, Result};
use crate::store::contract::local::{EntryKey, Held};
use crate::store::{Granted, Listing, Swap};

#[derive(Debug, Default)]
pub(super) struct Oracle {
    /// Who was told to hold the key, last.
    certain: BTreeMap<EntryKey, Vec<u8>>,
    /// Asked for, and perhaps granted.
    maybe: BTreeMap<EntryKey, BTreeSet<Vec<u8>>>,
    /// Perhaps released.
    perhaps_gone: BTreeSet<Vec<u8>>,
    /// Being released just now, by an operation into which another is nested.
    releasing: Vec<EntryKey>,
    /// Told to be released, though not by name: it may take until the end.
    going: BTreeMap<Vec<u8>, u64>,
    /// Told to be released, and when, by Redis's clock.
    gone: BTreeMap<Vec<u8>, u64>,
    /// Requests whose end nobody knows: they may be executed until their time is over.
    open: BTreeSet<String>,
    /// Told not to have been granted.
    never: BTreeSet<Vec<u8>>,
    /// When a pull was released as a whole.
    released_pulls: Vec<(i64, u64)>,
    /// When a lock was first told to be held.
    granted_at: BTreeMap<Vec<u8>, u64>,
    /// What Redis's clock shows.
    now: u64,
}

/// By how much servers may be wrong about Redis's clock, microseconds: the time of a question. While Redis is away, a release by pull
/// reaches what was taken until then by that clock.
const CLOCK_ERROR: u64 = 10_000;

/// A release that is under way, and what the oracle knew when it began.
pub(super) struct Releasing {
    keys: Vec<EntryKey>,
    before: Vec<Vec<u8>>,
    /// How many keys others were releasing.
    others: usize,
}

impl Oracle {
    /// Time goes on.
    pub(super) fn at(&mut self, now: u64) {
        self.now = now;
    }

    /// Who was told to hold the key.
    pub(super) fn holder(&self, key: &EntryKey) -> Option<Vec<u8>> {
        self.certain.get(key).cloned()
    }

    /// A caller asks for the key: from now on it may be granted.
    pub(super) fn asks(&mut self, key: &EntryKey, value: &[u8]) {
        self.maybe.entry(key.clone()).or_default().insert(value.to_vec());
    }

    fn no_longer_asks(&mut self, key: &EntryKey, value: &[u8]) {
        self.maybe.entry(key.clone()).or_default().remove(value);
    }

    /// A caller was told that this is not granted.
    fn refused(&mut self, key: &EntryKey, value: Vec<u8>) {
        self.no_longer_asks(key, &value);
        self.never.insert(value);
    }

    fn granted(&mut self, key: &EntryKey, value: &[u8]) {
        self.no_longer_asks(key, value);
        self.granted_at.entry(value.to_vec()).or_insert(self.now);
        if self.gone.contains_key(value) {
            return;
        }
        if let Some(holder) = self.certain.insert(key.clone(), value.to_vec()) {
            let going = self.perhaps_gone.contains(&holder) || self.releasing.contains(key);
            let excused = holder == value || going || self.gone.contains_key(&holder);
            assert!(excused, "two holders of the {key}: {} and {}", text(&holder), text(value));
            // It was released, though nobody was told: an old snapshot of Redis may bring it back.
            self.perhaps_gone.insert(holder);
        }
    }

    fn released(&mut self, key: &EntryKey, value: &[u8]) {
        self.gone.entry(value.to_vec()).or_insert(self.now);
        self.no_longer_asks(key, value);
        if self.certain.get(key).is_some_and(|holder| holder == value) {
            self.certain.remove(key);
        }
    }

    /// An operation that may release what is at this key has an unknown end.
    pub(super) fn perhaps_released(&mut self, key: &EntryKey) {
        self.perhaps_gone.extend(self.certain.get(key).cloned());
        self.perhaps_gone.extend(self.maybe.get(key).into_iter().flatten().cloned());
    }

    pub(super) fn grant_answered(&mut self, key: &EntryKey, value: Vec<u8>, answer: &Result<Granted>) {
        match answer {
            Ok(Granted::Yes { .. }) => self.granted(key, &value),
            Err(e) if e.code() == Code::OutcomeUnknown => {}
            Ok(Granted::Held { .. }) | Err(_) => self.refused(key, value),
        }
    }

    /// Nothing else happened since the key had this holder: a read must tell of it.
    pub(super) fn read_answered(&self, key: &EntryKey, before: Option<Vec<u8>>, answer: Result<Option<Vec<u8>>>) {
        if let (Ok(found), Some(holder)) = (answer, before)
            && self.certain.get(key) == Some(&holder)
            && !self.perhaps_gone.contains(&holder)
        {
            assert_eq!(found.map(|value| text(&value)), Some(text(&holder)), "who holds the {key}");
        }
    }

    /// Whoever may be at one of these keys, and of this pull if there is one, may be released from now on.
    pub(super) fn begin_release(&mut self, keys: &[EntryKey], pull: Option<i64>) -> Releasing {
        let held = keys.iter().filter_map(|key| self.certain.get(key));
        let before = held.filter(|value| pull.is_none_or(|num| pull_of(value) == Some(num))).cloned().collect();
        let others = self.releasing.len();
        self.releasing.extend_from_slice(keys);
        Releasing { keys: keys.to_vec(), before, others }
    }

    /// The release has ended; where its end is unknown, it may still be executed.
    pub(super) fn end_release<T>(&mut self, releasing: &Releasing, call: &Call, answer: &Result<T>) {
        if answer.is_err() {
            self.open.insert(call.request.as_str().to_owned());
        }
        self.releasing.truncate(releasing.others);
    }

    /// `nested`: another operation was under way, which may have released it before.
    pub(super) fn release_answered(&mut self, releasing: Releasing, nested: bool, answer: &Result<Option<Vec<u8>>>) {
        let key = &releasing.keys[0];
        match answer {
            Ok(Some(value)) => self.released(key, value),
            Ok(None) => {
                if let Some(holder) = releasing.before.first()
                    && !nested
                    && self.certain.get(key) == Some(holder)
                {
                    assert!(self.perhaps_gone.contains(holder), "the holder of the {key} is not there: {}", text(holder));
                }
            }
            Err(e) if e.code() == Code::OutcomeUnknown => self.perhaps_released(key),
            Err(_) => {}
        }
    }

    pub(super) fn pull_release_answered(&mut self, releasing: Releasing, num: i64, answer: &Result<Listing>) {
        let Releasing { keys, before, .. } = releasing;
        self.released_pulls.push((num, self.now));
        match answer {
            Ok(listing) => {
                self.perhaps_gone.extend(before.iter().cloned());
                // Otherwise some may still be held.
                if listing.incomplete().is_none() {
                    let now = self.now;
                    self.going.extend(before.into_iter().map(|value| (value, now)));
                }
                // What was or is being asked for meanwhile may come before it. If an answer was lost, it may not be listed.
                let asked = keys.iter().filter_map(|key| self.maybe.get(key)).flatten();
                let taken = keys.iter().filter_map(|key| self.certain.get(key)).filter(|value| pull_of(value) == Some(num));
                let meanwhile: Vec<_> = asked.chain(taken).cloned().collect();
                self.perhaps_gone.extend(meanwhile);
                for value in listing.values() {
                    let key = EntryKey::Project(ProjectLock::parse(value).expect("is a lock").fields().key());
                    self.released(&key, value);
                }
            }
            // On an error some may have been released.
            Err(_) => keys.iter().for_each(|key| self.perhaps_released(key)),
        }
    }

    pub(super) fn swap_answered(&mut self, key: &EntryKey, new: Option<Vec<u8>>, answer: &Result<Swap>) {
        match answer {
            Ok(Swap::Done) => {
                self.perhaps_released(key);
                match new {
                    Some(new) => {
                        self.no_longer_asks(key, &new);
                        self.certain.insert(key.clone(), new);
                    }
                    None => drop(self.certain.remove(key)),
                }
            }
            Err(e) if e.code() == Code::OutcomeUnknown => self.perhaps_released(key),
            Ok(Swap::Conflict(_)) | Err(_) => {
                if let Some(new) = new {
                    self.refused(key, new);
                }
            }
        }
    }

    /// A question was executed after its caller had given up.
    pub(super) fn arrived_late(&mut self, request: &str, question: &Question, reply: &Reply) {
        if let Reply::Released(Some(Held { value, .. })) = reply
            && self.open.contains(request)
        {
            self.perhaps_gone.insert(value.clone());
        }
        if let (Question::Swap { key, new, .. }, Reply::Swapped(Swap::Done)) = (question, reply) {
            // Nothing is remembered of a swap: one that arrives late is made if the status is as it expects.
            self.perhaps_released(key);
            self.never.retain(|value| Some(value) != new.as_ref());
        }
    }

    /// Whether the lock was taken so soon after a release of its pull that the two servers' clocks cannot tell which came first.
    fn met_its_pulls_release(&self, holder: &[u8]) -> bool {
        let granted_at = self.granted_at.get(holder).copied().unwrap_or_default();
        let is_near = |at: u64| granted_at.abs_diff(at) <= CLOCK_ERROR;
        self.released_pulls.iter().any(|(num, at)| pull_of(holder) == Some(*num) && is_near(*at))
    }

    /// What a server alone believes is what it told its callers.
    pub(super) fn check_belief(&self, believed: impl Fn(&EntryKey) -> Option<Vec<u8>>) {
        let is_certain = |(key, holder): &(&EntryKey, &Vec<u8>)| key.lock().is_some() && !self.perhaps_gone.contains(*holder);
        for (key, holder) in self.certain.iter().filter(is_certain) {
            let known = believed(key).map(|value| text(&value));
            assert_eq!(known, Some(text(holder)), "whom the local store believes to hold the {key}");
        }
    }

    /// In the end there is what was acknowledged, and nothing that was released or refused.
    ///
    /// `remembered`: for how long Redis tells several servers of each other's releases. A server that saw a lock and was away for
    /// longer cannot know whether the lock was released or lost. In doubt, the lock stays.
    pub(super) fn check_end(&self, entries: &BTreeMap<EntryKey, Vec<u8>>, remembered: Option<u64>) {
        for (key, value) in entries {
            let may_stay = |at: &u64| remembered.is_some_and(|remembered| self.now.saturating_sub(*at) > remembered);
            let going = self.going.get(value).filter(|_| !self.met_its_pulls_release(value));
            let released = self.gone.get(value).or(going).is_some_and(|at| !may_stay(at));
            assert!(!released, "the {key} is held by one who released it: {}", text(value));
            assert!(!self.never.contains(value), "the {key} is held by one who was refused: {}", text(value));
        }
        for (key, holder) in &self.certain {
            let found = entries.get(key);
            let excused = self.perhaps_gone.contains(holder) || self.met_its_pulls_release(holder);
            assert!(found == Some(holder) || excused, "the {key} was lost by {}: {:?}", text(holder), found.map(|v| text(v)));
        }
    }
}
