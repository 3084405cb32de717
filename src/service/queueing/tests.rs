//! Single courses of events over a store that fails where a test says: what the simulation meets by chance, if at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::wait::{WaitOptions, Waited};
use super::wait_set::SetWaited;
use crate::call::{Call, Calls};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::domain::lock::PullRef;
use crate::error::{Code, Error, Result};
use crate::mode::Router;
use crate::queue::{Gate, Queue};
use crate::service::Service;
use crate::store::contract::local::Held;
use crate::store::reference::ReferenceStore;
use crate::store::{DocumentKey, Expected, Grant, Granted, Listing, LockKey, Release, Store, Swap};

const REPO: &str = "acme/infra";

/// The machine's clock, some time later.
#[derive(Debug, Default)]
struct Later(AtomicU64);

impl Clock for Later {
    fn now(&self) -> Instant {
        Instant::now() + Duration::from_secs(self.0.load(Ordering::SeqCst))
    }

    fn unix_micros(&self) -> u64 {
        SystemClock.unix_micros() + 1_000_000 * self.0.load(Ordering::SeqCst)
    }
}

/// A store that grants no lock of the path `b` and, once it was asked for that, releases none while it fails; and that perhaps tells of no
/// queue any more, once one was written. When the path `c` is first granted, another server takes the caller for gone.
#[derive(Debug)]
struct Failing {
    store: ReferenceStore,
    fails: Arc<AtomicBool>,
    loses_queues: bool,
    has_lost: AtomicBool,
    has_given_up: AtomicBool,
}

impl Failing {
    /// What another server does that takes the callers of sets for gone.
    fn gives_sets_up(&self, call: &Call) -> Result<()> {
        let key = DocumentKey::Queue(REPO);
        let mut queue = Queue::decode(self.store.document(key, call)?.as_deref())?;
        queue.give_up(u64::MAX);
        for (pull, set) in queue.given_up() {
            set.keys.keys().try_for_each(|key| self.store.discard(LockKey::Project(key), call).map(drop))?;
            queue.taken_back(&pull);
        }
        queue.bump(SystemClock.unix_micros());
        self.store.swap_document(key, Expected::Any, queue.encode().as_deref(), call).map(drop)
    }
}

fn away() -> Error {
    Error::new(Code::Unreachable, "it is away")
}

impl Store for Failing {
    fn grant(&self, grant: &Grant<'_>, call: &Call) -> Result<Granted> {
        if grant.key == LockKey::Project("acme/infra/b/default/") {
            self.fails.store(true, Ordering::SeqCst);
            return Err(away());
        }
        let granted = self.store.grant(grant, call)?;
        if grant.key == LockKey::Project("acme/infra/c/default/") && !self.has_given_up.swap(true, Ordering::SeqCst) {
            self.gives_sets_up(call)?;
        }
        Ok(granted)
    }

    fn release(&self, release: &Release<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        if self.fails.load(Ordering::SeqCst) { Err(away()) } else { self.store.release(release, call) }
    }

    fn discard(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        self.store.discard(key, call)
    }

    fn get(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        self.store.get(key, call)
    }

    fn list(&self, call: &Call) -> Result<Listing> {
        self.store.list(call)
    }

    fn release_by_pull(&self, pull: PullRef<'_>, call: &Call) -> Result<Listing> {
        self.store.release_by_pull(pull, call)
    }

    fn document(&self, key: DocumentKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        if self.has_lost.load(Ordering::SeqCst) { Err(away()) } else { self.store.document(key, call) }
    }

    fn swap_document(&self, key: DocumentKey<'_>, expected: Expected<'_>, new: Option<&[u8]>, call: &Call) -> Result<Swap> {
        self.has_lost.fetch_or(self.loses_queues, Ordering::SeqCst);
        self.store.swap_document(key, expected, new, call)
    }

    fn queues(&self, call: &Call) -> Result<Vec<String>> {
        self.store.queues(call)
    }

    fn held(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Held>> {
        self.store.held(key, call)
    }

    fn set_gate(&self, key: &str, revision: u64, gate: &Gate, call: &Call) -> Result<bool> {
        self.store.set_gate(key, revision, gate, call)
    }

    fn ping(&self, call: &Call) -> Result<()> {
        self.store.ping(call)
    }

    fn warnings(&self) -> Vec<String> {
        self.store.warnings()
    }

    fn close(&self) -> Result<()> {
        self.store.close()
    }
}

/// The service over such a store, the clock, and whether the store fails.
fn service(loses_queues: bool) -> (Service, Arc<Later>, Arc<AtomicBool>) {
    let (later, fails) = (Arc::new(Later::default()), Arc::new(AtomicBool::default()));
    let clock = Arc::clone(&later) as Arc<dyn Clock>;
    let store = ReferenceStore::new(Arc::clone(&clock));
    let store = Failing {
        store,
        fails: Arc::clone(&fails),
        loses_queues,
        has_lost: AtomicBool::default(),
        has_given_up: AtomicBool::default(),
    };
    let mut config = Config::default();
    config.locking.enhanced.priority_queue.enabled = true;
    let calls = Calls::of_process(1, Arc::clone(&clock));
    (Service::on(Router::over(Box::new(store)), &config, calls, None, clock), later, fails)
}

fn lock(path: &str, num: i64) -> String {
    format!(
        r#"{{"Project":{{"ProjectName":"","RepoFullName":"{REPO}","Path":"{path}"}},"Pull":{{"Num":{num}}},"Workspace":"default","Time":null}}"#
    )
}

/// What was granted of a set is taken back when it is refused. Where that fails, the queue goes on saying which locks these are, and whoever
/// looks once the caller must be gone takes them back.
#[test]
fn what_of_a_set_cannot_be_taken_back_is_not_forgotten() {
    let (service, clock, fails) = service(false);
    let is_held = || service.list().expect("is listed").len() == 1;

    let set = format!("[{},{}]", lock("a", 7), lock("b", 7));
    let refused = service.lock_set(set.as_bytes(), &WaitOptions::default()).expect_err("is refused");
    assert_eq!(refused.code(), Code::Unreachable, "{refused}");
    assert!(is_held(), "nothing was left of the set: the course is another one");

    fails.store(false, Ordering::SeqCst);
    let look = || (0..2).for_each(|_| drop(service.dispatch(REPO, &[]).expect("is looked at")));
    look();
    assert!(is_held(), "the caller could still be at work");
    clock.0.store(121, Ordering::SeqCst);
    look();
    assert!(!is_held(), "the pull keeps a part of its set");
    assert!(service.queues(None).expect("is read").is_empty());
}

/// What is left of a set is taken back within minutes: its pull is not told to have that, however it asks.
#[test]
fn a_lock_of_a_set_on_its_way_is_told_to_nobody() {
    let (service, _, fails) = service(false);
    let set = format!("[{},{}]", lock("a", 7), lock("b", 7));
    service.lock_set(set.as_bytes(), &WaitOptions::default()).expect_err("is refused");
    fails.store(false, Ordering::SeqCst);
    let at_once = WaitOptions { timeout: Some(Duration::ZERO), ..WaitOptions::default() };
    let asked = lock("a", 7);
    assert_eq!(service.lock(asked.as_bytes(), &at_once).expect_err("may be taken back").code(), Code::SetIncomplete);
    assert_eq!(service.try_lock(asked.as_bytes()).expect_err("may be taken back").code(), Code::SetIncomplete);
}

#[test]
fn the_last_place_that_was_known_is_stale() {
    let (service, ..) = service(true);
    assert!(matches!(service.try_lock(lock("a", 1).as_bytes()), Ok(Granted::Yes { .. })));
    let options = WaitOptions { timeout: Some(Duration::from_millis(600)), ..WaitOptions::default() };
    let waited = service.lock(lock("a", 7).as_bytes(), &options).expect("the lock itself can be asked for");
    let Waited::Without { waiting: Some(waiting), .. } = waited else { panic!("it has a place: {waited:?}") };
    assert_eq!((waiting.position, waiting.stale), (1, true));
}

/// The caller was slow, and what it was granted was released: it is not told that it has the set, and asks anew.
#[test]
fn who_was_taken_for_gone_does_not_have_its_set() {
    let (service, ..) = service(false);
    let set = format!("[{},{}]", lock("a", 7), lock("c", 7));
    let waited = service.lock_set(set.as_bytes(), &WaitOptions::default()).expect("works");
    assert!(matches!(&waited, SetWaited::Locked(locks) if locks.len() == 2), "{waited:?}");
    assert_eq!(service.list().expect("is listed").len(), 2);
}

/// That a pull missed too often is told also where a set that is asked for is what notices.
#[test]
fn who_left_is_told_whoever_noticed() {
    let (service, clock, _) = service(false);
    service.try_lock(lock("a", 1).as_bytes()).expect("is granted");
    let begin = format!(r#"{{"repo":"{REPO}","pull":{{"host":"","num":2}},"command":"plan"}}"#);
    let run = service.run_begin(&serde_json::from_str(&begin).expect("is a run")).expect("begins");
    service.try_lock_in(run, lock("a", 2).as_bytes()).expect("is refused");
    service.run_end(run).expect("ends");
    service.unlock(lock("a", 1).as_bytes()).expect("is released");
    let passes = || clock.0.fetch_add(31 * 60, Ordering::SeqCst);
    for _ in 0..2 {
        passes();
        service.dispatch(REPO, &[]).expect("is looked at");
    }
    passes();
    let set = format!("[{},{}]", lock("a", 3), lock("y", 3));
    let waited = service.lock_set(set.as_bytes(), &WaitOptions::default()).expect("works");
    assert!(matches!(&waited, SetWaited::Locked(_)), "{waited:?}");
    let left: Vec<i64> = service.queueing.left.lock().iter().map(|left| left.waiter.pull.num).collect();
    assert_eq!(left, [2]);
}
