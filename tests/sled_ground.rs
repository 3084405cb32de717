//! The store's files are moved, deleted, replaced or mounted over while it is open: from then on nothing is acknowledged, health and
//! warnings tell, and no lock is granted by this store and by one that was opened at the path since.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stderr)]

mod sled_support;
mod wait;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use atlock::domain::key::Fields;
use atlock::domain::lock::PullRef;
use atlock::error::{Code, Result};
use atlock::store::sled::SledStore;
use atlock::store::{Expected, Granted, LockKey, Store};
use sled_support::{SmallDisk, call, contents, copy_folder, grant, system_clock};
use wait::wait_until;

const THREADS: usize = 4;
/// How long to wait for what comes by itself.
const PATIENCE: Duration = Duration::from_secs(30);

fn fields(project: &str) -> Fields<'_> {
    Fields { repo: "a/b", path: ".", workspace: "w", project }
}

fn open(dir: &Path) -> SledStore {
    SledStore::open(dir, system_clock()).unwrap()
}

fn take(store: &SledStore, project: &str) -> Result<bool> {
    grant(store, fields(project), 1, 0).map(|granted| matches!(granted, Granted::Yes { .. }))
}

fn holds(store: &SledStore, project: &str) -> bool {
    store.get(LockKey::Project(&fields(project).key()), &call()).unwrap().is_some()
}

/// What somebody does to the folder `store` in a folder of its own. What is returned is undone on drop.
type Blow = fn(&Path) -> Option<SmallDisk>;

fn replace(path: &Path) {
    let copy = path.with_extension("copy");
    fs::copy(path, &copy).unwrap();
    fs::rename(copy, path).unwrap();
}

/// Each with words of the text: which path, and what happened there.
const BLOWS: [(&str, Blow); 10] = [
    ("/store is gone", |at| {
        fs::rename(at.join("store"), at.join("moved")).unwrap();
        None
    }),
    ("/store is gone", |at| {
        fs::remove_dir_all(at.join("store")).unwrap();
        None
    }),
    ("/store/lock is another file", |at| {
        copy_folder(&at.join("store"), &at.join("copy"));
        fs::rename(at.join("store"), at.join("moved")).unwrap();
        fs::rename(at.join("copy"), at.join("store")).unwrap();
        None
    }),
    ("/store/lock is gone", |at| Some(SmallDisk::mount(&at.join("store"), "12m"))),
    ("/store/lock is gone", |at| {
        fs::remove_file(at.join("store/lock")).unwrap();
        None
    }),
    ("/store/journal is another file", |at| {
        replace(&at.join("store/journal"));
        None
    }),
    ("/store/sled/db is another file", |at| {
        replace(&at.join("store/sled/db"));
        None
    }),
    ("/store/sled/db is gone", |at| {
        fs::rename(at.join("store/sled"), at.join("store/sled.old")).unwrap();
        None
    }),
    ("/store/lock cannot be looked at", |at| {
        fs::rename(at.join("store"), at.join("moved")).unwrap();
        fs::write(at.join("store"), b"a file").unwrap();
        None
    }),
    ("/store/journal was cut to 4096 bytes", |at| {
        OpenOptions::new().write(true).open(at.join("store/journal")).unwrap().set_len(4096).unwrap();
        None
    }),
];

fn assert_answers_nothing(store: &SledStore, words: &str) {
    let answers: Vec<Result<()>> = vec![
        store.get(LockKey::Project(&fields("before").key()), &call()).map(drop),
        store.list(&call()).map(drop),
        store.pull_status("s", &call()).map(drop),
        store.ping(&call()),
        take(store, "before").map(drop),
        take(store, "another").map(drop),
        store.discard(LockKey::Project(&fields("before").key()), &call()).map(drop),
        store.release_by_pull(PullRef { repo: "a/b", num: 1 }, &call()).map(drop),
        store.swap_pull_status("s", Expected::Any, Some(b"1"), &call()).map(drop),
    ];
    for (nth, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.unwrap_err().code(), Code::StoreFailed, "answer {nth}, {words}");
    }
    let warning = &store.warnings()[0];
    assert!(warning.contains(words) && warning.contains("Stop this server"), "{words}: {warning}");
}

/// The folder in which `store` is, open with one lock, and what was done to it.
fn struck(blow: Blow) -> (tempfile::TempDir, SledStore, Option<SmallDisk>) {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder.path().join("store"));
    assert!(take(&store, "before").unwrap());
    let undone = blow(folder.path());
    (folder, store, undone)
}

#[test]
fn the_next_change_is_not_acknowledged() {
    for (words, blow) in BLOWS {
        let (_folder, store, _undone) = struck(blow);
        let error = take(&store, "after").unwrap_err();
        assert_eq!(error.code(), Code::OutcomeUnknown, "{words}: {error}");
        // That is noticed before it is written to.
        let words = if words.contains("was cut") { "cut the file short" } else { words };
        assert!(error.message().contains(words), "{words}: {error}");
        assert_eq!(take(&store, "another").unwrap_err().code(), Code::StoreFailed);
    }
}

/// A group that changes nothing is told nothing, either.
#[test]
fn a_release_of_nothing_is_not_answered() {
    for (words, blow) in BLOWS {
        let (_folder, store, _undone) = struck(blow);
        let error = store.discard(LockKey::Project("nobody's"), &call()).unwrap_err();
        assert!(error.code() == Code::StoreFailed && error.message().contains(words), "{words}: {error}");
    }
}

/// Nobody changes anything: the probe of hybrid mode's watch and of every look at the health.
#[test]
fn a_ping_notices_and_ends_the_reads() {
    for (words, blow) in BLOWS {
        let (_folder, store, _undone) = struck(blow);
        let error = store.ping(&call()).unwrap_err();
        assert!(error.code() == Code::StoreFailed && error.message().contains(words), "{words}: {error}");
        assert_answers_nothing(&store, words);
    }
}

#[test]
fn the_warnings_notice_and_so_does_the_close() {
    for (words, blow) in BLOWS {
        let (_folder, store, _undone) = struck(blow);
        assert!(store.warnings()[0].contains(words), "{words}: {:?}", store.warnings());
        assert_answers_nothing(&store, words);
        let error = store.close().unwrap_err();
        assert!(error.code() == Code::StoreFailed && error.message().contains(words), "{words}: {error}");
        assert_eq!(store.close(), Ok(()), "it is closed all the same");
    }
}

/// A failure that is over when somebody looks again stays one: nobody knows what happened in between.
#[test]
fn a_folder_that_is_put_back_needs_a_restart() {
    let (folder, store, _) = struck(BLOWS[0].1);
    let path = folder.path().join("store");
    assert_eq!(take(&store, "after").unwrap_err().code(), Code::OutcomeUnknown);
    fs::rename(folder.path().join("moved"), &path).unwrap();
    assert_answers_nothing(&store, "/store is gone");
    drop(store);
    let store = open(&path);
    assert!(holds(&store, "before"));
    assert!(take(&store, "another").unwrap());
}

/// What callers of a store were told about the locks that they asked for, one after the other: whether they hold it.
#[derive(Default)]
struct Told(Mutex<BTreeMap<String, bool>>);

impl Told {
    fn acknowledged(&self) -> BTreeSet<String> {
        let told = self.0.lock().unwrap();
        told.iter().filter(|(_, granted)| **granted).map(|(project, _)| project.clone()).collect()
    }
}

/// Callers take one lock after the other while the blow comes. Then a second store is opened at the path, and takes every lock that
/// the first did not acknowledge, while callers still try those.
fn second_server(blow: Blow, moved: Option<&str>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let first = open(&path);
    let (is_over, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let (since, asked): ([AtomicUsize; THREADS], [AtomicUsize; THREADS]) = Default::default();
    let told = Told::default();
    let (before, granted_by_second) = std::thread::scope(|scope| {
        for (thread, since) in since.iter().enumerate() {
            let (first, is_over, stop, told, asked) = (&first, &is_over, &stop, &told, &asked);
            scope.spawn(move || {
                for nth in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        return;
                    }
                    let (project, began_since) = (format!("{thread}-{nth}"), is_over.load(Ordering::SeqCst));
                    let granted = take(first, &project).is_ok_and(|granted| granted);
                    told.0.lock().unwrap().insert(project, granted);
                    asked[thread].store(nth, Ordering::SeqCst);
                    since.fetch_add(usize::from(began_since), Ordering::SeqCst);
                    // What is refused at once would fill the memory.
                    std::thread::sleep(if granted { Duration::ZERO } else { Duration::from_millis(1) });
                }
            });
        }
        let _stopper = StopOnDrop(&stop);
        wait_until("the callers work", PATIENCE, || told.acknowledged().len() > 200);
        blow(folder.path());
        is_over.store(true, Ordering::SeqCst);
        let each_called = |times| since.iter().all(|since| since.load(Ordering::SeqCst) >= times);
        wait_until("every call that was under way has ended", PATIENCE, || each_called(1));
        let before = told.acknowledged();
        let second = open(&path);
        // Those that the callers come to about now.
        let about =
            |thread: usize| asked[thread].load(Ordering::SeqCst).saturating_sub(20)..asked[thread].load(Ordering::SeqCst) + 40;
        let wanted = (0..THREADS).flat_map(|thread| about(thread).map(move |nth| format!("{thread}-{nth}")));
        let granted: BTreeSet<String> =
            wanted.filter(|project| !before.contains(project) && take(&second, project).unwrap()).collect();
        wait_until("callers came while the second was open", PATIENCE, || each_called(20));
        (before, granted)
    });
    assert_eq!(told.acknowledged(), before, "something was acknowledged after the files were gone");
    assert!(granted_by_second.is_disjoint(&told.acknowledged()));
    let told = told.0.into_inner().unwrap();
    let asked_of_both = granted_by_second.iter().filter(|project| told.contains_key(*project)).count();
    assert!(asked_of_both >= THREADS * 10, "only {asked_of_both} locks were asked of both");
    drop(first);
    if let Some(moved) = moved {
        let moved = open(&folder.path().join(moved));
        for project in &before {
            assert!(holds(&moved, project), "{project} was lost");
        }
    }
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_second_server_where_the_folder_was_moved_away() {
    second_server(BLOWS[0].1, Some("moved"));
}

#[test]
fn a_second_server_where_the_folder_was_deleted() {
    second_server(
        |at| {
            // While the first still writes into it, as `rm -r` does.
            while fs::remove_dir_all(at.join("store")).is_err() {}
            None
        },
        None,
    );
}

/// The second has every lock that the first acknowledged, as if it had been restarted.
#[test]
fn a_second_server_where_a_copy_took_the_folders_place() {
    second_server(
        |at| {
            let (path, moved) = (at.join("store"), at.join("moved"));
            fs::rename(&path, &moved).unwrap();
            // The group that is under way must not be copied in halves.
            let mut seen = contents(&moved);
            wait_until("the first has stopped writing", PATIENCE, || {
                std::thread::sleep(Duration::from_millis(50));
                let before = std::mem::replace(&mut seen, contents(&moved));
                before == seen
            });
            copy_folder(&moved, &path);
            None
        },
        Some("store"),
    );
}

/// sled opens files by their paths, and so does this look.
#[test]
fn the_working_directory_may_change() {
    let folder = tempfile::tempdir().unwrap();
    std::env::set_current_dir(folder.path()).unwrap();
    let store = open(Path::new("store"));
    std::env::set_current_dir("/").unwrap();
    assert!(take(&store, "a").unwrap());
    store.ping(&call()).unwrap();
    store.close().unwrap();
    assert!(holds(&open(&folder.path().join("store")), "a"));
}
