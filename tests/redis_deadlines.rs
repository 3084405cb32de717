//! Nobody waits past a deadline (P5): not for a reply that comes byte by byte, not for a name server, not for either when closing.
//! And what a new connection needs, password and certificates, is what the files hold then.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod hybrid_support;
mod redis_support;
mod sled_support;
mod wait;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use atlock::config;
use atlock::domain::lock::PullRef;
use atlock::error::Code;
use atlock::store::Store;
use hybrid_support::local::Local;
use hybrid_support::{hybrid, wait_until_recovered};
use redis_support::{Cluster, Server, call_within, certificates, fields, free_port, get, grant, grant_within, open, path};
use redis_support::{lock_json, release, settings, take};
use wait::wait_until;

/// More than any pause of ours, and a slow machine's.
const SLACK: Duration = Duration::from_secs(2);
const TIMEOUT: Duration = Duration::from_millis(500);

/// Fails if it takes longer.
fn within<T>(limit: Duration, what: &str, f: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let value = f();
    assert!(start.elapsed() < limit, "{what} took {:?}", start.elapsed());
    value
}

/// A line to a server; replies can drip: a byte now and then, each before any single read would give up.
struct Drip {
    address: String,
    drips: Arc<AtomicBool>,
    /// Replies that are numbers, which are those to `WAIT`, come late.
    hold_numbers: Arc<AtomicBool>,
}

impl Drip {
    /// After so many bytes of one connection it ends, so that a test that fails does so soon.
    const BYTES: usize = 60;
    const EVERY: Duration = Duration::from_millis(200);

    fn before(port: u16) -> Drip {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (drips, hold_numbers) = (Arc::<AtomicBool>::default(), Arc::<AtomicBool>::default());
        let for_thread = (Arc::clone(&drips), Arc::clone(&hold_numbers));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, server) = (client.unwrap(), TcpStream::connect(("127.0.0.1", port)).unwrap());
                client.set_nodelay(true).unwrap();
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                let (drips, hold_numbers) = for_thread.clone();
                std::thread::spawn(move || reply(server, client, &drips, &hold_numbers));
            }
        });
        Drip { address, drips, hold_numbers }
    }

    fn drip(&self, drips: bool) {
        self.drips.store(drips, Ordering::SeqCst);
    }
}

fn reply(mut server: TcpStream, mut client: TcpStream, drips: &AtomicBool, hold_numbers: &AtomicBool) {
    let (mut buffer, mut dripped) = (vec![0; 1 << 16], 0);
    while let Ok(length @ 1..) = server.read(&mut buffer) {
        let mut rest = &buffer[..length];
        if rest[0] == b':' && hold_numbers.load(Ordering::SeqCst) {
            std::thread::sleep(TIMEOUT);
        }
        while drips.load(Ordering::SeqCst) && dripped < Drip::BYTES && !rest.is_empty() {
            dripped += 1;
            std::thread::sleep(Drip::EVERY);
            if client.write_all(&rest[..1]).is_err() {
                return;
            }
            rest = &rest[1..];
        }
        if client.write_all(rest).is_err() {
            return;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
}

#[test]
fn a_reply_that_drips_costs_the_timeout() {
    let server = Server::start(&[]);
    let line = Drip::before(server.port);
    let store = open(&settings(&line.address)).unwrap();
    for path in ["a", "b", "c"] {
        take(&store, fields(path), 1);
    }
    line.drip(true);
    let limit = TIMEOUT + SLACK;
    let key = fields("a").key();
    let read = |store: &dyn Store| store.get(atlock::store::LockKey::Project(&key), &call_within(TIMEOUT));
    let error = within(limit, "a reply of one piece", || read(&store)).unwrap_err();
    assert_eq!(error.code(), Code::Unreachable, "{error}");
    let error = within(limit, "a change", || grant_within(&store, fields("free"), 1, TIMEOUT)).unwrap_err();
    assert!(matches!(error.code(), Code::OutcomeUnknown | Code::Unreachable | Code::Timeout), "{error}");
    within(limit, "a listing", || store.list(&call_within(TIMEOUT))).map(drop).unwrap_err();
    let pull = PullRef { repo: "acme/infra", num: 1 };
    within(limit, "a release of several", || store.release_by_pull(pull, &call_within(TIMEOUT))).map(drop).unwrap_err();
    // Several callers' commands share a round trip.
    within(limit, "many callers", || {
        std::thread::scope(|scope| {
            for _ in 0..100 {
                scope.spawn(|| read(&store).map(drop).unwrap_err());
            }
        });
    });
    within(SLACK, "closing", || {
        std::thread::scope(|scope| {
            let caller = scope.spawn(|| grant_within(&store, fields("free"), 1, Duration::from_secs(30)).map(drop));
            std::thread::sleep(Duration::from_millis(100));
            within(SLACK, "closing beside a caller who waits", || store.close().unwrap());
            line.drip(false);
            // Sent before the close, it ends as it would have.
            drop(caller.join().unwrap());
        });
    });
    line.drip(false);
    assert!(get(&open(&settings(&line.address)).unwrap(), fields("free")).is_none_or(|v| v == lock_json(fields("free"), 1)));
}

/// The connection is the same one.
#[test]
fn the_deadline_of_an_earlier_call_is_not_that_of_a_later_one() {
    let server = Server::start(&[]);
    let mut redis = settings(&server.address());
    redis.timeouts.connect = Duration::from_secs(20);
    let store = open(&redis).unwrap();
    let key = fields("a").key();
    let read = |timeout| store.get(atlock::store::LockKey::Project(&key), &call_within(timeout));
    // However slow the machine is: one of them gets an answer in time.
    while read(Duration::from_millis(100)).is_err() {}
    std::thread::scope(|scope| {
        server.pause();
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(600));
            server.resume();
        });
        assert_eq!(read(Duration::from_secs(20)).unwrap(), None);
    });
    server.pause();
    within(TIMEOUT + SLACK, "a call", || read(TIMEOUT)).unwrap_err();
    server.resume();
}

#[test]
fn a_log_in_and_a_handshake_that_drip_cost_the_timeout() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let port = free_port();
    let server = tls_server(folder.path(), port);
    for (port, tls) in [(server.port, false), (port, true)] {
        let line = Drip::before(port);
        let mut redis = settings(&line.address);
        redis.tls = if tls { tls_settings(folder.path()) } else { config::Tls::default() };
        redis.timeouts.connect = Duration::from_millis(500);
        let store = open(&redis).unwrap();
        line.drip(true);
        let error = within(TIMEOUT + SLACK, "the first connection", || open(&redis)).map(drop).unwrap_err();
        assert_eq!(error.code(), Code::Unreachable, "{error}");
        let error = within(TIMEOUT + SLACK, "a call", || grant_within(&store, fields("a"), 1, TIMEOUT)).unwrap_err();
        assert!(matches!(error.code(), Code::OutcomeUnknown | Code::Unreachable), "{error}");
        // The connection is not used again: the next call makes another.
        let error = within(TIMEOUT + SLACK, "a later one", || grant_within(&store, fields("a"), 1, TIMEOUT)).unwrap_err();
        assert_eq!(error.code(), Code::Unreachable, "{error}");
        line.drip(false);
        grant(&store, fields("a"), 1).unwrap();
        release(&store, fields("a")).unwrap();
    }
}

#[test]
fn hybrid_mode_answers_and_closes_while_replies_drip() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start(&[]));
    let line = Drip::before(server.port);
    let service = hybrid_support::open(&hybrid(Local::Embedded, folder.path(), settings(&line.address)));
    service.try_lock(&lock_json(fields("before"), 1)).unwrap();
    line.drip(true);
    within(Duration::from_secs(1) + SLACK, "a grant", || service.try_lock(&lock_json(fields("meanwhile"), 2))).unwrap();
    wait_until("the local store decides", Duration::from_secs(5), || service.status().fallback_active);
    within(2 * SLACK, "closing", || service.close()).unwrap();
}

/// The reply to `WAIT` comes after its time. It must not be taken for that of the next command, which takes the grant back.
#[test]
fn a_late_reply_to_wait_is_nobody_elses() {
    let server = Server::start(&[]);
    let line = Drip::before(server.port);
    let store = open(&config::Redis { wait_replicas: 1, ..settings(&line.address) }).unwrap();
    line.hold_numbers.store(true, Ordering::SeqCst);
    for num in 0..3 {
        let error = grant_within(&store, fields("a"), num, TIMEOUT).unwrap_err();
        assert_eq!(error.code(), Code::NotReplicated, "{error}");
        assert_eq!(get(&store, fields("a")), None);
    }
}

/// A server with TLS at this port, without at its own; its files are in this folder.
fn tls_server(folder: &Path, port: u16) -> Server {
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (port, cert, key, ca) = (port.to_string(), file("server.pem"), file("server.key"), file("ca.pem"));
    Server::start(&["--tls-port", &port, "--tls-cert-file", &cert, "--tls-key-file", &key, "--tls-ca-cert-file", &ca])
}

fn tls_settings(folder: &Path) -> config::Tls {
    let file = |name| path(folder, name);
    config::Tls {
        enabled: true,
        ca_file: file("ca.pem"),
        cert_file: file("client.pem"),
        key_file: file("client.key"),
        ..config::Tls::default()
    }
}

fn copy(from: &Path, to: &Path) {
    for name in ["ca.pem", "client.pem", "client.key"] {
        std::fs::copy(from.join(name), to.join(name)).unwrap();
    }
}

/// The server has other certificates, of another authority; the client's files follow.
#[test]
fn certificates_that_change_are_read_again() {
    let (of_server, of_client, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    certificates(of_server.path());
    copy(of_server.path(), of_client.path());
    let port = free_port();
    let mut server = tls_server(of_server.path(), port);
    let redis = config::Redis { tls: tls_settings(of_client.path()), ..settings(&format!("127.0.0.1:{port}")) };
    let native = open(&redis).unwrap();
    // In a database of its own: beside another server hybrid mode would grant nothing without Redis.
    let alone = config::Redis { db: 1, ..redis.clone() };
    let service = hybrid_support::open(&hybrid(Local::Embedded, data.path(), alone.clone()));
    take(&native, fields("native"), 1);
    service.try_lock(&lock_json(fields("hybrid"), 2)).unwrap();

    certificates(of_server.path());
    server.restart();
    wait_until("hybrid mode misses Redis", Duration::from_secs(5), || service.status().fallback_active);
    // The connection that broke may have carried a first one.
    let _ = grant(&native, fields("native"), 3);
    let later = grant(&native, fields("native"), 3).map(drop).unwrap_err();
    let first = open(&redis).map(drop).unwrap_err();
    assert_eq!((later.code(), first.code()), (Code::Tls, Code::Tls), "one explanation of one failure: {later}; {first}");
    assert!(later.message().contains("tls.ca_file"), "{later}");
    let cause = service.status().hybrid.unwrap().cause.unwrap();
    assert!(cause.contains("tls.ca_file"), "{cause}");
    service.try_lock(&lock_json(fields("meanwhile"), 4)).unwrap();

    std::fs::remove_file(of_client.path().join("client.key")).unwrap();
    let error = grant(&native, fields("native"), 3).unwrap_err();
    assert_eq!(error.code(), Code::InvalidConfig, "{error}");
    assert!(error.message().contains("tls.key_file") && error.message().contains("client.key"), "{error}");
    std::fs::write(of_client.path().join("client.key"), "-----BEGIN PRIVATE KEY-----\nhalf of").unwrap();
    assert_eq!(grant(&native, fields("native"), 3).unwrap_err().code(), Code::InvalidConfig);

    copy(of_server.path(), of_client.path());
    take(&native, fields("native"), 3);
    wait_until_recovered(&service);
    service.try_lock(&lock_json(fields("after"), 5)).unwrap();
    assert!(get(&open(&alone).unwrap(), fields("after")).is_some());
    within(SLACK, "closing", || service.close()).unwrap();
}

#[test]
fn a_password_that_changes_is_read_again() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start(&["--requirepass", "old"]));
    let file = folder.path().join("password");
    std::fs::write(&file, "old\n").unwrap();
    let store = open(&config::Redis { password_file: Some(file.clone()), ..settings(&server.address()) }).unwrap();
    take(&store, fields("a"), 1);
    change_password(&server, "old", "new");
    let _ = grant(&store, fields("b"), 1);
    assert_eq!(grant(&store, fields("b"), 1).unwrap_err().code(), Code::Authentication);
    std::fs::write(&file, "new\n").unwrap();
    take(&store, fields("b"), 1);
}

#[test]
fn a_clusters_password_that_changes_is_read_again() {
    let (folder, cluster) = (tempfile::tempdir().unwrap(), Cluster::start(0));
    let file = folder.path().join("password");
    std::fs::write(&file, "old\n").unwrap();
    cluster.nodes.iter().for_each(|node| change_password(node, "", "old"));
    let store = open(&config::Redis { password_file: Some(file.clone()), ..cluster.settings() }).unwrap();
    take(&store, fields("a"), 1);
    cluster.nodes.iter().for_each(|node| change_password(node, "old", "new"));
    wait_until("the connections are gone", Duration::from_secs(10), || {
        let is_granted = grant_within(&store, fields("b"), 1, TIMEOUT).is_ok();
        if is_granted {
            release(&store, fields("b")).unwrap();
        }
        !is_granted
    });
    std::fs::write(&file, "new\n").unwrap();
    wait_until("the cluster is used again", Duration::from_secs(10), || grant_within(&store, fields("b"), 1, TIMEOUT).is_ok());
    assert_eq!(get(&store, fields("b")), Some(lock_json(fields("b"), 1)));
    within(SLACK, "closing", || store.close()).unwrap();
}

/// A connection outlives its password, so all of them end.
fn change_password(server: &Server, old: &str, new: &str) {
    let client = redis::Client::open(format!("redis://:{old}@{}", server.address())).unwrap();
    let mut raw = client.get_connection().unwrap();
    redis::cmd("CONFIG").arg(&["SET", "requirepass", new]).query::<()>(&mut raw).unwrap();
    redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal"]).query::<i64>(&mut raw).unwrap();
}

/// The machine's name look-ups, as a program sees them whose name server does not answer while the file in `HANGS` exists.
const LOOK_UPS: &str = r#"
    #define _GNU_SOURCE
    #include <dlfcn.h>
    #include <netdb.h>
    #include <stdlib.h>
    #include <unistd.h>
    int getaddrinfo(const char *name, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
        int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) = dlsym(RTLD_NEXT, "getaddrinfo");
        (void)name;
        for (int again = 0; access(getenv("HANGS"), F_OK) == 0; again++) {
            if (again == 20)
                return EAI_AGAIN;
            sleep(1);
        }
        return real("127.0.0.1", service, hints, found);
    }"#;

/// Runs [`a_program_whose_look_ups_hang`].
#[test]
fn a_name_server_that_does_not_answer_holds_nobody_up() {
    let folder = tempfile::tempdir().unwrap();
    let (source, library) = (folder.path().join("names.c"), folder.path().join("names.so"));
    std::fs::write(&source, LOOK_UPS).unwrap();
    let mut compiler = Command::new("cc");
    let output = compiler.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl").output().expect("a C compiler");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut program = Command::new(std::env::current_exe().unwrap());
    program.args(["--ignored", "--exact", "a_program_whose_look_ups_hang", "--nocapture"]);
    program.env("LD_PRELOAD", &library).env("HANGS", folder.path().join("hangs"));
    let output = redis_support::die_with_the_test(&mut program).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && told.contains("1 passed"), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "run by a_name_server_that_does_not_answer_holds_nobody_up"]
fn a_program_whose_look_ups_hang() {
    let hangs = std::path::PathBuf::from(std::env::var_os("HANGS").expect("it is started by another test"));
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start(&[]));
    let redis = settings(&format!("redis.example.com:{}", server.port));
    let unknown = settings(&format!("other.example.com:{}", server.port));
    let cluster = config::Redis { cluster_mode: true, addresses: vec![unknown.address.clone()], ..unknown.clone() };
    let limit = redis.timeouts.connect + SLACK;

    let store = open(&redis).unwrap();
    let service = hybrid_support::open(&hybrid(Local::Embedded, &folder.path().join("a"), redis.clone()));
    take(&store, fields("a"), 1);
    std::fs::write(&hangs, "").unwrap();

    // What is known is used.
    let kill = || redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).query::<i64>(&mut server.raw()).unwrap();
    for num in 0..3 {
        kill();
        within(limit, "a call", || assert!(get(&store, fields("a")).is_some()));
        within(limit, "a call", || service.try_lock(&lock_json(fields("b"), num))).unwrap();
    }
    std::thread::sleep(Duration::from_secs(1));
    kill();
    within(limit, "a call", || assert!(get(&store, fields("a")).is_some()));
    wait_until("Redis decides", Duration::from_secs(10), || !service.status().fallback_active);
    within(SLACK, "closing", || service.close()).unwrap();
    within(SLACK, "closing", || store.close()).unwrap();

    // Nothing is known.
    for redis in [&unknown, &cluster] {
        let error = within(limit, "the first connection", || open(redis)).map(drop).unwrap_err();
        assert_eq!(error.code(), Code::Unreachable, "{error}");
        assert!(error.message().contains("other.example.com"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        let mut config = hybrid(Local::Embedded, folder.path(), redis.clone());
        config.locking.enhanced.allow_unseen_redis = true;
        let service = within(limit, "the start", || hybrid_support::open(&config));
        within(SLACK, "a grant", || service.try_lock(&lock_json(fields("c"), 1))).unwrap();
        // The watch tries to connect meanwhile.
        std::thread::sleep(Duration::from_secs(2));
        within(limit, "closing", || service.close()).unwrap();
    }
    // The name server answers again.
    let service = hybrid_support::open(&hybrid(Local::Embedded, &folder.path().join("b"), unknown.clone()));
    assert!(service.status().fallback_active);
    std::fs::remove_file(&hangs).unwrap();
    wait_until_recovered(&service);
    assert_eq!(service.list().unwrap().len(), 2, "what was taken by the other name");
}
