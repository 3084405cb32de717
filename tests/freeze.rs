//! Locks that nobody is to take for now, and why a lock is as it is; over the stores of each mode.
#![allow(clippy::unwrap_used)]

mod queue_support;
mod redis_support;
mod wait;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use atlock::error::Code;
use atlock::queue::freeze::{Freeze, FreezeRequest};
use atlock::service::Service;
use atlock::service::queueing::explain::{Explained, Question, State, question};
use atlock::service::queueing::wait::WaitOptions;
use queue_support::ground::{begin, grounds, is_granted, plan};
use queue_support::{REPO, key, lock, pull, take};
use wait::wait_until;

const PATIENCE: Duration = Duration::from_secs(20);
const QUEUE: &str = "priority_queue: {enabled: true}";

fn request(path: &str, more: &str) -> FreezeRequest {
    let text =
        format!(r#"{{"pattern": {{"repo": "{REPO}", "path": "{path}"}}, "reason": "incident 1231", "owner": "ada", {more}}}"#);
    serde_json::from_str(&text).unwrap()
}

fn in_an_hour() -> u64 {
    u64::try_from((SystemTime::now() + Duration::from_secs(3600)).duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

fn freeze(service: &Service, path: &str) -> Freeze {
    service.freeze(&request(path, &format!("\"until\": {}", in_an_hour()))).unwrap()
}

fn refused(service: &Service, path: &str, num: i64) -> bool {
    match service.try_lock(&lock(path, num)) {
        Err(error) if error.code() == Code::Frozen => {
            let text = error.message();
            assert!(text.contains("is frozen by ada until ") && text.ends_with(" UTC: incident 1231"), "{text}");
            true
        }
        Err(error) => panic!("{error}"),
        Ok(_) => false,
    }
}

#[test]
fn a_frozen_lock_is_refused_and_a_held_one_is_not_touched() {
    for ground in grounds() {
        let service = ground.open(QUEUE);
        take(&service, "prod/db", 1);
        let frozen = freeze(&service, "prod/*");
        assert_eq!(service.freezes().unwrap(), std::slice::from_ref(&frozen), "{}", ground.mode);
        assert!(refused(&service, "prod/net", 2) && !refused(&service, "dev", 2));
        // In a run, for one who waits, and for a set.
        let run = service.run_begin(&begin(3)).unwrap();
        assert_eq!(service.try_lock_in(run, &lock("prod/net", 3)).unwrap_err().code(), Code::Frozen);
        service.run_end(run).unwrap();
        let waited = service.lock(&lock("prod/net", 4), &WaitOptions::default());
        assert_eq!(waited.unwrap_err().code(), Code::Frozen);
        assert!(service.queues(None).unwrap().is_empty());
        // The holder plans again, others wait behind it, and the lock is released.
        assert!(plan(&service, 1, &["prod/db"])[0].acquired);
        let behind = plan(&service, 5, &["prod/db"]).remove(0);
        assert_eq!((behind.acquired, behind.waiting.unwrap().why), (false, "held"));
        assert!(service.unlock(&lock("prod/db", 1)).unwrap().is_some());
        // It is kept for nobody while it is frozen, also not where somebody is next; the place stays.
        assert!(refused(&service, "prod/db", 5) && refused(&service, "prod/db", 6));
        assert_eq!(service.position(&key("prod/db"), REPO, Some(&pull(5))).unwrap(), 1);
        let queue = service.queues(Some(REPO)).unwrap().remove(REPO).unwrap();
        assert!(queue[0].keys[&key("prod/db")].reserved_until.is_none(), "{queue:?}");

        assert_eq!(service.thaw("none").unwrap(), None);
        assert_eq!(service.thaw(&frozen.id).unwrap(), Some(frozen));
        assert!(service.freezes().unwrap().is_empty());
        assert!(!is_granted(&service.try_lock(&lock("prod/db", 6)).unwrap()));
        take(&service, "prod/db", 5);
        take(&service, "prod/net", 2);
        assert_eq!((ground.told("freeze"), ground.told("thaw")), (1, 1));
    }
}

#[test]
fn a_set_with_a_frozen_lock_gets_nothing() {
    for ground in grounds() {
        let service = ground.open("priority_queue: {enabled: true, sets: whole}");
        freeze(&service, "b");
        let run = service.run_begin(&begin(1)).unwrap();
        service.run_declare(run, &[&b"["[..], &lock("a", 1), b",", &lock("b", 1), b"]"].concat()).unwrap();
        assert_eq!(service.try_lock_in(run, &lock("a", 1)).unwrap_err().code(), Code::Frozen);
        service.run_end(run).unwrap();
        assert!(service.list().unwrap().is_empty() && service.queues(None).unwrap().is_empty(), "{}", ground.mode);
    }
}

#[test]
fn freezes_outlive_a_restart_and_reach_other_servers() {
    for ground in grounds() {
        let service = ground.open(QUEUE);
        let frozen = freeze(&service, "a");
        if ground.mode == "native" {
            let other = ground.open_in("other", QUEUE);
            assert!(refused(&other, "a", 1));
            other.thaw(&frozen.id).unwrap();
            wait_until("the first server knows", PATIENCE, || !refused(&service, "a", 1));
            service.unlock_by_pull(REPO, 1).unwrap();
            freeze(&service, "a");
        }
        drop(service);
        assert!(refused(&ground.open(QUEUE), "a", 1), "{}", ground.mode);
    }
}

#[test]
fn a_freeze_says_its_end_or_that_it_has_none() {
    let ground = &grounds()[0];
    let service = ground.open(QUEUE);
    for wrong in ["\"plans\": \"deny\"", "\"until\": 1", "\"until\": 99999999999999999, \"open_ended\": true"] {
        assert_eq!(service.freeze(&request("a", wrong)).unwrap_err().code(), Code::InvalidArgument, "{wrong}");
    }
    assert!(service.freezes().unwrap().is_empty());
    let open = service.freeze(&request("a", "\"open_ended\": true, \"plans\": \"allow\"")).unwrap();
    // Only applies are to be refused, by whoever runs them.
    take(&service, "a", 1);
    let explained = explain(&service, "a");
    assert_eq!(explained.state, State::Held);
    assert!(
        explained.blocked_by.iter().any(|block| block.kind == "freeze" && block.what.contains("plans are not")),
        "{explained:?}"
    );
    service.thaw(&open.id).unwrap();
}

#[test]
fn without_a_queue_there_are_no_freezes() {
    let ground = &grounds()[0];
    let service = ground.open("priority_queue: {enabled: false}");
    for refused in [
        service.freeze(&request("a", "\"open_ended\": true")).map(drop),
        service.thaw("x").map(drop),
        service.freezes().map(drop),
    ] {
        assert_eq!(refused.unwrap_err().code(), Code::QueueDisabled);
    }
    take(&service, "a", 1);
    // What holds a lock is explained all the same.
    assert_eq!(explain(&service, "a").state, State::Held);
}

fn explain(service: &Service, path: &str) -> Explained {
    service.explain(&Question::Key { key: key(path) }).unwrap().remove(0)
}

#[test]
fn it_is_explained_why_a_lock_is_as_it_is() {
    for ground in grounds() {
        let service = ground.open("priority_queue: {enabled: true}, deadlock_detection: {enabled: true, confirm: 200ms}");
        let free = explain(&service, "a");
        assert_eq!(
            (free.state, free.holder, &*free.frees_it),
            (State::Free, None, &["nothing has to be done: the lock is free".to_owned()][..])
        );
        take(&service, "a", 1);
        plan(&service, 2, &["a"]);
        let held = explain(&service, "a");
        let holder = held.holder.unwrap();
        assert_eq!((held.state, &holder.pull, &*holder.user), (State::Held, &pull(1), "ada"));
        assert_eq!((&*holder.url, holder.token.is_some()), ("https://git.example.com/1", true));
        assert_eq!(held.queue.iter().map(|waits| &waits.pull).collect::<Vec<_>>(), [&pull(2)]);
        assert!(held.frees_it.contains(&"merge or close pull #1".to_owned()), "{:?}", held.frees_it);
        assert!(!held.stale && held.deadlock.is_none(), "{}", ground.mode);

        service.unlock(&lock("a", 1)).unwrap();
        let reserved = explain(&service, "a");
        assert_eq!((reserved.state, &*reserved.blocked_by[0].who), (State::Reserved, "#2"));
        assert!(reserved.queue[0].reserved_until.is_some() && reserved.frees_it[0].contains("plan pull #2"), "{reserved:?}");
        let frozen = freeze(&service, "a");
        let explained = explain(&service, "a");
        assert_eq!(explained.state, State::Frozen, "{explained:?}");
        assert!(explained.frees_it.iter().any(|way| way.ends_with(&format!("end the freeze {}", frozen.id))), "{explained:?}");
        service.thaw(&frozen.id).unwrap();

        // All that a pull holds or waits for, and the circle that it is in.
        take(&service, "a", 2);
        take(&service, "b", 3);
        plan(&service, 2, &["b"]);
        plan(&service, 3, &["a"]);
        let of_pull = |num| service.explain(&Question::Pull { repo: REPO.to_owned(), pull: pull(num) }).unwrap();
        assert_eq!(of_pull(2).iter().map(|lock| lock.key.clone()).collect::<Vec<_>>(), [key("a"), key("b")]);
        wait_until("the circle is told", PATIENCE, || of_pull(2).iter().all(|lock| lock.deadlock.is_some()));
        assert!(of_pull(9).is_empty());
    }
}

/// The thread that looks at queues must not be who closes the store.
#[test]
fn a_server_that_is_dropped_lets_go_of_its_store() {
    let ground = &grounds()[0];
    for _ in 0..20 {
        drop(ground.open(QUEUE));
    }
}

#[test]
fn a_question_names_a_key_or_a_pull() {
    assert_eq!(question(br#"{"key": "a/b/c/d/"}"#).unwrap(), Question::Key { key: "a/b/c/d/".to_owned() });
    let pull_json = br#"{"repo": "acme/infra", "pull": {"host": "git.example.com", "num": 7}}"#;
    assert_eq!(question(pull_json).unwrap(), Question::Pull { repo: REPO.to_owned(), pull: pull(7) });
    for wrong in [&b"{}"[..], b"7", br#"{"repo": "x"}"#] {
        assert_eq!(question(wrong).unwrap_err().code(), Code::InvalidJson);
    }
}

/// Atlantis's API and its drift detection take locks for no pull request: nobody is told to close one.
#[test]
fn a_lock_of_no_pull_request_is_explained_without_one() {
    let ground = &grounds()[0];
    let service = ground.open(QUEUE);
    take(&service, "a", -577);
    let explained = explain(&service, "a");
    let text = format!("{explained:?}");
    assert!(text.contains("a call of Atlantis's API, or its drift detection, has the lock since"), "{text}");
    assert!(explained.frees_it[0].starts_with("wait: a call of Atlantis's API") && !text.contains("#-577"), "{text}");
}
