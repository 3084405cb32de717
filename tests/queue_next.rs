//! Whose turn it is, for a server that plans pulls by itself: told once, to one server, and to nobody for a lock that is not kept.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod queue_support;
mod redis_support;
mod wait;

use std::thread;
use std::time::Duration;

use atlock::clock::SystemClock;
use atlock::config::Config;
use atlock::error::Code;
use atlock::queue::Priority;
use atlock::service::Service;
use atlock::service::queueing::next::{Next, NextRequest, Turn};
use atlock::service::queueing::runs::RunRequest;
use queue_support::*;
use std::sync::Arc;
use wait::wait_until;

const CLAIM: NextRequest = NextRequest { claim_ms: 60_000, most: 0, wait_ms: 0 };

/// A plan of these projects that ends at once, by whoever can tell later how to plan the pull again.
fn plan_with(service: &Service, num: i64, paths: &[&str], recipe: &str) {
    let run = begin_with(service, num, recipe).unwrap();
    for path in paths {
        service.try_lock_in(run, &lock(path, num)).unwrap();
    }
    service.run_end(run).unwrap();
}

fn begin_with(service: &Service, num: i64, recipe: &str) -> Result<u64, Code> {
    let request = serde_json::json!({
        "repo": REPO, "pull": {"host": "git.example.com", "num": num}, "command": "plan", "recipe": recipe,
    });
    service.run_begin(&serde_json::from_value::<RunRequest>(request).unwrap()).map_err(|error| error.code())
}

fn turns(service: &Service, request: NextRequest) -> Vec<(i64, Vec<String>)> {
    let told = |turn: Turn| (turn.waiter.pull.num, turn.keys);
    service.next(request).unwrap().turns.into_iter().map(told).collect()
}

#[test]
fn whose_turn_it_is_is_told_to_one_server_until_the_run_is_over() {
    World::each(|world| {
        let service = world.open();
        take(&service, "a", 1);
        take(&service, "b", 1);
        plan_with(&service, 2, &["a", "b"], "ada plans");
        plan_with(&service, 3, &["a"], "bob plans");
        assert_eq!(service.next(CLAIM).unwrap(), Next::default(), "{}: nothing is free", world.mode);
        release(&service, "a", 1);
        let Next { turns: told, left } = service.next(CLAIM).unwrap();
        let [turn] = &told[..] else { panic!("{}: {told:?}", world.mode) };
        assert_eq!(
            (turn.waiter.pull.num, &*turn.waiter.recipe, &*turn.waiter.url),
            (2, "ada plans", "https://git.example.com/2")
        );
        assert_eq!((&turn.keys, &turn.waits, left.len()), (&vec![key("a")], &vec![key("b")], 0));
        // It is claimed, and a run of the pull keeps that, from its begin to its end.
        assert_eq!(turns(&service, CLAIM), []);
        let run = begin(&service, 2, "plan", &[]);
        assert!(service.try_lock_in(run, &lock("a", 2)).unwrap().acquired);
        release(&service, "b", 1);
        assert_eq!(turns(&service, CLAIM), [], "{}: its plan may still take that", world.mode);
        service.run_end(run).unwrap();
        assert_eq!(turns(&service, CLAIM), [(2, vec![key("b")])], "{}", world.mode);
        // Whoever was told and never comes is passed over when the claim ends.
        release(&service, "a", 2);
        assert_eq!(turns(&service, NextRequest { claim_ms: 1, ..CLAIM }), [(3, vec![key("a")])], "{}", world.mode);
        wait_until("the claim is over", LONG, || turns(&service, CLAIM) == [(3, vec![key("a")])]);
    });
}

#[test]
fn two_servers_are_not_told_of_one_pull() {
    for mode in ["native", "cluster", "hybrid"] {
        let mut world = World::new(mode);
        world.instances = "many";
        let here = world.open();
        let _of_here = std::mem::replace(&mut world.folder, tempfile::TempDir::new().unwrap());
        let there = world.open();
        take(&here, "a", 1);
        plan_with(&there, 2, &["a"], "ada plans");
        // Both know of the queue.
        assert_eq!(refused_for(&here, "a", 9), 1);
        plan_with(&here, 3, &["a"], "bob plans");
        release(&here, "a", 1);
        let both: Vec<_> = [&here, &there, &here].into_iter().flat_map(|server| turns(server, CLAIM)).collect();
        assert_eq!(both, [(2, vec![key("a")])], "{mode}");
    }
}

#[test]
fn who_asks_waits_until_it_is_somebodys_turn_or_the_end() {
    let world = World::new("strict");
    let service = world.shared();
    take(&service, "a", 1);
    plan_with(&service, 2, &["a"], "");
    let asks = {
        let service = Arc::clone(&service);
        thread::spawn(move || turns(&service, NextRequest { wait_ms: 30_000, ..CLAIM }))
    };
    release(&service, "a", 1);
    assert_eq!(asks.join().unwrap(), [(2, vec![key("a")])]);
    assert_eq!(turns(&service, NextRequest { wait_ms: 10, ..CLAIM }), []);
    let asks = {
        let service = Arc::clone(&service);
        thread::spawn(move || service.next(NextRequest { wait_ms: 3_600_000, ..CLAIM }).map_err(|error| error.code()))
    };
    thread::sleep(Duration::from_millis(50));
    service.close().unwrap();
    assert_eq!(asks.join().unwrap().unwrap_err(), Code::Closed);
}

#[test]
fn no_more_are_named_than_asked_for() {
    let world = World::new("strict");
    let service = world.open();
    for (path, num) in [("a", 2), ("b", 3), ("c", 4)] {
        take(&service, path, 1);
        plan_with(&service, num, &[path], "");
        release(&service, path, 1);
    }
    let one = NextRequest { most: 1, ..CLAIM };
    assert_eq!([(); 4].map(|()| turns(&service, one).first().map(|(num, _)| *num)), [Some(2), Some(3), Some(4), None]);
}

#[test]
fn a_caller_who_waits_comes_by_itself() {
    let world = World::new("strict");
    let service = world.shared();
    take(&service, "a", 1);
    let caller = waits(&service, "a", 2, Priority::Normal);
    release(&service, "a", 1);
    assert_eq!(turns(&service, CLAIM), []);
    caller.join().unwrap();
}

#[test]
fn of_a_set_nothing_is_told_before_all_of_it_is_kept() {
    let mut world = World::new("strict");
    world.sets = "whole";
    let service = world.open();
    take(&service, "a", 1);
    take(&service, "b", 1);
    plan(&service, 2, &["a", "b"]);
    release(&service, "a", 1);
    assert_eq!(turns(&service, CLAIM), []);
    release(&service, "b", 1);
    assert_eq!(turns(&service, CLAIM), [(2, vec![key("a"), key("b")])]);
}

#[test]
fn who_missed_too_often_is_named_once() {
    let mut world = World::new("strict");
    world.timeouts = "default: 100ms";
    let service = world.open();
    take(&service, "a", 1);
    plan_with(&service, 2, &["a"], "ada plans");
    release(&service, "a", 1);
    let mut left = Vec::new();
    wait_until("it is named", LONG, || {
        // Whoever asks for the lock sees that the time is over.
        let free = service.try_lock(&lock("a", 9)).unwrap();
        left.extend(service.next(CLAIM).unwrap().left);
        if matches!(free, atlock::store::Granted::Yes { .. }) {
            assert!(!left.is_empty(), "the place ended, and nobody was told");
        }
        !left.is_empty()
    });
    let [pull] = &left[..] else { panic!("{left:?}") };
    assert_eq!((pull.waiter.pull.num, &*pull.waiter.recipe, &pull.keys), (2, "ada plans", &vec![key("a")]));
    assert_eq!(service.next(CLAIM).unwrap().left, []);
    assert_eq!(place(&service, "a", 2), Err(Code::NotQueued));
}

/// What is only told to people, without a plan, is told once for as long as the lock is kept, by one of two servers; also in the moments
/// between its end and the look that passes the pull over. Who left is named by one of them.
#[test]
fn two_servers_tell_people_once() {
    const TOLD: NextRequest = NextRequest { claim_ms: 0, ..CLAIM };
    let mut world = World::new("native");
    world.timeouts = "default: 300ms";
    let (here, there) = (world.open(), world.open());
    take(&here, "a", 1);
    plan_with(&there, 2, &["a"], "ada plans");
    assert_eq!(refused_for(&here, "a", 1), 1);
    plan_with(&here, 3, &["a"], "bob plans");
    release(&here, "a", 1);
    let (mut told, mut left) = (Vec::new(), Vec::new());
    wait_until("one of them left", LONG, || {
        for server in [&here, &there] {
            let next = server.next(TOLD).unwrap();
            told.extend(next.turns.into_iter().map(|turn| (turn.waiter.pull.num, turn.until)));
            left.extend(next.left.into_iter().map(|left| left.waiter.pull.num));
        }
        !left.is_empty()
    });
    let mut once = told.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), told.len(), "{once:?}");
    assert!(told.len() >= 3, "{told:?}");
    for server in [&here, &there] {
        left.extend(server.next(TOLD).unwrap().left.into_iter().map(|left| left.waiter.pull.num));
    }
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_restart_forgets_no_claim() {
    for mode in ["strict", "native", "hybrid"] {
        let world = World::new(mode);
        let service = world.open();
        take(&service, "a", 1);
        plan_with(&service, 2, &["a"], "ada plans");
        release(&service, "a", 1);
        assert_eq!(turns(&service, NextRequest { claim_ms: 3_000, ..CLAIM }), [(2, vec![key("a")])]);
        drop(service);
        let service = world.open();
        wait_until("the claim is over, and the recipe there", LONG, || {
            service.next(CLAIM).unwrap().turns.iter().any(|turn| turn.waiter.recipe == "ada plans")
        });
    }
}

#[test]
fn bad_requests_change_nothing() {
    let service = World::new("strict").open();
    let long = NextRequest { claim_ms: 24 * 3600 * 1000 + 1, ..CLAIM };
    assert_eq!(service.next(long).unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(service.next(NextRequest { wait_ms: u64::MAX, ..CLAIM }).unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(begin_with(&service, 2, &"x".repeat(513)), Err(Code::TooLarge));
    assert_eq!(begin_with(&service, 2, &"x".repeat(512)).map(drop), Ok(()));
    let folder = tempfile::TempDir::new().unwrap();
    let text = format!("locking: {{backend: sled, data_dir: {:?}}}", folder.path().join("locks"));
    let without = Service::open(&Config::parse(&text, "test").unwrap(), None, Arc::new(SystemClock)).unwrap();
    assert_eq!(without.next(CLAIM).unwrap_err().code(), Code::QueueDisabled);
}
