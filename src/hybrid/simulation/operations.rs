//! What callers ask one server for: each operation is a task, and the oracle is told when it begins and how it ends.

use std::sync::Arc;
use std::time::Duration;

use super::PATIENCE;
use super::modes::Running;
use super::oracle::Number;
use super::show::{show, text, texts};
use super::values::{REPO, STATUS, any_key, keys_of_repo, value_for};
use super::world::{UnderWay, World};
use crate::call::Call;
use crate::clock::Clock;
use crate::config::Durability;
use crate::domain::lock::{ProjectLock, PullRef};
use crate::store::contract::local::EntryKey;
use crate::store::{Expected, Grant, Release, Store};
use crate::sync::tasks;

impl World {
    /// One operation of one server, from beginning to end.
    pub(super) fn operation(self: &Arc<Self>, who: usize) {
        let Some(running) = self.running(who) else { return };
        let store = running.store();
        self.clock.advance(Duration::from_micros(10));
        let key = any_key(&self.random);
        match &key {
            EntryKey::Status(_) => self.swap(store, who, &key),
            _ => match self.random.below(10) {
                0..=3 => self.grant(store, who, &key),
                4 => self.get(store, who, &key),
                5 if matches!(key, EntryKey::Project(_)) => self.release_by_pull(store, who),
                _ => self.release(store, who, &key),
            },
        }
    }

    /// A call to this server: only hybrid mode's has more time than one store's (`Config::operation_timeout`).
    fn call_to(&self, who: usize) -> Call {
        let mut call = self.call();
        if matches!(self.running(who), Some(Running::Other(_))) {
            call.deadline = self.clock.now() + PATIENCE;
        }
        call
    }

    /// A caller begins to wait.
    pub(super) fn begins(&self, call: &Call, releases: bool) -> Number {
        let number = self.number();
        let process = tasks::group().expect("is a task");
        let request = call.request.as_str().to_owned();
        self.under_way.lock().insert(number, UnderWay { process, request, releases });
        number
    }

    pub(super) fn ends(&self, number: Number) {
        self.under_way.lock().remove(&number);
    }

    pub(super) fn grant(&self, store: &dyn Store, who: usize, key: &EntryKey) {
        let value = value_for(key, self.number());
        let call = self.call_to(who);
        let number = self.begins(&call, false);
        self.oracle().asks(key, &value);
        let lock = key.lock().expect("is a lock");
        let parsed = ProjectLock::parse(&value).ok();
        let grant = Grant { key: lock, lock: parsed.as_ref(), value: &value, in_order: false };
        let error_before = self.clock_error(who);
        let answer = store.grant(&grant, &call);
        let clock_error = self.clock_error(who).max(error_before);
        self.say(|| format!("{who}: grant {key} {} → {}", text(&value), show(&answer)));
        self.ends(number);
        self.oracle().granter_was_wrong_by(&value, clock_error);
        self.oracle().grant_answered(key, value, &answer);
    }

    /// By how much a server is wrong about Redis's clock, microseconds.
    fn clock_error(&self, who: usize) -> u64 {
        self.instance(who).map_or(0, |instance| instance.core.redis.micros().abs_diff(self.clock.unix_micros()))
    }

    /// What one server says of a lock is what it told its callers; of others' changes it may know nothing while Redis is away.
    fn get(&self, store: &dyn Store, who: usize, key: &EntryKey) {
        let call = self.call_to(who);
        let number = self.begins(&call, false);
        let reading = self.oracle().begin_read(key);
        let answer = store.get(key.lock().expect("is a lock"), &call);
        self.say(|| format!("{who}: get {key} → {}", show(&answer)));
        self.ends(number);
        if self.is_alone() && self.plan.durability == Durability::Sync && self.knows_all(who) {
            self.oracle().read_answered(key, reading, answer);
        }
    }

    pub(super) fn release(&self, store: &dyn Store, who: usize, key: &EntryKey) {
        let pull_num = (matches!(key, EntryKey::Project(_)) && self.random.percent(30)).then_some(1);
        let release = Release { key: key.lock().expect("is a lock"), fields: None, pull_num, value: None };
        let call = self.call_to(who);
        let number = self.begins(&call, true);
        self.oracle().begin_release(number, std::slice::from_ref(key), pull_num, false);
        let answer = store.release(&release, &call);
        self.say(|| format!("{who}: release {key} {pull_num:?} → {}", show(&answer)));
        self.ends(number);
        self.oracle().release_answered(number, call.request.as_str(), &answer);
    }

    fn release_by_pull(&self, store: &dyn Store, who: usize) {
        let pull = PullRef { repo: REPO, num: 1 };
        let keys = keys_of_repo();
        let call = self.call_to(who);
        let number = self.begins(&call, true);
        self.oracle().begin_release(number, &keys, Some(pull.num), true);
        let asks = || self.instance(who).is_none_or(|instance| !instance.core.in_fallback());
        let asked_before = asks();
        let error_before = self.clock_error(who);
        let answer = store.release_by_pull(pull, &call);
        let clock_error = self.clock_error(who).max(error_before);
        let asks_redis = asked_before && asks();
        let mut doubts = self.instance(who).map(|instance| instance.core.unsynced.doubts()).unwrap_or_default();
        if self.plan.bad_disk {
            // What a late disk has not confirmed is in no doubt: it may be made yet, unless the process dies.
            doubts.extend(keys.iter().cloned());
        }
        self.say(|| format!("{who}: release by pull → {}", show(&answer)));
        self.ends(number);
        self.oracle().pull_release_answered(number, call.request.as_str(), &answer, asks_redis, clock_error, &doubts);
    }

    fn swap(&self, store: &dyn Store, who: usize, key: &EntryKey) {
        let current = self.oracle().holder(key);
        let new = (!self.random.percent(25)).then(|| value_for(key, self.number()));
        let is_blind = self.random.percent(30);
        let expected = if is_blind { Expected::Any } else { current.as_deref().map_or(Expected::Absent, Expected::Bytes) };
        let call = self.call_to(who);
        let number = self.begins(&call, true);
        if let Some(new) = &new {
            self.oracle().asks(key, new);
        }
        self.oracle().begin_release(number, std::slice::from_ref(key), None, false);
        let answer = store.swap_pull_status(STATUS, expected, new.as_deref(), &call);
        self.say(|| format!("{who}: swap {} → {}", texts(&new), show(&answer)));
        self.ends(number);
        self.oracle().swap_answered(number, call.request.as_str(), new, &answer);
    }
}
