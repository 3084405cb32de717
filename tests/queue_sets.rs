//! Sets that many ask for at once.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod queue_support;
mod redis_support;
mod wait;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use atlock::service::queueing::wait_set::SetWaited;
use queue_support::{LONG, World, begin, holder, lock, locks, within};

/// Atlantis plans several projects of a pull at once: the first of their tries asks for all, and no other does so a second time.
#[test]
fn the_tries_of_a_run_ask_for_its_set_once() {
    let world = World { sets: "whole", ..World::new("strict") };
    let service = world.shared();
    const PATHS: [&str; 4] = ["a", "b", "c", "d"];
    for num in 1..=100 {
        let run = begin(&service, num, "plan", &[]);
        service.run_declare(run, &locks(&PATHS, num)).unwrap();
        let barrier = Arc::new(Barrier::new(PATHS.len()));
        let tries = PATHS.map(|path| {
            let (service, barrier) = (Arc::clone(&service), Arc::clone(&barrier));
            thread::spawn(move || {
                barrier.wait();
                service.try_lock_in(run, &lock(path, num)).unwrap().acquired
            })
        });
        assert_eq!(tries.map(|one| one.join().unwrap()), [true; 4], "pull {num}");
        assert!(service.run_end(run).unwrap().released.is_empty());
        assert_eq!(service.unlock_by_pull(queue_support::REPO, num).unwrap().values().count(), 4);
    }
}

/// Pulls that want each other's locks in any order, again and again: each has all of its locks, or none, and all come to an end.
#[test]
fn callers_of_overlapping_sets_all_come_to_an_end() {
    World::each(|world| {
        const SETS: [&[&str]; 6] = [&["a", "b"], &["b", "c"], &["c", "a"], &["a", "b", "c", "d"], &["d"], &["d", "a"]];
        let service = world.shared();
        // Who is within each lock by its set; 0: nobody.
        let within_it: Arc<[AtomicI64; 4]> = Arc::default();
        let callers: Vec<_> = (1..=12)
            .map(|num: i64| {
                let (service, within_it, paths) = (Arc::clone(&service), Arc::clone(&within_it), SETS[num as usize % 6]);
                thread::spawn(move || {
                    let waited = service.lock_set(&locks(paths, num), &within(LONG)).unwrap();
                    let SetWaited::Locked(granted) = waited else { panic!("{num} has no {paths:?}: {waited:?}") };
                    assert_eq!(granted.len(), paths.len());
                    let cells = || paths.iter().map(|path| &within_it[usize::from(path.as_bytes()[0] - b'a')]);
                    cells().for_each(|cell| assert_eq!(cell.swap(num, Ordering::SeqCst), 0, "{num} is not alone"));
                    paths.iter().for_each(|path| assert_eq!(holder(&service, path), Some(num)));
                    cells().for_each(|cell| cell.store(0, Ordering::SeqCst));
                    assert_eq!(service.unlock_by_pull(queue_support::REPO, num).unwrap().values().count(), paths.len());
                })
            })
            .collect();
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        wait::wait_until("nobody waits", LONG, || service.queues(None).unwrap().is_empty());
        assert_eq!(service.list().unwrap().values().count(), 0, "{}", world.mode);
        service.close().unwrap();
    });
}
