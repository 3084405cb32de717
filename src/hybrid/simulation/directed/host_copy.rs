//! Atlantis's own store, kept as a copy.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{apply, grant};
use crate::clock::Clock;
use crate::error::Code;
use crate::hybrid::simulation::schedule::alone;
use crate::hybrid::simulation::world::{Instance, World};
use crate::hybrid::simulation::{Plan, plans};
use crate::store::{Grant, Granted, LockKey, Store};

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
            let lock = Grant { key: LockKey::Command(name), lock: None, value: b"{}" };
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
