//! A host store beside hybrid mode: what its content proves at the start, and what its failures must not do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod redis_support;
mod wait;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use atlock::clock::SystemClock;
use atlock::config::Config;
use atlock::error::{Code, Error, Result};
use atlock::service::Service;
use atlock::store::host::{HostCalls, HostStore, OP_APPLY, OP_DUMP, OP_PING};
use atlock::store::{Expected, Granted, Swap};
use parking_lot::{Condvar, Mutex};
use redis_support::Server;
use serde_json::Value;
use wait::wait_until;

const STATUS: &str = "git.example.com::acme/infra::1";

/// A host store that outlives the services that use it, as a file does.
#[derive(Debug, Default)]
struct File {
    content: Mutex<Content>,
    /// The op that never answers.
    hangs_in: Mutex<Option<u32>>,
    woken: Condvar,
    /// Every write fails.
    is_full: AtomicBool,
    /// Every write of an entry fails; there is room for an empty one.
    is_almost_full: AtomicBool,
    /// What cannot be stored.
    poison: Mutex<Option<&'static str>>,
    /// Every call fails.
    is_broken: AtomicBool,
    released: AtomicBool,
}

/// What a backup of it has.
#[derive(Clone, Debug, Default)]
struct Content {
    entries: BTreeMap<String, Value>,
    mark: Option<Value>,
    written_since: bool,
}

impl File {
    fn answer(&self, op: u32, input: &[u8]) -> std::result::Result<String, String> {
        let mut hangs_in = self.hangs_in.lock();
        while *hangs_in == Some(op) {
            self.woken.wait(&mut hangs_in);
        }
        drop(hangs_in);
        if self.is_broken.load(Ordering::SeqCst) {
            return Err("the file is damaged".to_owned());
        }
        let mut content = self.content.lock();
        match op {
            OP_PING => Ok(String::new()),
            OP_DUMP => {
                let entries = content.entries.iter().map(|(key, value)| format!(r#"{{"key":{key},"value":{value}}}"#));
                let since = content.written_since;
                let mark = content.mark.iter().map(|mark| format!(r#"{{"mark":{mark},"written_since":{since}}}"#));
                Ok(format!("[{}]", entries.chain(mark).collect::<Vec<_>>().join(",")))
            }
            OP_APPLY => {
                let input: Value = serde_json::from_slice(input).map_err(|e| e.to_string())?;
                let mut after = content.clone();
                let poison = *self.poison.lock();
                for write in input["writes"].as_array().ok_or("no writes")? {
                    let key = write["key"].to_string();
                    if poison.is_some_and(|poison| key.contains(poison)) {
                        return Err("key too large".to_owned());
                    }
                    match &write["value"] {
                        Value::Null => after.entries.remove(&key),
                        value => after.entries.insert(key, value.clone()),
                    };
                }
                let has_entries = input["writes"].as_array().is_some_and(|writes| !writes.is_empty());
                if self.is_full.load(Ordering::SeqCst) || (has_entries && self.is_almost_full.load(Ordering::SeqCst)) {
                    return Err("no space left on device".to_owned());
                }
                after.written_since = input["mark"].is_null();
                if !input["mark"].is_null() {
                    after.mark = Some(input["mark"].clone());
                }
                *content = after;
                Ok(String::new())
            }
            _ => Err(format!("op {op} is not here")),
        }
    }

    fn hang_in(&self, op: Option<u32>) {
        *self.hangs_in.lock() = op;
        self.woken.notify_all();
    }

    /// What another program does to the file.
    fn changed_by_stock(&self, change: impl FnOnce(&mut BTreeMap<String, Value>)) {
        let mut content = self.content.lock();
        change(&mut content.entries);
        content.written_since = true;
    }

    fn paths(&self) -> Vec<String> {
        let content = self.content.lock();
        let path = |key: &String| {
            let key: Value = serde_json::from_str(key).unwrap();
            key["project"].as_str().map(|key| key.split('/').nth(2).unwrap().to_owned())
        };
        content.entries.keys().filter_map(path).collect()
    }

    fn store(self: &Arc<File>) -> HostStore {
        self.released.store(false, Ordering::SeqCst);
        HostStore::new(Box::new(Calls(Arc::clone(self))))
    }
}

/// The calls of one service to the file.
#[derive(Debug)]
struct Calls(Arc<File>);

impl HostCalls for Calls {
    fn call(&self, op: u32, input: &[u8]) -> Result<Vec<u8>> {
        self.0.answer(op, input).map(String::into_bytes).map_err(|text| Error::new(Code::HostStore, text))
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        self.0.released.store(true, Ordering::SeqCst);
    }
}

/// A server: a folder, a file, and a Redis.
struct World {
    redis: Server,
    folder: tempfile::TempDir,
    file: Arc<File>,
    instances: &'static str,
}

impl World {
    fn new(instances: &'static str) -> World {
        World {
            redis: Server::start(&["--appendonly", "yes"]),
            folder: tempfile::tempdir().unwrap(),
            file: Arc::default(),
            instances,
        }
    }

    fn try_open(&self, mode: &str) -> Result<Service> {
        let folder = self.folder.path();
        let text = format!(
            "locking: {{data_dir: {:?}, audit: {{file: {:?}}}, enhanced: {{enabled: true, compatibility_mode: {mode}, \
             instances: {}, redis: {{address: '{}', timeouts: {{connect: 1s, operation: 1s}}}}}}}}",
            folder.join("locks"),
            folder.join("audit"),
            self.instances,
            self.redis.address()
        );
        Service::open(&Config::parse(&text, "test").unwrap(), Some(self.file.store()), Arc::new(SystemClock))
    }

    fn open(&self) -> Service {
        self.try_open("hybrid").unwrap()
    }

    fn trail(&self, kind: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("audit")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).filter(|line: &Value| line["kind"] == kind).collect()
    }
}

fn lock(path: &str, num: i64) -> Vec<u8> {
    format!(r#"{{"Project":{{"RepoFullName":"acme/infra","Path":"{path}","ProjectName":""}},"Pull":{{"Num":{num}}},"Workspace":"default"}}"#)
        .into_bytes()
}

fn key_of(path: &str) -> String {
    format!(r#"{{"project":"acme/infra/{path}/default/"}}"#)
}

fn take(service: &Service, path: &str, num: i64) {
    assert!(matches!(service.try_lock(&lock(path, num)).unwrap(), Granted::Yes { .. }), "{path} is free");
}

fn unlock(service: &Service, path: &str) {
    assert!(service.unlock(format!(r#"{{"Key":"acme/infra/{path}/default/"}}"#).as_bytes()).unwrap().is_some(), "{path} is held");
}

fn is_held(service: &Service, path: &str) -> bool {
    service.get_lock(format!(r#"{{"Key":"acme/infra/{path}/default/"}}"#).as_bytes()).unwrap().is_some()
}

fn until(what: &str, done: impl FnMut() -> bool) {
    wait_until(what, Duration::from_secs(20), done);
}

fn warns_of(service: &Service, text: &str) -> bool {
    service.status().warnings.iter().any(|warning| warning.contains(text))
}

/// What was done to the file between a stop and a start, and what the status says of it.
type Damage = (&'static str, fn(&File, Content), &'static str);

const DAMAGES: &[Damage] = &[
    ("removed", |file, _| *file.content.lock() = Content::default(), "it bears no mark"),
    ("an older copy", |file, old| *file.content.lock() = old, "it is older than"),
    (
        "an older copy that stock used",
        |file, old| {
            *file.content.lock() = old;
            file.changed_by_stock(|entries| {
                entries.insert(key_of("new"), String::from_utf8(lock("new", 8)).unwrap().into());
            });
        },
        "it is older than",
    ),
    ("no marks", |file, _| file.content.lock().mark = None, "it bears no mark"),
    ("another server's", |file, _| file.content.lock().mark = Some("1 other".into()), "another server's mark"),
];

fn a_damaged_copy_releases_nothing(instances: &'static str, with_redis: bool) {
    for (what, damage, said) in DAMAGES {
        let mut world = World::new(instances);
        let service = world.open();
        take(&service, "old", 1);
        take(&service, "gone", 1);
        until("it is copied", || world.file.paths().len() == 2);
        let old = world.file.content.lock().clone();
        unlock(&service, "gone");
        take(&service, "a", 1);
        assert!(matches!(service.lock_command("apply", br#"{"by":"me"}"#).unwrap(), Granted::Yes { .. }));
        assert_eq!(service.swap_pull_status(STATUS, Expected::Absent, Some(b"{}")).unwrap(), Swap::Done);
        service.close().unwrap();
        drop(service);
        assert!(world.file.released.load(Ordering::SeqCst));
        damage(&world.file, old);
        if !with_redis {
            world.redis.kill();
        }
        let case = format!("{what}, {instances}, Redis {with_redis}");
        let service = world.open();
        for path in ["old", "a"] {
            assert!(is_held(&service, path), "{path}: {case}");
        }
        assert!(!is_held(&service, "gone"), "{case}");
        assert_eq!(is_held(&service, "new"), what.contains("that stock used"), "{case}");
        assert!(service.check_command_lock("apply").unwrap().is_some(), "{case}");
        assert!(service.pull_status(STATUS).unwrap().is_some(), "{case}");
        assert!(warns_of(&service, said), "{case}: {:?}", service.status().warnings);
        assert_eq!(world.trail("release").len(), 1, "{case}");
        let wanted = if what.contains("that stock used") { 3 } else { 2 };
        until("it is filled", || world.file.paths().len() == wanted);
        if with_redis {
            let mut raw = world.redis.raw();
            let keys: Vec<String> = redis::cmd("KEYS").arg("pr/*").query(&mut raw).unwrap();
            assert_eq!(keys.len(), wanted, "{case}: {keys:?}");
        }
        service.close().unwrap();
        let service = world.open();
        assert!(!warns_of(&service, "was not believed"), "{case}: {:?}", service.status().warnings);
    }
}

#[test]
fn a_damaged_copy_releases_nothing_with_redis() {
    a_damaged_copy_releases_nothing("single", true);
}

#[test]
fn a_damaged_copy_releases_nothing_without_redis() {
    a_damaged_copy_releases_nothing("single", false);
}

#[test]
fn a_damaged_copy_releases_nothing_of_other_servers() {
    a_damaged_copy_releases_nothing("many", true);
    a_damaged_copy_releases_nothing("many", false);
}

/// What somebody else changed in the very file that was written last was decided there.
#[test]
fn what_strict_mode_or_stock_changed_holds() {
    let world = World::new("single");
    let service = world.open();
    take(&service, "a", 1);
    take(&service, "b", 1);
    take(&service, "c", 1);
    assert!(matches!(service.lock_command("apply", br#"{"by":"me"}"#).unwrap(), Granted::Yes { .. }));
    service.close().unwrap();
    world.file.changed_by_stock(|entries| {
        entries.remove(&key_of("a"));
        entries.insert(key_of("b"), String::from_utf8(lock("b", 2)).unwrap().into());
        entries.insert(key_of("d"), String::from_utf8(lock("d", 2)).unwrap().into());
        entries.remove(r#"{"command":"apply"}"#);
    });
    let service = world.open();
    let held: Vec<bool> = ["a", "b", "c", "d"].iter().map(|path| is_held(&service, path)).collect();
    assert_eq!(held, [false, true, true, true]);
    assert!(service.check_command_lock("apply").unwrap().is_none());
    take(&service, "a", 3);
    assert!(matches!(service.try_lock(&lock("b", 1)).unwrap(), Granted::Held { value } if value == lock("b", 2)));
    let status = serde_json::to_value(service.status()).unwrap();
    assert_eq!(status["host_store"]["released_before"], 3);
    assert_eq!(status["host_store"]["taken_before"], 2);
    assert_eq!(status["warnings"], serde_json::json!([]));
    let released = world.trail("release");
    assert_eq!(released.len(), 3, "{released:?}");
    assert_eq!((&released[0]["key"], &released[0]["pull"]), (&"acme/infra/a/default/".into(), &1.into()));
    assert!(released.iter().all(|line| line["detail"].as_str().unwrap().contains("strict mode or by a stock server")));
    assert!(released.iter().all(|line| line["via"] == "stock" && line["by"].is_null()));
    service.close().unwrap();
    // It is found once.
    drop(world.open());
    assert_eq!(world.trail("release").len(), 3);
}

/// The same where both changed while hybrid mode could not write: what strict mode did is not lost by a start without the file.
#[test]
fn what_strict_mode_changed_is_found_by_the_next_start_that_can_read_it() {
    let world = World::new("single");
    let service = world.open();
    take(&service, "a", 1);
    service.close().unwrap();
    world.file.changed_by_stock(|entries| drop(entries.remove(&key_of("a"))));
    world.file.is_broken.store(true, Ordering::SeqCst);
    let service = world.open();
    assert!(warns_of(&service, "the file is damaged") && warns_of(&service, "not followed"), "{:?}", service.status().warnings);
    let health = service.health();
    assert_eq!(health.state, "degraded");
    assert!(health.legacy.unwrap().error.unwrap().contains("the file is damaged"));
    // In doubt it stays.
    assert!(is_held(&service, "a"));
    take(&service, "b", 1);
    service.close().unwrap();
    world.file.is_broken.store(false, Ordering::SeqCst);
    let service = world.open();
    assert!(!is_held(&service, "a") && is_held(&service, "b"));
    until("it is copied", || world.file.paths() == ["b"]);
    until("it is healthy", || service.health().state == "healthy");
}

/// Before the file was read for the first time it may have locks that nobody else knows.
#[test]
fn the_first_start_needs_the_file() {
    let world = World::new("single");
    world.file.changed_by_stock(|entries| {
        entries.insert(key_of("a"), String::from_utf8(lock("a", 2)).unwrap().into());
    });
    world.file.is_broken.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        let error = world.try_open("hybrid").expect_err("is refused");
        assert!(error.code() == Code::HostStore && error.message().contains("not known yet"), "{error}");
        assert!(world.file.released.load(Ordering::SeqCst));
    }
    world.file.is_broken.store(false, Ordering::SeqCst);
    let service = world.open();
    assert!(is_held(&service, "a"));
}

/// One entry that the file cannot hold keeps no other out of it, and strict mode begins all the same.
#[test]
fn a_refused_entry_is_set_aside_and_named() {
    let world = World::new("single");
    *world.file.poison.lock() = Some("poison");
    let service = world.open();
    take(&service, &"poison".repeat(100), 1);
    for path in ["a", "b", "c"] {
        take(&service, path, 1);
    }
    until("the others are copied", || world.file.paths().len() == 3);
    until("it is named", || warns_of(&service, "key too large"));
    let warning = service.status().warnings.into_iter().find(|text| text.contains("key too large")).unwrap();
    assert!(warning.contains("poisonpoison") && warning.len() < 400, "{warning}");
    assert_eq!(service.health().state, "healthy");
    service.close().unwrap();
    world.file.content.lock().entries.remove(&key_of("c"));
    // Strict mode on a file that lacks a lock would grant it again.
    let error = world.try_open("strict").map(drop).expect_err("is refused");
    assert!(error.code() == Code::HostStore && error.message().contains("key too large"), "{error}");
    assert!(error.message().contains("allow_incomplete_rollback"), "{error}");
    *world.file.poison.lock() = None;
    drop(world.try_open("strict").unwrap());
    assert_eq!(world.file.paths().len(), 3);
}

/// A file that takes nothing is said, and tried again; also one that has room for an empty change.
#[test]
fn a_full_file_is_said_and_tried_again() {
    let world = World::new("single");
    let service = world.open();
    for (is_full, paths) in [(&world.file.is_full, ["a", "b", "c"]), (&world.file.is_almost_full, ["d", "e", "f"])] {
        until("it is healthy", || service.health().state == "healthy" && service.status().warnings.is_empty());
        is_full.store(true, Ordering::SeqCst);
        paths.iter().for_each(|path| take(&service, path, 1));
        until("it is said", || warns_of(&service, "no space left") && service.health().state == "degraded");
        is_full.store(false, Ordering::SeqCst);
        until("it is copied", || paths.iter().all(|path| world.file.paths().contains(&(*path).to_owned())));
    }
    until("it is healthy", || service.health().state == "healthy" && service.status().warnings.is_empty());
}

/// A file that hangs keeps nothing else from working: not recovery, not health, not the end.
fn a_file_that_hangs(op: u32) {
    let mut world = World::new("single");
    let service = world.open();
    take(&service, "a", 1);
    world.file.hang_in(Some(op));
    take(&service, "b", 1);
    world.redis.kill();
    take(&service, "c", 1);
    world.redis.restart();
    until("Redis decides again", || !service.status().fallback_active);
    until("it is said", || warns_of(&service, "has not answered for"));
    assert_eq!(service.health().state, "degraded");
    let before = Instant::now();
    let error = service.close().expect_err("it is left behind");
    assert!(error.code() == Code::Timeout && error.message().contains("left behind"), "{error}");
    assert!(before.elapsed() < Duration::from_secs(15));
    drop(service);
    assert!(!world.file.released.load(Ordering::SeqCst), "a call is under way");
    world.file.hang_in(None);
    until("it is released", || world.file.released.load(Ordering::SeqCst));
    let service = world.open();
    until("it is copied", || world.file.paths() == ["a", "b", "c"]);
    assert!(!warns_of(&service, "not believed"));
}

#[test]
fn a_file_that_hangs_in_ping() {
    a_file_that_hangs(OP_PING);
}

#[test]
fn a_file_that_hangs_in_apply() {
    a_file_that_hangs(OP_APPLY);
}

/// The start goes on without it, and does not touch it later.
#[test]
fn a_file_that_hangs_at_the_start() {
    let world = World::new("single");
    world.open().close().unwrap();
    world.file.hang_in(Some(OP_DUMP));
    let before = Instant::now();
    let service = world.open();
    assert!(before.elapsed() < Duration::from_secs(30));
    assert!(warns_of(&service, "did not answer"), "{:?}", service.status().warnings);
    take(&service, "a", 1);
    assert_eq!(service.health().state, "degraded");
    world.file.hang_in(None);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(world.file.paths(), [""; 0]);
    service.close().unwrap();
    let _service = world.open();
    until("it is copied", || world.file.paths() == ["a"]);
}

/// Strict mode finds every lock also where the file is not the one that hybrid mode wrote last.
#[test]
fn a_rollback_fills_a_file_that_is_not_the_copy() {
    let world = World::new("single");
    let service = world.open();
    take(&service, "a", 1);
    take(&service, "b", 1);
    take(&service, "poison", 1);
    service.close().unwrap();
    *world.file.content.lock() = Content::default();
    *world.file.poison.lock() = Some("poison");
    assert_eq!(world.try_open("strict").map(drop).expect_err("it lacks a lock").code(), Code::HostStore);
    assert_eq!(world.file.paths(), ["a", "b"]);
    // From then on it is its content that counts, also where strict mode copies what was left.
    world.file.changed_by_stock(|entries| drop(entries.remove(&key_of("a"))));
    *world.file.poison.lock() = None;
    for _ in 0..2 {
        let strict = world.try_open("strict").unwrap();
        assert_eq!(strict.status().warnings, [""; 0]);
        strict.close().unwrap();
    }
    assert_eq!(world.file.paths(), ["b", "poison"]);
    let service = world.open();
    assert!(!is_held(&service, "a") && is_held(&service, "b") && is_held(&service, "poison"));
}

impl World {
    /// Opens this mode on a folder of its own, beside the same file.
    fn try_embedded(&self, backend: &str, mode: &str, folder: &std::path::Path) -> Result<Service> {
        let text = format!(
            "locking: {{backend: {backend}, data_dir: {folder:?}, enhanced: {{enabled: true, compatibility_mode: {mode}, \
             redis: {{address: '{}'}}}}}}",
            self.redis.address()
        );
        Service::open(&Config::parse(&text, "test").unwrap(), Some(self.file.store()), Arc::new(SystemClock))
    }

    /// What stock holds in the file.
    fn stock_takes(&self, path: &str) {
        self.file
            .changed_by_stock(|entries| drop(entries.insert(key_of(path), String::from_utf8(lock(path, 1)).unwrap().into())));
    }
}

fn is_refused(opened: Result<Service>, text: &str, case: &str) {
    let refused = opened.map(drop).expect_err(case);
    assert_eq!(refused.code(), Code::InvalidConfig, "{case}: {refused}");
    assert!(refused.message().contains(text), "{case}: {refused}");
}

/// An embedded store must not begin beside a file with locks, in any mode, new or not: it would grant them again.
#[test]
fn an_embedded_store_is_refused_beside_a_file_with_locks() {
    for mode in ["strict", "hybrid", "native"] {
        let world = World::new("single");
        let folder = world.folder.path().join("embedded");
        let open = || world.try_embedded("sled", mode, &folder);
        world.stock_takes("a");
        is_refused(open(), "has locks (1), which locking.backend: sled would not know", mode);
        // What cannot be read may have locks.
        world.file.is_broken.store(true, Ordering::SeqCst);
        assert_eq!(open().expect_err(mode).code(), Code::HostStore, "{mode}");
        world.file.is_broken.store(false, Ordering::SeqCst);
        // A pull status is no lock.
        let status = serde_json::to_string(&serde_json::json!({ "status": STATUS })).unwrap();
        let content = Content { entries: BTreeMap::from([(status, Value::from("{}"))]), ..Content::default() };
        *world.file.content.lock() = content;
        open().expect(mode).close().unwrap();
        // A store that has begun does not know what strict mode or stock took in the file since.
        world.try_embedded("boltdb", "strict", &folder).expect(mode).close().unwrap();
        world.stock_takes("a");
        is_refused(open(), "has locks (1), which locking.backend: sled would not know", mode);
    }
}

/// Native mode writes down in the data folder that Redis alone knows the locks, whatever the backend, also in a new one.
#[test]
fn native_mode_leaves_word_in_the_data_folder() {
    let world = World::new("single");
    for backend in ["sled", "boltdb"] {
        let folder = world.folder.path().join(backend);
        world.try_embedded(backend, "native", &folder).unwrap().close().unwrap();
        assert!(folder.join("format.json").exists(), "{backend}");
    }
}

/// Atlantis's own store alone must not begin while the embedded one has locks that it never got.
#[test]
fn a_file_is_refused_beside_an_embedded_store_with_locks() {
    for (mode, is_command) in [("strict", false), ("strict", true), ("hybrid", false)] {
        let case = format!("{mode}, {is_command}");
        let world = World::new("single");
        let folder = world.folder.path().join("embedded");
        let service = world.try_embedded("sled", mode, &folder).unwrap();
        match is_command {
            true => assert!(matches!(service.lock_command("apply", br#"{"by":"me"}"#).unwrap(), Granted::Yes { .. })),
            false => take(&service, "a", 1),
        }
        assert_eq!(service.swap_pull_status(STATUS, Expected::Absent, Some(b"{}")).unwrap(), Swap::Done);
        service.close().unwrap();
        let strict = || world.try_embedded("boltdb", "strict", &folder);
        is_refused(strict(), "has locks (1), which locking.backend: boltdb would not know", &case);
        assert!(world.file.content.lock().entries.is_empty(), "{case}");
        // What was released is no hindrance, and a pull status is no lock.
        let service = world.try_embedded("sled", mode, &folder).unwrap();
        match is_command {
            true => drop(service.unlock_command("apply").unwrap()),
            false => unlock(&service, "a"),
        }
        service.close().unwrap();
        strict().expect(&case).close().unwrap();
    }
}

/// What strict mode held in the embedded store goes along to every mode that reads it, and from there to the file.
#[test]
fn what_an_embedded_store_held_goes_along_to_hybrid_and_native_mode() {
    for mode in ["hybrid", "native"] {
        let world = World::new("single");
        let folder = world.folder.path().join("embedded");
        let service = world.try_embedded("sled", "strict", &folder).unwrap();
        take(&service, "a", 1);
        assert!(matches!(service.lock_command("apply", br#"{"by":"me"}"#).unwrap(), Granted::Yes { .. }));
        service.close().unwrap();
        let service = world.try_embedded("boltdb", mode, &folder).unwrap();
        assert!(is_held(&service, "a") && service.check_command_lock("apply").unwrap().is_some(), "{mode}");
        take(&service, "b", 2);
        service.close().unwrap();
        let strict = world.try_embedded("boltdb", "strict", &folder).expect(mode);
        strict.close().unwrap();
        assert_eq!(world.file.paths(), ["a", "b"], "{mode}");
        assert!(world.file.content.lock().entries.contains_key(r#"{"command":"apply"}"#), "{mode}");
    }
}

/// Unknown is not empty: a folder that cannot be looked at may have a store, whose locks would be granted again.
#[test]
fn a_folder_that_cannot_be_looked_at_is_an_error() {
    let world = World::new("single");
    let path = world.folder.path();
    let (circle, long, file) = (path.join("circle"), path.join("x".repeat(300)), path.join("file"));
    std::os::unix::fs::symlink(&circle, &circle).unwrap();
    std::fs::write(&file, "").unwrap();
    for mode in ["strict", "native"] {
        let backend = if mode == "strict" { "boltdb" } else { "sled" };
        for folder in [&circle, &long] {
            let error = world.try_embedded(backend, mode, folder).map(drop).expect_err(mode);
            assert_eq!(error.code(), Code::StoreNotWritable, "{mode}: {error}");
            assert!(mode == "native" || error.message().contains("cannot be looked at"), "{error}");
        }
    }
    // What is not there has no locks.
    for folder in [path.join("none"), file.join("below")] {
        world.try_embedded("boltdb", "strict", &folder).expect("has no locks").close().unwrap();
    }
}
