//! What the seeds found: the shortest course of events to each fault, so that a run without many seeds sees it, too.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use parking_lot::Mutex;

use super::{apply, gone, grant, one_server, other_releases, other_takes, restart, server_of};
use crate::clock::Clock;
use crate::config::Durability;
use crate::domain::lock::{ProjectLock, PullRef};
use crate::domain::token::FencingToken;
use crate::error::{Code, Error};
use crate::hybrid::simulation::disk::Trouble;
use crate::hybrid::simulation::show::command_text;
use crate::hybrid::simulation::values::{REPO, keys_of_repo, value_for};
use crate::hybrid::simulation::world::{Instance, World};
use crate::hybrid::simulation::{PATIENCE, plans};
use crate::store::contract::shared::SharedStore;
use crate::store::redis::simulated::Image;
use crate::store::{Grant, Granted, LockKey, Release, Store};
use crate::sync::spawn;
use crate::sync::tasks::give_way;

/// What a release by pull reaches, once Redis is back, is told by tokens: those of after a restart are larger, also if the clock was set
/// back meanwhile.
#[test]
fn tokens_of_after_a_restart_are_larger_than_a_release_by_pull_whatever_the_clock() {
    one_server(Durability::Sync, |world, instance| {
        world.network.is_up.store(false, Ordering::SeqCst);
        instance.core.begin_fallback(gone());
        // Redis may have locks of the pull that nobody knows here.
        instance.core.arming.fell_behind(&Error::new(Code::Timeout, "slow"));
        let pull = PullRef { repo: REPO, num: 1 };
        assert_eq!(instance.store.release_by_pull(pull, &world.call()).expect("is decided here").len(), 0);
        drop(instance);
        world.crash(0);
        world.machine(0).set(-40_000_000);
        world.begin(0);
        let core = &world.instance(0).expect("lives").core;
        let releases = core.local.store().pull_releases().expect("are read");
        let up_to = releases.first().expect("is remembered").up_to;
        assert!(core.redis.next_token() > up_to);
    });
}

/// The clock was set back, so that tokens go on from the last one. A crash keeps one from the disk: that one is not given once more.
#[test]
fn a_token_that_a_crash_kept_from_the_disk_is_not_given_again() {
    one_server(Durability::Sync, |world, instance| {
        instance.core.redis.token_was_given(FencingToken::new(world.clock.unix_micros() + 40_000_000));
        assert!(matches!(grant(&world, &instance, b"{}"), Ok(Granted::Yes { .. })));
        let release = Release { key: LockKey::Command("apply"), fields: None, pull_num: None, value: None };
        assert!(instance.store.release(&release, &world.call()).expect("is released").is_some());
        let lost = instance.core.redis.next_token();
        drop(instance);
        world.network.is_up.store(false, Ordering::SeqCst);
        let instance = restart(&world);
        let Ok(Granted::Yes { token, .. }) = grant(&world, &instance, b"{}") else { panic!("is not granted") };
        assert!(token > lost);
    });
}

/// Redis has a grant of which a crash kept everything from the disk, and after the next start nobody sees Redis: the same token would be given to
/// another lock here, and Redis's would count as a stock server's.
#[test]
fn a_token_is_not_given_again_after_one_crash_behind_another() {
    one_server(Durability::Sync, |world, instance| {
        instance.core.redis.token_was_given(FencingToken::new(world.clock.unix_micros() + 40_000_000));
        assert!(matches!(grant(&world, &instance, b"{}"), Ok(Granted::Yes { .. })));
        drop(instance);
        let first = restart(&world).core.redis.next_token();
        world.network.is_up.store(false, Ordering::SeqCst);
        assert!(restart(&world).core.redis.next_token() > first);
    });
}

/// Redis is away for more than a day and comes back as it was before a release: the lock stays released.
#[test]
fn a_release_is_remembered_however_long_redis_is_away() {
    one_server(Durability::Sync, |world, instance| {
        assert!(matches!(grant(&world, &instance, b"{}"), Ok(Granted::Yes { .. })));
        let image = world.redis.image();
        let release = Release { key: LockKey::Command("apply"), fields: None, pull_num: None, value: None };
        assert!(instance.store.release(&release, &world.call()).expect("is released").is_some());
        world.network.is_up.store(false, Ordering::SeqCst);
        instance.core.begin_fallback(gone());
        for _ in 0..3 {
            world.clock.advance(Duration::from_secs(10 * 3600));
            world.tick(0);
        }
        world.redis.restore(&image);
        world.network.is_up.store(true, Ordering::SeqCst);
        (0..8).for_each(|_| {
            world.clock.advance(Duration::from_secs(1));
            world.tick(0);
        });
        assert!(!instance.core.in_fallback());
        assert_eq!(world.value(&apply()), None);
        assert_eq!(instance.core.known(&apply()).expect("is read").value, None);
    });
}

/// Redis has lost a lock that is about to be released: as long as that may fail, a release by pull does not say that the pull holds nothing.
#[test]
fn a_release_by_pull_waits_for_whoever_releases_one_of_its_locks() {
    let (plan, _) = plans(0)[3];
    assert!(!plan.fallback);
    server_of(plan, |world, instance| {
        let key = keys_of_repo()[0].clone();
        // An even number is of pull 1.
        let value = value_for(&key, 2);
        let lock = ProjectLock::parse(&value).expect("is a lock");
        let grant = Grant { key: key.lock().expect("is a lock"), lock: Some(&lock), value: &value, in_order: false };
        assert!(matches!(instance.store.grant(&grant, &world.call()), Ok(Granted::Yes { .. })));
        world.redis.restore(&Image::default());
        let by_pull = Arc::new(Mutex::new(None));
        let (weak, for_pull, answer) = (Arc::downgrade(&world), Arc::clone(&instance), Arc::clone(&by_pull));
        *world.network.after_command.lock() = Some(Box::new(move |command| {
            let is_release = command_text(command).starts_with("RELEASE");
            if is_release {
                let world = weak.upgrade().expect("goes on");
                let (store, for_answer, call) = (Arc::clone(&for_pull), Arc::clone(&answer), world.call());
                let release = move || {
                    let answer = store.store.release_by_pull(PullRef { repo: REPO, num: 1 }, &call);
                    *for_answer.lock() = Some(answer);
                };
                drop(spawn("by pull", release).expect("starts"));
                // It has looked, and waits or has ended.
                (0..1000).for_each(|_| give_way());
                world.network.is_up.store(false, Ordering::SeqCst);
            }
            is_release
        }));
        let release = Release { key: grant.key, fields: None, pull_num: None, value: None };
        assert_eq!(instance.store.release(&release, &world.call()).expect_err("nobody decides").code(), Code::Degraded);
        assert!(instance.core.known(&key).expect("is read").value.is_some());
        world.clock.sleep(Duration::from_secs(10));
        let by_pull = by_pull.lock().take().expect("has ended");
        assert_eq!(by_pull.expect_err("nobody decides").code(), Code::Degraded);
    });
}

/// A Redis that hangs may be met by a new connection first: that is as late as a question without an answer.
#[test]
fn a_redis_that_hangs_at_a_new_connection_decides_where_the_local_store_cannot() {
    one_server(Durability::Async, |world, instance| {
        instance.core.arming.fell_behind(&Error::new(Code::StoreFailed, "no space left"));
        // The connection breaks, and the next one finds a Redis that hangs.
        world.network.is_up.store(false, Ordering::SeqCst);
        let redis = instance.core.redis.current().expect("was reached");
        redis.ping(&world.call()).expect_err("is away");
        world.network.is_up.store(true, Ordering::SeqCst);
        world.network.hangs.store(true, Ordering::SeqCst);
        world.clock.advance(instance.core.settings.health.interval);
        world.tick(0);
        assert!(
            !instance.core.in_fallback(),
            "a probe that is late takes the decision away: {:?}",
            instance.core.authority.cause()
        );
    });
}

/// Redis has released a lock, and a server that is held up for hours has no time left to write that down. When Redis has forgotten the release,
/// the lock stays released.
#[test]
fn a_release_that_was_not_written_down_in_time_is_not_put_back() {
    for by_pull in [false, true] {
        one_server(Durability::Sync, move |world, instance| {
            let key = keys_of_repo()[0].clone();
            // An even number is of pull 1.
            let value = value_for(&key, 2);
            let lock = ProjectLock::parse(&value).expect("is a lock");
            let grant = Grant { key: key.lock().expect("is a lock"), lock: Some(&lock), value: &value, in_order: false };
            assert!(matches!(instance.store.grant(&grant, &world.call()), Ok(Granted::Yes { .. })));
            let deadline = world.clock.now() + PATIENCE;
            instance.core.local.flush(deadline).expect("works");
            *world.disks.next.lock() = Some(Trouble::Late(10 * PATIENCE));
            let call = world.call();
            let unwritten = if by_pull {
                let listing =
                    instance.store.release_by_pull(PullRef { repo: REPO, num: 1 }, &call).expect("says what was released");
                assert_eq!(listing.values().count(), 1);
                listing.incomplete().is_some()
            } else {
                let release = Release { key: grant.key, fields: None, pull_num: None, value: None };
                instance.store.release(&release, &call).is_err_and(|error| error.code() == Code::OutcomeUnknown)
            };
            assert!(unwritten, "the disk was late");
            world.clock.advance(Duration::from_secs(2 * 3600));
            world.tick(0);
            assert_eq!(instance.core.known(&key).expect("is read").value, None);
            assert!(world.value(&key).is_none());
        });
    }
}

/// A clock was ahead by more than Redis takes from a wish, while the local store decided. What Redis grants later has a smaller token, and
/// is not over.
#[test]
fn a_lock_is_not_over_because_a_clock_was_ahead_before() {
    one_server(Durability::Async, |world, instance| {
        world.network.is_up.store(false, Ordering::SeqCst);
        instance.core.redis.token_was_given(FencingToken::new(world.clock.unix_micros() + 80_000_000));
        let release = Release { key: LockKey::Command("apply"), fields: None, pull_num: None, value: None };
        assert!(matches!(grant(&world, &instance, b"{}"), Ok(Granted::Yes { .. })));
        assert!(instance.store.release(&release, &world.call()).expect("is released").is_some());
        world.network.is_up.store(true, Ordering::SeqCst);
        (0..20).for_each(|_| world.clock.advance(Duration::from_millis(200)));
        (0..5).for_each(|_| world.tick(0));
        assert!(!instance.core.in_fallback());
        assert!(matches!(grant(&world, &instance, br#"{"N":2}"#), Ok(Granted::Yes { .. })));
        drop(instance);
        restart(&world);
        assert!(world.value(&apply()).is_some(), "it was acknowledged");
    });
}

/// Redis is back for long enough.
fn recover(world: &Arc<World>, instance: &Instance) {
    world.network.is_up.store(true, Ordering::SeqCst);
    (0..8).for_each(|_| {
        world.clock.advance(Duration::from_secs(1));
        world.tick(0);
    });
    assert!(!instance.core.in_fallback());
}

/// Another server had the lock with a token that is ahead of what this one wishes for.
fn another_had_it(world: &Arc<World>) {
    other_takes(world, "other", &apply(), b"{}", world.clock.unix_micros() + 20_000_000);
    other_releases(world, "other", &apply());
}

/// A crash leaves the lock that is here or asked for, and not which token Redis gave it; Redis is away. What is released now stays so.
fn assert_released_by_its_wish(world: &Arc<World>, instance: Arc<Instance>) {
    let shown = world.other_server("look").remote(&apply(), &world.call()).expect("is answered");
    assert!(!shown.wished.is_none() && shown.value.is_some(), "Redis has it, with another token than was wished for: {shown:?}");
    drop(instance);
    world.network.is_up.store(false, Ordering::SeqCst);
    let instance = restart(world);
    let known = instance.core.known(&apply()).expect("is read").value.expect("is there");
    assert_eq!(known.token, shown.wished);
    assert!(!instance.core.arming.has_all());
    let release = Release { key: LockKey::Command("apply"), fields: None, pull_num: None, value: None };
    assert!(instance.store.release(&release, &world.call()).expect("is decided here").is_some());
    recover(world, &instance);
    assert_eq!(world.value(&apply()), None);
    assert_eq!(instance.core.known(&apply()).expect("is read").value, None);
}

/// With `durability: async`, a crash after a grant of Redis: the local store has what was asked for, and not what was given.
#[test]
fn a_release_of_what_redis_granted_with_another_token_is_not_undone_after_a_crash() {
    one_server(Durability::Async, |world, instance| {
        another_had_it(&world);
        let core = Arc::downgrade(&instance.core);
        *world.network.after_command.lock() = Some(Box::new(move |command| {
            let is_grant = command_text(command).starts_with("GRANT");
            if let Some(core) = core.upgrade().filter(|_| is_grant) {
                core.local.flush(core.clock.now() + PATIENCE).expect("works");
            }
            is_grant
        }));
        assert!(matches!(grant(&world, &instance, br#"{"N":2}"#), Ok(Granted::Yes { .. })));
        assert_released_by_its_wish(&world, instance);
    });
}

/// The same of a lock that was granted while Redis was away, and that Redis has taken when the server dies.
#[test]
fn a_release_of_what_redis_took_with_another_token_is_not_undone_after_a_crash() {
    one_server(Durability::Async, |world, instance| {
        world.network.is_up.store(false, Ordering::SeqCst);
        instance.core.begin_fallback(gone());
        assert!(matches!(grant(&world, &instance, br#"{"N":2}"#), Ok(Granted::Yes { .. })));
        another_had_it(&world);
        let weak = Arc::downgrade(&world);
        *world.network.after_command.lock() = Some(Box::new(move |command| {
            let Some(world) = weak.upgrade() else { return true };
            let is_made = command_text(command).starts_with("PUT") && world.value(&apply()).is_some();
            if is_made {
                // The answer comes too late.
                world.clock.advance(10 * PATIENCE);
                world.network.is_up.store(false, Ordering::SeqCst);
            }
            is_made
        }));
        world.network.is_up.store(true, Ordering::SeqCst);
        (0..8).take_while(|_| world.network.after_command.lock().is_some()).for_each(|_| {
            world.clock.advance(Duration::from_secs(1));
            world.tick(0);
        });
        assert_released_by_its_wish(&world, instance);
    });
}
