//! No secret where none belongs: a marker of its own is put into every place where a secret can enter (clone URLs, Redis's password, the master key, the
//! client's TLS key), real work is done in each mode, with a fallback, a recovery, a crash, a migration and its way back, and then every file, every
//! key in Redis and every text that anybody was told is searched for each marker. Where one is found it is expected, with a reason, or a failure.
#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used)]

mod redis_support;
mod wait;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use atlock::clock::SystemClock;
use atlock::config::Config;
use atlock::service::Service;
use atlock::store::{Expected, Granted};
use redis_support::{Server, certificates, die_with_the_test, free_port};
use wait::wait_for;

const CLONE: &str = "MARKER-clone-token-51f0";
const PASSWORD: &str = "MARKER-redis-password-8c2e";
/// 32 bytes, as hexadecimal digits.
const MASTER_KEY: &str = "a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8f90";
const STATUS: &str = "git.example.com::acme/infra::1";
/// By this variable the test's own program knows that it is the one that is killed.
const KILLED: &str = "ATLOCK_SECRETS_KILLED";

/// Where a marker may be, and why.
const EXPECTED: [(&str, &str, &str); 3] = [
    (
        "redis key pr/acme/infra/after/",
        CLONE,
        "a migration moves a lock as it is, and in strict mode the record was sealed, not its credentials",
    ),
    (
        "redis file",
        CLONE,
        "another program or a migration wrote it in clear; Redis's own disk is Redis's: BGREWRITEAOF, and an encrypted volume",
    ),
    ("redis file users.acl", PASSWORD, "this test writes the administrator's file in clear; Redis keeps a digest"),
];

/// A machine: Redis with TLS and a user, settings, and a folder for everything that is written.
struct Place {
    folder: tempfile::TempDir,
    redis: Server,
    tls: u16,
    /// What anybody was told: by whom, and the text.
    told: Vec<(String, String)>,
    /// A line of the client's private key.
    client_key: String,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        for name in ["etc", "data", "audit", "tmp", "redis"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let at = |name: &str| folder.path().join(name).display().to_string();
        let etc = folder.path().join("etc");
        certificates(&etc);
        for (name, text) in [("password", PASSWORD), ("key", MASTER_KEY)] {
            fs::write(etc.join(name), format!("{text}\n")).unwrap();
        }
        for name in ["password", "key", "client.key"] {
            fs::set_permissions(etc.join(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        let client_key = fs::read_to_string(etc.join("client.key")).unwrap().lines().nth(3).unwrap().to_owned();
        fs::write(at("redis/users.acl"), format!("user default on nopass ~* &* +@all\nuser locks on >{PASSWORD} ~* &* +@all\n"))
            .unwrap();
        let tls = free_port();
        let redis = Server::start(&[
            "--tls-port",
            &tls.to_string(),
            "--tls-cert-file",
            &at("etc/server.pem"),
            "--tls-key-file",
            &at("etc/server.key"),
            "--tls-ca-cert-file",
            &at("etc/ca.pem"),
            "--tls-auth-clients",
            "yes",
            "--aclfile",
            &at("redis/users.acl"),
            "--dir",
            &at("redis"),
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
        ]);
        Place { folder, redis, tls, told: Vec::new(), client_key }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn settings(&self, mode: &str) -> String {
        let at = |name: &str| self.path(name).display().to_string();
        format!(
            "locking: {{backend: sled, data_dir: '{}', encryption: {{key_file: '{}'}}, audit: {{file: '{}'}}, enhanced: {{enabled: {}, \
             compatibility_mode: {mode}, priority_queue: {{enabled: true}}, redis: {{address: '127.0.0.1:{}', username: locks, \
             password_file: '{}', tls: {{enabled: true, ca_file: '{}', cert_file: '{}', key_file: '{}'}}}}}}}}\n",
            at(&format!("data/{mode}")),
            at("etc/key"),
            at(&format!("audit/{mode}.jsonl")),
            mode != "strict",
            self.tls,
            at("etc/password"),
            at("etc/ca.pem"),
            at("etc/client.pem"),
            at("etc/client.key"),
        )
    }

    fn file(&self, mode: &str) -> PathBuf {
        let file = self.path(&format!("etc/{mode}.yaml"));
        fs::write(&file, self.settings(mode)).unwrap();
        file
    }

    fn open(&self, mode: &str) -> Arc<Service> {
        Arc::new(Service::open(&Config::load(&self.file(mode)).unwrap(), None, Arc::new(SystemClock)).unwrap())
    }

    fn tell(&mut self, by: &str, text: impl Into<String>) {
        self.told.push((by.to_owned(), text.into()));
    }

    /// Runs a command, and keeps what it printed. What prints values is not asked for.
    fn atlock(&mut self, mode: &str, words: &[&str]) -> bool {
        let file = self.file(mode);
        let mut command = Command::new(env!("CARGO_BIN_EXE_atlock"));
        command.arg("--config").arg(file).args(words).stdin(Stdio::null()).env("TMPDIR", self.path("tmp"));
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        self.tell(&format!("atlock {}", words.join(" ")), text);
        output.status.success()
    }

    /// What a server tells of itself.
    fn listen_to(&mut self, mode: &str, service: &Service) {
        self.tell(&format!("{mode}: status"), serde_json::to_string(&service.status()).unwrap());
        self.tell(&format!("{mode}: health"), serde_json::to_string(&service.health()).unwrap());
        self.tell(&format!("{mode}: metrics"), service.metrics());
        let listing = service.list().unwrap();
        self.tell(&format!("{mode}: unreadable"), format!("{:?}", listing.unreadable()));
        self.tell(&format!("{mode}: infos"), format!("{:?}", service.lock_infos(br#"["acme/infra/a/default/"]"#)));
        self.tell(&format!("{mode}: queues"), format!("{:?}", service.queues(None)));
    }

    /// In which places which markers are.
    fn found(&self) -> BTreeSet<(String, String)> {
        let mut found = BTreeSet::new();
        let mut look = |place: String, bytes: &[u8]| {
            for marker in [CLONE, PASSWORD, MASTER_KEY, &self.client_key] {
                if bytes.windows(marker.len()).any(|part| part == marker.as_bytes()) {
                    found.insert((place.clone(), marker.to_owned()));
                }
            }
        };
        for (by, text) in &self.told {
            look(format!("told by {by}"), text.as_bytes());
        }
        for kind in ["data", "audit", "tmp", "work"] {
            for file in files(&self.path(kind)) {
                look(format!("file {}", file.strip_prefix(self.folder.path()).unwrap().display()), &fs::read(&file).unwrap());
            }
        }
        for file in files(&self.path("redis")) {
            look(format!("redis file {}", file.file_name().unwrap().to_string_lossy()), &fs::read(&file).unwrap());
        }
        let mut raw = self.redis.raw();
        let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut raw).unwrap();
        for key in keys {
            let kind: String = redis::cmd("TYPE").arg(&key).query(&mut raw).unwrap();
            let mut command = redis::cmd(match kind.as_str() {
                "string" => "GET",
                "hash" => "HGETALL",
                "set" => "SMEMBERS",
                "zset" => "ZRANGE",
                other => panic!("a key of type {other}"),
            });
            command.arg(&key);
            if kind == "zset" {
                command.arg(0).arg(-1);
            }
            let value = match command.query::<redis::Value>(&mut raw).unwrap() {
                redis::Value::Array(parts) => {
                    parts.into_iter().flat_map(|part| redis::from_redis_value::<Vec<u8>>(part).unwrap()).collect()
                }
                value => redis::from_redis_value::<Vec<u8>>(value).unwrap(),
            };
            look(format!("redis key {}", String::from_utf8_lossy(&key)), &[key.as_slice(), b" ", &value].concat());
        }
        found
    }

    /// Fails for each marker that is where none is expected, and for each expectation of these that nothing meets.
    fn assert_found(&self, when: &str, expected: &[&str]) {
        let found = self.found();
        let is_expected = |(place, marker): &&(String, String)| {
            EXPECTED.iter().any(|(at, of, _)| expected.contains(at) && place.starts_with(at) && of == marker)
        };
        let more: Vec<_> = found.iter().filter(|found| !is_expected(found)).collect();
        assert!(more.is_empty(), "{when}: {more:#?}");
        for at in expected {
            let met = found.iter().any(|(place, marker)| {
                EXPECTED.iter().any(|(known, of, _)| known == at && place.starts_with(at) && of == marker)
            });
            assert!(met, "{when}: nothing is at {at} any more: take it out");
        }
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                files(&path)
            } else if path.is_file() {
                vec![path]
            } else {
                Vec::new()
            }
        })
        .collect()
}

fn lock(path: &str, num: u8) -> Vec<u8> {
    let url = format!("https://bot:{CLONE}@git.example.com/acme/infra.git");
    format!(
        r#"{{"Project":{{"RepoFullName":"acme/infra","Path":"{path}"}},"Pull":{{"Num":{num},"BaseRepo":{{"CloneURL":"{url}"}},"URL":"{url}"}},"User":{{"Username":"ann"}},"Workspace":"default"}}"#
    )
    .into_bytes()
}

fn take(service: &Service, path: &str, num: u8) {
    assert!(matches!(service.try_lock(&lock(path, num)).unwrap(), Granted::Yes { .. }), "{path}");
}

/// Grants, refusals, errors and releases.
fn work(place: &mut Place, mode: &str, service: &Service) {
    take(service, "a", 1);
    take(service, "b", 1);
    take(service, "c", 2);
    place.tell(
        "a refusal",
        format!("{:?}", service.unlock_if_owned_by_pull(&lock("a", 9), 9).map(|released| released.map(|_| "released"))),
    );
    let status = format!(r#"{{"Projects":null,"Pull":{{"Num":1,"BaseRepo":{{"CloneURL":"https://a:{CLONE}@h/r"}}}}}}"#);
    service.swap_pull_status(STATUS, Expected::Any, Some(status.as_bytes())).unwrap();
    service.lock_command("apply", br#"{"CommandName":0}"#).unwrap();
    service.unlock_command("apply").unwrap();
    // What cannot be read is not repeated.
    for wrong in [
        format!(r#"{{"Project":"https://ann:{CLONE}@h/x"}}"#),
        format!(r#"{{"Project":{{"RepoFullName":"a/b","Path":"{CLONE}"#),
        format!(r#"{{"Project":{{"RepoFullName":7,"Path":"x"}},"Pull":{{"Num":1,"BaseRepo":{{"CloneURL":"{CLONE}"}}}}}}"#),
    ] {
        place.tell("an error", service.try_lock(wrong.as_bytes()).map(drop).unwrap_err().to_string());
        place.tell(
            "an error",
            service
                .swap_pull_status("x::y::1", Expected::Any, Some(&wrong.as_bytes()[..20]))
                .map(drop)
                .map_or_else(|e| e.to_string(), |()| String::new()),
        );
    }
    service.swap_pull_status("x::y::1", Expected::Any, None).unwrap();
    assert_eq!(service.unlock_by_pull("acme/infra", 2).unwrap().len(), 1);
    assert!(service.unlock(&lock("b", 1)).unwrap().is_some());
    place.listen_to(mode, service);
}

fn release_all(service: &Service) {
    for num in [1, 2, 3] {
        service.unlock_by_pull("acme/infra", num).unwrap();
    }
    service.swap_pull_status(STATUS, Expected::Any, None).unwrap();
    assert!(service.list().unwrap().is_empty());
}

#[test]
fn strict_mode_writes_no_secret_with_a_key() {
    let mut place = Place::new();
    let service = place.open("strict");
    work(&mut place, "strict", &service);
    service.close().unwrap();
    for words in [
        &["list"][..],
        &["status"],
        &["doctor"],
        &["get", "acme/infra/a/default/"],
        &["explain", "acme/infra/a/default/"],
        &["config", "show"],
    ] {
        place.atlock("strict", words);
    }
    assert!(place.atlock("strict", &["compact"]));
    place.assert_found("strict mode", &["redis file users.acl"]);
}

#[test]
fn hybrid_mode_writes_no_secret_with_a_key() {
    let mut place = Place::new();
    let service = place.open("hybrid");
    work(&mut place, "hybrid", &service);
    // Somebody else's entry, which is told of.
    redis::cmd("SET")
        .arg("pr/acme/bad/x/default/")
        .arg(format!(r#"{{"Project":"https://ann:{CLONE}@h/x"}}"#))
        .query::<()>(&mut place.redis.raw())
        .unwrap();
    place.listen_to("hybrid", &service);
    redis::cmd("DEL").arg("pr/acme/bad/x/default/").query::<()>(&mut place.redis.raw()).unwrap();

    place.redis.kill();
    wait_for("the local store decides", Duration::from_secs(20), || match service.try_lock(&lock("away", 3)) {
        Ok(Granted::Yes { .. }) => Ok(()),
        other => Err(other.map(drop).map_err(|e| e.to_string())),
    });
    place.listen_to("hybrid, away", &service);
    // A password that is refused is told, too, and not repeated.
    fs::write(place.path("etc/password"), "MARKER-redis-password-8c2e-of-before\n").unwrap();
    place.redis.start_again();
    wait_for("the password is refused", Duration::from_secs(30), || {
        let told = serde_json::to_string(&service.status()).unwrap();
        if told.contains("refused the user name or password") { Ok(()) } else { Err(told) }
    });
    place.listen_to("hybrid, refused", &service);
    fs::write(place.path("etc/password"), format!("{PASSWORD}\n")).unwrap();
    wait_for("Redis decides again", Duration::from_secs(60), || {
        let status = serde_json::to_value(service.status()).unwrap();
        if status["circuit_state"] == "closed" { Ok(()) } else { Err(status) }
    });
    place.listen_to("hybrid, back", &service);
    service.close().unwrap();
    for words in [&["list"][..], &["status"], &["doctor"], &["get", "acme/infra/a/default/"], &["metrics"]] {
        place.atlock("hybrid", words);
    }
    // What that other program wrote, and nothing else.
    place.assert_found("hybrid mode, with locks held", &["redis file", "redis file users.acl"]);

    // A released lock leaves nothing but what Redis's own disk remembers, until Redis writes that anew.
    let service = place.open("hybrid");
    release_all(&service);
    service.close().unwrap();
    place.assert_found("hybrid mode, all released", &["redis file", "redis file users.acl"]);
    redis::cmd("BGREWRITEAOF").query::<()>(&mut place.redis.raw()).unwrap();
    wait_for("the file is written anew", Duration::from_secs(30), || {
        let info: String = redis::cmd("INFO").arg("persistence").query(&mut place.redis.raw()).unwrap();
        if info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0") { Ok(()) } else { Err(info) }
    });
    place.assert_found("hybrid mode, after BGREWRITEAOF", &["redis file users.acl"]);
}

#[test]
fn native_mode_writes_no_secret_with_a_key_and_a_migration_none_of_its_own() {
    let mut place = Place::new();
    let service = place.open("native");
    work(&mut place, "native", &service);
    service.close().unwrap();
    let (native, strict) =
        (format!("config:{}", place.file("native").display()), format!("config:{}", place.file("strict").display()));
    let work = place.path("work").display().to_string();
    fs::create_dir(place.path("work")).unwrap();
    assert!(
        place.atlock("native", &["migrate", "--from", &native, "--to", &strict, "--work", &work, "--execute"]),
        "{:?}",
        place.told.last()
    );
    assert!(place.atlock("strict", &["migrate", "verify", &format!("{work}/manifest.json")]), "{:?}", place.told.last());
    let service = place.open("strict");
    take(&service, "after", 3);
    place.listen_to("strict", &service);
    service.close().unwrap();
    // The way back needs the old store as it is.
    let shown = |listing: atlock::store::Listing| listing.values().all(|value| String::from_utf8_lossy(value).contains(CLONE));
    assert!(shown(place.open("strict").list().unwrap()), "what was sealed in Redis is open to Atlantis");
    place.assert_found("after a migration", &["redis file users.acl"]);
    assert!(place.atlock("strict", &["rollback", &format!("{work}/manifest.json")]), "{:?}", place.told.last());
    let service = place.open("native");
    assert!(shown(service.list().unwrap()) && !service.list().unwrap().is_empty());
    service.close().unwrap();
    place.assert_found("after its way back", &["redis key pr/acme/infra/after/", "redis file", "redis file users.acl"]);

    let again = place.path("work/again").display().to_string();
    let words = ["migrate", "--from", &native, "--to", &strict, "--work", &again, "--execute", "--clean-up", "--replace-old"];
    assert!(place.atlock("native", &words), "{:?}", place.told.last());
    place.assert_found("after a migration with --clean-up", &["redis file", "redis file users.acl"]);
}

/// The process that is killed in the middle of its work: it takes locks for ever.
#[test]
fn the_process_that_is_killed() {
    let Some(file) = std::env::var_os(KILLED) else { return };
    let service = Service::open(&Config::load(Path::new(&file)).unwrap(), None, Arc::new(SystemClock)).unwrap();
    for round in 0_u64.. {
        let path = format!("p{}", round % 20);
        service.try_lock(&lock(&path, 1)).unwrap();
        println!("round {round}");
        if round % 3 == 0 {
            service.unlock(&lock(&path, 1)).unwrap();
        }
    }
}

#[test]
fn a_crash_leaves_no_secret() {
    for mode in ["strict", "hybrid"] {
        let mut place = Place::new();
        let file = place.file(mode);
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "the_process_that_is_killed", "--nocapture"]).env(KILLED, &file);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).current_dir(place.path("tmp"));
        let mut killed = die_with_the_test(&mut command).spawn().unwrap();
        let data = place.path(&format!("data/{mode}"));
        wait_for("it works", Duration::from_secs(30), || {
            let audit = fs::read_to_string(place.path(&format!("audit/{mode}.jsonl"))).unwrap_or_default();
            if audit.lines().count() > 200 { Ok(()) } else { Err(audit.lines().count()) }
        });
        killed.kill().unwrap();
        let output = killed.wait_with_output().unwrap();
        place.tell(
            "the killed process",
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
        );
        assert!(data.is_dir());
        place.atlock(mode, &["list"]);
        place.atlock(mode, &["doctor"]);
        place.assert_found(&format!("{mode} mode, killed"), &["redis file users.acl"]);
        let service = place.open(mode);
        place.listen_to(mode, &service);
        service.close().unwrap();
        place.assert_found(&format!("{mode} mode, after the crash"), &["redis file users.acl"]);
    }
}

/// A search that finds nothing anywhere proves nothing: without a key the data folder and Redis have what is looked for.
#[test]
fn the_search_finds_what_is_there() {
    let place = Place::new();
    for mode in ["strict", "native"] {
        let settings = place.settings(mode);
        let (before, after) = settings.split_once("encryption: {").unwrap();
        let settings = format!("{before}{}", after.split_once("}, ").unwrap().1);
        let service = Service::open(&Config::parse(&settings, "test").unwrap(), None, Arc::new(SystemClock)).unwrap();
        take(&service, "a", 1);
        service.close().unwrap();
    }
    fs::write(place.path("tmp/core"), format!("{PASSWORD} {MASTER_KEY} {}", place.client_key)).unwrap();
    let found = place.found();
    for wanted in ["file data/strict/", "redis key pr/", "redis file"] {
        assert!(found.iter().any(|(place, marker)| place.starts_with(wanted) && marker == CLONE), "{wanted}: {found:?}");
    }
    assert_eq!(found.iter().filter(|(place, _)| place == "file tmp/core").count(), 3, "{found:?}");
}
