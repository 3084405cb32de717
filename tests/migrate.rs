//! Moving all locks from one store to another and back, in each direction: nothing is lost, nothing is there twice, tokens stay.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod migrate_support;
mod redis_support;
mod sled_support;
mod wait;

use std::time::Instant;

use atlock::error::Code;
use atlock::store::contract::local::EntryKey;
use atlock::store::{DocumentKey, Expected, LockKey, Swap};
use migrate_support::{
    Content, OPTIONS, STATUS, Side, as_both_can, execute, fill, odd_fields, odd_path, release, rollback, shut, take, values,
};
use redis_support::call;

/// How many locks the largest store has: `ATLOCK_MIGRATE_LOCKS=10000` for a soak.
fn most() -> usize {
    std::env::var("ATLOCK_MIGRATE_LOCKS").ok().and_then(|text| text.parse().ok()).unwrap_or(1000)
}

/// There, a day's work, and back. Both sides come back, for the next.
fn there_and_back(mut from: Side, mut to: Side, sizes: &[usize]) {
    for &locks in sizes {
        (from, to) = (from.emptied(), to.emptied());
        let work = tempfile::tempdir().unwrap();
        let store = from.open().unwrap();
        fill(&*store, locks);
        shut(store);
        let before = from.content();
        let started = Instant::now();
        let report = execute(&from, &to, work.path(), OPTIONS).unwrap();
        eprintln!("{} -> {}: {locks} locks in {:?}", from.named(), to.named(), started.elapsed());
        let (all, before) = (before.clone(), as_both_can(&before, [&from, &to]));
        assert_eq!((report.agreed, report.skipped.len()), (before.len(), all.len() - before.len()));
        assert_eq!(to.content(), before, "bytes and tokens");
        assert_eq!(from.content(), all, "the source is as it was");
        assert_eq!(from.open().err().map(|e| e.code()), Some(Code::StoreMoved));
        // Given again, nothing happens.
        execute(&from, &to, work.path(), OPTIONS).unwrap();

        let day = to.open().unwrap();
        let mut expected = before.clone();
        if locks > 0 {
            release(&*day, odd_fields(&odd_path(0)));
            expected.remove(&EntryKey::Project(odd_fields(&odd_path(0)).key()));
            assert!(day.discard(LockKey::Command("apply"), &call()).unwrap().is_some());
            expected.remove(&EntryKey::Command("apply".to_owned()));
            let status = br#"{"Pull":{"Num":1},"Projects":[1]}"#;
            let swapped = day.swap_document(DocumentKey::PullStatus(STATUS), Expected::Any, Some(status), &call());
            assert_eq!(swapped.unwrap(), Swap::Done);
        }
        take(&*day, odd_fields("new"), 77);
        shut(day);
        let after = as_both_can(&to.content(), [&from, &to]);
        expected.extend(
            after
                .iter()
                .filter(|(key, _)| !before.contains_key(*key) || key.lock().is_none())
                .map(|(key, held)| (key.clone(), held.clone())),
        );
        assert_eq!(after, expected);

        rollback(work.path(), OPTIONS).unwrap();
        let back = from.content();
        assert_eq!(as_both_can(&back, [&from, &to]), after, "all that was taken and released since, with tokens");
        assert!(
            all.keys().filter(|key| !before.contains_key(*key)).all(|key| back.contains_key(key)),
            "what the other cannot have"
        );
        assert_eq!(to.open().err().map(|e| e.code()), Some(Code::StoreMoved));
        let store = from.open().unwrap();
        tokens_go_on(&after, store, &from);
    }
}

/// A lock that is taken anew has a larger token than any before.
fn tokens_go_on(before: &Content, store: Box<dyn atlock::store::Store>, side: &Side) {
    take(&*store, odd_fields("newer"), 78);
    shut(store);
    if matches!(side, Side::Boltdb(_)) {
        return;
    }
    let last = before.values().map(|held| held.token).max().unwrap_or_default();
    assert!(side.content()[&EntryKey::Project(odd_fields("newer").key())].token > last);
}

#[test]
fn embedded_to_redis_and_back() {
    there_and_back(Side::sled(), Side::redis(), &[0, 1, most()]);
}

#[test]
fn redis_to_embedded_and_back() {
    there_and_back(Side::redis(), Side::sled(), &[0, 1, most()]);
}

#[test]
fn embedded_to_embedded_and_back() {
    there_and_back(Side::sled(), Side::sled(), &[0, 1, most()]);
}

#[test]
fn redis_to_redis_and_back() {
    there_and_back(Side::redis(), Side::redis(), &[0, 1, most()]);
}

#[test]
fn cluster_to_embedded_and_back() {
    there_and_back(Side::cluster(), Side::sled(), &[1, most()]);
}

#[test]
fn redis_to_cluster_and_back() {
    there_and_back(Side::redis(), Side::cluster(), &[0, most()]);
}

#[test]
fn embedded_to_cluster_and_back() {
    there_and_back(Side::sled(), Side::cluster(), &[1]);
}

#[test]
fn cluster_to_redis_and_back() {
    there_and_back(Side::cluster(), Side::redis(), &[1]);
}

#[test]
fn boltdb_to_embedded_and_back() {
    there_and_back(Side::boltdb(), Side::sled(), &[0, 1, most()]);
}

#[test]
fn embedded_to_boltdb_and_back() {
    there_and_back(Side::sled(), Side::boltdb(), &[0, 1, most()]);
}

#[test]
fn boltdb_to_redis_and_back() {
    there_and_back(Side::boltdb(), Side::redis(), &[0, 1, most()]);
}

#[test]
fn redis_to_boltdb_and_back() {
    there_and_back(Side::redis(), Side::boltdb(), &[0, 1, most()]);
}

#[test]
fn boltdb_to_boltdb_and_back() {
    there_and_back(Side::boltdb(), Side::boltdb(), &[0, 2]);
}

#[test]
fn boltdb_to_cluster_and_back() {
    there_and_back(Side::boltdb(), Side::cluster(), &[1]);
}

#[test]
fn cluster_to_boltdb_and_back() {
    there_and_back(Side::cluster(), Side::boltdb(), &[1, most()]);
}

#[test]
fn clean_up_removes_what_was_moved_and_nothing_else() {
    let (from, to, work) = (Side::redis(), Side::sled(), tempfile::tempdir().unwrap());
    let store = from.open().unwrap();
    fill(&*store, 3);
    store.close().unwrap();
    let before = from.content();
    from.put_raw("pr/poison", b"garbage");
    from.put_raw("another", b"program's");
    let report = execute(&from, &to, work.path(), migrate_options(true)).unwrap();
    assert_eq!((report.cleaned_up, report.skipped.len()), (before.len(), 1));
    let left = from.content();
    assert_eq!(left.keys().collect::<Vec<_>>(), [&EntryKey::Project("poison".to_owned())]);
    assert_eq!(to.content(), before);
    // The way back does not need what was removed.
    rollback(work.path(), OPTIONS).unwrap();
    let back = from.content();
    assert!(values(&before).iter().all(|(key, value)| back[*key].value == *value), "{back:?}");
}

/// A stock server took a lock in the Redis that was left: it is not what was moved.
#[test]
fn clean_up_leaves_what_has_changed() {
    let (from, to, work) = (Side::redis(), Side::sled(), tempfile::tempdir().unwrap());
    let store = from.open().unwrap();
    take(&*store, redis_support::fields("a"), 1);
    take(&*store, redis_support::fields("b"), 1);
    store.close().unwrap();
    execute(&from, &to, work.path(), OPTIONS).unwrap();
    let other = redis_support::lock_json(redis_support::fields("a"), 2);
    from.put_raw("pr/acme/infra/a/default/", &other);
    assert_eq!(execute(&from, &to, work.path(), migrate_options(true)).unwrap().cleaned_up, 1);
    let left = from.content();
    assert_eq!(left.values().map(|held| &held.value).collect::<Vec<_>>(), [&other]);
}

/// The target gave a larger token to a holder before: whoever was late then must not come before the one who comes now.
#[test]
fn a_token_is_larger_than_what_the_target_gave_before() {
    for to in [Side::sled(), Side::redis()] {
        let (from, work) = (Side::sled(), tempfile::tempdir().unwrap());
        let fields = redis_support::fields("a");
        let key = EntryKey::Project(fields.key());
        let store = from.open().unwrap();
        take(&*store, fields, 1);
        store.close().unwrap();
        let store = to.open().unwrap();
        take(&*store, fields, 2);
        let before = store.held(LockKey::Project(key.name()), &call()).unwrap().unwrap().token;
        release(&*store, fields);
        store.close().unwrap();
        execute(&from, &to, work.path(), OPTIONS).unwrap();
        let token = to.content()[&key].token;
        assert!(token > before && before > from.content()[&key].token, "{token} {before}");
        rollback(work.path(), OPTIONS).unwrap();
        assert_eq!(from.content()[&key].token, token, "nor does it go back with the lock");
    }
}

fn migrate_options(clean_up: bool) -> atlock::migrate::Options<'static> {
    atlock::migrate::Options { clean_up, ..OPTIONS }
}

/// Locks of Atlantis before v0.40 come to today's keys; where they stand is known for the way back and for the cleaning up.
#[test]
fn old_keys_become_todays() {
    let value = |num: i64| redis_support::lock_json(redis_support::fields("old"), num);
    let (old, current) = ("acme/infra/old/default", EntryKey::Project("acme/infra/old/default/".to_owned()));
    for is_released in [false, true] {
        let (from, to, work) = (Side::redis(), Side::sled(), tempfile::tempdir().unwrap());
        from.put_raw(&format!("pr/{old}"), &value(1));
        execute(&from, &to, work.path(), OPTIONS).unwrap();
        assert_eq!(to.content()[&current].value, value(1));
        assert!(from.content().contains_key(&EntryKey::Project(old.to_owned())), "the source is as it was");
        if is_released {
            let store = to.open().unwrap();
            release(&*store, redis_support::fields("old"));
            store.close().unwrap();
        } else {
            execute(&from, &to, work.path(), migrate_options(true)).unwrap();
            assert_eq!(from.content(), Content::new(), "cleaned up at its old key");
        }
        rollback(work.path(), OPTIONS).unwrap();
        let back = from.content();
        assert_eq!(back.get(&current).map(|held| held.value.clone()), (!is_released).then(|| value(1)));
        assert!(!back.contains_key(&EntryKey::Project(old.to_owned())));
    }
}
