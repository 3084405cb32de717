//! What callers ask one server for: each operation, and what the oracle is told of it.
//!
//! No caller asks for a key that another caller of the same server is changing: that one would wait, and there is one thread. A
//! release by pull is not nested for the same reason.

use std::sync::Arc;
use std::time::Duration;

use super::show::{show, text, texts};
use super::values::{REPO, STATUS, any_key, keys_of_repo, value_for};
use super::world::{Instance, World};
use crate::config::Durability;
use crate::domain::lock::{ProjectLock, PullRef};
use crate::store::contract::local::EntryKey;
use crate::store::{Expected, Grant, Release, Store};

impl World {
    /// A key that nobody in this instance changes just now: its lock would be waited for.
    pub(super) fn free_key(&self, of_instance: &Instance) -> EntryKey {
        loop {
            let key = any_key(&self.random);
            if !of_instance.core.key_locks.is_taken(&key) {
                return key;
            }
        }
    }

    /// One operation of one instance. `nested`: another of this instance is under way.
    pub(super) fn operation(self: &Arc<Self>, who: usize, nested: bool) {
        let Some(instance) = self.instance(who) else { return };
        self.clock.advance(Duration::from_micros(10));
        let key = self.free_key(&instance);
        self.active.lock().push((who, key.clone()));
        match &key {
            EntryKey::Status(_) => self.swap(&instance, who, &key),
            _ => match self.random.below(10) {
                0..=3 => self.grant(&instance, who, &key),
                4 => self.get(&instance, who, &key),
                5 if !nested && matches!(key, EntryKey::Project(_)) => self.release_by_pull(&instance, who),
                _ => self.release(&instance, who, &key),
            },
        }
        self.is_over(who, &key);
    }

    /// An operation on this key has ended. Another one into which that was nested may still be under way on the same key.
    fn is_over(&self, who: usize, key: &EntryKey) {
        let mut active = self.active.lock();
        if let Some(place) = active.iter().rposition(|(me, of)| *me == who && of == key) {
            active.remove(place);
        }
    }

    pub(super) fn grant(&self, instance: &Instance, who: usize, key: &EntryKey) {
        let value = value_for(key, self.number());
        self.oracle().asks(key, &value);
        let lock = key.lock().expect("is a lock");
        let parsed = ProjectLock::parse(&value).ok();
        let grant = Grant { key: lock, lock: parsed.as_ref(), value: &value };
        let answer = instance.store.grant(&grant, &self.call());
        self.say(|| format!("{who}: grant {key} {} → {}", text(&value), show(&answer)));
        self.oracle().grant_answered(key, value, &answer);
    }

    /// What one server says of a lock is what it told its callers; of others' changes it may know nothing while Redis is away.
    fn get(&self, instance: &Instance, who: usize, key: &EntryKey) {
        let before = self.oracle().holder(key);
        let answer = instance.store.get(key.lock().expect("is a lock"), &self.call());
        self.say(|| format!("{who}: get {key} → {}", show(&answer)));
        let is_alone = self.disks.count() == 1 && !self.is_nested();
        let is_complete = self.plan.durability == Durability::Sync;
        if is_alone && is_complete {
            self.oracle().read_answered(key, before, answer);
        }
    }

    pub(super) fn release(&self, instance: &Instance, who: usize, key: &EntryKey) {
        let pull_num = (matches!(key, EntryKey::Project(_)) && self.random.percent(30)).then_some(1);
        let release = Release { key: key.lock().expect("is a lock"), fields: None, pull_num };
        let nested = self.is_nested();
        let releasing = self.oracle().begin_release(std::slice::from_ref(key), pull_num);
        let call = self.call();
        let answer = instance.store.release(&release, &call);
        self.oracle().end_release(&releasing, &call, &answer);
        self.say(|| format!("{who}: release {key} {pull_num:?} → {}", show(&answer)));
        self.oracle().release_answered(releasing, nested, &answer);
    }

    fn release_by_pull(&self, instance: &Instance, who: usize) {
        let pull = PullRef { repo: REPO, num: 1 };
        let keys = keys_of_repo();
        let releasing = self.oracle().begin_release(&keys, Some(pull.num));
        self.active.lock().extend(keys.iter().map(|key| (who, key.clone())));
        let call = self.call();
        let answer = instance.store.release_by_pull(pull, &call);
        self.oracle().end_release(&releasing, &call, &answer);
        keys.iter().for_each(|key| self.is_over(who, key));
        self.say(|| format!("{who}: release by pull → {}", show(&answer)));
        self.oracle().pull_release_answered(releasing, pull.num, &answer);
    }

    fn swap(&self, instance: &Instance, who: usize, key: &EntryKey) {
        let current = self.oracle().holder(key);
        let new = (!self.random.percent(25)).then(|| value_for(key, self.number()));
        let is_blind = self.random.percent(30);
        let expected = if is_blind { Expected::Any } else { current.as_deref().map_or(Expected::Absent, Expected::Bytes) };
        if let Some(new) = &new {
            self.oracle().asks(key, new);
        }
        let answer = instance.store.swap_pull_status(STATUS, expected, new.as_deref(), &self.call());
        self.say(|| format!("{who}: swap {} → {}", texts(&new), show(&answer)));
        self.oracle().swap_answered(key, new, &answer);
    }
}
