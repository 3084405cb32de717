//! `atlock doctor` on real stores: each check with a fault that was made for it, and a look without one.
//! Faults that no test can make here, such as a network file system, are shown to the checks in `src/doctor/tests.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod redis_support;
mod wait;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use atlock::clock::SystemClock;
use atlock::config::Config;
use atlock::service::Service;
use redis_support::Server;
use serde_json::{Value, json};
use wait::wait_until;

const SECRET: &str = "s3cr3t-token";
const PATIENCE: Duration = Duration::from_secs(30);
/// What is said of the disk depends on where the tests run.
const OF_THE_DISK: [&str; 2] = ["file system", "space"];

fn lock(path: &str, num: i64, time: &str) -> Vec<u8> {
    let url = format!("https://bot:{SECRET}@example.com/acme/infra.git");
    let lock = json!({
        "Project": {"ProjectName": "", "RepoFullName": "acme/infra", "Path": path},
        "Pull": {"Num": num, "BaseRepo": {"CloneURL": url}},
        "User": {"Username": "ada"}, "Workspace": "default", "Time": time,
    });
    serde_json::to_vec(&lock).unwrap()
}

fn now() -> String {
    humantime_serde::re::humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string()
}

/// A folder with a settings file.
struct Place(tempfile::TempDir);

impl Place {
    fn new(settings: &str) -> Place {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("locking.yaml"), settings.replace("FOLDER", folder.path().to_str().unwrap())).unwrap();
        Place(folder)
    }

    fn sled() -> Place {
        let place = Place::new("locking: {backend: sled, data_dir: FOLDER/locks, audit: {file: FOLDER/audit.jsonl}}\n");
        place.open().close().unwrap();
        place
    }

    fn redis(server: &Server, mode: &str) -> Place {
        let redis = format!("{{address: \"{}\", shared_with_stock: false, timeouts: {{connect: 1s}}}}", server.address());
        let more = "data_dir: FOLDER/locks, backend: sled";
        Place::new(&format!("locking: {{{more}, enhanced: {{enabled: true, compatibility_mode: {mode}, redis: {redis}}}}}\n"))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn config(&self) -> Config {
        Config::load(&self.path().join("locking.yaml")).unwrap()
    }

    fn open(&self) -> Service {
        Service::open(&self.config(), None, Arc::new(SystemClock)).unwrap()
    }

    fn serve(&self) -> Service {
        atlock::socket::listening(self.open(), &self.config())
    }

    fn atlock(&self, args: &[&str]) -> (String, i32) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_atlock"));
        let output = command.arg("--config").arg(self.path().join("locking.yaml")).args(args).env_clear().output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(!text.contains(SECRET), "{text}");
        (text, output.status.code().unwrap())
    }

    /// What the doctor finds; the exit status fits that.
    fn findings(&self) -> Vec<Value> {
        let (text, status) = self.atlock(&["doctor", "--json"]);
        let answer: Value = serde_json::from_str(&text).unwrap();
        let findings = answer["checks"].as_array().unwrap().clone();
        let is_bad = findings.iter().any(|finding| finding["severity"] == "warning" || finding["severity"] == "error");
        assert_eq!(status, i32::from(is_bad), "{text}");
        findings
    }

    /// The severity and the evidence of one check, the worst if there are several.
    fn finding(&self, name: &str) -> (String, String) {
        let findings = self.findings();
        let found = findings.iter().find(|finding| finding["name"] == name).unwrap_or_else(|| panic!("{name}: {findings:#?}"));
        assert_eq!(found["advice"].is_null(), found["severity"] == "ok", "{found}");
        (found["severity"].as_str().unwrap().to_owned(), found["evidence"].as_str().unwrap().to_owned())
    }

    fn assert_finds(&self, name: &str, severity: &str, evidence: &str) {
        let (is, text) = self.finding(name);
        assert!(is == severity && text.contains(evidence), "{name}: {is}: {text}");
    }

    /// All is `ok`, but what is named, and the disk.
    fn assert_clean(&self, but: &[&str]) {
        let findings = self.findings();
        let bad = findings.iter().filter(|finding| {
            let name = finding["name"].as_str().unwrap();
            finding["severity"] != "ok" && !but.contains(&name) && !OF_THE_DISK.contains(&name)
        });
        assert_eq!(bad.count(), 0, "{findings:#?}");
        for name in but {
            assert!(findings.iter().any(|finding| finding["name"] == *name), "{name}: {findings:#?}");
        }
    }
}

#[test]
fn a_stopped_server_on_the_embedded_store_is_well() {
    let place = Place::sled();
    place.assert_clean(&["server"]);
    place.assert_finds("server", "info", "no server listens");
    let (text, _) = place.atlock(&["doctor"]);
    assert!(text.contains("ok       stores: the local store answered in "), "{text}");
    assert!(
        text.contains("info     server: no server listens in locking.data_dir\n         → If a server is to run here"),
        "{text}"
    );
}

#[test]
fn mistakes_in_the_settings_are_told_and_nothing_else_is_tried() {
    let place = Place::new("locking: {backend: slad, data_dir: FOLDER/locks}\n");
    place.assert_finds("settings", "error", "slad");
    assert_eq!(place.findings().len(), 1);
    let place = Place::new("locking: {backend: sled, data_dir: FOLDER/locks, enhanced: {compatibility_mode: native}}\n");
    place.assert_finds("settings", "warning", "strict mode answers");
}

#[test]
fn atlantis_own_store_is_the_servers_and_that_is_no_fault() {
    let place = Place::new("locking: {backend: boltdb}\n");
    place.assert_clean(&["server", "stores"]);
    place.assert_finds("stores", "info", "only the server can look at the locks");
}

#[test]
fn a_running_server_is_asked_by_its_socket() {
    let place = Place::sled();
    let service = place.serve();
    service.try_lock(&lock("a", 1, &now())).unwrap();
    place.assert_clean(&["plans"]);
    place.assert_finds("server", "ok", "it answers by its socket");
    place.assert_finds("entries", "ok", "1 locks, all readable");
    service.close().unwrap();

    let service = place.open();
    place.assert_finds("server", "warning", "locks");
    service.close().unwrap();
}

#[test]
fn what_listens_and_does_not_answer_is_told() {
    let place = Place::sled();
    let listener = std::os::unix::net::UnixListener::bind(place.path().join("locks").join(atlock::socket::FILE)).unwrap();
    let answering = std::thread::spawn(move || writeln!(listener.accept().unwrap().0, "nonsense").unwrap());
    place.assert_finds("server", "error", "does not speak as an atlock server does");
    answering.join().unwrap();
}

#[test]
fn a_folder_that_is_not_there_or_open_to_others_is_told() {
    let place = Place::new("locking: {backend: sled, data_dir: FOLDER/locks}\n");
    place.assert_finds("data_dir", "warning", "does not exist");
    place.assert_finds("stores", "error", "there is no store in");
    let place = Place::sled();
    std::fs::set_permissions(place.path().join("locks"), std::fs::Permissions::from_mode(0o777)).unwrap();
    place.assert_finds("data_dir", "warning", "has the rights 777");
    std::fs::remove_dir_all(place.path().join("locks")).unwrap();
    std::fs::write(place.path().join("locks"), "").unwrap();
    place.assert_finds("data_dir", "error", "is no folder");
}

/// What is told first is done with `--yes` alone, where nobody can be asked, and once: the audit trail has it.
#[test]
fn the_rights_of_the_folder_are_mended_when_told() {
    let place = Place::sled();
    let folder = place.path().join("locks");
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o777)).unwrap();
    let rights = || folder.metadata().unwrap().permissions().mode() & 0o777;
    let trail = || std::fs::read_to_string(place.path().join("audit.jsonl")).unwrap_or_default();
    let before = trail();
    let (text, status) = place.atlock(&["doctor", "--fix"]);
    assert!(status == 1 && text.contains("--fix would take the right to write in "), "{text}");
    assert!(text.contains("no server listens") && text.contains("--fix does nothing here"), "{text}");
    let (text, _) = place.atlock(&["doctor"]);
    assert!(text.contains("`atlock doctor --fix` can do that"), "{text}");
    place.atlock(&["doctor", "--yes"]);
    assert_eq!((rights(), trail()), (0o777, before), "nobody said to fix");
    let (text, status) = place.atlock(&["doctor", "--fix", "--yes", "--json"]);
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((rights(), status), (0o755, 0), "{text}");
    assert!(told["fixed"][0]["name"] == "data_dir" && told["fixed"][0]["error"].is_null(), "{text}");
    let entry: Value = serde_json::from_str(trail().lines().last().unwrap()).unwrap();
    assert_eq!((&entry["kind"], &entry["operation"]), (&"repair".into(), &"doctor".into()), "{entry}");
    assert!(entry["detail"].as_str().unwrap().ends_with("has the rights 755"), "{entry}");
    assert!(entry["via"] == "command_line" && entry["by"]["uid"].is_u64(), "{entry}");
    assert!(place.atlock(&["doctor", "--fix", "--yes", "--json"]).0.contains("\"fixed\":[]"), "it is done");
}

/// A trail that cannot be written is no reason to act without one.
#[test]
fn nothing_is_mended_without_its_entry() {
    let place = Place::sled();
    std::fs::set_permissions(place.path().join("locks"), std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::remove_file(place.path().join("audit.jsonl")).unwrap();
    std::fs::create_dir(place.path().join("audit.jsonl")).unwrap();
    assert_eq!(place.atlock(&["doctor", "--fix", "--yes"]).1, 1);
    place.assert_finds("data_dir", "warning", "has the rights 777");
}

#[test]
fn a_damaged_store_is_told() {
    let place = Place::sled();
    std::fs::write(place.path().join("locks/format.json"), "{").unwrap();
    place.assert_finds("stores", "error", "format.json");
}

#[test]
fn an_audit_trail_that_cannot_be_written_is_told() {
    let place = Place::sled();
    std::fs::remove_file(place.path().join("audit.jsonl")).unwrap();
    std::fs::create_dir(place.path().join("audit.jsonl")).unwrap();
    place.assert_finds("audit", "error", "is a folder");
}

#[test]
fn old_locks_are_told() {
    let place = Place::sled();
    let service = place.open();
    service.try_lock(&lock("a", 1, "2026-01-24T08:17:00+01:00")).unwrap();
    service.try_lock(&lock("b", 2, &now())).unwrap();
    service.close().unwrap();
    place.assert_finds("old locks", "info", "1 held for more than 2h");
    place.assert_finds("old locks", "info", "\"acme/infra/a/default/\" (#1)");
}

#[test]
fn redis_settings_that_endanger_locks_are_told() {
    let server = Server::start(&["--appendonly", "yes"]);
    let place = Place::redis(&server, "native");
    place.assert_clean(&["server", "data_dir"]);
    place.assert_finds("clocks", "ok", "Redis's clock is ");
    let set = |name: &str, value: &str| {
        let _: () = redis::cmd("CONFIG").arg("SET").arg(name).arg(value).query(&mut server.raw()).unwrap();
    };
    set("maxmemory-policy", "allkeys-lru");
    place.assert_finds("redis eviction", "warning", "allkeys-lru");
    set("appendonly", "no");
    place.assert_finds("redis persistence", "warning", "saves nothing");
    set("save", "3600 1");
    place.assert_finds("redis persistence", "info", "save 3600 1");
    assert!(place.findings().iter().all(|finding| finding["name"] != "warnings"), "each is told once");
}

#[test]
fn rights_that_lack_and_a_replica_are_told() {
    let server = Server::start(&[]);
    let place = Place::redis(&server, "native");
    let acl = |rule: &[&str]| {
        let _: () = redis::cmd("ACL").arg("SETUSER").arg("default").arg(rule).query(&mut server.raw()).unwrap();
    };
    acl(&["-del"]);
    place.assert_finds("redis rights", "error", "'del'");
    acl(&["+del", "-acl|dryrun"]);
    place.assert_finds("redis rights", "info", "could not be asked");
    let _: () = redis::cmd("REPLICAOF").arg("127.0.0.1").arg("1").query(&mut server.raw()).unwrap();
    place.assert_finds("redis", "error", "read-only replica");
}

#[test]
fn what_was_left_behind_in_redis_is_told_and_nothing_changes() {
    let server = Server::start(&["--appendonly", "yes"]);
    let place = Place::redis(&server, "native");
    place.open().close().unwrap();
    place.assert_clean(&["server"]);
    let mut raw = server.raw();
    let mut run = |words: &[&str]| {
        let _: Value = redis::cmd(words[0]).arg(&words[1..]).query::<redis::Value>(&mut raw).map(|_| Value::Null).unwrap();
    };
    let value = String::from_utf8(lock("a", 1, &now())).unwrap();
    run(&["ZADD", "atlock:locks", "1000000", "acme/infra/gone/default/"]);
    run(&["HSET", "{pr/acme/infra/gone/default/}:atlock", "token", "7"]);
    run(&["HSET", "{pr/acme/infra/released/default/}:atlock", "token", "8"]);
    run(&["PEXPIRE", "{pr/acme/infra/released/default/}:atlock", "3600000"]);
    run(&["SET", "pr/acme/infra/a/default", &value]);
    run(&["SET", "pr/acme/infra/a/default/", &value]);
    run(&["RPUSH", "pr/other", "x"]);
    run(&["HSET", "atlock:instances", "one", "1000000 0", "two", "-1000000 0", "gap:one", "0 1 2"]);
    let dump = || -> Vec<redis::Value> {
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut server.raw()).unwrap();
        let of = |name: &str, key: &String| redis::cmd(name).arg(key).query(&mut server.raw()).unwrap();
        keys.iter().flat_map(|key| [of("DUMP", key), of("PEXPIRETIME", key)]).collect()
    };
    let before = dump();
    assert_eq!(before.len(), 14);
    place.assert_finds("leftovers", "info", "1 index entries without a lock: \"acme/infra/gone/default/\"; 1 side hashes");
    place.assert_finds("old format", "info", "1 lock under the keys of Atlantis before v0.40: \"acme/infra/a/default\"");
    place.assert_finds("index", "warning", "lacks 1 lock: \"acme/infra/a/default/\"");
    place.assert_finds("entries", "warning", "\"other\": it is a list in Redis");
    place.assert_finds("stale announcements", "info", "leave: one (");
    assert_eq!(dump(), before);
}

/// Beside a server at work, which has no socket by which it would be asked for a list, and so tidy up: each fix has its fault, and no lock, document or announcement changes.
#[test]
fn what_was_left_behind_in_redis_is_mended_and_no_lock_changes() {
    let server = Server::start(&["--appendonly", "yes"]);
    let place = Place::redis(&server, "native");
    let service = place.open();
    service.try_lock(&lock("held", 3, &now())).unwrap();
    let mut raw = server.raw();
    let mut run = |words: &[&str]| -> redis::Value { redis::cmd(words[0]).arg(&words[1..]).query(&mut raw).unwrap() };
    let value = String::from_utf8(lock("a", 1, &now())).unwrap();
    run(&["ZADD", "atlock:locks", "1000000", "acme/infra/gone/default/"]);
    run(&["HSET", "{pr/acme/infra/gone/default/}:atlock", "token", "7"]);
    run(&["HSET", "{pr/acme/infra/other/default/}:atlock", "token", "8"]);
    run(&["SET", "pr/acme/infra/a/default/", &value]);
    run(&["SET", "pr/acme/infra/old/default", &value.replace("\"a\"", "\"old\"")]);
    run(&["SET", "acme/infra::1::0", "{}"]);
    run(&["HSET", "atlock:instances", "one", "1000000 0", "gap:one", "0 1 2"]);
    let kept = ["pr/*", "*::*", "atlock:instances"];
    let dump = || -> Vec<redis::Value> {
        let mut keys: Vec<String> = kept
            .iter()
            .flat_map(|pattern| redis::cmd("KEYS").arg(pattern).query::<Vec<String>>(&mut server.raw()).unwrap())
            .collect();
        keys.sort();
        assert_eq!(keys.len(), 5, "{keys:?}");
        keys.iter().map(|key| redis::cmd("DUMP").arg(key).query(&mut server.raw()).unwrap()).collect()
    };
    let before = dump();
    place.assert_finds("index", "warning", "lacks 1 lock");
    place.atlock(&["doctor", "--fix"]);
    place.assert_finds("index", "warning", "lacks 1 lock");
    place.assert_finds("leftovers", "info", "1 index entries without a lock: \"acme/infra/gone/default/\"; 2 side hashes");
    let (text, _) = place.atlock(&["doctor", "--fix", "--yes"]);
    assert!(text.contains("fixed    index: locks put into the index: 1"), "{text}");
    assert!(text.contains("fixed    leftovers: ") && text.contains("stale announcements"), "{text}");
    place.assert_finds("index", "ok", "has every lock");
    place.assert_finds("leftovers", "ok", "no index entries");
    place.assert_finds("old format", "info", "1 lock under the keys");
    place.assert_finds("stale announcements", "info", "leave: one (");
    assert_eq!(dump(), before);
    let ends: i64 = redis::cmd("PTTL").arg("{pr/acme/infra/other/default/}:atlock").query(&mut server.raw()).unwrap();
    let stays: i64 = redis::cmd("PTTL").arg("{pr/acme/infra/held/default/}:atlock").query(&mut server.raw()).unwrap();
    assert!(ends > 0 && stays == -1, "{ends}, {stays}");
    // Both indexes of a single server have it: a release by pull finds it.
    assert_eq!(service.unlock_by_pull("acme/infra", 1).unwrap().values().count(), 1);
    service.close().unwrap();
}

#[test]
fn hybrid_mode_tells_an_outage_and_other_servers() {
    let mut server = Server::start(&["--appendonly", "yes"]);
    let place = Place::redis(&server, "hybrid");
    let service = place.serve();
    wait_until("the server is armed", PATIENCE, || service.status().hybrid.is_some_and(|hybrid| hybrid.armed));
    place.assert_clean(&[]);
    place.assert_finds("breaker", "ok", "closed");
    place.assert_finds("servers", "ok", "1 in hybrid mode");
    let other = Place::redis(&server, "hybrid");
    other.open().close().unwrap();
    place.assert_finds("servers", "ok", "1 in hybrid mode");
    let second = other.open();
    place.assert_finds("servers", "warning", "2 servers use this Redis");
    drop(second);
    server.kill();
    wait_until("the breaker is open", PATIENCE, || service.status().circuit_state == "open");
    place.assert_finds("breaker", "warning", "the breaker is open");
    place.assert_finds("redis", "error", "cannot be reached");
    service.try_lock(&lock("a", 1, &now())).ok();
    service.close().unwrap();
    place.assert_finds("server", "info", "this is what the local store has");
}

#[test]
fn a_bundle_is_its_owners_alone_and_has_no_secret() {
    let server = Server::start(&["--requirepass", SECRET]);
    let redis = format!("{{address: \"{}\", password: {SECRET}}}", server.address());
    let place = Place::new(&format!(
        "locking: {{data_dir: FOLDER/locks, enhanced: {{enabled: true, compatibility_mode: native, redis: {redis}}}}}\n"
    ));
    let service = place.open();
    service.try_lock(&lock("a", 1, &now())).unwrap();
    service.close().unwrap();
    let file = place.path().join("report.json");
    place.atlock(&["doctor", "--bundle", file.to_str().unwrap()]);
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!text.contains(SECRET), "{text}");
    let report: Value = serde_json::from_str(&text).unwrap();
    for part in ["versions", "platform", "checks", "settings", "status", "health", "locks"] {
        assert!(report[part].is_object() || report[part].is_array(), "{part}: {text}");
    }
    assert_eq!(report["locks"]["held"], 1);
    let (_, status) = place.atlock(&["doctor", "--bundle", file.to_str().unwrap()]);
    assert_eq!((status, std::fs::read_to_string(&file).unwrap()), (1, text), "no file is overwritten");
}
