//! The command line on pulls that wait for each other in a circle, and on pulls of one number on two Git hosts.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod wait;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use atlock::clock::SystemClock;
use atlock::config::Config;
use atlock::domain::json::parse_json;
use atlock::service::Service;
use wait::wait_until;

const KEY: &str = "acme/infra/a/default/";
const CIRCLES: &str = "priority_queue: {enabled: true}, deadlock_detection: {enabled: true, confirm: 100ms, resolve: yield}";

fn lock(path: &str, host: &str, num: i64) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({
        "Project": {"ProjectName": "", "RepoFullName": "acme/infra", "Path": path},
        "Pull": {"Num": num, "BaseRepo": {"VCSHost": {"Hostname": host}}},
        "User": {"Username": "ada"}, "Workspace": "default", "Time": "2026-11-24T08:17:00Z",
    }))
    .unwrap()
}

/// A running server, and the folder of its settings.
fn server(enhanced: &str) -> (tempfile::TempDir, Service) {
    let folder = tempfile::tempdir().unwrap();
    let settings = format!("locking: {{backend: sled, data_dir: {:?}, enhanced: {{{enhanced}}}}}", folder.path().join("locks"));
    std::fs::write(folder.path().join("locking.yaml"), &settings).unwrap();
    let config = Config::parse(&settings, "test").unwrap();
    let service = Service::open(&config, None, Arc::new(SystemClock)).unwrap();
    (folder, atlock::socket::listening(service, &config))
}

/// Standard output, standard error, and the exit status.
fn told(folder: &Path, args: &[&str]) -> (String, String, i32) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_atlock"));
    let output = command.arg("--config").arg(folder.join("locking.yaml")).args(args).env_clear().output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

fn waits(service: &Service, path: &str, host: &str, num: i64) {
    let begin = format!(r#"{{"repo":"acme/infra","pull":{{"host":"{host}","num":{num}}},"command":"plan"}}"#);
    let run = service.run_begin(&parse_json(begin.as_bytes()).unwrap()).unwrap();
    assert!(!service.try_lock_in(run, &lock(path, host, num)).unwrap().acquired);
    service.run_end(run).unwrap();
}

#[test]
fn circles_are_listed_by_the_running_server() {
    let (folder, service) = server(CIRCLES);
    let path = folder.path();
    assert_eq!(told(path, &["deadlocks"]), ("no circles\n".to_owned(), String::new(), 0));
    assert_eq!(told(path, &["deadlocks", "--json"]), ("[]\n".to_owned(), String::new(), 0));
    service.try_lock(&lock("a", "h", 1)).unwrap();
    service.try_lock(&lock("b", "h", 2)).unwrap();
    waits(&service, "b", "h", 1);
    waits(&service, "a", "h", 2);
    wait_until("the circle is confirmed", Duration::from_secs(20), || !service.deadlocks().unwrap().is_empty());
    let (text, _, status) = told(path, &["deadlocks"]);
    let lines: Vec<&str> = text.lines().collect();
    let [head, locks @ .., yields, way_out] = &lines[..] else { panic!("{text}") };
    assert!(status == 0 && head.starts_with("acme/infra  #1 -> #2 -> #1  since 20"), "{text}");
    assert_eq!(locks, ["  lock      acme/infra/b/default/", "  lock      acme/infra/a/default/"]);
    assert_eq!(*yields, "  yields    pull #2, if nothing of it is applied");
    assert!(way_out.starts_with("  way out   ") && way_out.contains("pull #2 has the last place"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&told(path, &["deadlocks", "--json"]).0).unwrap();
    assert_eq!((&json[0]["victim"]["num"], &json[0]["kind"]), (&2.into(), &"held".into()));
    service.close().unwrap();

    let (text, error, status) = told(path, &["deadlocks"]);
    assert!(status == 1 && text.is_empty() && error.contains("no server runs here that could be asked"), "{error}");
    let (folder, _service) = server("priority_queue: {enabled: true}");
    let (_, error, status) = told(folder.path(), &["deadlocks"]);
    assert!(status == 1 && error.contains("set locking.enhanced.deadlock_detection.enabled"), "{error}");
}

/// Without a host any is meant, as ever.
#[test]
fn a_pull_is_told_from_its_namesake_by_its_host() {
    let (folder, service) = server("priority_queue: {enabled: true}");
    let path = folder.path();
    service.try_lock(&lock("a", "one.example.com", 1)).unwrap();
    for host in ["one.example.com", "two.example.com"] {
        waits(&service, "a", host, 2);
    }
    let check = |host: &[&str]| told(path, &[&["check", KEY, "--pull", "1"], host].concat()).2;
    assert_eq!((check(&[]), check(&["--host", "ONE.example.com"]), check(&["--host", "two.example.com"])), (0, 0, 1));
    let explain = |host: &str| told(path, &["explain", "acme/infra", "1", "--host", host]).2;
    assert_eq!((explain("one.example.com"), explain("two.example.com")), (0, 3));
    let leave = |args: &[&str]| told(path, &[&["leave", "acme/infra", "2"], args].concat()).0;
    assert_eq!(leave(&["--host", "two.example.com"]), "pull #2 waits for 1 lock no more\n");
    assert_eq!(leave(&[KEY, "--host", "two.example.com"]), "pull #2 waits for no such lock\n");
    assert_eq!(told(path, &["queue"]).0.lines().count(), 2, "the namesake keeps its place");
    assert_eq!(leave(&["--host", "one.example.com"]), "pull #2 waits for 1 lock no more\n");
}
