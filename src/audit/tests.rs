//! The trail as a whole, and its file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;

use super::{AuditLog, Event, Kind, Trail};
use crate::call::AnsweredBy;
use crate::clock::SystemClock;
use crate::config::{self, Config};
use crate::domain::lock::PullRef;
use crate::error::{Code, Error};
use crate::operation::Operation;
use crate::service::Service;
use crate::store::LockKey;

const SECRET: &str = "s3cr3t-token";

fn settings(file: &Path) -> config::Audit {
    config::Audit { file: Some(file.to_owned()), ..config::Audit::default() }
}

fn service(folder: &Path, audit: &Path) -> Service {
    let text = format!("locking: {{backend: sled, data_dir: {:?}, audit: {{file: {audit:?}}}}}", folder.join("locks"));
    Service::open(&Config::parse(&text, "test").expect("parses"), None, Arc::new(SystemClock)).expect("opens")
}

fn lock(path: &str, num: i64, user: &str) -> Vec<u8> {
    serde_json::to_vec(&serde_json::json!({
        "Project": {"ProjectName": "", "RepoFullName": "acme/infra", "Path": path},
        "Pull": {"Num": num, "BaseRepo": {"CloneURL": format!("https://bot:{SECRET}@example.com/acme/infra.git")}},
        "User": {"Username": user}, "Workspace": "default", "Time": "2026-11-24T08:17:00Z",
    }))
    .expect("serialises")
}

fn event(detail: &str) -> Event<'_> {
    Event { detail: Some(detail), ..Event::new(Kind::Conflict, "0123456789abcdef") }
}

/// The lines of a file, each of which must be JSON and end with a line break.
fn lines(file: &Path) -> Vec<Value> {
    let text = fs::read_to_string(file).expect("reads");
    assert!(text.is_empty() || text.ends_with('\n'));
    text.lines().filter(|line| !line.is_empty()).map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn files(file: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(file.parent().expect("a folder")).expect("reads");
    entries.map(|entry| entry.expect("reads").path()).filter(|path| path.is_file()).collect()
}

#[test]
fn each_change_leaves_its_line_and_no_secret() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("audit");
    let service = service(folder.path(), &file);
    let target = br#"{"Key":"acme/infra/a/default/"}"#;
    service.try_lock(&lock("a", 1, "ada")).expect("takes");
    service.try_lock(&lock("a", 2, "bob")).expect("is refused");
    service.unlock_if_owned_by_pull(&lock("a", 1, ""), 2).expect("does nothing");
    service.unlock(target).expect("releases");
    service.unlock(target).expect("does nothing");
    service.try_lock(&lock("b", 3, "eve")).expect("takes");
    service.try_lock(&lock("c", 3, "eve")).expect("takes");
    service.unlock_by_pull("acme/infra", 3).expect("releases");
    service.lock_command("apply", b"{}").expect("takes");
    service.lock_command("apply", b"{}").expect("is refused");
    service.unlock_command("apply").expect("releases");
    service.try_lock(&lock("d", 4, "ada")).expect("takes");
    service.discard(br#"{"Key":"acme/infra/d/default/"}"#).expect("removes");

    assert_eq!(fs::metadata(&file).expect("is there").permissions().mode() & 0o777, 0o600);
    assert!(!fs::read_to_string(&file).expect("reads").contains(SECRET));
    let lines = lines(&file);
    let told: Vec<String> = lines
        .iter()
        .map(|line| {
            let of = |field: &str| line[field].as_str().unwrap_or("-").to_owned();
            let name = line["key"].as_str().or(line["command"].as_str()).unwrap_or("-");
            format!("{} {} {name} {} {}", of("kind"), of("operation"), line["pull"], of("user"))
        })
        .collect();
    assert_eq!(
        told,
        [
            "grant try_lock acme/infra/a/default/ 1 ada",
            "refusal try_lock acme/infra/a/default/ 2 bob",
            "release unlock acme/infra/a/default/ 1 ada",
            "grant try_lock acme/infra/b/default/ 3 eve",
            "grant try_lock acme/infra/c/default/ 3 eve",
            "release unlock_by_pull acme/infra/b/default/ 3 eve",
            "release unlock_by_pull acme/infra/c/default/ 3 eve",
            "grant lock_command apply null -",
            "refusal lock_command apply null -",
            "release unlock_command apply null -",
            "grant try_lock acme/infra/d/default/ 4 ada",
            "discard discard acme/infra/d/default/ 4 ada",
        ]
    );
    assert!(lines[0]["token"].as_u64() > Some(0) && lines[1]["token"].is_null());
    assert_eq!(lines[1]["holder"], serde_json::json!({"repo": "acme/infra", "pull": 1, "user": "ada"}));
    for line in &lines {
        assert_eq!((&line["store"], &line["instance"]), (&"legacy".into(), &service.status().instance.into()));
        let time = line["time"].as_str().expect("a time");
        assert!(time.len() == "2026-11-24T08:17:00.000000Z".len() && time.ends_with('Z'), "{time}");
    }
    assert_eq!(service.status().warnings, [""; 0]);
}

#[test]
fn an_error_has_its_code_and_no_credentials() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("audit");
    let log = AuditLog::open(&settings(&file)).expect("opens");
    let trail = Trail { log: &log, operation: Operation::Unlock, store: AnsweredBy::Fallback, instance: "i", by: None };
    let said = format!("\"https://bot:{SECRET}@example.com/a?b=c@d\" and git://{SECRET}@host, http://plain");
    trail.removal(Kind::Release, LockKey::Project("k"), &Err(Error::new(Code::OutcomeUnknown, said)));
    trail.releases(PullRef { repo: "acme/infra", num: 7 }, &Err(Error::new(Code::Degraded, "later")));
    let lines = lines(&file);
    assert_eq!((&lines[0]["kind"], &lines[0]["code"]), (&"error".into(), &"outcome_unknown".into()));
    assert_eq!(lines[0]["detail"], "\"https://example.com/a?b=c@d\" and git://host, http://plain");
    assert_eq!((&lines[1]["pull"], &lines[1]["code"]), (&7.into(), &"degraded".into()));
}

#[test]
fn rotation_keeps_the_bound_with_many_threads() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("audit");
    let log = AuditLog::open(&config::Audit { max_bytes: 4096, keep: 3, ..settings(&file) }).expect("opens");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| (0..200).for_each(|length| log.record(&event(&"x".repeat(length)))));
        }
    });
    let files = files(&file);
    assert_eq!(files.len(), 4, "{files:?}");
    for path in &files {
        assert!(fs::metadata(path).expect("is there").len() <= 4096 && !lines(path).is_empty());
    }
    assert_eq!((log.lost().get(), log.warning()), (0, None));
}

/// As processes do: a server, and operators' commands.
#[test]
fn writers_lose_nothing_when_the_file_is_moved() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("audit");
    let settings = config::Audit { max_bytes: 4096, keep: 100, ..settings(&file) };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let log = AuditLog::open(&settings).expect("opens");
            scope.spawn(move || (0..500).for_each(|_| log.record(&event("one of many"))));
        }
    });
    let files = files(&file);
    assert_eq!(files.iter().map(|path| lines(path).len()).sum::<usize>(), 2000);
    for moved in files.iter().filter(|path| **path != file) {
        assert!(fs::metadata(moved).expect("is there").len() > 3500, "{moved:?} was moved by two, one after the other");
    }
}

#[test]
fn a_torn_line_is_closed_at_the_next_open() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("audit");
    fs::write(&file, "{\"kind\":\"gra").expect("writes");
    AuditLog::open(&settings(&file)).expect("opens").record(&event("next"));
    let text = fs::read_to_string(&file).expect("reads");
    let (torn, next) = text.split_once('\n').expect("two lines");
    assert_eq!(torn, "{\"kind\":\"gra");
    assert!(serde_json::from_str::<Value>(next.strip_suffix('\n').expect("one line")).is_ok(), "{next}");
}

#[test]
fn a_line_cut_short_is_closed_by_the_next() {
    let folder = tempfile::tempdir().expect("folder");
    let pipe = folder.path().join("audit");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("runs").success());
    let log = AuditLog::open(&settings(&pipe)).expect("opens");
    let long = "x".repeat(5000);
    let mut reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&pipe).expect("opens");
    while log.warning().is_none() {
        log.record(&event(&long));
    }
    let mut text = Vec::new();
    // The writer is open: the end of what is there is no end of file.
    assert_eq!(reader.read_to_end(&mut text).expect_err("no more").kind(), io::ErrorKind::WouldBlock);
    log.record(&event("next"));
    reader.read_to_end(&mut text).expect_err("no more");
    let text = String::from_utf8(text).expect("UTF-8");
    let valid = text.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count();
    assert_eq!(valid, text.lines().count() - 1, "all but the one that was cut short");
    let last: Value = serde_json::from_str(text.lines().last().expect("lines")).expect("is whole");
    assert_eq!(last["detail"], "next");
    assert_eq!((log.lost().get(), log.warning()), (1, None));
}

#[test]
fn a_full_disk_is_a_warning_and_no_failure() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("audit");
    symlink("/dev/full", &file).expect("links");
    let service = service(folder.path(), &file);
    assert!(service.status().warnings.is_empty());
    service.try_lock(&lock("a", 1, "ada")).expect("takes all the same");
    service.unlock_by_pull("acme/infra", 1).expect("releases all the same");
    let warnings = service.status().warnings;
    assert!(warnings[0].contains(&format!("{}", file.display())) && warnings[0].contains("No space left"), "{warnings:?}");
    assert!(warnings[0].ends_with("events missing from it: 2"), "{warnings:?}");
    assert!(service.metrics().contains("\natlock_audit_events_lost_total 2\n"));

    fs::remove_file(&file).expect("removes");
    service.try_lock(&lock("a", 1, "ada")).expect("takes");
    assert_eq!((service.status().warnings.len(), lines(&file).len()), (0, 1));
}

#[test]
fn an_unwritable_file_is_a_warning_and_no_failure() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("trail").join("audit");
    fs::create_dir(folder.path().join("trail")).expect("creates");
    let service = service(folder.path(), &file);
    service.try_lock(&lock("a", 1, "ada")).expect("takes");
    fs::rename(folder.path().join("trail"), folder.path().join("gone")).expect("moves");
    service.try_lock(&lock("a", 2, "bob")).expect("is refused all the same");
    let warnings = service.status().warnings;
    assert!(warnings[0].contains("cannot be written: No such file"), "{warnings:?}");
    fs::create_dir(folder.path().join("trail")).expect("creates");
    service.try_lock(&lock("a", 3, "eve")).expect("is refused");
    assert_eq!((service.status().warnings.len(), lines(&file).len()), (0, 1));
}

#[test]
fn a_file_that_cannot_be_moved_grows_and_says_so() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("audit");
    fs::create_dir(folder.path().join("audit.1")).expect("creates");
    let log = AuditLog::open(&config::Audit { max_bytes: 4096, keep: 1, ..settings(&file) }).expect("opens");
    (0..100).for_each(|_| log.record(&event("one of many")));
    assert_eq!((lines(&file).len(), log.lost().get()), (100, 0));
    assert!(log.warning().expect("a warning").contains("is full and cannot be moved to .1"));
    File::open(&file).expect("opens").try_lock().expect("another process may try to move it");
    fs::remove_dir(folder.path().join("audit.1")).expect("removes");
    log.record(&event("next"));
    assert_eq!((lines(&file).len(), log.warning()), (1, None));
}

#[test]
fn a_trail_that_cannot_begin_is_an_error() {
    let folder = tempfile::tempdir().expect("folder");
    let error = AuditLog::open(&settings(&folder.path().join("none/audit"))).expect_err("no such folder");
    assert_eq!(error.code(), Code::InvalidConfig);
    assert!(error.message().contains("locking.audit.file") && error.message().contains("none/audit"), "{error}");
}
