//! A queue for some repositories only: the others are as if there were none.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod queue_support;
mod redis_support;
mod wait;

use std::time::Duration;

use atlock::error::Code;
use atlock::queue::freeze::FreezeRequest;
use atlock::service::Service;
use atlock::service::queueing::explain::Question;
use atlock::service::queueing::runs::RunRequest;
use atlock::service::queueing::wait::{WaitOptions, Waited};
use queue_support::{LONG, REPO, World, holder, key, lock, locks, place, plan, pull, refused_for, release, take, within};
use wait::wait_until;

/// Beside [`REPO`].
const OTHER: &str = "acme/web";

fn lock_of_other(path: &str, num: i64) -> Vec<u8> {
    String::from_utf8(lock(path, num)).unwrap().replace(REPO, OTHER).into_bytes()
}

fn run_of(repo: &str, num: i64) -> RunRequest {
    let request = serde_json::json!({ "repo": repo, "pull": pull(num), "command": "plan" });
    serde_json::from_value(request).unwrap()
}

/// A pull of the other repository joins its queue.
fn plan_of_other(service: &Service, num: i64) {
    let run = service.run_begin(&run_of(OTHER, num)).unwrap();
    assert!(!service.try_lock_in(run, &lock_of_other("a", num)).unwrap().acquired);
    service.run_end(run).unwrap();
}

fn explained(service: &Service) -> Option<String> {
    service.explain(&Question::Key { key: key("a") }).unwrap().remove(0).no_queue
}

/// Pull 1 holds `a` in both repositories, and pull 2 waits. Then the patterns leave one repository out.
#[test]
fn a_repository_that_no_pattern_fits_is_as_without_a_queue() {
    for mode in ["strict", "native", "hybrid"] {
        let mut world = World::new(mode);
        let service = world.open();
        assert_eq!(service.status().queue_repos, ["*"]);
        take(&service, "a", 1);
        plan(&service, 2, &["a"]);
        service.try_lock(&lock_of_other("a", 1)).unwrap();
        plan_of_other(&service, 2);
        assert_eq!((place(&service, "a", 2), explained(&service)), (Ok(1), None), "{mode}");
        service.close().unwrap();

        world.repos = "['other/*', 'acme/w*']";
        let service = world.open();
        assert_eq!(service.status().queue_repos, ["other/*", "acme/w*"]);
        let why = "\"acme/infra\" has no queue: locking.enhanced.priority_queue.repos has no pattern that fits";
        assert_eq!(explained(&service).as_deref(), Some(why), "{mode}");
        for refused in [
            service.run_begin(&run_of(REPO, 3)).unwrap_err(),
            service.lock_set(&locks(&["a", "b"], 3), &WaitOptions::default()).unwrap_err(),
            service.queues(Some(REPO)).unwrap_err(),
            service.leave(REPO, &pull(2), None).unwrap_err(),
            service.position(&key("a"), REPO, Some(&pull(2))).unwrap_err(),
        ] {
            assert_eq!((refused.code(), refused.message()), (Code::QueueDisabled, why), "{mode}");
        }
        assert_eq!(service.queues(None).unwrap().into_keys().collect::<Vec<_>>(), [OTHER], "{mode}");
        // A look at all queues sees one pull that waits, not two.
        wait_until("the queues are looked at", LONG, || service.metrics().contains("queue_tickets{priority=\"normal\"} 1\n"));

        // A refusal is stock's, and leaves no place; the lock goes to whoever asks first after its release.
        assert_eq!(refused_for(&service, "a", 3), 1);
        let waited = service.lock(&lock("a", 3), &within(Duration::from_millis(50))).unwrap();
        assert!(matches!(waited, Waited::Without { waiting: None, .. }), "{mode}: {waited:?}");
        release(&service, "a", 1);
        take(&service, "a", 3);
        release(&service, "a", 3);
        // The other repository has its queue as before.
        service.unlock(&lock_of_other("a", 1)).unwrap().unwrap();
        assert!(service.try_lock(&lock_of_other("a", 4)).is_ok());
        let first = service.queues(Some(OTHER)).unwrap().remove(OTHER).unwrap().remove(0);
        assert_eq!(first.pull.num, 2, "{mode}");
        assert!(first.keys.values().all(|key| key.reserved_until.is_some()), "{mode}: {first:?}");

        // Freezes are for all repositories.
        let freeze = serde_json::json!({ "pattern": { "repo": REPO }, "reason": "r", "owner": "o", "open_ended": true });
        let frozen = service.freeze(&serde_json::from_value::<FreezeRequest>(freeze).unwrap()).unwrap();
        assert_eq!(service.try_lock(&lock("a", 5)).unwrap_err().code(), Code::Frozen, "{mode}");
        service.thaw(&frozen.id).unwrap().unwrap();
        service.close().unwrap();

        // The places are where they were.
        world.repos = "['acme/*']";
        let service = world.open();
        assert_eq!((place(&service, "a", 2), holder(&service, "a")), (Ok(1), None), "{mode}");
    }
}

/// Whoever waits there without a place has the lock once it is released.
#[test]
fn who_waits_without_a_queue_asks_again() {
    let world = World { repos: "['other/*']", ..World::new("strict") };
    let service = world.shared();
    take(&service, "a", 1);
    let handle = std::sync::Arc::clone(&service);
    let caller = std::thread::spawn(move || handle.lock(&lock("a", 2), &within(LONG)));
    release(&service, "a", 1);
    assert!(matches!(caller.join().unwrap().unwrap(), Waited::Locked { .. }));
    assert_eq!(holder(&service, "a"), Some(2));
}
