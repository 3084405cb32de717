//! Whether the local store may grant while Redis is away, and say that there is no lock: *armed* means alone and complete.
//!
//! Complete: every lock of Redis was taken over at the start and since. Alone: `instances: single`, no other instance has announced
//! itself, and Redis never held a lock that nobody here took. Then nobody but this server can have changed a key since Redis was last
//! asked, so what this server knows is the truth.
//!
//! Invariant: unknown is not empty, and neither time nor a restart makes a server alone or complete: only Redis's own word does. What
//! that rests on is on the local store's disk before anything rests on it ([`RedisRecord`]).

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::sync::Mutex;

use crate::clock::Clock;
use crate::config::{Durability, Enhanced, Instances};
use crate::error::Error;
use crate::store::contract::local::{EntryKey, RedisRecord};

/// How long another instance counts as there after it announced itself, or was noticed by its locks, unless it said that it
/// leaves: long, because one that was cut off from Redis may still be there. Only time in which Redis answers counts.
pub(super) const PRESENCE: Duration = Duration::from_secs(600);

/// For how long Redis remembers a release, by a margin: the side hash of a lock outlives that by an hour.
pub(super) const REMEMBERED: Duration = Duration::from_secs(55 * 60);

/// What arming rests on. Safe from any thread; no lock of another part is taken while its own is held.
pub(super) struct Arming {
    settings: Enhanced,
    state: Mutex<State>,
    /// The wrong fallback, on any error: the simulation must catch it.
    #[cfg(test)]
    pub grants_on_any_error: std::sync::atomic::AtomicBool,
}

struct State {
    /// What is remembered across restarts.
    record: RedisRecord,
    /// Why the local store lacks some of Redis's locks; `None` if it has them all.
    incomplete: Option<String>,
    /// Whether the local store began incomplete and has not agreed with Redis since: it may lack this server's own acknowledged locks.
    lacked: bool,
    /// How often the local store did not make what it was handed.
    fell_behind: u64,
    /// Who else was noticed, and the earliest moment at which Redis's word counts that it has gone. Time alone proves nothing: cut off
    /// from Redis, it may still be there.
    others: Option<(String, Instant)>,
    /// Keys of entries in Redis that the local store cannot keep.
    set_aside: BTreeSet<EntryKey>,
    /// When this process last saw the two agree: unlike the wall clock, this one is not set.
    agreed: Option<Instant>,
}

impl State {
    fn agreed_since(&mut self, since: Instant, clock: &dyn Clock) {
        self.agreed = Some(since);
        let ago = clock.now().saturating_duration_since(since);
        self.record.agreed_at = clock.unix_micros().saturating_sub(u64::try_from(ago.as_micros()).unwrap_or(u64::MAX));
    }

    fn has_others(&self, settings: &Enhanced) -> bool {
        self.others.is_some() || settings.instances == Instances::Many
    }
}

impl Arming {
    /// As the local store remembers it from before this start.
    pub(super) fn new(settings: &Enhanced, record: RedisRecord, now: Instant) -> Arming {
        let incomplete = (!record.lacks.is_empty()).then(|| record.lacks.clone());
        let others = record.not_alone.then(|| ("one that was there when this one was last up".to_owned(), now + PRESENCE));
        let lacked = incomplete.is_some();
        let state = State { record, incomplete, lacked, fell_behind: 0, others, set_aside: BTreeSet::new(), agreed: None };
        Arming {
            settings: settings.clone(),
            state: Mutex::new(state),
            #[cfg(test)]
            grants_on_any_error: std::sync::atomic::AtomicBool::new(false),
        }
    }

    /// Why the local store must not grant; `None` if it may.
    pub(super) fn unarmed(&self) -> Option<String> {
        #[cfg(test)]
        if self.grants_on_any_error.load(std::sync::atomic::Ordering::SeqCst) {
            return None;
        }
        if !self.settings.legacy_fallback {
            return Some("legacy_fallback is false".to_owned());
        }
        if self.settings.instances == Instances::Many {
            return Some("instances is many: another server may hold the lock".to_owned());
        }
        let state = self.state.lock();
        if let Some((who, _)) = &state.others {
            return Some(format!("another server uses the same Redis: {who}"));
        }
        let unseen = || state.record.unseen(&self.settings.redis.name(), self.settings.allow_unseen_redis);
        let lacks = state.incomplete.clone().or_else(unseen);
        lacks.map(|lacks| format!("{lacks}; it is brought up to date when Redis can be asked"))
    }

    /// What is remembered across restarts.
    pub(super) fn record(&self) -> RedisRecord {
        self.state.lock().record.clone()
    }

    /// This server's name among the instances that use the Redis.
    pub(super) fn server_name(&self) -> String {
        self.state.lock().record.server_name.clone()
    }

    /// Whether that is this server's name.
    pub(super) fn is_this_server(&self, name: &str) -> bool {
        self.state.lock().record.server_name == name
    }

    /// Changes what is remembered; the caller writes it down.
    pub(super) fn change(&self, change: impl FnOnce(&mut RedisRecord)) -> RedisRecord {
        let mut state = self.state.lock();
        change(&mut state.record);
        state.record.clone()
    }

    /// Takes what is to be written down because being alone and complete has changed since the last time; `None` if it has not.
    pub(super) fn take_unwritten(&self) -> Option<RedisRecord> {
        let mut state = self.state.lock();
        let not_alone = state.has_others(&self.settings);
        let lacks = state.incomplete.clone().unwrap_or_default();
        if (state.record.not_alone, &state.record.lacks) == (not_alone, &lacks) {
            return None;
        }
        (state.record.not_alone, state.record.lacks) = (not_alone, lacks);
        Some(state.record.clone())
    }

    /// What is remembered when the server is closed and the local store has everything that it was handed.
    pub(super) fn closed(&self) -> RedisRecord {
        let mut state = self.state.lock();
        state.record.trailing = false;
        state.record.open = false;
        state.record.lacks = state.incomplete.clone().unwrap_or_default();
        state.record.clone()
    }

    /// The two stores agree, and all keys were looked at since then; the caller writes that down, and says by [`Arming::complete`] or [`Arming::restore`] how that went.
    pub(super) fn agree(&self, since: Instant, clock: &dyn Clock) -> (RedisRecord, RedisRecord) {
        let mut state = self.state.lock();
        let before = state.record.clone();
        state.agreed_since(since, clock);
        let not_alone = state.has_others(&self.settings);
        state.record = RedisRecord {
            handed_over: false,
            lost: false,
            granted_blindly: false,
            redis: self.settings.redis.name(),
            not_alone,
            lacks: String::new(),
            ..state.record.clone()
        };
        (before, state.record.clone())
    }

    /// That was written down: the local store lacks nothing.
    pub(super) fn complete(&self) {
        let mut state = self.state.lock();
        state.incomplete = None;
        state.lacked = false;
    }

    /// That could not be written down.
    pub(super) fn restore(&self, before: RedisRecord) {
        let mut state = self.state.lock();
        state.record = before;
        state.agreed = None;
    }

    /// Somebody else changes locks in this Redis.
    pub(super) fn saw_other(&self, who: String, now: Instant) {
        self.state.lock().others = Some((who, now + PRESENCE));
    }

    /// Redis says who else is there. `long_silence`: those that were noticed may have been cut off from it meanwhile, too.
    pub(super) fn heard_of_others(&self, any: bool, long_silence: bool, now: Instant) {
        let mut state = self.state.lock();
        if long_silence && let Some((_, until)) = &mut state.others {
            *until = now + PRESENCE;
        }
        state.others.take_if(|(_, until)| !any && *until <= now);
    }

    /// Why the local store lacks some of Redis's locks; `None` if it has them all, as far as is known.
    pub(super) fn lacks(&self) -> Option<String> {
        self.state.lock().incomplete.clone()
    }

    /// Whether the local store has every lock of Redis, as far as is known.
    pub(super) fn is_complete(&self) -> bool {
        self.state.lock().incomplete.is_none()
    }

    /// The local store lacks something that it was handed.
    pub(super) fn fell_behind(&self, error: &Error) {
        let mut state = self.state.lock();
        state.fell_behind += 1;
        state.incomplete = Some(format!("the local store does not work: {error}"));
    }

    /// How often that was so.
    pub(super) fn times_behind(&self) -> u64 {
        self.state.lock().fell_behind
    }

    /// After a comparison with all of Redis: complete, unless it fell behind since (`times_before`). Returns whether Redis has all, too;
    /// `None` if it fell behind.
    pub(super) fn compared(&self, times_before: u64) -> Option<bool> {
        let mut state = self.state.lock();
        (state.fell_behind == times_before).then(|| {
            state.incomplete = None;
            !state.record.lost
        })
    }

    /// Redis is known to have lost data. Returns what the caller writes down, if that is new.
    pub(super) fn note_lost(&self) -> Option<RedisRecord> {
        let mut state = self.state.lock();
        let is_new = !std::mem::replace(&mut state.record.lost, true);
        is_new.then(|| state.record.clone())
    }

    /// Whether Redis is known to have lost data, and the two do not agree yet.
    pub(super) fn has_lost(&self) -> bool {
        self.state.lock().record.lost
    }

    /// Whether the local store is known to have everything that this server ever acknowledged.
    pub(super) fn has_all(&self) -> bool {
        let state = self.state.lock();
        !state.lacked && (self.settings.durability == Durability::Sync || state.incomplete.is_none())
    }

    /// Whether the local store, with `durability: async`, began without all that Redis alone had acknowledged before a crash.
    pub(super) fn rested_on_redis(&self) -> bool {
        self.settings.durability == Durability::Async && self.state.lock().lacked
    }

    /// Whether the local store never granted a lock without knowing whether it was held.
    pub(super) fn never_granted_blindly(&self) -> bool {
        !self.state.lock().record.granted_blindly
    }

    /// Whether the two agreed less than an hour ago, by a margin: see [`super::resolve`].
    pub(super) fn agreed_recently(&self, clock: &dyn Clock) -> bool {
        let state = self.state.lock();
        // Of a process before, the wall clock tells. One that was set back shows nothing.
        let by_wall_clock = || clock.unix_micros().checked_sub(state.record.agreed_at).map(Duration::from_micros);
        let since = state.agreed.map_or_else(by_wall_clock, |agreed| Some(clock.now().saturating_duration_since(agreed)));
        since.is_some_and(|since| since < REMEMBERED)
    }

    /// All keys were looked at since then, and the two agree on them. What was released before was seen to be; of what is released later Redis
    /// knows for an hour. A probe shows no such thing: of what others released while this server was held up, Redis may have forgotten.
    pub(super) fn saw_agreement(&self, since: Instant, clock: &dyn Clock) {
        self.state.lock().agreed_since(since, clock);
    }

    /// Redis has an entry at this key that the local store cannot keep.
    pub(super) fn add_set_aside(&self, key: EntryKey) {
        self.state.lock().set_aside.insert(key);
    }

    /// These are all of them.
    pub(super) fn replace_set_aside(&self, keys: Vec<EntryKey>) {
        self.state.lock().set_aside = keys.into_iter().collect();
    }

    /// Whether there is one at this key.
    pub(super) fn is_set_aside(&self, key: &EntryKey) -> bool {
        self.state.lock().set_aside.contains(key)
    }
}
