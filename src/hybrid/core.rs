//! What the parts of hybrid mode share: the two stores, whether Redis is asked now, and what the local store is told.
//!
//! **Who decides.** While the breaker is closed, Redis. Otherwise the local store, if it is *armed*; the switch back is made while
//! nobody decides here (`gate`). A change that was sent to Redis before the breaker opened ends by itself: its key is its own
//! meanwhile (`turns`), and it goes over to the local store when Redis does not answer.
//!
//! **Armed** means alone and complete. Complete: every lock of Redis was taken over at the start and since. Alone: `instances:
//! single`, no other instance has announced itself, and Redis never held a lock that nobody here took. Then nobody but this
//! server can have changed a key since Redis was last asked, so what this server knows is the truth.
//!
//! **What the local store is told.** Before a change is sent, that it is intended; once Redis answered, lazily, what became of it.
//! A crash in between leaves an intent, which is carried on (`resolve`). It is told of a key only by whoever has the key's turn.
//!
//! **Whose time it is.** A call's time is divided: Redis is asked until its part is over, and the local store has a part of its own
//! (`reserve`). So neither is blamed, or left out, for the time that the other took.
//!
//! **Whose clock it is.** Fencing tokens are times by Redis's clock, which all servers of one Redis share, as far as this one knows it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use super::Process;
use super::breaker::{Breaker, Outcome, State};
use super::counters::Counters;
use super::events::Events;
use super::follow::Follower;
use super::report::{Fallbacks, Recovery};
use super::turns::Turns;
use super::watch::LEASE;
use crate::call::{Call, RequestId};
use crate::clock::Clock;
use crate::config::{Durability, Enhanced, Instances};
use crate::domain::lock::{ProjectLock, PullRef};
use crate::error::{Code, Error, Result};
use crate::health::StoreHealth;
use crate::store::contract::local::{
    Change, Conflict, EntryKey, Held, KeyState, LocalStore, MAX_VALUE_BYTES, RedisRecord, SyncState, Ticket,
};
use crate::store::contract::shared::{Remote, SharedStore};

/// First pause between two tries of one call; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// Most changes that wait until it suits.
const MOST_LATER: usize = 256;

/// Connects to Redis, under this server's name.
pub(super) type Connect = Box<dyn Fn(&str) -> Result<Arc<dyn SharedStore>> + Send + Sync>;

pub(super) struct Core {
    pub settings: Enhanced,
    /// This process, in the request ids of its own steps: they never come again, unlike the server's name.
    process: String,
    /// Longest time that one question to Redis takes.
    pub patience: Duration,
    /// The part of a call's time that is the local store's.
    reserve: Duration,
    pub clock: Arc<dyn Clock>,
    pub local: Arc<dyn LocalStore>,
    /// The host store, where there is one.
    pub follower: Option<Follower>,
    connect: Connect,
    pub shared: RwLock<Option<Arc<dyn SharedStore>>>,
    pub turns: Turns,
    /// Held for reading by whoever decides here; recovery ends while it holds it for writing.
    pub gate: RwLock<()>,
    fallback: AtomicBool,
    stopping: AtomicBool,
    pub breaker: Mutex<Breaker>,
    pub condition: Mutex<Condition>,
    /// Keys that were decided here since recovery last looked.
    pub touched: Mutex<HashSet<EntryKey>>,
    /// Keys that were decided here since both stores last agreed.
    pub journal: Mutex<HashSet<EntryKey>>,
    pub conflicts: Mutex<Vec<Conflict>>,
    /// Keys of which nobody knows what Redis made of the last change, of this process or, at the start, of the one before: the
    /// local store calls others pending only until it has been told.
    pub unsure: Mutex<HashSet<EntryKey>>,
    told: Mutex<Told>,
    last_token: AtomicU64,
    requests: AtomicU64,
    /// Held by whoever announces this server.
    pub announcements: Mutex<()>,
    pub counters: Counters,
    pub events: Events,
    /// The wrong fallback, on any error: the simulation must catch it.
    #[cfg(test)]
    pub broken: AtomicBool,
}

/// What the local store remembers from before this start.
pub(super) struct Before {
    pub link: RedisRecord,
    pub conflicts: Vec<Conflict>,
}

/// What is known of this server's place in the world.
pub(super) struct Condition {
    /// Why Redis is not asked, while it is not.
    pub cause: Option<Error>,
    /// When it was last asked, or refused.
    pub opened_at: Instant,
    /// When it began to decide again.
    pub closed_at: Instant,
    /// The same by the wall clock, microseconds since 1970.
    pub since: u64,
    /// What is remembered across restarts.
    pub link: RedisRecord,
    /// Why the local store lacks some of Redis's locks; `None` if it has them all.
    pub incomplete: Option<String>,
    /// Whether it lacked some at the start, and the two do not agree yet: what this server acknowledged before may be among that.
    pub lacked: bool,
    /// How often the local store did not make what it was told.
    pub fell_behind: u64,
    /// Who else was noticed, and from when on Redis's word counts that nobody else is there. Time alone shows nothing: while Redis
    /// is away, the other is neither.
    pub others: Option<(String, Instant)>,
    /// The last moment of which Redis remembers that it had everything, by its own clock, as it was first asked since the two last
    /// agreed; the largest number before it was asked, `None` while they agree.
    pub remembers: Option<u64>,
    /// The moment of which Redis is to remember that.
    pub had_all_at: Option<u64>,
    /// Whether an announcement may have been made whose answer is not known: one of this process, or of the one before.
    pub announcing: bool,
    /// Until when one that failed may still be made.
    pub unsure_until: Instant,
    /// When the last announcement was made.
    pub announced_at: Instant,
    /// Keys of entries in Redis that the local store cannot keep.
    pub set_aside: BTreeSet<EntryKey>,
    pub last_recovery: Option<Recovery>,
    pub fallbacks: Fallbacks,
    pub remote_health: StoreHealth,
    pub local_health: StoreHealth,
}

/// What is on its way to the local store.
#[derive(Default)]
struct Told {
    /// Changes that nobody waits for: they go along with the next, or at the next look at the stores.
    later: Vec<Change>,
    /// What the local store will have at a key, once it has made all that it was told; and which list of changes says so.
    values: HashMap<EntryKey, (u64, Option<Held>)>,
    /// The list that was handed over last.
    number: u64,
}

impl Told {
    fn later(&mut self, change: Change) {
        self.overlay_in(self.number + 1, &change);
        self.later.push(change);
    }

    /// `list` is the one with which the change is handed over.
    fn overlay_in(&mut self, list: u64, change: &Change) {
        if let Some((key, held)) = value_of(change) {
            self.values.insert(key.clone(), (list, held.cloned()));
        }
    }

    /// This list, and all before it, is not on its way any more.
    fn made(&mut self, list: u64) {
        self.values.retain(|_, (number, _)| *number > list);
    }

    /// Nothing is on its way.
    fn is_over(&self) -> bool {
        self.later.is_empty() && self.values.is_empty()
    }

    /// The list that was to be handed over will not be made.
    fn not_taken(&mut self) {
        self.values.retain(|_, (list, _)| *list != self.number);
    }

    fn strike(&mut self, keys: &[EntryKey]) {
        for key in keys {
            self.values.remove(key);
        }
    }
}

/// What a change makes the value of a key.
fn value_of(change: &Change) -> Option<(&EntryKey, Option<&Held>)> {
    match change {
        Change::Intend(key, held) | Change::SetHere(key, held) | Change::Set(key, held) | Change::Adopt(key, held, _) => {
            Some((key, held.as_ref()))
        }
        Change::Conflict(key, held) => Some((key, Some(held))),
        _ => None,
    }
}

/// The end of asking Redis.
pub(super) enum Asked<T> {
    /// It answered.
    Answer(T),
    /// It answered that this cannot be done, or the time is over.
    Failed(Error),
    /// The local store decides now.
    Away,
}

impl Core {
    pub(super) fn new(
        settings: Enhanced,
        reserve: Duration,
        process: &Process<'_>,
        local: Arc<dyn LocalStore>,
        follower: Option<Follower>,
        connect: Connect,
        before: Before,
    ) -> Core {
        let Before { link, conflicts } = before;
        let clock = Arc::clone(&process.clock);
        let incomplete = (!link.lacks.is_empty()).then(|| link.lacks.clone());
        let others = link.not_alone.then(|| ("one that was there when this one was last up".to_owned(), clock.now() + LEASE));
        Core {
            patience: settings.redis.timeouts.operation,
            reserve,
            breaker: Mutex::new(Breaker::new(&settings.breaker)),
            condition: Mutex::new(Condition {
                cause: None,
                opened_at: clock.now(),
                closed_at: clock.now(),
                since: clock.unix_micros(),
                link,
                lacked: incomplete.is_some(),
                incomplete,
                fell_behind: 0,
                others,
                remembers: Some(u64::MAX),
                had_all_at: None,
                announcing: true,
                unsure_until: clock.now(),
                announced_at: clock.now(),
                set_aside: BTreeSet::new(),
                last_recovery: None,
                fallbacks: Fallbacks::default(),
                remote_health: StoreHealth::default(),
                local_health: StoreHealth::default(),
            }),
            settings,
            process: process.instance.to_owned(),
            clock,
            local,
            follower,
            connect,
            shared: RwLock::new(None),
            turns: Turns::default(),
            gate: RwLock::new(()),
            fallback: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            touched: Mutex::default(),
            journal: Mutex::default(),
            conflicts: Mutex::new(conflicts),
            unsure: Mutex::default(),
            told: Mutex::default(),
            last_token: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            announcements: Mutex::default(),
            counters: Counters::default(),
            events: Events::new(process.audit.clone(), process.instance),
            #[cfg(test)]
            broken: AtomicBool::new(false),
        }
    }

    pub(super) fn connect(&self) -> Result<Arc<dyn SharedStore>> {
        let instance = self.condition.lock().link.instance.clone();
        (self.connect)(&instance)
    }

    /// Whether the local store decides.
    pub(super) fn in_fallback(&self) -> bool {
        self.fallback.load(Ordering::SeqCst)
    }

    /// Redis decides again. The caller holds the gate for writing.
    pub(super) fn closed(&self) {
        let mut condition = self.condition.lock();
        condition.cause = None;
        condition.since = self.clock.unix_micros();
        condition.closed_at = self.clock.now();
        self.fallback.store(false, Ordering::SeqCst);
    }

    /// From now on the local store decides.
    pub(super) fn open(&self, cause: Error) {
        let now = self.clock.now();
        self.breaker.lock().trip(now);
        self.opened(cause, now);
    }

    fn opened(&self, cause: Error, now: Instant) {
        let begins = {
            let mut condition = self.condition.lock();
            let begins = !self.fallback.swap(true, Ordering::SeqCst);
            if begins {
                condition.since = self.clock.unix_micros();
                condition.opened_at = now;
                condition.remembers.get_or_insert(u64::MAX);
                let since = condition.since;
                condition.fallbacks.begin(since, &cause);
            }
            condition.cause = Some(cause.clone());
            begins
        };
        if begins {
            self.events.fallback(&cause);
        }
    }

    /// Redis has lost data: what the local store knows goes back, and decides until then.
    pub(super) fn went_back(&self, what: &str) {
        self.note_lost();
        self.open(Error::new(Code::Unreachable, format!("Redis has lost data: {what}")));
    }

    /// Redis has lost data; that is remembered until the two agree, across a restart, too.
    pub(super) fn note_lost(&self) {
        let link = {
            let mut condition = self.condition.lock();
            if std::mem::replace(&mut condition.link.lost, true) {
                return;
            }
            condition.link.clone()
        };
        self.later(Change::Redis(link));
    }

    /// A call of an internal step, with Redis's usual patience.
    pub(super) fn step(&self) -> Call {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        Call::new(RequestId::from_text(format!("{}s{number:x}", self.process)), self.clock.now() + self.patience)
    }

    /// What Redis's clock shows, as far as is known.
    pub(super) fn redis_micros(&self) -> u64 {
        match &*self.shared.read() {
            Some(redis) => redis.clock_micros(),
            None => self.clock.unix_micros().saturating_add_signed(self.condition.lock().link.clock_ahead),
        }
    }

    /// A fencing token, larger than those before, and than the key's last.
    pub(super) fn next_token_of(&self, key: &KeyState) -> u64 {
        self.last_token.fetch_max(key.last_token(), Ordering::Relaxed);
        self.next_token()
    }

    /// A fencing token, larger than those before.
    pub(super) fn next_token(&self) -> u64 {
        let now = self.redis_micros();
        let next = |last: u64| Some((last + 1).max(now));
        self.last_token.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).map_or(now, |last| (last + 1).max(now))
    }

    /// The same call, with the time that a change has.
    pub(super) fn within_patience(&self, call: &Call) -> Call {
        let most = self.clock.now() + self.patience + self.reserve;
        let mut within = call.clone();
        within.deadline = call.deadline.min(most);
        within
    }

    /// Asks Redis until it answers, the local store decides in its place, or time is over. `lost` becomes the moment when a change
    /// was first sent whose answer was lost: it may have been made.
    pub(super) fn ask<T>(
        &self,
        call: &Call,
        lost: &mut Option<Instant>,
        question: impl FnMut(&dyn SharedStore, &Call) -> Result<T>,
    ) -> Asked<T> {
        self.ask_for(call, Some(self.patience), lost, question)
    }

    /// The same of a question whose answer grows with what is in Redis: each page of it has the patience of a question.
    pub(super) fn ask_long<T>(&self, call: &Call, question: impl FnMut(&dyn SharedStore, &Call) -> Result<T>) -> Asked<T> {
        self.ask_for(call, None, &mut None, question)
    }

    fn ask_for<T>(
        &self,
        call: &Call,
        patience: Option<Duration>,
        lost: &mut Option<Instant>,
        mut question: impl FnMut(&dyn SharedStore, &Call) -> Result<T>,
    ) -> Asked<T> {
        // The rest of its time is the local store's; but who waited for others' changes has time for Redis all the same.
        let begun = self.clock.now();
        let until = call.deadline.checked_sub(self.reserve).filter(|until| *until > begun);
        let until = until.unwrap_or_else(|| call.deadline.min(begun + self.patience));
        let mut pause = FIRST_PAUSE;
        loop {
            if self.in_fallback() {
                return Asked::Away;
            }
            let Some(shared) = self.shared.read().clone() else {
                return Asked::Failed(Error::new(Code::Closed, "the locking layer is closed"));
            };
            let started = self.clock.now();
            let mut attempt = Call::new(call.request.clone(), patience.map_or(until, |patience| until.min(started + patience)));
            attempt.lost_since = *lost;
            let answer = question(&*shared, &attempt);
            // One that had less than its time says nothing of Redis by being late.
            let had_its_time = attempt.deadline >= started + self.patience || self.clock.now() < attempt.deadline;
            if had_its_time || !answer.as_ref().is_err_and(is_late) {
                self.record(&answer, started, patience.is_none());
            }
            let error = match answer {
                Ok(answer) => return Asked::Answer(answer),
                Err(error) => error,
            };
            if error.code() == Code::OutcomeUnknown {
                *lost = lost.or(Some(started));
            }
            if !is_of_redis(&error) {
                return Asked::Failed(error);
            }
            if !self.in_fallback() {
                if self.clock.now() + pause >= until {
                    return Asked::Failed(error);
                }
                self.clock.sleep(pause);
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Tells the breaker how a question ended; a `long` one may take long.
    pub(super) fn record<T>(&self, answer: &Result<T>, started: Instant, long: bool) {
        let now = self.clock.now();
        let took = now.saturating_duration_since(started);
        let outcome = match answer {
            Err(error) if is_of_redis(error) && took >= self.patience && (!long || error.code() == Code::Timeout) => {
                Outcome::Hung
            }
            Err(error) if is_of_redis(error) => Outcome::Failure,
            // A Redis that is slow decides better than a local store that cannot.
            _ if took > self.settings.breaker.slow_call && (long || !self.decides_when_away()) => {
                Outcome::Success(Duration::ZERO)
            }
            _ => Outcome::Success(took),
        };
        if started < self.condition.lock().closed_at {
            // It began before Redis was away, and says nothing of it now.
            return;
        }
        if self.breaker.lock().record(outcome, now) == Some(State::Open) {
            let slow = || Error::new(Code::Timeout, format!("Redis answers too slowly: {} ms", took.as_millis()));
            self.opened(answer.as_ref().err().cloned().unwrap_or_else(slow), now);
        }
    }

    /// Lets the caller decide here, or read here; the local store has been told everything by then.
    ///
    /// `None`: Redis decides again. An error: with `legacy_fallback: false` nobody does.
    pub(super) fn here(&self, call: &Call) -> Result<Option<RwLockReadGuard<'_, ()>>> {
        let Some(gate) = self.gate.try_read_until(call.deadline) else {
            let text = "the stores were being brought together until the deadline; nothing was changed: try again";
            return Err(Error::new(Code::Timeout, text));
        };
        if !self.in_fallback() {
            return Ok(None);
        }
        if !self.settings.legacy_fallback {
            return Err(self.degraded("legacy_fallback is false"));
        }
        self.settle(call.deadline)?;
        Ok(Some(gate))
    }

    /// Whether the local store would grant if Redis were away: it works, it is armed.
    pub(super) fn decides_when_away(&self) -> bool {
        self.unarmed().is_none() && self.local.ping(&self.step()).is_ok()
    }

    /// The error of what must not be done now.
    pub(super) fn degraded(&self, why: &str) -> Error {
        let cause = self.condition.lock().cause.as_ref().map_or_else(String::new, |cause| format!(" ({cause})"));
        let text =
            format!("Redis cannot be asked, and the local store must not decide in its place: {why}{cause}; try again later");
        Error::new(Code::Degraded, text)
    }

    /// Why the local store must not grant; `None` if it may.
    pub(super) fn unarmed(&self) -> Option<String> {
        #[cfg(test)]
        if self.broken.load(Ordering::SeqCst) {
            return None;
        }
        if !self.settings.legacy_fallback {
            return Some("legacy_fallback is false".to_owned());
        }
        self.not_alone_or_incomplete()
    }

    /// Why what the local store knows may not be the truth.
    pub(super) fn not_alone_or_incomplete(&self) -> Option<String> {
        if self.settings.instances == Instances::Many {
            return Some("instances is many: another server may hold the lock".to_owned());
        }
        let condition = self.condition.lock();
        if let Some((who, _)) = &condition.others {
            return Some(format!("another server uses the same Redis: {who}"));
        }
        let unseen = || condition.link.unseen(&self.settings.redis.name()).filter(|_| !self.settings.allow_unseen_redis);
        let lacks = condition.incomplete.clone().or_else(unseen);
        lacks.map(|lacks| format!("{lacks}; it is brought up to date when Redis can be asked"))
    }

    /// Somebody else changes locks in this Redis.
    pub(super) fn seen_other(&self, who: String) {
        let until = self.clock.now() + LEASE;
        self.condition.lock().others = Some((who, until));
        self.remember();
    }

    /// Whether other servers use this Redis, as far as it was set or noticed.
    pub(super) fn has_others(&self, condition: &Condition) -> bool {
        condition.others.is_some() || self.settings.instances == Instances::Many
    }

    /// Writes down whether the local store is alone and complete, if that has changed.
    pub(super) fn remember(&self) {
        let (not_alone, lacks) = {
            let condition = self.condition.lock();
            let not_alone = self.has_others(&condition);
            let lacks = condition.incomplete.clone().unwrap_or_default();
            if (condition.link.not_alone, &condition.link.lacks) == (not_alone, &lacks) {
                return;
            }
            (not_alone, lacks)
        };
        let changed = |link: &mut RedisRecord| {
            link.not_alone = not_alone;
            link.lacks = lacks;
        };
        // On disk before anything rests on it; a disk that does not take this takes no lock either.
        let _ = self.write_link(changed, self.clock.now() + self.patience);
    }

    /// Whether the local store is known to have everything that this server ever acknowledged.
    pub(super) fn has_all(&self) -> bool {
        let condition = self.condition.lock();
        !condition.lacked && (self.settings.durability == Durability::Sync || condition.incomplete.is_none())
    }

    /// Whether Redis may have lost the local store's lock: that it has lost data is known, or nothing shows that it had the lock
    /// since that was granted. A local store that may lack the lock's release shows neither.
    pub(super) fn may_be_lost(&self, local: &KeyState) -> bool {
        let has_all = self.has_all();
        let condition = self.condition.lock();
        // The token is the time of the question; its answer took no longer than that.
        let granted_by =
            local.value.as_ref().filter(|held| held.token != 0).map(|held| held.token.saturating_add(micros(self.patience)));
        condition.link.lost
            || (has_all && condition.remembers.zip(granted_by).is_some_and(|(had_all, granted)| had_all < granted))
    }

    /// Whether the two agreed less than an hour ago, by a margin: see [`super::resolve`].
    pub(super) fn recently(&self) -> bool {
        const MARGIN: u64 = 55 * 60 * 1_000_000;
        // A clock that was set back shows nothing.
        self.clock.unix_micros().checked_sub(self.condition.lock().link.agreed_at).is_some_and(|since| since < MARGIN)
    }

    /// What the local store has, or is about to have, at a key.
    pub(super) fn known(&self, key: &EntryKey) -> Result<KeyState> {
        // What is told is looked at first: it is in the local store once it is not here any more.
        let told = self.told.lock().values.get(key).map(|(_, value)| value.clone());
        let known = self.or_nothing(self.local.local(key))?;
        Ok(match told {
            Some(value) => KeyState { value, ..known },
            None => known,
        })
    }

    /// The keys of the project locks that this pull holds in the local store, or is about to hold there, in order.
    pub(super) fn held_by(&self, pull: PullRef<'_>) -> Result<Vec<EntryKey>> {
        // As in `known`.
        let is_meant = |(key, (_, held)): &(&EntryKey, &(u64, Option<Held>))| {
            matches!(key, EntryKey::Project(_)) && held.as_ref().is_some_and(|held| is_of(&held.value, pull))
        };
        let mut keys: BTreeSet<_> = self.told.lock().values.iter().filter(is_meant).map(|(key, _)| key.clone()).collect();
        keys.extend(self.or_nothing(self.local.held_by(pull.repo, pull.num))?);
        Ok(keys.into_iter().collect())
    }

    /// What the local store answers; with `durability: async`, Redis goes on without it when it does not.
    pub(super) fn or_nothing<T: Default>(&self, answer: Result<T>) -> Result<T> {
        match answer {
            Err(error) if self.settings.durability == Durability::Async && !self.in_fallback() => {
                self.fell_behind(&error);
                Ok(T::default())
            }
            answer => answer,
        }
    }

    /// Tells the local store something, whenever it suits.
    pub(super) fn later(&self, change: Change) {
        self.told.lock().later(change);
    }

    /// Tells the local store something, after all that was to be told later, and waits until it is on disk.
    pub(super) fn write(&self, changes: Vec<Change>, deadline: Instant) -> Result<()> {
        let (ticket, number) = {
            let mut told = self.told.lock();
            (self.submit_with(&mut told, changes, deadline)?, told.number)
        };
        let answer = ticket.wait(deadline);
        // What is late may still be made; after any other answer nothing of it, or before it, is on its way.
        if !answer.as_ref().is_err_and(|error| matches!(error.code(), Code::Timeout | Code::OutcomeUnknown)) {
            self.told.lock().made(number);
        }
        answer
    }

    /// Changes what is remembered of Redis, on disk.
    pub(super) fn write_link(&self, change: impl FnOnce(&mut RedisRecord), deadline: Instant) -> Result<()> {
        let link = {
            let mut condition = self.condition.lock();
            change(&mut condition.link);
            condition.link.clone()
        };
        self.write(vec![Change::Redis(link)], deadline)
    }

    fn submit_with(&self, told: &mut Told, changes: Vec<Change>, deadline: Instant) -> Result<Ticket> {
        // Everybody waits for whoever waits for room in the local store's queue.
        let deadline = deadline.min(self.clock.now() + self.patience);
        let later = std::mem::take(&mut told.later);
        told.number += 1;
        changes.iter().for_each(|change| told.overlay_in(told.number, change));
        let is_alone = later.is_empty();
        self.local.submit(later, changes, deadline).inspect_err(|error| {
            told.not_taken();
            if !is_alone {
                self.fell_behind(error);
            }
        })
    }

    /// Tells the local store what a caller's acknowledgement rests on: it can be waited for. With `durability: async` it rests on
    /// Redis alone, and the local store is told later.
    pub(super) fn tell(&self, changes: Vec<Change>, deadline: Instant) -> Result<Telling<'_>> {
        let mut told = self.told.lock();
        if self.settings.durability == Durability::Sync {
            let keys: Vec<EntryKey> = changes.iter().filter_map(|change| value_of(change).map(|(key, _)| key.clone())).collect();
            let ticket = self.submit_with(&mut told, changes, deadline)?;
            return Ok(Telling { core: self, keys, ticket: Some(ticket) });
        }
        changes.into_iter().for_each(|change| told.later(change));
        let is_full = told.later.len() >= MOST_LATER;
        drop(told);
        if is_full {
            // Redis goes on without a local store that does not work; its health tells.
            let _ = self.settle(deadline);
        }
        Ok(Telling { core: self, keys: Vec::new(), ticket: None })
    }

    /// Waits until the local store has everything that it was told. Its state of a key is up to date then, if the key is the
    /// caller's.
    pub(super) fn settle(&self, deadline: Instant) -> Result<()> {
        if self.told.lock().is_over() {
            return Ok(());
        }
        // It is made after all the others. What is only late will still be made.
        self.write(Vec::new(), deadline).inspect_err(|error| {
            if !is_late(error) {
                self.fell_behind(error)
            }
        })
    }

    /// The end has come: who looks at all keys looks no further.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// An error, if the end has come.
    pub(super) fn go_on(&self) -> Result<()> {
        let is_over = self.stopping.load(Ordering::SeqCst);
        if is_over { Err(Error::new(Code::Closed, "the locking layer is being closed")) } else { Ok(()) }
    }

    /// The end: the local store has everything.
    pub(super) fn all_told(&self) -> Result<()> {
        let deadline = self.clock.now() + self.patience;
        self.settle(deadline)?;
        let lacks = self.condition.lock().incomplete.clone().unwrap_or_default();
        let closed = |link: &mut RedisRecord| {
            link.trailing = false;
            link.open = false;
            link.lacks = lacks;
        };
        self.write_link(closed, deadline)
    }

    /// The local store lacks something that it was told.
    pub(super) fn fell_behind(&self, error: &Error) {
        let mut condition = self.condition.lock();
        condition.fell_behind += 1;
        condition.incomplete = Some(format!("the local store does not work: {error}"));
    }

    /// The local store takes what Redis has at a key; of what it cannot keep, only that something is there.
    pub(super) fn adopt(&self, key: &EntryKey, remote: &Remote) {
        self.unsure.lock().remove(key);
        if remote.value.as_ref().is_some_and(|value| value.len() > MAX_VALUE_BYTES) {
            self.condition.lock().set_aside.insert(key.clone());
            return;
        }
        self.later(Change::Adopt(key.clone(), remote.held(), remote.token));
    }

    /// What was intended did not happen. It is forgotten on disk before the caller is told so: a crash must not carry it on.
    pub(super) fn undo(&self, key: &EntryKey, before: Option<Held>, deadline: Instant) -> Result<()> {
        self.write(vec![Change::Set(key.clone(), before)], deadline)
    }

    /// Redis made what was intended.
    pub(super) fn confirm(&self, key: &EntryKey, token: u64) {
        self.unsure.lock().remove(key);
        self.later(Change::Confirm(key.clone(), token));
    }

    /// Whether the key's last fencing token in Redis was given to this server.
    pub(super) fn is_mine(&self, remote: &Remote) -> bool {
        self.condition.lock().link.instance == remote.holder
    }

    /// Whether the local store never granted a lock without knowing whether it was held.
    pub(super) fn is_in_order(&self) -> bool {
        !self.condition.lock().link.granted_blindly
    }

    /// Whether a lock was asked for and it is not known what became of that.
    pub(super) fn in_doubt(&self, key: &EntryKey) -> Result<bool> {
        if !self.unsure.lock().contains(key) {
            return Ok(false);
        }
        let known = self.known(key)?;
        Ok(known.state == SyncState::Pending && known.value.is_some())
    }
}

/// Whether an error says that time was over.
fn is_late(error: &Error) -> bool {
    matches!(error.code(), Code::Timeout | Code::OutcomeUnknown)
}

/// In microseconds.
pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// What was told to the local store; with `durability: sync` it can be waited for.
pub(super) struct Telling<'a> {
    core: &'a Core,
    keys: Vec<EntryKey>,
    ticket: Option<Ticket>,
}

impl Telling<'_> {
    /// Waits for the disk.
    pub(super) fn wait(self, deadline: Instant) -> Result<()> {
        let Some(ticket) = self.ticket else { return Ok(()) };
        ticket.wait(deadline).inspect_err(|_| self.core.told.lock().strike(&self.keys))
    }
}

/// Whether this pull holds the lock with this value.
pub(super) fn is_of(value: &[u8], pull: PullRef<'_>) -> bool {
    ProjectLock::parse(value).is_ok_and(|lock| lock.pull() == pull)
}

/// Whether an error says that Redis cannot be used, rather than something of this one question.
pub(super) fn is_of_redis(error: &Error) -> bool {
    matches!(
        error.code(),
        Code::Unreachable
            | Code::Authentication
            | Code::Permission
            | Code::Tls
            | Code::ReadOnly
            | Code::Timeout
            | Code::OutcomeUnknown
            | Code::Protocol
            | Code::InvalidConfig
    )
}
