//! The real store over the simulated server, and the server alone.

mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::Value;

use self::world::{Fate, World};
use super::super::{Link, RedisStore, Undelivered};
use super::SimulatedRedis;
use crate::call::{Call, RequestId};
use crate::clock::Clock;
use crate::config;
use crate::domain::lock::{ProjectLock, PullRef};
use crate::domain::token::FencingToken;
use crate::error::Code;
use crate::store::contract::local::{EntryKey, Held};
use crate::store::contract::shared::{Presence, Put, SharedStore as _};
use crate::store::{Expected, Grant, Granted, LockKey, Release, Store as _, Swap};

fn words(text: &str) -> Vec<Vec<u8>> {
    text.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

fn json(path: &str, num: i64) -> Vec<u8> {
    let text =
        format!(r#"{{"Project":{{"RepoFullName":"acme/infra","Path":"{path}"}},"Workspace":"default","Pull":{{"Num":{num}}}}}"#);
    text.into_bytes()
}

fn key(path: &str) -> String {
    ProjectLock::parse(&json(path, 1)).expect("is a lock").fields().key()
}

fn grant(store: &RedisStore, path: &str, num: i64, call: &Call) -> crate::error::Result<Granted> {
    let value = json(path, num);
    let lock = ProjectLock::parse(&value).ok();
    store.grant(&Grant { key: LockKey::Project(&key(path)), lock: lock.as_ref(), value: &value, in_order: false }, call)
}

fn release(store: &RedisStore, path: &str, call: &Call) -> crate::error::Result<Option<Vec<u8>>> {
    store.release(&Release { key: LockKey::Project(&key(path)), fields: None, pull_num: None, value: None }, call)
}

#[test]
fn the_real_store_works_over_a_perfect_link() {
    let world = World::new();
    let store = world.store();
    assert_eq!(store.warnings(), Vec::<String>::new());
    for (path, num) in [("a", 1), ("b", 1), ("c", 2)] {
        assert!(matches!(grant(&store, path, num, &world.call(path)), Ok(Granted::Yes { .. })));
    }
    assert_eq!(grant(&store, "a", 2, &world.call("other")), Ok(Granted::Held { value: json("a", 1) }));
    let remote = store.remote(&EntryKey::Project(key("a")), &world.call("look")).expect("looks");
    assert_eq!((remote.value, remote.holder.as_str()), (Some(json("a", 1)), "here"));
    assert_eq!(release(&store, "a", &world.call("gives-back")), Ok(Some(json("a", 1))));
    assert_eq!(release(&store, "a", &world.call("again")), Ok(None));
    // A stock server's lock is in no index.
    world.execute(&[b"SET".to_vec(), format!("pr/{}", key("d")).into_bytes(), json("d", 1)]);
    let released = store.release_by_pull(PullRef { repo: "acme/infra", num: 1 }, &world.call("pull")).expect("releases");
    assert_eq!(released.len(), 2);
    assert_eq!(store.snapshot(false, &world.call("all")), Ok(vec![(EntryKey::Project(key("c")), json("c", 2))]));
    assert_eq!(store.discard(LockKey::Project(&key("c")), &world.call("away")), Ok(Some(json("c", 2))));
    let held = Held { value: json("c", 3), token: FencingToken::new(7) };
    let put = store.put(&EntryKey::Project(key("c")), None, Some(&held), &world.call("put"));
    assert!(matches!(put, Ok(Put::Done { token }) if token > FencingToken::new(7)));
    assert_eq!(store.put(&EntryKey::Project(key("c")), None, None, &world.call("late")), Ok(Put::Changed));
    let swap = |expected, new| store.swap_pull_status("h::r::1", expected, new, &world.call("status"));
    assert_eq!(swap(Expected::Absent, Some(br#"{"Pull":{}}"#)), Ok(Swap::Done));
    assert_eq!(swap(Expected::Absent, Some(b"2")), Ok(Swap::Conflict(Some(br#"{"Pull":{}}"#.to_vec()))));
    let lease = Duration::from_secs(60);
    let first = store.announce("here", lease, Presence::Here, 0, &world.call("here")).expect("announces");
    let second = store.announce("there", lease, Presence::Here, 0, &world.call("there")).expect("announces");
    assert_eq!((first.before, second.others), (0, vec!["here".to_owned()]));
    assert_eq!(store.list(&world.call("list")).map(|listing| listing.len()), Ok(1));
}

#[test]
fn a_lost_reply_is_answered_by_its_first_answer() {
    let world = World::new();
    let store = world.store();
    world.next(&[Fate::ReplyLost]);
    let Ok(Granted::Yes { token, .. }) = grant(&store, "a", 1, &world.call("one")) else { panic!("is free") };
    assert!(world.fates.lock().is_empty());
    let remote = store.remote(&EntryKey::Project(key("a")), &world.call("look")).expect("looks");
    assert_eq!((remote.token, remote.value), (token, Some(json("a", 1))), "granted once");
    world.next(&[Fate::ReplyLost, Fate::ReplyLost]);
    assert_eq!(release(&store, "a", &world.call("two")), Ok(Some(json("a", 1))));
}

#[test]
fn a_retry_that_was_forgotten_is_told_from_one_that_never_arrived() {
    let world = World::new();
    let store = world.store();
    for round in 0..8 {
        assert!(matches!(grant(&store, "a", 1, &world.call(&format!("{round:032}"))), Ok(Granted::Yes { .. })));
        assert_eq!(release(&store, "a", &world.call(&format!("{round:032}-back"))), Ok(Some(json("a", 1))));
    }
    // What is remembered reaches back to before this was first sent.
    world.next(&[Fate::Refused]);
    assert!(matches!(grant(&store, "a", 1, &world.call("new")), Ok(Granted::Yes { .. })));
    let mut old = world.call("old");
    old.lost_since = Some(world.clock.base);
    assert_eq!(release(&store, "a", &old).map_err(|e| e.code()), Err(Code::OutcomeUnknown));
}

/// A list is whole or refused, by the index and by the look at all keys; a lock that is listed does not count again.
#[test]
fn a_list_of_too_many_bytes_is_refused_and_never_cut() {
    let world = World::new();
    let mut store = world.store();
    let paths = ["a", "b", "c"];
    for (path, num) in paths.iter().zip(1..) {
        assert!(matches!(grant(&store, path, num, &world.call(path)), Ok(Granted::Yes { .. })));
    }
    let size = |path: &&str| key(path).len() + json(path, 1).len();
    store.most_listed = paths.iter().map(size).sum();
    for shared_with_stock in [true, false] {
        store.shared_with_stock = shared_with_stock;
        assert_eq!(store.list(&world.call("lists")).expect("lists").len(), 3);
    }
    store.most_listed -= 1;
    for shared_with_stock in [true, false] {
        store.shared_with_stock = shared_with_stock;
        let refused = store.list(&world.call("lists")).expect_err("is refused");
        assert_eq!(refused.code(), Code::TooLarge, "{refused}");
        assert!(refused.message().contains("pr/"), "{refused}");
    }
    // What is no lock is held to the same.
    world.execute(&[b"SET".to_vec(), b"pr/x".to_vec(), b"no lock".to_vec()]);
    store.most_listed += 1;
    assert_eq!(store.list(&world.call("lists")).map(drop).map_err(|e| e.code()), Ok(()));
    store.shared_with_stock = true;
    assert_eq!(store.list(&world.call("lists")).map(drop).map_err(|e| e.code()), Err(Code::TooLarge));
    // Nothing else is any the worse.
    assert_eq!(release(&store, "a", &world.call("gives-back")), Ok(Some(json("a", 1))));
    assert!(matches!(grant(&store, "a", 4, &world.call("takes")), Ok(Granted::Yes { .. })));
}

/// Eight changes of a lock that is free before and after them: as many as the server remembers.
fn changes_hands(store: &RedisStore, world: &World, round: u32) {
    for nth in 0..4 {
        let id = |what| format!("{what}{round:015}{nth:016}");
        assert!(matches!(grant(store, "a", 2, &world.call(&id("t"))), Ok(Granted::Yes { .. })));
        assert_eq!(release(store, "a", &world.call(&id("r"))), Ok(Some(json("a", 2))));
    }
}

/// What was held back arrives: nothing is done.
fn arrives_and_does_nothing(world: &World) {
    let late = world.stuck.lock().pop().expect("is on its way");
    let before = world.server.image();
    let answer = world.execute(&late);
    assert!(matches!(&answer, Value::Array(parts) if parts[0] == Value::BulkString(b"UNKNOWN".to_vec())), "{answer:?}");
    assert_eq!(world.server.image(), before);
}

/// A first attempt that is long on its way, while a retry is answered and more changes come than the server remembers: its caller has
/// an answer, and the lock is somebody else's.
#[test]
fn a_first_attempt_that_comes_after_its_retry_was_forgotten_does_nothing() {
    let world = World::new();
    let store = world.store();
    world.next(&[Fate::HeldBack]);
    assert!(matches!(grant(&store, "a", 1, &world.call("taken")), Ok(Granted::Yes { .. })));
    assert_eq!(release(&store, "a", &world.call("given-back")), Ok(Some(json("a", 1))));
    changes_hands(&store, &world, 1);
    arrives_and_does_nothing(&world);
    assert!(matches!(grant(&store, "a", 1, &world.call("again")), Ok(Granted::Yes { .. })));
    world.next(&[Fate::HeldBack]);
    assert_eq!(release(&store, "a", &world.call("released")), Ok(Some(json("a", 1))));
    changes_hands(&store, &world, 2);
    assert!(matches!(grant(&store, "a", 3, &world.call("another")), Ok(Granted::Yes { .. })));
    arrives_and_does_nothing(&world);
    assert_eq!(store.get(LockKey::Project(&key("a")), &world.call("look")), Ok(Some(json("a", 3))));
}

/// A first attempt looks older than it is where the server's clock was taken for earlier than it is: it is sent once more.
#[test]
fn a_first_attempt_of_a_late_clock_goes_well_at_the_second_try() {
    let world = World::new();
    let store = world.store();
    changes_hands(&store, &world, 1);
    // Nobody tells the store, until all that is remembered seems to be later than what is sent.
    world.ahead.store(100_000, Ordering::SeqCst);
    changes_hands(&store, &world, 2);
    let sent = world.sent.load(Ordering::SeqCst);
    assert!(matches!(grant(&store, "a", 1, &world.call("one")), Ok(Granted::Yes { .. })));
    assert_eq!(world.sent.load(Ordering::SeqCst), sent + 2);
}

#[test]
fn who_has_a_connection_does_not_know_what_became_of_it_and_who_has_none_does() {
    let world = World::new();
    let store = world.store();
    let answer = |store: &RedisStore, name| {
        let before = world.clock.unix_micros();
        let answer = release(store, "a", &world.call(name)).map_err(|e| e.code());
        (answer, world.clock.unix_micros() - before)
    };
    world.next(&[Fate::Refused; 100]);
    let (first, time) = answer(&store, "one");
    assert_eq!(first, Err(Code::OutcomeUnknown), "the open connection broke, and nobody could be asked");
    assert!(time > 700_000, "it was tried again until the deadline: {time}");
    let (second, time) = answer(&store, "two");
    assert_eq!(second, Err(Code::Unreachable), "nothing was sent");
    assert!(time < 1_000, "it is told at once: {time}");
    world.next(&[]);
    assert_eq!(answer(&store, "three").0, Ok(None));
    world.next(&[Fate::Stuck; 100]);
    let (hung, time) = answer(&store, "four");
    assert_eq!((hung, time), (Err(Code::OutcomeUnknown), 1_000_000), "a server that hangs costs the deadline");
    let (at_login, time) = answer(&store, "five");
    assert_eq!((at_login, time), (Err(Code::Unreachable), 300_000), "a log-in has its own");
}

#[test]
fn a_late_command_does_not_act() {
    let world = World::new();
    let store = world.store();
    grant(&store, "a", 1, &world.call("one")).expect("is free");
    world.next(&[Fate::Stuck]);
    let stuck = release(&store, "a", &world.call("two")).expect_err("nothing comes");
    assert_eq!(stuck.code(), Code::OutcomeUnknown);
    world.clock.sleep(Duration::from_millis(1));
    let late = world.stuck.lock().pop().expect("is on its way");
    let answer = world.execute(&late);
    assert!(matches!(&answer, Value::Array(parts) if parts[0] == Value::BulkString(b"LATE".to_vec())), "{answer:?}");
    assert_eq!(store.get(LockKey::Project(&key("a")), &world.call("look")), Ok(Some(json("a", 1))));
}

#[test]
fn a_new_connection_learns_the_servers_clock() {
    let world = World::new();
    let store = world.store();
    let error = |store: &RedisStore| store.clock_micros().abs_diff(world.clock.unix_micros());
    assert!(error(&store) < 1_000, "{}", error(&store));
    world.ahead.store(3_600_000_000, Ordering::SeqCst);
    assert!(error(&store) < 1_000, "nobody told it");
    world.next(&[Fate::ReplyLost]);
    let call = world.call("one");
    assert!(matches!(grant(&store, "a", 1, &call), Ok(Granted::Yes { .. })));
    assert!(error(&store).abs_diff(3_600_000_000) < 1_000, "{}", error(&store));
}

#[test]
fn an_image_brings_data_back_and_a_restart_forgets_scripts() {
    let world = World::new();
    let store = world.store();
    grant(&store, "a", 1, &world.call("one")).expect("is free");
    let image = world.server.image();
    release(&store, "a", &world.call("two")).expect("is released");
    assert_ne!(world.server.image(), image);
    world.server.restore(&image);
    assert_eq!(world.server.value(format!("pr/{}", key("a")).as_bytes()), Some(json("a", 1)));
    world.server.restart();
    let unknown = world.execute(&words("EVALSHA 0123456789012345678901234567890123456789 0"));
    assert!(matches!(unknown, Value::ServerError(error) if error.code() == "NOSCRIPT"));
    release(&store, "a", &world.call("three")).expect("is sent whole");
    assert!(world.server.evict(b"atlock:locks") || !world.server.keys().contains(&b"atlock:locks".to_vec()));
}

#[test]
fn a_key_ends_when_its_time_is_over() {
    let server = SimulatedRedis::default();
    let at = |text: &str, millis: u64| server.execute(&words(text), 1000 * millis);
    assert_eq!(at("SET k v PX 10", 100), Value::Okay);
    assert_eq!(at("PTTL k", 109), Value::Int(1));
    assert_eq!(at("GET k", 110), Value::BulkString(b"v".to_vec()));
    assert_eq!(at("GET k", 111), Value::Nil);
    assert!(server.contents().is_empty());
}

/// Not a test of speed: `cargo test --release --lib script_runs -- --ignored --nocapture` tells the rate.
#[test]
#[ignore = "a measurement"]
fn script_runs_in_a_second() {
    let world = World::new();
    let store = world.store();
    let (start, before) = (Instant::now(), world.sent.load(Ordering::SeqCst));
    for round in 0..20_000 {
        let path = ["a", "b", "c"][round % 3];
        grant(&store, path, 1, &world.call(&format!("take-{round}"))).expect("is free");
        release(&store, path, &world.call(&format!("give-{round}"))).expect("is released");
    }
    let runs = world.sent.load(Ordering::SeqCst) - before;
    let rate = runs as f64 / start.elapsed().as_secs_f64();
    std::io::Write::write_fmt(&mut std::io::stderr(), format_args!("{runs} script runs, {rate:.0} in a second\n"))
        .expect("is told");
}
