//! Lost replies, late commands, servers that hang or restart: a change happens once, in time, or not at all (P1, P5).
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod redis_support;
mod wait;

use std::sync::Arc;
use std::time::{Duration, Instant};

use atlock::domain::lock::ProjectLock;
use atlock::error::Code;
use atlock::store::{Expected, Grant, Granted, LockKey, Store, Swap};
use redis_support::proxy::Proxy;
use redis_support::{Server, call, fields, get, grant, grant_within, lock_json, open, release, release_within, settings, take};

/// More than any pause of ours, and a slow machine's.
const SLACK: Duration = Duration::from_secs(2);

#[test]
fn a_grant_whose_reply_was_lost_is_answered_by_its_first_answer() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(&server.address());
    let store = open(&settings(&proxy.address)).unwrap();
    proxy.lose_reply(|| ());
    let token = take(&store, fields("a"), 1);
    assert!(proxy.is_done());
    let side: String = redis::cmd("HGET").arg("{pr/acme/infra/a/default/}:atlock").arg("token").query(&mut server.raw()).unwrap();
    assert_eq!(side, token.to_string());
    assert!(matches!(grant(&store, fields("a"), 2).unwrap(), Granted::Held { value } if value == lock_json(fields("a"), 1)));
}

#[test]
fn a_grant_that_was_released_meanwhile_is_not_made_again() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(&server.address());
    let store = open(&settings(&proxy.address)).unwrap();
    let operator = open(&settings(&server.address())).unwrap();
    proxy.lose_reply(move || assert!(release(&operator, fields("a")).unwrap().is_some()));
    assert!(matches!(grant(&store, fields("a"), 1).unwrap(), Granted::Yes { .. }));
    assert_eq!(get(&store, fields("a")), None, "it was granted once, and that grant was released");
}

/// The retry of a release must never release the lock of whoever came later, however many did.
#[test]
fn a_release_whose_reply_was_lost_never_releases_a_later_holder() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(&server.address());
    let store = open(&settings(&proxy.address)).unwrap();
    let other = Arc::new(open(&settings(&server.address())).unwrap());
    for later in 0..=12 {
        let path = format!("p{later}");
        take(&store, fields(&path), 1);
        let (rival, rivals) = (Arc::clone(&other), path.clone());
        proxy.lose_reply(move || {
            for num in 0..later {
                take(&*rival, fields(&rivals), 100 + num);
                if num + 1 < later {
                    release(&*rival, fields(&rivals)).unwrap().expect("it was held");
                }
            }
        });
        let outcome = release(&store, fields(&path));
        match outcome {
            Ok(value) => assert_eq!(value, Some(lock_json(fields(&path), 1)), "{later} later holders"),
            Err(e) => {
                assert_eq!(e.code(), Code::OutcomeUnknown, "{e}");
                assert!(later >= 4, "{later} later holders are few enough to remember: {e}");
            }
        }
        let holder = (later > 0).then(|| lock_json(fields(&path), 100 + later - 1));
        assert_eq!(get(&store, fields(&path)), holder, "{later} later holders");
    }
}

/// Everything that Redis holds, as it would write it to its disk.
fn has_marker(server: &Server, marker: &str) -> bool {
    let mut raw = server.raw();
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut raw).unwrap();
    keys.into_iter().any(|key| {
        let dump: Vec<u8> = redis::cmd("DUMP").arg(&key).query(&mut raw).unwrap();
        let fields: Vec<Vec<u8>> = redis::cmd("HVALS").arg(&key).query(&mut raw).unwrap_or_default();
        let has = |bytes: &[u8]| bytes.windows(marker.len()).any(|part| part == marker.as_bytes());
        has(&dump) || fields.iter().any(|value| has(value))
    })
}

/// What is remembered for a retry has no credential in it, and a retry has all of it; also while somebody else holds the lock.
#[test]
fn a_released_lock_leaves_no_credential_and_a_retry_has_its_value() {
    let server = Server::start(&["--save", "", "--rdbcompression", "no"]);
    let proxy = Proxy::start(&server.address());
    let store = open(&settings(&proxy.address)).unwrap();
    let marker = "s3cr3t-MARKER-t0ken";
    let with_urls = |path: &str, urls: &str| {
        let lock = String::from_utf8(lock_json(fields(path), 1)).unwrap();
        lock.replacen('{', &format!("{{\"URLs\":[{urls}],"), 1).into_bytes()
    };
    let two = format!(
        "\"https://x-access-token:{marker}@git.example.com/acme/infra.git\",\"https://u:p@{marker}@h/r?to=a@b\",\"http://h/\""
    );
    let long = format!("\"https://u:{}{marker}@h/r\"", "x".repeat(2_000));
    for (path, urls, is_kept) in [("a", two.as_str(), true), ("b", "", true), ("c", long.as_str(), false)] {
        for is_lost in [false, true] {
            let value = with_urls(path, urls);
            let lock = ProjectLock::parse(&value).unwrap();
            let key = lock.fields().key();
            let wanted = Grant { key: LockKey::Project(&key), lock: Some(&lock), value: &value, in_order: false };
            assert!(matches!(store.grant(&wanted, &call()).unwrap(), Granted::Yes { .. }));
            if is_lost {
                proxy.lose_reply(|| ());
            }
            match release(&store, fields(path)) {
                Ok(released) => assert!(released == Some(value) && (is_kept || !is_lost), "{path}"),
                Err(e) => assert!(e.code() == Code::OutcomeUnknown && is_lost && !is_kept, "{path}: {e}"),
            }
            assert!(!is_lost || proxy.is_done());
            assert!(!has_marker(&server, marker), "{path}, free");
            take(&store, fields(path), 2);
            assert!(!has_marker(&server, marker), "{path}, held again");
            release(&store, fields(path)).unwrap().expect("it was held");
        }
    }
}

#[test]
fn a_release_that_arrives_late_releases_nothing() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(&server.address());
    let store = open(&settings(&proxy.address)).unwrap();
    let other = open(&settings(&server.address())).unwrap();
    take(&store, fields("a"), 1);
    proxy.hold_request();
    let error = release_within(&store, fields("a"), Duration::from_millis(200)).unwrap_err();
    assert_eq!(error.code(), Code::OutcomeUnknown, "{error}");
    // An operator releases it by other ways, and the next pull takes it.
    release(&other, fields("a")).unwrap().expect("it was held");
    take(&other, fields("a"), 2);
    let reply = proxy.deliver();
    assert!(reply.contains("LATE"), "{reply}");
    assert_eq!(get(&other, fields("a")), Some(lock_json(fields("a"), 2)));
}

#[test]
fn a_grant_that_arrives_late_takes_nothing() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(&server.address());
    let store = open(&settings(&proxy.address)).unwrap();
    proxy.hold_request();
    let error = grant_within(&store, fields("a"), 1, Duration::from_millis(200)).unwrap_err();
    assert_eq!(error.code(), Code::OutcomeUnknown, "{error}");
    assert!(proxy.deliver().contains("LATE"));
    assert_eq!(get(&store, fields("a")), None);
}

#[test]
fn a_pull_status_whose_reply_was_lost_is_no_conflict() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(&server.address());
    let store = open(&settings(&proxy.address)).unwrap();
    for (expected, new) in
        [(Expected::Absent, Some(&b"1"[..])), (Expected::Bytes(b"1"), Some(b"2")), (Expected::Bytes(b"2"), None)]
    {
        proxy.lose_reply(|| ());
        assert_eq!(store.swap_pull_status("h::r::1", expected, new, &call()).unwrap(), Swap::Done);
        assert_eq!(store.pull_status("h::r::1", &call()).unwrap().as_deref(), new);
    }
    assert!(proxy.is_done());
}

#[test]
fn a_release_by_pull_whose_replies_were_lost_returns_them_all() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(&server.address());
    let store = open(&settings(&proxy.address)).unwrap();
    for path in ["a", "b", "c"] {
        take(&store, fields(path), 1);
    }
    proxy.lose_reply(|| ());
    let released = store.release_by_pull(atlock::domain::lock::PullRef { repo: "acme/infra", num: 1 }, &call()).unwrap();
    assert_eq!(released.len(), 3);
    assert!(proxy.is_done());
}

#[test]
fn a_server_that_hangs_costs_the_timeout_and_changes_nothing_later() {
    let server = Server::start(&[]);
    let store = open(&settings(&server.address())).unwrap();
    take(&store, fields("held"), 1);
    server.pause();
    let timeout = Duration::from_millis(300);
    for attempt in 0..3 {
        let start = Instant::now();
        let error = match attempt {
            0 => grant_within(&store, fields("free"), 1, timeout).map(drop),
            1 => release_within(&store, fields("held"), timeout).map(drop),
            _ => store.list(&redis_support::call_within(timeout)).map(drop),
        };
        let error = error.unwrap_err();
        assert!(matches!(error.code(), Code::OutcomeUnknown | Code::Unreachable | Code::Timeout), "{error}");
        assert!(start.elapsed() < timeout + SLACK, "{:?}", start.elapsed());
    }
    server.resume();
    // Everything that waited in the server's sockets has run by now.
    store.ping(&call()).unwrap();
    assert_eq!(get(&store, fields("free")), None);
    assert_eq!(get(&store, fields("held")), Some(lock_json(fields("held"), 1)));
}

#[test]
fn a_restarted_server_costs_no_error() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = open(&settings(&server.address())).unwrap();
    let first = take(&store, fields("a"), 1);
    server.restart();
    assert!(matches!(grant(&store, fields("a"), 2).unwrap(), Granted::Held { .. }));
    server.restart();
    assert_eq!(release(&store, fields("a")).unwrap(), Some(lock_json(fields("a"), 1)));
    server.restart();
    assert!(take(&store, fields("a"), 3) > first);
}

#[test]
fn a_server_that_is_gone_is_unreachable_at_once() {
    let mut server = Server::start(&[]);
    let store = open(&settings(&server.address())).unwrap();
    server.kill();
    // The pooled connection may have carried the change; a new one certainly did not.
    let first = grant(&store, fields("a"), 1).unwrap_err();
    assert!(matches!(first.code(), Code::OutcomeUnknown | Code::Unreachable), "{first}");
    let error = grant(&store, fields("a"), 1).unwrap_err();
    assert_eq!(error.code(), Code::Unreachable, "{error}");
    assert!(error.message().contains(&server.address()), "{error}");
}

#[test]
fn closing_ends_calls_and_later_ones_are_told() {
    let server = Server::start(&[]);
    let store = open(&settings(&server.address())).unwrap();
    store.close().unwrap();
    store.close().unwrap();
    assert_eq!(grant(&store, fields("a"), 1).unwrap_err().code(), Code::Closed);
    assert_eq!(store.list(&call()).unwrap_err().code(), Code::Closed);
    let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut server.raw()).unwrap();
    assert_eq!(clients.lines().count(), 1, "only this question's own connection: {clients}");
}

/// A lock that changes often fills the memory of request ids. That alone is no reason not to know: what is remembered reaches back
/// to before the lost attempt.
#[test]
fn a_busy_lock_costs_no_error_either() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = open(&settings(&server.address())).unwrap();
    for num in 0..10 {
        take(&store, fields("a"), num);
        release(&store, fields("a")).unwrap().unwrap();
    }
    take(&store, fields("a"), 11);
    server.restart();
    assert_eq!(release(&store, fields("a")).unwrap(), Some(lock_json(fields("a"), 11)));
    server.restart();
    take(&store, fields("a"), 12);
    // Scripts that the server forgot were refused, not lost.
    redis::cmd("SCRIPT").arg("FLUSH").query::<()>(&mut server.raw()).unwrap();
    let pull = atlock::domain::lock::PullRef { repo: "acme/infra", num: 12 };
    assert_eq!(store.release_by_pull(pull, &call()).unwrap().len(), 1);
}
