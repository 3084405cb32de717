//! Single courses of events, on the simulated Redis, disk and clock: each is what one line of hybrid mode is there for.
//!
//! The test itself is the schedule: nothing happens by chance, and nothing is nested. What depends on the order of several events
//! by chance is for the seeds.

mod data_loss;
mod local_store;
mod other_servers;
mod outage;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clock::Clock;
use crate::config::Durability;
use crate::error::{Code, Error, Result};
use crate::hybrid::simulation::redis::Question;
use crate::hybrid::simulation::world::{Instance, World};
use crate::hybrid::simulation::{Plan, plans};
use crate::store::contract::local::EntryKey;
use crate::store::{Grant, Granted, LockKey, Store};

/// One server, alone, armed, with a Redis that works.
fn one_server(durability: Durability) -> (Arc<World>, Arc<Instance>) {
    let (plan, _) = plans(0)[0];
    let world = World::new(Plan { durability, ahead: [0, 0], ..plan }, 1);
    world.depth.store(1, Ordering::SeqCst);
    world.begin(0);
    world.tick(0);
    let instance = world.instance(0).expect("lives");
    assert_eq!(instance.core.arming.unarmed(), None);
    (world, instance)
}

fn apply() -> EntryKey {
    EntryKey::Command("apply".to_owned())
}

fn grant(world: &World, instance: &Instance, value: &[u8]) -> Result<Granted> {
    let grant = Grant { key: LockKey::Command("apply"), pull: None, value };
    instance.store.grant(&grant, &world.call())
}

fn gone() -> Error {
    Error::new(Code::Unreachable, "gone")
}

/// The server dies, its lock is released by somebody else, and Redis has forgotten that when the server begins again.
fn assert_stays_released_though_redis_forgets_it(world: &Arc<World>, by: &str) {
    world.crash(0);
    let release = Question::Release { key: apply(), pull: None };
    world.redis.execute(&release, by, false, world.clock.unix_micros());
    world.clock.advance(Duration::from_secs(2 * 3600));
    world.begin(0);
    let instance = world.instance(0).expect("lives");
    assert_eq!(instance.core.known(&apply()).expect("is read").value, None);
    assert!(world.redis.value(&apply()).is_none());
}

/// The server dies, and another process begins on its disk.
fn restart(world: &Arc<World>) -> Arc<Instance> {
    world.crash(0);
    world.begin(0);
    world.instance(0).expect("lives")
}
