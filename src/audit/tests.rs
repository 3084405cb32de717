//! The trail as a whole, and its file.

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

#[test]
fn rotation_keeps_the_bound_with_many_threads() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("audit");
    let log = open(&config::Audit { max_bytes: 4096, keep: 3, ..settings(&file) });
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

/// As processes do: a server, and operators' commands.
#[test]
fn writers_lose_nothing_when_the_file_is_moved() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("audit");
    let settings = config::Audit { max_bytes: 4096, keep: 100, ..settings(&file) };
    let lost = by_four_writers(&settings, |log| (0..500).for_each(|_| log.record(&event("one of many"))), 1);
    let files = files(&file);
    assert_eq!(files.iter().map(|path| lines(path).len() as u64).sum::<u64>() + lost, 2000);
    for moved in files.iter().filter(|path| **path != file) {
        assert!(fs::metadata(moved).expect("is there").len() > 3500, "{moved:?} was moved by two, one after the other");
    }
}

#[test]
fn a_torn_line_is_closed_at_the_next_open() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("audit");
    fs::write(&file, "{\"kind\":\"gra").expect("writes");
    open(&settings(&file)).record(&event("next"));
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
    let log = open(&settings(&pipe));
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
    let log = open(&config::Audit { max_bytes: 4096, keep: 1, ..settings(&file) });
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
    let error = AuditLog::of(&settings(&folder.path().join("none/audit"))).expect_err("no such folder");
    assert_eq!(error.code(), Code::InvalidConfig);
    assert!(error.message().contains("locking.audit.file") && error.message().contains("none/audit"), "{error}");
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

/// Replaces the lines of a file.
fn edit(file: &Path, change: impl FnOnce(&mut Vec<String>)) {
    let mut lines: Vec<String> = fs::read_to_string(file).expect("reads").lines().map(str::to_owned).collect();
    change(&mut lines);
    fs::write(file, lines.join("\n") + "\n").expect("writes");
}

#[test]
fn a_whole_trail_is_found_whole_across_its_files_and_writers() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("audit");
    let settings = config::Audit { max_bytes: 4096, keep: 100, ..settings(&file) };
    let lost = by_four_writers(&settings, |log| log.record(&event("one of many")), 100);
    let found = verify(&file, None).expect("reads");
    assert_eq!((found.lines + lost, &found.faults[..], &found.notes[..]), (400, &[][..], &[][..]));
    assert_eq!(found.files, files(&file).len());
    let text = fs::read_to_string(&file).expect("reads");
    let last = text.lines().next_back().expect("a line");
    assert_eq!(found.last, Some(Hash::of(last.as_bytes())));
}

#[test]
fn what_was_done_to_the_lines_is_found() {
    type Act = fn(&mut Vec<String>);
    let acts: [(&str, Act, &[&str]); 5] = [
        ("removed", |lines| drop(lines.remove(3)), &["audit.2:4: does not follow the line before it"]),
        ("changed", |lines| lines[3] = lines[3].replace("number", "Number"), &["audit.2:5: does not follow the line before it"]),
        (
            "swapped",
            |lines| lines.swap(3, 4),
            &[
                "audit.2:4: does not follow the line before it",
                "audit.2:5: stands in the wrong place",
                "audit.2:6: stands in the wrong place",
            ],
        ),
        ("told twice", |lines| lines.insert(4, lines[3].clone()), &["audit.2:5: stands in the wrong place"]),
        (
            "forged",
            |lines| lines.insert(4, r#"{"kind":"grant"}"#.to_owned()),
            &["audit.2:5: has no hash", "audit.2:6: stands in the"],
        ),
    ];
    for (name, act, expected) in acts {
        let folder = tempfile::tempdir().expect("folder");
        let file = folder.path().join("audit");
        long_trail(&file, 100, 60);
        assert_eq!(faults(&file), [""; 0]);
        edit(&folder.path().join("audit.2"), act);
        let found = faults(&file);
        let is_expected =
            found.len() == expected.len() && found.iter().zip(expected).all(|(found, text)| found.starts_with(text));
        assert!(is_expected, "{name}: {found:#?}");
    }
}

#[test]
fn a_missing_file_and_cut_lines_are_found() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("audit");
    long_trail(&file, 100, 120);
    let before = verify(&file, None).expect("reads");
    fs::remove_file(folder.path().join("audit.2")).expect("removes");
    assert_eq!(
        faults(&file),
        ["audit.1:1: does not follow the line before it: that one was changed, or lines in between are missing"]
    );
    let oldest = files(&file).len();
    fs::remove_file(folder.path().join(format!("audit.{oldest}"))).expect("removes");
    assert!(faults(&file)[0].contains("lines before it are missing, and no entry tells that they were dropped"));

    // The newest lines alone are not missed, unless their hash was kept.
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("audit");
    long_trail(&file, 100, 60);
    let anchor = verify(&file, None).expect("reads").last;
    assert_ne!(anchor, before.last);
    assert_eq!(verify(&file, anchor).expect("reads").faults, []);
    edit(&file, |lines| drop(lines.pop()));
    assert_eq!(faults(&file), [""; 0]);
    let found = verify(&file, anchor).expect("reads");
    assert!(found.faults[0].what.contains("the newest lines were cut off"), "{found:?}");
}

#[test]
fn what_is_dropped_is_an_entry() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("audit");
    long_trail(&file, 2, 200);
    let mut all: Vec<Value> = Vec::new();
    for path in [folder.path().join("audit.2"), folder.path().join("audit.1"), file.clone()] {
        all.extend(lines(&path));
    }
    assert_eq!(files(&file).len(), 3);
    let dropped: Vec<&Value> = all.iter().filter(|line| line["kind"] == "dropped").map(|line| &line["dropped"]).collect();
    assert!(!dropped.is_empty() && dropped.iter().all(|dropped| dropped["file"] == "audit.3"), "{dropped:?}");
    let found = verify(&file, None).expect("reads");
    assert_eq!(found.faults, []);
    assert!(found.notes[0].what.contains("older files were dropped"), "{found:?}");

    // Fewer are kept from now on.
    long_trail(&file, 1, 30);
    assert_eq!(files(&file).len(), 2);
    assert_eq!(faults(&file), [""; 0]);
}

#[test]
fn a_torn_line_is_told_from_one_that_was_cut() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("audit");
    long_trail(&file, 5, 3);
    let whole = fs::read(&file).expect("reads");
    fs::write(&file, &whole[..whole.len() - 20]).expect("writes");
    let found = verify(&file, None).expect("reads");
    assert_eq!((found.faults.len(), found.notes.len(), found.notes[0].line), (0, 1, 3), "{found:?}");
    long_trail(&file, 5, 1);
    let found = verify(&file, None).expect("reads");
    assert_eq!((found.faults, found.lines), (vec![], 4));
    assert!(found.notes[0].line == 3 && found.notes[0].what.contains("was cut short when it was written"));
    edit(&file, |lines| lines[2].truncate(30));
    assert!(faults(&file)[0].starts_with("audit:4: does not follow the line before it"));
}

#[test]
fn a_trail_of_before_goes_on_with_hashes() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("audit");
    fs::write(&file, "{\"kind\":\"grant\"}\n{\"kind\":\"release\"}\n").expect("writes");
    long_trail(&file, 5, 2);
    let found = verify(&file, None).expect("reads");
    assert_eq!((found.unchained, found.lines, found.faults), (2, 4, vec![]));
    edit(&file, |lines| drop(lines.remove(1)));
    assert_eq!(faults(&file).len(), 1, "the last of them has a hash");
}

/// A file that somebody else removes leaves a gap.
#[test]
fn a_removed_file_is_missed_as_long_as_the_writer_lives() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("audit");
    let log = open(&settings(&file));
    log.record(&event("one"));
    fs::remove_file(&file).expect("removes");
    log.record(&event("two"));
    assert!(faults(&file)[0].starts_with("audit:1: lines before it are missing"), "{:?}", faults(&file));
}

#[test]
fn a_process_that_keeps_the_file_locked_costs_a_line_and_no_wait_for_each() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("audit");
    let log = open(&settings(&file));
    let other = File::open(&file).expect("opens");
    other.lock().expect("locks");
    (0..50).for_each(|_| log.record(&event("lost")));
    assert_eq!(log.lost().get(), 50);
    assert!(log.warning().expect("a warning").contains("another process keeps it locked"));
    other.unlock().expect("unlocks");
    log.record(&event("next"));
    assert_eq!((lines(&file).len(), log.warning()), (1, None));
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
fn a_folder_that_was_made_read_only_is_told() {
    let folder = tempfile::tempdir().expect("folder");
    let place = folder.path().join("trail");
    fs::create_dir(&place).expect("creates");
    let file = place.join("audit");
    let service = service_with(folder.path(), &format!("file: {file:?}, required: true, max_bytes: 4096"));
    service.try_lock(&lock("a", 1, "ada")).expect("takes");
    // Root writes into any folder: a file where the next one is to be stands for the missing right.
    fs::create_dir(place.join("audit.1")).expect("creates");
    fs::set_permissions(&place, fs::Permissions::from_mode(0o500)).expect("sets");
    (0..40).for_each(|_| drop(service.unlock(br#"{"Key":"none"}"#)));
    service.unlock_by_pull("acme/infra", 1).expect("the file that is there takes it");
    assert!(service.status().warnings[0].contains("is full and cannot be moved to .1"), "{:?}", service.status().warnings);
    assert_eq!(faults(&file), [""; 0]);
    fs::set_permissions(&place, fs::Permissions::from_mode(0o700)).expect("sets");
}

#[test]
fn an_actor_is_read_as_it_is_written() {
    let text = r#"{"via":"command_line","by":{"user":"root","uid":0,"pid":7}}"#;
    let actor: Actor = serde_json::from_str(text).expect("reads");
    assert_eq!(serde_json::to_string(&actor).expect("writes"), text);
    serde_json::from_str::<Actor>(r#"{"via":"somehow"}"#).expect_err("is no way");
}
