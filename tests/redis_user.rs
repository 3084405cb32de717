//! The Redis user of docs/03-configuration.md: the page's commands are typed as they stand there, and what they make is enough for all that a server
//! and its commands do, and for nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod redis_support;
mod wait;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use atlock::clock::SystemClock;
use atlock::config::Config;
use atlock::service::Service;
use atlock::service::queueing::wait::{WaitOptions, Waited};
use atlock::store::{Expected, Granted};
use redis_support::sentinel::Watched;
use redis_support::{Cluster, Server, certificates, die_with_the_test, free_port, program};
use wait::wait_for;

const ADMIN: &str = "the-administrators-password";
const STATUS: &str = "github.com::acme/infra::1";

/// The page's block that makes the user.
fn documented() -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/03-configuration.md")).unwrap();
    let mut blocks = page.split("```sh\n").skip(1).map(|block| block.split("```").next().unwrap());
    blocks.find(|block| block.contains("ACL SETUSER atlantis")).expect("the page makes the user").to_owned()
}

/// What the block allows.
fn rights() -> Vec<String> {
    let block = documented();
    let words = block.split("head -c 64)").nth(1).unwrap().split("ACL SAVE").next().unwrap().split_whitespace();
    let rights: Vec<String> = words.filter(|word| *word != "\\").map(str::to_owned).collect();
    assert!(rights.len() > 20 && rights.iter().all(|right| right.starts_with(['~', '+'])), "{rights:?}");
    rights
}

/// A Redis of an administrator's, with TLS, and the machine on which the block is typed.
struct Place {
    folder: tempfile::TempDir,
    /// For the administrator; without TLS.
    plain: u16,
    tls: u16,
    process: std::process::Child,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Place {
    /// `aclfile`: it keeps its users in a file of their own, not in its settings.
    fn new(aclfile: bool) -> Place {
        let folder = tempfile::tempdir().unwrap();
        for name in ["etc", "etc-redis", "shims"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        certificates(folder.path());
        let at = |name: &str| folder.path().join(name).display().to_string();
        fs::copy(at("ca.pem"), at("etc/redis-ca.pem")).unwrap();
        fs::write(at("etc-redis/admin-password"), format!("{ADMIN}\n")).unwrap();
        let (plain, tls) = (free_port(), free_port());
        let users = if aclfile {
            fs::write(at("users.acl"), format!("user default on >{ADMIN} ~* &* +@all\n")).unwrap();
            format!("aclfile {}", at("users.acl"))
        } else {
            format!("requirepass {ADMIN}")
        };
        let settings = format!(
            "bind 127.0.0.1\nport {plain}\ntls-port {tls}\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\ntls-auth-clients no\n\
             dir {}\nappendonly yes\nsave \"\"\n{users}\n",
            at("server.pem"),
            at("server.key"),
            at("ca.pem"),
            folder.path().display()
        );
        fs::write(at("redis.conf"), settings).unwrap();
        let real = String::from_utf8(Command::new("sh").args(["-c", "command -v redis-cli"]).output().unwrap().stdout).unwrap();
        for (name, text) in [
            // One user types all of it here; go/dev/e2e/runbook has several.
            ("sudo", "exec \"$@\"".to_owned()),
            ("chgrp", "exit 0".to_owned()),
            ("redis-cli", format!("printf '%s\\n' \"$@\" >> {}\nexec {} \"$@\"", at("typed"), real.trim())),
        ] {
            fs::write(at(&format!("shims/{name}")), format!("#!/bin/sh\n{text}\n")).unwrap();
            fs::set_permissions(at(&format!("shims/{name}")), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let process = Place::spawn(folder.path());
        let place = Place { folder, plain, tls, process };
        place.wait();
        place
    }

    fn spawn(folder: &Path) -> std::process::Child {
        let mut command = Command::new(program());
        command.arg(folder.join("redis.conf")).stdin(Stdio::null()).stdout(Stdio::null());
        die_with_the_test(&mut command).spawn().expect("redis-server is needed")
    }

    fn wait(&self) {
        wait_for("Redis is up", Duration::from_secs(20), || std::net::TcpStream::connect(("127.0.0.1", self.tls)));
        wait_for("it has read its data", Duration::from_secs(20), || redis::cmd("PING").query::<String>(&mut self.admin()));
    }

    fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    fn start(&mut self) {
        self.process = Place::spawn(self.folder.path());
        self.wait();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Types the block, and tells what it printed.
    fn type_it(&self, change: impl Fn(String) -> String) -> String {
        let text = documented()
            .replace("/etc/atlantis", self.path("etc").to_str().unwrap())
            .replace("/etc/redis/", &format!("{}/", self.path("etc-redis").display()))
            .replace("redis.example.com:6379", &format!("127.0.0.1:{}", self.tls));
        let path = format!("{}:{}", self.path("shims").display(), std::env::var("PATH").unwrap());
        let output = Command::new("bash").args(["-euo", "pipefail", "-c", &change(text)]).env("PATH", path).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn password(&self) -> String {
        fs::read_to_string(self.path("etc/redis-password")).unwrap().trim().to_owned()
    }

    fn connection(&self, user: &str, password: &str) -> redis::RedisResult<redis::Connection> {
        redis::Client::open(format!("redis://{user}:{password}@127.0.0.1:{}", self.plain))?.get_connection()
    }

    fn admin(&self) -> redis::Connection {
        wait_for("the administrator is let in", Duration::from_secs(20), || self.connection("default", ADMIN))
    }

    fn user(&self) -> redis::Connection {
        self.connection("atlantis", &self.password()).expect("the user is let in")
    }

    /// The block `redis` of settings.
    fn redis(&self) -> String {
        format!(
            "{{address: '127.0.0.1:{}', username: atlantis, password_file: '{}', tls: {{enabled: true, ca_file: '{}'}}}}",
            self.tls,
            self.path("etc/redis-password").display(),
            self.path("etc/redis-ca.pem").display()
        )
    }

    fn settings(&self, mode: &str, redis: &str) -> PathBuf {
        let file = self.path(&format!("{mode}.yaml"));
        let text = format!(
            "locking: {{backend: sled, data_dir: '{}', enhanced: {{enabled: true, compatibility_mode: {mode}, \
             priority_queue: {{enabled: true}}, deadlock_detection: {{enabled: true}}, redis: {redis}}}}}\n",
            self.path(&format!("data-{mode}")).display()
        );
        fs::write(&file, text).unwrap();
        file
    }

    fn atlock(&self, args: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_atlock")).args(args).env_clear().output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {told}");
        told
    }

    /// What Redis refused this user since it was last asked.
    fn refused(&self) -> Vec<String> {
        let log: Vec<std::collections::HashMap<String, redis::Value>> =
            redis::cmd("ACL").arg("LOG").query(&mut self.admin()).unwrap();
        redis::cmd("ACL").arg("LOG").arg("RESET").query::<()>(&mut self.admin()).unwrap();
        let text = |value: &redis::Value| redis::from_redis_value::<String>(value.clone()).unwrap();
        log.iter().map(|entry| format!("{}: {}", text(&entry["reason"]), text(&entry["object"]))).collect()
    }
}

fn open(file: &Path) -> Service {
    Service::open(&Config::load(file).unwrap(), None, Arc::new(SystemClock)).unwrap()
}

fn lock(path: &str, num: u8) -> Vec<u8> {
    format!(r#"{{"Project":{{"RepoFullName":"acme/infra","Path":"{path}"}},"Pull":{{"Num":{num}}},"Workspace":"default"}}"#)
        .into_bytes()
}

/// What Atlantis does with its store.
fn work(service: &Arc<Service>) {
    assert!(matches!(service.try_lock(&lock("a", 1)).unwrap(), Granted::Yes { .. }));
    assert!(matches!(service.try_lock(&lock("b{c}d", 1)).unwrap(), Granted::Yes { .. }), "a brace makes another side hash");
    assert!(matches!(service.try_lock(&lock("a", 2)).unwrap(), Granted::Held { .. }));
    let (waiting, options) = (Arc::clone(service), WaitOptions::parse(br#"{"timeout_ms":20000}"#).unwrap());
    let waiter = thread::spawn(move || waiting.lock(&lock("a", 2), &options));
    wait_for("pull 2 waits", Duration::from_secs(10), || {
        if service.queues(None).unwrap().is_empty() { Err("nobody waits") } else { Ok(()) }
    });
    assert!(service.unlock(&lock("a", 1)).unwrap().is_some());
    assert!(matches!(waiter.join().unwrap().unwrap(), Waited::Locked { .. }));
    assert_eq!(service.list().unwrap().len(), 2);
    assert!(service.get_lock(&lock("a", 2)).unwrap().is_some());
    assert_eq!(service.unlock_by_pull("acme/infra", 2).unwrap().len(), 1);
    service.swap_pull_status(STATUS, Expected::Absent, Some(br#"{"Projects":[],"Pull":{"Num":1}}"#)).unwrap();
    assert!(service.pull_status(STATUS).unwrap().is_some());
    assert!(matches!(service.lock_command("apply", br#"{"CommandName":0}"#).unwrap(), Granted::Yes { .. }));
    assert!(service.check_command_lock("apply").unwrap().is_some());
    service.unlock_command("apply").unwrap().expect("it was held");
    service.swap_pull_status(STATUS, Expected::Any, None).unwrap();
    assert!(service.unlock(&lock("b{c}d", 1)).unwrap().is_some());
    let mut warnings = service.status().warnings;
    // The test's certificates are for two days.
    warnings.retain(|warning| !warning.contains("TLS certificate ends on"));
    assert!(warnings.is_empty(), "{warnings:?}");
}

/// Redis tells each refusal, also one that a server takes in silence.
fn assert_refused_only(place: &Place, allowed: &[&str]) {
    let refused = place.refused();
    let more: Vec<&String> = refused.iter().filter(|what| !allowed.iter().any(|allowed| what.ends_with(allowed))).collect();
    assert!(more.is_empty(), "Redis refused {more:?}");
}

#[test]
fn what_the_page_makes_is_enough() {
    let mut place = Place::new(true);
    assert_eq!(place.type_it(|text| text), "OK\nOK\n");
    // The scripts are sent whole where they may not be loaded.
    const LOADING: &str = "script|load";
    // Who else is connected is asked where a server would be in the way, and it is said that this could not be asked.
    const OTHERS: &str = "client|list";

    let native = place.settings("native", &place.redis());
    let service = Arc::new(open(&native));
    work(&service);
    service.close().unwrap();
    assert_refused_only(&place, &[LOADING]);

    let hybrid = place.settings("hybrid", &place.redis());
    let service = Arc::new(open(&hybrid));
    work(&service);
    place.kill();
    wait_for("the local store decides", Duration::from_secs(20), || match service.try_lock(&lock("away", 1)) {
        Ok(Granted::Yes { .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    place.start();
    wait_for("Redis decides again", Duration::from_secs(60), || {
        let status = serde_json::to_value(service.status()).unwrap();
        if status["circuit_state"] == "closed" && status["last_recovery"]["pushed"] == 1 { Ok(()) } else { Err(status) }
    });
    assert_eq!(service.list().unwrap().len(), 1);
    service.close().unwrap();
    assert_refused_only(&place, &[LOADING]);

    // The commands, on the lock that is left.
    let (config, sled) = (format!("config:{}", hybrid.display()), format!("sled:{}", place.path("elsewhere").display()));
    let at = hybrid.to_str().unwrap();
    assert!(place.atlock(&["--config", at, "list"]).contains("acme/infra/away/default/"));
    let work = place.path("work").display().to_string();
    let told = place.atlock(&["migrate", "--from", &config, "--to", &sled, "--work", &work, "--execute"]);
    assert!(told.contains("complete"), "{told}");
    let told = place.atlock(&["rollback", &format!("{work}/manifest.json")]);
    assert!(!told.contains("error"), "{told}");
    assert!(place.atlock(&["--config", at, "list"]).contains("acme/infra/away/default/"));
    assert_refused_only(&place, &[LOADING, OTHERS]);
    // The doctor asks which rights there are, and is content not to hear.
    let told = place.atlock(&["--config", native.to_str().unwrap(), "list"]);
    assert!(told.contains("acme/infra/away/default/"), "{told}");
    let output =
        Command::new(env!("CARGO_BIN_EXE_atlock")).args(["--config", at, "doctor", "--json"]).env_clear().output().unwrap();
    let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let of_redis =
        findings["checks"].as_array().unwrap().iter().filter(|finding| finding["name"].as_str().unwrap().starts_with("redis"));
    let bad: Vec<_> = of_redis.filter(|finding| finding["severity"] == "warning" || finding["severity"] == "error").collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert_refused_only(&place, &[LOADING, "acl|whoami"]);

    // And a shadow.
    let shadow = place.path("shadow.yaml");
    let data = place.path("data-shadow");
    let text = format!(
        "locking: {{backend: sled, data_dir: '{}', shadow: {{store: redis, redis: {}}}}}\n",
        data.display(),
        place.redis().replace("}}", "}, db: 1}")
    );
    fs::write(&shadow, text).unwrap();
    let settings = Config::load(&shadow).unwrap();
    let service = Service::open(&settings, None, Arc::new(SystemClock)).unwrap().shadowed(&settings).unwrap();
    assert!(matches!(service.try_lock(&lock("a", 1)).unwrap(), Granted::Yes { .. }));
    wait_for("the shadow follows", Duration::from_secs(20), || {
        let told = serde_json::to_value(service.status()).unwrap();
        if told["shadow"]["waiting"] == 0 && told["shadow"]["in_step"] == true { Ok(()) } else { Err(told) }
    });
    assert!(matches!(service.try_lock(&lock("a", 2)).unwrap(), Granted::Held { .. }));
    let told = wait_for("it was asked", Duration::from_secs(20), || {
        let told = serde_json::to_value(service.status()).unwrap();
        if told["shadow"]["same"].as_u64() > Some(0) { Ok(told) } else { Err(told) }
    });
    assert_eq!(told["shadow"]["failed"], 0);
    service.close().unwrap();
    assert_refused_only(&place, &[LOADING, OTHERS]);
}

#[test]
fn what_the_page_makes_is_enough_behind_sentinels_and_on_a_cluster() {
    let place = tempfile::tempdir().unwrap();
    let password = place.path().join("password");
    fs::write(&password, "its-own-password\n").unwrap();
    let user = |server: &Server, more: &[&str]| {
        let mut command = redis::cmd("ACL");
        command.arg("SETUSER").arg("atlantis").arg("reset").arg("on").arg(">its-own-password").arg(rights()).arg(more);
        command.query::<()>(&mut server.raw()).unwrap();
        redis::cmd("CONFIG").arg("SET").arg("min-replicas-to-write").arg(0).query::<()>(&mut server.raw()).unwrap();
    };
    let native = |redis: String| {
        let text = format!(
            "locking: {{enhanced: {{enabled: true, compatibility_mode: native, priority_queue: {{enabled: true}}, \
             redis: {{{redis}, username: atlantis, password_file: '{}', allow_no_persistence: true}}}}}}",
            password.display()
        );
        Arc::new(Service::open(&Config::parse(&text, "test").unwrap(), None, Arc::new(SystemClock)).unwrap())
    };
    let works = |service: &Arc<Service>| {
        assert!(matches!(service.try_lock(&lock("a", 1)).unwrap(), Granted::Yes { .. }));
        assert_eq!(service.unlock_by_pull("acme/infra", 1).unwrap().len(), 1);
        service.close().unwrap();
    };
    let watched = Watched::start(&[]);
    user(&watched.master, &[]);
    let addresses: Vec<String> = watched.settings().sentinel.addresses.iter().map(|address| format!("'{address}'")).collect();
    works(&native(format!("sentinel: {{addresses: [{}], master_name: locks}}", addresses.join(", "))));

    let cluster = Cluster::start(0);
    cluster.nodes.iter().for_each(|node| user(node, &["+cluster|slots"]));
    let addresses: Vec<String> = cluster.nodes.iter().map(|node| format!("'{}'", node.address())).collect();
    works(&native(format!("cluster_mode: true, addresses: [{}]", addresses.join(", "))));
}

/// What the user may not do, neither by itself nor in a script.
const FORBIDDEN: &[&str] = &[
    "CONFIG GET requirepass",
    "CONFIG SET maxmemory 1",
    "CONFIG REWRITE",
    "FLUSHALL",
    "FLUSHDB",
    "ACL LIST",
    "ACL SETUSER atlantis +@all",
    "ACL SAVE",
    "CLIENT LIST",
    "MONITOR",
    "KEYS *",
    "SCRIPT FLUSH",
    "SHUTDOWN NOSAVE",
    "REPLICAOF NO ONE",
    "SAVE",
    "SWAPDB 0 1",
    "RENAME pr/a pr/b",
    "RANDOMKEY",
    "SUBSCRIBE a",
    "PUBLISH a b",
    "FUNCTION LIST",
    "MODULE LIST",
    "GET other:key",
    "SET other:key x",
    "DEL other:key",
    "GET pr",
    "GET global/apply/other",
    "GET a::b",
    "GET atlock",
    "GET {a}:atloc",
    "MGET pr/a other:key",
];

#[test]
fn what_the_page_makes_protects_the_rest() {
    let place = Place::new(true);
    let mut admin = place.admin();
    // Somebody gave the name rights before.
    redis::cmd("ACL")
        .arg(&["SETUSER", "atlantis", "on", ">an-old-password", "~*", "&*", "+@all"])
        .query::<()>(&mut admin)
        .unwrap();
    for key in ["other:key", "pr", "global/apply/other", "a::b", "atlock", "{a}:atloc"] {
        redis::cmd("SET").arg(key).arg("foreign").query::<()>(&mut admin).unwrap();
    }
    place.type_it(|text| text);

    let mut user = place.user();
    for command in FORBIDDEN {
        let words: Vec<&str> = command.split(' ').collect();
        let refused = redis::cmd(words[0]).arg(&words[1..]).query::<redis::Value>(&mut user).expect_err(command);
        assert!(
            refused.to_string().to_uppercase().contains("NOPERM") || refused.code() == Some("NOPERM"),
            "{command}: {refused}"
        );
        // And no script does in its place what it may not do itself.
        let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let script = format!("return redis.call({})", quoted.join(","));
        let refused = redis::cmd("EVAL").arg(&script).arg(0).query::<redis::Value>(&mut user).expect_err(&script);
        let text = refused.to_string();
        assert!(
            ["ACL failure", "can't run this command", "can't access at least one of the keys", "not allowed from script"]
                .iter()
                .any(|why| text.contains(why)),
            "{script}: {text}"
        );
    }
    for key in ["other:key", "pr", "global/apply/other", "a::b", "atlock", "{a}:atloc"] {
        assert_eq!(redis::cmd("GET").arg(key).query::<String>(&mut admin).unwrap(), "foreign", "{key}");
    }
    assert!(place.connection("atlantis", "an-old-password").is_err(), "the password of before opens it still");
    assert!(place.connection("atlantis", ADMIN).is_err(), "the administrator's password is the server's");
    assert!(place.connection("default", &place.password()).is_err(), "the server's password is the administrator's");

    // Nobody who lists processes saw a password, and nobody else may read its file.
    let typed = fs::read_to_string(place.path("typed")).unwrap();
    assert!(typed.contains("rediss://"), "{typed}");
    for secret in [ADMIN, &place.password()] {
        assert!(!typed.contains(secret), "{typed}");
    }
    assert_eq!(fs::metadata(place.path("etc/redis-password")).unwrap().permissions().mode() & 0o777, 0o640);
    assert!(place.password().len() >= 64, "the password is short");
}

#[test]
fn what_the_page_makes_is_there_after_a_restart() {
    // Where there is no aclfile, the page names another command.
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/03-configuration.md")).unwrap();
    assert!(page.contains("A Redis without `aclfile` keeps its users in its settings: there, type `CONFIG REWRITE`"));
    for aclfile in [true, false] {
        let mut place = Place::new(aclfile);
        let typed = place.type_it(|text| if aclfile { text } else { text.replace("\nACL SAVE\n", "\nCONFIG REWRITE\n") });
        assert_eq!(typed, "OK\nOK\n", "aclfile: {aclfile}");
        let users = |place: &Place| {
            let users: Vec<String> = redis::cmd("ACL").arg("LIST").query(&mut place.admin()).unwrap();
            users
                .iter()
                .map(|user| {
                    user.split(' ').filter(|word| *word != "sanitize-payload").map(str::to_owned).collect::<BTreeSet<_>>()
                })
                .collect::<Vec<_>>()
        };
        let before = users(&place);
        place.kill();
        place.start();
        assert_eq!(users(&place), before);
        assert_eq!(redis::cmd("PING").query::<String>(&mut place.user()).unwrap(), "PONG");
        assert!(redis::cmd("FLUSHALL").query::<()>(&mut place.user()).is_err());
        let nobody = redis::Client::open(format!("redis://127.0.0.1:{}", place.plain)).unwrap().get_connection();
        let answer = nobody.and_then(|mut nobody| redis::cmd("PING").query::<String>(&mut nobody));
        assert!(answer.is_err(), "everybody is its administrator");
    }
}
