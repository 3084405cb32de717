//! Single courses of events, on the simulated Redis, disk and clock: each is what one line of hybrid mode is there for.
//!
//! The test itself is the schedule: nothing happens by chance, and nothing is nested. What depends on the order of several events
//! by chance is for the seeds.

mod data_loss;
mod found;
mod gone_back;
mod host_copy;
mod local_store;
mod other_servers;
mod outage;

use std::sync::Arc;
use std::time::Duration;

use crate::config::Durability;
use crate::domain::lock::ProjectLock;
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::hybrid::simulation::schedule::alone;
use crate::hybrid::simulation::world::{Instance, World};
use crate::hybrid::simulation::{Plan, plans};
use crate::store::contract::local::EntryKey;
use crate::store::contract::shared::SharedStore;
use crate::store::{Grant, Granted, LockKey, Release, Store};

/// A course of events with one server that has just begun, in a world with this plan.
fn server_of(plan: Plan, course: impl FnOnce(Arc<World>, Arc<Instance>) + 'static) {
    let world = World::new(Plan { ahead: [0, 0], drift: [0, 0], preempts: 0, ..plan }, 1, true);
    let for_course = Arc::clone(&world);
    alone(&world, move || {
        for_course.begin(0);
        let instance = for_course.instance(0).expect("lives");
        course(for_course, instance);
    });
}

/// The same with a server that is alone and armed, and a Redis that works.
fn one_server(durability: Durability, course: impl FnOnce(Arc<World>, Arc<Instance>) + 'static) {
    let (plan, _) = plans(0)[0];
    server_of(Plan { durability, ..plan }, |world, instance| {
        world.tick(0);
        assert_eq!(instance.core.arming.unarmed(), None);
        course(world, instance);
    });
}

fn apply() -> EntryKey {
    EntryKey::Command("apply".to_owned())
}

fn grant(world: &World, instance: &Instance, value: &[u8]) -> Result<Granted> {
    let grant = Grant { key: LockKey::Command("apply"), lock: None, value, in_order: false };
    instance.store.grant(&grant, &world.call())
}

/// Another server takes a lock that is free, with this token.
fn other_takes(world: &Arc<World>, name: &str, key: &EntryKey, value: &[u8], token: u64) {
    let lock = ProjectLock::parse(value).ok();
    let grant = Grant { key: key.lock().expect("is a lock"), lock: lock.as_ref(), value, in_order: false };
    let granted = world.other_server(name).grant_with(&grant, FencingToken::new(token), &world.call()).expect("is answered");
    assert!(matches!(granted, Granted::Yes { .. }));
}

fn other_releases(world: &Arc<World>, name: &str, key: &EntryKey) {
    let release = Release { key: key.lock().expect("is a lock"), fields: None, pull_num: None, value: None };
    assert!(world.other_server(name).release(&release, &world.call()).expect("is answered").is_some());
}

fn gone() -> Error {
    Error::new(Code::Unreachable, "gone")
}

/// The server dies, its lock is released by somebody else, and Redis has forgotten that when the server begins again.
fn assert_stays_released_though_redis_forgets_it(world: &Arc<World>, by: &str) {
    world.crash(0);
    other_releases(world, by, &apply());
    world.clock.advance(Duration::from_secs(2 * 3600));
    world.begin(0);
    let instance = world.instance(0).expect("lives");
    assert_eq!(instance.core.known(&apply()).expect("is read").value, None);
    assert!(world.value(&apply()).is_none());
}

/// The server dies, and another process begins on its disk.
fn restart(world: &Arc<World>) -> Arc<Instance> {
    world.crash(0);
    world.begin(0);
    world.instance(0).expect("lives")
}
