//! Switching between strict, hybrid and native mode by configuration and restart, with locks open all the way.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod redis_support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use atlock::clock::SystemClock;
use atlock::config::Config;
use atlock::error::{Code, Result};
use atlock::service::Service;
use atlock::store::{Expected, Granted, Swap};
use redis_support::Server;

const STATUS: &str = "git.example.com::acme/infra::1";

fn service(mode: &str, enabled: bool, folder: &Path, address: &str) -> Result<Service> {
    let text = format!(
        "locking:\n  backend: sled\n  data_dir: {}\n  enhanced:\n    enabled: {enabled}\n    compatibility_mode: {mode}\n    redis:\n      address: {address}\n",
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

/// A new folder and no Redis: locks can be taken at once, and go to Redis when it comes.
#[test]
fn a_fresh_start_without_redis_works() {
    let (mut redis, folder) = (Server::start(&[]), tempfile::tempdir().unwrap());
    let address = redis.address();
    redis.kill();
    let hybrid = service("hybrid", true, folder.path(), &address).unwrap();
    take(&hybrid, "a", 1);
    let status = hybrid.status();
    assert!(status.fallback_active && status.hybrid.unwrap().armed);
    redis.restart();
    let give_up = Instant::now() + Duration::from_secs(10);
    while hybrid.status().fallback_active {
        assert!(Instant::now() < give_up, "{:?}", hybrid.status());
        std::thread::sleep(Duration::from_millis(20));
    }
    let stored: Vec<u8> = redis::cmd("GET").arg("pr/acme/infra/a/default/").query(&mut redis.raw()).unwrap();
    assert_eq!(stored, lock("a", 1));
    take(&hybrid, "b", 1);
}
