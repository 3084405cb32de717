//! Another server takes and releases locks in the same Redis.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{
    apply, assert_stays_released_though_redis_forgets_it, gone, grant, one_server, other_releases, other_takes, server_of,
};
use crate::clock::Clock;
use crate::config::{Durability, Instances};
use crate::domain::lock::{ProjectLock, PullRef};
use crate::error::Code;
use crate::hybrid::simulation::disk::Trouble;
use crate::hybrid::simulation::schedule::alone;
use crate::hybrid::simulation::show::command_text;
use crate::hybrid::simulation::values::value_for;
use crate::hybrid::simulation::world::World;
use crate::hybrid::simulation::{PATIENCE, Plan, plans};
use crate::store::contract::local::{Change, EntryKey, Held};
use crate::store::contract::shared::{Presence, SharedStore};
use crate::store::{Grant, Granted, LockKey, Store};
use crate::sync::tasks::give_way;
use crate::sync::{Mutex, spawn};

/// A grant finds that another server released the lock, and then fails: what is undone is the grant, not that release.
#[test]
fn what_somebody_else_released_is_not_brought_back_by_an_undo() {
    let (plan, _) = plans(0)[0];
    server_of(Plan { fallback: false, ..plan }, |world, instance| {
        assert!(matches!(grant(&world, &instance, b"{}"), Ok(Granted::Yes { .. })));
        other_releases(&world, "other", &apply());
        // So that Redis knows the script.
        world.other_server("other").remote(&apply(), &world.call()).expect("is answered");
        let (weak, core) = (Arc::downgrade(&world), Arc::clone(&instance.core));
        *world.network.after_command.lock() = Some(Box::new(move |command| {
            let is_look = command_text(command).starts_with("READ");
            if is_look {
                // Redis goes away, and the connection that was open is known to be broken.
                let world = weak.upgrade().expect("goes on");
                world.network.is_up.store(false, Ordering::SeqCst);
                let soon = world.clock.now() + Duration::from_millis(1);
                core.redis.current().expect("is there").ping(&core.redis.step_until(soon)).expect_err("Redis is away");
            }
            is_look
        }));
        assert_eq!(grant(&world, &instance, b"{}").expect_err("Redis is away").code(), Code::Degraded);
        assert_eq!(instance.core.known(&apply()).expect("is read").value, None);
    });
}

/// With `async`, a lock that is held is told as such though the disk fails.
#[test]
fn a_refusal_does_not_need_the_disk_with_async() {
    one_server(Durability::Async, |world, instance| {
        other_takes(&world, "other", &apply(), b"1", world.clock.unix_micros());
        *world.disks.next.lock() = Some(Trouble::Fails(ErrorKind::Other, 0));
        assert!(instance.core.local.write(vec![Change::CopyBegins], world.clock.now() + PATIENCE).is_err());
        assert!(matches!(grant(&world, &instance, b"{}"), Ok(Granted::Held { .. })));
    });
}

/// With `async`, what Redis does not have was never acknowledged: an intent from before a crash is not carried on. It may be that of a lock that was
/// refused, which a disk that failed did not learn of.
#[test]
fn an_intent_of_async_is_not_carried_on_after_a_crash() {
    for (durability, is_carried_on) in [(Durability::Async, false), (Durability::Sync, true)] {
        one_server(durability, move |world, instance| {
            let intended = Held { value: b"{}".to_vec(), token: instance.core.redis.next_token() };
            let deadline = world.clock.now() + PATIENCE;
            instance.core.local.write(vec![Change::Intend(apply(), Some(intended))], deadline).expect("is written");
            drop(instance);
            world.crash(0);
            world.begin(0);
            assert!(!world.instance(0).expect("lives").core.in_fallback());
            assert_eq!(world.value(&apply()).is_some(), is_carried_on);
        });
    }
}

/// Runs something once, when Redis has executed a command and has this key then, or has it no more, before the answer is there.
fn once_redis_has(world: &Arc<World>, key: EntryKey, is_there: bool, then: impl FnOnce() + Send + 'static) {
    let (weak, mut then) = (Arc::downgrade(world), Some(then));
    *world.network.after_command.lock() = Some(Box::new(move |_| {
        let world = weak.upgrade().expect("goes on");
        if world.value(&key).is_some() == is_there
            && let Some(then) = then.take()
        {
            then();
        }
        then.is_none()
    }));
}

/// Another server takes a lock while a recovery puts back what was decided here: the recovery looks again before it ends.
#[test]
fn a_recovery_learns_of_a_lock_that_was_taken_during_it() {
    one_server(Durability::Sync, |world, instance| {
        instance.core.begin_fallback(gone());
        assert!(matches!(grant(&world, &instance, b"{}"), Ok(Granted::Yes { .. })));
        let others = EntryKey::Command("plan".to_owned());
        let (weak, key) = (Arc::downgrade(&world), others.clone());
        let takes = move || {
            let world = weak.upgrade().expect("goes on");
            other_takes(&world, "other", &key, b"other", world.clock.unix_micros());
        };
        once_redis_has(&world, apply(), true, takes);
        world.clock.advance(Duration::from_secs(2));
        (0..4).for_each(|_| world.tick(0));
        assert!(!instance.core.in_fallback());
        assert_eq!(instance.core.known(&others).expect("is read").value.map(|held| held.value), Some(b"other".to_vec()));
        assert!(instance.core.arming.unarmed().is_some(), "another server uses this Redis");
    });
}

/// Redis had a lock that was seen there, and says so without a comparison of all keys: what became of the lock since is not a loss.
#[test]
fn a_lock_that_was_seen_in_redis_is_not_put_back_once_it_was_released() {
    one_server(Durability::Sync, |world, instance| {
        other_takes(&world, "other", &apply(), b"other", world.clock.unix_micros());
        assert!(matches!(grant(&world, &instance, b"{}"), Ok(Granted::Held { .. })));
        // A token is the time of a question; its answer may have taken this long.
        world.clock.advance(instance.core.redis.timeout);
        for _ in 0..3 {
            world.clock.advance(instance.core.settings.health.interval);
            world.tick(0);
        }
        drop(instance);
        assert_stays_released_though_redis_forgets_it(&world, "its release");
    });
}

/// While a release by pull is made, another pull takes one of the locks, of which the local store did not know: it knows that then.
#[test]
fn whoever_takes_a_lock_during_a_release_by_pull_keeps_it() {
    one_server(Durability::Sync, |world, instance| {
        let key = EntryKey::Project("a/b/x/default/".to_owned());
        let [first, second] = [1, 2].map(|num| {
            let json = serde_json::json!({
                "Project": {"RepoFullName": "a/b", "Path": "x", "ProjectName": ""}, "Workspace": "default", "Pull": {"Num": num},
            });
            json.to_string().into_bytes()
        });
        // Another server took it.
        other_takes(&world, "other", &key, &first, world.clock.unix_micros());
        let (for_taker, weak, value) = (Arc::clone(&instance), Arc::downgrade(&world), second.clone());
        let taken = Arc::new(Mutex::new(None));
        let took = Arc::clone(&taken);
        once_redis_has(&world, key.clone(), false, move || {
            let taking = spawn("takes", move || {
                let world = weak.upgrade().expect("goes on");
                let lock = ProjectLock::parse(&value).expect("is one");
                let grant = Grant { key: LockKey::Project("a/b/x/default/"), lock: Some(&lock), value: &value, in_order: false };
                for_taker.store.grant(&grant, &world.call())
            });
            *took.lock() = Some(taking.expect("starts"));
            // It is to come in between, if that is possible.
            (0..100).for_each(|_| give_way());
        });
        let released = instance.store.release_by_pull(PullRef { repo: "a/b", num: 1 }, &world.call()).expect("is released");
        assert_eq!(released.values().collect::<Vec<_>>(), [&first[..]]);
        let taking = taken.lock().take().expect("has started");
        let taken = taking.join().expect("ends").expect("is answered");
        assert!(matches!(taken, Granted::Yes { .. }), "{taken:?}");
        assert_eq!(world.value(&key).as_ref(), Some(&second));
        assert_eq!(instance.core.known(&key).expect("is read").value.map(|held| held.value), Some(second));
    });
}

/// A data folder that was copied to a second server: both announce themselves by one name.
#[test]
fn a_copy_of_the_data_folder_is_noticed() {
    one_server(Durability::Sync, |world, instance| {
        world.clock.advance(instance.core.settings.health.interval * 2);
        let name = instance.core.arming.server_name();
        world.other_server("copy").announce(&name, PATIENCE, Presence::Here, 0, &world.call()).expect("is announced");
        world.clock.advance(instance.core.settings.health.interval * 2);
        world.tick(0);
        let why = instance.core.arming.unarmed().expect("another has its name");
        assert!(why.contains("copy"), "{why}");
    });
}

/// A server that has never asked Redis does not know by which clock the pull holds what: what was taken since must not be released.
#[test]
fn a_server_that_never_asked_redis_promises_no_release_by_pull() {
    let (plan, _) = plans(0)[0];
    let world =
        World::new(Plan { instances: Instances::Many, ahead: [40_000_000, 0], drift: [0, 0], preempts: 0, ..plan }, 1, true);
    let for_course = Arc::clone(&world);
    alone(&world, move || {
        let world = for_course;
        world.network.is_up.store(false, Ordering::SeqCst);
        world.begin(0);
        let instance = world.instance(0).expect("lives");
        let error = instance.store.release_by_pull(PullRef { repo: "a/b", num: 1 }, &world.call()).expect_err("is not known");
        assert!(error.code() == Code::Degraded && error.message().contains("has never asked this Redis"), "{error}");
        let key = EntryKey::Project("a/b/x/default/".to_owned());
        let lock = value_for(&key, 2);
        other_takes(&world, "other", &key, &lock, world.clock.unix_micros());
        world.network.is_up.store(true, Ordering::SeqCst);
        for _ in 0..20 {
            world.clock.advance(Duration::from_secs(1));
            world.tick(0);
        }
        assert!(!instance.core.in_fallback());
        assert_eq!(world.value(&key), Some(lock));
    });
}
