//! The shadow over stores in memory: what is counted, and that nothing leads back.

mod harmless;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::open::Opened;
use super::traffic::MOST;
use super::*;
use crate::call::{Call, Calls};
use crate::clock::SystemClock;
use crate::domain::lock::{ProjectLock, PullRef};
use crate::error::{Code, Error, Result};
use crate::mode::Router;
use crate::queue::Gate;
use crate::store::contract::local::{EntryKey, Held};
use crate::store::reference::ReferenceStore;
use crate::store::sled::simulated::Random;
use crate::store::{DocumentKey, Expected, Grant, Granted, Listing, LockKey, Release, Store, Swap};

const COMMANDS: [&str; 2] = ["apply", "plan"];
const STATUSES: [&str; 2] = ["example.com::acme/infra::1", "example.com::acme/infra::2"];
const KEYS: [&str; 4] = ["a", "b", "c", "d"];

fn reference() -> ReferenceStore {
    ReferenceStore::new(Arc::new(SystemClock))
}

fn call() -> Call {
    static CALLS: OnceLock<Calls> = OnceLock::new();
    CALLS.get_or_init(|| Calls::new(Arc::new(SystemClock)).expect("calls")).within(Duration::from_secs(10))
}

fn key(path: &str) -> String {
    format!("acme/infra/{path}/default/")
}

/// A lock of a pull, unlike every other.
fn lock(path: &str, num: i64, at: u64) -> Vec<u8> {
    let json = serde_json::json!({
        "Project": {"RepoFullName": "acme/infra", "Path": path}, "Workspace": "default", "Pull": {"Num": num},
        "User": {"Username": format!("u{at}")},
    });
    serde_json::to_vec(&json).expect("serialises")
}

fn grant(store: &dyn Store, key: LockKey<'_>, value: &[u8]) -> Result<Granted> {
    let lock = ProjectLock::parse(value).ok().filter(|_| matches!(key, LockKey::Project(_)));
    store.grant(&Grant { key, lock: lock.as_ref(), value, in_order: false }, &call())
}

fn release(store: &dyn Store, key: LockKey<'_>, pull_num: Option<i64>) -> Result<Option<Vec<u8>>> {
    store.release(&Release { key, fields: None, pull_num, value: None }, &call())
}

/// A shadow over this store.
fn over(shadow: Arc<dyn Store>, fill: Option<Fill>) -> Shadow {
    let open = Box::new(move || {
        Ok(Opened { store: Arc::clone(&shadow), timeout: Duration::from_secs(5), is_ours: Box::new(|| Ok(())) })
    });
    let calls = Arc::new(Calls::new(Arc::new(SystemClock)).expect("calls"));
    Shadow::start_over("test".to_owned(), open, fill, calls, Arc::new(SystemClock)).expect("starts")
}

/// A store with a shadow that looks for what it lacks.
fn tapped(decides: Box<dyn Store>, shadow: Arc<dyn Store>) -> Arc<Tapped> {
    let itself: Arc<OnceLock<Weak<Tapped>>> = Arc::default();
    let of_fill = Arc::clone(&itself);
    let fill = Box::new(move || of_fill.get().and_then(Weak::upgrade).is_some_and(|tapped| tapped.fill(&call()).is_ok()));
    let shadow = over(shadow, Some(fill));
    let tapped = Arc::new(Tapped::new(Arc::new(Router::over(decides)), shadow));
    itself.set(Arc::downgrade(&tapped)).expect("once");
    tapped
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < until, "a minute has passed, and still not: {what}");
        std::thread::sleep(Duration::from_micros(50));
    }
}

fn drain(tapped: &Tapped) {
    wait_for("the shadow has followed", || tapped.shadow().report().waiting == 0);
}

fn in_step(tapped: &Tapped) {
    wait_for("the shadow is in step", || tapped.shadow().report().in_step);
    drain(tapped);
}

/// One operation by chance; what was answered, without fencing tokens, which are the clock's.
fn act(store: &dyn Store, random: &mut Random, at: u64) -> String {
    let (path, num) = (KEYS[random.index(KEYS.len())], 1 + i64::try_from(random.below(3)).expect("is small"));
    let (project, command) = (key(path), LockKey::Command(COMMANDS[random.index(2)]));
    let (project, status) = (LockKey::Project(&project), DocumentKey::PullStatus(STATUSES[random.index(2)]));
    let granted = |granted: Result<Granted>| {
        granted.map(|granted| match granted {
            Granted::Yes { .. } => None,
            other => Some(other),
        })
    };
    match random.below(14) {
        0..3 => format!("{:?}", granted(grant(store, project, &lock(path, num, at)))),
        3 => format!("{:?}", release(store, project, None)),
        4 => format!("{:?}", release(store, project, Some(num))),
        5 => format!("{:?}", store.get(project, &call())),
        6 => format!("{:?}", store.list(&call())),
        7 => format!("{:?}", store.release_by_pull(PullRef { repo: "acme/infra", num }, &call())),
        8 => format!("{:?}", granted(grant(store, command, format!("{{\"at\":{at}}}").as_bytes()))),
        9 => format!("{:?}", release(store, command, None)),
        10 => format!("{:?}", store.get(command, &call())),
        11 => {
            let new = random.percent(80).then(|| format!("[{at}]").into_bytes());
            let expected = [Expected::Any, Expected::Absent, Expected::Bytes(b"[1]")][random.index(3)];
            format!("{:?}", store.swap_document(status, expected, new.as_deref(), &call()))
        }
        12 => format!("{:?}", store.document(status, &call())),
        _ => format!("{:?}", store.discard(project, &call())),
    }
}

/// The counters of the operations.
fn counted(tapped: &Tapped) -> BTreeMap<(String, String), u64> {
    let text = tapped.shadow().metrics();
    let label = |line: &str, name: &str| {
        line.split_once(&format!("{name}=\"")).and_then(|(_, rest)| Some(rest.split_once('"')?.0.to_owned()))
    };
    let line = |line: &str| Some(((label(line, "operation")?, label(line, "result")?), line.rsplit_once(' ')?.1.parse().ok()?));
    text.lines().filter(|text| text.starts_with("atlock_shadow_operations_total")).filter_map(line).collect()
}

/// Each of 10,000 operations is counted once, and of a planted difference as one: another lock, or none, in the shadow.
#[test]
fn ten_thousand_operations_and_each_planted_difference_are_counted() {
    let seed = 16;
    let (mut random, shadow) = (Random::new(seed), Arc::new(reference()));
    let tapped = tapped(Box::new(reference()), Arc::clone(&shadow) as Arc<dyn Store>);
    in_step(&tapped);
    // Of these the shadow has no list.
    COMMANDS.iter().for_each(|name| drop(tapped.get(LockKey::Command(name), &call()).expect("reads")));
    STATUSES.iter().for_each(|key| drop(tapped.document(DocumentKey::PullStatus(key), &call()).expect("reads")));
    drain(&tapped);
    let before = counted(&tapped);
    let mut planted: BTreeMap<String, u64> = BTreeMap::new();
    for at in 0..10_000_u64 {
        if !random.percent(7) {
            act(&*tapped, &mut random, at);
            if at % 1000 == 0 {
                drain(&tapped);
            }
            continue;
        }
        drain(&tapped);
        let operation = plant(&tapped, &shadow, &mut random, at);
        *planted.entry(operation.to_owned()).or_default() += 1;
        drain(&tapped);
        assert_eq!(tapped.shadow().report().different, planted.values().sum::<u64>(), "seed {seed}, operation {at}");
    }
    drain(&tapped);
    let of = |result: &str| -> BTreeMap<String, u64> {
        let counts = counted(&tapped).into_iter().map(|(name, count)| (name.clone(), count - before.get(&name).unwrap_or(&0)));
        counts.filter(|((_, of), count)| of == result && *count > 0).map(|((operation, _), count)| (operation, count)).collect()
    };
    assert_eq!(of("different"), planted, "seed {seed}");
    let report = tapped.shadow().report();
    assert_eq!(of("same").values().sum::<u64>() + planted.values().sum::<u64>(), 10_000, "seed {seed}: {report:?}");
    assert!(planted.len() >= 7 && planted.values().sum::<u64>() > 500, "{planted:?}");
    assert_eq!(report.differences.len(), 20);
    assert!(
        report.differences.iter().all(|found| found.key.contains("acme/infra") || found.key.contains("command")),
        "{report:?}"
    );
}

/// Changes the shadow behind its back, and asks where that shows. Which operation it was.
fn plant(tapped: &Tapped, shadow: &ReferenceStore, random: &mut Random, at: u64) -> &'static str {
    let path = KEYS[random.index(KEYS.len())];
    let (project, command) = (key(path), LockKey::Command(COMMANDS[random.index(2)]));
    let (project, status) = (LockKey::Project(&project), DocumentKey::PullStatus(STATUSES[random.index(2)]));
    let swap = |key: LockKey<'_>, value: &[u8]| {
        if shadow.discard(key, &call()).expect("discards").is_none() {
            grant(shadow, key, value).expect("grants");
        }
    };
    let choice = random.below(9);
    match choice {
        0..5 => swap(project, &lock(path, 99, at)),
        5..8 => swap(command, b"{\"at\":\"planted\"}"),
        _ => drop(shadow.swap_document(status, Expected::Any, Some(b"\"planted\""), &call()).expect("swaps")),
    }
    match choice {
        0 => grant(tapped, project, &lock(path, 1, at)).map(|_| "try_lock"),
        1 => release(tapped, project, None).map(|_| "unlock"),
        2 => tapped.get(project, &call()).map(|_| "get_lock"),
        3 => tapped.list(&call()).map(|_| "list"),
        4 => tapped.discard(project, &call()).map(|_| "discard"),
        5 => grant(tapped, command, b"{\"at\":\"asked\"}").map(|_| "lock_command"),
        6 => release(tapped, command, None).map(|_| "unlock_command"),
        7 => tapped.get(command, &call()).map(|_| "check_command_lock"),
        _ => tapped.document(status, &call()).map(|_| "pull_status"),
    }
    .expect("is answered")
}

/// Operations at the same time, on few keys: no difference is made up, each is counted, and in the end the shadow has what is
/// held.
#[test]
fn operations_that_cross_make_no_difference_up() {
    for seed in 0..20 {
        let shadow = Arc::new(reference());
        let tapped = tapped(Box::new(reference()), Arc::clone(&shadow) as Arc<dyn Store>);
        in_step(&tapped);
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let tapped = &tapped;
                scope.spawn(move || {
                    let mut random = Random::new(seed * 100 + thread);
                    for at in 0..800 {
                        act(&**tapped, &mut random, thread << 32 | at);
                    }
                });
            }
        });
        drain(&tapped);
        tapped.list(&call()).expect("lists");
        in_step(&tapped);
        let report = tapped.shadow().report();
        assert_eq!((report.different, report.failed), (0, 0), "seed {seed}: {report:?}");
        assert_eq!(report.same + report.uncertain + report.dropped, 3201, "seed {seed}: {report:?}");
        let values = |store: &dyn Store| -> Vec<Vec<u8>> {
            let mut values: Vec<_> = store.list(&call()).expect("lists").values().map(<[u8]>::to_vec).collect();
            values.sort();
            values
        };
        assert_eq!(values(&*shadow), values(&*tapped), "seed {seed}");
    }
}

/// A list in which a change may have garbled others is not believed, nor compared; without a change it is.
#[test]
fn a_list_that_may_be_garbled_is_not_believed() {
    let shadow = Arc::new(reference());
    let tapped = tapped(Box::new(reference()), Arc::clone(&shadow) as Arc<dyn Store>);
    in_step(&tapped);
    grant(&*tapped, LockKey::Project(&key("a")), &lock("a", 1, 0)).expect("grants");
    let fragile = || tapped.shadow().begin(Asked::List { fill: false, fragile: true });
    let crossed = fragile();
    grant(&*tapped, LockKey::Project(&key("b")), &lock("b", 1, 0)).expect("grants");
    crossed.end(Answer::Locks(Listing::default()));
    drain(&tapped);
    let report = tapped.shadow().report();
    assert_eq!((report.same, report.uncertain, report.different), (2, 1, 0), "{report:?}");
    assert_eq!(shadow.list(&call()).expect("lists").len(), 2, "what it lacked is still held");
    fragile().end(Answer::Locks(Listing::default()));
    drain(&tapped);
    assert_eq!((tapped.shadow().report().different, shadow.list(&call()).expect("lists").len()), (1, 0));
}

/// What an operation left that crossed the filling is not known by the list: the key is trusted by the next one alone.
#[test]
fn a_key_that_changed_during_the_filling_is_not_trusted() {
    let (store, key) = (Arc::new(reference()), EntryKey::Project(key("a")));
    let shadow = over(Arc::clone(&store) as Arc<dyn Store>, None);
    let (filling, value, mut locks) =
        (shadow.begin(Asked::List { fill: true, fragile: false }), lock("a", 1, 0), Listing::default());
    let of_another = Asked::Release { key: key.clone(), only_if: Condition::of_pull(Some(2)) };
    shadow.begin(of_another).end(Answer::Was(Said::Nothing));
    locks.push(&value);
    filling.end(Answer::Locks(locks));
    shadow.begin(Asked::Get(key)).end(Answer::Was(Said::This(value)));
    wait_for("the shadow has followed", || shadow.report().operations == 2);
    let report = shadow.report();
    assert_eq!((report.uncertain, report.different), (2, 0), "{report:?}");
    assert_eq!(store.list(&call()).expect("lists").len(), 1);
}

/// What the store that decides held before is given to the shadow, and is no difference.
#[test]
fn what_is_held_at_the_start_is_put_in() {
    let decides = reference();
    let paths: Vec<String> = (0..100).map(|path| path.to_string()).collect();
    paths.iter().for_each(|path| drop(grant(&decides, LockKey::Project(&key(path)), &lock(path, 1, 0)).expect("grants")));
    let shadow = Arc::new(reference());
    let tapped = tapped(Box::new(decides), Arc::clone(&shadow) as Arc<dyn Store>);
    in_step(&tapped);
    assert_eq!(shadow.list(&call()).expect("lists").len(), 100);
    assert_eq!(tapped.shadow().report().operations, 0, "filling is nobody's operation");
    assert_eq!(tapped.release_by_pull(PullRef { repo: "acme/infra", num: 1 }, &call()).expect("releases").len(), 100);
    drain(&tapped);
    assert_eq!((tapped.shadow().report().same, shadow.list(&call()).expect("lists").len()), (1, 0));
}
