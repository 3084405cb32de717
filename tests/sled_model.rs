//! The embedded store behaves as the reference store does, whatever the order of operations and however often it is
//! opened again; and under contention a key has one holder and ever larger tokens.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod sled_support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use atlock::clock::Clock;
use atlock::domain::key::{Fields, Target};
use atlock::domain::lock::PullRef;
use atlock::domain::token::FencingToken;
use atlock::error::{Code, Result};
use atlock::store::reference::ReferenceStore;
use atlock::store::sled::SledStore;
use atlock::store::{Expected, Grant, Granted, Listing, LockKey, Release, Store};
use proptest::prelude::*;
use sled_support::{call, grant, system_clock};

const REPOS: [&str; 6] = ["a/b", "a/b2", "a/b/c", "a", "ä/\u{0}\u{7f} ", "a/b\u{0}"];
const PATHS: [&str; 3] = [".", "c", "b/c"];
const PULLS: [i64; 4] = [1, 12, -1, i64::MAX];
const BAD_VALUES: [&str; 3] = ["{}", "7", r#"{"Project":{"RepoFullName":""},"Pull":{"Num":1},"Workspace":"w"}"#];

#[derive(Clone, Debug)]
enum Operation {
    Grant { repo: usize, path: usize, pull: usize, padding: usize },
    GrantBad { repo: usize, value: usize },
    Release { repo: usize, path: usize, guarded: bool, pull: Option<usize> },
    Discard { repo: usize, path: usize },
    Command { name: usize, release: bool },
    ReleaseByPull { repo: usize, pull: usize },
    Swap { name: usize, expected: usize, new: Option<usize> },
    Look { repo: usize, path: usize },
    List,
    Reopen,
    ClockBack,
}

fn operation() -> impl Strategy<Value = Operation> {
    let (repo, path, pull) = (0..REPOS.len(), 0..PATHS.len(), 0..PULLS.len());
    prop_oneof![
        6 => (repo.clone(), path.clone(), pull.clone(), prop_oneof![4 => Just(0_usize), 1 => 0_usize..40_000])
            .prop_map(|(repo, path, pull, padding)| Operation::Grant { repo, path, pull, padding }),
        1 => (repo.clone(), 0..BAD_VALUES.len()).prop_map(|(repo, value)| Operation::GrantBad { repo, value }),
        4 => (repo.clone(), path.clone(), any::<bool>(), proptest::option::of(pull.clone()))
            .prop_map(|(repo, path, guarded, pull)| Operation::Release { repo, path, guarded, pull }),
        1 => (repo.clone(), path.clone()).prop_map(|(repo, path)| Operation::Discard { repo, path }),
        1 => (0_usize..2, any::<bool>()).prop_map(|(name, release)| Operation::Command { name, release }),
        3 => (repo.clone(), pull).prop_map(|(repo, pull)| Operation::ReleaseByPull { repo, pull }),
        3 => (0_usize..3, 0_usize..4, proptest::option::of(0_usize..3)).prop_map(|(name, expected, new)| Operation::Swap { name, expected, new }),
        2 => (repo, path).prop_map(|(repo, path)| Operation::Look { repo, path }),
        1 => Just(Operation::List),
        1 => Just(Operation::Reopen),
        1 => Just(Operation::ClockBack),
    ]
}

/// Both stores read it; nothing else moves it, so both give the same tokens.
#[derive(Debug)]
struct TestClock(AtomicU64);

impl Clock for TestClock {
    fn now(&self) -> Instant {
        Instant::now()
    }
    fn unix_micros(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

fn sorted(listing: &Listing) -> Vec<Vec<u8>> {
    let mut values: Vec<_> = listing.values().map(<[u8]>::to_vec).collect();
    values.sort();
    values
}

fn fields(repo: usize, path: usize) -> Fields<'static> {
    Fields { repo: REPOS[repo], path: PATHS[path], workspace: "w", project: "" }
}

/// What an operation answers, as a text that can be compared.
fn answer(store: &dyn Store, operation: &Operation) -> Result<String> {
    let call = call();
    let text = match *operation {
        Operation::Grant { repo, path, pull, padding } => {
            let fields = fields(repo, path);
            format!("{:?}", grant(store, fields, PULLS[pull], padding)?)
        }
        Operation::GrantBad { repo, value } => {
            let key = fields(repo, 0).key();
            format!(
                "{:?}",
                store.grant(
                    &Grant { key: LockKey::Project(&key), lock: None, value: BAD_VALUES[value].as_bytes(), in_order: false },
                    &call
                )?
            )
        }
        Operation::Release { repo, path, guarded, pull } => {
            let fields = fields(repo, path);
            let target = if guarded { Target::by_fields(fields) } else { Target::by_key(fields.key()) };
            let release = Release { pull_num: pull.map(|pull| PULLS[pull]), ..Release::of(&target) };
            format!("{:?}", store.release(&release, &call)?)
        }
        Operation::Discard { repo, path } => format!("{:?}", store.discard(LockKey::Project(&fields(repo, path).key()), &call)?),
        Operation::Command { name, release } => {
            let key = LockKey::Command(["apply", "a/b/./w/"][name]);
            if release {
                format!("{:?}", store.release(&Release { key, fields: None, pull_num: None, value: None }, &call)?)
            } else {
                format!(
                    "{:?}",
                    store.grant(&Grant { key, lock: None, value: br#"{"LockMetadata":{}}"#, in_order: false }, &call)?
                )
            }
        }
        Operation::ReleaseByPull { repo, pull } => {
            format!("{:?}", sorted(&store.release_by_pull(PullRef { repo: REPOS[repo], num: PULLS[pull] }, &call)?))
        }
        Operation::Swap { name, expected, new } => {
            let value = |nth: usize| vec![b'0' + nth as u8; [1, 8192, 20_000][nth]];
            let wanted = value(expected.min(2));
            let expected = if expected == 3 { [Expected::Any, Expected::Absent][name % 2] } else { Expected::Bytes(&wanted) };
            let name = ["h::a/b::1", "h::a/b::12", "a/b/./w/"][name];
            let swap = store.swap_pull_status(name, expected, new.map(value).as_deref(), &call)?;
            format!("{swap:?} {:?}", store.pull_status(name, &call)?.map(|value| (value.len(), value.first().copied())))
        }
        Operation::Look { repo, path } => format!("{:?}", store.get(LockKey::Project(&fields(repo, path).key()), &call)?),
        Operation::List | Operation::Reopen | Operation::ClockBack => format!("{:?}", store.list(&call)?),
    };
    Ok(text)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn answers_as_the_reference_store(operations in proptest::collection::vec(operation(), 1..80)) {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(TestClock(AtomicU64::new(1_000)));
        let reference = ReferenceStore::new(clock.clone());
        let mut store = SledStore::open(folder.path(), clock.clone()).unwrap();
        for operation in &operations {
            match operation {
                Operation::Reopen => {
                    drop(store);
                    store = SledStore::open(folder.path(), clock.clone()).unwrap();
                }
                Operation::ClockBack => { clock.0.fetch_sub(10, Ordering::Relaxed); }
                _ => { clock.0.fetch_add(1, Ordering::Relaxed); }
            }
            let (got, wanted) = (answer(&store, operation), answer(&reference, operation));
            prop_assert_eq!(got, wanted, "{:?}", operation);
        }
    }
}

#[test]
fn one_key_has_one_winner_among_sixteen_threads() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStore::open(folder.path(), system_clock()).unwrap();
    for round in 0..20 {
        let fields = Fields { repo: "a/b", path: "race", workspace: "w", project: &round.to_string() };
        let winners: usize = std::thread::scope(|scope| {
            let racers: Vec<_> = (0..16)
                .map(|num| {
                    scope.spawn({
                        let store = &store;
                        move || matches!(grant(store, fields, num, 0).unwrap(), Granted::Yes { .. })
                    })
                })
                .collect();
            racers.into_iter().map(|racer| usize::from(racer.join().unwrap())).sum()
        });
        assert_eq!(winners, 1, "round {round}");
    }
}

#[test]
fn sixteen_threads_exclude_each_other_and_see_increasing_tokens() {
    const ROUNDS: usize = 200;
    let folder = tempfile::tempdir().unwrap();
    let store = SledStore::open(folder.path(), system_clock()).unwrap();
    // Changed only by the lock's holder: who holds it, and the last token seen.
    let holders: Vec<Mutex<(Option<i64>, FencingToken)>> = (0..4).map(|_| Mutex::new((None, FencingToken::NONE))).collect();
    std::thread::scope(|scope| {
        for num in 0..16_i64 {
            let (store, holders) = (&store, &holders);
            scope.spawn(move || {
                for round in 0..ROUNDS {
                    let nth = (round + num as usize) % holders.len();
                    let path = format!("p{nth}");
                    let fields = Fields { repo: "a/b", path: &path, workspace: "w", project: "" };
                    let Granted::Yes { token, .. } = grant(store, fields, num, 0).unwrap() else { continue };
                    let before = std::mem::replace(&mut *holders[nth].lock().unwrap(), (Some(num), token));
                    assert_eq!(before.0, None, "two holders of {path}");
                    assert!(token > before.1, "token {token} after {}", before.1);
                    assert_eq!(store.token(LockKey::Project(&fields.key())).unwrap(), Some(token));
                    holders[nth].lock().unwrap().0 = None;
                    let target = Target::by_fields(fields);
                    assert!(store.release(&Release::of(&target).only_if_held_by(num), &call()).unwrap().is_some());
                }
            });
        }
    });
}

#[test]
fn tokens_increase_over_a_restart_with_the_clock_set_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut last: HashMap<&str, FencingToken> = HashMap::new();
    for now in [5_000_000, 1_000, 0] {
        let store = SledStore::open(folder.path(), Arc::new(TestClock(AtomicU64::new(now)))).unwrap();
        let fields = Fields { repo: "a/b", path: ".", workspace: "w", project: "" };
        let Granted::Yes { token, .. } = grant(&store, fields, 1, 0).unwrap() else { panic!("it is free") };
        assert!(token > last.insert("token", token).unwrap_or_default());
        store.release(&Release::of(&Target::by_fields(fields)), &call()).unwrap().unwrap();
    }
}

#[test]
fn values_up_to_sixteen_mebibytes_are_kept_inside_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStore::open(folder.path(), system_clock()).unwrap();
    let value = |salt: u8| (0..16 << 20).map(|i: u32| (i % 249) as u8 ^ salt).collect::<Vec<u8>>();
    store.swap_pull_status("h::a/b::1", Expected::Absent, Some(&value(1)), &call()).unwrap();
    store.swap_pull_status("h::a/b::1", Expected::Bytes(&value(1)), Some(&value(2)), &call()).unwrap();
    assert_eq!(
        store.swap_pull_status("x", Expected::Any, Some(&[value(1), vec![0]].concat()), &call()).unwrap_err().code(),
        Code::TooLarge
    );
    // Long keys make long tree nodes.
    for nth in 0..600 {
        let project = format!("{nth:0>900}");
        let fields = Fields { repo: "a/b", path: ".", workspace: "w", project: &project };
        assert!(matches!(grant(&store, fields, nth, 8_000).unwrap(), Granted::Yes { .. }));
    }
    // A file here would be one that sled does not sync.
    assert_eq!(std::fs::read_dir(folder.path().join("sled/blobs")).unwrap().count(), 0);
    drop(store);
    let store = SledStore::open(folder.path(), system_clock()).unwrap();
    assert_eq!(store.pull_status("h::a/b::1", &call()).unwrap().unwrap(), value(2));
    assert_eq!(store.list(&call()).unwrap().len(), 600);
    store.swap_pull_status("h::a/b::1", Expected::Any, None, &call()).unwrap();
    assert_eq!(store.release_by_pull(PullRef { repo: "a/b", num: 7 }, &call()).unwrap().len(), 1);
}

#[test]
fn closing_is_idempotent_and_final() {
    let folder = tempfile::tempdir().unwrap();
    let store = SledStore::open(folder.path(), system_clock()).unwrap();
    let fields = Fields { repo: "a/b", path: ".", workspace: "w", project: "" };
    grant(&store, fields, 1, 0).unwrap();
    store.close().unwrap();
    store.close().unwrap();
    assert_eq!(grant(&store, fields, 1, 0).unwrap_err().code(), Code::Closed);
    assert_eq!(store.list(&call()).unwrap_err().code(), Code::Closed);
    assert_eq!(store.discard(LockKey::Command("apply"), &call()).unwrap_err().code(), Code::Closed);
    assert_eq!(store.ping(&call()).unwrap_err().code(), Code::Closed);
    // Another may open it now, while the closed one still exists.
    assert_eq!(SledStore::open(folder.path(), system_clock()).unwrap().list(&call()).unwrap().len(), 1);
}
