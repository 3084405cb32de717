//! The command line on the embedded store: what an operator types, sees, and gets as exit status.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod redis_support;
mod wait;

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use atlock::clock::SystemClock;
use atlock::config::Config;
use atlock::service::Service;

const SECRET: &str = "s3cr3t-token";

fn lock(path: &str, num: i64) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({
        "Project": {"ProjectName": "", "RepoFullName": "acme/infra", "Path": path},
        "Pull": {"Num": num, "BaseRepo": {"CloneURL": format!("https://bot:{SECRET}@example.com/acme/infra.git")}},
        "User": {"Username": "ada"}, "Workspace": "default", "Time": "2026-11-24T08:17:00Z",
    }))
    .unwrap()
}

/// A folder with a settings file and a store that holds two locks.
fn prepared() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let settings = format!("locking: {{backend: sled, data_dir: {:?}}}\n", folder.path().join("locks"));
    std::fs::write(folder.path().join("locking.yaml"), &settings).unwrap();
    let service = Service::open(&Config::parse(&settings, "test").unwrap(), None, Arc::new(SystemClock)).unwrap();
    service.try_lock(&lock("a", 1)).unwrap();
    service.try_lock(&lock("b", 2)).unwrap();
    folder
}

fn atlock(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_atlock"));
    command.arg("--config").arg(folder.join("locking.yaml")).args(args).env_clear().output().unwrap()
}

/// Its standard output, which must not show a secret, and its exit status.
fn told(folder: &Path, args: &[&str]) -> (String, i32) {
    let output = atlock(folder, args);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(args.contains(&"--json") || !text.contains(SECRET), "{text}");
    (text, output.status.code().unwrap())
}

#[test]
fn locks_are_listed_shown_and_released() {
    let folder = prepared();
    let folder = folder.path();
    let (text, status) = told(folder, &["list"]);
    assert_eq!(status, 0);
    assert_eq!(
        text,
        "\"acme/infra/a/default/\"  pull #1  ada  2026-11-24T08:17:00Z\n\"acme/infra/b/default/\"  pull #2  ada  2026-11-24T08:17:00Z\n"
    );
    assert_eq!(told(folder, &["get", "acme/infra/a/default/", "--json"]), (String::from_utf8(lock("a", 1)).unwrap() + "\n", 0));
    assert_eq!(told(folder, &["unlock", "acme/infra/a/default/"]).1, 0);
    assert_eq!(told(folder, &["unlock", "acme/infra/a/default/"]), ("no lock \"acme/infra/a/default/\"\n".to_owned(), 3));
    assert_eq!(told(folder, &["get", "acme/infra/a/default/", "--json"]), ("null\n".to_owned(), 3));
    assert_eq!(told(folder, &["unlock-pull", "acme/infra", "1"]), ("no locks\n".to_owned(), 3));
    assert_eq!(told(folder, &["unlock-pull", "acme/infra", "2"]).1, 0);
    assert_eq!(told(folder, &["list"]), ("no locks\n".to_owned(), 0));
    assert_eq!(told(folder, &["list", "--json"]), ("{\"locks\":[],\"unreadable\":[]}\n".to_owned(), 0));
    assert_eq!(told(folder, &["discard", "nothing"]).1, 3);
}

#[test]
fn version_and_status() {
    let folder = prepared();
    assert_eq!(told(folder.path(), &["version"]), (format!("atlock {}\n", env!("CARGO_PKG_VERSION")), 0));
    let (text, status) = told(folder.path(), &["status"]);
    assert!(status == 0 && text.starts_with("mode      strict\nlegacy    answered in ") && text.lines().count() == 2, "{text}");
    let (json, _) = told(folder.path(), &["status", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["status"]["mode"], &json["health"]["overall"]), (&"strict".into(), &"healthy".into()));
    let health = json["health"].as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(
        (health, &json["health"]["circuit_state"]),
        (vec!["circuit_state", "headline", "legacy", "overall"], &"disabled".into())
    );
    let status = json["status"].as_object().unwrap();
    assert!(!status.contains_key("conflicts") && !status.contains_key("armed"), "{json}");
    assert_eq!(status["fallback_active"], false);
}

#[test]
fn status_of_hybrid_mode_without_redis() {
    let folder = prepared();
    let settings = format!(
        "locking: {{data_dir: {:?}, enhanced: {{enabled: true, compatibility_mode: hybrid, allow_unseen_redis: true, redis: {{address: '127.0.0.1:1'}}}}}}",
        folder.path().join("locks")
    );
    std::fs::write(folder.path().join("locking.yaml"), settings).unwrap();
    let (text, status) = told(folder.path(), &["status"]);
    let lines: Vec<&str> = text.lines().collect();
    assert!(status == 0 && lines[0] == "mode      hybrid" && lines[1].starts_with("redis     does not work: "), "{text}");
    assert!(lines[2].starts_with("legacy    answered in "), "{text}");
    let since = lines[3].strip_prefix("breaker   open since ").expect(lines[3]);
    let (time, cause) = since.split_once(": ").expect(since);
    assert!(time.len() == "2026-11-24T08:17:00.123Z".len() && cause.contains("127.0.0.1:1"), "{text}");
    assert_eq!(lines[4], "armed     yes");
    assert_eq!(lines[5], "journal   2 keys that Redis does not know of yet");
    assert!(lines[6].starts_with("warning   Redis is not asked: "), "{text}");
    let (json, _) = told(folder.path(), &["status", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["status"]["fallback_active"], &json["status"]["conflicts"]), (&true.into(), &serde_json::json!([])));
    assert_eq!((&json["health"]["overall"], &json["health"]["circuit_state"]), (&"degraded".into(), &"open".into()));
}

#[test]
fn metrics_are_a_text_for_prometheus() {
    let (text, status) = told(prepared().path(), &["metrics"]);
    assert!(status == 0 && text.ends_with("\n# EOF\n"), "{text}");
    assert!(text.contains("\natlock_operations_total{operation=\"ping\",store=\"legacy\",result=\"ok\"} 1\n"), "{text}");
}

/// An operator who only looks may be another user than the server: the file would be theirs.
#[test]
fn changes_are_audited_and_looks_are_not() {
    let folder = prepared();
    let (settings, audit) = (folder.path().join("locking.yaml"), folder.path().join("audit"));
    let text = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, text.replace("{backend", &format!("{{audit: {{file: {audit:?}}}, backend"))).unwrap();
    for look in [&["status"][..], &["metrics"], &["list"], &["get", "acme/infra/a/default/"]] {
        assert_eq!(told(folder.path(), look).1, 0);
    }
    assert!(!audit.exists());
    assert_eq!(told(folder.path(), &["unlock", "acme/infra/a/default/"]).1, 0);
    let line = std::fs::read_to_string(&audit).unwrap();
    assert!(line.contains(r#""kind":"release""#) && line.lines().count() == 1 && !line.contains(SECRET), "{line}");
}

#[test]
fn mistakes_are_named() {
    let folder = prepared();
    let error = |args: &[&str]| {
        let output = atlock(folder.path(), args);
        assert!(!output.status.success());
        (String::from_utf8(output.stderr).unwrap(), output.status.code().unwrap())
    };
    let settings = format!("locking: {{backend: sled, data_dir: {:?}}}", folder.path().join("locks"));
    let service = Service::open(&Config::parse(&settings, "test").unwrap(), None, Arc::new(SystemClock)).unwrap();
    let (text, status) = error(&["list"]);
    assert!(status == 1 && text.contains("in use by process"), "{text}");
    drop(service);

    assert_eq!(error(&["unlock-pull", "acme/infra", "one"]).1, 2);
    assert_eq!(error(&["remove"]).1, 2);
    std::fs::write(folder.path().join("locking.yaml"), "locking: {backend: boltdb}").unwrap();
    let (text, status) = error(&["list"]);
    assert!(status == 1 && text.contains("only the server can look at the locks"), "{text}");
    std::fs::write(folder.path().join("locking.yaml"), "locking:\n  backnd: sled\n").unwrap();
    let (text, _) = error(&["list"]);
    assert!(text.contains("locking.yaml:2:3: unknown key \"backnd\"; did you mean \"backend\"?"), "{text}");
}

/// Beside a running server in hybrid mode, which has the local store open, Redis is asked.
#[test]
fn beside_a_server_in_hybrid_mode_it_asks_redis() {
    let (folder, redis) = (tempfile::tempdir().unwrap(), redis_support::Server::start(&[]));
    let settings = format!(
        "locking: {{backend: sled, data_dir: {:?}, enhanced: {{enabled: true, compatibility_mode: hybrid, redis: {{address: '{}'}}}}}}\n",
        folder.path().join("locks"),
        redis.address()
    );
    std::fs::write(folder.path().join("locking.yaml"), &settings).unwrap();
    let server = Service::open(&Config::parse(&settings, "test").unwrap(), None, Arc::new(SystemClock)).unwrap();
    server.try_lock(&lock("a", 1)).unwrap();
    let output = atlock(folder.path(), &["list"]);
    assert!(String::from_utf8(output.stdout).unwrap().contains("acme/infra/a/default/"));
    assert!(String::from_utf8(output.stderr).unwrap().contains("the server has the local store open"));
    assert_eq!(told(folder.path(), &["unlock", "acme/infra/a/default/"]).1, 0);
    assert_eq!(server.get_lock(br#"{"Key":"acme/infra/a/default/"}"#).unwrap(), None);
    assert!(matches!(server.try_lock(&lock("a", 2)).unwrap(), atlock::store::Granted::Yes { .. }));
    server.close().unwrap();
    assert_eq!(told(folder.path(), &["list"]).1, 0);
}
