//! A shadow beside a service: on a real Redis, on disk, through restarts and faults; and what is refused to become one.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod redis_support;
mod wait;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use atlock::clock::SystemClock;
use atlock::config::Config;
use atlock::error::Code;
use atlock::service::Service;
use atlock::shadow::{Report, State, Told};
use atlock::store::Granted;
use atlock::store::redis::RedisStore;
use atlock::store::sled::SledStore;
use redis_support::{Server, fields, lock_json, settings};
use wait::wait_for;

/// Strict mode on the embedded store in this folder, with this shadow.
fn strict(folder: &Path, shadow: &str) -> Config {
    let text = format!("locking: {{backend: sled, data_dir: {:?}, shadow: {shadow}}}", folder.join("decides"));
    Config::parse(&text, "test").unwrap()
}

fn on_redis(server: &Server) -> String {
    format!("{{store: redis, redis: {{address: '{}', db: 3}}}}", server.address())
}

fn on_sled(folder: &Path) -> String {
    format!("{{store: sled, data_dir: {:?}}}", folder.join("shadow"))
}

fn open(config: &Config) -> Service {
    Service::open(config, None, Arc::new(SystemClock)).unwrap().shadowed(config).unwrap()
}

fn report(service: &Service) -> Report {
    service.shadow().unwrap()
}

fn in_step(service: &Service) {
    wait_for("the shadow is in step", Duration::from_secs(60), || {
        let report = report(service);
        if report.in_step && report.waiting == 0 { Ok(()) } else { Err(Box::new(report)) }
    });
}

fn state(service: &Service, wanted: State) -> String {
    wait_for("the shadow stands like this", Duration::from_secs(60), || {
        let report = report(service);
        if report.state == wanted { Ok(report.because.unwrap_or_default()) } else { Err(Box::new(report)) }
    })
}

fn take(service: &Service, path: &str, num: i64) {
    assert!(matches!(service.try_lock(&lock_json(fields(path), num)).unwrap(), Granted::Yes { .. }), "{path}");
}

fn target(path: &str) -> Vec<u8> {
    lock_json(fields(path), 0)
}

/// What the shadow in Redis has.
fn in_redis(server: &Server) -> Vec<String> {
    let mut raw = server.raw();
    redis::cmd("SELECT").arg(3).exec(&mut raw).unwrap();
    let mut keys: Vec<String> = redis::cmd("KEYS").arg("pr/*").query(&mut raw).unwrap();
    keys.retain(|key| !key.ends_with(":atlock"));
    keys.sort();
    keys
}

/// Every kind of operation, through a restart, on both kinds of shadow: the same is decided, and the shadow begins anew each
/// time.
#[test]
fn a_shadow_follows_every_operation_and_a_restart() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start(&[]));
    for (round, shadow) in [on_redis(&server), on_sled(folder.path())].into_iter().enumerate() {
        let folder = folder.path().join(format!("round{round}"));
        std::fs::create_dir(&folder).unwrap();
        let config = strict(&folder, &shadow);
        let service = open(&config);
        in_step(&service);
        for path in ["a", "b", "c"] {
            take(&service, path, 1);
            assert!(matches!(service.try_lock(&lock_json(fields(path), 2)).unwrap(), Granted::Held { .. }));
        }
        assert!(service.unlock(&target("a")).unwrap().is_some() && service.get_lock(&target("a")).unwrap().is_none());
        assert!(service.unlock_if_owned_by_pull(&target("b"), 2).unwrap().is_none());
        assert!(service.discard(&target("b")).unwrap().is_some());
        for _ in 0..2 {
            service.lock_command("apply", b"{}").unwrap();
            service.check_command_lock("apply").unwrap();
            service.swap_pull_status("h::acme/infra::1", atlock::store::Expected::Any, Some(b"{}")).unwrap();
            service.pull_status("h::acme/infra::1").unwrap();
        }
        service.unlock_command("apply").unwrap();
        assert_eq!(service.list().unwrap().len(), 1);
        in_step(&service);
        let found = report(&service);
        // The first operation at the command and at the status has nothing to compare with.
        assert_eq!((found.same, found.uncertain, found.different), (18, 2, 0), "{found:?}");
        assert!(service.metrics().contains(r#"atlock_shadow_operations_total{operation="try_lock",result="same"} 6"#));
        service.close().unwrap();

        let service = open(&config);
        in_step(&service);
        assert_eq!(service.unlock_by_pull("acme/infra", 1).unwrap().len(), 1);
        take(&service, "d", 3);
        in_step(&service);
        let found = report(&service);
        assert_eq!((found.same, found.different), (2, 0), "{found:?}");
        service.close().unwrap();
    }
    assert_eq!(in_redis(&server), ["pr/acme/infra/d/default/"]);
}

/// A shadow's store is no store: who opens it for its own hears so.
#[test]
fn nobody_takes_a_shadows_store_for_a_servers() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start(&[]));
    for shadow in [on_redis(&server), on_sled(folder.path())] {
        let data = tempfile::tempdir().unwrap();
        let service = open(&strict(data.path(), &shadow));
        in_step(&service);
        service.close().unwrap();
    }
    let of_redis = RedisStore::open(&atlock::config::Redis { db: 3, ..settings(&server.address()) }, "x").map(drop).unwrap_err();
    let of_sled = SledStore::open(&folder.path().join("shadow"), Arc::new(SystemClock)).map(drop).unwrap_err();
    for refused in [of_redis, of_sled] {
        assert_eq!(refused.code(), Code::StoreMoved);
        assert!(refused.message().contains("is the shadow of a server in strict mode"), "{refused}");
    }
}

/// What others hold, what decides, and what is another's, stays as it is, and the server works as if there were no shadow.
#[test]
fn what_is_another_stores_is_refused() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start(&[]));
    // Locks of others.
    let redis = RedisStore::open(&atlock::config::Redis { db: 3, ..settings(&server.address()) }, "x").unwrap();
    redis_support::take(&redis, fields("theirs"), 7);
    let sled = SledStore::open(&folder.path().join("shadow"), Arc::new(SystemClock)).unwrap();
    redis_support::take(&sled, fields("theirs"), 7);
    atlock::store::Store::close(&sled).unwrap();
    for (round, shadow) in [on_redis(&server), on_sled(folder.path())].into_iter().enumerate() {
        let folder = folder.path().join(format!("round{round}"));
        std::fs::create_dir(&folder).unwrap();
        let service = open(&strict(&folder, &shadow));
        let why = state(&service, State::Refused);
        assert!(why.contains("has 1 locks or other entries that are not a shadow's"), "{why}");
        take(&service, "a", 1);
        assert!(
            service.status().warnings.iter().any(|warning| warning.contains("compares nothing")),
            "{:?}",
            service.status().warnings
        );
        assert_eq!(report(&service).same, 0);
        service.close().unwrap();
    }
    assert!(redis_support::get(&redis, fields("theirs")).is_some() && redis_support::get(&redis, fields("a")).is_none());

    // The Redis that decides, by another name.
    let text = format!(
        "locking: {{enhanced: {{enabled: true, compatibility_mode: native, redis: {{address: '127.0.0.1:{0}', db: 5}}}}, \
         shadow: {{store: redis, redis: {{address: 'localhost:{0}', db: 5}}}}}}",
        server.port
    );
    let service = open(&Config::parse(&text, "test").unwrap());
    let why = state(&service, State::Refused);
    assert!(why.contains("locking.shadow.redis is the Redis that decides, by another name"), "{why}");
    take(&service, "a", 1);
    service.close().unwrap();
    RedisStore::open(&atlock::config::Redis { db: 5, ..settings(&server.address()) }, "x").expect("has no mark");

    // What the settings tell.
    let refused = |text: &str| Config::parse(text, "test").unwrap_err().message().to_owned();
    let data = format!("locking: {{backend: sled, data_dir: {0:?}, shadow: {{store: sled, data_dir: {0:?}}}}}", folder.path());
    for (text, wanted) in [
        (text.replace("localhost", "127.0.0.1").as_str(), "locking.shadow.redis is locking.enhanced.redis, which decides"),
        (data.as_str(), "locking.shadow.data_dir is locking.data_dir"),
        ("locking: {shadow: {store: sled}}", "locking.shadow.data_dir is missing"),
        ("locking: {shadow: {store: redis, redis: {address: 'u:p@h:1'}}}", "locking.shadow.redis: an address is host:port"),
        ("locking: {shadow: {sample: 0s}}", "locking.shadow.sample must be more than 0"),
    ] {
        assert!(refused(text).contains(wanted), "{text}: {}", refused(text));
    }
    let told = Config::parse(
        &format!("locking: {{shadow: {}, enhanced: {{redis: {{address: '{}', db: 3}}}}}}", on_redis(&server), server.address()),
        "x",
    );
    let error = Told::open(&told.unwrap(), true, Arc::new(SystemClock)).map(drop).unwrap_err();
    assert!(error.message().contains("locking.shadow.redis is Atlantis's own Redis"), "{error}");
}

/// Two servers with one shadow: the later one has it.
#[test]
fn one_of_two_servers_has_the_shadow() {
    let (one, two, server) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), Server::start(&[]));
    let first = open(&strict(one.path(), &on_redis(&server)));
    in_step(&first);
    let second = open(&strict(two.path(), &on_redis(&server)));
    in_step(&second);
    let why = state(&first, State::Refused);
    assert!(why.contains("another server has taken the Redis"), "{why}");
    take(&first, "a", 1);
    take(&second, "b", 1);
    in_step(&second);
    assert_eq!((in_redis(&server), report(&second).different), (vec!["pr/acme/infra/b/default/".to_owned()], 0));
}

/// The shadow's Redis hangs, dies, and is full: the server answers as before, and the shadow is in step again afterwards.
#[test]
fn a_redis_that_fails_costs_nothing() {
    let (folder, mut server) = (tempfile::tempdir().unwrap(), Server::start(&[]));
    let service = open(&strict(folder.path(), &on_redis(&server)));
    in_step(&service);
    let mut at = 0;
    let mut work = |what: &str| {
        let mut slowest = Duration::ZERO;
        for _ in 0..50 {
            at += 1;
            let (path, begun) = (at.to_string(), Instant::now());
            take(&service, &path, 1);
            assert!(service.unlock(&target(&path)).unwrap().is_some());
            slowest = slowest.max(begun.elapsed());
        }
        take(&service, what, 2);
        // A shadow that is waited for would cost its timeout, a second, each time.
        assert!(slowest < Duration::from_secs(5), "{what}: {slowest:?}");
    };
    server.pause();
    work("hangs");
    server.resume();
    in_step(&service);
    server.kill();
    work("dead");
    state(&service, State::Failing);
    let failed = report(&service).failed;
    assert!(failed > 0);
    server.restart();
    in_step(&service);
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("1").exec(&mut server.raw()).unwrap();
    work("full");
    state(&service, State::Failing);
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg("0").exec(&mut server.raw()).unwrap();
    in_step(&service);
    state(&service, State::Following);
    let found = report(&service);
    assert_eq!(found.different, 0, "{found:?}");
    assert_eq!(found.operations, 303, "{found:?}");
    assert_eq!(in_redis(&server).len(), 3);
    let begun = Instant::now();
    server.pause();
    take(&service, "last", 1);
    service.close().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(20));
}
