//! Switching between strict, hybrid and native mode by configuration and restart, with locks open all the way.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod redis_support;
mod wait;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use atlock::clock::SystemClock;
use atlock::config::Config;
use atlock::error::{Code, Result};
use atlock::service::Service;
use atlock::store::{Expected, Granted, Swap};
use redis_support::Server;
use wait::wait_until;

const STATUS: &str = "git.example.com::acme/infra::1";

fn service(mode: &str, enabled: bool, folder: &Path, address: &str) -> Result<Service> {
    service_with(mode, enabled, "durability: sync", folder, address)
}

/// The same with one more setting of `locking.enhanced`.
fn service_with(mode: &str, enabled: bool, setting: &str, folder: &Path, address: &str) -> Result<Service> {
    let text = format!(
        "locking:\n  backend: sled\n  data_dir: {}\n  enhanced:\n    enabled: {enabled}\n    compatibility_mode: {mode}\n    {setting}\n    redis:\n      address: {address}\n",
        folder.display()
    );
    Service::open(&Config::parse(&text, "test").unwrap(), None, Arc::new(SystemClock))
}

fn lock(path: &str, num: i64) -> Vec<u8> {
    format!(r#"{{"Project":{{"RepoFullName":"acme/infra","Path":"{path}","ProjectName":""}},"Pull":{{"Num":{num}}},"Workspace":"default","Later":"{path}"}}"#)
        .into_bytes()
}

fn take(service: &Service, path: &str, num: i64) {
    assert!(matches!(service.try_lock(&lock(path, num)).unwrap(), Granted::Yes { .. }), "{path} is free");
}

fn listed(service: &Service) -> Vec<String> {
    let mut values: Vec<String> =
        service.list().unwrap().values().map(|value| String::from_utf8(value.to_vec()).unwrap()).collect();
    values.sort();
    values
}

fn values(of: &[(&str, i64)]) -> Vec<String> {
    let mut values: Vec<String> = of.iter().map(|(path, num)| String::from_utf8(lock(path, *num)).unwrap()).collect();
    values.sort();
    values
}

/// Locks, a command's lock and a pull status live through every switch; each mode adds one and releases one.
#[test]
fn every_switch_keeps_what_is_held() {
    let (redis, folder) = (Server::start(&[]), tempfile::tempdir().unwrap());
    let (folder, address) = (folder.path(), redis.address());
    let open = |mode: &str| service(mode, true, folder, &address).unwrap();

    let strict = open("strict");
    take(&strict, "a", 1);
    take(&strict, "gone", 9);
    assert!(matches!(strict.lock_command("apply", br#"{"by":"strict"}"#).unwrap(), Granted::Yes { .. }));
    assert_eq!(strict.swap_pull_status(STATUS, Expected::Absent, Some(br#"{"Pull":{"Num":1}}"#)).unwrap(), Swap::Done);
    strict.close().unwrap();

    let mut held = vec![("a", 1), ("gone", 9)];
    for (nth, mode) in ["hybrid", "native", "hybrid", "strict", "hybrid", "strict", "native", "strict"].into_iter().enumerate() {
        let service = open(mode);
        assert_eq!(listed(&service), values(&held), "switch {nth} to {mode}");
        assert_eq!(service.check_command_lock("apply").unwrap().unwrap(), br#"{"by":"strict"}"#);
        assert_eq!(service.pull_status(STATUS).unwrap().unwrap(), br#"{"Pull":{"Num":1}}"#);
        let (path, _) = held.pop().unwrap();
        assert!(service.unlock(format!(r#"{{"Key":"acme/infra/{path}/default/"}}"#).as_bytes()).unwrap().is_some());
        let new = ["b", "c", "d", "e", "f", "g", "h", "i"][nth];
        take(&service, new, 2);
        held.push((new, 2));
        assert!(matches!(service.try_lock(&lock(new, 3)).unwrap(), Granted::Held { .. }));
        service.close().unwrap();
    }
}

/// The emergency rollback: strict finds everything, though Redis is gone, also what was taken while it was away.
#[test]
fn rolling_back_needs_no_redis() {
    let (mut redis, folder) = (Server::start(&[]), tempfile::tempdir().unwrap());
    let address = redis.address();
    let hybrid = service("hybrid", true, folder.path(), &address).unwrap();
    take(&hybrid, "a", 1);
    take(&hybrid, "released", 1);
    redis.kill();
    take(&hybrid, "b", 2);
    assert_eq!(hybrid.unlock(br#"{"Key":"acme/infra/released/default/"}"#).unwrap().unwrap(), lock("released", 1));
    hybrid.close().unwrap();
    let strict = service("hybrid", false, folder.path(), &address).unwrap();
    assert_eq!(strict.status().mode, "strict");
    assert_eq!(listed(&strict), values(&[("a", 1), ("b", 2)]));
}

/// After native mode only Redis knows the locks: strict fetches them, and without Redis refuses to begin with old ones.
#[test]
fn strict_after_native_needs_redis_once() {
    let (mut redis, folder) = (Server::start(&["--appendonly", "yes"]), tempfile::tempdir().unwrap());
    let address = redis.address();
    service("hybrid", true, folder.path(), &address).unwrap().close().unwrap();
    let native = service("native", true, folder.path(), &address).unwrap();
    take(&native, "a", 1);
    native.close().unwrap();
    redis.kill();
    let error = service("native", false, folder.path(), &address).expect_err("is refused");
    assert!(error.code() == Code::Unreachable && error.message().contains("native mode was in use last"), "{error}");
    // Hybrid begins, but must not grant what native mode may have granted.
    let hybrid = service("hybrid", true, folder.path(), &address).unwrap();
    assert_eq!(hybrid.try_lock(&lock("a", 2)).expect_err("is refused").code(), Code::Degraded);
    hybrid.close().unwrap();
    redis.restart();
    let strict = service("native", false, folder.path(), &address).unwrap();
    assert_eq!(listed(&strict), values(&[("a", 1)]));
}

/// The same where native mode was the first: a folder in which nothing was before is not one without locks.
#[test]
fn strict_after_native_in_a_new_folder_needs_redis_once() {
    let (mut redis, folder) = (Server::start(&["--appendonly", "yes"]), tempfile::tempdir().unwrap());
    let address = redis.address();
    let native = service("native", true, folder.path(), &address).unwrap();
    take(&native, "a", 1);
    native.close().unwrap();
    redis.kill();
    let error = service("native", false, folder.path(), &address).expect_err("is refused");
    assert!(error.code() == Code::Unreachable && error.message().contains("native mode was in use last"), "{error}");
    redis.restart();
    let strict = service("native", false, folder.path(), &address).unwrap();
    assert_eq!(listed(&strict), values(&[("a", 1)]));
}

/// A new folder and no Redis: what that holds is not known. Who knows that it holds nothing may say so: locks can be taken at once, and
/// go to Redis when it comes.
/// A start that needs Redis and does not find it leaves nothing behind that would keep strict mode from going on.
#[test]
fn a_start_that_failed_for_want_of_redis_is_as_if_it_had_not_been() {
    let folder = tempfile::tempdir().unwrap();
    let (folder, nowhere) = (folder.path(), "127.0.0.1:1");
    let strict = service("strict", true, folder, nowhere).unwrap();
    take(&strict, "a", 1);
    strict.close().unwrap();
    let needs = [("native", "durability: sync"), ("hybrid", "legacy_fallback: false")];
    for (mode, setting) in needs {
        assert_eq!(service_with(mode, true, setting, folder, nowhere).unwrap_err().code(), Code::Unreachable, "{mode}");
        let strict = service("strict", true, folder, nowhere).unwrap();
        assert_eq!(listed(&strict), values(&[("a", 1)]), "after {mode}");
        strict.close().unwrap();
    }
}

#[test]
fn a_fresh_start_without_redis_grants_where_that_is_allowed() {
    let (mut redis, folder) = (Server::start(&[]), tempfile::tempdir().unwrap());
    let address = redis.address();
    redis.kill();
    let hybrid = service("hybrid", true, folder.path(), &address).unwrap();
    let error = hybrid.try_lock(&lock("a", 1)).expect_err("is refused");
    assert!(error.code() == Code::Degraded && error.message().contains("has never seen the Redis at"), "{error}");
    hybrid.close().unwrap();
    let hybrid = service_with("hybrid", true, "allow_unseen_redis: true", folder.path(), &address).unwrap();
    take(&hybrid, "a", 1);
    let status = hybrid.status();
    assert!(status.fallback_active && status.hybrid.unwrap().armed);
    redis.restart();
    wait_until("Redis decides", Duration::from_secs(10), || !hybrid.status().fallback_active);
    let stored: Vec<u8> = redis::cmd("GET").arg("pr/acme/infra/a/default/").query(&mut redis.raw()).unwrap();
    assert_eq!(stored, lock("a", 1));
    take(&hybrid, "b", 1);
}

/// A folder that is new, beside a Redis that has locks and is away: whoever grants here grants what is held.
#[test]
fn a_new_folder_does_not_take_a_redis_that_is_away_for_an_empty_one() {
    let (mut redis, folders) = (Server::start(&["--appendonly", "yes"]), [(); 2].map(|()| tempfile::tempdir().unwrap()));
    let address = redis.address();
    let before = service("hybrid", true, folders[0].path(), &address).unwrap();
    take(&before, "a", 1);
    before.close().unwrap();
    redis.kill();
    let hybrid = service("hybrid", true, folders[1].path(), &address).unwrap();
    assert_eq!(hybrid.try_lock(&lock("a", 2)).expect_err("is refused").code(), Code::Degraded);
    hybrid.close().unwrap();
    // The old one knows what Redis has; but not what another Redis has.
    let hybrid = service("hybrid", true, folders[0].path(), &address).unwrap();
    take(&hybrid, "b", 1);
    hybrid.close().unwrap();
    let elsewhere = address.replace("127.0.0.1", "localhost");
    let hybrid = service("hybrid", true, folders[0].path(), &elsewhere).unwrap();
    assert_eq!(hybrid.try_lock(&lock("c", 1)).expect_err("is refused").code(), Code::Degraded);
    hybrid.close().unwrap();
    redis.restart();
    service("hybrid", true, folders[0].path(), &elsewhere).unwrap().close().unwrap();
    redis.kill();
    let hybrid = service("hybrid", true, folders[0].path(), &elsewhere).unwrap();
    take(&hybrid, "c", 1);
}

/// With `durability: async` the local store may lack what was acknowledged before a crash: strict mode fetches it from Redis, or does
/// not begin, or says that it was allowed to.
#[test]
fn strict_mode_does_not_begin_without_what_hybrid_mode_knew_that_it_lacked() {
    let (mut redis, folder) = (Server::start(&["--appendonly", "yes"]), tempfile::tempdir().unwrap());
    let (folder, address) = (folder.path(), redis.address());
    let open = |enabled: bool, setting: &str| service_with("hybrid", enabled, setting, folder, &address);
    let copy = tempfile::tempdir().unwrap();
    let hybrid = open(true, "durability: async").unwrap();
    take(&hybrid, "a", 1);
    // What a crash leaves: the folder as it is while the server runs, without what was granted last.
    std::thread::sleep(Duration::from_millis(200));
    copy_folder(folder, copy.path());
    take(&hybrid, "b", 1);
    hybrid.close().unwrap();
    let crashed = || {
        std::fs::remove_dir_all(folder).unwrap();
        copy_folder(copy.path(), folder);
    };
    crashed();
    redis.kill();
    let error = open(false, "durability: async").expect_err("is refused");
    for words in ["was not closed", "durability async", "allow_incomplete_rollback"] {
        assert!(error.message().contains(words), "{words:?} is missing: {error}");
    }
    let strict = open(false, "allow_incomplete_rollback: true").unwrap();
    assert_eq!(listed(&strict), values(&[("a", 1)]));
    let warnings = strict.status().warnings;
    assert!(warnings.iter().any(|warning| warning.contains("locks that may be held")), "{warnings:?}");
    strict.close().unwrap();
    crashed();
    redis.restart();
    let strict = open(false, "durability: async").unwrap();
    assert_eq!(listed(&strict), values(&[("a", 1), ("b", 1)]));
    strict.close().unwrap();
    redis.kill();
    assert_eq!(listed(&open(false, "durability: async").unwrap()), values(&[("a", 1), ("b", 1)]), "nothing is lacking any more");
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (entry, to) = (entry.unwrap(), to.to_owned());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &to.join(entry.file_name()));
        } else {
            std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}
