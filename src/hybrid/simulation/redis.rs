//! The simulated Redis: what it has, and what each script makes of that, in one type. The network before it is `network.rs`.
//!
//! It can lose everything, or go back to an image of itself. Its rules are a copy of the Lua scripts by hand: a script that differs
//! from its copy is not noticed here, but by the tests against a real server. Beyond it: eviction and expiry of entries, keys of
//! other programs, a cluster, and a clock that goes back.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::random::Random;
use super::values::pull_of;
use crate::domain::token::FencingToken;
use crate::store::contract::local::{EntryKey, Held};
use crate::store::contract::shared::{Announced, Presence, Put, Remote};
use crate::store::{Granted, Swap};

/// How long Redis remembers the token of a lock that was released, microseconds.
pub(super) const REMEMBERED: u64 = 3_600_000_000;
/// By how much a proposed token may differ from Redis's clock, microseconds.
const WINDOW: u64 = 60_000_000;

/// What a script is called with.
#[derive(Clone, Debug)]
pub(super) enum Question {
    Grant { key: EntryKey, value: Vec<u8>, token: u64, name: String },
    Release { key: EntryKey, pull: Option<i64> },
    Swap { key: EntryKey, expected: Option<Option<Vec<u8>>>, new: Option<Vec<u8>> },
    Put { key: EntryKey, seen: Option<Vec<u8>>, new: Option<Held>, name: String },
    Announce { instance: String, lease: Duration, presence: Presence },
}

#[derive(Clone, Debug)]
pub(super) enum Reply {
    Granted(Granted),
    Released(Option<Held>),
    Swapped(Swap),
    Put(Put),
    Announced(Announced),
}

impl Reply {
    fn is_refusal(&self) -> bool {
        matches!(self, Reply::Granted(Granted::Held { .. }) | Reply::Released(None) | Reply::Put(Put::Changed))
    }
}

/// The server. It stays the same one whatever happens to its data.
#[derive(Default)]
pub(super) struct SimulatedRedis {
    data: Mutex<Data>,
    /// Images of itself to which it may go back, oldest first.
    images: Mutex<Vec<Data>>,
}

impl SimulatedRedis {
    /// Runs a script, at this time of Redis's clock.
    pub(super) fn execute(&self, question: &Question, request: &str, is_retry: bool, now: u64) -> Reply {
        self.data.lock().execute(question, request, is_retry, now)
    }

    pub(super) fn value(&self, key: &EntryKey) -> Option<Vec<u8>> {
        self.data.lock().entries.get(key).cloned()
    }

    pub(super) fn remote(&self, key: &EntryKey) -> Remote {
        let data = self.data.lock();
        let (token, holder) = data.tokens.get(key).cloned().unwrap_or_default();
        Remote { value: data.entries.get(key).cloned(), token: FencingToken::new(token), holder }
    }

    pub(super) fn entries(&self) -> BTreeMap<EntryKey, Vec<u8>> {
        self.data.lock().entries.clone()
    }

    /// A value that no script has written.
    pub(super) fn write_by_hand(&self, key: EntryKey, value: Vec<u8>) {
        self.data.lock().entries.insert(key, value);
    }

    /// For each server, the last moment of which it said that Redis had everything.
    pub(super) fn agreed(&self) -> Vec<u64> {
        self.data.lock().instances.values().map(|(_, agreed)| *agreed).collect()
    }

    pub(super) fn image(&self) -> Data {
        self.data.lock().clone()
    }

    pub(super) fn restore(&self, image: Data) {
        *self.data.lock() = image;
    }

    pub(super) fn keep_image(&self) {
        self.images.lock().push(self.image());
    }

    /// Redis is empty, or as it was before. The answer: how many entries are left.
    pub(super) fn lose_data(&self, random: &Random) -> usize {
        let mut images = self.images.lock();
        let old = if random.percent(40) || images.is_empty() {
            Data::default()
        } else {
            // The newest often.
            let nth = random.index(2 * images.len()).min(images.len() - 1);
            images.truncate(nth + 1);
            images.pop().expect("is there")
        };
        let left = old.entries.len();
        self.restore(old);
        left
    }
}

/// What Redis has, by the rules of the scripts.
#[derive(Clone, Default)]
pub(super) struct Data {
    entries: BTreeMap<EntryKey, Vec<u8>>,
    tokens: BTreeMap<EntryKey, (u64, String)>,
    /// When those were released whose tokens are still remembered.
    released: BTreeMap<EntryKey, u64>,
    /// When each was last here, and the last moment of which it said that Redis had everything.
    instances: BTreeMap<String, (i64, u64)>,
    remembered: BTreeMap<(EntryKey, String), Reply>,
}

impl Data {
    pub(super) fn execute(&mut self, question: &Question, request: &str, is_retry: bool, now: u64) -> Reply {
        let forgotten: Vec<_> = self.released.extract_if(.., |_, at| *at + REMEMBERED < now).map(|(key, _)| key).collect();
        for key in forgotten {
            self.tokens.remove(&key);
            self.remembered.retain(|(of, _), _| *of != key);
        }
        let key = match question {
            Question::Grant { key, .. } | Question::Release { key, .. } | Question::Put { key, .. } if key.lock().is_some() => {
                key
            }
            _ => return self.make(question, is_retry, now),
        };
        // The usual refusal needs nothing else.
        if let (Question::Grant { .. }, Some(value), false) = (question, self.entries.get(key), is_retry) {
            return Reply::Granted(Granted::Held { value: value.clone() });
        }
        let id = (key.clone(), request.to_owned());
        if let Some(reply) = self.remembered.get(&id) {
            return reply.clone();
        }
        let reply = self.make(question, is_retry, now);
        if is_retry || !reply.is_refusal() {
            self.remembered.insert(id, reply.clone());
        }
        reply
    }

    fn make(&mut self, question: &Question, is_retry: bool, now: u64) -> Reply {
        match question {
            Question::Grant { key, value, token, name } => Reply::Granted(self.grant(key, value, *token, name, now)),
            Question::Release { key, pull } => Reply::Released(self.release(key, *pull, now)),
            Question::Swap { key, expected, new } => Reply::Swapped(self.swap(key, expected.as_ref(), new.as_ref(), is_retry)),
            Question::Put { key, seen, new, name } => Reply::Put(self.put(key, seen.as_ref(), new.as_ref(), name, now)),
            Question::Announce { instance, lease, presence } => Reply::Announced(self.announce(instance, *lease, *presence, now)),
        }
    }

    fn grant(&mut self, key: &EntryKey, value: &[u8], token: u64, name: &str, now: u64) -> Granted {
        if let Some(value) = self.entries.get(key) {
            return Granted::Held { value: value.clone() };
        }
        let proposed = if token.abs_diff(now) < WINDOW { token } else { now };
        let token = proposed.max(self.last_token(key) + 1);
        self.released.remove(key);
        self.tokens.insert(key.clone(), (token, name.to_owned()));
        self.entries.insert(key.clone(), value.to_vec());
        Granted::Yes { token: FencingToken::new(token) }
    }

    fn release(&mut self, key: &EntryKey, pull: Option<i64>, now: u64) -> Option<Held> {
        let is_admitted = self.entries.get(key).is_some_and(|value| pull.is_none_or(|num| pull_of(value) == Some(num)));
        if !is_admitted {
            return None;
        }
        self.released.insert(key.clone(), now);
        let token = self.last_token(key);
        self.entries.remove(key).map(|value| Held { value, token: FencingToken::new(token) })
    }

    fn swap(&mut self, key: &EntryKey, expected: Option<&Option<Vec<u8>>>, new: Option<&Vec<u8>>, is_retry: bool) -> Swap {
        let current = self.entries.get(key);
        if is_retry && current == new {
            return Swap::Done;
        }
        if expected.is_some_and(|expected| expected.as_ref() != current) {
            return Swap::Conflict(current.cloned());
        }
        self.set(key, new);
        Swap::Done
    }

    fn put(&mut self, key: &EntryKey, seen: Option<&Vec<u8>>, new: Option<&Held>, name: &str, now: u64) -> Put {
        if self.entries.get(key) != seen {
            return Put::Changed;
        }
        let last = self.last_token(key);
        // As put.lua: another holder's token is passed.
        let token = new.map_or(last, |held| if last > held.token.get() { last + 1 } else { held.token.get() });
        self.set(key, new.map(|held| &held.value));
        if key.lock().is_some() && new.is_some() {
            self.tokens.insert(key.clone(), (token, name.to_owned()));
            self.released.remove(key);
        } else {
            self.released.insert(key.clone(), now);
        }
        Put::Done { token: FencingToken::new(if key.lock().is_some() { token } else { 0 }) }
    }

    fn announce(&mut self, instance: &str, lease: Duration, presence: Presence, now: u64) -> Announced {
        let now = i64::try_from(now).expect("is a time");
        let lease = i64::try_from(lease.as_micros()).expect("is short");
        let (before, agreed) = self.instances.get(instance).map_or((0, 0), |(at, agreed)| (at.unsigned_abs(), *agreed));
        let others =
            self.instances.iter().filter(|(name, (at, _))| *name != instance && *at + lease >= now).map(|(name, _)| name.clone());
        let others = others.collect();
        let says = match presence {
            Presence::Agreed(moment) if before >= moment => moment,
            _ => agreed,
        };
        self.instances.insert(instance.to_owned(), (if presence == Presence::Leaves { -now } else { now }, says));
        Announced { before, agreed, now: now.unsigned_abs(), repeated: false, others }
    }

    fn last_token(&self, key: &EntryKey) -> u64 {
        self.tokens.get(key).map_or(0, |(token, _)| *token)
    }

    fn set(&mut self, key: &EntryKey, value: Option<&Vec<u8>>) {
        match value {
            Some(value) => drop(self.entries.insert(key.clone(), value.clone())),
            None => drop(self.entries.remove(key)),
        }
    }
}
