//! What another program writes at keys of ours, or beside them: it is named with key and size, it stays as it is, and it stands in
//! nobody's way.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod hybrid_support;
mod redis_support;
mod sled_support;
mod wait;

use std::process::Command;
use std::time::Duration;

use atlock::call::Call;
use atlock::config;
use atlock::domain::lock::{ProjectLock, PullRef};
use atlock::domain::token::FencingToken;
use atlock::error::{Code, Error, Result};
use atlock::queue::Gate;
use atlock::store::contract::local::{EntryKey, Held};
use atlock::store::contract::shared::{Presence, SharedStore as _};
use atlock::store::redis::RedisStore;
use atlock::store::{DocumentKey, Expected, Grant, Granted, LockKey, Store};
use hybrid_support::hybrid;
use hybrid_support::local::Local;
use redis_support::{Cluster, Server, call, call_within, fields, get, grant, lock_json, open, release, settings, take};
use wait::wait_until;

const PULL: PullRef<'static> = PullRef { repo: "acme/infra", num: 1 };
const LOCK: &str = "pr/acme/infra/a/default/";
const SIDE: &str = "{pr/acme/infra/a/default/}:atlock";
const LOCKS: &str = "atlock:locks";
const PULLS: &str = "atlock:pull:acme/infra#1";
const INSTANCES: &str = "atlock:instances";
const QUEUE: &str = "atlock:queue:acme/infra";
/// More than any value of ours has.
const HUGE: usize = 17 << 20;

const PATIENCE: Duration = Duration::from_secs(60);

/// What stands at a key.
#[derive(Clone, Copy, Debug)]
enum Foreign {
    List,
    Huge,
    Field(&'static str, &'static str),
}

use Foreign::{Field, Huge, List};

fn put(server: &Server, key: &str, what: Foreign) {
    let mut raw = server.raw();
    match what {
        List => redis::cmd("DEL").arg(key).exec(&mut raw).and_then(|()| redis::cmd("RPUSH").arg(key).arg("x").exec(&mut raw)),
        Huge => redis::cmd("DEL")
            .arg(key)
            .exec(&mut raw)
            .and_then(|()| redis::cmd("SETRANGE").arg(key).arg(HUGE - 1).arg("x").exec(&mut raw)),
        Field(name, value) => redis::cmd("HSET").arg(key).arg(name).arg(value).exec(&mut raw),
    }
    .unwrap();
}

/// All that is there.
fn all(server: &Server) -> Vec<(String, Vec<u8>)> {
    let mut raw = server.raw();
    let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut raw).unwrap();
    keys.sort();
    keys.into_iter().map(|key| (key.clone(), redis::cmd("DUMP").arg(&key).query(&mut raw).unwrap())).collect()
}

fn done<T>(answer: Result<T>) -> Result<()> {
    answer.map(drop)
}

type Question = fn(&RedisStore) -> Result<()>;

const GRANT: Question = |store| done(grant(store, fields("a"), 1));
const RELEASE: Question = |store| done(release(store, fields("a")));
const DISCARD: Question = |store| done(store.discard(LockKey::Project(&fields("a").key()), &call()));
const READ: Question = |store| done(store.remote(&EntryKey::Project(fields("a").key()), &call()));
const GET: Question = |store| done(store.get(LockKey::Project(&fields("a").key()), &call()));
const PUT: Question = |store| {
    let held = Held { value: lock_json(fields("a"), 1), token: FencingToken::new(7) };
    done(store.put(&EntryKey::Project(fields("a").key()), None, Some(&held), &call()))
};
const GATE: Question = |store| done(store.set_gate(&fields("a").key(), 7, &Gate::Closed, &call()));
const SWAP: Question =
    |store| done(store.swap_document(DocumentKey::Queue(PULL.repo), Expected::Bytes(b"{}"), Some(b"{}"), &call()));
const DOCUMENT: Question = |store| done(store.document(DocumentKey::Queue(PULL.repo), &call()));
const ANNOUNCE: Question = |store| done(store.announce("me", Duration::from_secs(60), Presence::Here, 0, &call()));
const PRESENCE: Question = |store| done(store.remote_and_presence(&EntryKey::Project(fields("b").key()), "me", 0, &call()));
const LIST: Question = |store| done(store.list(&call()));
const QUEUES: Question = |store| done(store.queues(&call()));
const HELD_BY: Question = |store| done(store.release_by_pull(PULL, &call()));

/// What is asked, where what stands, and what is told of it.
const CASES: &[(&str, Question, &str, Foreign, &str)] = &[
    ("grant", GRANT, LOCK, List, "another type"),
    ("grant", GRANT, LOCK, Huge, "17825792 bytes"),
    ("grant", GRANT, SIDE, List, "another type"),
    ("grant", GRANT, SIDE, Field("token", "abc"), "token"),
    ("grant", GRANT, SIDE, Field("token", "-1"), "token"),
    ("grant", GRANT, SIDE, Field("token", "1.5"), "token"),
    ("grant", GRANT, SIDE, Field("token", "nan"), "token"),
    ("grant", GRANT, SIDE, Field("token", "inf"), "token"),
    ("grant", GRANT, SIDE, Field("token", "9007199254740992"), "token"),
    ("grant", GRANT, SIDE, Field("q", LONG), "field q"),
    ("grant", GRANT, LOCKS, List, "another type"),
    ("grant", GRANT, PULLS, List, "another type"),
    ("release", RELEASE, LOCK, List, "another type"),
    ("release", RELEASE, LOCK, Huge, "17825792 bytes"),
    ("release", RELEASE, SIDE, List, "another type"),
    ("release", RELEASE, SIDE, Field("token", "abc"), "token"),
    ("release", RELEASE, SIDE, Field("q", LONG), "field q"),
    ("discard", DISCARD, LOCK, Huge, "17825792 bytes"),
    ("discard", DISCARD, SIDE, Field("token", "1e300"), "token"),
    ("read", READ, LOCK, List, "another type"),
    ("read", READ, LOCK, Huge, "17825792 bytes"),
    ("read", READ, SIDE, List, "another type"),
    ("read", READ, SIDE, Field("token", "abc"), "token"),
    ("read", READ, SIDE, Field("holder", VERY_LONG), "holder"),
    ("get", GET, LOCK, List, ""),
    ("get", GET, LOCK, Huge, "17825792 bytes"),
    ("put", PUT, LOCK, List, "another type"),
    ("put", PUT, SIDE, List, "another type"),
    ("put", PUT, SIDE, Field("token", "abc"), "token"),
    ("put", PUT, SIDE, Field("q", LONG), "field q"),
    ("put", PUT, LOCKS, List, "another type"),
    ("put", PUT, PULLS, List, "another type"),
    ("gate", GATE, SIDE, List, "another type"),
    ("gate", GATE, SIDE, Field("gate", "99999999999999999999 closed"), "revision"),
    ("swap", SWAP, QUEUE, List, "another type"),
    ("swap", SWAP, QUEUE, Huge, "17825792 bytes"),
    ("document", DOCUMENT, QUEUE, List, ""),
    ("document", DOCUMENT, QUEUE, Huge, "17825792 bytes"),
    ("announce", ANNOUNCE, INSTANCES, List, "another type"),
    ("announce", ANNOUNCE, INSTANCES, Huge, "another type"),
    ("announce", ANNOUNCE, INSTANCES, Field("other", VERY_LONG), "announcement"),
    ("presence", PRESENCE, INSTANCES, List, "another type"),
    ("presence", PRESENCE, INSTANCES, Field("me", LONG), "announcement"),
    ("list", LIST, LOCKS, List, ""),
    ("queues", QUEUES, "atlock:queues", List, ""),
    ("release by pull", HELD_BY, PULLS, List, ""),
];

/// More than a memory of requests may have.
const LONG: &str = text(&[b'x'; 410]);
/// More than a name may have.
const VERY_LONG: &str = text(&[b'x'; 1100]);

const fn text(letters: &'static [u8]) -> &'static str {
    match std::str::from_utf8(letters) {
        Ok(text) => text,
        Err(_) => "",
    }
}

#[test]
fn each_script_names_what_another_program_wrote_and_changes_nothing() {
    let server = Server::start(&[]);
    let store = open(&settings(&server.address())).unwrap();
    for (name, question, key, what, told) in CASES {
        redis::cmd("FLUSHALL").exec(&mut server.raw()).unwrap();
        let is_of_one_that_is_held = ["release", "discard", "release by pull"].contains(name);
        if is_of_one_that_is_held {
            take(&store, fields("a"), 1);
        }
        put(&server, key, *what);
        let before = all(&server);
        let error: Error = question(&store).expect_err(&format!("{name}, {key}: {what:?}"));
        assert_eq!(error.code(), Code::EntryUnreadable, "{name}, {key}, {what:?}: {error}");
        assert!(error.message().contains(key) && error.message().contains(told), "{name}, {key}, {what:?}: {error}");
        let after = all(&server);
        let names = |all: &[(String, Vec<u8>)]| all.iter().map(|(key, _)| key.clone()).collect::<Vec<_>>();
        assert!(before == after, "{name}, {key}, {what:?}: {:?}, then {:?}", names(&before), names(&after));
    }
}

/// What is in the way of one lock is in the way of no other, and a gate that names no pull keeps nobody out.
#[test]
fn other_locks_are_none_the_worse() {
    let server = Server::start(&[]);
    let store = open(&settings(&server.address())).unwrap();
    put(&server, LOCK, Huge);
    put(&server, "{pr/acme/infra/b/default/}:atlock", Field("gate", "nonsense"));
    let value = lock_json(fields("b"), 2);
    let lock = ProjectLock::parse(&value).ok();
    let granted = store
        .grant(&Grant { key: LockKey::Project(&fields("b").key()), lock: lock.as_ref(), value: &value, in_order: true }, &call());
    assert!(matches!(granted, Ok(Granted::Yes { .. })), "{granted:?}");
    assert_eq!(store.list(&call()).unwrap().len(), 1);
    assert!(release(&store, fields("b")).unwrap().is_some());
}

fn lists_beside_two_huge_values(settings: &config::Redis, raw: &dyn Fn(&redis::Cmd)) {
    let store = open(settings).unwrap();
    take(&store, fields("a"), 1);
    let huge = 200 << 20;
    for nth in 0..2 {
        raw(redis::cmd("SETRANGE").arg(format!("pr/acme/huge/{nth}/default/")).arg(huge - 1).arg("x"));
    }
    // Values that are all read, and too many for one reply.
    for nth in 0..3 {
        raw(redis::cmd("SETRANGE").arg(format!("pr/acme/large/{nth}/default/")).arg((10 << 20) - 1).arg("x"));
    }
    let call = || call_within(Duration::from_secs(60));
    let listing = store.list(&call()).unwrap();
    assert_eq!(listing.len(), 1);
    let told: Vec<_> = listing.unreadable().iter().map(|entry| (entry.key.as_str(), entry.reason.as_str())).collect();
    assert_eq!(told.len(), 5, "{told:?}");
    for (key, reason) in &told[..2] {
        assert!(key.starts_with("acme/huge/") && reason.contains("209715200 bytes"), "{told:?}");
    }
    let snapshot = store.snapshot(false, &call()).unwrap();
    assert_eq!(snapshot.len(), 4);
    assert_eq!(store.set_aside().len(), 2);
    let warnings = store.warnings();
    assert!(warnings.iter().any(|text| text.contains("acme/huge/0/default/") && text.contains("209715200")), "{warnings:?}");
    // Each question about such a key ends with its name and size, and a lock at it stays taken.
    let key = LockKey::Project("acme/huge/0/default/");
    let fields = atlock::domain::key::Fields { repo: "acme/huge", path: "0", workspace: "default", project: "" };
    for error in [
        store.get(key, &call()).unwrap_err(),
        store.held(key, &call()).unwrap_err(),
        grant(&store, fields, 1).unwrap_err(),
        store.discard(key, &call()).unwrap_err(),
    ] {
        assert_eq!(error.code(), Code::EntryUnreadable, "{error}");
        assert!(error.message().contains("pr/acme/huge/0/default/") && error.message().contains("209715200"), "{error}");
    }
    assert!(get(&store, self::fields("a")).is_some());
}

/// Runs [`a_program_with_little_memory`] with 500 MB of addresses.
#[test]
fn a_program_with_little_memory_lists_beside_huge_values() {
    let mut program = Command::new("sh");
    program.args(["-c", "ulimit -v 500000 && exec \"$0\" --ignored --exact a_program_with_little_memory --nocapture"]);
    program.arg(std::env::current_exe().unwrap());
    let server = Server::start(&[]);
    program.env("FOREIGN_REDIS", server.address());
    let output = redis_support::die_with_the_test(&mut program).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "run by a_program_with_little_memory_lists_beside_huge_values"]
fn a_program_with_little_memory() {
    let address = std::env::var("FOREIGN_REDIS").expect("it is started by another test");
    let raw = |command: &redis::Cmd| {
        let mut raw = redis::Client::open(format!("redis://{address}")).unwrap().get_connection().unwrap();
        command.exec(&mut raw).unwrap();
    };
    let mut shared = config::Redis { shared_with_stock: true, ..settings(&address) };
    shared.timeouts.operation = PATIENCE;
    lists_beside_two_huge_values(&shared, &raw);
}

#[test]
fn a_cluster_lists_beside_huge_values() {
    let cluster = Cluster::start(0);
    let mut raw = redis::cluster::ClusterClient::new(
        cluster.nodes.iter().map(|node| format!("redis://{}", node.address())).collect::<Vec<_>>(),
    )
    .unwrap()
    .get_connection()
    .unwrap();
    let raw = std::cell::RefCell::new(&mut raw);
    let mut shared = config::Redis { shared_with_stock: true, ..cluster.settings() };
    shared.timeouts.operation = PATIENCE;
    lists_beside_two_huge_values(&shared, &|command| command.exec(&mut **raw.borrow_mut()).unwrap());
}

/// Hybrid mode decides beside a huge value, recovers beside it, names it, and grants nobody the lock that stands there.
#[test]
fn hybrid_mode_recovers_beside_a_huge_value() {
    let mut server = Server::start(&["--appendonly", "yes"]);
    let folder = tempfile::tempdir().unwrap();
    let huge = 300 << 20;
    redis::cmd("SETRANGE").arg("pr/acme/huge/./default/").arg(huge - 1).arg("x").exec(&mut server.raw()).unwrap();
    let service = hybrid_support::open(&hybrid(Local::Embedded, folder.path(), settings(&server.address())));
    let try_lock = |path, num| service.try_lock(&lock_json(fields(path), num));
    let is_named = || {
        let warnings = service.status().warnings;
        warnings.iter().any(|text| text.contains("acme/huge/./default/") && text.contains(&huge.to_string()))
    };
    wait_until("the value is named", PATIENCE, is_named);
    assert!(matches!(try_lock("a", 1), Ok(Granted::Yes { .. })));
    server.kill();
    wait_until("the breaker opens", PATIENCE, || service.status().fallback_active);
    server.start_again();
    wait_until("the stores agree again", PATIENCE, || !service.status().fallback_active);
    assert!(service.health().overall);
    assert!(matches!(try_lock("b", 1), Ok(Granted::Yes { .. })));
    wait_until("the value is named again", PATIENCE, is_named);
    let place = atlock::domain::key::Fields { repo: "acme/huge", path: ".", workspace: "default", project: "" };
    let refused = service.try_lock(&lock_json(place, 1)).unwrap_err();
    assert!(refused.message().contains("pr/acme/huge/./default/") && refused.message().contains(&huge.to_string()), "{refused}");
    assert!(!service.status().fallback_active, "one key's entry opens no breaker");
    hybrid_support::close(service);
}

/// The time of a call is not spent on what cannot be read.
#[test]
fn a_short_call_lists_beside_a_huge_value() {
    let server = Server::start(&[]);
    let store = open(&settings(&server.address())).unwrap();
    take(&store, fields("a"), 1);
    put(&server, "pr/acme/huge/0/default/", Huge);
    redis::cmd("ZADD").arg(LOCKS).arg(1).arg("acme/huge/0/default/").exec(&mut server.raw()).unwrap();
    let within: Call = call_within(Duration::from_secs(10));
    assert_eq!(store.list(&within).unwrap().unreadable().len(), 1);
}
