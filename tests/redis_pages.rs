//! Work that grows with what is in Redis: it goes page by page, each with the deadline of one operation, and what cannot be kept is
//! left out and named.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod redis_support;
mod wait;

use std::time::{Duration, Instant};

use atlock::config;
use atlock::domain::lock::PullRef;
use atlock::error::Code;
use atlock::store::contract::local::EntryKey;
use atlock::store::contract::shared::SharedStore as _;
use atlock::store::{Listing, Store};
use redis_support::proxy::Proxy;
use redis_support::{Server, call, call_within, fields, get, lock_json, open, settings, take};

const PULL: PullRef<'static> = PullRef { repo: "acme/infra", num: 1 };
const LONG: Duration = Duration::from_secs(60);
/// More than any pause of ours, and a slow machine's.
const SLACK: Duration = Duration::from_secs(5);

fn shared(address: &str) -> config::Redis {
    config::Redis { shared_with_stock: true, ..settings(address) }
}

fn impatient(mut settings: config::Redis) -> config::Redis {
    settings.timeouts.operation = Duration::from_millis(300);
    settings
}

fn set(server: &Server, key: &str, value: &[u8]) {
    redis::cmd("SET").arg(key).arg(value).query::<()>(&mut server.raw()).unwrap();
}

fn lock_at(path: &str) -> String {
    format!("pr/acme/infra/{path}/default/")
}

fn fill(server: &Server, count: usize, key: impl Fn(usize) -> String) {
    let keys: Vec<usize> = (0..count).collect();
    for part in keys.chunks(1000) {
        let mut command = redis::cmd("MSET");
        for nth in part {
            command.arg(key(*nth)).arg("x");
        }
        command.query::<()>(&mut server.raw()).unwrap();
    }
}

/// How often the server was given this command.
fn calls(server: &Server, command: &str) -> usize {
    let info: String = redis::cmd("INFO").arg("commandstats").query(&mut server.raw()).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    line.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

fn values(listing: &Listing) -> Vec<Vec<u8>> {
    listing.values().map(<[u8]>::to_vec).collect()
}

#[test]
fn many_keys_of_other_programs_hide_no_lock() {
    let server = Server::start(&[]);
    fill(&server, 30_000, |nth| format!("session:{nth}"));
    fill(&server, 12_000, |nth| format!("pr/foreign/{nth}"));
    redis::cmd("HSET").arg("pr/hash").arg("a").arg("b").query::<()>(&mut server.raw()).unwrap();
    let store = open(&shared(&server.address())).unwrap();
    take(&store, fields("a"), 1);
    set(&server, &lock_at("stock"), &lock_json(fields("stock"), 1));
    let listing = store.list(&call_within(LONG)).unwrap();
    assert_eq!(values(&listing), [lock_json(fields("a"), 1), lock_json(fields("stock"), 1)]);
    // 10,000 are named, and one entry says how many are not.
    assert_eq!(listing.unreadable().len(), 10_001);
    assert!(listing.unreadable().last().unwrap().reason.contains("2001 more"), "{:?}", listing.unreadable().last());
    assert_eq!(store.release_by_pull(PULL, &call_within(LONG)).unwrap().len(), 2);
}

/// The index has more members than a page, many with one stamp, as a cluster's have.
#[test]
fn the_index_is_read_to_its_end() {
    const LOCKS: usize = 12_000;
    let server = Server::start(&[]);
    let store = open(&settings(&server.address())).unwrap();
    let locks: Vec<usize> = (0..LOCKS).collect();
    for part in locks.chunks(500) {
        let (mut set, mut index) = (redis::cmd("MSET"), redis::cmd("ZADD"));
        index.arg("atlock:locks");
        for nth in part {
            let path = format!("p{nth}");
            set.arg(lock_at(&path)).arg(lock_json(fields(&path), 1));
            index.arg(if *nth < LOCKS - 1000 { 17 } else { *nth }).arg(fields(&path).key());
        }
        set.query::<()>(&mut server.raw()).unwrap();
        index.query::<()>(&mut server.raw()).unwrap();
    }
    assert_eq!(store.list(&call_within(LONG)).unwrap().len(), LOCKS);
}

#[test]
fn a_page_that_fails_is_asked_for_again_and_no_other() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(&server.address());
    let store = open(&shared(&proxy.address)).unwrap();
    take(&store, fields("a"), 1);
    fill(&server, 40_000, |nth| format!("session:{nth}"));
    let count = |store: &dyn Store| {
        let before = calls(&server, "scan");
        assert_eq!(store.list(&call_within(LONG)).unwrap().len(), 1);
        calls(&server, "scan") - before
    };
    let pages = count(&store);
    assert!(pages >= 8, "{pages}");
    proxy.lose_reply_of("SCAN", 5, || ());
    assert_eq!(count(&store), pages + 1);
    assert!(proxy.is_done());
}

#[test]
fn a_server_that_hangs_costs_one_page() {
    let server = Server::start(&[]);
    for settings in [settings(&server.address()), shared(&server.address())] {
        let store = open(&impatient(settings)).unwrap();
        take(&store, fields("a"), 1);
        server.pause();
        let start = Instant::now();
        let listed = store.list(&call_within(LONG)).unwrap_err();
        let released = store.release_by_pull(PULL, &call_within(LONG)).unwrap_err();
        assert!(start.elapsed() < SLACK, "{:?}: {listed} {released}", start.elapsed());
        server.resume();
        store.ping(&call()).unwrap();
        store.release_by_pull(PULL, &call_within(LONG)).unwrap();
    }
}

/// However long the whole may take, a single change is made within one operation's time or not at all: others rely on that
/// before they decide in Redis's place.
#[test]
fn a_release_by_pull_that_arrives_late_releases_nothing() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(&server.address());
    let store = open(&impatient(settings(&proxy.address))).unwrap();
    take(&store, fields("a"), 1);
    proxy.hold_request();
    let start = Instant::now();
    let error = store.release_by_pull(PULL, &call_within(LONG)).unwrap_err();
    assert_eq!(error.code(), Code::OutcomeUnknown, "{error}");
    assert!(start.elapsed() < SLACK, "{:?}", start.elapsed());
    let reply = proxy.deliver();
    assert!(reply.contains("LATE"), "{reply}");
    assert_eq!(get(&store, fields("a")), Some(lock_json(fields("a"), 1)));
}

#[test]
fn a_look_at_all_keys_that_ends_early_says_what_to_do() {
    let server = Server::start(&[]);
    let store = open(&shared(&server.address())).unwrap();
    let error = store.list(&call_within(Duration::ZERO)).unwrap_err();
    assert_eq!(error.code(), Code::Timeout, "{error}");
    for words in ["About 0 keys", "shared_with_stock: false", "timeouts.operation", &server.address()] {
        assert!(error.message().contains(words), "{words:?} is missing: {error}");
    }
    let alone = open(&settings(&server.address())).unwrap();
    take(&alone, fields("a"), 1);
    let error = alone.snapshot(false, &call_within(Duration::ZERO)).unwrap_err();
    assert!(error.message().contains("timeouts.operation") && !error.message().contains("shared_with_stock"), "{error}");
}

/// What the index names is released first, and told, though the look at all keys fails then.
#[test]
fn a_release_by_pull_tells_what_it_released_before_it_failed() {
    let server = Server::start(&[]);
    let store = open(&shared(&server.address())).unwrap();
    take(&store, fields("a"), 1);
    set(&server, &lock_at("stock"), &lock_json(fields("stock"), 1));
    let may_scan = |may: &str| redis::cmd("ACL").arg("SETUSER").arg("default").arg(may).query::<()>(&mut server.raw()).unwrap();
    may_scan("-scan");
    let released = store.release_by_pull(PULL, &call_within(LONG)).unwrap();
    assert_eq!(values(&released), [lock_json(fields("a"), 1)]);
    assert!(released.incomplete().unwrap().contains("ACL"), "{released:?}");
    // With nothing to tell it is an error as any other.
    assert_eq!(store.release_by_pull(PULL, &call_within(LONG)).unwrap_err().code(), Code::Permission);
    may_scan("+scan");
    let released = store.release_by_pull(PULL, &call_within(LONG)).unwrap();
    assert_eq!((values(&released), released.incomplete()), (vec![lock_json(fields("stock"), 1)], None));
}

/// Beside stock servers, an index that another program broke stops nothing: the look at all keys finds the locks.
#[test]
fn a_broken_index_does_not_stop_a_release_by_pull() {
    let server = Server::start(&[]);
    let store = open(&shared(&server.address())).unwrap();
    take(&store, fields("a"), 1);
    redis::cmd("DEL").arg("atlock:pull:acme/infra#1").query::<()>(&mut server.raw()).unwrap();
    set(&server, "atlock:pull:acme/infra#1", b"another program's");
    assert_eq!(store.release_by_pull(PULL, &call_within(LONG)).unwrap().len(), 1);
}

#[test]
fn a_start_reads_only_what_the_index_lacks() {
    let server = Server::start(&[]);
    for nth in 0..20 {
        let path = format!("p{nth}");
        set(&server, &lock_at(&path), &lock_json(fields(&path), 1));
    }
    let start = |settings: &config::Redis| {
        let before = (calls(&server, "scan"), calls(&server, "mget"));
        let store = open(settings).unwrap();
        let after = (calls(&server, "scan"), calls(&server, "mget"));
        assert!(store.list(&call()).unwrap().len() >= 20);
        // The probe of an opening reads one key of each kind.
        (after.0 > before.0, after.1 > before.1 + 5)
    };
    let (alone, beside) = (settings(&server.address()), shared(&server.address()));
    assert_eq!(start(&alone), (true, true), "nothing was taken over yet");
    assert_eq!(start(&alone), (true, false), "everything was");
    assert_eq!(start(&beside), (true, false));
    // A stock server was used for a while.
    set(&server, &lock_at("stock"), &lock_json(fields("stock"), 1));
    assert_eq!(start(&alone), (true, true));
    assert_eq!(open(&alone).unwrap().list(&call()).unwrap().len(), 21);
}

#[test]
fn what_no_local_store_can_keep_is_left_out_and_named() {
    let server = Server::start(&[]);
    let store = open(&shared(&server.address())).unwrap();
    take(&store, fields("a"), 1);
    set(&server, "pr/foreign/blob\n", &vec![b'x'; 17 << 20]);
    let long = format!("long/{}", "k".repeat(40_000));
    set(&server, &format!("pr/{long}"), b"{}");
    set(&server, "cache::blob::1", &vec![b'x'; 17 << 20]);
    let key = |name: &str| EntryKey::Project(name.to_owned());
    assert_eq!(store.snapshot(false, &call_within(LONG)).unwrap(), [(key(&fields("a").key()), lock_json(fields("a"), 1))]);
    let mut set_aside = store.set_aside();
    set_aside.sort();
    assert_eq!(set_aside, [key("foreign/blob\n"), key(&long)]);
    let warnings = || store.warnings().into_iter().filter(|text| text.contains("left alone")).collect::<Vec<_>>();
    assert_eq!(warnings().len(), 2);
    let warnings = || warnings().join("\n");
    assert!(warnings().contains("the value 17825792."), "{}", warnings());
    assert!(warnings().contains("\"long/kkk") && warnings().len() < 2000, "{}", warnings());

    let listing = store.list(&call_within(LONG)).unwrap();
    assert_eq!(values(&listing), [lock_json(fields("a"), 1)]);
    assert!(listing.unreadable().iter().any(|entry| entry.key == "foreign/blob\n" && entry.reason.contains("17825792")));
    assert!(listing.unreadable().iter().all(|entry| entry.key.len() < 200), "a key that nobody can name is shortened");

    redis::cmd("DEL").arg("pr/foreign/blob\n").arg(format!("pr/{long}")).query::<()>(&mut server.raw()).unwrap();
    store.snapshot(false, &call_within(LONG)).unwrap();
    assert_eq!((store.set_aside(), warnings()), (Vec::new(), String::new()));
}
