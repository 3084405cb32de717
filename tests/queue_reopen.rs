//! A server that runs opens other stores: who waits keeps its place, runs go on, and the change is told.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod queue_support;
mod redis_support;
mod wait;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use atlock::error::Code;
use atlock::queue::Priority;
use queue_support::{LONG, World, begin, holder, key, lock, place, plan, release, take, waits, within};
use wait::wait_until;

#[test]
fn who_waits_keeps_its_place_when_other_stores_are_opened() {
    World::each(|world| {
        let service = world.shared();
        take(&service, "a", 1);
        let handle = Arc::clone(&service);
        let first = thread::spawn(move || handle.lock(&lock("a", 2), &within(LONG)).unwrap_err().code());
        wait_until("it waits", LONG, || place(&service, "a", 2).is_ok());
        plan(&service, 3, &["a"]);
        // Its time is over before the close: no place is left of it.
        service.lock(&lock("a", 4), &within(Duration::from_millis(20))).unwrap();
        let carried = service.close_to_reopen().unwrap();
        assert_eq!(first.join().unwrap(), Code::Closed, "{}", world.mode);
        assert_eq!(service.close_to_reopen().unwrap_err().code(), Code::Closed);

        let service = world.shared();
        service.carry_on(carried).unwrap();
        let places = [1, 2, 3, 4].map(|num| place(&service, "a", num));
        assert_eq!(places, [Ok(0), Ok(1), Ok(2), Err(Code::NotQueued)], "{}", world.mode);
        let again = waits(&service, "a", 2, Priority::Normal);
        release(&service, "a", 1);
        wait_until("it has the lock", LONG, || holder(&service, "a") == Some(2));
        again.join().unwrap();
        service.close().unwrap();
    });
}

#[test]
fn a_set_keeps_its_place_too() {
    let world = World { sets: "whole", ..World::new("strict") };
    let service = world.shared();
    take(&service, "a", 1);
    let handle = Arc::clone(&service);
    let set = move || handle.lock_set(&queue_support::locks(&["a", "b"], 2), &within(LONG)).unwrap_err().code();
    let waiting = thread::spawn(set);
    wait_until("it waits", LONG, || place(&service, "a", 2).is_ok());
    service.close_to_reopen().unwrap();
    assert_eq!(waiting.join().unwrap(), Code::Closed);
    assert_eq!(place(&world.open(), "a", 2), Ok(1));
}

#[test]
fn a_run_goes_on_over_other_stores() {
    World::each(|world| {
        let service = world.open();
        let before = ["a", "b", "c"].map(|path| take(&service, path, 1));
        plan(&service, 2, &["b"]);
        let run = begin(&service, 1, "plan", &["c"]);
        assert_eq!(service.unlock_by_pull(queue_support::REPO, 1).unwrap().len(), 3);
        // What is carried is text for whoever is not Rust.
        let carried = serde_json::to_vec(&service.close_to_reopen().unwrap()).unwrap();

        let service = world.open();
        service.carry_on(serde_json::from_slice(&carried).unwrap()).unwrap();
        let again = service.try_lock_in(run, &lock("a", 1)).unwrap();
        assert_eq!((again.acquired, again.token), (true, before[0]), "{}: the same grant goes on", world.mode);
        assert_eq!(service.run_end(run).unwrap().released, [key("b")], "{}", world.mode);
        assert_eq!(["a", "b", "c"].map(|path| holder(&service, path)), [Some(1), None, Some(1)]);
        assert!(begin(&service, 5, "plan", &[]) > run, "no two runs have one number");
        service.close().unwrap();
    });
}
