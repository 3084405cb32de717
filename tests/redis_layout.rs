//! What stands in Redis: stock's keys and bytes, ours beside them, and nothing left behind. Other programs' entries, corrupt ones
//! and those of old versions are told apart (P3, P4).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod redis_support;
mod wait;

use std::collections::BTreeMap;

use atlock::config;
use atlock::domain::key::Fields;
use atlock::domain::lock::PullRef;
use atlock::error::Code;
use atlock::store::{Granted, Listing, LockKey, Release, Store};
use redis_support::{Cluster, Server, call, fields, get, grant, lock_json, open, release, settings, take};

const PULL: PullRef<'static> = PullRef { repo: "acme/infra", num: 1 };

fn shared(server: &Server) -> config::Redis {
    config::Redis { shared_with_stock: true, ..settings(&server.address()) }
}

fn keys(server: &Server) -> Vec<String> {
    let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut server.raw()).unwrap();
    keys.sort();
    keys
}

fn set(server: &Server, key: &str, value: &[u8]) {
    redis::cmd("SET").arg(key).arg(value).query::<()>(&mut server.raw()).unwrap();
}

fn values(listing: &Listing) -> Vec<Vec<u8>> {
    listing.values().map(<[u8]>::to_vec).collect()
}

#[test]
fn stocks_keys_and_bytes_and_ours_beside_them() {
    let server = Server::start(&[]);
    let store = open(&settings(&server.address())).unwrap();
    let token = take(&store, fields("a"), 1);
    let value: Vec<u8> = redis::cmd("GET").arg("pr/acme/infra/a/default/").query(&mut server.raw()).unwrap();
    assert_eq!(value, lock_json(fields("a"), 1));
    assert_eq!(
        keys(&server),
        ["atlock:locks", "atlock:pull:acme/infra#1", "pr/acme/infra/a/default/", "{pr/acme/infra/a/default/}:atlock"]
    );
    let side: BTreeMap<String, String> =
        redis::cmd("HGETALL").arg("{pr/acme/infra/a/default/}:atlock").query(&mut server.raw()).unwrap();
    assert_eq!(side["token"], token.to_string());
    let (instance, request) = side["holder"].split_once(' ').unwrap();
    assert_eq!((instance, &side[&format!("r:{request}")]), ("test-instance", &format!("G{token}")));

    store.swap_pull_status("host::acme/infra::1", atlock::store::Expected::Absent, Some(b"{}"), &call()).unwrap();
    store
        .grant(&atlock::store::Grant { key: LockKey::Command("apply"), lock: None, value: b"{}", in_order: false }, &call())
        .unwrap();
    let found = keys(&server);
    assert!(found.contains(&"host::acme/infra::1".to_owned()) && found.contains(&"global/apply/lock".to_owned()), "{found:?}");
}

#[test]
fn a_release_leaves_only_the_side_hash_and_that_expires() {
    let server = Server::start(&[]);
    for settings in [settings(&server.address()), shared(&server)] {
        let store = open(&settings).unwrap();
        take(&store, fields("a"), 1);
        take(&store, fields("b"), 1);
        take(&store, fields("c"), 2);
        release(&store, fields("a")).unwrap().unwrap();
        assert_eq!(store.release_by_pull(PULL, &call()).unwrap().len(), 1);
        store.discard(LockKey::Project(&fields("c").key()), &call()).unwrap().unwrap();
        let left = keys(&server);
        assert_eq!(left.len(), 3, "{left:?}");
        for key in left {
            assert!(key.ends_with(":atlock"), "{key}");
            let ttl: i64 = redis::cmd("PTTL").arg(&key).query(&mut server.raw()).unwrap();
            assert!((1..=3_600_000).contains(&ttl), "{key} has TTL {ttl}");
        }
        // Taken again, it does not expire with its lock held.
        take(&store, fields("a"), 1);
        let ttl: i64 = redis::cmd("PTTL").arg("{pr/acme/infra/a/default/}:atlock").query(&mut server.raw()).unwrap();
        assert_eq!(ttl, -1);
        release(&store, fields("a")).unwrap().unwrap();
    }
}

#[test]
fn a_stock_server_and_this_one_understand_each_other() {
    let server = Server::start(&[]);
    let store = open(&shared(&server)).unwrap();
    let stocks = lock_json(fields("s"), 7);
    set(&server, "pr/acme/infra/s/default/", &stocks);
    assert_eq!(grant(&store, fields("s"), 1).unwrap(), Granted::Held { value: stocks.clone() });
    assert_eq!(values(&store.list(&call()).unwrap()), std::slice::from_ref(&stocks));
    assert_eq!(values(&store.release_by_pull(PullRef { num: 7, ..PULL }, &call()).unwrap()), std::slice::from_ref(&stocks));

    // Stock deletes our lock and takes it: what we remember of our own holder must not mislead.
    let first = take(&store, fields("s"), 1);
    redis::cmd("DEL").arg("pr/acme/infra/s/default/").query::<()>(&mut server.raw()).unwrap();
    assert!(take(&store, fields("s"), 2) > first);
    redis::cmd("DEL").arg("pr/acme/infra/s/default/").query::<()>(&mut server.raw()).unwrap();
    set(&server, "pr/acme/infra/s/default/", &stocks);
    assert_eq!(store.release_by_pull(PullRef { num: 2, ..PULL }, &call()).unwrap().len(), 0);
    assert_eq!(release(&store, fields("s")).unwrap(), Some(stocks));
}

/// Without stock beside it, the indexes answer. They may name what is gone, never miss what is there.
#[test]
fn indexes_are_checked_against_the_locks() {
    let server = Server::start(&[]);
    set(&server, "pr/acme/infra/before/default/", &lock_json(fields("before"), 1));
    let store = open(&settings(&server.address())).unwrap();
    take(&store, fields("a"), 1);
    take(&store, fields("b"), 1);
    redis::cmd("DEL").arg("pr/acme/infra/a/default/").query::<()>(&mut server.raw()).unwrap();
    set(&server, "pr/acme/infra/b/default/", &lock_json(fields("b"), 2));
    assert_eq!(values(&store.list(&call()).unwrap()), [lock_json(fields("b"), 2), lock_json(fields("before"), 1)]);
    // An index entry of a lock that is gone stays for two minutes after it was last asked for, and is then trimmed. The side hash of
    // a lock that a stock server deleted has no end: it gets one.
    let members = |server: &Server| -> Vec<String> {
        redis::cmd("ZRANGE").arg("atlock:locks").arg(0).arg(-1).query(&mut server.raw()).unwrap()
    };
    let ttl = || -> i64 { redis::cmd("PTTL").arg("{pr/acme/infra/a/default/}:atlock").query(&mut server.raw()).unwrap() };
    assert!(members(&server).contains(&"acme/infra/a/default/".to_owned()));
    assert_eq!(ttl(), -1);
    redis::cmd("ZINCRBY")
        .arg("atlock:locks")
        .arg(-121_000_000)
        .arg("acme/infra/a/default/")
        .query::<()>(&mut server.raw())
        .unwrap();
    store.list(&call()).unwrap();
    assert!(!members(&server).contains(&"acme/infra/a/default/".to_owned()));
    assert!((1..=3_600_000).contains(&ttl()), "{}", ttl());

    assert_eq!(values(&store.release_by_pull(PULL, &call()).unwrap()), [lock_json(fields("before"), 1)]);
    let members: Vec<String> = redis::cmd("SMEMBERS").arg("atlock:pull:acme/infra#1").query(&mut server.raw()).unwrap();
    assert_eq!(members, [""; 0], "entries of locks that are gone, or another pull's, are trimmed on reading");
}

#[test]
fn what_is_no_lock_is_told_beside_the_others() {
    let server = Server::start(&[]);
    set(&server, "pr/garbage", b"not JSON");
    set(&server, "pr/acme/other/./default/", &lock_json(fields("elsewhere"), 1));
    set(&server, "product:1", b"another program's");
    redis::cmd("SET").arg(b"pr/\xff/x").arg("{}").query::<()>(&mut server.raw()).unwrap();
    redis::cmd("HSET").arg("pr/hash").arg("a").arg("b").query::<()>(&mut server.raw()).unwrap();
    let store = open(&shared(&server)).unwrap();
    take(&store, fields("a"), 1);
    let listing = store.list(&call()).unwrap();
    assert_eq!(values(&listing), [lock_json(fields("a"), 1)]);
    let reasons: BTreeMap<&str, &str> =
        listing.unreadable().iter().map(|entry| (entry.key.as_str(), entry.reason.as_str())).collect();
    assert_eq!(reasons.len(), 4, "{reasons:?}");
    assert!(reasons["garbage"].contains("not a lock") && reasons["hash"].contains("hash"), "{reasons:?}");
    assert!(reasons["acme/other/./default/"].contains("acme/infra/elsewhere/default/"), "{reasons:?}");
    assert_eq!(store.release_by_pull(PULL, &call()).unwrap().len(), 1);

    // Taken, kept, and only an operator's discard removes it.
    for key in ["garbage", "hash"] {
        let key = LockKey::Project(key);
        let release = Release { key, fields: None, pull_num: None, value: None };
        assert_eq!(store.release(&release, &call()).unwrap_err().code(), Code::EntryUnreadable, "{key}");
    }
    assert_eq!(store.discard(LockKey::Project("garbage"), &call()).unwrap(), Some(b"not JSON".to_vec()));
    assert_eq!(store.get(LockKey::Project("garbage"), &call()).unwrap(), None);
}

#[test]
fn guards_hold_in_the_script() {
    let server = Server::start(&[]);
    let store = open(&settings(&server.address())).unwrap();
    let held = Fields { repo: "o/r", path: "a/b", workspace: "c", project: "" };
    let collides = Fields { repo: "o/r", path: "a", workspace: "b/c", project: "" };
    assert_eq!(held.key(), collides.key());
    take(&store, held, 5);
    let key = held.key();
    let key = LockKey::Project(&key);
    for (wanted, num) in [(Some(collides), None), (None, Some(6)), (Some(held), Some(6)), (Some(collides), Some(5))] {
        assert_eq!(
            store.release(&Release { key, fields: wanted, pull_num: num, value: None }, &call()).unwrap(),
            None,
            "{wanted:?} {num:?}"
        );
    }
    assert!(store.release(&Release { key, fields: Some(held), pull_num: Some(5), value: None }, &call()).unwrap().is_some());
}

#[test]
fn a_pull_is_released_and_no_other() {
    let server = Server::start(&[]);
    for settings in [settings(&server.address()), shared(&server)] {
        let store = open(&settings).unwrap();
        let others = [("a/b2", 1), ("a/b/c", 1), ("a/b", 12), ("a/bc", 1), ("a/[b]", 1), ("a/*", 1)];
        for (repo, num) in others {
            take(&store, Fields { repo, ..fields(".") }, num);
        }
        take(&store, Fields { repo: "a/b", path: "x", ..fields(".") }, 1);
        assert_eq!(store.release_by_pull(PullRef { repo: "a/b", num: 1 }, &call()).unwrap().len(), 1);
        assert_eq!(store.list(&call()).unwrap().len(), others.len());
        for (repo, num) in others {
            assert_eq!(store.release_by_pull(PullRef { repo, num }, &call()).unwrap().len(), 1, "{repo} #{num}");
        }
    }
}

/// `pr/{repo}/{path}/{workspace}` became `pr/{repo}/{path}/{workspace}/{project}` in Atlantis v0.40.
fn old_keys_are_taken_over(settings: &config::Redis, set: &dyn Fn(&str, &[u8]), has: &dyn Fn(&str) -> bool) {
    let nested = lock_json(fields("a/b"), 1);
    set("pr/acme/infra/a/b/default", &nested);
    set("pr/acme/infra/./default", &lock_json(fields("."), 2));
    // Today's key is held by another pull: both stay.
    set("pr/acme/infra/c/default", &lock_json(fields("c"), 3));
    set("pr/acme/infra/c/default/", &lock_json(fields("c"), 4));
    // A move that was cut short: the same lock at both.
    set("pr/acme/infra/d/default", &lock_json(fields("d"), 5));
    set("pr/acme/infra/d/default/", &lock_json(fields("d"), 5));
    set("pr/corrupt/old", b"{");
    for _ in 0..2 {
        let store = open(settings).unwrap();
        assert_eq!(get(&store, fields("a/b")), Some(nested.clone()));
        assert_eq!(get(&store, fields(".")), Some(lock_json(fields("."), 2)));
        assert_eq!(get(&store, fields("c")), Some(lock_json(fields("c"), 4)));
        assert_eq!(store.list(&call()).unwrap().len(), 4);
        assert!(!has("pr/acme/infra/a/b/default") && !has("pr/acme/infra/d/default"));
        assert!(has("pr/acme/infra/c/default"), "a lock is never lost");
    }
    let store = open(settings).unwrap();
    assert_eq!(store.release_by_pull(PULL, &call()).unwrap().len(), 1);
    let listing = open(&config::Redis { shared_with_stock: true, ..settings.clone() }).unwrap().list(&call()).unwrap();
    assert!(
        listing
            .unreadable()
            .iter()
            .any(|entry| entry.key == "acme/infra/c/default" && entry.reason.contains("acme/infra/c/default/"))
    );
}

#[test]
fn old_keys_are_taken_over_on_a_single_server() {
    let server = Server::start(&[]);
    let has = |key: &str| redis::cmd("EXISTS").arg(key).query::<i64>(&mut server.raw()).unwrap() == 1;
    old_keys_are_taken_over(&settings(&server.address()), &|key, value| set(&server, key, value), &has);
}

#[test]
fn old_keys_are_taken_over_on_a_cluster() {
    let cluster = Cluster::start(0);
    let client =
        redis::cluster::ClusterClient::new(cluster.nodes.iter().map(|node| format!("redis://{}", node.address()))).unwrap();
    let connection = std::cell::RefCell::new(client.get_connection().unwrap());
    let put = |key: &str, value: &[u8]| redis::cmd("SET").arg(key).arg(value).query::<()>(&mut *connection.borrow_mut()).unwrap();
    let has = |key: &str| redis::cmd("EXISTS").arg(key).query::<i64>(&mut *connection.borrow_mut()).unwrap() == 1;
    old_keys_are_taken_over(&config::Redis { shared_with_stock: false, ..cluster.settings() }, &put, &has);
}

/// Lua's numbers are doubles: from 2^53 on two pulls would look alike. No lock has such a number; what has one stays as it is.
#[test]
fn pulls_that_a_double_cannot_tell_apart_are_not_mixed_up() {
    const LARGEST: i64 = (1 << 53) - 1;
    let server = Server::start(&[]);
    for settings in [settings(&server.address()), shared(&server)] {
        let store = open(&settings).unwrap();
        let key = fields("huge").key();
        let release = |num| {
            store.release(&Release { key: LockKey::Project(&key), fields: None, pull_num: Some(num), value: None }, &call())
        };
        take(&store, fields("huge"), LARGEST);
        for other in [LARGEST - 1, LARGEST + 1] {
            assert_eq!(store.release_by_pull(PullRef { num: other, ..PULL }, &call()).unwrap().len(), 0);
            assert_eq!(release(other), Ok(None));
        }
        assert!(release(LARGEST).unwrap().is_some());
        take(&store, fields("huge"), LARGEST);
        assert_eq!(store.release_by_pull(PullRef { num: LARGEST, ..PULL }, &call()).unwrap().len(), 1);
        set(&server, &format!("pr/{key}"), &lock_json(fields("huge"), LARGEST + 1));
        assert_eq!(release(LARGEST + 1).unwrap_err().code(), Code::EntryUnreadable);
        assert_eq!(store.release_by_pull(PullRef { num: LARGEST + 1, ..PULL }, &call()).unwrap().len(), 0);
        assert!(get(&store, fields("huge")).is_some());
        redis::cmd("DEL").arg(format!("pr/{key}")).query::<()>(&mut server.raw()).unwrap();
    }
}

/// An index that another program broke must not leave a release half made.
#[test]
fn a_broken_index_does_not_stop_a_release() {
    let server = Server::start(&[]);
    let store = open(&settings(&server.address())).unwrap();
    take(&store, fields("a"), 1);
    redis::cmd("DEL").arg("atlock:pull:acme/infra#1").query::<()>(&mut server.raw()).unwrap();
    set(&server, "atlock:pull:acme/infra#1", b"another program's");
    assert_eq!(release(&store, fields("a")).unwrap(), Some(lock_json(fields("a"), 1)));
    assert_eq!(get(&store, fields("a")), None);
    assert_eq!(store.list(&call()).unwrap().len(), 0);
}
