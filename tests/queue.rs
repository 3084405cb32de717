//! Waiting for locks, over the store of each mode: order, places, runs, sets, what a grant is worth, and what a store that fails comes to.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod queue_support;
mod redis_support;
mod wait;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use atlock::clock::SystemClock;
use atlock::config::Config;
use atlock::domain::lock::ProjectLock;
use atlock::domain::token::FencingToken;
use atlock::error::Code;
use atlock::queue::{Priority, PullId};
use atlock::service::Service;
use atlock::service::queueing::explain::Question;
use atlock::service::queueing::wait::{WaitOptions, Waited, Why};
use queue_support::{
    LONG, REPO, World, begin, holder, key, lock, locks, place, plan, pull, refused_for, release, take, waits, within,
};
use redis_support::Server;
use tempfile::TempDir;
use wait::wait_until;

#[test]
fn who_waits_has_the_lock_in_order() {
    World::each(|world| {
        let service = world.shared();
        take(&service, "a", 1);
        let callers = [(2, Priority::Normal), (3, Priority::Normal), (4, Priority::High)];
        let callers = callers.map(|(num, priority)| waits(&service, "a", num, priority));
        assert_eq!([1, 4, 2, 3].map(|num| place(&service, "a", num)), [Ok(0), Ok(1), Ok(2), Ok(3)], "{}", world.mode);
        for num in [1, 4, 2, 3] {
            wait_until("it has the lock", LONG, || holder(&service, "a") == Some(num));
            release(&service, "a", num);
        }
        callers.into_iter().for_each(|caller| caller.join().unwrap());
        wait_until("nobody waits", LONG, || service.queues(None).unwrap().is_empty());
        service.close().unwrap();
    });
}

#[test]
fn a_wait_that_ends_leaves_no_place() {
    World::each(|world| {
        let service = world.shared();
        take(&service, "a", 1);
        let waited = service.lock(&lock("a", 2), &within(Duration::from_millis(50))).unwrap();
        let Waited::Without { why: Why::Timeout, waiting: Some(waiting), holder: told } = waited else { panic!("{waited:?}") };
        assert_eq!((waiting.position, waiting.why), (1, "held"));
        assert_eq!(ProjectLock::parse(&told).unwrap().pull().num, 1);
        for end in ["cancel", "leave", "close"] {
            let handle = Arc::clone(&service);
            let options = WaitOptions { cancel: Some("c".to_owned()), ..within(LONG) };
            let caller = thread::spawn(move || handle.lock(&lock("a", 3), &options));
            wait_until("it waits", LONG, || place(&service, "a", 3).is_ok());
            match end {
                "cancel" => service.cancel("c").unwrap(),
                "leave" => assert_eq!(service.leave(REPO, &pull(3), Some(&key("a"))).unwrap(), 1),
                _ => service.close().unwrap(),
            }
            let waited = caller.join().unwrap();
            match end {
                "cancel" => assert!(matches!(waited, Ok(Waited::Without { why: Why::Cancelled, .. })), "{waited:?}"),
                "leave" => assert!(matches!(waited, Ok(Waited::Without { why: Why::Left, .. })), "{waited:?}"),
                _ => assert_eq!(waited.unwrap_err().code(), Code::Closed),
            }
        }
        // Also after the close, and another start.
        let service = world.open();
        assert!(service.queues(None).unwrap().is_empty());
        assert_eq!(place(&service, "a", 3), Err(Code::NotQueued));
        assert_eq!(holder(&service, "a"), Some(1));
    });
}

#[test]
fn nobody_slips_in_before_who_is_next() {
    World::each(|world| {
        let service = world.open();
        take(&service, "a", 1);
        let (acquired, ended) = plan(&service, 2, &["a"]);
        assert_eq!((acquired, ended.waiting[&key("a")].position), (vec![false], 1));
        // Who is no part of a run joins nothing.
        assert_eq!(refused_for(&service, "a", 3), 1);
        assert_eq!(place(&service, "a", 3), Err(Code::NotQueued));
        release(&service, "a", 1);
        // Free, and kept for pull 2, whose lock that is not yet.
        assert_eq!(refused_for(&service, "a", 3), 2);
        assert!(service.list().unwrap().is_empty() && holder(&service, "a").is_none());
        take(&service, "a", 2);
        assert!(service.queues(None).unwrap().is_empty());
        release(&service, "a", 2);
        take(&service, "a", 3);
    });
}

#[test]
fn a_place_survives_a_restart_and_a_release_meanwhile() {
    World::each(|world| {
        let service = world.open();
        take(&service, "a", 1);
        plan(&service, 2, &["a"]);
        plan(&service, 3, &["a"]);
        release(&service, "a", 1);
        service.close().unwrap();
        let service = world.open();
        assert_eq!([place(&service, "a", 2), place(&service, "a", 3)], [Ok(1), Ok(2)], "{}", world.mode);
        assert_eq!(refused_for(&service, "a", 3), 2);
        take(&service, "a", 2);
    });
}

#[test]
fn two_servers_keep_one_order() {
    for mode in ["native", "cluster"] {
        let world = World::new(mode);
        let (one, other) = (world.shared(), world.shared());
        take(&one, "a", 1);
        let callers = [waits(&one, "a", 2, Priority::Normal), waits(&other, "a", 3, Priority::Normal)];
        assert_eq!(place(&one, "a", 3), Ok(2));
        release(&other, "a", 1);
        for num in [2, 3] {
            wait_until("it has the lock", LONG, || holder(&one, "a") == Some(num));
            release(&one, "a", num);
        }
        callers.into_iter().for_each(|caller| caller.join().unwrap());
    }
}

#[test]
fn a_plan_keeps_its_locks_over_what_it_gives_up_in_between() {
    World::each(|world| {
        let service = world.open();
        let before = ["a", "b", "c"].map(|path| take(&service, path, 1));
        plan(&service, 2, &["a", "b", "c"]);
        let run = begin(&service, 1, "plan", &["c"]);
        assert!(service.unlock_if_owned_by_pull(&lock("a", 1), 1).unwrap().is_some());
        let given_up = service.unlock_by_pull(REPO, 1).unwrap();
        assert_eq!(given_up.len(), 3, "Atlantis is told that they are released");
        assert_eq!(["a", "b", "c"].map(|path| holder(&service, path)), [Some(1); 3], "and nobody else gets in");
        let again = service.try_lock_in(run, &lock("a", 1)).unwrap();
        assert_eq!((again.acquired, again.token), (true, before[0]), "the same grant goes on");
        let ended = service.run_end(run).unwrap();
        // `b` is not planned any more; `c` was applied, and its change is not merged.
        assert_eq!(ended.released, [key("b")]);
        assert_eq!(["a", "b", "c"].map(|path| holder(&service, path)), [Some(1), None, Some(1)]);
        assert_eq!(refused_for(&service, "b", 3), 2);
    });
}

#[test]
fn what_a_person_gives_up_is_given_up_at_once() {
    let world = World::new("strict");
    let service = world.open();
    take(&service, "a", 1);
    take(&service, "b", 1);
    let plan = begin(&service, 1, "plan", &[]);
    // The page.
    assert!(service.unlock(&lock("a", 1)).unwrap().is_some());
    assert_eq!(holder(&service, "a"), None);
    // A comment.
    let unlock = begin(&service, 1, "unlock", &[]);
    assert_eq!(service.unlock_by_pull(REPO, 1).unwrap().len(), 1);
    assert_eq!(holder(&service, "b"), None);
    service.run_end(unlock).unwrap();
    service.run_end(plan).unwrap();
}

#[test]
fn a_deferred_release_releases_no_later_grant() {
    let world = World::new("strict");
    let service = world.open();
    take(&service, "a", 1);
    let run = begin(&service, 1, "plan", &[]);
    assert!(service.unlock_if_owned_by_pull(&lock("a", 1), 1).unwrap().is_some());
    release(&service, "a", 1);
    take(&service, "a", 2);
    assert_eq!(service.run_end(run).unwrap().released, [] as [String; 0]);
    assert_eq!(holder(&service, "a"), Some(2));
}

#[test]
fn an_unlocked_pull_waits_no_more() {
    World::each(|world| {
        let service = world.open();
        take(&service, "a", 1);
        plan(&service, 2, &["a", "b"]);
        assert_eq!(service.unlock_by_pull(REPO, 2).unwrap().len(), 1);
        assert_eq!(place(&service, "a", 2), Err(Code::NotQueued));
        release(&service, "a", 1);
        take(&service, "a", 3);
    });
}

#[test]
fn a_set_is_had_whole_or_not_at_all() {
    World::each(|world| {
        let world = World { sets: "whole", ..world.again() };
        let service = world.open();
        take(&service, "b", 1);
        let (acquired, ended) = plan(&service, 2, &["a", "b", "c"]);
        assert_eq!(acquired, [false; 3]);
        assert_eq!(["a", "b", "c"].map(|path| holder(&service, path)), [None, Some(1), None]);
        assert_eq!(ended.waiting.len(), 3);
        let run = begin(&service, 2, "plan", &[]);
        service.run_declare(run, &locks(&["a", "b"], 2)).unwrap();
        let refused = service.try_lock_in(run, &lock("a", 2)).unwrap();
        let waiting = refused.waiting.unwrap();
        assert_eq!((waiting.why, waiting.blocker.unwrap().key), ("set", key("b")));
        assert_eq!(ProjectLock::parse(&refused.value).unwrap().pull().num, 1);
        service.run_end(run).unwrap();
        // Who comes later may use what the set cannot use yet.
        assert_eq!(plan(&service, 3, &["a"]).0, [true]);
        release(&service, "a", 3);
        release(&service, "b", 1);
        assert_eq!(plan(&service, 2, &["a", "b", "c"]).0, [true; 3]);
        assert!(service.queues(None).unwrap().is_empty());
    });
}

#[test]
fn a_grant_is_worth_something_until_it_is_over() {
    World::each(|world| {
        let service = world.open();
        let token = take(&service, "a", 1);
        let check = |num, token| service.check(&key("a"), REPO, &pull(num), token).unwrap();
        assert!(check(1, Some(token)).holds && check(1, None).holds);
        assert_eq!(check(1, Some(token)).token, Some(token));
        assert!(!check(2, None).holds && !check(1, Some(FencingToken::new(token.get() + 1))).holds);
        release(&service, "a", 1);
        assert!(!check(1, Some(token)).holds && check(1, None).holder.is_none());
        let later = take(&service, "a", 1);
        assert!(later > token && !check(1, Some(token)).holds);
    });
}

#[test]
fn without_a_queue_a_caller_waits_all_the_same() {
    let folder = TempDir::new().unwrap();
    let text = format!("locking: {{backend: sled, data_dir: {:?}}}", folder.path());
    let service = Arc::new(Service::open(&Config::parse(&text, "test").unwrap(), None, Arc::new(SystemClock)).unwrap());
    take(&service, "a", 1);
    let handle = Arc::clone(&service);
    let caller = thread::spawn(move || handle.lock(&lock("a", 2), &within(LONG)).unwrap());
    wait_until("it asked", LONG, || service.stats().unwrap().total_requests >= 1);
    release(&service, "a", 1);
    assert!(matches!(caller.join().unwrap(), Waited::Locked { .. }));
    assert_eq!(place(&service, "a", 2), Ok(0));
    assert_eq!(place(&service, "a", 3), Err(Code::QueueDisabled));
    assert_eq!(service.queues(None).unwrap_err().code(), Code::QueueDisabled);
}

#[test]
fn bad_input_changes_nothing() {
    let world = World::new("strict");
    let service = world.open();
    take(&service, "a", 1);
    let code = |waited: atlock::error::Result<Waited>| waited.unwrap_err().code();
    assert_eq!(code(service.lock(&lock("a", 0), &within(LONG))), Code::NoPull);
    assert_eq!(code(service.lock(&lock("a", -3), &within(LONG))), Code::NoPull);
    assert_eq!(code(service.lock(&lock("a", 2), &within(Duration::from_secs(3 * 3600)))), Code::InvalidArgument);
    let run = begin(&service, 2, "plan", &[]);
    let declared = |locks: Vec<u8>| service.run_declare(run, &locks).unwrap_err().code();
    assert_eq!(declared(locks(&["a", "a"], 2)), Code::InvalidArgument);
    assert_eq!(declared(locks(&["a"], 3)), Code::InvalidArgument);
    let many: Vec<String> = (0..501).map(|at| format!("p{at}")).collect();
    assert_eq!(declared(locks(&many.iter().map(String::as_str).collect::<Vec<_>>(), 2)), Code::TooLarge);
    assert_eq!(service.try_lock_in(run, &lock("a", 3)).unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(service.try_lock_in(run + 1, &lock("a", 2)).unwrap_err().code(), Code::InvalidArgument);
    service.run_end(run).unwrap();
    assert_eq!(service.run_end(run).unwrap_err().code(), Code::InvalidArgument);
    assert!(service.queues(None).unwrap().is_empty());
}

#[test]
fn a_queue_that_cannot_be_read_fails_no_lock() {
    let world = World::new("native");
    let service = world.open();
    take(&service, "a", 1);
    plan(&service, 2, &["a"]);
    let mut raw = world.server.as_ref().unwrap().raw();
    for damage in ["{", r#"{"version":99}"#] {
        redis::cmd("SET").arg(format!("atlock:queue:{REPO}")).arg(damage).exec(&mut raw).unwrap();
        release(&service, "a", 1);
        // Its gate is there, and nobody knows for whom.
        take(&service, "a", 3);
        assert_eq!(plan(&service, 2, &["a"]).0, [false]);
        let warnings = service.status().warnings.join(" ");
        assert!(warnings.contains("queue"), "{warnings}");
        let left: String = redis::cmd("GET").arg(format!("atlock:queue:{REPO}")).query(&mut raw).unwrap();
        assert_eq!(left, damage);
        assert_eq!(service.leave(REPO, &PullId { host: String::new(), num: 0 }, None).unwrap(), 0);
        assert!(!service.status().warnings.join(" ").contains("queue"));
        redis::cmd("SET").arg(format!("atlock:queue:{REPO}")).arg(damage).exec(&mut raw).unwrap();
        release(&service, "a", 3);
        take(&service, "a", 1);
    }
}

#[test]
fn a_gate_that_nobody_is_behind_opens_for_who_asks() {
    let world = World::new("native");
    let service = world.open();
    take(&service, "a", 1);
    plan(&service, 2, &["a"]);
    let mut raw = world.server.as_ref().unwrap().raw();
    redis::cmd("DEL").arg(format!("atlock:queue:{REPO}")).exec(&mut raw).unwrap();
    release(&service, "a", 1);
    take(&service, "a", 3);
}

#[test]
fn places_survive_a_redis_that_lost_everything() {
    let mut world = World::new("hybrid");
    let service = world.open();
    take(&service, "a", 1);
    plan(&service, 2, &["a"]);
    plan(&service, 3, &["a"]);
    world.server.as_mut().unwrap().restart();
    wait_until("Redis has it again", LONG, || {
        let report = service.status();
        !report.fallback_active && holder(&service, "a") == Some(1) && place(&service, "a", 3) == Ok(2)
    });
    release(&service, "a", 1);
    assert_eq!(refused_for(&service, "a", 3), 2);
    take(&service, "a", 2);
}

#[test]
fn order_goes_on_while_redis_is_away_and_after_it() {
    let mut world = World::new("hybrid");
    let service = world.open();
    take(&service, "a", 1);
    plan(&service, 2, &["a"]);
    world.server.as_mut().unwrap().kill();
    wait_until("the local store decides", LONG, || service.status().fallback_active);
    plan(&service, 3, &["a"]);
    assert_eq!([place(&service, "a", 2), place(&service, "a", 3)], [Ok(1), Ok(2)]);
    release(&service, "a", 1);
    assert_eq!(refused_for(&service, "a", 3), 2);
    take(&service, "a", 2);
    plan(&service, 4, &["a"]);
    let port = world.server.as_ref().unwrap().port;
    world.server = Some(Server::start_at(port, &[]));
    wait_until("Redis decides again", LONG, || !service.status().fallback_active);
    assert_eq!([place(&service, "a", 3), place(&service, "a", 4)], [Ok(1), Ok(2)]);
    release(&service, "a", 2);
    assert_eq!(refused_for(&service, "a", 4), 3);
    take(&service, "a", 3);
}

#[test]
fn who_waits_and_what_is_old_is_counted() {
    let mut world = World::new("strict");
    world.timeouts = "default: 1ms, max: 1ms";
    let service = world.open();
    take(&service, "a", 1);
    plan(&service, 2, &["a"]);
    service.close().unwrap();
    // Each start looks at everything.
    let service = world.open();
    wait_until("it is counted", LONG, || {
        let text = service.metrics();
        ["atlock_queue_tickets{priority=\"normal\"} 1\n", "atlock_locks_old 1\n", "atlock_freezes 0\n"]
            .iter()
            .all(|line| text.contains(line))
    });
    let text = service.metrics();
    assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1, "{text}");
    assert_eq!(holder(&service, "a"), Some(1), "no lock is released by time");
    let explained = service.explain(&Question::Key { key: key("a") }).unwrap();
    assert!(explained[0].holder.as_ref().unwrap().is_old, "{explained:?}");
    assert!(explained[0].frees_it.iter().any(|way| way.contains("is held for longer than 1ms")), "{explained:?}");
}

/// A plan of one project by a pull with these labels.
fn plan_labelled(service: &Service, num: i64, labels: &[String]) -> Result<(), Code> {
    let request = serde_json::json!({
        "repo": REPO, "pull": {"host": "git.example.com", "num": num}, "command": "plan", "labels": labels,
    });
    let run = service.run_begin(&serde_json::from_value(request).unwrap()).map_err(|error| error.code())?;
    service.try_lock_in(run, &lock("a", num)).unwrap();
    service.run_end(run).map(drop).map_err(|error| error.code())
}

/// A label that is put on a pull counts from its next plan on; one that is taken off takes no place away.
#[test]
fn a_label_gives_a_pull_its_priority_when_it_is_planned() {
    World::each(|world| {
        let world = World { sets: "each, rules: [{label: 'hotfix*', priority: critical}]", ..world.again() };
        let (service, hotfix) = (world.open(), ["docs".to_owned(), "hotfix/7".to_owned()]);
        let places = || (place(&service, "a", 2), place(&service, "a", 3));
        take(&service, "a", 1);
        plan_labelled(&service, 2, &[]).unwrap();
        plan_labelled(&service, 3, &hotfix[..1]).unwrap();
        assert_eq!(places(), (Ok(1), Ok(2)), "{}", world.mode);
        plan_labelled(&service, 3, &hotfix).unwrap();
        assert_eq!(places(), (Ok(2), Ok(1)), "{}", world.mode);
        plan_labelled(&service, 3, &[]).unwrap();
        assert_eq!(places(), (Ok(2), Ok(1)), "{}", world.mode);
    });
}

#[test]
fn labels_are_bounded() {
    let world = World::new("strict");
    let service = world.open();
    let labels = |number: usize, bytes: usize| vec!["x".repeat(bytes); number];
    assert_eq!(plan_labelled(&service, 1, &labels(100, 1024)), Ok(()));
    assert_eq!(plan_labelled(&service, 1, &labels(101, 1)), Err(Code::TooLarge));
    assert_eq!(plan_labelled(&service, 1, &labels(1, 1025)), Err(Code::TooLarge));
}
