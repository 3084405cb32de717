//! Ways to a server, and what stands on them: a socket, IPv6, a name that moves, something that forgets idle connections; passwords that
//! a command prints.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod redis_support;
mod wait;

use std::fs;
use std::time::{Duration, Instant};

use atlock::config::{self, Config};
use atlock::error::Code;
use atlock::store::Granted;
use redis_support::proxy::Proxy;
use redis_support::{Cluster, Server, fields, get, grant, open, release, settings, take};
use wait::{wait_for, wait_until};

/// A server that listens on a socket alone, and where.
fn on_a_socket() -> (Server, config::Redis) {
    let folder = tempfile::tempdir().unwrap().keep();
    let path = folder.join("redis.sock");
    let server = Server::start(&["--unixsocket", path.to_str().unwrap()]);
    let settings = settings(&format!("unix://{}", path.display()));
    wait_for("it listens there", Duration::from_secs(20), || open(&settings).map(drop));
    (server, settings)
}

#[test]
fn a_socket_of_this_machine() {
    let (mut server, settings) = on_a_socket();
    let store = open(&settings).unwrap();
    take(&store, fields("a"), 1);
    assert!(matches!(grant(&store, fields("a"), 2).unwrap(), Granted::Held { .. }));
    assert!(release(&store, fields("a")).unwrap().is_some());
    server.restart();
    wait_for("it listens again", Duration::from_secs(20), || grant(&store, fields("a"), 1));
    server.kill();
    let error = open(&settings).map(drop).unwrap_err();
    assert_eq!(error.code(), Code::Unreachable, "{error}");
    assert!(error.message().contains(&settings.address), "{error}");
    let path = settings.address.strip_prefix("unix://").unwrap().to_owned();
    fs::remove_dir_all(std::path::Path::new(&path).parent().unwrap()).unwrap();
    let error = open(&settings).map(drop).unwrap_err();
    assert!(error.code() == Code::Unreachable && error.message().contains("No such file"), "{error}");
}

/// Nobody waits longer for a server that hangs than by the network.
#[test]
fn a_socket_whose_server_hangs() {
    let (server, settings) = on_a_socket();
    let store = open(&settings).unwrap();
    server.pause();
    let start = Instant::now();
    let error = redis_support::grant_within(&store, fields("a"), 1, Duration::from_millis(300)).unwrap_err();
    assert!(matches!(error.code(), Code::OutcomeUnknown | Code::Unreachable | Code::Timeout), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    server.resume();
    wait_for("it goes on", Duration::from_secs(10), || match grant(&store, fields("b"), 1) {
        Ok(Granted::Yes { .. } | Granted::Held { .. }) => Ok(()),
        other => Err(other.map(drop)),
    });
}

#[test]
fn an_ipv6_address() {
    let server = Server::start(&["--bind", "127.0.0.1", "::1"]);
    let store = open(&settings(&format!("[::1]:{}", server.port))).unwrap();
    take(&store, fields("a"), 1);
    assert!(release(&store, fields("a")).unwrap().is_some());
}

/// What cannot be a place is refused with a sentence, and never shown: a password may be in it.
#[test]
fn what_is_no_address_is_refused() {
    for (redis, wanted) in [
        ("address: 'redis://:hunter2@h:6379'", "without a scheme"),
        ("address: 'rediss://h:6379/0'", "tls.enabled: true for rediss"),
        ("address: 'ann:hunter2@h:6379'", "settings of their own"),
        ("cluster_mode: true, addresses: ['redis://:hunter2@h:6379']", "without a scheme"),
        ("sentinel: {master_name: m, addresses: ['redis://:hunter2@h:6379']}", "without a scheme"),
        ("address: '::1:6379'", "stands in brackets"),
        ("address: 'h'", "not host:port"),
        ("address: 'h:0'", "not host:port"),
        ("address: 'unix://run/redis.sock'", "must be absolute"),
        ("address: 'unix:///run/redis.sock', tls: {enabled: true}", "speaks no TLS"),
        ("sentinel: {master_name: m}", "belong together"),
        ("sentinel: {addresses: ['h:1']}", "belong together"),
        ("sentinel: {master_name: m, addresses: ['h:1']}, address: 'h:2'", "stands beside address"),
        ("sentinel: {master_name: m, addresses: ['h:1']}, cluster_mode: true, addresses: ['h:2']", "stands beside address"),
        ("sentinel: {master_name: m, addresses: ['h:1'], password: hunter2, password_file: f}", "keep one"),
        ("password: hunter2, password_command: [token]", "keep one"),
        ("password_command: ['']", "names no program"),
        ("tls: {server_name: h}", "add enabled: true"),
        ("cluster_mode: true, addresses: ['h:2'], tls: {enabled: true, server_name: h}", "for one server"),
    ] {
        let text = format!("locking: {{enhanced: {{enabled: true, compatibility_mode: native, redis: {{{redis}}}}}}}");
        let error = Config::parse(&text, "test").expect_err(redis);
        assert_eq!(error.code(), Code::InvalidConfig, "{error}");
        assert!(error.message().contains(wanted), "{redis}: {error}");
        assert!(!error.message().contains("hunter2"), "{error}");
    }
}

/// Something in between drops connections that nobody uses: the next call does not notice.
#[test]
fn a_proxy_that_drops_idle_connections() {
    let server = Server::start(&[]);
    let proxy = Proxy::start(&server.address());
    let store = open(&settings(&proxy.address)).unwrap();
    for nth in 0..20 {
        redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").query::<u32>(&mut server.raw()).unwrap();
        let path = format!("p{nth}");
        take(&store, fields(&path), 1);
        redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").query::<u32>(&mut server.raw()).unwrap();
        assert!(get(&store, fields(&path)).is_some());
        assert!(release(&store, fields(&path)).unwrap().is_some());
    }
}

fn set_password(server: &Server, old: &str, new: &str) {
    let mut raw = redis::Client::open(format!("redis://:{old}@{}", server.address())).unwrap().get_connection().unwrap();
    redis::cmd("CONFIG").arg("SET").arg("requirepass").arg(new).query::<()>(&mut raw).unwrap();
    redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").arg("SKIPME").arg("yes").query::<u32>(&mut raw).unwrap();
}

/// The command runs when a password is needed, and again when the one that it printed is refused: a token that has expired.
#[test]
fn a_password_that_a_command_prints_and_that_expires() {
    let folder = tempfile::tempdir().unwrap();
    let (token, runs) = (folder.path().join("token"), folder.path().join("runs"));
    let server = Server::start(&["--requirepass", "hunter2-first"]);
    fs::write(&token, "hunter2-first\n").unwrap();
    let script = format!("echo run >> {}; cat {}", runs.display(), token.display());
    let with =
        |redis: config::Redis| config::Redis { password_command: ["sh", "-c", &script].map(str::to_owned).to_vec(), ..redis };
    let store = open(&with(settings(&server.address()))).unwrap();
    take(&store, fields("a"), 1);
    let count = || fs::read_to_string(&runs).unwrap().lines().count();
    assert_eq!(count(), 1, "it is kept");
    set_password(&server, "hunter2-first", "hunter2-second");
    fs::write(&token, "hunter2-second\n").unwrap();
    let start = Instant::now();
    wait_until("it is let in again", Duration::from_secs(30), || {
        matches!(grant(&store, fields("a"), 2), Ok(Granted::Held { .. }))
    });
    assert_eq!(count(), 2, "{:?}", start.elapsed());

    fs::write(&token, "hunter2-wrong\n").unwrap();
    let error = open(&with(settings(&server.address()))).map(drop).unwrap_err();
    assert_eq!(error.code(), Code::Authentication, "{error}");
    assert!(!error.message().contains("hunter2"), "{error}");
    let failing = config::Redis { password_command: vec!["false".to_owned()], ..settings(&server.address()) };
    let error = open(&failing).map(drop).unwrap_err();
    assert_eq!(error.code(), Code::InvalidConfig, "{error}");
    assert!(error.message().contains("redis.password_command false: it failed (exit status: 1)"), "{error}");
}

#[test]
fn a_cluster_whose_password_a_command_prints() {
    let (folder, cluster) = (tempfile::tempdir().unwrap(), Cluster::start(0));
    let token = folder.path().join("token");
    let set = |password: &str| {
        fs::write(&token, password).unwrap();
        for node in &cluster.nodes {
            // Connections that are let in stay so.
            redis::cmd("ACL")
                .arg(&["SETUSER", "atlock", "on", "resetpass", &format!(">{password}"), "~*", "&*", "+@all"])
                .query::<()>(&mut node.raw())
                .unwrap();
            redis::cmd("CLIENT").arg("KILL").arg("USER").arg("atlock").query::<u32>(&mut node.raw()).unwrap();
        }
    };
    set("first");
    let settings = config::Redis {
        username: "atlock".to_owned(),
        password_command: vec!["cat".to_owned(), token.display().to_string()],
        ..cluster.settings()
    };
    let store = open(&settings).unwrap();
    take(&store, fields("a"), 1);
    set("second");
    wait_until("it is let in again", Duration::from_secs(60), || {
        matches!(grant(&store, fields("a"), 2), Ok(Granted::Held { .. }))
    });
}
