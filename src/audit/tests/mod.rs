//! The trail as a whole, and its file.

mod chain;
mod file;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use serde_json::Value;

use super::{Actor, AuditLog, Event, Hash, Kind, Person, Trail, Via, verify};
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

fn open(settings: &config::Audit) -> AuditLog {
    AuditLog::of(settings).expect("opens").expect("is on")
}

fn service(folder: &Path, audit: &Path) -> Service {
    service_with(folder, &format!("file: {audit:?}"))
}

fn service_with(folder: &Path, audit: &str) -> Service {
    let text = format!("locking: {{backend: sled, data_dir: {:?}, audit: {{{audit}}}}}", folder.join("locks"));
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
    let bob = Actor { via: Some(Via::Page), by: Some(Person { user: Some("bob".to_owned()), ..Person::default() }) };
    service.acting_as(bob).unlock(target).expect("releases");
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
            let holder = line["holder"]["user"].as_str().unwrap_or("-");
            format!("{} {} {name} {} {} {holder} {}", of("kind"), of("operation"), line["pull"], of("user"), of("via"))
        })
        .collect();
    assert_eq!(
        told,
        [
            "grant try_lock acme/infra/a/default/ 1 ada - -",
            "refusal try_lock acme/infra/a/default/ 2 bob ada -",
            "release unlock acme/infra/a/default/ 1 - ada page",
            "grant try_lock acme/infra/b/default/ 3 eve - -",
            "grant try_lock acme/infra/c/default/ 3 eve - -",
            "release unlock_by_pull acme/infra/b/default/ 3 - eve -",
            "release unlock_by_pull acme/infra/c/default/ 3 - eve -",
            "grant lock_command apply null - - -",
            "refusal lock_command apply null - - -",
            "release unlock_command apply null - - -",
            "grant try_lock acme/infra/d/default/ 4 ada - -",
            "discard discard acme/infra/d/default/ 4 - ada -",
        ]
    );
    assert!(lines[0]["token"].as_u64() > Some(0) && lines[1]["token"].is_null());
    assert_eq!(lines[1]["holder"], serde_json::json!({"repo": "acme/infra", "pull": 1, "user": "ada"}));
    for line in &lines {
        assert_eq!((&line["store"], &line["instance"]), (&"legacy".into(), &service.status().instance.into()));
        let time = line["time"].as_str().expect("a time");
        assert!(time.len() == "2026-11-24T08:17:00.000000Z".len() && time.ends_with('Z'), "{time}");
    }
    assert_eq!(lines[2]["by"], serde_json::json!({"user": "bob"}), "who released, and not who held");
    assert!(lines.iter().enumerate().all(|(at, line)| at == 2 || line["by"].is_null()), "nobody else is known");
    assert_eq!(service.status().warnings, [""; 0]);
}

#[test]
fn an_error_has_its_code_and_no_credentials() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("audit");
    let log = open(&settings(&file));
    let (actor, request) = (Actor::default(), "r");
    let trail =
        Trail { log: &log, operation: Operation::Unlock, store: AnsweredBy::Fallback, instance: "i", actor: &actor, request };
    let said = format!("\"https://bot:{SECRET}@example.com/a?b=c@d\" and git://{SECRET}@host, http://plain");
    trail.removal(Kind::Release, LockKey::Project("k"), &Err(Error::new(Code::OutcomeUnknown, said)));
    trail.releases(PullRef { repo: "acme/infra", num: 7 }, &Err(Error::new(Code::Degraded, "later")));
    let lines = lines(&file);
    assert_eq!((&lines[0]["kind"], &lines[0]["code"]), (&"error".into(), &"outcome_unknown".into()));
    assert_eq!(lines[0]["detail"], "\"https://example.com/a?b=c@d\" and git://host, http://plain");
    assert_eq!((&lines[1]["pull"], &lines[1]["code"]), (&7.into(), &"degraded".into()));
}

/// Four writers at once, each of which opens the trail so often and writes. How many lines they lost: on a machine that is overloaded a writer may
/// wait for a second in vain, and counts that.
fn by_four_writers(settings: &config::Audit, write: impl Fn(&AuditLog) + Sync, opens: usize) -> u64 {
    let writer = || -> u64 {
        let lost = (0..opens).map(|_| {
            let log = open(settings);
            write(&log);
            log.lost().get()
        });
        lost.sum()
    };
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4).map(|_| scope.spawn(writer)).collect();
        writers.into_iter().map(|writer| writer.join().expect("ends well")).sum()
    })
}

/// Writes a trail of several files, and returns its lines.
fn long_trail(file: &Path, keep: u32, lines: usize) {
    let log = open(&config::Audit { max_bytes: 4096, keep, ..settings(file) });
    (0..lines).for_each(|number| log.record(&event(&format!("number {number}"))));
}

fn faults(file: &Path) -> Vec<String> {
    let faults = verify(file, None).expect("reads").faults;
    let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    faults.into_iter().map(|fault| format!("{}:{}: {}", name(&fault.file), fault.line, fault.what)).collect()
}

#[test]
fn a_change_that_cannot_be_recorded_is_refused_if_that_is_required() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("audit");
    let service = service_with(folder.path(), &format!("file: {file:?}, required: true"));
    let target = br#"{"Key":"acme/infra/a/default/"}"#;
    service.try_lock(&lock("a", 1, "ada")).expect("takes");
    service.lock_command("apply", b"{}").expect("takes");
    let kinds = |from: usize| -> Vec<String> {
        lines(&file)[from..].iter().map(|line| line["kind"].as_str().expect("a kind").to_owned()).collect()
    };
    assert_eq!(kinds(0), ["intent", "grant", "intent", "grant"]);
    let told = lines(&file);
    assert!(told[0]["request"].is_string() && told[0]["request"] == told[1]["request"] && told[0]["pull"] == 1);
    assert_eq!((&told[0]["key"], &told[2]["command"]), (&"acme/infra/a/default/".into(), &"apply".into()));

    fs::remove_file(&file).expect("removes");
    symlink("/dev/full", &file).expect("links");
    let refused = |error: Error| {
        assert_eq!(error.code(), Code::AuditFailed, "{error}");
        assert!(error.message().contains("nothing was changed") && error.message().contains("No space left"), "{error}");
    };
    refused(service.try_lock(&lock("b", 2, "bob")).expect_err("is refused"));
    refused(service.unlock(target).expect_err("is refused"));
    refused(service.unlock_if_owned_by_pull(&lock("a", 1, ""), 1).expect_err("is refused"));
    refused(service.unlock_by_pull("acme/infra", 1).expect_err("is refused"));
    refused(service.discard(target).expect_err("is refused"));
    refused(service.lock_command("plan", b"{}").expect_err("is refused"));
    refused(service.unlock_command("apply").expect_err("is refused"));
    assert_eq!(service.list().expect("lists").values().count(), 1, "nothing was changed");
    assert!(service.check_command_lock("apply").expect("reads").is_some());
    assert!(service.check_command_lock("plan").expect("reads").is_none());
    assert_eq!(service.status().warnings.len(), 1);

    fs::remove_file(&file).expect("removes");
    service.unlock_by_pull("acme/infra", 1).expect("releases");
    service.unlock_by_pull("acme/infra", 1).expect("does nothing");
    assert_eq!(kinds(0), ["intent", "release", "intent", "unchanged"]);
    assert_eq!(service.status().warnings.len(), 0);
}

#[test]
fn an_actor_is_read_as_it_is_written() {
    let text = r#"{"via":"command_line","by":{"user":"root","uid":0,"pid":7}}"#;
    let actor: Actor = serde_json::from_str(text).expect("reads");
    assert_eq!(serde_json::to_string(&actor).expect("writes"), text);
    serde_json::from_str::<Actor>(r#"{"via":"somehow"}"#).expect_err("is no way");
}
