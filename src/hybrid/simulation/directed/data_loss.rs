//! Redis lost what it had, or went back to an older state, or only forgot what it once remembered.

use std::time::Duration;

use super::gone_back::hears_that_redis_had_it;
use super::{apply, assert_stays_released_though_redis_forgets_it, grant, one_server, other_releases, other_takes};
use crate::clock::Clock;
use crate::config::Durability;
use crate::domain::lock::{ProjectLock, PullRef};
use crate::hybrid::simulation::PATIENCE;
use crate::hybrid::simulation::values::{REPO, keys_of_repo, value_for};
use crate::store::contract::shared::{Announced, HighWater, Presence, SharedStore};
use crate::store::redis::simulated::Image;
use crate::store::{Grant, Granted, LockKey, Store};

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
