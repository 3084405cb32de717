//! A command that was killed after its last change and before its manifest said so, or that finds a store without its data: given again, it
//! does not do twice what servers may have gone on from.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod migrate_support;
mod redis_support;
mod sled_support;
mod wait;

use std::path::Path;

use atlock::error::Code;
use atlock::migrate::{self, Options, Silent};
use migrate_support::{OPTIONS, Side, execute, release, rollback, take};
use redis_support::fields;

/// Two stores, the first with two locks.
fn ready() -> (Side, Side, tempfile::TempDir) {
    let from = Side::redis();
    let store = from.open().unwrap();
    take(&*store, fields("a"), 1);
    take(&*store, fields("b"), 2);
    store.close().unwrap();
    (from, Side::sled(), tempfile::tempdir().unwrap())
}

fn say(work: &Path, is: &str, was: &str) {
    let path = work.join("manifest.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let (is, was) = (format!("\"phase\": \"{is}\""), format!("\"phase\": \"{was}\""));
    assert!(text.contains(&is), "{text}");
    std::fs::write(path, text.replace(&is, &was)).unwrap();
}

/// A server releases a lock and takes another.
fn a_day(side: &Side) {
    let store = side.open().unwrap();
    release(&*store, fields("a"));
    take(&*store, fields("c"), 3);
    store.close().unwrap();
}

#[test]
fn a_complete_migration_is_not_done_again() {
    let (from, to, work) = ready();
    execute(&from, &to, work.path(), OPTIONS).unwrap();
    a_day(&to);
    let content = to.content();
    say(work.path(), "complete", "verified");
    execute(&from, &to, work.path(), OPTIONS).unwrap();
    assert_eq!(to.content(), content);
    to.open().unwrap().close().unwrap();
    // Nor undone as if the target had never decided, wherever its folder is.
    say(work.path(), "complete", "copying");
    let moved = tempfile::tempdir().unwrap();
    for file in ["manifest.json", "backup.jsonl"] {
        std::fs::rename(work.path().join(file), moved.path().join(file)).unwrap();
    }
    rollback(moved.path(), OPTIONS).unwrap();
    assert_eq!(from.content(), content);
}

#[test]
fn a_way_back_that_is_over_is_not_gone_again() {
    let (from, to, work) = ready();
    execute(&from, &to, work.path(), OPTIONS).unwrap();
    rollback(work.path(), OPTIONS).unwrap();
    a_day(&from);
    let content = from.content();
    for phase in ["returning", "undoing"] {
        say(work.path(), "returned", phase);
        rollback(work.path(), OPTIONS).unwrap();
        assert_eq!(from.content(), content, "{phase}");
        from.open().unwrap().close().unwrap();
    }
}

/// Where the target lost its data after the move, nothing tells what was released: the source stays as it was left.
#[test]
fn a_target_without_its_data_has_released_nothing() {
    let (from, _, work) = ready();
    let (to, before) = (Side::redis(), from.content());
    execute(&from, &to, work.path(), OPTIONS).unwrap();
    let to = to.emptied();
    let error = rollback(work.path(), OPTIONS).unwrap_err();
    assert!(error.code() == Code::StoreDamaged && error.message().contains("--replace-old"), "{error}");
    assert_eq!(from.content(), before);
    assert!(from.open().is_err(), "nor does it decide");
    // In the midst of the last step it is not taken for complete: what was lost is copied again.
    say(work.path(), "complete", "verified");
    execute(&from, &to, work.path(), OPTIONS).unwrap();
    assert_eq!(to.content(), before);
    let to = to.emptied();
    from.put_raw("pr/acme/infra/old/default/", &redis_support::lock_json(fields("old"), 9));
    let backup = work.path().join("backup.jsonl");
    migrate::restore(&backup, &from.side(), false, false, Options { replace_old: true, ..OPTIONS }, &Silent).unwrap();
    assert_eq!(from.content(), before);
    from.open().unwrap().close().unwrap();
    drop(to);
}

/// A store that locks were moved to, from there on, back, and back once more: each knows whose turn it is.
#[test]
fn migrations_in_a_row_are_rolled_back_in_their_order() {
    let (first, second, work) = ready();
    let (third, next) = (Side::sled(), tempfile::tempdir().unwrap());
    execute(&first, &second, work.path(), OPTIONS).unwrap();
    execute(&second, &third, next.path(), OPTIONS).unwrap();
    a_day(&third);
    let content = third.content();
    assert_eq!(rollback(work.path(), OPTIONS).unwrap_err().code(), Code::StoreMoved, "the second has moved them on");
    rollback(next.path(), OPTIONS).unwrap();
    assert_eq!(second.content(), content);
    rollback(work.path(), OPTIONS).unwrap();
    assert_eq!(first.content(), content);
    first.open().unwrap().close().unwrap();
    // From a store that has decided before, too.
    let (work, to) = (tempfile::tempdir().unwrap(), Side::sled());
    execute(&first, &to, work.path(), OPTIONS).unwrap();
    rollback(work.path(), OPTIONS).unwrap();
    assert_eq!(first.content(), content);
}
