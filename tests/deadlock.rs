//! Pulls that wait for each other in a circle, over the stores of each mode.
#![allow(clippy::unwrap_used)]

mod queue_support;
mod redis_support;
mod wait;

use std::time::Duration;

use atlock::error::Code;
use atlock::service::Service;
use atlock::service::queueing::deadlock::{Deadlock, Standing};
use queue_support::ground::{Ground, begin, grounds, plan};
use queue_support::{REPO, key, lock, pull, take};
use wait::wait_until;

const PATIENCE: Duration = Duration::from_secs(20);
const REPORT: &str = "priority_queue: {enabled: true}, deadlock_detection: {enabled: true, confirm: 300ms}";
const YIELD: &str = "priority_queue: {enabled: true}, deadlock_detection: {enabled: true, confirm: 300ms, resolve: yield}";

/// Pull 1 has `a` and waits for `b`; pull 2 has `b` and waits for `a`.
fn circle(ground: &Ground, settings: &str) -> Service {
    let service = ground.open(settings);
    take(&service, "a", 1);
    take(&service, "b", 2);
    assert!(plan(&service, 1, &["b"]).iter().all(|tried| !tried.acquired));
    assert!(plan(&service, 2, &["a"]).iter().all(|tried| !tried.acquired));
    service
}

fn confirmed(service: &Service) -> Deadlock {
    wait_until("the circle is confirmed", PATIENCE, || !service.deadlocks().unwrap().is_empty());
    let mut found = service.deadlocks().unwrap();
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn standing(num: i64, applied: bool, running: bool) -> Standing {
    Standing { pull: pull(num), applied, running }
}

fn holds(service: &Service, path: &str, num: i64) -> bool {
    service.check(&key(path), REPO, &pull(num), None).unwrap().holds
}

#[test]
fn a_circle_of_locks_is_reported_once_confirmed_and_nobody_loses_a_lock() {
    for ground in grounds() {
        let service = circle(&ground, REPORT);
        let found = confirmed(&service);
        assert_eq!((found.kind, &*found.repo, &*found.pulls), ("held", REPO, &[pull(1), pull(2)][..]), "{}", ground.mode);
        assert_eq!(found.keys, [key("b"), key("a")]);
        assert!(found.victim.is_none() && found.suggestion.contains("pull #2 has the last place"), "{found:?}");
        let none = service.end_deadlock(&found.id, &[standing(1, false, false), standing(2, false, false)]);
        assert_eq!(none.unwrap_err().code(), Code::Unsupported);
        assert!(holds(&service, "a", 1) && holds(&service, "b", 2));
        // The look that confirms it tells the trail next.
        wait_until("the trail is told", PATIENCE, || ground.told("deadlock") > 0);
        assert_eq!((&*found.rank, &*found.links[0].keys), (&[pull(2), pull(1)][..], &[key("b")][..]), "{}", ground.mode);
        // On each pull people are told once.
        assert_eq!(service.tell_deadlock(&found.id).unwrap(), [pull(2), pull(1)], "{}", ground.mode);
        assert_eq!(service.tell_deadlock(&found.id).unwrap(), [], "{}", ground.mode);
        assert_eq!(service.tell_deadlock("0").unwrap_err().code(), Code::InvalidArgument);
        // Who leaves ends the circle.
        service.unlock_by_pull(REPO, 2).unwrap();
        wait_until("the circle is over", PATIENCE, || service.deadlocks().unwrap().is_empty());
        assert!(plan(&service, 1, &["b"])[0].acquired);
        assert_eq!(ground.told("deadlock"), 1, "{}", ground.mode);
    }
}

#[test]
fn one_yields_its_locks_of_the_circle_and_keeps_its_place() {
    for ground in grounds() {
        let service = circle(&ground, YIELD);
        take(&service, "c", 2);
        let found = confirmed(&service);
        assert_eq!(found.victim, Some(pull(2)));
        let end = |standings: &[Standing]| service.end_deadlock(&found.id, standings).unwrap();
        // Nothing is known, something is applied, something runs: nobody yields.
        assert!(end(&[]).is_none());
        assert!(end(&[standing(2, true, false)]).is_none());
        assert!(end(&[standing(2, false, true), standing(1, true, false)]).is_none());
        let run = service.run_begin(&begin(2)).unwrap();
        assert!(end(&[standing(2, false, false)]).is_none());
        service.run_end(run).unwrap();
        assert!(holds(&service, "a", 1) && holds(&service, "b", 2));

        let yielded = end(&[standing(1, false, false), standing(2, false, false)]).unwrap();
        assert_eq!((&yielded.pull, yielded.released.keys().collect::<Vec<_>>()), (&pull(2), vec![&key("b")]), "{}", ground.mode);
        assert!(holds(&service, "a", 1) && holds(&service, "c", 2) && !holds(&service, "b", 2));
        assert_eq!(ground.told("yield"), 1);
        let trail = std::fs::read_to_string(ground.trail()).unwrap();
        let released = trail.lines().filter(|line| line.contains("\"operation\":\"end_deadlock\""));
        assert!(released.clone().count() == 1 && released.clone().all(|line| line.contains("\"via\":\"queue\"")), "{trail}");
        // The lock is kept for pull 1; pull 2 waits for both, from its old place.
        let queue = service.queues(Some(REPO)).unwrap().remove(REPO).unwrap();
        let wanted = |num| queue.iter().find(|waits| waits.pull == pull(num)).unwrap().keys.clone();
        assert!(wanted(1)[&key("b")].reserved_until.is_some(), "{queue:?}");
        assert_eq!(wanted(2).keys().collect::<Vec<_>>(), [&key("a"), &key("b")]);
        assert!(plan(&service, 1, &["b"])[0].acquired);
        assert!(service.deadlocks().unwrap().is_empty());
        // What is over is over.
        let again = service.end_deadlock(&found.id, &[standing(1, false, false)]);
        assert_eq!(again.unwrap_err().code(), Code::InvalidArgument);
        assert!(holds(&service, "a", 1) && holds(&service, "b", 1));
        service.unlock_by_pull(REPO, 1).unwrap();
        assert!(plan(&service, 2, &["a", "b"]).iter().all(|tried| tried.acquired));
    }
}

#[test]
fn a_lock_that_was_taken_anew_is_another_circle() {
    for ground in grounds() {
        let service = circle(&ground, YIELD);
        let found = confirmed(&service);
        // Pull 1 waits for that lock, and pull 2 takes it before: by another grant.
        service.unlock(&lock("b", 2)).unwrap();
        service.leave(REPO, &pull(1), Some(&key("b"))).unwrap();
        take(&service, "b", 2);
        assert!(!plan(&service, 1, &["b"])[0].acquired);
        let stale = service.end_deadlock(&found.id, &[standing(2, false, false)]);
        assert_eq!(stale.unwrap_err().code(), Code::InvalidArgument, "{}", ground.mode);
        assert!(holds(&service, "b", 2));
        wait_until("the other circle is confirmed", PATIENCE, || {
            service.deadlocks().unwrap().iter().any(|other| other.id != found.id)
        });
    }
}

#[test]
fn a_circle_of_reservations_is_undone_without_a_victim() {
    for ground in grounds() {
        // Circles of locks are not looked for; these are.
        let service = ground.open("priority_queue: {enabled: true}");
        assert_eq!(service.deadlocks().unwrap_err().code(), Code::Unsupported);
        take(&service, "a", 1);
        take(&service, "b", 3);
        assert!(plan(&service, 2, &["a", "b"]).iter().all(|tried| !tried.acquired));
        assert!(!plan(&service, 1, &["b"])[0].acquired);
        // Pull 2 is first, and waits for pull 1, which waits for what is kept for pull 2.
        service.unlock(&lock("b", 3)).unwrap();
        let kept_for = |num| {
            let queue = service.queues(Some(REPO)).unwrap().remove(REPO).unwrap_or_default();
            queue
                .iter()
                .any(|waits| waits.pull == pull(num) && waits.keys.get(&key("b")).is_some_and(|key| key.reserved_until.is_some()))
        };
        wait_until("the lock is kept for the holder", PATIENCE, || kept_for(1));
        assert!(!kept_for(2) && service.position(&key("a"), REPO, Some(&pull(2))).unwrap() == 1, "{}", ground.mode);
        assert!(!plan(&service, 2, &["b"])[0].acquired);
        assert!(plan(&service, 1, &["b"])[0].acquired);
        service.unlock_by_pull(REPO, 1).unwrap();
        assert!(plan(&service, 2, &["a", "b"]).iter().all(|tried| tried.acquired), "{}", ground.mode);
        assert!(service.queues(None).unwrap().is_empty());
    }
}

#[test]
fn without_a_queue_nobody_looks() {
    let ground = &grounds()[0];
    let service = ground.open("priority_queue: {enabled: false}");
    assert_eq!(service.deadlocks().unwrap_err().code(), Code::QueueDisabled);
    assert_eq!(service.end_deadlock("x", &[]).unwrap_err().code(), Code::QueueDisabled);
    assert_eq!(service.queues(None).unwrap_err().code(), Code::QueueDisabled);
    assert_eq!(service.status().errors, 0, "whoever looks at everything asks for what is switched off, too");
}
