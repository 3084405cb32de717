//! Waiting for locks, over the stores of each mode.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use atlock::clock::SystemClock;
use atlock::config::Config;
use atlock::error::Code;
use atlock::queue::{Priority, PullId};
use atlock::service::Service;
use atlock::service::queueing::runs::RunRequest;
use atlock::service::queueing::wait::{WaitOptions, Waited, Why};
use atlock::store::Granted;
use tempfile::TempDir;

const REPO: &str = "acme/infra";

fn lock(path: &str, num: i64) -> Vec<u8> {
    serde_json::json!({
        "Project": {"ProjectName": "", "RepoFullName": REPO, "Path": path},
        "Pull": {"Num": num, "URL": format!("https://git.example.com/{num}"), "Author": "ada",
            "BaseRepo": {"FullName": REPO, "VCSHost": {"Hostname": "git.example.com", "Type": 0}}},
        "User": {"Username": "ada"}, "Workspace": "default", "Time": "2026-11-30T00:00:00Z",
    })
    .to_string()
    .into_bytes()
}

fn key(path: &str) -> String {
    format!("{REPO}/{path}/default/")
}

fn pull(num: i64) -> PullId {
    PullId { host: "git.example.com".to_owned(), num }
}

fn sled(folder: &TempDir) -> Service {
    let text = format!(
        "locking: {{backend: sled, data_dir: {}, enhanced: {{priority_queue: {{enabled: true}}}}}}",
        folder.path().join("locks").display()
    );
    Service::open(&Config::parse(&text, "test").unwrap(), None, Arc::new(SystemClock)).unwrap()
}

fn within(seconds: u64) -> WaitOptions {
    WaitOptions { timeout: Some(Duration::from_secs(seconds)), ..WaitOptions::default() }
}

fn is_granted(granted: &Granted) -> bool {
    matches!(granted, Granted::Yes { .. })
}

#[test]
fn who_waits_has_the_lock_next_in_order() {
    let folder = TempDir::new().unwrap();
    let service = Arc::new(sled(&folder));
    assert!(is_granted(&service.try_lock(&lock("a", 1)).unwrap()));
    let place = |num| service.position(&key("a"), REPO, Some(&pull(num)));
    let wait = |num, priority| {
        let (handle, options) = (Arc::clone(&service), WaitOptions { priority, ..within(20) });
        let waiting = thread::spawn(move || handle.lock(&lock("a", num), &options).unwrap());
        until(|| place(num).is_ok());
        waiting
    };
    let threads = [wait(2, Priority::Normal), wait(3, Priority::Normal), wait(4, Priority::High)];
    assert_eq!([1, 4, 2, 3].map(|num| place(num).unwrap()), [0, 1, 2, 3]);
    for num in [1, 4, 2, 3] {
        until(|| place(num).unwrap() == 0);
        assert!(service.unlock(&lock("a", num)).unwrap().is_some());
    }
    for thread in threads {
        let waited = thread.join().unwrap();
        assert!(matches!(waited, Waited::Locked { .. }), "{waited:?}");
    }
    assert!(service.queues(None).unwrap().is_empty());
}

/// Waits for it, for a while.
fn until(is_so: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < end, "it did not happen");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_wait_that_ends_leaves_no_place() {
    let folder = TempDir::new().unwrap();
    let service = Arc::new(sled(&folder));
    assert!(is_granted(&service.try_lock(&lock("a", 1)).unwrap()));
    let waited = service.lock(&lock("a", 2), &WaitOptions { timeout: Some(Duration::from_millis(50)), ..WaitOptions::default() });
    let Ok(Waited::Without { why: Why::Timeout, waiting: Some(waiting), .. }) = waited else { panic!("{waited:?}") };
    assert_eq!((waiting.position, waiting.why), (1, "held"));
    let options = WaitOptions { cancel: Some("c".to_owned()), ..within(20) };
    let thread = thread::spawn({
        let service = Arc::clone(&service);
        move || service.lock(&lock("a", 3), &options)
    });
    until(|| service.position(&key("a"), REPO, Some(&pull(3))).is_ok());
    service.cancel("c").unwrap();
    assert!(matches!(thread.join().unwrap(), Ok(Waited::Without { why: Why::Cancelled, .. })));
    assert!(service.queues(None).unwrap().is_empty());
    assert_eq!(service.position(&key("a"), REPO, Some(&pull(3))).unwrap_err().code(), Code::NotQueued);
}

#[test]
fn nobody_slips_in_before_who_is_next() {
    let folder = TempDir::new().unwrap();
    let service = sled(&folder);
    assert!(is_granted(&service.try_lock(&lock("a", 1)).unwrap()));
    let run = service.run_begin(&begin(2)).unwrap();
    let refused = service.try_lock_in(run, &lock("a", 2)).unwrap();
    assert!(!refused.acquired);
    assert_eq!(refused.waiting.unwrap().position, 1);
    service.run_end(run).unwrap();
    assert!(service.unlock(&lock("a", 1)).unwrap().is_some());
    // Free, and kept: who asks is told of pull 2, which has no lock yet.
    let Granted::Held { value } = service.try_lock(&lock("a", 3)).unwrap() else { panic!("it is kept") };
    assert!(String::from_utf8(value).unwrap().contains("\"Num\":2"));
    assert!(service.list().unwrap().is_empty() && service.get_lock(&lock("a", 3)).unwrap().is_none());
    assert!(is_granted(&service.try_lock(&lock("a", 2)).unwrap()));
    assert!(service.queues(None).unwrap().is_empty());
}

fn begin(num: i64) -> RunRequest {
    let json = format!(r#"{{"repo": "{REPO}", "pull": {{"host": "git.example.com", "num": {num}}}, "command": "plan"}}"#);
    serde_json::from_str(&json).unwrap()
}
