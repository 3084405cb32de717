//! The Redis store behaves as the reference store does, on one server and on a cluster, with stock beside it or not; and under
//! contention a key has one holder and ever larger tokens.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod redis_support;
mod wait;

use std::collections::HashMap;
use std::sync::{Arc, Barrier, Mutex};

use atlock::config;
use atlock::domain::key::{Fields, Target};
use atlock::domain::lock::PullRef;
use atlock::domain::token::FencingToken;
use atlock::store::redis::RedisStore;
use atlock::store::reference::ReferenceStore;
use atlock::store::{Expected, Grant, Granted, Listing, LockKey, Release, Store};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use redis_support::{Cluster, Server, call, grant, lock_json, open, release, settings, system_clock};

const REPOS: [&str; 7] = ["a/b", "a/b2", "a/b/c", "a/*", "a/{b}", "ä/}{ \u{0}", "a/[b]-\\?"];
const PATHS: [&str; 5] = [".", "c", "b/c", "{}", "x}y{z}"];
const PULLS: [i64; 3] = [1, 12, 123_456_789_012];

#[derive(Clone, Debug)]
enum Operation {
    Grant { repo: usize, path: usize, pull: usize },
    Release { repo: usize, path: usize, guarded: bool, pull: Option<usize> },
    Discard { repo: usize, path: usize },
    Command { name: usize, release: bool },
    ReleaseByPull { repo: usize, pull: usize },
    Swap { name: usize, expected: usize, new: Option<usize> },
    Get { repo: usize, path: usize },
    List,
    Reopen,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let (repo, path, pull) = (0..REPOS.len(), 0..PATHS.len(), 0..PULLS.len());
    let operation = prop_oneof![
        6 => (repo.clone(), path.clone(), pull.clone()).prop_map(|(repo, path, pull)| Operation::Grant { repo, path, pull }),
        4 => (repo.clone(), path.clone(), any::<bool>(), proptest::option::of(pull.clone()))
            .prop_map(|(repo, path, guarded, pull)| Operation::Release { repo, path, guarded, pull }),
        1 => (repo.clone(), path.clone()).prop_map(|(repo, path)| Operation::Discard { repo, path }),
        1 => (0_usize..2, any::<bool>()).prop_map(|(name, release)| Operation::Command { name, release }),
        3 => (repo.clone(), pull).prop_map(|(repo, pull)| Operation::ReleaseByPull { repo, pull }),
        3 => (0_usize..3, 0_usize..4, proptest::option::of(0_usize..3)).prop_map(|(name, expected, new)| Operation::Swap { name, expected, new }),
        2 => (repo, path).prop_map(|(repo, path)| Operation::Get { repo, path }),
        1 => Just(Operation::List),
        1 => Just(Operation::Reopen),
    ];
    proptest::collection::vec(operation, 150)
}

fn fields(repo: usize, path: usize) -> Fields<'static> {
    Fields { repo: REPOS[repo], path: PATHS[path], workspace: "w", project: "" }
}

fn sorted(listing: &Listing) -> Vec<Vec<u8>> {
    assert_eq!(listing.unreadable(), []);
    let mut values: Vec<_> = listing.values().map(<[u8]>::to_vec).collect();
    values.sort();
    values
}

/// What an operation answers, but for the token, which is the store's own.
fn answer(store: &dyn Store, operation: &Operation) -> String {
    let granted = |granted| match granted {
        Granted::Yes { .. } => "granted".to_owned(),
        Granted::Held { value } => format!("held {value:?}"),
        Granted::NotYet => "kept for somebody else".to_owned(),
    };
    match *operation {
        Operation::Grant { repo, path, pull } => granted(grant(store, fields(repo, path), PULLS[pull]).unwrap()),
        Operation::Release { repo, path, guarded, pull } => {
            let fields = fields(repo, path);
            let target = if guarded { Target::exactly(fields) } else { Target::by_key(fields.key()) };
            let release = Release { pull_num: pull.map(|pull| PULLS[pull]), ..Release::of(&target) };
            format!("{:?}", store.release(&release, &call()).unwrap())
        }
        Operation::Discard { repo, path } => {
            format!("{:?}", store.discard(LockKey::Project(&fields(repo, path).key()), &call()).unwrap())
        }
        Operation::Command { name, release } => {
            let key = LockKey::Command(["apply", "{plan}"][name]);
            if release {
                format!("{:?}", store.release(&Release { key, fields: None, pull_num: None, value: None }, &call()).unwrap())
            } else {
                granted(
                    store.grant(&Grant { key, lock: None, value: br#"{"LockMetadata":{}}"#, in_order: false }, &call()).unwrap(),
                )
            }
        }
        Operation::ReleaseByPull { repo, pull } => {
            format!("{:?}", sorted(&store.release_by_pull(PullRef { repo: REPOS[repo], num: PULLS[pull] }, &call()).unwrap()))
        }
        Operation::Swap { name, expected, new } => {
            let value = |nth: usize| vec![b'0' + nth as u8; 1 + 1000 * nth];
            let wanted = value(expected.min(2));
            let expected = if expected == 3 { [Expected::Any, Expected::Absent][name % 2] } else { Expected::Bytes(&wanted) };
            let key = ["h::a/b::1", "h::a/b2::1", "pr.example::{x}::1"][name];
            format!("{:?}", store.swap_pull_status(key, expected, new.map(value).as_deref(), &call()).unwrap())
        }
        Operation::Get { repo, path } => {
            format!("{:?}", store.get(LockKey::Project(&fields(repo, path).key()), &call()).unwrap())
        }
        Operation::List | Operation::Reopen => format!("{:?}", sorted(&store.list(&call()).unwrap())),
    }
}

fn equals_the_reference(settings: &config::Redis, cases: u32, flush: &dyn Fn()) {
    // A failure prints its shrunken operations and its seed.
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, max_shrink_iters: 200, ..Config::default() });
    runner
        .run(&operations(), |operations| {
            flush();
            let reference = ReferenceStore::new(system_clock());
            let mut store = open(settings).unwrap();
            for operation in &operations {
                if matches!(operation, Operation::Reopen) {
                    drop(store);
                    store = open(settings).unwrap();
                }
                prop_assert_eq!(answer(&store, operation), answer(&reference, operation), "{:?}", operation);
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_single_server_equals_the_reference() {
    let server = Server::start(&[]);
    let flush = || redis::cmd("FLUSHALL").query::<()>(&mut server.raw()).unwrap();
    for shared_with_stock in [false, true] {
        equals_the_reference(&config::Redis { shared_with_stock, ..settings(&server.address()) }, 20, &flush);
    }
}

#[test]
fn a_cluster_equals_the_reference() {
    let cluster = Cluster::start(0);
    for shared_with_stock in [false, true] {
        equals_the_reference(&config::Redis { shared_with_stock, ..cluster.settings() }, 6, &|| cluster.flush());
    }
}

/// 64 takers in two instances: one winner a round, and each winner's token is larger than all before, also when the store was
/// opened anew and the side hash has expired.
fn one_winner_a_round(settings: &config::Redis, rounds: usize, forget: &dyn Fn()) {
    const TAKERS: usize = 64;
    let mut last: HashMap<String, FencingToken> = HashMap::new();
    let mut stores: [Arc<RedisStore>; 2] = [Arc::new(open(settings).unwrap()), Arc::new(open(settings).unwrap())];
    for round in 0..rounds {
        let key = Fields { repo: "a/b", path: ["x", "{y}"][round % 2], workspace: "w", project: "" };
        let (barrier, winners) = (Barrier::new(TAKERS), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for taker in 0..TAKERS {
                let (store, barrier, winners) = (&stores[taker % 2], &barrier, &winners);
                scope.spawn(move || {
                    barrier.wait();
                    if let Granted::Yes { token, .. } = grant(&**store, key, taker as i64).unwrap() {
                        winners.lock().unwrap().push((taker as i64, token));
                    }
                });
            }
        });
        let winners = winners.into_inner().unwrap();
        assert_eq!(winners.len(), 1, "round {round}: {winners:?}");
        let (winner, token) = winners[0];
        let before = last.insert(key.key(), token).unwrap_or_default();
        assert!(token > before, "round {round}: token {token} after {before}");
        assert_eq!(release(&*stores[round % 2], key).unwrap(), Some(lock_json(key, winner)));
        if round % 10 == 9 {
            forget();
            stores = [Arc::new(open(settings).unwrap()), Arc::new(open(settings).unwrap())];
        }
    }
}

#[test]
fn one_taker_of_many_wins() {
    let server = Server::start(&[]);
    let forget = || redis::cmd("FLUSHALL").query::<()>(&mut server.raw()).unwrap();
    one_winner_a_round(&settings(&server.address()), 50, &forget);
}

#[test]
fn one_taker_of_many_wins_on_a_cluster() {
    let cluster = Cluster::start(0);
    one_winner_a_round(&cluster.settings(), 20, &|| cluster.flush());
}
