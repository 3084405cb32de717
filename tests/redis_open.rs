//! Wrong settings: each gets its own code and a text that says what to do, within the connect timeout, and leaves nothing open.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod redis_support;
mod wait;

use std::fs;
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
const NEEDED: &str = "~pr/* ~global/* ~{*}:atlock* ~atlock:* ~*::* +ping +select +info +time +eval +evalsha +script|load \
    +get +mget +set +del +type +scan +hset +hget +hmget +hgetall +hdel +pttl +persist +pexpire +exists +zadd +zrem +zscore +zrange +sadd +srem +smembers +wait";

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
    assert_refused(&with_password(&address, "nokeys", PASSWORD), Code::Permission, &[&address, "keys"]);
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
    };
    let good = config::Redis { tls: tls("ca.pem", Some("client")), ..settings(&format!("127.0.0.1:{tls_port}")) };
    let store = open(&good).expect("the right certificates");
    take(&store, fields("a"), 1);
    assert!(get(&store, fields("a")).is_some());
    drop(store);

    assert_refused(&config::Redis { tls: tls("other.pem", Some("client")), ..good.clone() }, Code::Tls, &["tls.ca_file"]);
    assert_refused(&config::Redis { tls: tls("ca.pem", None), ..good.clone() }, Code::Tls, &["TLS"]);
    assert_refused(&config::Redis { address: format!("localhost:{tls_port}"), ..good.clone() }, Code::Tls, &["host name"]);
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
    assert_eq!(error.code(), Code::ReadOnly, "{error}");
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
    let careful = Server::start(&["--appendonly", "yes"]);
    assert_eq!(open(&settings(&careful.address())).unwrap().warnings(), [""; 0]);
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
