//! A folder that is damaged, busy, newer or not writable is refused with a code and a text of its own, and is not changed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod sled_support;

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use atlock::domain::key::Fields;
use atlock::error::{Code, Error};
use atlock::store::sled::SledStore;
use atlock::store::{Granted, LockKey, Store};
use sled_support::{Random, call, contents, copy_folder, grant, seed, system_clock};

const LOCKS: i64 = 300;

fn open(folder: &Path) -> atlock::error::Result<SledStore> {
    SledStore::open(folder, system_clock())
}

fn fill(store: &SledStore, from: i64, to: i64) {
    for num in from..to {
        let project = num.to_string();
        let fields = Fields { repo: "a/b", path: ".", workspace: "w", project: &project };
        assert!(matches!(grant(store, fields, num, 900).unwrap(), Granted::Yes { .. }));
    }
}

/// A closed store with some locks, opened twice so that it has a snapshot beside its log.
fn filled(folder: &Path) {
    fill(&open(folder).unwrap(), 0, LOCKS / 2);
    fill(&open(folder).unwrap(), LOCKS / 2, LOCKS);
    drop(open(folder).unwrap());
    assert!(fs::read_dir(folder.join("sled")).unwrap().any(|e| e.unwrap().file_name().to_string_lossy().starts_with("snap.")));
}

/// Everything but the lock file, which names the last opener.
fn data(folder: &Path) -> std::collections::BTreeMap<std::path::PathBuf, Vec<u8>> {
    let mut found = contents(folder);
    found.remove(&folder.join("lock"));
    found
}

fn assert_damaged_and_unchanged(folder: &Path, what: &str) -> Error {
    let before = data(folder);
    let error = open(folder).expect_err(what);
    assert_eq!(error.code(), Code::StoreDamaged, "{what}: {error}");
    assert!(error.message().contains(folder.to_str().unwrap()) && error.message().contains("backup"), "{what}: {error}");
    assert!(data(folder) == before, "{what}: the folder was changed");
    error
}

type Damage = fn(&Path);

#[test]
fn lost_data_is_refused_and_left_alone() {
    let cases: [(&str, Damage); 9] = [
        ("log truncated to nothing", |folder| fs::write(folder.join("sled/db"), b"").unwrap()),
        ("log and snapshots truncated", |folder| {
            fs::write(folder.join("sled/db"), b"").unwrap();
            for entry in fs::read_dir(folder.join("sled")).unwrap() {
                let path = entry.unwrap().path();
                if path.file_name().unwrap().to_string_lossy().starts_with("snap.") {
                    fs::remove_file(path).unwrap();
                }
            }
        }),
        ("log deleted", |folder| fs::remove_file(folder.join("sled/db")).unwrap()),
        ("sled folder deleted", |folder| fs::remove_dir_all(folder.join("sled")).unwrap()),
        ("sled folder and format file deleted", |folder| {
            fs::remove_dir_all(folder.join("sled")).unwrap();
            fs::remove_file(folder.join("format.json")).unwrap();
        }),
        ("journal deleted", |folder| fs::remove_file(folder.join("journal")).unwrap()),
        ("journal emptied", |folder| fs::write(folder.join("journal"), vec![0; 4 << 20]).unwrap()),
        ("format file unreadable", |folder| fs::write(folder.join("format.json"), b"{").unwrap()),
        ("format file deleted", |folder| fs::remove_file(folder.join("format.json")).unwrap()),
    ];
    for (what, damage) in cases {
        let folder = tempfile::tempdir().unwrap();
        filled(folder.path());
        damage(folder.path());
        assert_damaged_and_unchanged(folder.path(), what);
    }
}

/// Whatever part of sled's log is missing: either the journal makes up for it, or the store is refused.
#[test]
fn a_log_cut_short_is_completed_or_refused() {
    let original = tempfile::tempdir().unwrap();
    filled(original.path());
    let length = fs::metadata(original.path().join("sled/db")).unwrap().len();
    let mut refused = 0;
    for twentieths in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        copy_folder(original.path(), folder.path());
        let log = OpenOptions::new().write(true).open(folder.path().join("sled/db")).unwrap();
        log.set_len(length * twentieths / 20).unwrap();
        drop(log);
        match open(folder.path()) {
            Ok(store) => assert_eq!(store.list(&call()).unwrap().len(), LOCKS as usize),
            Err(e) => {
                assert_eq!(e.code(), Code::StoreDamaged, "{e}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "no cut hit anything");
}

/// An older copy of sled's files is completed from the journal as far as that reaches back, and refused behind that.
#[test]
fn an_older_copy_of_the_data_is_completed_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let copy = tempfile::tempdir().unwrap();
    let sled = folder.path().join("sled");
    let older = || {
        fs::remove_dir_all(&sled).unwrap();
        copy_folder(&copy.path().join("sled"), &sled);
    };
    fill(&open(folder.path()).unwrap(), 0, 10);
    copy_folder(&sled, &copy.path().join("sled"));
    fill(&open(folder.path()).unwrap(), 10, 11);
    older();
    assert_eq!(open(folder.path()).unwrap().list(&call()).unwrap().len(), 11);
    // The journal begins anew at each opening.
    fill(&open(folder.path()).unwrap(), 11, 12);
    older();
    let error = assert_damaged_and_unchanged(folder.path(), "older copy");
    assert!(error.message().contains("batch 11 is missing"), "{error}");
}

/// The store as it is when a copy of this folder is opened.
fn open_copy(folder: &Path) -> SledStore {
    let copy = tempfile::tempdir().unwrap();
    copy_folder(folder, copy.path());
    open(copy.path()).unwrap()
}

#[test]
fn a_damaged_record_of_the_journal_is_refused_unless_it_is_the_last() {
    let original = tempfile::tempdir().unwrap();
    drop(open(original.path()).unwrap());
    let empty = tempfile::tempdir().unwrap();
    copy_folder(&original.path().join("sled"), empty.path());
    let running = open(original.path()).unwrap();
    fill(&running, 0, 10);
    // As power loss may leave it: sled's own log has nothing of it.
    let killed = tempfile::tempdir().unwrap();
    copy_folder(original.path(), killed.path());
    drop(running);
    fs::remove_dir_all(killed.path().join("sled")).unwrap();
    copy_folder(empty.path(), &killed.path().join("sled"));
    let records_at = |folder: &Path| -> Vec<u64> {
        let bytes = fs::read(folder.join("journal")).unwrap();
        (1..bytes.len() / 4096)
            .filter(|block| bytes[block * 4096..].starts_with(b"atlockwr"))
            .map(|block| block as u64 * 4096)
            .collect()
    };
    let records = records_at(killed.path());
    assert_eq!(records.len(), 10);
    assert_eq!(open_copy(killed.path()).list(&call()).unwrap().len(), 10);
    for (nth, at) in records.iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        copy_folder(killed.path(), folder.path());
        let journal = OpenOptions::new().read(true).write(true).open(folder.path().join("journal")).unwrap();
        let mut byte = [0];
        journal.read_exact_at(&mut byte, at + 100).unwrap();
        journal.write_all_at(&[!byte[0]], at + 100).unwrap();
        drop(journal);
        if nth + 1 < records.len() {
            let error = assert_damaged_and_unchanged(folder.path(), "a record in the middle");
            assert!(error.message().contains(&format!("batch {} is missing", nth + 1)), "{error}");
        } else {
            // It looks as if it had been torn, and then nobody was told of it.
            assert_eq!(open(folder.path()).unwrap().list(&call()).unwrap().len(), 9);
        }
    }
}

#[test]
fn an_entry_that_was_changed_behind_our_back_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    let sled = sled::Config::new().path(folder.path().join("sled")).segment_size(256 << 10).open().unwrap();
    let (key, _) = sled.scan_prefix(b"L").next().unwrap().unwrap();
    sled.remove(key).unwrap();
    sled.flush().unwrap();
    drop(sled);
    assert_damaged_and_unchanged(folder.path(), "one entry less");
}

/// A flip in a part of the log that is no longer used harms nothing; every other one must be noticed.
#[test]
fn a_flipped_bit_is_harmless_or_refused() {
    let mut random = Random(seed("ATLOCK_FLIP_SEED"));
    let original = tempfile::tempdir().unwrap();
    filled(original.path());
    let log_length = fs::metadata(original.path().join("sled/db")).unwrap().len();
    let mut refused = 0;
    for round in 0..40 {
        let folder = tempfile::tempdir().unwrap();
        copy_folder(original.path(), folder.path());
        let log = OpenOptions::new().read(true).write(true).open(folder.path().join("sled/db")).unwrap();
        let (offset, mut byte) = (random.below(log_length), [0]);
        log.read_exact_at(&mut byte, offset).unwrap();
        byte[0] ^= 1 << random.below(8);
        log.write_all_at(&byte, offset).unwrap();
        let start = Instant::now();
        match open(folder.path()) {
            Ok(store) => assert_eq!(store.list(&call()).unwrap().len(), LOCKS as usize, "round {round}, offset {offset}"),
            Err(e) => {
                assert_eq!(e.code(), Code::StoreDamaged, "round {round}, offset {offset}: {e}");
                refused += 1;
            }
        }
        assert!(start.elapsed() < Duration::from_secs(20));
    }
    assert!(refused > 0, "no flip hit anything");
}

#[test]
fn leftovers_of_a_kill_do_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path());
    fs::write(folder.path().join("sled/snap.00000000FFFFFFFF.generating"), b"half").unwrap();
    fs::write(folder.path().join("format.json.new"), b"{").unwrap();
    fs::create_dir(folder.path().join("sled.saving")).unwrap();
    fs::write(folder.path().join("sled.saving/db"), b"half").unwrap();
    assert_eq!(open(folder.path()).unwrap().list(&call()).unwrap().len(), LOCKS as usize);
    assert!(!folder.path().join("sled.saving").exists() && !folder.path().join("sled.saved").exists());
    // An opening that was cut short while sled repaired, and one that was cut short while the copy was put back.
    for damage in [(|sled| fs::write(sled.join("db"), b"half").unwrap()) as Damage, |sled| fs::remove_dir_all(sled).unwrap()] {
        copy_folder(&folder.path().join("sled"), &folder.path().join("sled.saved"));
        damage(&folder.path().join("sled"));
        assert_eq!(open(folder.path()).unwrap().list(&call()).unwrap().len(), LOCKS as usize);
    }
    // A creation that was cut short at any of its steps.
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("sled.creating")).unwrap();
    fs::write(folder.path().join("sled.creating/conf"), b"half").unwrap();
    drop(open(folder.path()).unwrap());
    fs::remove_file(folder.path().join("format.json")).unwrap();
    drop(open(folder.path()).unwrap());
    fs::remove_file(folder.path().join("format.json")).unwrap();
    fs::remove_dir_all(folder.path().join("sled")).unwrap();
    fill(&open(folder.path()).unwrap(), 0, 1);
}

#[test]
fn a_newer_format_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).unwrap());
    fs::write(folder.path().join("format.json"), br#"{"format":9,"written_by":"atlock 9.9","more":[1]}"#).unwrap();
    let before = data(folder.path());
    let error = open(folder.path()).unwrap_err();
    assert_eq!(error.code(), Code::StoreNewerFormat);
    assert!(error.message().contains("format 9") && error.message().contains("atlock 9.9"), "{error}");
    assert!(data(folder.path()) == before);
}

#[test]
fn a_second_opener_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).unwrap();
    let start = Instant::now();
    let error = open(folder.path()).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(error.code(), Code::StoreBusy);
    let pid = format!("process ({})", std::process::id());
    assert!(error.message().contains(&pid) && error.message().contains(folder.path().to_str().unwrap()), "{error}");
    drop(store);
    open(folder.path()).unwrap();
}

#[test]
fn a_folder_that_cannot_be_written_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    // procfs refuses new files even to root, as a read-only mount does.
    for dir in [file.clone(), file.join("below"), "/proc/self/atlock".into()] {
        let error = open(&dir).unwrap_err();
        assert_eq!(error.code(), Code::StoreNotWritable, "{error}");
        assert!(error.message().contains(dir.to_str().unwrap()), "{error}");
    }
}

#[test]
fn a_new_folder_is_private_and_its_parents_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("new/deep/folder");
    let store = open(&dir).unwrap();
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(store.get(LockKey::Project("nothing"), &call()).unwrap(), None);
}
