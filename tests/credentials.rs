//! Credentials in Redis with `locking.encryption`: several servers, a key that changes, one that is gone, and a fallback.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod redis_support;
mod wait;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use atlock::clock::SystemClock;
use atlock::config::Config;
use atlock::service::Service;
use atlock::store::{Expected, Granted, Swap};
use redis_support::Server;
use wait::wait_for;

const SECRET: &str = "s3cr3t-t0ken-MARKER";
const STATUS: &str = "git.example.com::acme/infra::1";

/// A Redis, and a folder for keys and data.
struct Place {
    folder: tempfile::TempDir,
    redis: Server,
}

impl Place {
    fn new() -> Place {
        Place { folder: tempfile::tempdir().unwrap(), redis: Server::start(&["--appendonly", "yes", "--appendfsync", "always"]) }
    }

    /// A server with these keys; two digits stand for a key. In hybrid mode the folder is the same each time.
    fn open(&self, mode: &str, keys: &[&str]) -> Service {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let at = |name: &str| self.folder.path().join(name).display().to_string();
        let data = if mode == "hybrid" { at("data") } else { at(&format!("data-{}", NEXT.fetch_add(1, Ordering::SeqCst))) };
        let file = at(&format!("key-{}", keys.join("-")));
        let encryption = if keys.is_empty() { String::new() } else { format!("encryption: {{key_file: '{file}'}}, ") };
        fs::write(&file, keys.iter().map(|digits| digits.repeat(32) + "\n").collect::<String>()).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let settings = format!(
            "locking: {{backend: sled, data_dir: '{data}', {encryption}enhanced: {{enabled: true, compatibility_mode: {mode}, redis: {{address: '{}'}}}}}}",
            self.redis.address()
        );
        Service::open(&Config::parse(&settings, "test").unwrap(), None, Arc::new(SystemClock)).unwrap()
    }

    /// What Redis has at a key.
    fn raw(&self, key: &str) -> String {
        redis::cmd("GET").arg(key).query(&mut self.redis.raw()).unwrap()
    }
}

fn lock(path: &str, num: u8) -> String {
    format!(
        r#"{{"Project":{{"RepoFullName":"acme/infra","Path":"{path}"}},"Pull":{{"Num":{num},"BaseRepo":{{"CloneURL":"https://bot:{SECRET}@git.example.com/acme/infra.git"}}}},"User":{{"Username":"ann"}},"Workspace":"default"}}"#
    )
}

fn status(count: u32) -> String {
    format!(
        r#"{{"Projects":null,"Pull":{{"Num":1,"HeadCommit":"{count}","BaseRepo":{{"CloneURL":"https://bot:{SECRET}@git.example.com/r"}}}}}}"#
    )
}

fn take(service: &Service, path: &str, num: u8) {
    assert!(matches!(service.try_lock(lock(path, num).as_bytes()).unwrap(), Granted::Yes { .. }), "{path}");
}

fn texts(service: &Service) -> Vec<String> {
    let mut texts: Vec<String> =
        service.list().unwrap().values().map(|value| String::from_utf8(value.to_vec()).unwrap()).collect();
    texts.sort_unstable();
    texts
}

#[test]
fn servers_with_one_key_read_each_other_and_one_without_lists_and_releases() {
    let place = Place::new();
    let (one, other, without) = (place.open("native", &["ab"]), place.open("native", &["ab"]), place.open("native", &[]));
    assert_eq!(one.status().at_rest.redis, Some("credentials_sealed"));
    assert!(!one.status().at_rest.encrypted, "names are in clear");
    assert_eq!(without.status().at_rest.redis, Some("clear"));
    for path in ["a", "b", "c"] {
        take(&one, path, 1);
        assert!(!place.raw(&format!("pr/acme/infra/{path}/default/")).contains(SECRET));
    }
    one.swap_pull_status(STATUS, Expected::Absent, Some(status(1).as_bytes())).unwrap();
    assert!(!place.raw(STATUS).contains(SECRET));

    assert_eq!(texts(&other), [lock("a", 1), lock("b", 1), lock("c", 1)]);
    let Granted::Held { value } = other.try_lock(lock("a", 2).as_bytes()).unwrap() else { panic!("both hold it") };
    assert_eq!(String::from_utf8(value).unwrap(), lock("a", 1));
    let Granted::Held { value } = other.try_lock(lock("a", 1).as_bytes()).unwrap() else { panic!("it is taken twice") };
    assert_eq!(String::from_utf8(value).unwrap(), lock("a", 1));
    assert_eq!(other.pull_status(STATUS).unwrap().as_deref(), Some(status(1).as_bytes()));
    assert_eq!(other.unlock(lock("a", 1).as_bytes()).unwrap().as_deref(), Some(lock("a", 1).as_bytes()));
    assert!(other.status().warnings.iter().all(|warning| !warning.contains("sealed")), "{:?}", other.status().warnings);

    let shown = texts(&without);
    assert!(shown.len() == 2 && shown.iter().all(|text| text.contains("https://atlock.") && !text.contains(SECRET)), "{shown:?}");
    let Granted::Held { .. } = without.try_lock(lock("b", 2).as_bytes()).unwrap() else { panic!("both hold it") };
    let old = without.pull_status(STATUS).unwrap().unwrap();
    assert_eq!(without.swap_pull_status(STATUS, Expected::Bytes(&old), None).unwrap(), Swap::Done);
    assert!(without.unlock(lock("b", 1).as_bytes()).unwrap().is_some());
    assert_eq!(without.unlock_by_pull("acme/infra", 1).unwrap().len(), 1);
    let warnings = without.status().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("locking.encryption does not have")), "{warnings:?}");
    assert!(texts(&one).is_empty());
    // And what that server writes in clear, the others read.
    take(&without, "d", 1);
    assert_eq!(texts(&one), [lock("d", 1)]);
    assert_eq!(one.unlock_by_pull("acme/infra", 1).unwrap().len(), 1);
}

/// A server does not start without its key, which would write in clear; a look shows what it can.
#[test]
fn a_key_that_cannot_be_read_stops_a_server_and_no_look() {
    let place = Place::new();
    let server = place.open("native", &["ab"]);
    take(&server, "a", 1);
    let missing = format!(
        "locking: {{encryption: {{key_file: '{}'}}, enhanced: {{enabled: true, compatibility_mode: native, redis: {{address: '{}'}}}}}}",
        place.folder.path().join("no-key").display(),
        place.redis.address()
    );
    let config = Config::parse(&missing, "test").unwrap();
    let refused = Service::open(&config, None, Arc::new(SystemClock)).map(drop).unwrap_err();
    assert!(refused.message().contains("no-key"), "{refused}");
    let look = Service::open_read_only(&config, Arc::new(SystemClock)).unwrap();
    assert!(texts(&look)[0].contains("https://atlock."));
    let warnings = look.status().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("no-key") && warning.contains("as they are stored")), "{warnings:?}");
}

/// Says so when it is dropped.
#[derive(Clone)]
struct Over(Arc<AtomicBool>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// No update is lost while the key changes: each swap names what was read before.
#[test]
fn a_key_changes_while_pull_statuses_are_swapped() {
    const TIMES: u32 = 30;
    let place = Place::new();
    let first = place.open("native", &["ab"]);
    first.swap_pull_status(STATUS, Expected::Absent, Some(status(0).as_bytes())).unwrap();
    take(&first, "a", 1);
    first.close().unwrap();
    let count_of = |text: &[u8]| -> u32 {
        let text = std::str::from_utf8(text).unwrap();
        let count = text.split("\"HeadCommit\":\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
        assert_eq!(text, status(count), "byte for byte");
        count
    };
    let increment = |service: &Service| {
        let mut now = service.pull_status(STATUS).unwrap().unwrap();
        loop {
            let new = status(count_of(&now) + 1);
            match service.swap_pull_status(STATUS, Expected::Bytes(&now), Some(new.as_bytes())).unwrap() {
                Swap::Done => return,
                Swap::Conflict(current) => now = current.unwrap(),
            }
        }
    };
    let (is_over, beside) = (Over(Arc::default()), AtomicU32::new(0));
    std::thread::scope(|scope| {
        // Also where this fails.
        let _over = is_over.clone();
        scope.spawn(|| {
            let service = place.open("native", &["ab", "cd"]);
            while !is_over.0.load(Ordering::SeqCst) {
                increment(&service);
                beside.fetch_add(1, Ordering::SeqCst);
            }
        });
        for keys in [&["ab"][..], &["ab", "cd"], &["cd", "ab"], &["cd", "ab"]] {
            let service = place.open("native", keys);
            (0..TIMES).for_each(|_| increment(&service));
            service.close().unwrap();
        }
    });
    let last = place.open("native", &["cd", "ab"]);
    increment(&last);
    let done = 4 * TIMES + beside.load(Ordering::SeqCst) + 1;
    assert_eq!(count_of(&last.pull_status(STATUS).unwrap().unwrap()), done);
    // A lock of before goes under its old key, and what the new key sealed needs the old one no more.
    assert_eq!(texts(&last), [lock("a", 1)]);
    assert!(last.unlock(lock("a", 1).as_bytes()).unwrap().is_some());
    last.close().unwrap();
    let new = place.open("native", &["cd"]);
    count_of(&new.pull_status(STATUS).unwrap().unwrap());
    assert!(new.status().warnings.iter().all(|warning| !warning.contains("sealed")), "{:?}", new.status().warnings);
}

#[test]
fn a_fallback_and_its_recovery_keep_what_is_sealed() {
    let mut place = Place::new();
    let service = place.open("hybrid", &["ab"]);
    take(&service, "a", 1);
    place.redis.kill();
    wait_for("the local store decides", Duration::from_secs(20), || match service.try_lock(lock("away", 2).as_bytes()) {
        Ok(Granted::Yes { .. }) => Ok(()),
        other => Err(other.map(drop).map_err(|e| e.to_string())),
    });
    assert_eq!(texts(&service), [lock("a", 1), lock("away", 2)]);
    place.redis.start_again();
    wait_for("Redis decides again", Duration::from_secs(60), || {
        let status = serde_json::to_value(service.status()).unwrap();
        if status["circuit_state"] == "closed" { Ok(()) } else { Err(status) }
    });
    assert_eq!(texts(&service), [lock("a", 1), lock("away", 2)]);
    for path in ["a", "away"] {
        let raw = place.raw(&format!("pr/acme/infra/{path}/default/"));
        assert!(raw.contains("https://atlock.") && !raw.contains(SECRET), "{raw}");
    }
    service.close().unwrap();
    // The next start, with a new key in front, restores nothing twice and takes nothing for a conflict.
    let service = place.open("hybrid", &["cd", "ab"]);
    assert_eq!(texts(&service), [lock("a", 1), lock("away", 2)]);
    assert!(service.unlock(lock("a", 1).as_bytes()).unwrap().is_some());
    assert_eq!(service.unlock_by_pull("acme/infra", 2).unwrap().len(), 1);
    assert!(texts(&service).is_empty());
    let warnings = service.status().warnings;
    assert!(warnings.iter().all(|warning| !warning.contains("sealed") && !warning.contains("both")), "{warnings:?}");
    service.close().unwrap();
}
