//! What the tests of hybrid mode share: callers who remember what they were told, and one course of events for every fault.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr, dead_code)]

pub mod line;
pub mod local;
pub mod network;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::time::{Duration, Instant};

use atlock::clock::SystemClock;
use atlock::config::{self, Config, Mode};
use atlock::domain::lock::ProjectLock;
use atlock::error::{Code, Error, Result};
use atlock::hybrid::status::Recovery;
use atlock::service::Service;
use atlock::store::Granted;

use self::local::Local;
use crate::redis_support::{fields, lock_json};
use crate::sled_support::Random;
use crate::wait::{wait_for, wait_until};

/// Locks by the path that names them: their pulls' numbers.
pub type Locks = BTreeMap<String, i64>;

/// The longest that recovery may take once Redis works, after a short fault.
const RECOVERS_WITHIN: Duration = Duration::from_secs(60);
const WORKERS: usize = 4;
const OWN_LOCKS: u64 = 8;

/// Hybrid mode, with its local store in this folder.
pub fn hybrid(local: Local, folder: &Path, redis: config::Redis) -> Config {
    let mut config = Config::default();
    config.locking.backend = local.backend();
    config.locking.data_dir = Some(folder.to_owned());
    config.locking.enhanced.enabled = true;
    config.locking.enhanced.compatibility_mode = Mode::Hybrid;
    config.locking.enhanced.redis = redis;
    config
}

pub fn try_open(config: &Config) -> Result<Service> {
    Service::open(config, local::host(config), Arc::new(SystemClock))
}

pub fn open(config: &Config) -> Service {
    try_open(config).unwrap()
}

/// Closes a service, and lets go of its host store's file.
pub fn close(service: Service) {
    service.close().unwrap();
}

/// The locks that a service lists.
pub fn listed(service: &Service) -> Locks {
    let listing = service.list().unwrap();
    assert_eq!(listing.unreadable(), [], "every value is as it was given");
    listing.values().map(named).collect()
}

/// The locks that the local store has when nobody uses it.
pub fn on_disk(local: Local, folder: &Path) -> Locks {
    let mut strict = hybrid(local, folder, config::Redis::default());
    strict.locking.enhanced.enabled = false;
    // Also after a crash, and beside other servers.
    strict.locking.enhanced.allow_incomplete_rollback = true;
    listed(&open(&strict))
}

/// The locks that a Redis server has.
pub fn in_redis(address: &str) -> Locks {
    locks_of(&mut redis::Client::open(format!("redis://{address}")).unwrap().get_connection().unwrap())
}

/// The same by a connection.
pub fn locks_of(raw: &mut redis::Connection) -> Locks {
    let keys: Vec<String> = redis::cmd("KEYS").arg("pr/*").query(raw).unwrap();
    let mut get = |key: &String| -> (String, i64) {
        let value: Vec<u8> = redis::cmd("GET").arg(key).query(raw).unwrap();
        let (path, num) = named(&value);
        assert_eq!(*key, format!("pr/{}", fields(&path).key()));
        (path, num)
    };
    keys.iter().map(&mut get).collect()
}

/// A lock's path and pull; every byte must be as it was given.
fn named(value: &[u8]) -> (String, i64) {
    let lock = ProjectLock::parse(value).unwrap();
    let (path, num) = (lock.fields().path.to_owned(), lock.pull().num);
    assert_eq!(value, lock_json(fields(&path), num), "the value of {path} was changed");
    (path, num)
}

/// Waits until Redis decides again.
pub fn wait_until_recovered(service: &Service) -> Duration {
    wait_until_recovered_since(service, 0, RECOVERS_WITHIN)
}

/// The same, by a recovery that began after this moment.
fn wait_until_recovered_since(service: &Service, moment: u64, within: Duration) -> Duration {
    let start = Instant::now();
    wait_for("Redis decides again", within, || {
        let status = service.status();
        let last = status.hybrid.as_ref().and_then(|report| report.last_recovery.as_ref());
        if !status.fallback_active && last.is_some_and(|last| last.at > moment) { Ok(()) } else { Err(Box::new(status)) }
    });
    start.elapsed()
}

pub fn micros() -> u64 {
    use atlock::clock::Clock as _;
    SystemClock.unix_micros()
}

/// What a caller was told, so far: who may hold each lock. More than one only where an answer said that it does not know.
#[derive(Debug, Default)]
pub struct Told {
    holders: BTreeMap<String, BTreeSet<Option<i64>>>,
    pub longest: Duration,
    pub errors: BTreeMap<&'static str, u32>,
    /// How many reads did not see a lock that is held.
    pub missed: u32,
}

impl Told {
    fn holders(&mut self, path: &str) -> &mut BTreeSet<Option<i64>> {
        self.holders.entry(path.to_owned()).or_insert_with(|| BTreeSet::from([None]))
    }

    fn learnt(&mut self, what: &str, path: &str, before: Option<i64>, after: Option<i64>) {
        let holders = self.holders(path);
        assert!(holders.contains(&before), "{what} {path}: the answer says {before:?}, the callers were told {holders:?}");
        *holders = BTreeSet::from([after]);
    }

    pub fn is_held(&self, path: &str) -> bool {
        self.holders.get(path).is_some_and(|holders| holders.iter().any(Option::is_some))
    }

    /// Adds what callers of other locks were told.
    pub fn merge(&mut self, other: Told) {
        self.longest = self.longest.max(other.longest);
        self.missed += other.missed;
        for (code, times) in other.errors {
            *self.errors.entry(code).or_default() += times;
        }
        for (path, holders) in other.holders {
            assert!(self.holders.insert(path, holders).is_none(), "locks of one caller each");
        }
    }

    /// Fails unless these are the locks that callers were told of.
    pub fn assert_is(&self, place: &str, locks: &Locks) {
        for (path, holders) in &self.holders {
            let found = locks.get(path).copied();
            assert!(holders.contains(&found), "{place} has {path} held by {found:?}, the callers were told {holders:?}");
        }
        let strange: Vec<_> = locks.keys().filter(|path| !self.holders.contains_key(*path)).collect();
        assert!(strange.is_empty(), "{place} has locks that nobody took: {strange:?}");
    }
}

/// Somebody who calls a service and fails if an answer cannot be, by what it was told before.
pub struct Caller<'a> {
    pub service: &'a Service,
    pub allowed: &'a [Code],
    pub reads_may_miss: bool,
    pub told: Told,
}

impl<'a> Caller<'a> {
    pub fn new(service: &'a Service, allowed: &'a [Code]) -> Caller<'a> {
        Caller { service, allowed, reads_may_miss: false, told: Told::default() }
    }

    fn timed<T>(&mut self, what: &str, path: &str, answer: impl FnOnce(&Service) -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let answer = answer(self.service);
        let took = start.elapsed();
        self.told.longest = self.told.longest.max(took);
        if let Err(error) = &answer {
            *self.told.errors.entry(error.code().name()).or_default() += 1;
            assert!(self.allowed.contains(&error.code()), "{what} {path} after {took:?}: {}: {error}", error.code().name());
        }
        answer
    }

    /// Tries to take a lock.
    pub fn take(&mut self, path: &str, num: i64) -> Result<bool> {
        match self.timed("take", path, |service| service.try_lock(&lock_json(fields(path), num))) {
            Ok(Granted::Yes { .. }) => self.told.learnt("take", path, None, Some(num)),
            Ok(Granted::NotYet) => panic!("nobody waits"),
            Ok(Granted::Held { value }) => {
                let holder = Some(named(&value).1);
                self.told.learnt("take", path, holder, holder);
                return Ok(false);
            }
            Err(error) => {
                self.may_be(path, &error, Some(num));
                return Err(error);
            }
        }
        Ok(true)
    }

    pub fn release(&mut self, path: &str) -> Result<bool> {
        match self.timed("release", path, |service| service.unlock(&target(path))) {
            Ok(value) => {
                let holder = value.map(|value| named(&value).1);
                self.told.learnt("release", path, holder, None);
                Ok(holder.is_some())
            }
            Err(error) => {
                self.may_be(path, &error, None);
                Err(error)
            }
        }
    }

    pub fn read(&mut self, path: &str) -> Result<()> {
        let value = self.timed("read", path, |service| service.get_lock(&target(path)))?;
        let holder = value.map(|value| named(&value).1);
        if holder.is_none() && self.reads_may_miss && !self.told.holders(path).contains(&None) {
            self.told.missed += 1;
            return Ok(());
        }
        self.told.learnt("read", path, holder, holder);
        Ok(())
    }

    /// A change of which an error says that it may have been made.
    fn may_be(&mut self, path: &str, error: &Error, after: Option<i64>) {
        if error.code() == Code::OutcomeUnknown {
            self.told.holders(path).insert(after);
        }
    }

    /// Takes, reads and releases locks of its own, until it is stopped, and counts what was answered.
    fn work(&mut self, name: usize, answered: &AtomicUsize, stop: &AtomicBool) {
        let mut random = Random(name as u64);
        while !stop.load(Ordering::SeqCst) {
            let path = format!("own{name}-{}", random.below(OWN_LOCKS));
            // What an error means is written down already.
            let _ = match random.below(3) {
                0 => self.read(&path),
                _ if self.told.is_held(&path) && random.below(4) > 0 => self.release(&path).map(drop),
                _ => self.take(&path, random.below(1000) as i64).map(drop),
            };
            answered.fetch_add(1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(2 + random.below(6)));
        }
    }
}

/// Takes `m0`, `m1`, and so on, from several threads.
pub fn take_many(service: &Service, locks: usize, callers: usize) {
    std::thread::scope(|scope| {
        for first in 0..callers {
            scope.spawn(move || {
                for nth in (first..locks).step_by(callers) {
                    assert!(Caller::new(service, &[]).take(&format!("m{nth}"), nth as i64).unwrap());
                }
            });
        }
    });
}

/// The JSON that names a lock.
pub fn target(path: &str) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({
        "Project": {"ProjectName": "", "RepoFullName": "acme/infra", "Path": path}, "Workspace": "default",
    }))
    .unwrap()
}

/// One lock, asked for by several at once: at most one gets it, and the others are told who did.
pub fn race(service: &Service, allowed: &[Code], path: &str) -> Told {
    let (barrier, winners) = (Barrier::new(WORKERS), Mutex::new(Vec::new()));
    let all: Vec<Told> = std::thread::scope(|scope| {
        let racers: Vec<_> = (0..WORKERS)
            .map(|racer| {
                let (barrier, winners) = (&barrier, &winners);
                scope.spawn(move || {
                    let mut caller = Caller::new(service, allowed);
                    // Any of the racers may hold it; the winner is looked at below.
                    caller.told.holders(path).extend((0..WORKERS).map(|other| Some(other as i64)));
                    barrier.wait();
                    if caller.take(path, racer as i64) == Ok(true) {
                        winners.lock().unwrap().push(Some(racer as i64));
                    }
                    caller.told
                })
            })
            .collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    });
    let winners = winners.into_inner().unwrap();
    let failed: u32 = all.iter().flat_map(|told| told.errors.values()).sum();
    assert!(winners.len() == 1 || (winners.is_empty() && failed > 0), "{path} was granted to {winners:?}: {all:?}");
    let mut result = Told::default();
    for told in all {
        // Whoever was refused was told who holds it.
        if let (Some(winner), Some(holders)) = (winners.first(), told.holders.get(path)) {
            assert!(holders.contains(winner), "{path} is held by {winner:?}, a caller was told {holders:?}");
        }
        result.merge(Told { holders: BTreeMap::new(), ..told });
    }
    let unknown = result.errors.contains_key(Code::OutcomeUnknown.name());
    let mut holders: BTreeSet<_> = winners.into_iter().collect();
    if holders.is_empty() {
        holders.insert(None);
        holders.extend((0..WORKERS).filter(|_| unknown).map(|racer| Some(racer as i64)));
    }
    result.holders.insert(path.to_owned(), holders);
    result
}

/// The course of events: locks are taken; the fault comes; callers go on, and race; it is healed; Redis decides again; what both
/// stores have is what callers were told.
pub struct Scenario<'a> {
    pub fault: &'a str,
    pub local: Local,
    pub config: Config,
    /// The locks in Redis, once it works.
    pub redis: Box<dyn Fn() -> Locks + Sync + 'a>,
    /// Codes of errors that callers may get.
    pub allowed: &'a [Code],
    /// Whether a read may see nothing of a lock that Redis lost, until it is known that Redis lost something.
    pub reads_may_miss: bool,
    /// Whether the local store must come to decide while it is broken.
    pub falls_back: bool,
    /// How long it is broken, at least.
    pub lasts: Duration,
    /// The longest that a caller may wait.
    pub bound: Duration,
    /// The longest that recovery may take: the longer it was broken, the longer the breaker stays open.
    pub recovers_within: Duration,
}

impl<'a> Scenario<'a> {
    pub fn new(local: Local, fault: &'a str, folder: &Path, settings: config::Redis) -> Scenario<'a> {
        let address = settings.address.clone();
        // A second for the operation, and one for a machine that is busy.
        let bound = settings.timeouts.operation + Duration::from_secs(1);
        let config = hybrid(local, folder, settings);
        let redis = Box::new(move || in_redis(&address));
        Scenario {
            fault,
            local,
            config,
            redis,
            allowed: &[],
            reads_may_miss: false,
            falls_back: true,
            lasts: Duration::from_millis(1200),
            bound,
            recovers_within: RECOVERS_WITHIN,
        }
    }

    /// `fault` breaks something, `heal` mends it.
    pub fn run<T>(&self, world: &mut T, fault: impl FnOnce(&mut T, &mut Caller<'_>), heal: impl FnOnce(&mut T)) {
        let service = open(&self.config);
        assert!(!service.status().fallback_active, "{}: {:?}", self.fault, service.status());
        let mut first = Caller::new(&service, self.allowed);
        for nth in 0..20 {
            first.take(&format!("before{nth}"), nth).unwrap();
        }
        for nth in 0..5 {
            first.release(&format!("before{nth}")).unwrap();
        }
        let answered: [AtomicUsize; WORKERS] = Default::default();
        let (stop, seen) = (AtomicBool::new(false), Seen::default());
        let (to_fallback, recovery) = std::thread::scope(|scope| {
            let stopper = StopOnDrop(&stop);
            let worker = |name: usize| {
                let (answered, service, stop) = (&answered[name], &service, &stop);
                scope.spawn(move || {
                    let mut caller = Caller { reads_may_miss: self.reads_may_miss, ..Caller::new(service, self.allowed) };
                    caller.work(name, answered, stop);
                    caller.told
                })
            };
            let workers: [_; WORKERS] = std::array::from_fn(worker);
            all_are_answered(&answered);
            scope.spawn(|| seen.look_at(&service, &stop));
            let broke_at = micros();
            fault(world, &mut first);
            let broke = Instant::now();
            self.race_while_broken(&mut first, &seen, broke);
            for nth in 5..10 {
                // What an error means is written down already.
                let _ = first.release(&format!("before{nth}"));
            }
            heal(world);
            let healed = Instant::now();
            if self.falls_back {
                wait_until_recovered_since(&service, broke_at, self.recovers_within);
            }
            let recovery = healed.elapsed();
            all_are_answered(&answered);
            drop(stopper);
            for worker in workers {
                first.told.merge(worker.join().unwrap());
            }
            (seen.fell_back().map(|at| at.saturating_duration_since(broke)), recovery)
        });
        // A caller may have met the last of the fault.
        let recovery = recovery + wait_until_recovered(&service);
        let Caller { told, .. } = first;
        eprintln!(
            "{} over {}: fallback after {to_fallback:.0?}, longest wait {:.0?}, errors {:?}, {} reads that missed a lock, \
             recovery {recovery:.0?}: {}",
            self.fault,
            self.local,
            told.longest,
            told.errors,
            told.missed,
            // The first is that of the start.
            seen.recoveries.into_inner().unwrap().iter().skip(1).map(described).collect::<Vec<_>>().join("; "),
        );
        self.assert_all_is_well(&told, service);
    }

    /// One lock after the other is raced for, until the local store decides and it was broken for long enough.
    fn race_while_broken(&self, first: &mut Caller<'_>, seen: &Seen, broke: Instant) {
        for round in 0.. {
            let raced = race(first.service, self.allowed, &format!("race{round}"));
            first.told.merge(raced);
            let is_over = seen.fell_back().is_some() || !self.falls_back;
            if is_over && broke.elapsed() >= self.lasts {
                break;
            }
            assert!(broke.elapsed() < Duration::from_secs(10), "{}: the local store does not decide", self.fault);
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// No caller waited too long, and the service, Redis and then the disk have what callers were told. It closes the service.
    fn assert_all_is_well(&self, told: &Told, service: Service) {
        let status = service.status();
        told.assert_is("the service", &listed(&service));
        told.assert_is("Redis", &(self.redis)());
        assert!(told.longest <= self.bound, "{}: a caller waited {:?}", self.fault, told.longest);
        let report = status.hybrid.unwrap();
        assert_eq!(report.conflicts, [], "{}", self.fault);
        close(service);
        told.assert_is("the local store", &on_disk(self.local, self.config.locking.data_dir.as_ref().unwrap()));
    }
}

/// What somebody who looks at a service all the time has seen.
#[derive(Default)]
struct Seen {
    fell_back: Mutex<Option<Instant>>,
    recoveries: Mutex<Vec<Recovery>>,
}

impl Seen {
    fn look_at(&self, service: &Service, stop: &AtomicBool) {
        while !stop.load(Ordering::SeqCst) {
            let status = service.status();
            if status.fallback_active {
                self.fell_back.lock().unwrap().get_or_insert_with(Instant::now);
            }
            let mut recoveries = self.recoveries.lock().unwrap();
            recoveries.extend(status.hybrid.and_then(|report| report.last_recovery));
            recoveries.dedup();
            drop(recoveries);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// When the local store began to decide, if it did.
    fn fell_back(&self) -> Option<Instant> {
        *self.fell_back.lock().unwrap()
    }
}

/// Waits until each worker was answered several times more: what began before is over then, and something came since.
fn all_are_answered(answered: &[AtomicUsize]) {
    let before: Vec<usize> = answered.iter().map(|count| count.load(Ordering::SeqCst)).collect();
    wait_until("every caller is answered", Duration::from_secs(10), || {
        answered.iter().zip(&before).all(|(count, before)| count.load(Ordering::SeqCst) >= before + 5)
    });
}

fn described(recovery: &Recovery) -> String {
    let Recovery { duration_ms, pushed, restored, adopted, conflicts, .. } = recovery;
    format!("{duration_ms} ms, {pushed} pushed, {restored} restored, {adopted} adopted, {conflicts} conflicts")
}

/// Stops threads however their owner ends.
pub struct StopOnDrop<'a>(pub &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}
