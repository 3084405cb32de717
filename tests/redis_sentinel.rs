//! Redis Sentinel: the master is found, and found again after a fail-over; whoever is none any more is not believed; Sentinels have
//! credentials and TLS of their own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod redis_support;
mod wait;

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use atlock::clock::SystemClock;
use atlock::config::{self, Config, Mode};
use atlock::error::Code;
use atlock::service::Service;
use atlock::service::queueing::wait::{WaitOptions, Waited};
use atlock::store::{Granted, Store as _};
use redis_support::sentinel::{Said, Watched, one, pair, settings};
use redis_support::{Server, certificates, fields, free_port, get, grant, grant_within, lock_json, open, path, release, take};
use wait::{wait_for, wait_until};

const TIMEOUT: Duration = Duration::from_millis(500);
const PASSWORD: &str = "hunter2-of-sentinels";
/// What a caller may hear while the master changes.
const WHILE_FAILING_OVER: &[Code] =
    &[Code::Unreachable, Code::Timeout, Code::OutcomeUnknown, Code::FailingOver, Code::TooFewReplicas];

/// Locks that the replica had stay held; nobody gets one twice; callers are told in time; the old master is not believed when it comes back.
#[test]
fn a_fail_over_is_followed() {
    const LOCKS: usize = 20;
    let mut watched = Watched::start(&[]);
    let store = open(&watched.settings()).unwrap();
    let paths: Vec<String> = (0..LOCKS).map(|nth| format!("p{nth}")).collect();
    for path in &paths {
        take(&store, fields(path), 1);
    }
    wait_until("the replica has all", Duration::from_secs(20), || {
        paths.iter().all(|path| has(&watched.replica, &format!("pr/{}", fields(path).key())))
    });
    watched.master.kill();
    let (killed, mut errors, mut answered) = (Instant::now(), 0, vec![false; LOCKS]);
    while answered.contains(&false) {
        assert!(killed.elapsed() < Duration::from_secs(60), "the Sentinels found no master: {errors} errors");
        for (path, answered) in paths.iter().zip(&mut answered) {
            let start = Instant::now();
            match grant_within(&store, fields(path), 2, TIMEOUT) {
                Ok(Granted::Held { value }) => {
                    assert_eq!(value, lock_json(fields(path), 1));
                    *answered = true;
                }
                Ok(other) => panic!("{path} was granted twice: {other:?}"),
                Err(e) => {
                    assert!(WHILE_FAILING_OVER.contains(&e.code()), "{e}");
                    errors += 1;
                }
            }
            assert!(start.elapsed() < TIMEOUT + Duration::from_secs(2), "{:?}", start.elapsed());
        }
    }
    eprintln!("the new master answered {:?} after the kill, {errors} errors meanwhile", killed.elapsed());
    // The old master comes back, empty, and calls itself one until the Sentinels have told it.
    watched.master.start_again();
    for again in [store, open(&watched.settings()).unwrap()] {
        assert!(get(&again, fields("p0")).is_some());
        take(&again, fields("new"), 1);
        assert!(release(&again, fields("new")).unwrap().is_some());
    }
}

fn has(server: &Server, key: &str) -> bool {
    redis::cmd("EXISTS").arg(key).query(&mut server.raw()).unwrap()
}

/// Two of three Sentinels are gone: the third is enough to find the master, though not to replace it.
#[test]
fn one_sentinel_that_answers_is_enough() {
    let mut watched = Watched::start(&[]);
    watched.sentinels[0].kill();
    watched.sentinels[2].kill();
    let store = open(&watched.settings()).unwrap();
    take(&store, fields("a"), 1);
    watched.sentinels[1].kill();
    // Nobody is asked while the connection is there.
    assert!(get(&store, fields("a")).is_some());
    let error = open(&watched.settings()).map(drop).unwrap_err();
    assert_eq!(error.code(), Code::Unreachable, "{error}");
    assert!(error.message().contains("none of the Sentinels") && error.message().contains("locks"), "{error}");
}

fn native(redis: config::Redis) -> Config {
    let mut config = Config::default();
    config.locking.enhanced.enabled = true;
    config.locking.enhanced.compatibility_mode = Mode::Native;
    config.locking.enhanced.priority_queue.enabled = true;
    config.locking.enhanced.redis = redis;
    config
}

/// Who waits in the queue hears that there is no master, asks again, and has the lock when its holder releases it on the new one.
#[test]
fn who_waits_outlives_a_fail_over() {
    let mut watched = Watched::start(&[]);
    let service = Arc::new(Service::open(&native(watched.settings()), None, Arc::new(SystemClock)).unwrap());
    let lock = |num: i64| lock_json(fields("a"), num);
    assert!(matches!(service.try_lock(&lock(1)).unwrap(), Granted::Yes { .. }));
    let (waiting, options) = (Arc::clone(&service), WaitOptions::parse(br#"{"timeout_ms":120000}"#).unwrap());
    let second = lock(2);
    let waiter = thread::spawn(move || {
        loop {
            match waiting.lock(&second, &options) {
                Err(e) if WHILE_FAILING_OVER.contains(&e.code()) => {}
                ended => return ended,
            }
        }
    });
    wait_until("pull 2 waits", Duration::from_secs(10), || !service.queues(None).unwrap().is_empty());
    wait_until("the replica knows", Duration::from_secs(10), || {
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut watched.replica.raw()).unwrap();
        keys.iter().any(|key| key.contains("queue"))
    });
    watched.master.kill();
    wait_for("pull 1 gives it back", Duration::from_secs(60), || match service.unlock(&lock(1)) {
        Ok(Some(_)) => Ok(()),
        // Of a release whose answer was lost, or that nobody took.
        other => {
            if service.list().is_ok_and(|locks| locks.is_empty()) {
                Ok(())
            } else {
                Err(format!("{other:?}"))
            }
        }
    });
    assert!(matches!(waiter.join().unwrap().unwrap(), Waited::Locked { .. }));
    service.close().unwrap();
}

/// The local store decides while there is no master; then the new one has what was decided meanwhile.
#[test]
fn hybrid_mode_decides_alone_until_there_is_a_master() {
    let (mut watched, folder) = (Watched::start(&[]), tempfile::tempdir().unwrap());
    let mut config = native(watched.settings());
    config.locking.enhanced.priority_queue.enabled = false;
    config.locking.backend = config::Backend::Sled;
    config.locking.data_dir = Some(folder.path().to_owned());
    config.locking.enhanced.compatibility_mode = Mode::Hybrid;
    let service = Service::open(&config, None, Arc::new(SystemClock)).unwrap();
    assert!(matches!(service.try_lock(&lock_json(fields("before"), 1)).unwrap(), Granted::Yes { .. }));
    wait_until("the replica has it", Duration::from_secs(10), || {
        has(&watched.replica, &format!("pr/{}", fields("before").key()))
    });
    watched.master.kill();
    assert!(matches!(service.try_lock(&lock_json(fields("meanwhile"), 1)).unwrap(), Granted::Yes { .. }));
    assert!(matches!(service.try_lock(&lock_json(fields("before"), 2)).unwrap(), Granted::Held { .. }));
    wait_for("Redis decides again", Duration::from_secs(60), || {
        let status = service.status();
        let recovered = status.hybrid.as_ref().is_some_and(|report| report.last_recovery.is_some());
        if !status.fallback_active && recovered { Ok(()) } else { Err(Box::new(status)) }
    });
    let new_master = watched.replica.address();
    for held in ["before", "meanwhile"] {
        let key = format!("pr/{}", fields(held).key());
        let value: Option<Vec<u8>> = redis::cmd("GET").arg(&key).query(&mut watched.replica.raw()).unwrap();
        assert_eq!(value, Some(lock_json(fields(held), 1)), "{held} at {new_master}");
    }
    service.close().unwrap();
}

#[test]
fn a_replica_that_sentinels_call_the_master_is_refused() {
    let (master, replica) = pair(&[]);
    let sentinel = Said::start(replica.port, 1);
    let error = open(&settings(vec![sentinel.address.clone()])).map(drop).unwrap_err();
    assert_eq!(error.code(), Code::FailingOver, "{error}");
    assert!(error.message().contains(&replica.address()) && error.message().contains("replica"), "{error}");
    // The same while callers wait: as soon as the Sentinel knows, they are answered.
    sentinel.says(master.port, 2);
    let store = open(&settings(vec![sentinel.address.clone()])).unwrap();
    redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").query::<u32>(&mut master.raw()).unwrap();
    sentinel.says(replica.port, 3);
    let waiter = thread::spawn(move || grant(&store, fields("a"), 1));
    thread::sleep(Duration::from_millis(100));
    sentinel.says(master.port, 4);
    assert!(matches!(waiter.join().unwrap().unwrap(), Granted::Yes { .. }));
}

/// A Sentinel that is cut off with the old master still names that one.
#[test]
fn who_knows_of_the_latest_fail_over_is_believed() {
    let (old, new) = (Server::start(&[]), Server::start(&[]));
    let sentinels = [Said::start(old.port, 1), Said::start(new.port, 2)];
    for addresses in [[0, 1], [1, 0]] {
        let store = open(&settings(addresses.map(|nth: usize| sentinels[nth].address.clone()).to_vec())).unwrap();
        take(&store, fields("a"), 1);
        assert!(release(&store, fields("a")).unwrap().is_some());
    }
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut old.raw()).unwrap();
    assert_eq!(keys, [""; 0], "the old master was not asked");
}

/// The old master still answers, and does not know that it was replaced: it is left all the same.
#[test]
fn a_master_that_was_replaced_and_does_not_know_is_left() {
    let (old, new) = (Server::start(&[]), Server::start(&[]));
    let sentinel = Said::start(old.port, 1);
    let store = open(&settings(vec![sentinel.address.clone()])).unwrap();
    take(&store, fields("a"), 1);
    sentinel.says(new.port, 2);
    wait_until("the new master is asked", Duration::from_secs(20), || get(&store, fields("a")).is_none());
    take(&store, fields("b"), 1);
    let held: Option<Vec<u8>> = redis::cmd("GET").arg(format!("pr/{}", fields("b").key())).query(&mut new.raw()).unwrap();
    assert!(held.is_some());
}

/// Split brain: a master without its replicas takes no writes (`min-replicas-to-write`), and is left for the new one at once.
#[test]
fn a_master_that_is_cut_off_grants_nothing() {
    let args = ["--min-replicas-to-write", "1", "--min-replicas-max-lag", "3"];
    let (master, mut replica) = pair(&args);
    let sentinel = Said::start(master.port, 1);
    // The replica has to be heard of first.
    let store = wait_for("it takes writes", Duration::from_secs(20), || open(&settings(vec![sentinel.address.clone()])));
    wait_for("a lock is granted", Duration::from_secs(20), || grant(&store, fields("a"), 1));
    assert_eq!(store.warnings().iter().filter(|warning| warning.contains("replica")).count(), 0, "{:?}", store.warnings());
    replica.kill();
    // Another lock each time: one that was granted at the last moment is held.
    let mut round = 0;
    let error = wait_for("nothing is granted", Duration::from_secs(20), || {
        round += 1;
        match grant_within(&store, fields(&format!("p{round}")), 1, TIMEOUT) {
            Err(e) if e.code() == Code::TooFewReplicas => Ok(e),
            other => Err(other),
        }
    });
    assert!(error.message().contains("min-replicas-to-write"), "{error}");
    let new = Server::start(&[]);
    sentinel.says(new.port, 2);
    // One operation: refused by the old master, granted by the new one.
    take(&store, fields("b"), 1);
}

#[test]
fn what_endangers_a_watched_master_is_told() {
    let master = Server::start(&["--appendonly", "yes"]);
    let sentinel = Said::start(master.port, 1);
    let warnings = open(&settings(vec![sentinel.address.clone()])).unwrap().warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("no replica") && warnings[1].contains("min-replicas-to-write"), "{warnings:?}");
}

/// Redis and the Sentinels have a password each, and the Sentinels speak TLS alone.
#[test]
fn sentinels_have_credentials_and_tls_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let master = Server::start(&["--requirepass", "of-redis"]);
    let file = |name: &str| folder.path().join(name).display().to_string();
    let sentinel = one(
        &master,
        &format!(
            "port 0\ntls-port PORT\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\ntls-auth-clients no\n\
             requirepass {PASSWORD}\nsentinel auth-pass locks of-redis",
            file("server.pem"),
            file("server.key"),
            file("ca.pem")
        ),
    );
    let mut good = config::Redis { password: "of-redis".to_owned(), ..settings(vec![format!("127.0.0.1:{}", sentinel.port)]) };
    good.sentinel.password = PASSWORD.to_owned();
    good.sentinel.tls = config::Tls { enabled: true, ca_file: path(folder.path(), "ca.pem"), ..config::Tls::default() };
    let store = open(&good).unwrap();
    take(&store, fields("a"), 1);

    let refused = |settings: &config::Redis, code: Code, words: &[&str]| {
        let error = open(settings).map(drop).unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert!(words.iter().all(|word| error.message().contains(word)), "{error}");
        assert!(!error.message().contains("hunter2") && !error.message().contains("of-redis"), "{error}");
    };
    let mut wrong = good.clone();
    wrong.sentinel.password = "hunter2-wrong".to_owned();
    refused(&wrong, Code::Authentication, &["redis.sentinel", "password"]);
    let mut wrong = good.clone();
    wrong.sentinel.tls.ca_file = path(folder.path(), "other.pem");
    refused(&wrong, Code::Tls, &["redis.sentinel", "tls.ca_file"]);
    let mut wrong = good.clone();
    wrong.sentinel.master_name = "other".to_owned();
    refused(&wrong, Code::InvalidConfig, &["other", "sentinel.master_name"]);
    let wrong = config::Redis { password: String::new(), ..good.clone() };
    refused(&wrong, Code::Authentication, &["password"]);
    // A server that is no Sentinel.
    let mut wrong = config::Redis { password: String::new(), ..settings(vec![Server::start(&[]).address()]) };
    wrong.timeouts.connect = Duration::from_secs(1);
    assert!(open(&wrong).is_err());
    let gone = settings(vec![format!("127.0.0.1:{}", free_port())]);
    refused(&gone, Code::Unreachable, &["none of the Sentinels"]);
}
