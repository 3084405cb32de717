//! What the seeds found: the shortest course of events to each fault, so that a run without many seeds sees it, too.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{apply, gone, grant, one_server};
use crate::config::Durability;
use crate::domain::lock::PullRef;
use crate::error::{Code, Error};
use crate::hybrid::simulation::values::REPO;
use crate::store::{Granted, LockKey, Release, Store};

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
