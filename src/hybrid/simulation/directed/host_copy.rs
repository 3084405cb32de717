//! Atlantis's own store, kept as a copy.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{apply, gone, grant, server_of};
use crate::clock::Clock;
use crate::config::Durability;
use crate::domain::lock::PullRef;
use crate::error::Code;
use crate::hybrid::catch_up;
use crate::hybrid::simulation::disk::{Disks, Trouble};
use crate::hybrid::simulation::schedule::alone;
use crate::hybrid::simulation::values::{REPO, keys_of_repo, value_for};
use crate::hybrid::simulation::world::{Instance, World};
use crate::hybrid::simulation::{Plan, plans};
use crate::store::contract::copy::{CopyStore, HostWrite};
use crate::store::{Grant, Granted, LockKey, Release, Store};

/// A course with one server whose file takes nothing but an empty change, and has refused these locks.
fn full(locks: &'static [&'static str], course: impl FnOnce(Arc<World>, Arc<Instance>) + 'static) {
    let (plan, _) = plans(0)[0];
    let world = World::new(Plan { host: true, ahead: [0, 0], drift: [0, 0], ..plan }, 1, true);
    world.host.heal();
    let for_course = Arc::clone(&world);
    alone(&world, move || {
        let world = for_course;
        world.begin(0);
        let instance = world.instance(0).expect("lives");
        world.tick(0);
        // Longer than what was late before.
        world.clock.sleep(Duration::from_secs(600));
        world.host.is_full.store(true, Ordering::SeqCst);
        for name in locks {
            let lock = Grant { key: LockKey::Command(name), lock: None, value: b"{}", in_order: false };
            assert!(matches!(instance.store.grant(&lock, &world.call()), Ok(Granted::Yes { .. })));
        }
        world.clock.sleep(Duration::from_secs(1));
        assert_eq!(instance.store.report().host_store.map(|report| report.refused), Some(locks.len()));
        course(world, instance);
    });
}

/// The file had no room for a lock, and has room again: the close does not wait for the time of the next try.
#[test]
fn what_a_full_file_refused_is_in_it_after_the_close() {
    full(&["plan"], |world, instance| {
        world.host.is_full.store(false, Ordering::SeqCst);
        assert!(matches!(grant(&world, &instance, b"{}"), Ok(Granted::Yes { .. })));
        instance.store.close().expect("has room");
        assert_eq!(world.host.content().entries, world.entries());
        assert_eq!(world.host.content().entries.get(&apply()), Some(&b"{}".to_vec()));
    });
}

/// A close that leaves locks behind because the file takes none says so.
#[test]
fn the_close_of_a_full_file_is_an_error() {
    full(&["plan", "version"], |_, instance| {
        assert_eq!(instance.store.close().expect_err("has no room").code(), Code::HostStore);
    });
}

/// The file refused a release at a rollback, so strict mode found the lock there, released it and took another: the next start of strict mode,
/// when the file has room, does not write over that one.
#[test]
fn what_strict_mode_decided_stays_when_the_file_takes_what_it_refused() {
    full(&[], |world, instance| {
        world.host.is_full.store(false, Ordering::SeqCst);
        assert!(matches!(grant(&world, &instance, b"{}"), Ok(Granted::Yes { .. })));
        world.clock.sleep(Duration::from_secs(1));
        world.host.is_full.store(true, Ordering::SeqCst);
        let release = Release { key: LockKey::Command("apply"), fields: None, pull_num: None, value: None };
        assert!(instance.store.release(&release, &world.call()).expect("is released").is_some());
        drop(instance);
        world.crash(0);
        let host = world.open_host(0).expect("is there");
        let begin_strict = || {
            let local = Disks::open(&world, 0).expect("opens");
            let lacks = catch_up(&host, &local, &*world.machine(0)).expect("goes on");
            local.close().expect("closes");
            assert_eq!(lacks, Some(Vec::new()), "no lock is lacking");
        };
        begin_strict();
        assert!(host.release(&release, &world.call()).expect("is released").is_some(), "the file has not heard of the release");
        let lock = Grant { key: LockKey::Command("apply"), lock: None, value: br#"{"N":7}"#, in_order: false };
        assert!(matches!(host.grant(&lock, &world.call()), Ok(Granted::Yes { .. })));
        world.host.is_full.store(false, Ordering::SeqCst);
        begin_strict();
        assert_eq!(world.host.content().entries.get(&apply()).map(Vec::as_slice), Some(lock.value));
        world.begin(0);
        let known = world.instance(0).expect("lives").core.known(&apply()).expect("is read");
        assert_eq!(known.value.map(|held| held.value).as_deref(), Some(lock.value), "hybrid mode learns it");
    });
}

/// Redis released a lock, and the local store was too late to write that down.
fn in_doubt(course: impl FnOnce(Arc<World>, Arc<Instance>) + 'static) {
    full(&[], |world, instance| {
        world.host.is_full.store(false, Ordering::SeqCst);
        let key = keys_of_repo()[0].clone();
        let value = value_for(&key, 1);
        let lock = crate::domain::lock::ProjectLock::parse(&value).expect("is a lock");
        let (pull, name) = (lock.pull(), key.lock().expect("is a lock"));
        let granted =
            instance.store.grant(&Grant { key: name, lock: Some(&lock), value: &value, in_order: false }, &world.call());
        assert!(matches!(granted, Ok(Granted::Yes { .. })));
        world.clock.sleep(Duration::from_secs(1));
        assert!(world.host.content().entries.contains_key(&key));
        *world.disks.next.lock() = Some(Trouble::Late(Duration::from_secs(20)));
        let pull = PullRef { repo: REPO, num: pull.num };
        let released = instance.store.release_by_pull(pull, &world.call()).expect("was made");
        assert!(released.incomplete().is_some() && world.value(&key).is_none());
        world.clock.sleep(Duration::from_secs(30));
        course(world, instance);
    });
}

/// A close finds out what is in doubt.
#[test]
fn what_was_in_doubt_is_in_the_file_after_the_close() {
    in_doubt(|world, instance| {
        instance.store.close().expect("finds out");
        assert_eq!(world.host.content().entries, world.entries());
    });
}

/// Or the close names what stays in doubt.
#[test]
fn a_close_says_what_is_in_doubt() {
    in_doubt(|world, instance| {
        world.network.is_up.store(false, Ordering::SeqCst);
        instance.core.begin_fallback(gone());
        instance.core.unsynced.doubt(&keys_of_repo()[0]);
        let error = instance.store.close().expect_err("cannot ask");
        assert!(error.code() == Code::OutcomeUnknown && error.message().contains("a/b/"), "{error}");
    });
}

/// A close says that the file lacks what the local store lacks.
#[test]
fn a_close_says_that_the_local_store_fell_behind() {
    full(&[], |world, instance| {
        world.host.is_full.store(false, Ordering::SeqCst);
        instance.core.arming.fell_behind(&gone());
        assert_eq!(instance.store.close().expect_err("lacks locks").code(), Code::Degraded);
    });
}

/// With `durability: async` a crash took a lock from the local store. A file that is not believed has another at the same key, which is taken
/// over, and released: that says nothing of the lock that Redis has.
#[test]
fn what_is_taken_over_from_a_file_in_doubt_came_after_no_lock_that_is_lacking() {
    let (plan, _) = plans(0)[0];
    server_of(Plan { host: true, durability: Durability::Async, ..plan }, |world, instance| {
        world.host.heal();
        world.clock.sleep(Duration::from_secs(600));
        world.tick(0);
        assert!(matches!(grant(&world, &instance, b"{}"), Ok(Granted::Yes { .. })));
        drop(instance);
        world.crash(0);
        let host = world.open_host(0).expect("is there");
        let write = HostWrite { key: &apply(), value: Some(br#"{"N":7}"#) };
        host.apply(&[write], Some("5 another")).expect("has room");
        world.network.is_up.store(false, Ordering::SeqCst);
        world.clock.advance(Duration::from_secs(1));
        world.host.heal();
        world.begin(0);
        let instance = world.instance(0).expect("lives");
        let release = Release { key: LockKey::Command("apply"), fields: None, pull_num: None, value: None };
        let released = instance.store.release(&release, &world.call()).expect("is known here");
        assert_eq!(released.as_deref(), write.value);
        world.network.is_up.store(true, Ordering::SeqCst);
        for _ in 0..12 {
            world.clock.advance(instance.core.settings.health.interval);
            world.tick(0);
        }
        assert!(!instance.core.in_fallback());
        assert_eq!(world.value(&apply()).as_deref(), Some(&b"{}"[..]));
    });
}
