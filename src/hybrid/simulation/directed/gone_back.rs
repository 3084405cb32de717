//! Redis went back to an older state, and perhaps to a newer one again, while a server was held up, looked or recovered.

use std::sync::Arc;
use std::time::Duration;

use super::{apply, gone, grant, one_server};
use crate::config::Durability;
use crate::error::Code;
use crate::hybrid::announce::announce;
use crate::hybrid::simulation::show::command_text;
use crate::hybrid::simulation::world::{Instance, World};
use crate::store::redis::simulated::Image;
use crate::store::{Granted, LockKey, Release, Store};
use crate::sync::Mutex;

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
pub(super) fn hears_that_redis_had_it(world: &Arc<World>, instance: &Instance) {
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
