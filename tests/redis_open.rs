//! Wrong settings: each gets its own code and a text that says what to do, within the connect timeout, and leaves nothing open.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod redis_support;
mod wait;

use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use atlock::clock::SystemClock;
use atlock::config::{self, Config};
use atlock::error::{Code, Error};
use atlock::service::Service;
use atlock::service::queueing::wait::{WaitOptions, Waited};
use atlock::store::{Granted, Store};
use redis_support::{Cluster, Server, call, certificates, fields, free_port, get, grant, open, path, release, settings, take};
use wait::wait_for;

const PASSWORD: &str = "hunter2-very-secret";
/// The rights that a user needs, as docs/03-configuration.md gives them (tests/docs.rs).
const NEEDED: &str = "~pr/* ~global/*/lock ~{*}:atlock* ~atlock:* ~*::*::* +ping +select +info +time +eval +evalsha \
    +get +mget +strlen +set +del +type +scan +hset +hget +hmget +hgetall +hlen +hdel +pttl +persist +pexpire +exists +zadd +zrem +zscore +zrange +sadd +srem +smembers +wait";

fn refused(settings: &config::Redis) -> Error {
    let start = Instant::now();
    let error = open(settings).map(drop).expect_err("is refused");
    assert!(start.elapsed() < settings.timeouts.connect + Duration::from_secs(2), "{:?}: {error}", start.elapsed());
    assert!(!error.message().contains(PASSWORD), "{error}");
    error
}

fn assert_refused(settings: &config::Redis, code: Code, words: &[&str]) {
    let error = refused(settings);
    assert_eq!(error.code(), code, "{error}");
    for word in words {
        assert!(error.message().contains(word), "{word:?} is missing: {error}");
    }
}

fn with_password(address: &str, username: &str, password: &str) -> config::Redis {
    config::Redis { username: username.to_owned(), password: password.to_owned(), ..settings(address) }
}

/// Connections beside that of the question itself.
fn assert_nothing_open(server: &Server) {
    wait_for("nothing is connected", Duration::from_secs(5), || {
        let clients: String = redis::cmd("CLIENT").arg("LIST").query(&mut server.raw()).unwrap();
        if clients.lines().count() == 1 { Ok(()) } else { Err(clients) }
    });
}

#[test]
fn nobody_there() {
    let address = format!("127.0.0.1:{}", free_port());
    assert_refused(&settings(&address), Code::Unreachable, &[&address, "check that it runs"]);
    let cluster = config::Redis { cluster_mode: true, addresses: vec![address.clone()], ..settings(&address) };
    assert_refused(&cluster, Code::Unreachable, &[&address]);
}

#[test]
fn somebody_who_never_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut settings = settings(&address);
    settings.timeouts.connect = Duration::from_millis(300);
    assert_refused(&settings, Code::Unreachable, &[&address, "did not answer in time"]);
    settings.tls.enabled = true;
    let error = refused(&settings);
    assert!(matches!(error.code(), Code::Unreachable | Code::Tls), "{error}");
    let cluster = config::Redis { cluster_mode: true, addresses: vec![address.clone()], ..redis_support::settings(&address) };
    assert_refused(&cluster, Code::Unreachable, &[&address, "did not answer in time"]);
}

#[test]
fn passwords_and_rights() {
    let folder = tempfile::tempdir().unwrap();
    let acl = folder.path().join("users.acl");
    let users = [
        "user default on nopass ~* &* +@all".to_owned(),
        format!("user atlock on >{PASSWORD} {NEEDED}"),
        format!("user nowrite on >{PASSWORD} {} -set", NEEDED),
        format!("user noindex on >{PASSWORD} {}", NEEDED.replace("~atlock:* ", "")),
        format!("user nomembers on >{PASSWORD} {}", NEEDED.replace(" +smembers", "")),
        format!("user nokeys on >{PASSWORD} {}", NEEDED.replace("~pr/* ", "")),
    ];
    std::fs::write(&acl, users.join("\n") + "\n").unwrap();
    let server = Server::start(&["--aclfile", acl.to_str().unwrap()]);
    let address = server.address();

    let store = open(&with_password(&address, "atlock", PASSWORD)).expect("the documented rights are enough");
    take(&store, fields("a"), 1);
    assert!(matches!(grant(&store, fields("a"), 2).unwrap(), Granted::Held { .. }));
    assert_eq!(store.list(&call()).unwrap().len(), 1);
    assert!(release(&store, fields("a")).unwrap().is_some());
    store.ping(&call()).unwrap();
    drop(store);

    assert_refused(&with_password(&address, "atlock", "wrong"), Code::Authentication, &[&address, "password_file"]);
    assert_refused(&with_password(&address, "nobody", PASSWORD), Code::Authentication, &[&address]);
    assert_refused(&with_password(&address, "nowrite", PASSWORD), Code::Permission, &[&address, "may not SET"]);
    assert_refused(&with_password(&address, "noindex", PASSWORD), Code::Permission, &[&address]);
    assert_refused(&with_password(&address, "nomembers", PASSWORD), Code::Permission, &[&address, "SMEMBERS"]);
    assert_refused(&with_password(&address, "nokeys", PASSWORD), Code::Permission, &[&address, "key"]);
    assert_nothing_open(&server);

    let file = folder.path().join("password");
    std::fs::write(&file, format!("{PASSWORD}\nsecond line\n")).unwrap();
    let mut from_file = with_password(&address, "atlock", "");
    from_file.password_file = Some(file.clone());
    open(&from_file).expect("the password file's first line is the password");
    std::fs::write(&file, "\n").unwrap();
    assert_refused(&from_file, Code::InvalidConfig, &["password_file", "first line is empty"]);
    from_file.password_file = path(folder.path(), "none");
    assert_refused(&from_file, Code::InvalidConfig, &["password_file", "none"]);
}

/// A script that calls a command that the documented user may not call fails where that script is first used, perhaps weeks later.
#[test]
fn no_script_needs_a_right_that_is_not_documented() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/redis/lua");
    let mut called = 0;
    for script in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let text = fs::read_to_string(&script).unwrap();
        for call in text.split("call('").skip(1) {
            let command = format!("+{}", call.split('\'').next().unwrap().to_ascii_lowercase());
            assert!(NEEDED.split_whitespace().any(|right| right == command), "{}: {command}", script.display());
            called += 1;
        }
    }
    assert!(called > 40, "only {called} calls were found");
}

#[test]
fn the_documented_rights_are_enough_to_wait_in_a_queue() {
    let folder = tempfile::tempdir().unwrap();
    let acl = folder.path().join("users.acl");
    fs::write(&acl, format!("user default off\nuser atlock on >{PASSWORD} {NEEDED}\n")).unwrap();
    let server = Server::start(&["--aclfile", acl.to_str().unwrap()]);
    let settings = format!(
        "locking: {{enhanced: {{enabled: true, compatibility_mode: native, priority_queue: {{enabled: true}}, \
         redis: {{address: '{}', username: atlock, password: '{PASSWORD}'}}}}}}",
        server.address()
    );
    let service = Arc::new(Service::open(&Config::parse(&settings, "test").unwrap(), None, Arc::new(SystemClock)).unwrap());
    let lock = |num: u8| {
        format!(r#"{{"Project":{{"RepoFullName":"acme/infra","Path":"a"}},"Pull":{{"Num":{num}}},"Workspace":"default"}}"#)
            .into_bytes()
    };
    assert!(matches!(service.try_lock(&lock(1)).unwrap(), Granted::Yes { .. }));
    let (waiting, second) = (Arc::clone(&service), lock(2));
    let options = WaitOptions::parse(br#"{"timeout_ms":20000}"#).unwrap();
    let waiter = thread::spawn(move || waiting.lock(&second, &options));
    wait_for("pull 2 waits", Duration::from_secs(10), || {
        if service.queues(None).unwrap().is_empty() { Err("nobody waits") } else { Ok(()) }
    });
    assert!(service.unlock(&lock(1)).unwrap().is_some());
    assert!(matches!(waiter.join().unwrap().unwrap(), Waited::Locked { .. }));
    service.close().unwrap();
}

#[test]
fn a_password_that_is_missing() {
    let server = Server::start(&["--requirepass", PASSWORD]);
    assert_refused(&settings(&server.address()), Code::Authentication, &[&server.address()]);
    open(&with_password(&server.address(), "", PASSWORD)).expect("the right one");
}

#[test]
fn tls() {
    let folder = tempfile::tempdir().unwrap();
    certificates(folder.path());
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let tls_port = free_port();
    let (cert, key, ca) = (file("server.pem"), file("server.key"), file("ca.pem"));
    let tls_port_text = tls_port.to_string();
    let server = Server::start(&[
        "--tls-port",
        &tls_port_text,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        "yes",
    ]);
    let tls = |ca: &str, client: Option<&str>| config::Tls {
        enabled: true,
        ca_file: path(folder.path(), ca),
        cert_file: client.map(|name| folder.path().join(format!("{name}.pem"))),
        key_file: client.map(|name| folder.path().join(format!("{name}.key"))),
        server_name: String::new(),
    };
    let good = config::Redis { tls: tls("ca.pem", Some("client")), ..settings(&format!("127.0.0.1:{tls_port}")) };
    let store = open(&good).expect("the right certificates");
    take(&store, fields("a"), 1);
    assert!(get(&store, fields("a")).is_some());
    drop(store);

    assert_refused(&config::Redis { tls: tls("other.pem", Some("client")), ..good.clone() }, Code::Tls, &["tls.ca_file"]);
    assert_refused(&config::Redis { tls: tls("ca.pem", None), ..good.clone() }, Code::Tls, &["TLS", "tls.cert_file"]);
    assert_refused(&config::Redis { address: format!("localhost:{tls_port}"), ..good.clone() }, Code::Tls, &["another name"]);
    // A plain server waits for the end of what it takes for a command.
    assert_refused(&config::Redis { address: server.address(), ..good.clone() }, Code::Unreachable, &["speaks TLS"]);
    assert_refused(&config::Redis { tls: config::Tls::default(), ..good.clone() }, Code::Tls, &["tls.enabled"]);
    assert_refused(
        &config::Redis { tls: tls("none.pem", None), ..good.clone() },
        Code::InvalidConfig,
        &["tls.ca_file", "none.pem"],
    );
    assert_refused(&config::Redis { tls: tls("ca.key", None), ..good }, Code::InvalidConfig, &[]);
    assert_nothing_open(&server);
}

#[test]
fn a_replica() {
    let master = Server::start(&[]);
    let replica = Server::start(&["--replicaof", "127.0.0.1", &master.port.to_string()]);
    assert_refused(&settings(&replica.address()), Code::ReadOnly, &[&replica.address(), "master"]);
    assert_nothing_open(&replica);
}

#[test]
fn a_master_that_becomes_a_replica() {
    let server = Server::start(&[]);
    let store = open(&settings(&server.address())).unwrap();
    take(&store, fields("a"), 1);
    redis::cmd("REPLICAOF").arg("127.0.0.1").arg(free_port()).query::<()>(&mut server.raw()).unwrap();
    for error in [grant(&store, fields("b"), 1).map(drop), release(&store, fields("a")).map(drop), store.ping(&call())] {
        assert_eq!(error.unwrap_err().code(), Code::ReadOnly);
    }
    assert!(get(&store, fields("a")).is_some());
}

#[test]
fn a_full_server() {
    let server = Server::start(&[]);
    let store = open(&settings(&server.address())).unwrap();
    take(&store, fields("a"), 1);
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(1).query::<()>(&mut server.raw()).unwrap();
    let error = grant(&store, fields("b"), 1).unwrap_err();
    assert_eq!(error.code(), Code::RedisFull, "{error}");
    assert!(error.message().contains("full"), "{error}");
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(0).query::<()>(&mut server.raw()).unwrap();
    assert_eq!(get(&store, fields("b")), None);
    take(&store, fields("b"), 1);
}

#[test]
fn the_wrong_database_and_the_wrong_mode() {
    let server = Server::start(&[]);
    let mut wrong = settings(&server.address());
    wrong.db = 99;
    assert_refused(&wrong, Code::InvalidConfig, &[&server.address(), "check db"]);
    let no_cluster = config::Redis { cluster_mode: true, addresses: vec![server.address()], ..settings(&server.address()) };
    assert_refused(&no_cluster, Code::InvalidConfig, &["cluster_mode: false"]);
    let cluster = Cluster::start(0);
    assert_refused(&settings(&cluster.nodes[0].address()), Code::InvalidConfig, &["cluster_mode: true"]);
    assert_nothing_open(&server);
}

#[test]
fn another_database_is_another_place() {
    let server = Server::start(&[]);
    let (zero, three) =
        (open(&settings(&server.address())).unwrap(), open(&config::Redis { db: 3, ..settings(&server.address()) }).unwrap());
    take(&zero, fields("a"), 1);
    assert_eq!(get(&three, fields("a")), None);
    take(&three, fields("a"), 2);
}

#[test]
fn what_endangers_locks_is_told() {
    let careless = Server::start(&["--maxmemory-policy", "allkeys-lru"]);
    let warnings = open(&settings(&careless.address())).unwrap().warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("allkeys-lru") && warnings[1].contains("appendonly"), "{warnings:?}");
    let meant = config::Redis { allow_no_persistence: true, ..settings(&careless.address()) };
    let warnings = open(&meant).unwrap().warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("allkeys-lru"), "{warnings:?}");
    let careful = Server::start(&["--appendonly", "yes"]);
    assert_eq!(open(&settings(&careful.address())).unwrap().warnings(), [""; 0]);
}

/// Not as it was when the connection was made.
#[test]
fn what_endangers_locks_is_looked_at_again() {
    let server = Server::start(&["--appendonly", "yes"]);
    let set = |name: &str, value: &str| {
        redis::cmd("CONFIG").arg("SET").arg(name).arg(value).query::<()>(&mut server.raw()).unwrap();
    };
    let store = open(&settings(&server.address())).unwrap();
    assert_eq!(store.warnings(), [""; 0]);
    set("maxmemory-policy", "allkeys-lru");
    set("appendonly", "no");
    let told = wait_for("it is told", Duration::from_secs(30), || {
        let warnings = store.warnings();
        if warnings.len() == 2 { Ok(warnings) } else { Err(warnings) }
    });
    assert!(told[0].contains("allkeys-lru") && told[1].contains("saves nothing"), "{told:?}");
    set("maxmemory-policy", "noeviction");
    set("save", "3600 1");
    wait_for("it is well again", Duration::from_secs(30), || {
        let warnings = store.warnings();
        if warnings.is_empty() { Ok(()) } else { Err(warnings) }
    });
}

/// Each server of a cluster, not only the first.
#[test]
fn what_endangers_locks_is_asked_of_every_master() {
    let cluster = Cluster::start(0);
    for node in &cluster.nodes {
        redis::cmd("CONFIG").arg("SET").arg("save").arg("3600 1").query::<()>(&mut node.raw()).unwrap();
    }
    let last = &cluster.nodes[2];
    redis::cmd("CONFIG").arg("SET").arg("maxmemory-policy").arg("allkeys-lru").query::<()>(&mut last.raw()).unwrap();
    let warnings = open(&cluster.settings()).unwrap().warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains(&last.address()) && warnings[0].contains("allkeys-lru"), "{warnings:?}");
}

/// No answer is no good answer.
#[test]
fn what_could_not_be_asked_is_said() {
    let server = Server::start(&["--rename-command", "CONFIG", ""]);
    let warnings = open(&settings(&server.address())).unwrap().warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("may not ask for snapshots (CONFIG GET save)"), "{warnings:?}");
    let silent = Server::start(&["--rename-command", "CONFIG", "", "--rename-command", "INFO", ""]);
    let warnings = open(&settings(&silent.address())).unwrap().warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings.iter().all(|warning| warning.contains("could not be asked")), "{warnings:?}");
    // Where that is meant, nothing is said of it.
    let meant = config::Redis { allow_no_persistence: true, ..settings(&server.address()) };
    assert_eq!(open(&meant).unwrap().warnings(), [""; 0]);
    // All but what is needed may be lacking.
    let bare = ["CONFIG", "INFO", "CLIENT", "SCRIPT", "KEYS", "WAIT", "ACL", "CLUSTER", "FLUSHALL", "DEBUG", "ROLE", "SAVE"];
    let args: Vec<&str> = bare.iter().flat_map(|name| ["--rename-command", name, ""]).collect();
    let server = Server::start(&args);
    let store = open(&settings(&server.address())).unwrap();
    take(&store, fields("a"), 1);
    assert_eq!(store.list(&call()).unwrap().len(), 1);
    assert!(release(&store, fields("a")).unwrap().is_some());
}

/// Also where Redis has the scripts from before.
#[test]
fn a_command_that_is_needed_and_lacking_is_named() {
    for (name, db) in [("EVAL", 0), ("EVALSHA", 0), ("TIME", 0), ("SELECT", 1)] {
        let server = Server::start(&["--rename-command", name, ""]);
        let settings = config::Redis { db, ..settings(&server.address()) };
        match open(&settings) {
            Err(error) => {
                assert_eq!(error.code(), Code::NoSuchCommand, "{error}");
                assert!(error.message().contains(name) && !error.message().contains("redis.call"), "{error}");
            }
            // Without the short way the long one is taken.
            Ok(_) => assert_eq!(name, "EVALSHA"),
        }
    }
    let server = Server::start(&[]);
    open(&settings(&server.address())).unwrap();
    let acl = ["SETUSER", "few", "on", ">few", "~*", "+@all", "-eval"];
    redis::cmd("ACL").arg(&acl).query::<()>(&mut server.raw()).unwrap();
    assert_refused(&with_password(&server.address(), "few", "few"), Code::Permission, &["eval"]);
    let acl = ["SETUSER", "few", "+eval", "-select"];
    redis::cmd("ACL").arg(&acl).query::<()>(&mut server.raw()).unwrap();
    let in_one = config::Redis { db: 1, ..with_password(&server.address(), "few", "few") };
    assert_refused(&in_one, Code::Permission, &["SELECT", "db: 0"]);
}

#[test]
fn a_server_without_room_for_another_client() {
    let server = Server::start(&["--maxclients", "3"]);
    let _others: Vec<redis::Connection> = (0..3).map(|_| server.raw()).collect();
    assert_refused(&settings(&server.address()), Code::TooManyClients, &["maxclients"]);
}

#[test]
fn a_server_that_is_busy_cannot_save_or_lacks_replicas() {
    let server = Server::start(&["--busy-reply-threshold", "10", "--dbfilename", "taken"]);
    let store = open(&settings(&server.address())).unwrap();
    take(&store, fields("a"), 1);
    let set = |name: &str, value: &str| {
        redis::cmd("CONFIG").arg("SET").arg(name).arg(value).query::<()>(&mut server.raw()).unwrap();
    };
    set("min-replicas-to-write", "1");
    let error = grant(&store, fields("b"), 1).unwrap_err();
    assert_eq!(error.code(), Code::TooFewReplicas, "{error}");
    set("min-replicas-to-write", "0");

    // Where the snapshot is to be, is a folder.
    fs::create_dir(server.folder.path().join("taken")).unwrap();
    set("save", "3600 1");
    let _ = redis::cmd("BGSAVE").query::<()>(&mut server.raw());
    wait_for("the snapshot failed", Duration::from_secs(10), || {
        let info: String = redis::cmd("INFO").arg("persistence").query(&mut server.raw()).unwrap();
        if info.contains("rdb_last_bgsave_status:err") { Ok(()) } else { Err(info) }
    });
    let error = grant(&store, fields("b"), 1).unwrap_err();
    assert_eq!(error.code(), Code::CannotSave, "{error}");
    set("save", "");

    let mut endless = server.raw();
    thread::spawn(move || redis::cmd("EVAL").arg("while true do end").arg(0).query::<()>(&mut endless));
    let error = wait_for("it is busy", Duration::from_secs(10), || match grant(&store, fields("c"), 1) {
        Err(error) if error.code() == Code::Busy => Ok(error),
        other => Err(other.map(drop)),
    });
    assert!(error.message().contains("script"), "{error}");
    redis::cmd("SCRIPT").arg("KILL").query::<()>(&mut server.raw()).unwrap();
    wait_for("it is idle", Duration::from_secs(10), || grant(&store, fields("d"), 1));
}

/// By its version, before anything else is tried.
#[test]
fn a_redis_that_is_too_old_is_named() {
    // What a server of that release answers to INFO; no other command is needed for that.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            thread::spawn(move || {
                let mut parser = redis::Parser::new();
                while let Ok(redis::Value::Array(words)) = parser.parse_value(&mut client) {
                    let answer = match &words[0] {
                        redis::Value::BulkString(name) if name == b"TIME" => "*2\r\n$10\r\n1800000000\r\n$1\r\n0\r\n",
                        redis::Value::BulkString(name) if name == b"INFO" => "$22\r\nredis_version:6.2.14\r\n\r\n",
                        _ => "+PONG\r\n",
                    };
                    client.write_all(answer.as_bytes()).unwrap();
                }
            });
        }
    });
    assert_refused(&settings(&address), Code::RedisTooOld, &["6.2.14", "7.0 or newer"]);

    // And a real one, where `make test-redis-releases` tries one.
    let server = Server::start(&[]);
    let info: String = redis::cmd("INFO").arg("server").query(&mut server.raw()).unwrap();
    let version = info.lines().find_map(|line| line.strip_prefix("redis_version:")).unwrap().trim();
    if version.starts_with("6.") {
        assert_refused(&settings(&server.address()), Code::RedisTooOld, &[version]);
    } else {
        open(&settings(&server.address())).unwrap();
    }
}

/// A full server takes no new locks, but lets go of those it has.
#[test]
fn a_full_server_and_a_full_cluster_release() {
    let limit = |server: &Server, bytes: u32| {
        redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes).query::<()>(&mut server.raw()).unwrap()
    };
    let server = Server::start(&[]);
    let single = open(&settings(&server.address())).unwrap();
    take(&single, fields("a"), 1);
    limit(&server, 1);
    assert!(release(&single, fields("a")).unwrap().is_some());
    let cluster = Cluster::start(0);
    let clustered = open(&cluster.settings()).unwrap();
    take(&clustered, fields("a"), 1);
    cluster.nodes.iter().for_each(|node| limit(node, 1));
    assert!(release(&clustered, fields("a")).unwrap().is_some());
    assert_eq!(get(&clustered, fields("a")), None);
}
