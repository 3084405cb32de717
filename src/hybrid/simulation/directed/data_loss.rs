//! Redis lost what it had, or went back to an older state, or only forgot what it once remembered.

use std::sync::Arc;
use std::time::Duration;

use super::{apply, assert_stays_released_though_redis_forgets_it, gone, grant, one_server, other_releases, other_takes};
use crate::clock::Clock;
use crate::config::Durability;
use crate::domain::lock::{ProjectLock, PullRef};
use crate::error::Code;
use crate::hybrid::announce::announce;
use crate::hybrid::simulation::PATIENCE;
use crate::hybrid::simulation::show::command_text;
use crate::hybrid::simulation::values::{REPO, keys_of_repo, value_for};
use crate::hybrid::simulation::world::{Instance, World};
use crate::store::contract::shared::{Announced, HighWater, Presence, SharedStore};
use crate::store::redis::simulated::Image;
use crate::store::{Grant, Granted, LockKey, Release, Store};
use crate::sync::Mutex;

/// The server was up for long, then both die, and Redis comes back as it was: what it never had is put back, however long that took.
#[test]
fn what_an_older_redis_never_had_is_put_back_after_any_time() {
    one_server(Durability::Sync, |world, instance| {
        world.clock.advance(Duration::from_secs(3600));
        world.tick(0);
        let image = world.redis.image();
        assert!(matches!(grant(&world, &instance, b"{}"), Ok(Granted::Yes { .. })));
        drop(instance);
        world.crash(0);
        world.redis.restore(&image);
        world.clock.advance(Duration::from_secs(2 * 3600));
        world.begin(0);
        let instance = world.instance(0).expect("lives");
        assert_eq!(instance.store.get(LockKey::Command("apply"), &world.call()).expect("is read").as_deref(), Some(&b"{}"[..]));
        assert!(world.value(&apply()).is_some());
        // And so it is if that recovery is cut short, and made by another process.
        let other = world.other_server("looks");
        let announced = other.announce(&instance.core.arming.server_name(), PATIENCE, Presence::Here, 0, &world.call());
        assert!(announced.expect("is announced").agreed > 0);
    });
}

/// Redis itself moves the mark only if it remembers the announcement that belongs to it.
#[test]
fn a_redis_that_lost_data_does_not_believe_that_it_had_everything() {
    one_server(Durability::Sync, |world, _| {
        let server = world.other_server("i");
        let announce = |presence| {
            world.clock.advance(Duration::from_secs(1));
            server.announce("i", PATIENCE, presence, 0, &world.call()).expect("is announced")
        };
        let Announced { now: first, replication_id, .. } = announce(Presence::Here);
        let agreed = |at, replication_id: &str| Presence::Agreed(HighWater { at, replication_id: replication_id.to_owned() });
        announce(agreed(first, "of another time"));
        assert_eq!(announce(agreed(first, &replication_id)).agreed, 0, "it may have gone back since");
        let later = world.clock.unix_micros() + 1;
        assert_eq!(announce(agreed(later, &replication_id)).agreed, first, "it does not know of an announcement at that moment");
        assert_eq!(announce(Presence::Here).agreed, first);
    });
}

/// The answer that would have said so was lost: the next one says it.
#[test]
fn a_loss_is_told_until_the_server_has_heard_of_it() {
    one_server(Durability::Sync, |world, _| {
        let server = world.other_server("i");
        let announce = |last| {
            world.clock.advance(Duration::from_secs(1));
            server.announce("i", PATIENCE, Presence::Here, last, &world.call()).expect("is announced")
        };
        let known = announce(0).now;
        assert_eq!(announce(known).before, known);
        let known = world.clock.unix_micros();
        world.redis.restore(&Image::default());
        let unheard = announce(known);
        assert_eq!(unheard.before, 0);
        let heard = announce(known);
        assert_eq!(heard.before, 0, "it says so again: nobody has heard it");
        assert_eq!(announce(heard.now).before, heard.now);
    });
}

/// A probe finds a Redis that does not know this server any more, before any caller does.
#[test]
fn a_redis_that_forgot_this_server_has_lost_data() {
    one_server(Durability::Sync, |world, instance| {
        world.clock.advance(instance.core.settings.health.interval * 2);
        world.redis.restore(&Image::default());
        world.tick(0);
        assert!(instance.core.in_fallback(), "the local store decides until what was lost is back");
    });
}

/// Native mode was in use since, and its releases are known to Redis alone, which forgets them after an hour.
#[test]
fn what_native_mode_released_is_not_put_back() {
    one_server(Durability::Sync, |world, instance| {
        assert!(matches!(grant(&world, &instance, b"{}"), Ok(Granted::Yes { .. })));
        let deadline = world.clock.now() + PATIENCE;
        instance.core.write_record(|link| link.handed_over = true, deadline).expect("is written");
        drop(instance);
        assert_stays_released_though_redis_forgets_it(&world, "native");
    });
}

/// A lock that another server released is not put back once Redis has shown that it had it.
#[test]
fn what_another_server_released_is_not_put_back() {
    one_server(Durability::Sync, |world, instance| {
        assert!(matches!(grant(&world, &instance, b"{}"), Ok(Granted::Yes { .. })));
        world.clock.advance(instance.core.settings.health.compare * 2);
        // It was compared, and that is announced.
        (0..2).for_each(|_| {
            world.tick(0);
            world.clock.advance(instance.core.settings.health.interval);
        });
        world.tick(0);
        drop(instance);
        assert_stays_released_though_redis_forgets_it(&world, "other");
    });
}

/// A server that is held up for hours, as a machine that is paused, knows what it knew. That Redis still knows the server says nothing of what
/// others released meanwhile.
#[test]
fn what_was_released_while_a_server_was_held_up_is_not_put_back() {
    one_server(Durability::Sync, |world, instance| {
        assert!(matches!(grant(&world, &instance, b"{}"), Ok(Granted::Yes { .. })));
        hears_that_redis_had_it(&world, &instance);
        other_releases(&world, "other", &apply());
        world.clock.advance(Duration::from_secs(2 * 3600));
        world.tick(0);
        assert_eq!(instance.core.known(&apply()).expect("is read").value, None);
        assert!(world.value(&apply()).is_none());
    });
}

/// A release by pull meets a lock of that pull in a Redis that has gone back, in the place of another pull's.
#[test]
fn a_release_by_pull_gives_up_no_other_pulls_lock() {
    one_server(Durability::Sync, |world, instance| {
        let key = keys_of_repo()[0].clone();
        // Odd numbers are of pull 2.
        let (old, new) = (value_for(&key, 2), value_for(&key, 3));
        other_takes(&world, "other", &key, &old, world.clock.unix_micros());
        let image = world.redis.image();
        other_releases(&world, "other", &key);
        world.clock.advance(Duration::from_millis(1));
        let lock = ProjectLock::parse(&new).expect("is a lock");
        let grant = Grant { key: key.lock().expect("is a lock"), lock: Some(&lock), value: &new, in_order: false };
        assert!(matches!(instance.store.grant(&grant, &world.call()), Ok(Granted::Yes { .. })));
        world.redis.restore(&image);
        let released = instance.store.release_by_pull(PullRef { repo: REPO, num: 1 }, &world.call()).expect("is made");
        assert_eq!(released.len(), 0, "what came back is no lock that anybody holds");
        assert_eq!(instance.core.known(&key).expect("is read").value.map(|held| held.value), Some(new));
        assert!(instance.core.in_fallback(), "Redis has lost data");
    });
}

/// Redis shows another server's lock from before this server's, of which this server never knew.
#[test]
fn an_older_lock_of_another_server_shows_that_redis_has_gone_back() {
    one_server(Durability::Sync, |world, instance| {
        let before = world.redis.image();
        other_takes(&world, "other", &apply(), b"old", world.clock.unix_micros());
        let old = world.redis.image();
        world.redis.restore(&before);
        world.clock.advance(Duration::from_millis(10));
        assert!(matches!(grant(&world, &instance, b"{}"), Ok(Granted::Yes { .. })));
        // Within a moment: no probe comes in between.
        world.redis.restore(&old);
        let read = instance.store.get(LockKey::Command("apply"), &world.call()).expect("is read");
        assert_eq!(read.as_deref(), Some(&b"{}"[..]), "the local store decides");
        assert!(instance.core.in_fallback());
        // The other may hold it, for all that is known: it stays, and that is told.
        world.clock.advance(Duration::from_secs(2));
        (0..4).for_each(|_| world.tick(0));
        assert_eq!(instance.core.conflicts.all().len(), 1);
        assert_eq!(world.value(&apply()).as_deref(), Some(&b"old"[..]));
    });
}

fn release(world: &World, instance: &Instance) -> Option<Vec<u8>> {
    let release = Release { key: LockKey::Command("apply"), fields: None, pull_num: None, value: None };
    instance.store.release(&release, &world.call()).expect("is answered")
}

/// Redis loses a lock, and what it remembers of it, and nothing else.
fn lose_the_lock(world: &World) {
    assert!(world.redis.evict(b"global/apply/lock") && world.redis.evict(b"{global/apply/lock}:atlock"));
}

/// After hours in which nothing was announced, the last announcement is older than the lock: it does not show that Redis had that.
#[test]
fn a_lock_younger_than_an_hour_that_redis_does_not_know_was_lost() {
    one_server(Durability::Sync, |world, instance| {
        world.clock.advance(Duration::from_secs(2 * 3600));
        let before = world.redis.image();
        assert!(matches!(grant(&world, &instance, b"{}"), Ok(Granted::Yes { .. })));
        world.redis.restore(&before);
        assert_eq!(release(&world, &instance).as_deref(), Some(&b"{}"[..]));
    });
}

/// That the two agreed less than an hour ago is not told by a clock that somebody sets.
#[test]
fn a_clock_that_was_set_back_hides_no_loss() {
    one_server(Durability::Sync, |world, instance| {
        assert!(matches!(grant(&world, &instance, b"{}"), Ok(Granted::Yes { .. })));
        world.clock.advance(Duration::from_secs(50 * 60));
        world.tick(0);
        world.clock.advance(Duration::from_secs(6 * 60));
        world.machine(0).set(-40_000_000 - 6 * 60_000_000);
        lose_the_lock(&world);
        assert_eq!(release(&world, &instance).as_deref(), Some(&b"{}"[..]));
    });
}

/// Redis loses data after a recovery has asked it whether it has.
#[test]
fn what_is_lost_during_a_recovery_is_put_back() {
    one_server(Durability::Sync, |world, instance| {
        assert!(matches!(grant(&world, &instance, b"{}"), Ok(Granted::Yes { .. })));
        // Redis is told that it had the lock.
        for _ in 0..4 {
            world.clock.advance(instance.core.settings.health.interval);
            world.tick(0);
        }
        world.clock.advance(Duration::from_secs(2 * 3600));
        instance.core.begin_fallback(gone());
        world.clock.advance(Duration::from_secs(2));
        let weak = Arc::downgrade(&world);
        *world.network.after_command.lock() = Some(Box::new(move |command| {
            let is_look = command[0] == b"SCAN";
            if is_look {
                weak.upgrade().expect("goes on").redis.restore(&Image::default());
            }
            is_look
        }));
        (0..8).for_each(|_| world.tick(0));
        assert_eq!(world.value(&apply()).as_deref(), Some(&b"{}"[..]));
    });
}

/// Redis loses a lock, and has it again, in the middle of the lock's release: nobody is told that there was no lock.
#[test]
fn a_lock_that_is_gone_and_there_again_is_not_told_as_absent() {
    one_server(Durability::Sync, |world, instance| {
        assert!(matches!(grant(&world, &instance, b"{}"), Ok(Granted::Yes { .. })));
        let image = world.redis.image();
        world.redis.restore(&Image::default());
        let weak = Arc::downgrade(&world);
        *world.network.after_command.lock() = Some(Box::new(move |command| {
            let world = weak.upgrade().expect("goes on");
            let is_release = command_text(command).starts_with("RELEASE");
            if is_release {
                world.redis.restore(&image);
            }
            is_release
        }));
        let release = Release { key: LockKey::Command("apply"), fields: None, pull_num: None, value: None };
        assert_eq!(instance.store.release(&release, &world.call()).expect_err("is there").code(), Code::OutcomeUnknown);
    });
}

/// What becomes of Redis's data.
enum Turn {
    Lost,
    /// They are as they were before.
    Back,
}

/// Redis's data are lost, or back, after each of these commands, in this order; now they are lost, if this is what they were.
fn as_commands_come(world: &Arc<World>, mut lost: Option<Image>, mut turns: Vec<(&'static str, Turn)>) {
    if lost.is_some() {
        world.redis.restore(&Image::default());
    }
    turns.reverse();
    let weak = Arc::downgrade(world);
    *world.network.after_command.lock() = Some(Box::new(move |command| {
        let is_next = turns.last().is_some_and(|(name, _)| command_text(command).starts_with(name));
        let redis = &weak.upgrade().expect("goes on").redis;
        match turns.pop_if(|_| is_next) {
            Some((_, Turn::Lost)) => {
                lost = Some(redis.image());
                redis.restore(&Image::default());
            }
            Some((_, Turn::Back)) => redis.restore(&lost.take().expect("were lost")),
            None => {}
        }
        turns.is_empty()
    }));
}

/// Redis is told that it had the lock.
fn hears_that_redis_had_it(world: &Arc<World>, instance: &Instance) {
    for _ in 0..8 {
        world.clock.advance(instance.core.settings.health.interval);
        world.tick(0);
    }
}

/// A server with a lock, of which Redis would remember no release any more.
fn held_for_hours(course: impl FnOnce(Arc<World>, Arc<Instance>) + 'static) {
    one_server(Durability::Sync, |world, instance| {
        assert!(matches!(grant(&world, &instance, b"{}"), Ok(Granted::Yes { .. })));
        hears_that_redis_had_it(&world, &instance);
        world.clock.advance(Duration::from_secs(2 * 3600));
        // Redis knows the scripts.
        assert!(matches!(grant(&world, &instance, b"[]"), Ok(Granted::Held { .. })));
        course(world, instance);
    });
}

/// Redis has nothing when it is asked for a lock, and all of it a moment later: that it knows this server then shows no release.
#[test]
fn a_redis_that_has_all_of_it_again_shows_no_release() {
    held_for_hours(|world, instance| {
        as_commands_come(&world, Some(world.redis.image()), vec![("READ", Turn::Back), ("ANNOUNCE", Turn::Lost)]);
        let answer = grant(&world, &instance, b"[]");
        assert!(matches!(&answer, Ok(Granted::Held { value }) if value == b"{}"), "{answer:?}");
        as_commands_come(&world, Some(world.redis.image()), vec![("READ", Turn::Back)]);
        let read = instance.store.get(LockKey::Command("apply"), &world.call()).expect("is read");
        assert_eq!(read.as_deref(), Some(&b"{}"[..]));
    });
}

/// The same while the stores are being brought together.
#[test]
fn a_recovery_takes_a_release_from_one_answer() {
    held_for_hours(|world, instance| {
        instance.core.begin_fallback(gone());
        world.clock.advance(Duration::from_secs(2));
        as_commands_come(&world, None, vec![("SCAN", Turn::Lost), ("READ", Turn::Back), ("ANNOUNCE", Turn::Lost)]);
        for _ in 0..12 {
            world.clock.advance(instance.core.settings.health.interval);
            world.tick(0);
        }
        assert_eq!(world.value(&apply()).as_deref(), Some(&b"{}"[..]));
    });
}

/// A server is held up for hours just after a grant, and Redis goes back to between the last announcement and that grant: it knows the server, and
/// never had the lock.
#[test]
fn what_redis_had_only_after_the_last_announcement_is_not_taken_for_released() {
    for asks in [false, true] {
        one_server(Durability::Sync, move |world, instance| {
            let image = world.redis.image();
            assert!(matches!(grant(&world, &instance, b"{}"), Ok(Granted::Yes { .. })));
            world.clock.advance(Duration::from_secs(2 * 3600));
            world.redis.restore(&image);
            if asks {
                let answer = grant(&world, &instance, b"[]");
                assert!(matches!(&answer, Ok(Granted::Held { value }) if value == b"{}"), "{answer:?}");
            }
            (0..12).for_each(|_| {
                world.tick(0);
                world.clock.advance(instance.core.settings.health.interval);
            });
            assert_eq!(world.value(&apply()).as_deref(), Some(&b"{}"[..]));
        });
    }
}

/// Redis goes back to between the last announcement and a grant, which its next answers do not show: all keys are looked at, long before that is
/// due.
#[test]
fn a_redis_that_may_have_gone_back_is_looked_at() {
    one_server(Durability::Sync, |world, instance| {
        hears_that_redis_had_it(&world, &instance);
        let image = world.redis.image();
        assert!(matches!(grant(&world, &instance, b"{}"), Ok(Granted::Yes { .. })));
        world.redis.restore(&image);
        world.clock.advance(instance.core.settings.health.interval);
        world.tick(0);
        assert_eq!(world.value(&apply()).as_deref(), Some(&b"{}"[..]));
        assert!(!instance.core.in_fallback());
    });
}

/// The same while nobody can look: until then no probe says that Redis has had everything.
#[test]
fn no_probe_says_what_a_redis_that_has_gone_back_had() {
    one_server(Durability::Sync, |world, instance| {
        let image = world.redis.image();
        assert!(matches!(grant(&world, &instance, b"{}"), Ok(Granted::Yes { .. })));
        world.redis.restore(&image);
        let announced = instance.core.arming.record().announced;
        (0..4).for_each(|_| {
            world.clock.advance(instance.core.settings.health.interval);
            announce(&instance.core, &*instance.core.redis.current().expect("is there"), &world.call()).expect("is announced");
            instance.core.presence.probed(instance.core.arming.record().announced);
        });
        drop(instance);
        world.crash(0);
        world.clock.advance(Duration::from_secs(2 * 3600));
        world.begin(0);
        assert!(world.instance(0).expect("lives").core.arming.record().announced > announced);
        assert_eq!(world.value(&apply()).as_deref(), Some(&b"{}"[..]));
    });
}

/// Redis goes back to the beginning of a recovery, which had put back a lock: what was seen then is not said of the Redis that is there now.
#[test]
fn what_a_recovery_saw_is_not_said_of_a_redis_that_went_back() {
    one_server(Durability::Sync, |world, instance| {
        assert!(matches!(grant(&world, &instance, b"{}"), Ok(Granted::Yes { .. })));
        drop(instance);
        world.crash(0);
        world.redis.restore(&Image::default());
        let (weak, image) = (Arc::downgrade(&world), Arc::new(Mutex::new(None)));
        let kept = Arc::clone(&image);
        *world.network.after_command.lock() = Some(Box::new(move |command| {
            let is_announcement = command_text(command).starts_with("ANNOUNCE");
            if is_announcement {
                *kept.lock() = Some(weak.upgrade().expect("goes on").redis.image());
            }
            false
        }));
        world.begin(0);
        *world.network.after_command.lock() = None;
        let instance = world.instance(0).expect("lives");
        assert_eq!(world.value(&apply()).as_deref(), Some(&b"{}"[..]), "was put back");
        world.redis.restore(&image.lock().take().expect("it announced itself"));
        world.clock.advance(instance.core.settings.health.interval);
        announce(&instance.core, &*instance.core.redis.current().expect("is there"), &world.call()).expect("is announced");
        drop(instance);
        world.crash(0);
        world.clock.advance(Duration::from_secs(2 * 3600));
        world.begin(0);
        assert_eq!(world.value(&apply()).as_deref(), Some(&b"{}"[..]));
    });
}
