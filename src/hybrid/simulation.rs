//! Hybrid mode against a Redis and a disk that fail in every way, on a clock of its own, step by step from a seed: after each step
//! no key has two holders, and in the end nothing that was acknowledged is lost.
//!
//! One thread runs everything. What happens while a question is on its way to Redis is nested into it: another instance's
//! operation, or this one's on another key. A crash is a panic that unwinds the operation; the next process finds what was
//! durable. The local store is the real one's logic over a map (`store::sled::in_memory`).
//!
//! `ATLOCK_SIMULATION_SEEDS=first..end cargo test --release --lib simulation` runs others than the usual: each seed is a few schedules.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use super::HybridStore;
use super::core::Core;
use super::open::open;
use super::probe::{Schedule, tick};
use super::recovery::compare;
use crate::call::{Call, RequestId};
use crate::clock::Clock;
use crate::config::{Durability, Enhanced, Instances};
use crate::domain::lock::{ProjectLock, PullRef};
use crate::error::{Code, Error, Result};
use crate::process::Process;
use crate::store::contract::local::{Change, EntryKey, Held, LocalStore, MAX_TOMBSTONES};
use crate::store::contract::shared::{Announced, Presence, Put, Reach, Remote, SharedStore};
use crate::store::sled::in_memory::{Disk, InMemoryStore};
use crate::store::{Expected, Grant, Granted, Listing, LockKey, Release, Store, Swap};

mod directed;

const STEPS: u32 = 80;
const PATIENCE: Duration = Duration::from_secs(1);

/// What a schedule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plan {
    seed: u64,
    instances: Instances,
    durability: Durability,
    /// Redis may lose all, or go back to an older state.
    loses_data: bool,
    /// Whether the local store decides at all.
    fallback: bool,
    /// The local store's disk is late, or fails until the next process starts.
    bad_disk: bool,
    /// The local store grants on any failure, whoever else there is: the wrong fallback, which must be caught.
    broken: bool,
    /// By how much the machines' wall clocks are ahead of Redis's, microseconds.
    ahead: [i64; 2],
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

#[derive(Debug)]
struct SimClock {
    base: Instant,
    micros: AtomicU64,
    random: Mutex<Random>,
    /// Whether there are real threads that wait for each other: nobody is to wait in simulated time then.
    has_threads: AtomicBool,
}

impl SimClock {
    fn advance(&self, time: Duration) {
        self.micros.fetch_add(u64::try_from(time.as_micros()).expect("is short"), Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Instant {
        self.base + Duration::from_micros(self.micros.load(Ordering::SeqCst))
    }

    fn unix_micros(&self) -> u64 {
        1_700_000_000_000_000 + self.micros.load(Ordering::SeqCst)
    }

    fn sleep(&self, time: Duration) {
        self.advance(time);
    }

    fn park_until(&self, deadline: Instant) -> Instant {
        if self.has_threads.load(Ordering::SeqCst) {
            return Instant::now() + Duration::from_secs(30);
        }
        self.advance(deadline.saturating_duration_since(self.now()));
        Instant::now()
    }

    fn jitter(&self) -> f64 {
        f64::from(u32::try_from(self.random.lock().below(1001)).expect("is small")) / 1000.0
    }
}

/// The clock of one server's machine: its wall clock is ahead of Redis's, or behind.
#[derive(Debug)]
struct MachineClock {
    of_redis: Arc<SimClock>,
    ahead: i64,
}

impl Clock for MachineClock {
    fn now(&self) -> Instant {
        self.of_redis.now()
    }

    fn unix_micros(&self) -> u64 {
        self.of_redis.unix_micros().saturating_add_signed(self.ahead)
    }

    fn sleep(&self, time: Duration) {
        self.of_redis.sleep(time);
    }

    fn park_until(&self, deadline: Instant) -> Instant {
        self.of_redis.park_until(deadline)
    }

    fn jitter(&self) -> f64 {
        self.of_redis.jitter()
    }
}

/// How long Redis remembers the token of a lock that was released, microseconds.
const REMEMBERED: u64 = 3_600_000_000;
/// By how much a proposed token may differ from Redis's clock, microseconds.
const WINDOW: u64 = 60_000_000;

/// What Redis has, by the rules of the scripts.
#[derive(Clone, Default)]
struct Data {
    entries: BTreeMap<EntryKey, Vec<u8>>,
    tokens: BTreeMap<EntryKey, (u64, String)>,
    /// When those were released whose tokens are still remembered.
    released: BTreeMap<EntryKey, u64>,
    /// When each was last here, and the last moment of which it said that Redis had everything.
    instances: BTreeMap<String, (i64, u64)>,
    remembered: BTreeMap<(EntryKey, String), Reply>,
}

#[derive(Clone, Debug)]
enum Question {
    Grant { key: EntryKey, value: Vec<u8>, token: u64, name: String },
    Release { key: EntryKey, pull: Option<i64> },
    Swap { key: EntryKey, expected: Option<Option<Vec<u8>>>, new: Option<Vec<u8>> },
    Put { key: EntryKey, seen: Option<Vec<u8>>, new: Option<Held>, name: String },
    Announce { instance: String, lease: Duration, presence: Presence },
}

#[derive(Clone, Debug)]
enum Reply {
    Granted(Granted),
    Released(Option<Held>),
    Swapped(Swap),
    Put(Put),
    Announced(Announced),
}

impl Data {
    fn execute(&mut self, question: &Question, request: &str, retry: bool, now: u64) -> Reply {
        let forgotten: Vec<_> = self.released.extract_if(.., |_, at| *at + REMEMBERED < now).map(|(key, _)| key).collect();
        for key in forgotten {
            self.tokens.remove(&key);
            self.remembered.retain(|(of, _), _| *of != key);
        }
        let key = match question {
            Question::Grant { key, .. } | Question::Release { key, .. } | Question::Put { key, .. } if key.lock().is_some() => {
                key
            }
            _ => return self.make(question, retry, now),
        };
        // The usual refusal needs nothing else.
        if let (Question::Grant { .. }, Some(value), false) = (question, self.entries.get(key), retry) {
            return Reply::Granted(Granted::Held { value: value.clone() });
        }
        let id = (key.clone(), request.to_owned());
        if let Some(reply) = self.remembered.get(&id) {
            return reply.clone();
        }
        let reply = self.make(question, retry, now);
        if retry || !reply.is_refusal() {
            self.remembered.insert(id, reply.clone());
        }
        reply
    }

    fn make(&mut self, question: &Question, retry: bool, now: u64) -> Reply {
        match question {
            Question::Grant { key, value, token, name } => {
                if let Some(value) = self.entries.get(key) {
                    return Reply::Granted(Granted::Held { value: value.clone() });
                }
                let proposed = if token.abs_diff(now) < WINDOW { *token } else { now };
                let token = proposed.max(self.last_token(key) + 1);
                self.released.remove(key);
                self.tokens.insert(key.clone(), (token, name.clone()));
                self.entries.insert(key.clone(), value.clone());
                Reply::Granted(Granted::Yes { token })
            }
            Question::Release { key, pull } => {
                let admitted = self.entries.get(key).is_some_and(|value| pull.is_none_or(|num| pull_of(value) == Some(num)));
                if !admitted {
                    return Reply::Released(None);
                }
                self.released.insert(key.clone(), now);
                let token = self.last_token(key);
                Reply::Released(self.entries.remove(key).map(|value| Held { value, token }))
            }
            Question::Swap { key, expected, new } => {
                let current = self.entries.get(key).cloned();
                if retry && current == *new {
                    return Reply::Swapped(Swap::Done);
                }
                if expected.as_ref().is_some_and(|expected| *expected != current) {
                    return Reply::Swapped(Swap::Conflict(current));
                }
                self.set(key, new.clone());
                Reply::Swapped(Swap::Done)
            }
            Question::Put { key, seen, new, name } => {
                if self.entries.get(key) != seen.as_ref() {
                    return Reply::Put(Put::Changed);
                }
                let last = self.last_token(key);
                // As put.lua: another holder's token is passed.
                let token = new.as_ref().map_or(last, |held| if last > held.token { last + 1 } else { held.token });
                self.set(key, new.as_ref().map(|held| held.value.clone()));
                if key.lock().is_some() && new.is_some() {
                    self.tokens.insert(key.clone(), (token, name.clone()));
                    self.released.remove(key);
                } else {
                    self.released.insert(key.clone(), now);
                }
                Reply::Put(Put::Done { token: if key.lock().is_some() { token } else { 0 } })
            }
            Question::Announce { instance, lease, presence } => {
                let now = i64::try_from(now).expect("is a time");
                let lease = i64::try_from(lease.as_micros()).expect("is short");
                let (before, agreed) = self.instances.get(instance).map_or((0, 0), |(at, agreed)| (at.unsigned_abs(), *agreed));
                let others = self
                    .instances
                    .iter()
                    .filter(|(name, (at, _))| *name != instance && *at + lease >= now)
                    .map(|(name, _)| name.clone());
                let others = others.collect();
                let says = match presence {
                    Presence::Agreed(moment) if before >= *moment => *moment,
                    _ => agreed,
                };
                self.instances.insert(instance.clone(), (if *presence == Presence::Leaves { -now } else { now }, says));
                Reply::Announced(Announced { before, agreed, now: now.unsigned_abs(), repeated: false, others })
            }
        }
    }

    fn last_token(&self, key: &EntryKey) -> u64 {
        self.tokens.get(key).map_or(0, |(token, _)| *token)
    }

    fn set(&mut self, key: &EntryKey, value: Option<Vec<u8>>) {
        match value {
            Some(value) => drop(self.entries.insert(key.clone(), value)),
            None => drop(self.entries.remove(key)),
        }
    }
}

impl Reply {
    fn is_refusal(&self) -> bool {
        matches!(self, Reply::Granted(Granted::Held { .. }) | Reply::Released(None) | Reply::Put(Put::Changed))
    }
}

fn pull_of(value: &[u8]) -> Option<i64> {
    ProjectLock::parse(value).ok().map(|lock| lock.pull().num)
}

/// What is known of the truth: what callers were told.
#[derive(Debug, Default)]
struct Model {
    /// Who was told to hold the key, last.
    certain: BTreeMap<EntryKey, Vec<u8>>,
    /// Asked for, and perhaps granted.
    maybe: BTreeMap<EntryKey, BTreeSet<Vec<u8>>>,
    /// Perhaps released.
    perhaps_gone: BTreeSet<Vec<u8>>,
    /// Being released just now, by an operation into which another is nested.
    releasing: Vec<EntryKey>,
    /// Told to be released, though not by name: it may take until the end.
    going: BTreeSet<Vec<u8>>,
    /// Told to be released.
    gone: BTreeSet<Vec<u8>>,
    /// Requests whose end nobody knows: they may be executed until their time is over.
    open: BTreeSet<String>,
    /// Told not to have been granted.
    never: BTreeSet<Vec<u8>>,
}

impl Model {
    fn granted(&mut self, key: &EntryKey, value: &[u8]) {
        self.maybe.entry(key.clone()).or_default().remove(value);
        if self.gone.contains(value) {
            return;
        }
        if let Some(holder) = self.certain.insert(key.clone(), value.to_vec()) {
            let going = self.perhaps_gone.contains(&holder) || self.releasing.contains(key);
            let excused = holder == value || going || self.gone.contains(&holder);
            assert!(excused, "two holders of the {key}: {} and {}", text(&holder), text(value));
            // It was released, though nobody was told: an old snapshot of Redis may bring it back.
            self.perhaps_gone.insert(holder);
        }
    }

    fn released(&mut self, key: &EntryKey, value: &[u8]) {
        self.gone.insert(value.to_vec());
        self.maybe.entry(key.clone()).or_default().remove(value);
        if self.certain.get(key).is_some_and(|holder| holder == value) {
            self.certain.remove(key);
        }
    }

    fn ended<T>(&mut self, call: &Call, answer: &Result<T>) {
        if answer.is_err() {
            self.open.insert(call.request.as_str().to_owned());
        }
    }

    /// Whoever may be at one of these keys may be released from now on, until this many are struck off again.
    fn begin_release(&mut self, keys: &[EntryKey]) -> usize {
        let before = self.releasing.len();
        self.releasing.extend_from_slice(keys);
        before
    }

    /// An operation that may release what is at this key has an unknown end.
    fn perhaps_released(&mut self, key: &EntryKey) {
        self.perhaps_gone.extend(self.certain.get(key).cloned());
        self.perhaps_gone.extend(self.maybe.get(key).into_iter().flatten().cloned());
    }
}

/// A value in a word: its number, and the pull that it names.
fn text(value: &[u8]) -> String {
    let json: serde_json::Value = serde_json::from_slice(value).unwrap_or_default();
    let pull = pull_of(value).map_or_else(String::new, |num| format!("#{num}"));
    format!("v{}{pull}", json["N"])
}

fn texts<'a>(values: impl IntoIterator<Item = &'a Vec<u8>>) -> String {
    let texts: Vec<String> = values.into_iter().map(|value| text(value)).collect();
    if texts.is_empty() { "nothing".to_owned() } else { texts.join(" ") }
}

struct Instance {
    core: Arc<Core>,
    store: HybridStore,
    due: Mutex<Schedule>,
}

/// The panic that stands for a crash.
struct Crash;

struct Sim {
    plan: Plan,
    clock: Arc<SimClock>,
    random: Mutex<Random>,
    data: Mutex<Data>,
    snapshots: Mutex<Vec<Data>>,
    /// Questions that are executed later, if at all: until when, and which.
    stuck: Mutex<Vec<Stuck>>,
    up: Mutex<bool>,
    /// How many of a hundred questions fail.
    trouble: AtomicU64,
    disks: Mutex<Vec<Arc<InMemoryStore>>>,
    instances: RwLock<Vec<Option<Arc<Instance>>>>,
    model: Mutex<Model>,
    /// Keys under change, by instance.
    active: Mutex<Vec<(usize, EntryKey)>>,
    depth: AtomicUsize,
    /// Whether an instance is looking at all keys.
    ticking: AtomicBool,
    is_ending: AtomicBool,
    /// Counts down to a crash of this instance.
    fuse: Mutex<Option<(usize, u32)>>,
    number: AtomicU64,
    log: Mutex<Vec<String>>,
    /// Redis answers nothing.
    hangs: AtomicBool,
    /// Redis cannot be reached once a key has been looked at.
    goes_after_a_look: AtomicBool,
    /// How the next write ends.
    next_disk: Mutex<Option<Disk>>,
    /// What happens when Redis has made a change, before its answer is there, once.
    after_change: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

struct Stuck {
    not_after: Instant,
    question: Question,
    request: String,
    retry: bool,
}

/// An instance's way to Redis.
struct Client {
    sim: Weak<Sim>,
    me: usize,
    name: String,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "client {}", self.me)
    }
}

/// What becomes of a question.
enum Fate {
    Answered,
    /// It never arrives, and that is known.
    Refused,
    /// It is executed, and the answer is lost.
    AnswerLost,
    /// Nothing comes until the deadline; executed or not.
    Hangs(bool),
    /// Given up early; executed later, perhaps.
    Stuck,
}

impl Sim {
    fn chance(&self, percent: u64) -> bool {
        self.random.lock().percent(percent)
    }

    fn below(&self, end: u64) -> u64 {
        self.random.lock().below(end)
    }

    fn say(&self, line: impl FnOnce() -> String) {
        self.log.lock().push(line());
    }

    /// A place where the process may die.
    fn may_crash(&self, me: usize) {
        if self.depth.load(Ordering::SeqCst) > 0 {
            return;
        }
        let mut fuse = self.fuse.lock();
        if let Some((who, left)) = &mut *fuse
            && *who == me
        {
            if *left == 0 {
                *fuse = None;
                drop(fuse);
                self.say(|| format!("instance {me} dies"));
                resume_unwind(Box::new(Crash));
            }
            *left -= 1;
        }
    }

    /// Something else happens while a question is on its way.
    fn meanwhile(self: &Arc<Self>, me: usize) {
        if self.depth.load(Ordering::SeqCst) > 0 || !self.chance(15) {
            return;
        }
        self.depth.fetch_add(1, Ordering::SeqCst);
        let other = usize::try_from(self.below(self.instances.read().len() as u64)).expect("is small");
        // Within a look at all keys, an operation of the same instance would wait for its turn.
        if other != me || !self.ticking.load(Ordering::SeqCst) {
            self.operation(other, other == me);
        }
        self.depth.fetch_sub(1, Ordering::SeqCst);
    }

    fn fate(&self) -> Fate {
        if self.hangs.load(Ordering::SeqCst) {
            return Fate::Hangs(false);
        }
        if !*self.up.lock() {
            let is_refused = self.goes_after_a_look.load(Ordering::SeqCst) || self.chance(70);
            return if is_refused { Fate::Refused } else { Fate::Hangs(false) };
        }
        if !self.chance(self.trouble.load(Ordering::SeqCst)) {
            return Fate::Answered;
        }
        match self.below(5) {
            0 => Fate::Refused,
            1 => Fate::AnswerLost,
            2 => Fate::Hangs(self.chance(50)),
            3 => Fate::Stuck,
            _ => Fate::Refused,
        }
    }

    /// What was stuck is executed, or never will be.
    fn unstick(&self) {
        let now = self.clock.now();
        let stuck: Vec<_> = self.stuck.lock().drain(..).collect();
        for late in stuck {
            if now > late.not_after || !*self.up.lock() {
                continue;
            }
            if self.chance(40) {
                let reply = self.data.lock().execute(&late.question, &late.request, late.retry, self.clock.unix_micros());
                self.say(|| format!("late: {} → {}", late.question.brief(), reply.brief()));
                if let Reply::Released(Some(Held { value, .. })) = &reply
                    && self.model.lock().open.contains(&late.request)
                {
                    self.model.lock().perhaps_gone.insert(value.clone());
                }
                if let (Question::Swap { key, new, .. }, Reply::Swapped(Swap::Done)) = (&late.question, &reply) {
                    // Nothing is remembered of a swap: one that arrives late is made if the status is as it expects.
                    let mut model = self.model.lock();
                    model.perhaps_released(key);
                    model.never.retain(|value| Some(value) != new.as_ref());
                }
            } else {
                self.stuck.lock().push(late);
            }
        }
    }

    /// The clock of the machine of this instance.
    fn machine(&self, me: usize) -> Arc<dyn Clock> {
        let ahead = self.plan.ahead[me % self.plan.ahead.len()];
        Arc::new(MachineClock { of_redis: Arc::clone(&self.clock), ahead })
    }

    /// A key that nobody in this instance changes just now: its lock would be waited for.
    fn key(&self, of_instance: &Instance) -> EntryKey {
        loop {
            let key = match self.below(6) {
                0 => EntryKey::Command("apply".to_owned()),
                1 => EntryKey::Status("h::a/b::1".to_owned()),
                2 | 3 => EntryKey::Project("a/b/x/default/".to_owned()),
                4 => EntryKey::Project("a/b/y/default/".to_owned()),
                _ => EntryKey::Project("a/c/x/default/".to_owned()),
            };
            if !of_instance.core.key_locks.is_taken(&key) {
                return key;
            }
        }
    }

    fn new_value(&self, key: &EntryKey) -> Vec<u8> {
        let number = self.number.fetch_add(1, Ordering::SeqCst);
        let value = match key {
            EntryKey::Project(name) => {
                let parts: Vec<&str> = name.split('/').collect();
                serde_json::json!({
                    "Project": {"RepoFullName": format!("{}/{}", parts[0], parts[1]), "Path": parts[2], "ProjectName": ""},
                    "Workspace": parts[3], "Pull": {"Num": 1 + number % 2}, "N": number,
                })
            }
            _ => serde_json::json!({ "N": number }),
        };
        value.to_string().into_bytes()
    }

    fn call(&self) -> Call {
        let number = self.number.fetch_add(1, Ordering::SeqCst);
        Call::new(RequestId::from_text(format!("r{number}")), self.clock.now() + 3 * PATIENCE)
    }

    /// One operation of one instance, and what the model makes of its end. `nested`: another of this instance is under way.
    fn operation(self: &Arc<Self>, who: usize, nested: bool) {
        let Some(instance) = self.instances.read()[who].clone() else { return };
        self.clock.advance(Duration::from_micros(10));
        let key = self.key(&instance);
        self.active.lock().push((who, key.clone()));
        match &key {
            EntryKey::Status(name) => self.swap(&instance, who, &key, name),
            _ => match self.below(10) {
                0..=3 => self.grant(&instance, who, &key),
                4 => self.get(&instance, who, &key),
                5 if !nested && matches!(key, EntryKey::Project(_)) => self.release_by_pull(&instance, who),
                _ => self.release(&instance, who, &key),
            },
        }
        self.active.lock().retain(|active| *active != (who, key.clone()));
    }

    fn grant(self: &Arc<Self>, instance: &Instance, who: usize, key: &EntryKey) {
        let value = self.new_value(key);
        self.model.lock().maybe.entry(key.clone()).or_default().insert(value.clone());
        let lock = key.lock().expect("is a lock");
        let pull = ProjectLock::parse(&value).ok();
        let grant = Grant { key: lock, pull: pull.as_ref().map(ProjectLock::pull), value: &value };
        let answer = instance.store.grant(&grant, &self.call());
        self.say(|| format!("{who}: grant {key} {} → {}", text(&value), show(&answer)));
        let mut model = self.model.lock();
        match answer {
            Ok(Granted::Yes { .. }) => model.granted(key, &value),
            Ok(Granted::Held { .. }) => {
                model.maybe.entry(key.clone()).or_default().remove(&value);
                model.never.insert(value);
            }
            Err(e) if e.code() == Code::OutcomeUnknown => {}
            Err(_) => {
                model.maybe.entry(key.clone()).or_default().remove(&value);
                model.never.insert(value);
            }
        }
    }

    /// What one server says of a lock is what it told its callers; of others' changes it may know nothing while Redis is away.
    fn get(self: &Arc<Self>, instance: &Instance, who: usize, key: &EntryKey) {
        let before = self.model.lock().certain.get(key).cloned();
        let answer = instance.store.get(key.lock().expect("is a lock"), &self.call());
        self.say(|| format!("{who}: get {key} → {}", show(&answer)));
        let model = self.model.lock();
        let is_alone = self.disks.lock().len() == 1 && self.depth.load(Ordering::SeqCst) == 0;
        let is_complete = self.plan.durability == Durability::Sync;
        if let (Ok(found), Some(holder), true) = (answer, before, is_alone && is_complete)
            && model.certain.get(key) == Some(&holder)
            && !model.perhaps_gone.contains(&holder)
        {
            assert_eq!(found.map(|value| text(&value)), Some(text(&holder)), "who holds the {key}");
        }
    }

    fn release(self: &Arc<Self>, instance: &Instance, who: usize, key: &EntryKey) {
        let pull_num = (matches!(key, EntryKey::Project(_)) && self.chance(30)).then_some(1);
        let release = Release { key: key.lock().expect("is a lock"), fields: None, pull_num };
        let before = self.model.lock().certain.get(key).cloned();
        let nested = self.depth.load(Ordering::SeqCst) > 0;
        let releasing = self.model.lock().begin_release(std::slice::from_ref(key));
        let call = self.call();
        let answer = instance.store.release(&release, &call);
        self.model.lock().ended(&call, &answer);
        self.model.lock().releasing.truncate(releasing);
        self.say(|| format!("{who}: release {key} {pull_num:?} → {}", show(&answer)));
        let mut model = self.model.lock();
        match answer {
            Ok(Some(value)) => model.released(key, &value),
            Ok(None) => {
                let holder = before.filter(|value| pull_num.is_none_or(|num| pull_of(value) == Some(num)));
                if let Some(holder) = holder
                    && !nested
                    && model.certain.get(key) == Some(&holder)
                {
                    assert!(model.perhaps_gone.contains(&holder), "the holder of the {key} is not there: {}", text(&holder));
                }
            }
            Err(e) if e.code() == Code::OutcomeUnknown => model.perhaps_released(key),
            Err(_) => {}
        }
    }

    fn release_by_pull(self: &Arc<Self>, instance: &Instance, who: usize) {
        let (repo, num) = ("a/b", 1);
        let keys = ["x", "y"].map(|path| EntryKey::Project(format!("a/b/{path}/default/")));
        let certain = self.model.lock().certain.clone();
        let held: Vec<Vec<u8>> =
            keys.iter().filter_map(|key| certain.get(key).filter(|v| pull_of(v) == Some(num)).cloned()).collect();
        let releasing = self.model.lock().begin_release(&keys);
        self.active.lock().extend(keys.iter().map(|key| (who, key.clone())));
        let call = self.call();
        let answer = instance.store.release_by_pull(PullRef { repo, num }, &call);
        self.model.lock().ended(&call, &answer);
        self.model.lock().releasing.truncate(releasing);
        self.active.lock().retain(|(me, key)| *me != who || !keys.contains(key));
        self.say(|| format!("{who}: release by pull → {}", show(&answer)));
        let mut model = self.model.lock();
        match answer {
            Ok(listing) => {
                model.perhaps_gone.extend(held.iter().cloned());
                // Otherwise some may still be held.
                if listing.incomplete().is_none() {
                    model.going.extend(held);
                }
                // What was or is being asked for meanwhile may come before it. If an answer was lost, it may not be listed.
                let asked = keys.iter().filter_map(|key| model.maybe.get(key)).flatten();
                let taken = keys.iter().filter_map(|key| model.certain.get(key)).filter(|value| pull_of(value) == Some(num));
                let meanwhile: Vec<_> = asked.chain(taken).cloned().collect();
                model.perhaps_gone.extend(meanwhile);
                for value in listing.values() {
                    let key = EntryKey::Project(ProjectLock::parse(value).expect("is a lock").fields().key());
                    model.released(&key, value);
                }
            }
            // On an error some may have been released.
            Err(_) => keys.iter().for_each(|key| model.perhaps_released(key)),
        }
    }

    fn swap(self: &Arc<Self>, instance: &Instance, who: usize, key: &EntryKey, name: &str) {
        let current = self.model.lock().certain.get(key).cloned();
        let new = (!self.chance(25)).then(|| self.new_value(key));
        let expected = if self.chance(30) { Expected::Any } else { current.as_deref().map_or(Expected::Absent, Expected::Bytes) };
        if let Some(new) = &new {
            self.model.lock().maybe.entry(key.clone()).or_default().insert(new.clone());
        }
        let answer = instance.store.swap_pull_status(name, expected, new.as_deref(), &self.call());
        self.say(|| format!("{who}: swap {} → {}", texts(&new), show(&answer)));
        let mut model = self.model.lock();
        match answer {
            Ok(Swap::Done) => {
                model.perhaps_released(key);
                match new {
                    Some(new) => {
                        model.maybe.entry(key.clone()).or_default().remove(&new);
                        model.certain.insert(key.clone(), new);
                    }
                    None => drop(model.certain.remove(key)),
                }
            }
            Ok(Swap::Conflict(_)) => {
                if let Some(new) = new {
                    model.maybe.entry(key.clone()).or_default().remove(&new);
                    model.never.insert(new);
                }
            }
            Err(e) if e.code() == Code::OutcomeUnknown => model.perhaps_released(key),
            Err(_) => {
                if let Some(new) = new {
                    model.maybe.entry(key.clone()).or_default().remove(&new);
                    model.never.insert(new);
                }
            }
        }
    }

    fn hook(self: &Arc<Self>, me: usize) -> Box<dyn Fn() -> Disk + Send + Sync> {
        let sim = Arc::downgrade(self);
        Box::new(move || {
            let Some(sim) = sim.upgrade() else { return Disk::Works };
            sim.may_crash(me);
            let disk = sim.disk();
            if disk != Disk::Works {
                sim.say(|| format!("  {me}: the disk {disk:?}"));
            }
            disk
        })
    }

    fn disk(&self) -> Disk {
        if let Some(disk) = self.next_disk.lock().take() {
            return disk;
        }
        if !self.plan.bad_disk || self.is_ending.load(Ordering::SeqCst) || !self.chance(5) {
            return Disk::Works;
        }
        match self.below(10) {
            0 => Disk::IsFull,
            1..=4 => Disk::IsLate,
            5..=7 => Disk::ConfirmsLate,
            8 => Disk::HasFailed,
            _ => Disk::Fails,
        }
    }

    /// A new process over what the disk has.
    fn begin(self: &Arc<Self>, me: usize) {
        let disk = Arc::clone(&self.disks.lock()[me]);
        let settings = Enhanced {
            instances: self.plan.instances,
            durability: self.plan.durability,
            legacy_fallback: self.plan.fallback,
            ..Enhanced::default()
        };
        let sim = Arc::downgrade(self);
        let connect = move |name: &str| {
            let client = Client { sim: Weak::clone(&sim), me, name: name.to_owned() };
            client.read(&Call::new(RequestId::from_text("c"), client.sim().clock.now() + PATIENCE))?;
            Ok(Arc::new(client) as Arc<dyn SharedStore>)
        };
        let clock = self.machine(me);
        let process = format!("i{me}p{}", self.number.fetch_add(1, Ordering::SeqCst));
        let began = self.dies(me, || {
            let local: Arc<dyn LocalStore> = disk;
            let process = Process { instance: &process, clock, audit: None };
            let opened = match open(settings, PATIENCE, local, None, Box::new(connect), &process) {
                Ok(opened) => opened,
                Err(e) => {
                    assert!(!self.plan.fallback || self.plan.bad_disk, "{e}");
                    return;
                }
            };
            let core = Arc::clone(&opened.core);
            core.arming.grants_on_any_error.store(self.plan.broken, Ordering::SeqCst);
            let due = Mutex::new(Schedule::from(self.clock.now()));
            self.say(|| format!("instance {me} begins, fallback: {}", core.in_fallback()));
            self.instances.write()[me] = Some(Arc::new(Instance { store: HybridStore::new(opened), core, due }));
        });
        if !began {
            self.begin(me);
        }
    }

    /// Runs what may crash this instance; `false` if it did. Its disk is then what it left.
    fn dies(self: &Arc<Self>, me: usize, run: impl FnOnce()) -> bool {
        let Err(panic) = catch_unwind(AssertUnwindSafe(run)) else { return true };
        if !panic.is::<Crash>() {
            resume_unwind(panic);
        }
        self.crash(me);
        false
    }

    fn crash(self: &Arc<Self>, me: usize) {
        self.instances.write()[me] = None;
        // What was being asked for has no answer.
        let active: Vec<_> = self.active.lock().extract_if(.., |(who, _)| *who == me).collect();
        for (_, key) in active {
            self.model.lock().perhaps_released(&key);
            for path in ["x", "y"] {
                self.model.lock().perhaps_released(&EntryKey::Project(format!("a/b/{path}/default/")));
            }
        }
        let mut disks = self.disks.lock();
        let luck = usize::try_from(self.below(disks[me].waiting() as u64 + 1)).expect("is small");
        let after = disks[me].after_crash(luck, self.hook(me));
        disks[me] = Arc::new(after);
    }

    fn tick(self: &Arc<Self>, who: usize) {
        let Some(instance) = self.instances.read()[who].clone() else { return };
        self.ticking.store(true, Ordering::SeqCst);
        let looked = catch_unwind(AssertUnwindSafe(|| tick(&instance.core, &mut instance.due.lock())));
        self.ticking.store(false, Ordering::SeqCst);
        looked.unwrap_or_else(|crash| resume_unwind(crash));
    }

    fn step(self: &Arc<Self>) {
        self.unstick();
        let count = self.disks.lock().len();
        let who = usize::try_from(self.below(count as u64)).expect("is small");
        if self.chance(4) {
            *self.fuse.lock() = Some((who, u32::try_from(self.below(30)).expect("is small")));
        }
        match self.below(100) {
            0..=54 => {
                self.dies(who, || self.operation(who, false));
            }
            55..=84 => {
                self.clock.advance(Duration::from_millis(self.below(400)));
                self.dies(who, || self.tick(who));
            }
            85..=89 => {
                let up = !*self.up.lock();
                *self.up.lock() = up;
                self.say(|| format!("Redis is {}", if up { "up" } else { "down" }));
            }
            90..=92 => self.trouble.store(self.below(60), Ordering::SeqCst),
            // The server is up and nothing happens, or everything ends and begins again later.
            93 => {
                if self.chance(50) {
                    let all: Vec<usize> = (0..count).filter(|who| self.instances.read()[*who].is_some()).collect();
                    all.into_iter().for_each(|who| self.crash(who));
                    if self.plan.loses_data && self.chance(70) {
                        self.lose_data();
                    }
                }
                self.say(|| "two hours pass".to_owned());
                self.clock.advance(Duration::from_secs(2 * 3600));
            }
            94..=95 if self.plan.loses_data => self.lose_data(),
            96 => {
                self.dies(who, || self.busy_key(who));
            }
            _ => self.snapshots.lock().push(self.data.lock().clone()),
        }
        self.look_at_local_stores();
        if self.disks.lock()[who].has_failed() && self.chance(20) {
            self.say(|| format!("instance {who} is started anew"));
            self.crash(who);
        }
        if self.instances.read()[who].is_none() {
            self.begin(who);
        }
    }

    /// Redis is empty, or as it was before.
    fn lose_data(&self) {
        let mut snapshots = self.snapshots.lock();
        let old = if self.chance(40) || snapshots.is_empty() {
            Data::default()
        } else {
            // The newest often.
            let nth = usize::try_from(self.below(2 * snapshots.len() as u64)).expect("is small").min(snapshots.len() - 1);
            snapshots.truncate(nth + 1);
            snapshots.pop().expect("is there")
        };
        self.say(|| format!("Redis loses data; it has {} entries now", old.entries.len()));
        *self.data.lock() = old;
        self.stuck.lock().clear();
    }

    /// A key that changes hands more often than anybody remembers.
    fn busy_key(self: &Arc<Self>, who: usize) {
        let Some(instance) = self.instances.read()[who].clone() else { return };
        let key = self.key(&instance);
        if key.lock().is_none() {
            return;
        }
        self.depth.fetch_add(1, Ordering::SeqCst);
        for _ in 0..MAX_TOMBSTONES + 3 {
            self.clock.advance(Duration::from_micros(10));
            self.grant(&instance, who, &key);
            self.release(&instance, who, &key);
        }
        self.depth.fetch_sub(1, Ordering::SeqCst);
    }

    /// What a server alone, whose disk works, believes is what it told its callers, whoever decides.
    fn look_at_local_stores(&self) {
        let is_alone = self.disks.lock().len() == 1;
        if !is_alone || self.plan.bad_disk || self.plan.durability == Durability::Async {
            return;
        }
        let Some(instance) = self.instances.read()[0].clone() else { return };
        let model = self.model.lock();
        for (key, holder) in
            model.certain.iter().filter(|(key, holder)| key.lock().is_some() && !model.perhaps_gone.contains(*holder))
        {
            let known = instance.core.known(key).expect("is read").value.map(|held| text(&held.value));
            assert_eq!(known, Some(text(holder)), "whom the local store believes to hold the {key}");
        }
    }

    /// Everything works again: the stores agree, and on what callers were told.
    fn end(self: &Arc<Self>) {
        *self.up.lock() = true;
        self.trouble.store(0, Ordering::SeqCst);
        *self.fuse.lock() = None;
        self.depth.store(1, Ordering::SeqCst);
        self.is_ending.store(true, Ordering::SeqCst);
        let count = self.disks.lock().len();
        let failed: Vec<usize> = (0..count).filter(|who| self.disks.lock()[*who].has_failed()).collect();
        failed.into_iter().for_each(|who| self.crash(who));
        (0..count).filter(|who| self.instances.read()[*who].is_none()).for_each(|who| self.begin(who));
        for _ in 0..400 {
            self.unstick();
            self.clock.advance(Duration::from_millis(200));
            (0..count).for_each(|who| self.tick(who));
            let instances = self.instances.read();
            if self.stuck.lock().is_empty() && instances.iter().flatten().all(|instance| !instance.core.in_fallback()) {
                break;
            }
        }
        for who in 0..count {
            let instance = self.instances.read()[who].clone().expect("lives");
            assert!(!instance.core.in_fallback(), "instance {who} did not recover: {:?}", instance.core.authority.cause());
            assert!(instance.core.conflicts.all().is_empty(), "a conflict");
            compare(&instance.core).expect("compares");
            instance.core.local.flush(self.clock.now() + PATIENCE).expect("settles");
        }
        // Who looked first learns at its next look what the others changed; Redis stays as it is.
        let settled = self.data.lock().entries.clone();
        for who in 0..count {
            let instance = self.instances.read()[who].clone().expect("lives");
            compare(&instance.core).expect("compares");
            instance.core.local.flush(self.clock.now() + PATIENCE).expect("settles");
        }
        assert_eq!(self.data.lock().entries, settled, "a second look changes Redis");
        let (data, model) = (self.data.lock(), self.model.lock());
        for disk in self.disks.lock().iter() {
            let local: BTreeMap<EntryKey, Vec<u8>> =
                disk.everything().expect("reads").into_iter().filter_map(|(key, l)| Some((key, l.value?.value))).collect();
            assert_eq!(local, data.entries, "the stores differ");
        }
        for (key, value) in &data.entries {
            let released = model.gone.contains(value) || model.going.contains(value);
            assert!(!released, "the {key} is held by one who released it: {}", text(value));
            assert!(!model.never.contains(value), "the {key} is held by one who was refused: {}", text(value));
        }
        for (key, holder) in &model.certain {
            let found = data.entries.get(key);
            let excused = model.perhaps_gone.contains(holder);
            assert!(found == Some(holder) || excused, "the {key} was lost by {}: {:?}", text(holder), found.map(|v| text(v)));
        }
    }
}

trait Brief {
    fn brief(&self) -> String;
}

impl Brief for Granted {
    fn brief(&self) -> String {
        match self {
            Granted::Yes { token } => format!("granted, token {}", token % 1_000_000_000),
            Granted::Held { value } => format!("held by {}", text(value)),
        }
    }
}

impl Brief for Option<Vec<u8>> {
    fn brief(&self) -> String {
        texts(self)
    }
}

impl Brief for Listing {
    fn brief(&self) -> String {
        let incomplete = self.incomplete().map_or_else(String::new, |why| format!(", and perhaps more: {why}"));
        texts(&self.values().map(<[u8]>::to_vec).collect::<Vec<_>>()) + &incomplete
    }
}

impl Brief for Swap {
    fn brief(&self) -> String {
        match self {
            Swap::Done => "done".to_owned(),
            Swap::Conflict(current) => format!("there is {}", texts(current)),
        }
    }
}

impl Brief for Question {
    fn brief(&self) -> String {
        match self {
            Question::Grant { key, value, .. } => format!("grant {key} {}", text(value)),
            Question::Release { key, pull } => format!("release {key} {pull:?}"),
            Question::Swap { key, new, .. } => format!("swap {key} to {}", texts(new)),
            Question::Put { key, seen, new, .. } => {
                format!("put {key} from {} to {}", texts(seen), texts(new.as_ref().map(|held| &held.value)))
            }
            Question::Announce { instance, .. } => format!("announce {instance}"),
        }
    }
}

impl Brief for Reply {
    fn brief(&self) -> String {
        match self {
            Reply::Granted(granted) => granted.brief(),
            Reply::Released(held) => texts(held.as_ref().map(|held| &held.value)),
            Reply::Swapped(swap) => swap.brief(),
            Reply::Put(put) => format!("{put:?}"),
            Reply::Announced(_) => "announced".to_owned(),
        }
    }
}

fn show<T: Brief>(answer: &Result<T>) -> String {
    match answer {
        Ok(answer) => answer.brief(),
        Err(e) => format!("{:?}: {}", e.code(), e.message()),
    }
}

impl Client {
    fn sim(&self) -> Arc<Sim> {
        self.sim.upgrade().expect("the simulation goes on")
    }

    fn read(&self, call: &Call) -> Result<Arc<Sim>> {
        let sim = self.sim();
        sim.may_crash(self.me);
        sim.meanwhile(self.me);
        match sim.fate() {
            Fate::Answered => Ok(sim),
            Fate::Hangs(_) => {
                sim.clock.advance(call.deadline.saturating_duration_since(sim.clock.now()));
                Err(Error::new(Code::Timeout, "hangs"))
            }
            _ => Err(Error::new(Code::Unreachable, "refused")),
        }
    }

    fn change(&self, question: &Question, call: &Call) -> Result<Reply> {
        let sim = self.sim();
        sim.may_crash(self.me);
        sim.meanwhile(self.me);
        let request = call.request.as_str().to_owned();
        if sim.clock.now() > call.deadline {
            return Err(Error::new(Code::Timeout, "too late"));
        }
        let retry = call.lost_since.is_some();
        let execute = || sim.data.lock().execute(question, &request, retry, sim.clock.unix_micros());
        let unknown = || Error::new(Code::OutcomeUnknown, "the answer is lost");
        match sim.fate() {
            Fate::Answered => {
                let reply = execute();
                sim.say(|| format!("  {}: {} → {}", self.me, question.brief(), reply.brief()));
                let then = sim.after_change.lock().take();
                if let Some(then) = then {
                    then();
                }
                sim.meanwhile(self.me);
                sim.may_crash(self.me);
                Ok(reply)
            }
            Fate::Refused => {
                sim.say(|| format!("refused: {}", question.brief()));
                Err(Error::new(Code::Unreachable, "refused"))
            }
            Fate::AnswerLost => {
                let reply = execute();
                sim.say(|| format!("answer lost: {} → {}", question.brief(), reply.brief()));
                sim.meanwhile(self.me);
                Err(unknown())
            }
            Fate::Hangs(executed) => {
                if executed {
                    let reply = execute();
                    sim.say(|| format!("hangs: {} → {}", question.brief(), reply.brief()));
                }
                sim.clock.advance(call.deadline.saturating_duration_since(sim.clock.now()));
                Err(unknown())
            }
            Fate::Stuck => {
                sim.say(|| format!("stuck: {}", question.brief()));
                let not_after = call.deadline;
                sim.stuck.lock().push(Stuck { not_after, question: question.clone(), request, retry });
                Err(unknown())
            }
        }
    }

    fn entry(&self, key: &EntryKey, call: &Call) -> Result<Option<Vec<u8>>> {
        Ok(self.read(call)?.data.lock().entries.get(key).cloned())
    }
}

macro_rules! reply {
    ($reply:expr, $kind:ident) => {
        match $reply {
            Ok(Reply::$kind(answer)) => Ok(answer),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error),
        }
    };
}

fn listing(values: Vec<Vec<u8>>) -> Listing {
    let mut listing = Listing::default();
    values.iter().for_each(|value| listing.push(value));
    listing
}

impl Store for Client {
    fn grant(&self, grant: &Grant<'_>, call: &Call) -> Result<Granted> {
        self.grant_with(grant, 0, call)
    }

    fn release(&self, release: &Release<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        let question = Question::Release { key: EntryKey::from(release.key), pull: release.pull_num };
        reply!(self.change(&question, call), Released).map(|held| held.map(|held| held.value))
    }

    fn discard(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        self.discard_as(key, call).map(|held| held.map(|held| held.value))
    }

    fn get(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        self.entry(&EntryKey::from(key), call)
    }

    fn list(&self, call: &Call) -> Result<Listing> {
        let sim = self.read(call)?;
        let data = sim.data.lock();
        Ok(listing(data.entries.iter().filter(|(key, _)| matches!(key, EntryKey::Project(_))).map(|(_, v)| v.clone()).collect()))
    }

    fn release_by_pull(&self, pull: PullRef<'_>, call: &Call) -> Result<Listing> {
        let keys = self.held_by(pull, Reach::Scan, call)?;
        let (released, ended) = self.release_held(pull, &keys, call);
        ended.map(|()| listing(released.into_iter().map(|(_, held)| held.value).collect()))
    }

    fn pull_status(&self, key: &str, call: &Call) -> Result<Option<Vec<u8>>> {
        self.entry(&EntryKey::Status(key.to_owned()), call)
    }

    fn swap_pull_status(&self, key: &str, expected: Expected<'_>, new: Option<&[u8]>, call: &Call) -> Result<Swap> {
        let expected = match expected {
            Expected::Any => None,
            Expected::Absent => Some(None),
            Expected::Bytes(bytes) => Some(Some(bytes.to_vec())),
        };
        let question = Question::Swap { key: EntryKey::Status(key.to_owned()), expected, new: new.map(<[u8]>::to_vec) };
        reply!(self.change(&question, call), Swapped)
    }

    fn ping(&self, call: &Call) -> Result<()> {
        self.read(call).map(drop)
    }

    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    fn close(&self) -> Result<()> {
        Ok(())
    }
}

impl SharedStore for Client {
    fn grant_with(&self, grant: &Grant<'_>, token: u64, call: &Call) -> Result<Granted> {
        let question =
            Question::Grant { key: EntryKey::from(grant.key), value: grant.value.to_vec(), token, name: self.name.clone() };
        reply!(self.change(&question, call), Granted)
    }

    fn snapshot(&self, call: &Call) -> Result<Vec<(EntryKey, Vec<u8>)>> {
        let sim = self.read(call)?;
        let entries = sim.data.lock().entries.clone();
        Ok(entries.into_iter().collect())
    }

    fn remote(&self, key: &EntryKey, call: &Call) -> Result<Remote> {
        let sim = self.read(call)?;
        let data = sim.data.lock();
        let (token, holder) = data.tokens.get(key).cloned().unwrap_or_default();
        if sim.goes_after_a_look.load(Ordering::SeqCst) {
            *sim.up.lock() = false;
        }
        Ok(Remote { value: data.entries.get(key).cloned(), token, holder })
    }

    fn put(&self, key: &EntryKey, seen: Option<&[u8]>, new: Option<&Held>, call: &Call) -> Result<Put> {
        let question =
            Question::Put { key: key.clone(), seen: seen.map(<[u8]>::to_vec), new: new.cloned(), name: self.name.clone() };
        reply!(self.change(&question, call), Put)
    }

    fn held_by(&self, pull: PullRef<'_>, _reach: Reach, call: &Call) -> Result<Vec<EntryKey>> {
        let sim = self.read(call)?;
        let data = sim.data.lock();
        let is_held = |(key, value): &(&EntryKey, &Vec<u8>)| {
            matches!(key, EntryKey::Project(_)) && ProjectLock::parse(value).is_ok_and(|lock| lock.pull() == pull)
        };
        Ok(data.entries.iter().filter(is_held).map(|(key, _)| key.clone()).collect())
    }

    /// One script for each key: some may be made, and others not.
    fn release_as(&self, release: &Release<'_>, call: &Call) -> Result<Option<Held>> {
        let question = Question::Release { key: EntryKey::from(release.key), pull: release.pull_num };
        reply!(self.change(&question, call), Released)
    }

    fn discard_as(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Held>> {
        reply!(self.change(&Question::Release { key: EntryKey::from(key), pull: None }, call), Released)
    }

    fn release_held(&self, pull: PullRef<'_>, keys: &[EntryKey], call: &Call) -> (Vec<(EntryKey, Held)>, Result<()>) {
        let mut released = Vec::new();
        for key in keys {
            let question = Question::Release { key: key.clone(), pull: Some(pull.num) };
            match reply!(self.change(&question, call), Released) {
                Ok(held) => released.extend(held.map(|held| (key.clone(), held))),
                Err(error) => return (released, Err(error)),
            }
        }
        (released, Ok(()))
    }

    fn announce(&self, instance: &str, lease: Duration, presence: Presence, call: &Call) -> Result<Announced> {
        let question = Question::Announce { instance: instance.to_owned(), lease, presence };
        reply!(self.change(&question, call), Announced)
    }

    fn clock_micros(&self) -> u64 {
        // It is known to be a little early.
        self.sim().clock.unix_micros().saturating_sub(300)
    }
}

/// Runs one schedule and gives its log; a violation is a panic, after that was printed.
/// Redis and the disks of this many instances, before anything happens.
fn simulation(plan: Plan, instances: usize) -> Arc<Sim> {
    let clock = SimClock {
        base: Instant::now(),
        micros: AtomicU64::new(0),
        random: Mutex::new(Random(!plan.seed)),
        has_threads: AtomicBool::new(false),
    };
    let clock = Arc::new(clock);
    let sim = Arc::new(Sim {
        plan,
        clock: Arc::clone(&clock),
        random: Mutex::new(Random(plan.seed)),
        data: Mutex::default(),
        snapshots: Mutex::default(),
        stuck: Mutex::default(),
        up: Mutex::new(true),
        trouble: AtomicU64::new(0),
        disks: Mutex::default(),
        instances: RwLock::new(vec![None; instances]),
        model: Mutex::default(),
        active: Mutex::default(),
        depth: AtomicUsize::new(0),
        ticking: AtomicBool::new(false),
        is_ending: AtomicBool::new(false),
        fuse: Mutex::default(),
        number: AtomicU64::new(1),
        log: Mutex::default(),
        hangs: AtomicBool::default(),
        goes_after_a_look: AtomicBool::default(),
        next_disk: Mutex::default(),
        after_change: Mutex::default(),
    });
    for me in 0..instances {
        let disk = InMemoryStore::new(sim.machine(me), sim.hook(me));
        sim.disks.lock().push(Arc::new(disk));
    }
    sim
}

fn run(plan: Plan, instances: usize) -> Vec<String> {
    let sim = simulation(plan, instances);
    let run = || {
        // They learn of each other before anything else happens.
        sim.depth.store(1, Ordering::SeqCst);
        (0..instances).for_each(|me| sim.begin(me));
        sim.clock.advance(Duration::from_secs(3));
        (0..instances).for_each(|me| sim.tick(me));
        sim.depth.store(0, Ordering::SeqCst);
        (0..STEPS).for_each(|_| sim.step());
        sim.end();
    };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(run)) {
        if !plan.broken {
            let log = sim.log.lock().join("\n");
            #[allow(clippy::print_stderr)]
            {
                eprintln!("{log}\n{plan:?}, {instances} instances");
            }
        }
        resume_unwind(panic);
    }
    std::mem::take(&mut *sim.log.lock())
}

fn plans(seed: u64) -> [(Plan, usize); 6] {
    let durability = if seed % 4 == 3 { Durability::Async } else { Durability::Sync };
    let plan = Plan {
        seed,
        instances: Instances::Single,
        durability,
        loses_data: false,
        fallback: true,
        bad_disk: false,
        broken: false,
        // Half of the machines have clocks that are wrong by nearly as much as they may be.
        ahead: [0, 1].map(|me| [0, 0, 50_000_000, -50_000_000][usize::try_from((seed >> (2 * me)) % 4).expect("is small")]),
    };
    [
        (Plan { loses_data: durability == Durability::Sync, ..plan }, 1),
        (Plan { instances: Instances::Many, ..plan }, 2),
        // Two servers that were each configured to be alone.
        (plan, 2),
        (Plan { fallback: false, loses_data: durability == Durability::Sync, ..plan }, 1),
        (Plan { bad_disk: true, ..plan }, 1),
        (Plan { bad_disk: true, instances: Instances::Many, ..plan }, 2),
    ]
}

fn seeds() -> std::ops::Range<u64> {
    let Ok(text) = std::env::var("ATLOCK_SIMULATION_SEEDS") else { return 0..500 };
    let (first, end) = text.split_once("..").expect("first..end");
    first.parse().expect("a number")..end.parse().expect("a number")
}

#[test]
fn no_fault_makes_two_holders_or_loses_what_was_acknowledged() {
    for seed in seeds() {
        for (plan, instances) in plans(seed) {
            run(plan, instances);
        }
    }
}

/// A violation can be looked at again.
#[test]
fn a_seed_repeats_its_schedules() {
    for (plan, instances) in (0..50).flat_map(plans) {
        assert_eq!(run(plan, instances), run(plan, instances), "{plan:?}");
    }
}

/// The simulation would notice.
#[test]
fn falling_back_on_any_error_is_caught() {
    let caught = (0..200).filter(|seed| {
        let (plan, instances) = plans(*seed)[1];
        catch_unwind(|| run(Plan { broken: true, ..plan }, instances)).is_err()
    });
    let caught = caught.count();
    assert!(caught > 20, "only {caught} of 200 schedules showed two holders");
}
