//! Looking at the stores of a server that does not run: what is seen, and that nothing changes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod redis_support;
mod sled_support;
mod wait;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use atlock::clock::SystemClock;
use atlock::config::Config;
use atlock::error::Code;
use atlock::service::Service;
use atlock::store::redis::RedisStore;
use atlock::store::sled::SledStore;
use atlock::store::{LockKey, Store as _};
use redis_support::{Server, fields, lock_json, settings};
use sled_support::{SmallDisk, call, grant, system_clock};

/// Every file and folder with all that a change would change.
type Disk = BTreeMap<PathBuf, (u64, i64, i64, i64, i64, u32, Vec<u8>)>;

fn disk(folder: &Path) -> Disk {
    let mut found = Disk::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let paths = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
        for path in std::iter::once(folder.clone()).chain(paths.filter(|path| path.is_file())) {
            let at = fs::metadata(&path).unwrap();
            let bytes = if at.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            found.insert(path, (at.ino(), at.mtime(), at.mtime_nsec(), at.ctime(), at.ctime_nsec(), at.mode(), bytes));
        }
        folders.extend(fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()));
    }
    found
}

/// What a key holds, and whether it has an end.
type Dump = BTreeMap<Vec<u8>, (Vec<u8>, bool)>;

/// Every key, and how often the server has executed each command that writes.
fn redis_state(server: &Server) -> (Dump, BTreeMap<String, u64>) {
    let mut raw = server.raw();
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut raw).unwrap();
    let dump = |key: Vec<u8>| {
        let content: Vec<u8> = redis::cmd("DUMP").arg(&key).query(&mut raw).unwrap();
        let end: i64 = redis::cmd("PTTL").arg(&key).query(&mut raw).unwrap();
        (key, (content, end >= 0))
    };
    let dump = keys.into_iter().map(dump).collect();
    let writing: Vec<String> =
        redis::cmd("COMMAND").arg("LIST").arg("FILTERBY").arg("ACLCAT").arg("write").query(&mut raw).unwrap();
    let writing: BTreeSet<String> = writing.into_iter().collect();
    let stats: String = redis::cmd("INFO").arg("commandstats").query(&mut raw).unwrap();
    let written = stats.lines().filter_map(|line| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        let is_writing = writing.contains(name.split('|').next()?);
        is_writing.then(|| (name.to_owned(), rest.split(',').next().unwrap().parse().unwrap()))
    });
    (dump, written.collect())
}

fn config(text: &str) -> Config {
    Config::parse(text, "test").unwrap()
}

fn open(config: &Config) -> Service {
    Service::open(config, None, Arc::new(SystemClock)).unwrap()
}

fn look(config: &Config) -> Service {
    Service::open_read_only(config, Arc::new(SystemClock)).unwrap()
}

fn hybrid(folder: &Path, address: &str) -> Config {
    config(&format!(
        "locking: {{backend: sled, data_dir: {folder:?}, enhanced: {{enabled: true, compatibility_mode: hybrid, redis: {{address: '{address}'}}}}}}"
    ))
}

fn key(path: &str) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({"Key": fields(path).key()})).unwrap()
}

/// Asks for all that can be asked, and tries all that changes.
fn use_it(service: &Service) {
    assert!(service.list().unwrap().incomplete().is_none());
    service.get_lock(&key("a")).unwrap();
    service.lock_infos(&serde_json::to_vec(&[fields("a").key(), fields("gone").key()]).unwrap()).unwrap();
    service.pull_status("github.com::acme/infra::1").unwrap();
    service.check_command_lock("apply").unwrap();
    service.ping().unwrap();
    service.health();
    service.status();
    service.metrics();
    let refused = |answer: Result<(), atlock::error::Error>| {
        let error = answer.unwrap_err();
        assert!(
            error.code() == Code::ReadOnly && error.message().ends_with(": the store was opened only to look at it"),
            "{error}"
        );
    };
    refused(service.try_lock(&lock_json(fields("new"), 9)).map(drop));
    refused(service.unlock(&key("a")).map(drop));
    refused(service.unlock_if_owned_by_pull(&lock_json(fields("a"), 1), 1).map(drop));
    refused(service.unlock_by_pull("acme/infra", 1).map(drop));
    refused(service.discard(&key("a")).map(drop));
    refused(service.lock_command("apply", b"{}").map(drop));
    refused(service.unlock_command("apply").map(drop));
    refused(service.swap_pull_status("k", atlock::store::Expected::Any, Some(b"{}")).map(drop));
}

fn paths(service: &Service) -> Vec<String> {
    let listing = service.list().unwrap();
    let path = |value: &[u8]| {
        serde_json::from_slice::<serde_json::Value>(value).unwrap()["Project"]["Path"].as_str().unwrap().to_owned()
    };
    listing.values().map(path).collect()
}

#[test]
fn a_look_at_the_embedded_store_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("locks");
    let config =
        config(&format!("locking: {{backend: sled, data_dir: {data:?}, audit: {{file: {:?}}}}}", folder.path().join("audit")));
    let service = open(&config);
    service.try_lock(&lock_json(fields("a"), 1)).unwrap();
    service.try_lock(&lock_json(fields("b"), 2)).unwrap();
    let error = Service::open_read_only(&config, system_clock()).unwrap_err();
    assert!(error.code() == Code::StoreBusy && error.message().contains("is open in this process ("), "{error}");
    service.close().unwrap();

    let before = disk(folder.path());
    let service = look(&config);
    use_it(&service);
    assert_eq!(paths(&service), ["a", "b"]);
    assert_eq!((service.source(), service.health().state), (None, "healthy"));
    // A second look beside the first; and a server, which neither keeps out.
    assert_eq!(paths(&look(&config)), ["a", "b"]);
    assert!(disk(folder.path()) == before, "something changed");
    let server = open(&config);
    server.unlock(&key("a")).unwrap();
    assert_eq!(paths(&service), ["a", "b"]);
    server.close().unwrap();
    service.close().unwrap();
    assert_eq!(paths(&look(&config)), ["b"]);
}

/// What a killed server left is looked at as it would be opened, and stays for the opening.
#[test]
fn a_store_that_was_not_closed_is_looked_at_and_stays_so() {
    let folder = tempfile::tempdir().unwrap();
    let (data, killed) = (folder.path().join("locks"), folder.path().join("killed"));
    let store = SledStore::open(&data, system_clock()).unwrap();
    for path in 0..20 {
        grant(&store, fields(&path.to_string()), 1, 900).unwrap();
    }
    sled_support::copy_folder(&data, &killed);
    fs::create_dir(killed.join("sled.saving")).unwrap();
    let before = disk(&killed);
    let reader = SledStore::open_read_only(&killed, system_clock(), None).unwrap();
    assert_eq!(reader.list(&call()).unwrap().len(), 20);
    reader.close().unwrap();
    assert!(disk(&killed) == before, "something changed");
}

#[test]
fn where_there_is_no_store_none_is_made() {
    let folder = tempfile::tempdir().unwrap();
    for path in ["none", "none/below", "."] {
        let error = SledStore::open_read_only(&folder.path().join(path), system_clock(), None).unwrap_err();
        assert!(error.code() == Code::InvalidConfig && error.message().contains("is locking.data_dir right?"), "{error}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_damaged_store_is_named_by_its_own_folder() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("locks");
    SledStore::open(&data, system_clock()).unwrap().close().unwrap();
    fs::remove_file(data.join("journal")).unwrap();
    let before = disk(&data);
    let error = SledStore::open_read_only(&data, system_clock(), None).unwrap_err();
    assert_eq!(error.code(), Code::StoreDamaged);
    assert!(error.message().starts_with(&format!("in a copy of {}, made to look at it: ", data.display())), "{error}");
    assert!(disk(&data) == before, "something changed");
}

/// Also one that nobody closed.
#[test]
fn a_look_leaves_no_copy_behind() {
    if let Some((_, data)) = sled_support::role() {
        let left = || fs::read_dir(std::env::temp_dir()).unwrap().count();
        let reader = SledStore::open_read_only(&data, system_clock(), None).unwrap();
        assert_eq!(left(), 1);
        reader.close().unwrap();
        assert_eq!(left(), 0);
        drop(SledStore::open_read_only(&data, system_clock(), None).unwrap());
        assert_eq!(left(), 0);
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (data, temporary) = (folder.path().join("locks"), folder.path().join("tmp"));
    SledStore::open(&data, system_clock()).unwrap().close().unwrap();
    fs::create_dir(&temporary).unwrap();
    let mut child = sled_support::child("a_look_leaves_no_copy_behind", "reader", &data);
    assert!(child.env("TMPDIR", &temporary).status().unwrap().success());
}

/// Ctrl-C, SIGTERM and kill -9 leave a copy, which has tokens.
#[test]
fn a_look_removes_what_an_earlier_one_left_behind() {
    if let Some((_, data)) = sled_support::role() {
        drop(SledStore::open_read_only(&data, system_clock(), None).unwrap());
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (data, temporary) = (folder.path().join("locks"), folder.path().join("tmp"));
    SledStore::open(&data, system_clock()).unwrap().close().unwrap();
    let old = std::time::SystemTime::now() - Duration::from_secs(2 * 3600);
    let left = |name: &str| {
        let copy = temporary.join(name);
        fs::create_dir_all(copy.join("sled")).unwrap();
        fs::write(copy.join("lock"), "").unwrap();
        copy
    };
    let aged = |copy: &Path| fs::File::open(copy).unwrap().set_times(fs::FileTimes::new().set_modified(old)).unwrap();
    let (gone, young, locked, others, named) =
        (left("atlock-look-1"), left("atlock-look-2"), left("atlock-look-3"), left("atlock-look-4"), left("somebody-else"));
    let unlocked = left("atlock-look-5");
    fs::remove_file(unlocked.join("lock")).unwrap();
    let linked = temporary.join("atlock-look-6");
    std::os::unix::fs::symlink(&named, &linked).unwrap();
    let lock = fs::File::open(locked.join("lock")).unwrap();
    lock.try_lock().unwrap();
    std::os::unix::fs::chown(&others, Some(65534), None).expect("this test gives a folder to another user: run it as root");
    [&gone, &locked, &others, &named, &unlocked].into_iter().for_each(|copy| aged(copy));
    let mut child = sled_support::child("a_look_removes_what_an_earlier_one_left_behind", "reader", &data);
    assert!(child.env("TMPDIR", &temporary).status().unwrap().success());
    let mut stays = fs::read_dir(&temporary).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    stays.sort();
    assert_eq!(stays, [young, locked, others, linked, named]);
}

#[test]
fn a_full_temporary_folder_is_named() {
    if let Some((_, data)) = sled_support::role() {
        let error = SledStore::open_read_only(&data, system_clock(), None).unwrap_err();
        assert!(error.code() == Code::StoreNotWritable && error.message().contains("atlock-look-"), "{error}");
        assert!(error.message().contains("Make room on its disk"), "{error}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("locks");
    let disk = SmallDisk::mount(&folder.path().join("tmp"), "64k");
    SledStore::open(&data, system_clock()).unwrap().close().unwrap();
    let mut child = sled_support::child("a_full_temporary_folder_is_named", "reader", &data);
    assert!(child.env("TMPDIR", &disk.0).status().unwrap().success());
    assert_eq!(fs::read_dir(&disk.0).unwrap().count(), 0);
}

/// A Redis with all that a server would tidy up: a lock of a stock server's, one under an old key, one whose new key is held, members
/// of the index whose locks are gone, a side hash without an end.
fn untidy(server: &Server) {
    let store = RedisStore::open(&settings(&server.address()), "0123456789abcdef").unwrap();
    redis_support::take(&store, fields("a"), 1);
    redis_support::take(&store, fields("gone"), 1);
    store.close().unwrap();
    let mut raw = server.raw();
    let mut set = |key: String, value: &[u8]| redis::cmd("SET").arg(key).arg(value).exec(&mut raw).unwrap();
    set(format!("pr/{}", fields("stock").key()), &lock_json(fields("stock"), 2));
    set(format!("pr/{}", fields("old").old_key()), &lock_json(fields("old"), 3));
    set(format!("pr/{}", fields("a").old_key()), &lock_json(fields("a"), 4));
    redis::cmd("DEL").arg(format!("pr/{}", fields("gone").key())).exec(&mut raw).unwrap();
    redis::cmd("ZADD").arg("atlock:locks").arg(1).arg(fields("long-gone").key()).exec(&mut raw).unwrap();
}

#[test]
fn a_look_at_redis_changes_nothing_and_shows_what_is_there() {
    for shared in [true, false] {
        let server = Server::start(&[]);
        untidy(&server);
        let before = redis_state(&server);
        let service = look(&config(&format!(
            "locking: {{enhanced: {{enabled: true, compatibility_mode: native, redis: {{address: '{}', shared_with_stock: {shared}}}}}}}",
            server.address()
        )));
        use_it(&service);
        assert_eq!(paths(&service), ["a", "old", "stock"]);
        let listing = service.list().unwrap();
        let unreadable: Vec<&str> = listing.unreadable().iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(unreadable, [fields("a").old_key()], "today's key is held by another");
        assert_eq!(service.get_lock(&key("old")).unwrap(), Some(lock_json(fields("old"), 3)));
        assert_eq!(service.get_lock(&key("a")).unwrap(), Some(lock_json(fields("a"), 1)));
        assert_eq!(service.get_lock(&key("gone")).unwrap(), None);
        let infos = service.lock_infos(&serde_json::to_vec(&[fields("a").key(), fields("stock").key()]).unwrap()).unwrap();
        assert!(infos[0].as_ref().unwrap().token.is_some() && infos[1].as_ref().unwrap().token.is_none(), "{infos:?}");
        service.close().unwrap();
        assert_eq!(redis_state(&server), before);
    }
}

#[test]
fn a_look_at_a_cluster_changes_nothing() {
    let cluster = redis_support::Cluster::start(0);
    let store = RedisStore::open(&cluster.settings(), "0123456789abcdef").unwrap();
    for path in ["a", "b", "c", "gone"] {
        redis_support::take(&store, fields(path), 1);
    }
    store.close().unwrap();
    for node in &cluster.nodes {
        // Where the key is another node's, it says so.
        let _ = redis::cmd("DEL").arg(format!("pr/{}", fields("gone").key())).exec(&mut node.raw());
    }
    let state = || cluster.nodes.iter().map(redis_state).collect::<Vec<_>>();
    let before = state();
    let reader = RedisStore::open_read_only(&cluster.settings()).unwrap();
    assert_eq!(reader.list(&call()).unwrap().len(), 3);
    assert!(reader.lock_info(LockKey::Project(&fields("a").key()), &call()).unwrap().unwrap().token.is_some());
    assert_eq!(reader.lock_info(LockKey::Project(&fields("gone").key()), &call()).unwrap(), None);
    reader.ping(&call()).unwrap();
    reader.close().unwrap();
    assert_eq!(state(), before);
}

/// What the local store holds, what Redis holds, and which of them answers.
#[test]
fn a_look_at_hybrid_mode_tells_which_store_answers() {
    let (folder, mut server) = (tempfile::tempdir().unwrap(), Server::start(&[]));
    let data = folder.path().join("locks");
    let config = hybrid(&data, &server.address());
    let service = open(&config);
    service.try_lock(&lock_json(fields("a"), 1)).unwrap();
    // As before there was a socket: the server has the local store, and Redis alone can be looked at.
    let beside = look(&config);
    assert_eq!(beside.source(), Some("the server has the local store open: this is what Redis says"));
    assert_eq!((paths(&beside), beside.status().mode.as_str()), (vec!["a".to_owned()], "native"));
    service.close().unwrap();

    let before = (disk(&data), redis_state(&server));
    let stopped = look(&config);
    use_it(&stopped);
    assert_eq!(stopped.source(), Some("no server runs here: this is what Redis says"));
    assert_eq!((paths(&stopped), stopped.status().mode.as_str()), (vec!["a".to_owned()], "hybrid"));
    let report = stopped.status().hybrid.unwrap();
    assert_eq!((report.circuit_state.as_str(), report.armed, report.journal_length), ("disabled", false, 0));
    assert_eq!((stopped.health().state, stopped.status().warnings.len()), ("healthy", 1), "Redis without persistence");
    assert!(redis_state(&server) == before.1 && disk(&data) == before.0, "something changed");

    // A grant of the fallback, which Redis does not know of.
    server.kill();
    let service = open(&config);
    service.try_lock(&lock_json(fields("b"), 2)).unwrap();
    service.close().unwrap();
    let before = disk(&data);
    let alone = look(&config);
    use_it(&alone);
    assert_eq!(alone.source(), Some("no server runs here, and Redis does not answer: this is what the local store has"));
    assert_eq!(paths(&alone), ["a", "b"]);
    assert_eq!(alone.status().hybrid.unwrap().journal_length, 1);
    assert!(alone.status().warnings.iter().any(|warning| warning.starts_with("Redis is not asked: ")), "{:?}", alone.status());
    assert_eq!(alone.health().state, "unhealthy");
    drop(alone);
    assert!(disk(&data) == before, "something changed");
    // Redis has lost what it held: both locks are what the next start puts there.
    server.restart();
    let before = (disk(&data), redis_state(&server));
    let emptied = look(&config);
    let (lost, undelivered) = (fields("a").key(), fields("b").key());
    let not_shown = format!("the local store holds 1 lock that Redis does not show: lock {lost:?}; the next start decides");
    assert_eq!(
        emptied.source().unwrap(),
        format!(
            "no server runs here: this is what Redis says; it does not know yet what the local store decided of lock {undelivered:?}; \
             {not_shown}"
        )
    );
    assert_eq!(paths(&emptied), [""; 0]);
    assert!(emptied.status().warnings.contains(&not_shown), "{:?}", emptied.status());
    drop(emptied);
    assert!(redis_state(&server) == before.1 && disk(&data) == before.0, "something changed");

    // Neither.
    server.kill();
    fs::remove_dir_all(&data).unwrap();
    let error = Service::open_read_only(&config, system_clock()).unwrap_err();
    assert!(
        error.message().starts_with("neither store can be looked at: ") && error.message().contains("there is no store in"),
        "{error}"
    );
}

/// A strict server that is stopped, after hybrid mode: what its next start would fetch from Redis, or refuse for, is told.
#[test]
fn a_look_at_strict_mode_tells_what_its_start_would_miss() {
    let (folder, mut server) = (tempfile::tempdir().unwrap(), Server::start(&[]));
    let address = server.address();
    let told = |data: &Path, allow_unseen: bool| {
        let mut config = hybrid(data, &address);
        (config.locking.enhanced.enabled, config.locking.enhanced.allow_unseen_redis) = (false, allow_unseen);
        let warnings = look(&config).status().warnings;
        warnings.into_iter().find(|warning| warning.contains("may lack locks")).unwrap_or_default()
    };
    let never_hybrid = folder.path().join("strict");
    SledStore::open(&never_hybrid, system_clock()).unwrap().close().unwrap();
    assert_eq!(told(&never_hybrid, false), "");

    let shared = folder.path().join("shared");
    let mut many = hybrid(&shared, &address);
    many.locking.enhanced.instances = atlock::config::Instances::Many;
    open(&many).close().unwrap();
    let warnings = told(&shared, false);
    assert!(warnings.contains("may lack locks: another server used the same Redis"), "{warnings}");

    let unseen = folder.path().join("unseen");
    server.kill();
    open(&hybrid(&unseen, &address)).close().unwrap();
    let warnings = told(&unseen, false);
    assert!(warnings.contains("may lack locks: hybrid mode was in use and never reached its Redis"), "{warnings}");
    assert_eq!(told(&unseen, true), "");
}

/// Locks and command locks, of which Redis has lost more than are named; what Redis still has is not among them.
#[test]
fn a_look_names_what_the_next_start_may_restore() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start(&[]));
    let config = hybrid(&folder.path().join("locks"), &server.address());
    let service = open(&config);
    for number in 10..24 {
        service.try_lock(&lock_json(fields(&number.to_string()), number)).unwrap();
    }
    service.lock_command("apply", br#"{"Command":0}"#).unwrap();
    service.lock_command("plan", br#"{"Command":1}"#).unwrap();
    service.close().unwrap();
    assert_eq!(look(&config).source(), Some("no server runs here: this is what Redis says"));
    let mut raw = server.raw();
    let gone: Vec<String> = (10..23).map(|number| format!("pr/{}", fields(&number.to_string()).key())).collect();
    redis::cmd("DEL").arg(gone).exec(&mut raw).unwrap();
    let names = |text: &str| text.matches("lock \"").count();
    let source = look(&config).source().unwrap().to_owned();
    assert!(source.contains("holds 13 locks that Redis does not show: ") && source.contains(" and 3 more; the next"), "{source}");
    assert!(names(&source) == 10 && !source.contains("infra/23/") && !source.contains("command lock"), "{source}");
    let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut raw).unwrap();
    keys.retain(|key| key.contains("apply") || key.contains("infra/23/"));
    redis::cmd("DEL").arg(&keys).exec(&mut raw).unwrap();
    let source = look(&config).source().unwrap().to_owned();
    assert!(source.contains("holds 15 locks that Redis does not show: "), "{keys:?} {source}");
}

/// Looks and starts at the same time: a look never makes a server's start fail.
#[test]
fn a_look_stands_in_no_servers_way() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("locks");
    SledStore::open(&data, system_clock()).unwrap().close().unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    let looks = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                match SledStore::open_read_only(&data, system_clock(), None) {
                    Ok(_) => drop(looks.fetch_add(1, std::sync::atomic::Ordering::SeqCst)),
                    Err(e) => assert_eq!(e.code(), Code::StoreBusy, "{e}"),
                }
            }
        });
        for _ in 0..50 {
            let started = SledStore::open(&data, system_clock());
            if started.is_err() {
                done.store(true, std::sync::atomic::Ordering::SeqCst);
            }
            started.unwrap().close().unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
        done.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    assert!(looks.into_inner() > 0);
}
