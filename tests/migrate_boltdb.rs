//! Atlantis's BoltDB file in a migration, beside what every store goes through (`tests/migrate.rs`, `tests/migrate_kill.rs`): what is in a
//! file that is old, odd or not alone, and the command of the linked server's program.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod migrate_support;
mod redis_support;
mod sled_support;
mod wait;

use std::path::Path;
use std::sync::Arc;

use atlock::clock::SystemClock;
use atlock::config::Config;
use atlock::error::Code;
use atlock::migrate::{self, Options, Report, Silent};
use atlock::migration_command::{Typed, typed};
use atlock::service::Service;
use atlock::store::contract::copy::{CopyStore as _, HostWrite};
use atlock::store::contract::local::EntryKey;
use migrate_support::{OPTIONS, Side, as_both_can, execute, fill, local, odd_fields, odd_path, release, rollback, shut, take};
use redis_support::{Server, fields, lock_json};

fn plan(from: &Side, to: &Side, work: &Path, options: Options<'_>) -> Report {
    migrate::plan(&from.side(), &to.side(), work, options, &Silent).unwrap()
}

/// Writes into the file, whatever it is; `mark`: hybrid mode's.
fn write(side: &Side, entries: &[(EntryKey, Option<&[u8]>)], mark: Option<&str>) {
    let store = local::open(side.file().parent().unwrap()).unwrap();
    let writes: Vec<_> = entries.iter().map(|(key, value)| HostWrite { key, value: *value }).collect();
    store.apply(&writes, mark).unwrap();
}

fn project(key: &str) -> EntryKey {
    EntryKey::Project(key.to_owned())
}

#[test]
fn old_keys_go_along_and_what_cannot_be_read_stays_and_is_named() {
    let (from, to, work) = (Side::boltdb(), Side::sled(), tempfile::tempdir().unwrap());
    let lock = lock_json(fields("old"), 1);
    let (old, today) = (project("acme/infra/old/default"), project("acme/infra/old/default/"));
    let poison = [
        (project("poison \u{1b}[2J"), Some(&b"not JSON"[..])),
        (EntryKey::Status("h::acme/infra::9".to_owned()), Some(&b"{"[..])),
        (project("acme/infra/wrong/default/"), Some(&lock[..])),
    ];
    write(&from, &[(old.clone(), Some(&lock)), (EntryKey::Command("apply".to_owned()), Some(b"{}"))], None);
    write(&from, &poison, None);
    // What a plan looks at it does not change: the lock has its old key until then.
    let strict = Options { strict: true, ..OPTIONS };
    let report = plan(&from, &to, work.path(), strict);
    assert!(report.problems[0].contains("3 entries cannot be taken along"), "{:?}", report.problems);
    assert!(execute(&from, &to, work.path(), strict).is_err());
    let report = execute(&from, &to, work.path(), OPTIONS).unwrap();
    assert_eq!((report.skipped.len(), report.agreed), (3, 2), "{report:?}");
    let content = to.content();
    assert_eq!(content.keys().collect::<Vec<_>>(), [&today, &EntryKey::Command("apply".to_owned())]);
    assert_eq!(content[&today].value, lock);
    let manifest = std::fs::read_to_string(work.path().join("manifest.json")).unwrap();
    assert!(manifest.contains("h::acme/infra::9") && manifest.contains("poison"), "{manifest}");
    assert!(poison.iter().all(|(key, value)| from.content()[key].value == value.unwrap()), "they stay where they are");
    rollback(work.path(), OPTIONS).unwrap();
    let back = from.content();
    assert_eq!(back[&today].value, lock);
    assert!(poison.iter().all(|(key, value)| back[key].value == value.unwrap()) && back.len() == 5, "{back:?}");
}

#[test]
fn an_entry_in_the_file_that_cannot_be_read_is_not_overwritten() {
    let (from, to, work) = (Side::sled(), Side::boltdb(), tempfile::tempdir().unwrap());
    let store = from.open().unwrap();
    take(&*store, fields("a"), 1);
    shut(store);
    write(&to, &[(project("acme/infra/a/default/"), Some(b"garbage"))], None);
    assert_eq!(plan(&from, &to, work.path(), OPTIONS).conflicts[0].target, "an entry that cannot be read");
    assert!(execute(&from, &to, work.path(), OPTIONS).is_err());
    assert_eq!(to.content()[&project("acme/infra/a/default/")].value, b"garbage");
}

/// Queues and freezes have no place in the file: they are told, and stay where they are.
#[test]
fn what_a_file_cannot_have_is_named_and_is_not_lost() {
    let (from, to, work) = (Side::sled(), Side::boltdb(), tempfile::tempdir().unwrap());
    let store = from.open().unwrap();
    fill(&*store, 2);
    shut(store);
    let before = from.content();
    assert_eq!(plan(&from, &to, work.path(), OPTIONS).skipped.len(), 2);
    let strict = Options { strict: true, ..OPTIONS };
    assert!(plan(&from, &to, work.path(), strict).problems[0].contains("2 entries cannot be taken along"));
    let report = execute(&from, &to, work.path(), OPTIONS).unwrap();
    assert!(report.skipped.iter().all(|skipped| skipped.reason.contains("no queues and no freezes")), "{report:?}");
    let found = migrate::verify(&work.path().join("manifest.json"), None, OPTIONS).unwrap();
    assert_eq!((found.same, found.entries, found.is_as_compared), (4, 4, Some(true)));
    rollback(work.path(), OPTIONS).unwrap();
    assert_eq!(from.content(), before, "with its tokens");
}

#[test]
fn a_copy_that_hybrid_mode_keeps_is_no_source() {
    let (from, to, work) = (Side::boltdb(), Side::sled(), tempfile::tempdir().unwrap());
    write(&from, &[(EntryKey::Command("apply".to_owned()), Some(b"{}"))], Some("7 a server"));
    let problems = plan(&from, &to, work.path(), OPTIONS).problems;
    assert!(problems.len() == 1 && problems[0].contains("is a copy that hybrid mode keeps"), "{problems:?}");
    assert!(execute(&from, &to, work.path(), OPTIONS).is_err());
    assert!(from.open().is_ok() && !to.exists(), "nothing was changed");
    // Somebody has decided there since.
    write(&from, &[], None);
    execute(&from, &to, work.path(), OPTIONS).unwrap();
    // The way back leaves hybrid mode's mark, and that somebody wrote since.
    rollback(work.path(), OPTIONS).unwrap();
    let mark = local::open(from.file().parent().unwrap()).unwrap().dump().unwrap().mark.unwrap();
    assert_eq!((mark.text.as_str(), mark.written_since), ("7 a server", true));
}

/// Strict mode's start after hybrid mode fills the file, and from then on that counts.
#[test]
fn strict_mode_makes_a_source_of_the_copy() {
    let (from, to, work, server) = (Side::boltdb(), Side::sled(), tempfile::tempdir().unwrap(), Server::start(&[]));
    let folder = from.file().parent().unwrap().to_owned();
    let settings = format!(
        "locking: {{backend: boltdb, data_dir: {:?}, enhanced: {{enabled: true, compatibility_mode: hybrid, allow_unseen_redis: true, redis: \
         {{address: '{}'}}}}}}",
        folder.join("atlock"),
        server.address()
    );
    let start = |settings: &str| {
        let host = local::open(&folder).unwrap();
        Service::open(&Config::parse(settings, "test").unwrap(), Some(host), Arc::new(SystemClock)).unwrap()
    };
    let service = start(&settings);
    service.try_lock(&lock_json(fields("a"), 1)).unwrap();
    service.close().unwrap();
    drop(service);
    let problems = plan(&from, &to, work.path(), OPTIONS).problems;
    assert!(problems[0].contains("is a copy that hybrid mode keeps"), "{problems:?}");
    let service = start(&settings.replace("enabled: true", "enabled: false"));
    service.close().unwrap();
    drop(service);
    assert_eq!(plan(&from, &to, work.path(), OPTIONS).problems, Vec::<String>::new());
    // Native mode leaves word in the data folder beside the file.
    let service = start(&settings.replace("hybrid", "native"));
    service.close().unwrap();
    drop(service);
    let problems = plan(&from, &to, work.path(), OPTIONS).problems;
    assert!(problems.iter().any(|text| text.contains("native mode was in use last")), "{problems:?}");
}

#[test]
fn wrong_files_are_told() {
    let (from, to, work) = (Side::boltdb(), Side::sled(), tempfile::tempdir().unwrap());
    let problems = plan(&from, &to, work.path(), OPTIONS).problems;
    assert!(problems[0].contains("there is no file"), "{problems:?}");
    assert!(!from.file().exists(), "nor is it made by a look");
    write(&from, &[], None);
    assert!(plan(&from, &from, work.path(), OPTIONS).problems[0].contains("are one store"));
    let running = from.open().unwrap();
    let busy = migrate::plan(&from.side(), &to.side(), work.path(), OPTIONS, &Silent).unwrap_err();
    assert!(busy.message().contains("another Atlantis instance already running"), "{busy}");
    shut(running);
    std::fs::write(from.file(), "x".repeat(5000)).unwrap();
    let damaged = migrate::plan(&from.side(), &to.side(), work.path(), OPTIONS, &Silent).unwrap_err();
    assert!(damaged.message().contains("the file is damaged"), "{damaged}");
    let without = Options { files: None, ..OPTIONS };
    assert_eq!(migrate::plan(&from.side(), &to.side(), work.path(), without, &Silent).unwrap_err().code(), Code::Unsupported);
}

/// The target is put back from a backup of before the migration: what it lacks then was not released.
#[test]
fn an_older_file_in_the_place_of_the_target_has_released_nothing() {
    let (from, to, work) = (Side::sled(), Side::boltdb(), tempfile::tempdir().unwrap());
    write(&to, &[], None);
    let older = std::fs::read(to.file()).unwrap();
    let store = from.open().unwrap();
    take(&*store, fields("a"), 1);
    shut(store);
    let before = from.content();
    execute(&from, &to, work.path(), OPTIONS).unwrap();
    std::fs::write(to.file(), older).unwrap();
    let error = rollback(work.path(), OPTIONS).unwrap_err();
    assert!(error.code() == Code::StoreDamaged && error.message().contains("atlantis locking restore"), "{error}");
    assert_eq!(from.content(), before);
}

/// A file that was left is a target again when that is said, and a server's store afterwards.
#[test]
fn a_file_that_was_left_is_filled_again() {
    let (file, sled, work, next) = (Side::boltdb(), Side::sled(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = file.open().unwrap();
    fill(&*store, 2);
    shut(store);
    execute(&file, &sled, work.path(), OPTIONS).unwrap();
    let store = sled.open().unwrap();
    release(&*store, odd_fields(&odd_path(0)));
    take(&*store, fields("new"), 7);
    shut(store);
    let problems = plan(&sled, &file, next.path(), OPTIONS).problems;
    assert!(problems[0].contains("its locks were moved to") && problems[0].contains("--replace-old"), "{problems:?}");
    let replace = Options { replace_old: true, ..OPTIONS };
    execute(&sled, &file, next.path(), replace).unwrap();
    assert_eq!(file.content(), as_both_can(&sled.content(), [&sled, &file]));
    shut(file.open().unwrap());
}

#[test]
fn cleaning_up_leaves_what_was_not_moved() {
    let (from, to, work) = (Side::boltdb(), Side::redis(), tempfile::tempdir().unwrap());
    let store = from.open().unwrap();
    fill(&*store, 3);
    shut(store);
    write(&from, &[(project("poison"), Some(b"garbage"))], None);
    let moved = to.content().len();
    let report = execute(&from, &to, work.path(), Options { clean_up: true, ..OPTIONS }).unwrap();
    assert_eq!((report.cleaned_up, report.skipped.len(), moved), (5, 1, 0));
    assert_eq!(from.content().keys().collect::<Vec<_>>(), [&project("poison")]);
    rollback(work.path(), OPTIONS).unwrap();
    assert_eq!(from.content().len(), 6);
}

#[test]
fn a_backup_is_restored_into_a_file() {
    let (from, to, work) = (Side::redis(), Side::boltdb(), tempfile::tempdir().unwrap());
    let store = from.open().unwrap();
    fill(&*store, 3);
    shut(store);
    plan(&from, &to, work.path(), OPTIONS);
    let backup = work.path().join("backup.jsonl");
    let restore = || migrate::restore(&backup, &to.side(), false, false, OPTIONS, &Silent);
    assert_eq!(restore().unwrap().skipped.len(), 2);
    assert_eq!(to.content(), as_both_can(&from.content(), [&from, &to]));
    restore().unwrap();
    to.open().unwrap().close().unwrap();
}

fn typed_words(words: &[&str]) -> Typed {
    typed(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>(), &local::Files)
}

/// What was typed of the linked server's program: the output and the exit statuses of `atlock`, and the metrics.
#[test]
fn the_command_is_typed() {
    let (from, to, work) = (Side::boltdb(), Side::sled(), tempfile::tempdir().unwrap());
    let store = from.open().unwrap();
    fill(&*store, 1);
    shut(store);
    write(&from, &[(project("poison"), Some(b"garbage"))], None);
    let (folder, metrics) = (work.path().join("work"), work.path().join("atlock.prom"));
    let (folder, metrics) = (folder.to_str().unwrap(), metrics.to_str().unwrap());
    let (source, target) = (from.named(), to.named());
    let counted = || std::fs::read_to_string(metrics).unwrap();
    let args = ["migrate", "--from", &source, "--to", &target, "--work", folder, "--metrics", metrics];
    let Typed { status, out, err } = typed_words(&args);
    let out = String::from_utf8(out).unwrap();
    assert!(
        status == 0 && err.is_empty() && out.contains("phase     planned; nothing was changed: --execute does it\n"),
        "{out}{err}"
    );
    assert!(counted().contains("atlock_migration_entries_total{result=\"copied\"} 0\n"), "{}", counted());
    let strict = typed_words(&[&args[..], &["--execute", "--strict"]].concat());
    assert!(
        strict.status == 1 && strict.err.starts_with("atlock: ") && counted().contains("atlock_migration_failed 1\n"),
        "{strict:?}"
    );
    let done = typed_words(&[&args[..], &["--execute", "--json"]].concat());
    let report: serde_json::Value = serde_json::from_slice(&done.out).unwrap();
    assert_eq!((done.status, &report["phase"], &report["agreed"]), (0, &"complete".into(), &3.into()));
    let text = counted();
    assert!(text.contains("{result=\"copied\"} 3\n") && text.contains("{result=\"skipped\"} 1\n"), "{text}");
    assert!(text.contains("atlock_migration_failed 0\n"), "{text}");
    let manifest = format!("{folder}/manifest.json");
    assert_eq!(typed_words(&["migrate", "verify", &manifest]).status, 0);
    // The program that has no code for the file names the one that has.
    let (text, status) = migrate_support::told(&["rollback", &manifest]);
    assert!(status == 1 && text.ends_with(&format!("Type: atlantis locking rollback {manifest}\n")), "{text}");
    // The counters go on.
    assert_eq!(typed_words(&["rollback", &manifest, "--metrics", metrics]).status, 0);
    assert!(counted().contains("{result=\"copied\"} 3\n"), "nothing was changed on the way back: {}", counted());
    assert_eq!(typed_words(&["rollback", &manifest]).status, 0);
    for (words, status, text) in [
        (&["--help"][..], 0, "Usage: atlantis locking "),
        (&["migrate", "--from", "sled:/x"], 2, "--to <STORE>"),
        (&["list"], 2, "unrecognized subcommand"),
        (&["--json", "rollback", "/nonexistent/manifest.json"], 1, "{\"error\":{\"code\":\"invalid_argument\""),
    ] {
        let told = typed_words(words);
        let all = String::from_utf8_lossy(&told.out).into_owned() + &told.err;
        assert!(told.status == status && all.contains(text), "{words:?}: {told:?}");
    }
}
