//! I/O errors: the store stops at the first one, tells each caller the truth, and has everything acknowledged when it is
//! opened again. And deadlines: a caller never waits longer, and knows whether its change can still happen.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod sled_support;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use atlock::domain::key::Fields;
use atlock::domain::lock::{ProjectLock, PullRef};
use atlock::error::{Code, Result};
use atlock::store::sled::{SledStore, Step, StepHook};
use atlock::store::{Expected, Grant, Granted, LockKey, Store};
use sled_support::{SmallDisk, call, call_within, copy_folder, grant, lock_json, system_clock};

fn fields(project: &str) -> Fields<'_> {
    Fields { repo: "a/b", path: ".", workspace: "w", project }
}

/// Fails the `nth` occurrence of `step`, from 1.
fn failing(step: Step, nth: i64) -> StepHook {
    let left = AtomicI64::new(nth);
    Arc::new(move |now| {
        let hit = now == step && left.fetch_sub(1, Ordering::SeqCst) == 1;
        if hit { Err(io::Error::other("injected")) } else { Ok(()) }
    })
}

/// Grants until the first error. Which were acknowledged, and the error.
fn grant_until_it_fails(store: &SledStore) -> (BTreeSet<String>, atlock::error::Error) {
    let mut acknowledged = BTreeSet::new();
    for nth in 0.. {
        let project = nth.to_string();
        match grant(store, fields(&project), 1, 900) {
            Ok(Granted::Yes { .. }) => acknowledged.insert(fields(&project).key()),
            Ok(other) => panic!("it is free: {other:?}"),
            Err(e) => return (acknowledged, e),
        };
    }
    unreachable!()
}

fn assert_answers_nothing(store: &SledStore) {
    let held = fields("0");
    let answers: Vec<Result<()>> = vec![
        store.get(LockKey::Project(&held.key()), &call()).map(drop),
        store.list(&call()).map(drop),
        store.pull_status("s", &call()).map(drop),
        store.ping(&call()),
        grant(store, held, 1, 0).map(drop),
        grant(store, fields("another"), 1, 0).map(drop),
        store.discard(LockKey::Project(&held.key()), &call()).map(drop),
        store.release_by_pull(PullRef { repo: "a/b", num: 1 }, &call()).map(drop),
        store.swap_pull_status("s", Expected::Any, Some(b"1"), &call()).map(drop),
    ];
    for (nth, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.unwrap_err().code(), Code::StoreFailed, "answer {nth}");
    }
    assert!(store.warnings()[0].contains("answers nothing until it is opened again"), "{:?}", store.warnings());
}

fn assert_holds(folder: &Path, acknowledged: &BTreeSet<String>) -> SledStore {
    let store = SledStore::open(folder, system_clock()).unwrap();
    for key in acknowledged {
        assert!(store.get(LockKey::Project(key), &call()).unwrap().is_some(), "{key} was lost");
    }
    // One more may be there: the one whose outcome was unknown.
    assert!(store.list(&call()).unwrap().len() <= acknowledged.len() + 1);
    store
}

#[test]
fn each_failing_step_stops_the_store() {
    for step in [Step::Journal, Step::Apply] {
        for nth in 1..=12 {
            let folder = tempfile::tempdir().unwrap();
            let store = SledStore::open_with_hook(folder.path(), system_clock(), failing(step, nth)).unwrap();
            let (acknowledged, error) = grant_until_it_fails(&store);
            assert_eq!(acknowledged.len() as i64, nth - 1);
            // Before the journal has the group it is certain that nothing was changed.
            let code = if step == Step::Journal { Code::StoreFailed } else { Code::OutcomeUnknown };
            assert_eq!(error.code(), code, "{step:?} {nth}: {error}");
            assert!(error.message().contains("injected"), "{error}");
            assert_answers_nothing(&store);
            drop(store);
            assert_holds(folder.path(), &acknowledged);
        }
    }
}

/// The steps of a checkpoint: before a change that finds the journal full, and behind one that is too large for it.
#[test]
fn each_failing_step_of_a_checkpoint_stops_the_store() {
    for step in [Step::Flush, Step::Sync] {
        let folder = tempfile::tempdir().unwrap();
        let store = SledStore::open_with_hook(folder.path(), system_clock(), failing(step, 1)).unwrap();
        let (acknowledged, error) = grant_until_it_fails(&store);
        assert_eq!(error.code(), Code::StoreFailed, "{step:?}: {error}");
        assert!(acknowledged.len() > 20, "the journal was full after {} changes", acknowledged.len());
        assert_answers_nothing(&store);
        drop(store);
        assert_holds(folder.path(), &acknowledged);

        let folder = tempfile::tempdir().unwrap();
        let store = SledStore::open_with_hook(folder.path(), system_clock(), failing(step, 1)).unwrap();
        assert!(matches!(grant(&store, fields("kept"), 1, 0).unwrap(), Granted::Yes { .. }));
        let large = store.swap_pull_status("h::a/b::1", Expected::Any, Some(&vec![b'1'; 5 << 20]), &call());
        assert_eq!(large.unwrap_err().code(), Code::OutcomeUnknown, "{step:?}");
        drop(store);
        assert_holds(folder.path(), &BTreeSet::from([fields("kept").key()]));
    }
}

/// The journal is filled and begun anew many times, also with groups that are too large for it, and the store opened from what a
/// kill would leave at each moment.
#[test]
fn a_copy_taken_at_any_moment_has_everything_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, moments) = (folder.path().join("store"), AtomicUsize::new(0));
    let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
    let hook: StepHook = Arc::new({
        let (dir, acknowledged) = (dir.clone(), Arc::clone(&acknowledged));
        move |_| {
            let moment = moments.fetch_add(1, Ordering::SeqCst);
            if moment % 97 == 3 {
                let copy = tempfile::tempdir().unwrap();
                copy_folder(&dir, copy.path());
                drop(assert_holds(copy.path(), &acknowledged.lock().unwrap()));
            }
            Ok(())
        }
    });
    let store = SledStore::open_with_hook(&dir, system_clock(), hook).unwrap();
    for nth in 0..2_500 {
        let project = nth.to_string();
        assert!(matches!(grant(&store, fields(&project), 1, 100).unwrap(), Granted::Yes { .. }));
        acknowledged.lock().unwrap().insert(fields(&project).key());
        if nth % 900 == 500 {
            store.swap_pull_status("h::a/b::1", Expected::Any, Some(&vec![b'0' + (nth / 900) as u8; 5 << 20]), &call()).unwrap();
        }
    }
}

#[test]
fn sixteen_callers_of_a_failing_group_are_all_told() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStore::open_with_hook(folder.path(), system_clock(), failing(Step::Journal, 20)).unwrap();
    let acknowledged = Mutex::new(BTreeSet::new());
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let (store, acknowledged) = (&store, &acknowledged);
            scope.spawn(move || {
                for nth in 0..1_000 {
                    let project = format!("{thread}-{nth}");
                    match grant(store, fields(&project), 1, 0) {
                        Ok(_) => acknowledged.lock().unwrap().insert(fields(&project).key()),
                        Err(e) => {
                            assert!(matches!(e.code(), Code::StoreFailed | Code::OutcomeUnknown), "{e}");
                            return;
                        }
                    };
                }
                panic!("the store did not fail");
            });
        }
    });
    drop(store);
    let store = SledStore::open(folder.path(), system_clock()).unwrap();
    for key in acknowledged.into_inner().unwrap() {
        assert!(store.get(LockKey::Project(&key), &call()).unwrap().is_some(), "{key} was lost");
    }
}

#[test]
fn a_slow_disk_costs_no_more_than_the_deadline() {
    let folder = tempfile::tempdir().unwrap();
    let slow = Arc::new(AtomicBool::new(true));
    let hook: StepHook = Arc::new({
        let slow = Arc::clone(&slow);
        move |step| {
            while step == Step::Journal && slow.load(Ordering::SeqCst) {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        }
    });
    let store = SledStore::open_with_hook(folder.path(), system_clock(), hook).unwrap();
    let grant_within = |project: &str, millis| {
        let (key, value) = (fields(project).key(), lock_json(fields(project), 1, 0));
        let start = Instant::now();
        let result = store.grant(
            &Grant {
                key: LockKey::Project(&key),
                lock: Some(&ProjectLock::parse(&value).unwrap()),
                value: &value,
                in_order: false,
            },
            &call_within(Duration::from_millis(millis)),
        );
        assert!(start.elapsed() < Duration::from_secs(5));
        result
    };
    // The first is being written; the second waits behind it and can be withdrawn.
    assert_eq!(grant_within("first", 200).unwrap_err().code(), Code::OutcomeUnknown);
    assert_eq!(grant_within("second", 100).unwrap_err().code(), Code::Timeout);
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..600).map(|nth| scope.spawn(move || grant_within(&format!("crowd{nth}"), 1_000))).collect();
        for result in waiting {
            assert_eq!(result.join().unwrap().unwrap_err().code(), Code::Timeout);
        }
    });
    slow.store(false, Ordering::SeqCst);
    assert!(matches!(grant_within("second", 60_000).unwrap(), Granted::Yes { .. }));
    assert!(matches!(grant_within("first", 60_000).unwrap(), Granted::Held { .. }));
    assert_eq!(store.list(&call()).unwrap().len(), 2);
}

#[test]
fn a_full_disk_stops_the_store_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(&folder.path().join("disk"), "12m");
    let dir = disk.0.join("store");
    let ballast = disk.0.join("ballast");
    std::fs::write(&ballast, vec![1; 7 << 20]).unwrap();
    let store = SledStore::open(&dir, system_clock()).unwrap();
    assert!(store.warnings()[0].contains(" MiB left"), "{:?}", store.warnings());
    let (acknowledged, error) = grant_until_it_fails(&store);
    eprintln!("after {} grants: {error}", acknowledged.len());
    assert!(matches!(error.code(), Code::OutcomeUnknown | Code::StoreFailed), "{error}");
    assert!(acknowledged.len() > 100);
    assert_answers_nothing(&store);
    drop(store);
    let error = SledStore::open(&dir, system_clock()).expect_err("the disk is full");
    assert_eq!(error.code(), Code::StoreNotWritable, "{error}");
    std::fs::remove_file(ballast).unwrap();
    let store = assert_holds(&dir, &acknowledged);
    assert!(matches!(grant(&store, fields("afterwards"), 1, 0).unwrap(), Granted::Yes { .. }));
}

#[test]
fn a_read_only_disk_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::mount(&folder.path().join("disk"), "12m");
    drop(SledStore::open(&disk.0, system_clock()).unwrap());
    assert!(Command::new("mount").args(["-o", "remount,ro"]).arg(&disk.0).status().unwrap().success());
    let error = SledStore::open(&disk.0, system_clock()).unwrap_err();
    assert_eq!(error.code(), Code::StoreNotWritable, "{error}");
}
