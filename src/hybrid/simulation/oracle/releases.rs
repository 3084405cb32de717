//! Releases and swaps: what they may take, and what they were told to have taken.

use std::collections::BTreeSet;

use super::{Number, Oracle, Releasing};
use crate::domain::lock::ProjectLock;
use crate::error::{Code, Result};
use crate::hybrid::simulation::show::text;
use crate::hybrid::simulation::values::pull_of;
use crate::store::contract::local::EntryKey;
use crate::store::{Listing, Swap};

impl Oracle {
    /// Whoever may be at one of these keys, and of this pull if there is one, may be released from now on.
    pub(in crate::hybrid::simulation) fn begin_release(
        &mut self,
        number: Number,
        keys: &[EntryKey],
        pull: Option<i64>,
        takes_many: bool,
    ) {
        let held = keys.iter().filter_map(|key| self.holders.get(key)).flatten();
        let before = held.filter(|value| pull.is_none_or(|num| pull_of(value) == Some(num))).cloned().collect();
        let mut met_another = false;
        for other in self.releasing.values_mut().filter(|other| other.keys.iter().any(|key| keys.contains(key))) {
            other.met_another = true;
            met_another = true;
        }
        self.touch(keys);
        let keys = keys.to_vec();
        self.releasing.insert(number, Releasing { keys, pull, takes_many, before, met_another, began: self.now });
    }

    /// The release has ended, or will have no end that anybody is told: then it may still be executed.
    fn end_release(&mut self, number: Number, request: &str, is_known: bool) -> Releasing {
        if !is_known {
            self.open.insert(request.to_owned());
        }
        let releasing = self.releasing.remove(&number).expect("is under way");
        self.touch(&releasing.keys);
        releasing
    }

    /// What was asked for has no answer: the process died.
    pub(in crate::hybrid::simulation) fn never_answered(&mut self, number: Number, request: &str) {
        let Releasing { keys, pull, .. } = self.end_release(number, request, false);
        keys.iter().for_each(|key| self.perhaps_released(key, pull));
    }

    pub(in crate::hybrid::simulation) fn release_answered(
        &mut self,
        number: Number,
        request: &str,
        answer: &Result<Option<Vec<u8>>>,
    ) {
        let releasing = self.end_release(number, request, answer.is_ok());
        let key = &releasing.keys[0];
        match answer {
            Ok(Some(value)) => self.released_since(key, value, releasing.began),
            Ok(None) => {
                if let Some(holder) = releasing.before.first().filter(|_| !releasing.met_another)
                    && self.holders.get(key).is_some_and(|holders| holders.contains(holder))
                {
                    assert!(self.perhaps_gone.contains_key(holder), "the holder of the {key} is not there: {}", text(holder));
                }
            }
            Err(e) if e.code() == Code::OutcomeUnknown => self.perhaps_released(key, releasing.pull),
            Err(_) => {}
        }
        self.check_holders(key);
    }

    /// `asked_redis`: whether the server that answers asked Redis. If not, a stock server's lock stays that this server did not know
    /// (docs/reliability.md). `clock_error`: by how much that server was wrong about Redis's clock, microseconds. `doubts`: of which keys its
    /// local store may not have what Redis made.
    pub(in crate::hybrid::simulation) fn pull_release_answered(
        &mut self,
        number: Number,
        request: &str,
        answer: &Result<Listing>,
        asked_redis: bool,
        clock_error: u64,
        doubts: &BTreeSet<EntryKey>,
    ) {
        let Releasing { keys, before, pull, began, .. } = self.end_release(number, request, answer.is_ok());
        let num = pull.expect("is of a pull");
        self.released_pulls.push((num, began.saturating_sub(clock_error), self.now + clock_error));
        match answer {
            Ok(listing) => {
                before.iter().for_each(|value| self.may_be_gone(value.clone()));
                // Otherwise some may still be held.
                if listing.incomplete().is_none() {
                    // The first time counts: what was perhaps gone then may have been gone ever since.
                    let sure = before.into_iter().filter(|value| asked_redis || !self.of_stock.contains(value));
                    for value in sure.collect::<Vec<_>>() {
                        let since = self.perhaps_gone.get(&value).copied().unwrap_or(began).min(began);
                        self.going.entry(value).or_insert(since);
                    }
                }
                // What was or is being asked for meanwhile may come before it. If an answer was lost, it may not be listed.
                keys.iter().for_each(|key| self.perhaps_released(key, pull));
                for value in listing.values() {
                    let key = EntryKey::Project(ProjectLock::parse(value).expect("is a lock").fields().key());
                    if listing.incomplete().is_some() && doubts.contains(&key) {
                        self.told_in_part.insert(value.to_vec());
                    }
                    self.released_since(&key, value, began);
                }
            }
            // On an error some may have been released.
            Err(_) => keys.iter().for_each(|key| self.perhaps_released(key, pull)),
        }
        keys.iter().for_each(|key| self.check_holders(key));
    }

    pub(in crate::hybrid::simulation) fn swap_answered(
        &mut self,
        number: Number,
        request: &str,
        new: Option<Vec<u8>>,
        answer: &Result<Swap>,
    ) {
        let releasing = self.end_release(number, request, answer.is_ok());
        let key = &releasing.keys[0];
        match answer {
            // Whoever was there is gone; of two that were made at once, either may have been the last.
            Ok(Swap::Done) => {
                self.perhaps_released(key, None);
                if !releasing.met_another
                    && let Some(holders) = self.holders.get_mut(key)
                {
                    holders.clear();
                }
                if let Some(new) = new {
                    self.no_longer_asks(key, &new);
                    if releasing.met_another {
                        self.may_be_gone(new.clone());
                    }
                    self.holders.entry(key.clone()).or_default().insert(new);
                }
            }
            Err(e) if e.code() == Code::OutcomeUnknown => self.perhaps_released(key, None),
            Ok(Swap::Conflict(_)) | Err(_) => {
                if let Some(new) = new {
                    self.refused(key, new);
                }
            }
        }
    }

    /// A command changed a key after its caller had given up.
    pub(in crate::hybrid::simulation) fn arrived_late(
        &mut self,
        request: &str,
        key: &EntryKey,
        before: Option<&Vec<u8>>,
        after: Option<&Vec<u8>>,
    ) {
        let is_open = self.open.iter().any(|open| request.starts_with(open.as_str()));
        let is_status = matches!(key, EntryKey::Status(_));
        if let Some(before) = before.filter(|_| is_open || is_status) {
            self.may_be_gone(before.clone());
        }
        if is_status {
            // Nothing is remembered of a swap: one that arrives late is made if the status is as it expects.
            self.perhaps_released(key, None);
            self.never.retain(|value| Some(value) != after);
        }
    }
}
