//! The trail's file: rotation, several writers, and what fails.

use super::*;

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
