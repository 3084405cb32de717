//! In which order changes of one lock count, whoever makes them and whenever they arrive: single lines of the scripts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod redis_support;
mod wait;

use std::time::{Duration, Instant};

use atlock::call::{Call, RequestId};
use atlock::domain::token::FencingToken;
use atlock::store::contract::local::{EntryKey, Held};
use atlock::store::contract::shared::{Announced, HighWater, Presence, Put, SharedStore as _};
use atlock::store::{Granted, LockKey, Release, Store as _};
use redis_support::{Server, call, fields, get, grant, lock_json, open, release, settings, take};

const MEMBER: &str = "acme/infra/a/default/";
const SIDE: &str = "{pr/acme/infra/a/default/}:atlock";

/// A holder's token is larger than the one before, also if Redis's clock, or another server's, was ahead of it.
#[test]
fn a_token_is_larger_than_the_one_before() {
    let server = Server::start(&[]);
    let store = open(&settings(&server.address())).unwrap();
    let first = take(&store, fields("a"), 1);
    release(&store, fields("a")).unwrap().unwrap();
    let ahead = first.get() + 3_600_000_000;
    redis::cmd("HSET").arg(SIDE).arg("token").arg(ahead).query::<()>(&mut server.raw()).unwrap();
    assert_eq!(take(&store, fields("a"), 2).get(), ahead + 1);
    release(&store, fields("a")).unwrap().unwrap();
    assert!(matches!(grant(&store, fields("a"), 3).unwrap(), Granted::Yes { token, .. } if token.get() == ahead + 2));
}

/// What was decided without Redis replaces only what was seen there.
#[test]
fn a_put_compares_with_what_was_seen() {
    let server = Server::start(&[]);
    let store = open(&settings(&server.address())).unwrap();
    let key = EntryKey::Project(MEMBER.to_owned());
    let (theirs, ours) = (lock_json(fields("a"), 1), Held { value: lock_json(fields("a"), 2), token: FencingToken::new(7) });
    take(&store, fields("a"), 1);
    for seen in [None, Some(&b"another"[..])] {
        assert_eq!(store.put(&key, seen, Some(&ours), &call()).unwrap(), Put::Changed);
        assert_eq!(store.put(&key, seen, None, &call()).unwrap(), Put::Changed);
        assert_eq!(get(&store, fields("a")), Some(theirs.clone()));
    }
    assert!(matches!(store.put(&key, Some(&theirs), Some(&ours), &call()).unwrap(), Put::Done { .. }));
    assert_eq!(get(&store, fields("a")), Some(ours.value));
}

/// A retry was refused, and its caller told so. An attempt before it that arrives later releases nobody's lock.
#[test]
fn an_attempt_before_a_refused_retry_does_nothing_later() {
    let server = Server::start(&[]);
    let store = open(&settings(&server.address())).unwrap();
    let soon = || Instant::now() + Duration::from_secs(5);
    let asked = RequestId::from_text("asked-once");
    let mut retry = Call::new(asked.clone(), soon());
    retry.lost_since = Some(Instant::now());
    let all = Release { key: LockKey::Project(MEMBER), fields: None, pull_num: None, value: None };
    assert_eq!(store.release(&all, &retry), Ok(None));
    take(&store, fields("a"), 1);
    assert_eq!(store.release(&all, &Call::new(asked, soon())), Ok(None));
    assert_eq!(get(&store, fields("a")), Some(lock_json(fields("a"), 1)));
}

/// What a server says that Redis had is believed only with the announcement that belongs to it.
#[test]
fn a_mark_needs_its_announcement() {
    let server = Server::start(&[]);
    let store = open(&settings(&server.address())).unwrap();
    let announce = |presence| -> Announced { store.announce("i", Duration::from_secs(60), presence, 0, &call()).unwrap() };
    let first = announce(Presence::Here);
    assert_eq!((first.before, first.agreed, first.repeated), (0, 0, false));
    assert_eq!(first.replication_id.len(), 40, "{first:?}");
    let agreed = |seen: &Announced| Presence::Agreed(HighWater { at: seen.now, replication_id: seen.replication_id.clone() });
    let second = announce(agreed(&first));
    assert_eq!((second.before, second.agreed), (first.now, 0));
    assert_eq!(announce(Presence::Here).agreed, first.now);
    // It has lost what was announced since the first time.
    let old = format!("{} {}", first.now, first.now);
    redis::cmd("HSET").arg("atlock:instances").arg("i").arg(old).query::<()>(&mut server.raw()).unwrap();
    let after = announce(agreed(&second));
    assert_eq!((after.before, after.agreed), (first.now, first.now));
    assert_eq!(announce(Presence::Leaves).agreed, first.now, "the later mark was not believed");
    // One of an earlier version has no mark.
    redis::cmd("HSET").arg("atlock:instances").arg("i").arg("17").query::<()>(&mut server.raw()).unwrap();
    assert_eq!((announce(Presence::Here).before, announce(Presence::Here).agreed), (17, 0));
    assert!(store.clock_micros().abs_diff(announce(Presence::Here).now) < 5_000_000);
}

/// And only with the replication ID that Redis had then: it has another one after a start, though it remembers all, and after it was a replica.
#[test]
fn a_mark_needs_the_redis_in_which_it_was_seen() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = open(&settings(&server.address())).unwrap();
    let announce = |presence| -> Announced { store.announce("i", Duration::from_secs(60), presence, 0, &call()).unwrap() };
    let agreed = |seen: &Announced| Presence::Agreed(HighWater { at: seen.now, replication_id: seen.replication_id.clone() });
    let first = announce(Presence::Here);
    server.restart();
    let second = announce(agreed(&first));
    assert_eq!(second.before, first.now, "it remembers the announcement");
    assert_ne!(second.replication_id, first.replication_id);
    assert_eq!(announce(Presence::Here).agreed, 0, "it may have gone back to any moment after that");
    assert_eq!(announce(agreed(&second)).replication_id, second.replication_id);
    assert_eq!(announce(Presence::Here).agreed, second.now);
    let replica_of = |host: &str, port: &str| redis::cmd("REPLICAOF").arg(host).arg(port).query::<()>(&mut server.raw()).unwrap();
    replica_of("127.0.0.1", "1");
    replica_of("NO", "ONE");
    assert_ne!(announce(Presence::Here).replication_id, second.replication_id);
}
