//! Waiting for locks while real servers fail: killed, hung and emptied Redis, a cluster that loses a master within a set, kill -9 of a server.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod queue_support;
mod redis_support;
mod wait;

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use atlock::domain::lock::ProjectLock;
use atlock::error::Code;
use atlock::queue::Priority;
use atlock::service::Service;
use queue_support::{LONG, World, begin, holder, lock, locks, place, plan, pull, refused_for, release, take, waits};
use redis_support::{Cluster, Server};
use wait::wait_until;

/// After how long a set that its caller left half taken has been taken back.
const GONE: Duration = Duration::from_secs(200);
/// Which folder a process of this test is to open, and die in.
const VICTIM: &str = "ATLOCK_QUEUE_VICTIM";

#[test]
fn who_waits_goes_on_waiting_while_redis_is_killed() {
    let mut world = World::new("hybrid");
    let service = world.shared();
    take(&service, "a", 1);
    let callers = [waits(&service, "a", 2, Priority::Normal), waits(&service, "a", 3, Priority::High)];
    world.server.as_mut().unwrap().kill();
    wait_until("the local store decides", LONG, || service.status().fallback_active);
    assert_eq!([place(&service, "a", 3), place(&service, "a", 2)], [Ok(1), Ok(2)]);
    // Who is told a place by the local store is told so.
    assert!(is_stale(&service, 4) && service.queues(None).unwrap().values().flatten().all(|queued| queued.stale));
    assert_eq!(service.leave(queue_support::REPO, &pull(4), None).unwrap(), 1);
    release(&service, "a", 1);
    wait_until("the first has it", LONG, || holder(&service, "a") == Some(3));
    let port = world.server.as_ref().unwrap().port;
    world.server = Some(Server::start_at(port, &[]));
    wait_until("Redis decides again", LONG, || !service.status().fallback_active);
    release(&service, "a", 3);
    callers.into_iter().for_each(|caller| caller.join().unwrap());
    assert_eq!(holder(&service, "a"), Some(2));
    assert!(!is_stale(&service, 4) && service.queues(None).unwrap().values().flatten().all(|queued| !queued.stale));
}

/// Whether the place of a pull that joins the queue of `a` may be out of date.
fn is_stale(service: &Service, num: i64) -> bool {
    let run = begin(service, num, "plan", &[]);
    let refused = service.try_lock_in(run, &lock("a", num)).unwrap();
    service.run_end(run).unwrap();
    refused.waiting.expect("it has a place").stale
}

#[test]
fn who_waits_goes_on_waiting_while_redis_hangs() {
    for mode in ["native", "hybrid"] {
        let world = World::new(mode);
        let service = world.shared();
        take(&service, "a", 1);
        let caller = waits(&service, "a", 2, Priority::Normal);
        let server = world.server.as_ref().unwrap();
        server.pause();
        thread::sleep(Duration::from_secs(3));
        server.resume();
        wait_until("Redis answers", LONG, || service.ping().is_ok() && !service.status().fallback_active);
        assert_eq!(refused_for(&service, "a", 9), 1);
        release(&service, "a", 1);
        caller.join().unwrap();
        assert_eq!(holder(&service, "a"), Some(2));
    }
}

#[test]
fn an_emptied_redis_costs_native_mode_order_and_no_lock() {
    let world = World::new("native");
    let service = world.shared();
    take(&service, "a", 1);
    let caller = waits(&service, "a", 2, Priority::Normal);
    redis::cmd("FLUSHALL").exec(&mut world.server.as_ref().unwrap().raw()).unwrap();
    // The lock is lost as well: who waits takes it, whoever that is.
    caller.join().unwrap();
    assert_eq!(holder(&service, "a"), Some(2));
}

#[test]
fn nobody_joins_while_others_may_decide() {
    let mut world = World::new("hybrid");
    world.instances = "many";
    let service = world.shared();
    take(&service, "a", 1);
    plan(&service, 2, &["a"]);
    world.server.as_mut().unwrap().kill();
    wait_until("the local store is asked", LONG, || service.status().fallback_active);
    let run = begin(&service, 3, "plan", &[]);
    assert!(service.try_lock_in(run, &lock("a", 3)).map_or(true, |tried| !tried.acquired && tried.waiting.is_none()));
    service.run_end(run).unwrap();
    assert_eq!([place(&service, "a", 2), place(&service, "a", 3)], [Ok(1), Err(Code::NotQueued)]);
    let port = world.server.as_ref().unwrap().port;
    world.server = Some(Server::start_at(port, &[]));
    wait_until("Redis decides again", LONG, || !service.status().fallback_active && holder(&service, "a") == Some(1));
    assert_eq!(place(&service, "a", 2), Ok(1));
}

#[test]
fn a_set_is_whole_or_nothing_where_a_master_dies_within() {
    let mut world = World::new("strict");
    world.mode = "cluster";
    world.sets = "whole";
    world.cluster = Some(Cluster::start(1));
    let service = world.open();
    let paths: Vec<String> = (0..40).map(|at| format!("p{at}")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let mut cluster = world.cluster.take().unwrap();
    // Who was told that it has its set. What Redis loses of a release in a fail-over, or refuses to release then, may be there again.
    let granted = Mutex::new(BTreeSet::new());
    for victim in 0..2 {
        // What the fail-over before lost of a release stands in the way of every set of this round.
        granted.lock().unwrap().iter().for_each(|num| drop(service.unlock_by_pull(queue_support::REPO, *num).unwrap()));
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let taking = scope.spawn(|| {
                let mut num = 1 + 1_000 * victim;
                while !stop.load(Ordering::SeqCst) {
                    num += 1;
                    if try_set(&service, &paths, num) {
                        granted.lock().unwrap().insert(num);
                    }
                }
            });
            // Else a slow machine loses the master before there was a set, and the test has tested nothing.
            let first = 1_000 * victim;
            wait_until("a set is granted", GONE, || granted.lock().unwrap().range(first..).next().is_some());
            thread::sleep(Duration::from_millis(30));
            cluster.nodes[usize::try_from(victim).unwrap()].kill();
            wait_until("a replica has taken its place", Duration::from_secs(60), || service.ping().is_ok());
            stop.store(true, Ordering::SeqCst);
            taking.join().unwrap();
        });
    }
    // What another set left is taken back at once, or once its caller counts as gone.
    let granted = granted.into_inner().unwrap();
    wait_until("only whole sets have locks", GONE, || {
        let holder = |value: &[u8]| ProjectLock::parse(value).unwrap().pull().num;
        service.list().is_ok_and(|listing| listing.values().all(|value| granted.contains(&holder(value))))
    });
}

/// Takes the set and gives it back; whether the pull was told that it has all of it. What fails may be in doubt.
fn try_set(service: &Service, paths: &[&str], num: i64) -> bool {
    let run = begin(service, num, "plan", &[]);
    service.run_declare(run, &locks(paths, num)).unwrap();
    let acquired: Vec<bool> =
        paths.iter().map_while(|path| Some(service.try_lock_in(run, &lock(path, num)).ok()?.acquired)).collect();
    assert!(acquired.iter().all(|one| *one == acquired[0]), "{acquired:?}");
    let _ = service.run_end(run);
    let _ = service.unlock_by_pull(queue_support::REPO, num);
    acquired.len() == paths.len() && acquired[0]
}

#[test]
fn a_killed_server_loses_no_place() {
    if let Ok(folder) = std::env::var(VICTIM) {
        die(&folder);
    }
    for _ in 0..3 {
        let world = World::new("strict");
        let mut victim = Command::new(std::env::current_exe().unwrap());
        victim.args(["a_killed_server_loses_no_place", "--exact", "--nocapture"]).env(VICTIM, world.folder.path());
        let mut child = redis_support::die_with_the_test(&mut victim).spawn().unwrap();
        let told = world.folder.path().join("told");
        wait_until("some have their places", LONG, || std::fs::read_to_string(&told).is_ok_and(|told| told.lines().count() > 20));
        child.kill().unwrap();
        child.wait().unwrap();
        let service = world.open();
        let told = std::fs::read_to_string(&told).unwrap();
        let nums: Vec<i64> = told.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')?.parse().ok()).collect();
        for (nth, num) in nums.iter().enumerate() {
            assert_eq!(place(&service, "a", *num), Ok(nth + 1), "of {}", nums.len());
        }
        release(&service, "a", 1);
        assert_eq!(refused_for(&service, "a", 9_999), nums[0]);
    }
}

/// Joins one pull after the other, and writes down which were told their places, until it is killed.
fn die(folder: &str) -> ! {
    use std::io::Write as _;
    let folder = std::path::PathBuf::from(folder);
    let service = Arc::new(World::strict_in(&folder));
    take(&service, "a", 1);
    let mut told = std::fs::File::create(folder.join("told")).unwrap();
    for num in 2..90 {
        assert_eq!(plan(&service, num, &["a"]).0, [false]);
        writeln!(told, "{num}").unwrap();
    }
    loop {
        thread::sleep(LONG);
    }
}
