//! Hybrid mode against real faults: whatever happens to Redis, callers get answers in time, and afterwards both stores have what
//! callers were told. `make test-faults` runs the slow ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

#[macro_use]
mod hybrid_support;
mod redis_support;
mod sled_support;
mod wait;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use atlock::config::{self, Durability, Instances, Mode};
use atlock::error::Code;
use atlock::service::Service;
use hybrid_support::line::Line;
use hybrid_support::local::Local;
use hybrid_support::network::Network;
use hybrid_support::{
    Caller, Locks, Scenario, StopOnDrop, Told, close, hybrid, in_redis, listed, locks_of, on_disk, open, race, take_many,
    try_open, wait_until_recovered,
};
use redis_support::{Cluster, Server, certificates, fields, free_port, path, settings};
use sled_support::SmallDisk;
use wait::wait_until;

/// Writes every change to its disk before it answers.
const DURABLE: &[&str] = &["--appendonly", "yes", "--appendfsync", "always"];

/// The breaker's `max_open` with jitter, and some probes.
const AFTER_A_LONG_FAULT: Duration = Duration::from_secs(15);

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn scenario<'a>(local: Local, fault: &'a str, folder: &tempfile::TempDir, server: &Server) -> Scenario<'a> {
    Scenario::new(local, fault, folder.path(), settings(&server.address()))
}

fn run(server: &Server, command: &[&str]) {
    redis::cmd(command[0]).arg(&command[1..]).query::<()>(&mut server.raw()).unwrap();
}

fn a_hung_redis_costs_no_acknowledged_lock(local: Local) {
    let (folder, mut server) = (folder(), Server::start(&[]));
    scenario(local, "hung", &folder, &server).run(&mut server, |server, _| server.pause(), |server| server.resume());
}

fn a_redis_that_loses_everything_gets_it_back(local: Local) {
    let (folder, mut server) = (folder(), Server::start(&[]));
    scenario(local, "killed, back empty", &folder, &server).run(&mut server, |server, _| server.kill(), Server::restart);
}

/// Nobody may have called while it was away.
fn a_redis_that_is_empty_at_once_gets_everything_back(local: Local) {
    let (folder, mut server) = (folder(), Server::start(&[]));
    let scenario = Scenario { reads_may_miss: true, ..scenario(local, "empty at once", &folder, &server) };
    scenario.run(&mut server, |server, _| server.restart(), |_| ());
}

fn a_redis_that_is_flushed_gets_everything_back(local: Local) {
    let (folder, mut server) = (folder(), Server::start(&[]));
    let scenario = Scenario { reads_may_miss: true, ..scenario(local, "flushed", &folder, &server) };
    scenario.run(&mut server, |server, _| run(server, &["FLUSHALL"]), |_| ());
}

fn a_redis_that_comes_back_with_its_data_learns_what_was_decided(local: Local) {
    let (folder, mut server) = (folder(), Server::start(DURABLE));
    scenario(local, "killed, back with data", &folder, &server).run(&mut server, |server, _| server.kill(), Server::restart);
}

/// Locks released since the snapshot stay released, and those granted since stay.
fn a_redis_that_goes_back_to_a_snapshot_gets_what_came_since(local: Local) {
    for at_once in [false, true] {
        let (folder, mut server) = (folder(), Server::start(&[]));
        let fault = if at_once { "older snapshot at once" } else { "killed, back with an older snapshot" };
        Scenario { reads_may_miss: at_once, ..scenario(local, fault, &folder, &server) }.run(
            &mut server,
            |server, caller| {
                caller.take("taken anew", 1).unwrap();
                run(server, &["SAVE"]);
                let (snapshot, aside) = (server.folder.path().join("dump.rdb"), server.folder.path().join("aside"));
                std::fs::rename(&snapshot, &aside).unwrap();
                assert!(caller.release("before15").unwrap() && caller.release("taken anew").unwrap());
                assert!(caller.take("after the snapshot", 1).unwrap() && caller.take("taken anew", 2).unwrap());
                server.kill();
                std::fs::rename(&aside, &snapshot).unwrap();
                if at_once {
                    server.restart();
                }
            },
            |server| {
                if !at_once {
                    server.restart();
                }
            },
        );
    }
}

fn a_full_redis_costs_no_acknowledged_lock(local: Local) {
    let (folder, mut server) = (folder(), Server::start(&[]));
    scenario(local, "full", &folder, &server).run(
        &mut server,
        |server, _| run(server, &["CONFIG", "SET", "maxmemory", "1"]),
        |server| run(server, &["CONFIG", "SET", "maxmemory", "0"]),
    );
}

fn a_master_that_becomes_a_replica_costs_no_acknowledged_lock(local: Local) {
    let (folder, mut server) = (folder(), Server::start(&[]));
    let nobody = free_port().to_string();
    scenario(local, "read-only replica", &folder, &server).run(
        &mut server,
        |server, _| run(server, &["REPLICAOF", "127.0.0.1", &nobody]),
        |server| run(server, &["REPLICAOF", "NO", "ONE"]),
    );
}

/// It takes over that master's data: none.
fn a_replica_of_an_empty_master_gets_everything_back(local: Local) {
    let (folder, mut server) = (folder(), Server::start(&[]));
    let empty = Server::start(&["--repl-diskless-sync-delay", "0"]);
    let scenario = Scenario { reads_may_miss: true, ..scenario(local, "replica of an empty master", &folder, &server) };
    scenario.run(
        &mut server,
        |server, _| {
            run(server, &["REPLICAOF", "127.0.0.1", &empty.port.to_string()]);
            wait_until("the replica is empty", Duration::from_secs(5), || {
                redis::cmd("DBSIZE").query::<u64>(&mut server.raw()).unwrap() == 0
            });
        },
        |server| run(server, &["REPLICAOF", "NO", "ONE"]),
    );
}

fn a_slow_network_leaves_the_decision_to_the_local_store(local: Local) {
    let (folder, server) = (folder(), Server::start(&[]));
    let mut line = Line::to(&server.address());
    let mut scenario = scenario(local, "latency over slow_call", &folder, &server);
    scenario.config.locking.enhanced.redis.address = line.address.clone();
    let latency = scenario.config.locking.enhanced.breaker.slow_call + Duration::from_millis(50);
    scenario.run(&mut line, |line, _| line.slow_down(latency), |line| line.slow_down(Duration::ZERO));
}

/// Some answers are lost, others come: nobody may be told anything that is not so.
fn a_network_that_breaks_connections_makes_no_answer_untrue(local: Local) {
    for (one_in, fault) in [(1, "every connection reset"), (3, "one in three reset"), (10, "one in ten reset")] {
        let (folder, server) = (folder(), Server::start(&[]));
        let mut line = Line::to(&server.address());
        let mut scenario = scenario(local, fault, &folder, &server);
        scenario.config.locking.enhanced.redis.address = line.address.clone();
        // A few resets are what retries are for.
        scenario.falls_back = one_in == 1;
        scenario.lasts = Duration::from_secs(3);
        scenario.run(&mut line, |line, _| line.reset_one_in(one_in), |line| line.reset_one_in(0));
    }
}

/// A full disk of the local store, and callers at it; then room again, and a new start. Redis may be down as well.
fn full_disk(local: Local, fault: &str, durability: Durability, allowed: &[Code], redis_too: bool) {
    // With sync, the local store alone must have all that was acknowledged: Redis forgets.
    let (folder, mut server) = (folder(), Server::start(if durability == Durability::Async { DURABLE } else { &[] }));
    let disk = SmallDisk::mount(&folder.path().join("disk"), "16m");
    let mut config = hybrid(local, &disk.0.join("store"), settings(&server.address()));
    config.locking.enhanced.durability = durability;
    // Only the disk is to be broken: a machine that is busy for a moment must not make Redis look so.
    config.locking.enhanced.health.timeout = Duration::from_millis(900);
    config.locking.enhanced.breaker.slow_call = Duration::from_millis(900);
    let service = open(&config);
    let mut caller = Caller::new(&service, allowed);
    for nth in 0..20 {
        caller.take(&format!("before{nth}"), nth).unwrap();
    }
    if redis_too {
        server.kill();
    }
    let ballast = disk.0.join("ballast");
    // It ends with an error: the disk is full then.
    std::io::copy(&mut std::io::repeat(1), &mut std::fs::File::create(&ballast).unwrap()).unwrap_err();
    let mut refused = 0;
    for nth in 0..2000 {
        refused += u32::from(caller.take(&format!("full{nth}"), nth).is_err());
        if nth % 10 == 0 {
            refused += u32::from(caller.release(&format!("full{}", nth / 2)).is_err());
        }
    }
    let raced = race(&service, allowed, "raced");
    caller.told.merge(raced);
    let status = service.status();
    // The host store on the same disk fails too, and may be told of before a probe has found the local store.
    let tells_of_the_local_store = |headline: &str| headline.contains("the local store") && headline.ends_with("does not work");
    wait_until("the health tells of the disk", Duration::from_secs(2), || tells_of_the_local_store(service.health().headline));
    let health = service.health();
    assert!(!health.legacy.as_ref().unwrap().healthy, "{health:?}");
    assert_eq!(health.state, if allowed.is_empty() { "degraded" } else { "unhealthy" });
    assert_eq!(health.headline.starts_with("No lock is granted"), !allowed.is_empty(), "{health:?}");
    assert_eq!(refused > 0, !allowed.is_empty(), "the disk is full: {:?}", caller.told.errors);
    let told = caller.told;
    eprintln!("{fault}: longest wait {:.0?}, errors {:?}, warnings {:?}", told.longest, told.errors, status.warnings);
    assert!(told.longest < Duration::from_secs(2));
    if !redis_too {
        // Nothing half done: what was refused is not there either.
        told.assert_is("Redis with a full disk", &in_redis(&server.address()));
    }
    // It says that the local store lacks something.
    let _ = service.close();
    drop(service);
    std::fs::remove_file(ballast).unwrap();
    server.restart();
    if durability == Durability::Async {
        // The local store lacks what Redis alone granted, and knows that it does.
        server.kill();
        let service = open(&config);
        let mut caller = Caller::new(&service, &[Code::Degraded]);
        assert_eq!(caller.take("full1999", 1).unwrap_err().code(), Code::Degraded, "{:?}", service.status());
        server.restart();
        wait_until_recovered(&service);
        close(service);
    }
    let service = open(&config);
    assert!(!service.status().fallback_active, "{:?}", service.status());
    told.assert_is("the service", &listed(&service));
    told.assert_is("Redis", &in_redis(&server.address()));
    close(service);
    told.assert_is("the local store", &on_disk(local, &disk.0.join("store")));
}

fn a_full_disk_refuses_clearly(local: Local) {
    full_disk(local, "full disk, sync", Durability::Sync, &[Code::StoreFailed, Code::OutcomeUnknown], false);
}

fn redis_goes_on_without_the_local_store_where_nothing_waits_for_that(local: Local) {
    full_disk(local, "full disk, async", Durability::Async, &[], false);
}

fn both_stores_down_refuse_clearly(local: Local) {
    // Where the disk refuses first what a probe queued, the local store counts as incomplete: it is asked for no lock any more.
    full_disk(local, "both down", Durability::Sync, &[Code::StoreFailed, Code::OutcomeUnknown, Code::Degraded], true);
}

/// Starts without a Redis that can be used: degraded, for a reason that the status names, and with `legacy_fallback: false` not at
/// all. With `heal`, Redis decides once that was done.
fn start_degraded(fault: &str, redis: config::Redis, words: &[&str], heal: Option<&mut dyn FnMut() -> Locks>) {
    let folder = folder();
    let mut config = hybrid(Local::Embedded, folder.path(), redis);
    let mut native = config.clone();
    native.locking.enhanced.compatibility_mode = Mode::Native;
    let refused = try_open(&native).map(drop).expect_err("native mode cannot do without");
    config.locking.enhanced.legacy_fallback = false;
    let error = try_open(&config).map(drop).expect_err("legacy_fallback is false");
    assert_eq!(error.code(), refused.code(), "{fault}: {error}");

    config.locking.enhanced.legacy_fallback = true;
    let unseen = open(&hybrid(Local::Embedded, &folder.path().join("unseen"), config.locking.enhanced.redis.clone()));
    let error = Caller::new(&unseen, &[Code::Degraded]).take("unseen", 1).expect_err("the local store has never seen this Redis");
    assert!(error.message().contains("allow_unseen_redis"), "{fault}: {error}");
    unseen.close().unwrap();

    config.locking.enhanced.allow_unseen_redis = true;
    let started = Instant::now();
    let service = open(&config);
    let took = started.elapsed();
    assert!(took < config.locking.enhanced.redis.timeouts.connect + Duration::from_secs(2), "{fault}: the start took {took:?}");
    let status = service.status();
    let report = status.hybrid.clone().unwrap();
    let cause = report.cause.unwrap();
    for word in words {
        assert!(cause.contains(word), "{fault}: {word:?} is missing: {cause}");
    }
    assert!(status.fallback_active && report.armed, "{fault}: {status:?}");
    assert!(status.warnings.iter().any(|warning| warning.contains(&cause)), "{fault}: {status:?}");
    wait_until("both stores were looked at", Duration::from_secs(2), || service.health().state == "degraded");
    let mut caller = Caller::new(&service, &[]);
    for nth in 0..10 {
        assert!(caller.take(&format!("degraded{nth}"), nth).unwrap());
    }
    assert!(caller.release("degraded0").unwrap());
    let mut recovery = None;
    if let Some(heal) = heal {
        let healed = Instant::now();
        let in_redis = heal();
        assert_eq!(in_redis, Locks::new(), "{fault}");
        wait_until_recovered(&service);
        recovery = Some(healed.elapsed());
        caller.told.assert_is("Redis", &heal());
    }
    eprintln!("{fault}: start in {took:.0?}, longest wait {:.0?}, recovery {recovery:.0?}: {cause}", caller.told.longest);
    caller.told.assert_is("the service", &listed(&service));
    let told = caller.told;
    close(service);
    told.assert_is("the local store", &on_disk(Local::Embedded, folder.path()));
}

#[test]
fn a_start_without_redis_grants_and_redis_learns_of_it() {
    let port = free_port();
    let address = format!("127.0.0.1:{port}");
    let mut server = None;
    let mut heal = || {
        server.get_or_insert_with(|| Server::start_at(port, &[]));
        in_redis(&address)
    };
    start_degraded("started before Redis", settings(&address), &[&address, "check that it runs"], Some(&mut heal));
}

#[test]
fn a_start_at_a_wrong_port_grants_and_names_the_address() {
    let not_redis = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = not_redis.local_addr().unwrap().to_string();
    start_degraded("started at a port that never answers", settings(&address), &[&address], None);
}

#[test]
fn a_start_with_a_wrong_password_grants_and_names_the_password() {
    let server = Server::start(&["--requirepass", "right"]);
    let client = redis::Client::open(format!("redis://:right@{}", server.address())).unwrap();
    let mut raw = client.get_connection().unwrap();
    let mut heal = || {
        redis::cmd("CONFIG").arg("SET").arg("requirepass").arg("wrong").query::<()>(&mut raw).unwrap();
        locks_of(&mut raw)
    };
    let wrong = config::Redis { password: "wrong".to_owned(), ..settings(&server.address()) };
    start_degraded("started with a wrong password", wrong, &["password"], Some(&mut heal));
}

#[test]
fn a_password_that_changes_is_read_again() {
    let (folder, server) = (folder(), Server::start(&["--requirepass", "old"]));
    let file = folder.path().join("password");
    std::fs::write(&file, "old\n").unwrap();
    let redis = config::Redis { password_file: Some(file.clone()), ..settings(&server.address()) };
    let service = open(&hybrid(Local::Embedded, &folder.path().join("data"), redis));
    let mut caller = Caller::new(&service, &[]);
    assert!(caller.take("before", 1).unwrap());
    let mut raw = redis::Client::open(format!("redis://:old@{}", server.address())).unwrap().get_connection().unwrap();
    redis::cmd("CONFIG").arg(&["SET", "requirepass", "new"]).query::<()>(&mut raw).unwrap();
    // A connection outlives its password.
    redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal"]).query::<i64>(&mut raw).unwrap();
    wait_until("the new password is missed", Duration::from_secs(4), || service.status().fallback_active);
    assert!(caller.take("meanwhile", 2).unwrap());
    let cause = service.status().hybrid.unwrap().cause.unwrap();
    assert!(cause.contains("password_file"), "{cause}");
    std::fs::write(&file, "new\n").unwrap();
    wait_until_recovered(&service);
    assert!(caller.take("after", 3).unwrap());
    caller.told.assert_is("Redis", &locks_of(&mut raw));
}

#[test]
fn a_start_with_tls_at_a_plain_port_grants_and_names_tls() {
    let certificates_folder = folder();
    certificates(certificates_folder.path());
    let server = Server::start(&[]);
    let tls = config::Tls { enabled: true, ca_file: path(certificates_folder.path(), "ca.pem"), ..config::Tls::default() };
    start_degraded("started with TLS at a plain port", config::Redis { tls, ..settings(&server.address()) }, &["TLS"], None);
}

/// Two servers on one Redis: while that is away, neither may grant what the other may hold.
fn two_servers(local: Local, fault: &str, instances: Instances, why: &str) {
    let (folders, mut server) = ([folder(), folder()], Server::start(DURABLE));
    let services = folders.each_ref().map(|folder| {
        let mut config = hybrid(local, folder.path(), settings(&server.address()));
        config.locking.enhanced.instances = instances;
        open(&config)
    });
    let unarmed = |service: &Service| service.status().hybrid.unwrap().unarmed_because;
    let noticed = wait_until("both are unarmed", Duration::from_secs(5), || services.iter().all(|s| unarmed(s).is_some()));
    for service in &services {
        let because = unarmed(service).unwrap();
        assert!(because.contains(why), "{because}");
        assert!(service.status().warnings.iter().any(|warning| warning.contains(&because)));
    }
    let mut callers = services.each_ref().map(|service| Caller::new(service, &[Code::Degraded]));
    for (nth, caller) in callers.iter_mut().enumerate() {
        for lock in 0..10 {
            assert!(caller.take(&format!("of{nth}-{lock}"), lock).unwrap());
        }
    }
    server.kill();
    let killed = Instant::now();
    let away = |service: &Service| service.status().fallback_active;
    wait_until("both know that Redis is away", Duration::from_secs(2), || services.iter().all(away));
    for (nth, caller) in callers.iter_mut().enumerate() {
        let error = caller.take("wanted by both", 1).unwrap_err();
        assert_eq!(error.code(), Code::Degraded);
        assert!(error.message().contains(why), "{error}");
        caller.read(&format!("of{nth}-0")).unwrap();
        assert!(caller.release(&format!("of{nth}-0")).unwrap());
        assert_eq!(caller.service.health().state, "unhealthy");
        assert!(listed(caller.service).contains_key(&format!("of{nth}-1")));
    }
    let answered = killed.elapsed();
    server.restart();
    let healed = Instant::now();
    let mut told = Told::default();
    for caller in callers {
        wait_until_recovered(caller.service);
        told.merge(caller.told);
    }
    let recovery = healed.elapsed();
    eprintln!(
        "{fault}: unarmed after {noticed:.0?}, all answers within {answered:.0?}, longest wait {:.0?}, errors {:?}, recovery {recovery:.0?}",
        told.longest, told.errors
    );
    assert!(told.longest < Duration::from_secs(2));
    for service in &services {
        told.assert_is("a service", &listed(service));
    }
    told.assert_is("Redis", &in_redis(&server.address()));
}

fn two_servers_that_each_believe_to_be_alone_grant_nothing_without_redis(local: Local) {
    two_servers(local, "two servers, single", Instances::Single, "another server uses the same Redis");
}

fn two_servers_that_know_of_each_other_grant_nothing_without_redis(local: Local) {
    two_servers(local, "two servers, many", Instances::Many, "instances is many");
}

#[test]
fn a_thousand_callers_of_a_hung_redis_do_not_wait_for_it() {
    let (folder, server) = (folder(), Server::start(&[]));
    let service = open(&hybrid(Local::Embedded, folder.path(), settings(&server.address())));
    let mut first = Caller::new(&service, &[]);
    server.pause();
    first.take("first", 1).unwrap();
    let longest = longest_of_a_thousand(&service);
    server.resume();
    wait_until_recovered(&service);
    let other_folder = tempfile::tempdir().unwrap();
    let mut strict = hybrid(Local::Embedded, other_folder.path(), config::Redis::default());
    strict.locking.enhanced.enabled = false;
    let in_strict = longest_of_a_thousand(&open(&strict));
    let waited = first.told.longest;
    eprintln!(
        "hung, 1,000 callers: the first waited {waited:.0?}, the others {longest:.1?} at most; in strict mode {in_strict:.1?}"
    );
    // Whoever waited for Redis would have waited for all of its timeout.
    assert!(longest < Duration::from_millis(500), "{longest:?}");
    assert!(waited < Duration::from_secs(2));
    assert_eq!(in_redis(&server.address()).len(), 1001);
}

/// Takes 1,000 locks, 20 at once; the longest wait.
fn longest_of_a_thousand(service: &Service) -> Duration {
    const AT_ONCE: usize = 20;
    std::thread::scope(|scope| {
        let call = |thread: usize| {
            let mut caller = Caller::new(service, &[]);
            for nth in 0..1000 / AT_ONCE {
                assert!(caller.take(&format!("lock{thread}-{nth}"), 1).unwrap());
            }
            caller.told.longest
        };
        let threads: Vec<_> = (0..AT_ONCE).map(|thread| scope.spawn(move || call(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).max().unwrap()
    })
}

/// What Redis lost is still held: a read says so, too, though nobody noticed yet.
fn a_lock_that_redis_lost_is_read(local: Local) {
    let (folder, server) = (folder(), Server::start(&[]));
    let service = open(&hybrid(local, folder.path(), settings(&server.address())));
    let mut caller = Caller::new(&service, &[]);
    for nth in 0..20 {
        caller.take(&format!("lock{nth}"), nth).unwrap();
    }
    run(&server, &["FLUSHALL"]);
    caller.read("lock0").unwrap();
    assert_eq!(listed(&service).len(), 20);
}

/// Such a read is wrong for a moment only, and no lock is granted twice meanwhile.
fn a_lock_that_redis_lost_is_read_again_soon(local: Local) {
    let (folder, server) = (folder(), Server::start(&[]));
    let service = open(&hybrid(local, folder.path(), settings(&server.address())));
    let mut caller = Caller { reads_may_miss: true, ..Caller::new(&service, &[]) };
    for nth in 0..20 {
        caller.take(&format!("lock{nth}"), nth).unwrap();
    }
    run(&server, &["FLUSHALL"]);
    let noticed = wait_until("the loss is noticed by itself", Duration::from_secs(4), || listed(&service).len() == 20);
    wait_until_recovered(&service);
    let recovery = service.status().hybrid.unwrap().last_recovery.unwrap();
    eprintln!("flushed, nobody calls: noticed after {noticed:.0?}, {recovery:?}");
    assert_eq!(recovery.restored, 20);
    caller.told.assert_is("Redis", &in_redis(&server.address()));
    // By a caller, at once.
    run(&server, &["FLUSHALL"]);
    assert!(!caller.take("lock0", 100).unwrap());
    caller.reads_may_miss = false;
    caller.read("lock1").unwrap();
    wait_until_recovered(&service);
    caller.told.assert_is("Redis", &in_redis(&server.address()));
}

/// A pull may take a lock twice, with the same bytes: that is no sign that Redis went back.
fn the_same_lock_again_is_no_loss(local: Local) {
    let (folder, server) = (folder(), Server::start(&[]));
    let service = open(&hybrid(local, folder.path(), settings(&server.address())));
    let mut caller = Caller::new(&service, &[]);
    for round in 0..3 {
        assert!(caller.take("again", 1).unwrap() && !caller.take("again", 1).unwrap());
        caller.read("again").unwrap();
        assert!(caller.release("again").unwrap());
        let status = service.status();
        assert!(!status.fallback_active, "round {round}: {status:?}");
    }
}

/// Callers who never pause, all at a few locks: recovery ends all the same, and nobody waits for it.
fn a_recovery_under_load_ends_and_holds_up_nobody(local: Local) {
    const LOCKS: usize = 8;
    const ROUNDS: usize = 5;
    let (folder, mut server) = (folder(), Server::start(DURABLE));
    let service = open(&hybrid(local, folder.path(), settings(&server.address())));
    let (mut recoveries, stop) = (Vec::new(), AtomicBool::new(false));
    let longest = std::thread::scope(|scope| {
        let stopper = StopOnDrop(&stop);
        let (service, stop) = (&service, &stop);
        let work = move |nth: usize| {
            let (mut caller, path, mut num) = (Caller::new(service, &[]), format!("busy{nth}"), 0);
            while !stop.load(Ordering::SeqCst) {
                num += 1;
                caller.take(&path, num).unwrap();
                caller.release(&path).unwrap();
            }
            caller.told.longest
        };
        let threads: Vec<_> = (0..LOCKS).map(|nth| scope.spawn(move || work(nth))).collect();
        for _ in 0..ROUNDS {
            server.kill();
            wait_until("the local store decides", Duration::from_secs(5), || service.status().fallback_active);
            server.restart();
            recoveries.push(wait_until_recovered(service));
        }
        drop(stopper);
        threads.into_iter().map(|thread| thread.join().unwrap()).max().unwrap()
    });
    eprintln!("load: {ROUNDS} recoveries in {recoveries:.0?}, longest wait {longest:.0?}");
    // The breaker's first time is over by then, and one more.
    assert!(recoveries.iter().all(|took| *took < Duration::from_secs(3)), "{recoveries:?}");
    assert!(longest < Duration::from_secs(2), "{longest:?}");
}

/// The first call after Redis died was sent, and nobody knows whether it arrived.
#[test]
fn what_may_have_happened_is_told_without_contradiction() {
    let (folder, mut server) = (folder(), Server::start(&[]));
    let mut config = hybrid(Local::Embedded, folder.path(), settings(&server.address()));
    config.locking.enhanced.instances = Instances::Many;
    let service = open(&config);
    let mut caller = Caller::new(&service, &[Code::OutcomeUnknown, Code::Degraded]);
    assert!(caller.take("before", 1).unwrap());
    server.kill();
    let error = caller.take("after", 1).unwrap_err();
    assert_eq!(error.message().contains("may have been made"), error.code() == Code::OutcomeUnknown, "{error}");
}

#[test]
fn a_server_that_just_started_is_healthy() {
    let (folder, server) = (folder(), Server::start(&[]));
    let service = open(&hybrid(Local::Embedded, folder.path(), settings(&server.address())));
    let health = service.health();
    assert_eq!(health.state, "healthy", "{health:?}");
}

/// A stock server takes a lock that this one held before, and grants again while Redis is out of its reach: both are kept, and
/// that is told.
fn a_lock_of_a_stock_server_is_not_overwritten(local: Local) {
    let (folder, server) = (folder(), Server::start(&[]));
    let line = Line::to(&server.address());
    let service = open(&hybrid(local, folder.path(), settings(&line.address)));
    let mut caller = Caller::new(&service, &[]);
    assert!(caller.take("a", 1).unwrap() && caller.release("a").unwrap());
    line.reset_one_in(1);
    wait_until("the local store decides", Duration::from_secs(5), || service.status().fallback_active);
    assert!(caller.take("a", 2).unwrap());
    let stock =
        br#"{"Project":{"RepoFullName":"acme/infra","Path":"a","ProjectName":""},"Pull":{"Num":77},"Workspace":"default"}"#;
    let key = format!("pr/{}", fields("a").key());
    redis::cmd("SET").arg(&key).arg(&stock[..]).exec(&mut server.raw()).unwrap();
    line.reset_one_in(0);
    wait_until_recovered(&service);
    let held: Vec<u8> = redis::cmd("GET").arg(&key).query(&mut server.raw()).unwrap();
    assert_eq!(String::from_utf8_lossy(&held), String::from_utf8_lossy(stock));
    let report = service.status().hybrid.unwrap();
    assert_eq!(report.conflicts.iter().map(|c| (c.local_pull, c.redis_pull)).collect::<Vec<_>>(), [(Some(2), Some(77))]);
    assert!(!report.armed, "{report:?}");
}

/// What was decided without Redis is counted until Redis knows it, after a restart, too; and who fails closed is not armed.
fn the_status_tells_what_redis_does_not_know(local: Local) {
    let (folder, mut server) = (folder(), Server::start(&[]));
    let mut config = hybrid(local, folder.path(), settings(&server.address()));
    config.locking.enhanced.allow_unseen_redis = true;
    server.kill();
    let service = open(&config);
    let mut caller = Caller::new(&service, &[]);
    assert!(caller.take("a", 1).unwrap() && caller.take("b", 1).unwrap());
    assert_eq!(service.status().hybrid.unwrap().journal_length, 2);
    close(service);
    let service = open(&config);
    assert_eq!(service.status().hybrid.unwrap().journal_length, 2);
    server.restart();
    wait_until_recovered(&service);
    assert_eq!(service.status().hybrid.unwrap().journal_length, 0);
    close(service);
    config.locking.enhanced.legacy_fallback = false;
    let service = open(&config);
    server.kill();
    wait_until("Redis is not asked", Duration::from_secs(5), || service.status().fallback_active);
    assert!(!service.status().hybrid.unwrap().armed);
    assert_eq!(service.health().state, "unhealthy");
}

/// Under a running server its data folder, with Atlantis's file in it if there is one, is moved away: health tells within a probe,
/// nothing is granted, with Redis and without, and a server that is started at the path grants what this one does not.
fn a_server_whose_data_folder_is_moved_away_grants_nothing(local: Local) {
    let (folder, mut server) = (folder(), Server::start(DURABLE));
    let (data, moved) = (folder.path().join("data"), folder.path().join("moved"));
    let service = open(&hybrid(local, &data, settings(&server.address())));
    let mut caller = Caller::new(&service, &[Code::StoreFailed, Code::OutcomeUnknown, Code::Degraded]);
    assert!(caller.take("before", 1).unwrap());
    std::fs::rename(&data, &moved).unwrap();
    wait_until("the health tells", Duration::from_secs(4), || service.health().state == "unhealthy");
    let warnings = service.status().warnings;
    let gone = format!("{} is gone", data.display());
    assert!(warnings.iter().any(|warning| warning.contains(&gone) && warning.contains("Stop this server")), "{warnings:?}");
    caller.take("with Redis", 2).unwrap_err();
    server.kill();
    wait_until("Redis is away", Duration::from_secs(4), || service.status().fallback_active);
    caller.take("without Redis", 3).unwrap_err();
    server.restart();
    let second = open(&hybrid(local, &data, settings(&server.address())));
    wait_until_recovered(&second);
    let mut other = Caller::new(&second, &[]);
    assert!(other.take("without Redis", 4).unwrap());
    caller.take("without Redis", 5).unwrap_err();
    let told = caller.told;
    let _ = service.close();
    drop(service);
    close(second);
    // What the first had acknowledged is where it was moved to, and in Redis.
    told.assert_is("the moved store", &on_disk(local, &moved));
    assert_eq!(in_redis(&server.address()).get("before"), Some(&1));
}

/// Atlantis's file alone is deleted: nothing counts as copied, and health tells, but locks are granted.
#[test]
fn an_atlantis_file_that_is_deleted_costs_no_grant_and_is_told() {
    let (folder, server) = (folder(), Server::start(&[]));
    let service = open(&hybrid(Local::BoltDb, folder.path(), settings(&server.address())));
    let mut caller = Caller::new(&service, &[]);
    assert!(caller.take("before", 1).unwrap());
    std::fs::remove_file(folder.path().join("boltdb/atlantis.db")).unwrap();
    wait_until("the health tells", Duration::from_secs(4), || {
        service.health().legacy.unwrap().error.is_some_and(|error| error.contains("BoltDB's file was moved or deleted"))
    });
    assert!(caller.take("after", 2).unwrap());
    let error = service.close().unwrap_err();
    assert!(error.message().contains("BoltDB's file was moved or deleted"), "{error}");
}

over_both_local_stores! {
    a_server_whose_data_folder_is_moved_away_grants_nothing,
    a_hung_redis_costs_no_acknowledged_lock,
    a_redis_that_loses_everything_gets_it_back,
    a_redis_that_is_empty_at_once_gets_everything_back,
    a_redis_that_is_flushed_gets_everything_back,
    a_redis_that_comes_back_with_its_data_learns_what_was_decided,
    a_redis_that_goes_back_to_a_snapshot_gets_what_came_since,
    a_full_redis_costs_no_acknowledged_lock,
    a_master_that_becomes_a_replica_costs_no_acknowledged_lock,
    a_replica_of_an_empty_master_gets_everything_back,
    a_slow_network_leaves_the_decision_to_the_local_store,
    a_network_that_breaks_connections_makes_no_answer_untrue,
    a_full_disk_refuses_clearly,
    redis_goes_on_without_the_local_store_where_nothing_waits_for_that,
    both_stores_down_refuse_clearly,
    two_servers_that_each_believe_to_be_alone_grant_nothing_without_redis,
    two_servers_that_know_of_each_other_grant_nothing_without_redis,
    a_lock_that_redis_lost_is_read,
    a_lock_that_redis_lost_is_read_again_soon,
    the_same_lock_again_is_no_loss,
    a_recovery_under_load_ends_and_holds_up_nobody,
    a_lock_of_a_stock_server_is_not_overwritten,
    the_status_tells_what_redis_does_not_know,
}

/// Those that take long: `make test-faults`.
mod slow {
    use super::*;

    /// A replica takes over, with every lock that it was sent; those that it was not are put back.
    #[test]
    #[ignore = "slow: make test-faults"]
    fn a_cluster_that_loses_a_master_costs_no_acknowledged_lock() {
        let (folder, mut cluster) = (folder(), Cluster::start(1));
        // The first nodes given are the masters; the first of them dies.
        let addresses: Vec<String> = cluster.nodes[1..].iter().map(Server::address).collect();
        let mut scenario = Scenario::new(Local::BoltDb, "cluster master killed", folder.path(), cluster.settings());
        scenario.redis = Box::new(|| addresses.iter().filter(|address| is_master(address)).flat_map(|a| in_redis(a)).collect());
        scenario.config.locking.enhanced.redis.shared_with_stock = false;
        scenario.recovers_within = AFTER_A_LONG_FAULT;
        scenario.run(
            &mut cluster,
            |cluster, _| cluster.nodes[0].kill(),
            |cluster| {
                wait_until("the cluster works", Duration::from_secs(30), || works(&cluster.nodes[1]));
            },
        );
    }

    fn is_master(address: &str) -> bool {
        let mut raw = redis::Client::open(format!("redis://{address}")).unwrap().get_connection().unwrap();
        redis::cmd("ROLE").query::<Vec<redis::Value>>(&mut raw).unwrap()[0] == redis::Value::BulkString(b"master".to_vec())
    }

    /// Whether this node sees a cluster without a gap.
    fn works(node: &Server) -> bool {
        redis::cmd("CLUSTER").arg("INFO").query::<String>(&mut node.raw()).unwrap().contains("cluster_state:ok")
    }

    #[test]
    #[ignore = "slow: make test-faults"]
    fn a_network_link_that_is_down_costs_no_acknowledged_lock() {
        let folder = folder();
        let mut network = Network::start();
        let mut scenario = Scenario::new(Local::Embedded, "link down", folder.path(), settings(&network.address()));
        scenario.lasts = Duration::from_secs(4);
        scenario.recovers_within = AFTER_A_LONG_FAULT;
        scenario.run(&mut network, |network, _| network.set("down"), |network| network.set("up"));
    }

    #[test]
    #[ignore = "slow: make test-faults"]
    fn a_recovery_of_ten_thousand_locks_restores_each() {
        const LOCKS: usize = 10_000;
        const CALLERS: usize = 16;
        let (folder, port) = (folder(), free_port());
        let mut config = hybrid(Local::BoltDb, folder.path(), settings(&format!("127.0.0.1:{port}")));
        config.locking.enhanced.allow_unseen_redis = true;
        let service = open(&config);
        take_many(&service, LOCKS, CALLERS);
        let server = Server::start_at(port, &[]);
        let up = Instant::now();
        wait_until("Redis decides again", Duration::from_secs(20), || !service.status().fallback_active);
        let took = up.elapsed();
        eprintln!("{LOCKS} locks: recovery {took:.1?}: {:?}", service.status().hybrid.unwrap().last_recovery.unwrap());
        assert_eq!(in_redis(&server.address()).len(), LOCKS);
        assert_eq!(listed(&service).len(), LOCKS);
    }
}
