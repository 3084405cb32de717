//! Faults that the seeds found, each as a single course of events.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::super::job::Job;
use super::super::simulated::{Disk, Fate, Hook, Operation, What};
use super::super::transaction::Transaction;
use super::changes::Call;
use super::world::{DIR, StepClock, Store};
use crate::clock::Clock;
use crate::error::Code;

fn works() -> Hook {
    Arc::new(|_| Fate::Done)
}

/// Fails each operation that is meant, with nothing of it done.
fn failing(kind: ErrorKind, is_meant: impl Fn(&Operation<'_>) -> bool + Send + Sync + 'static) -> Hook {
    Arc::new(move |operation| if is_meant(operation) { Fate::Fails(kind, 0) } else { Fate::Done })
}

/// A crash that keeps nothing of what was not synced.
fn crash(disk: &Arc<Disk>) {
    disk.crash(&mut |_| 0);
}

fn open(disk: &Arc<Disk>, hook: Hook, clock: &Arc<StepClock>) -> crate::error::Result<Store> {
    Store::open(&disk.process(hook), clock)
}

fn make(store: &mut Store, call: Call) {
    let (job, slot) = Job::new(move |tx: &mut Transaction<'_>| call.make(tx));
    store.writer.commit(vec![Box::new(job)]);
    slot.wait(Instant::now()).unwrap();
}

fn grant(store: &mut Store, project: &str) {
    make(store, Call::Grant(project.to_owned(), 1, 0));
}

/// The kernel forgets what a failed sync should have written, and shows it to the next process.
#[test]
fn what_a_failed_sync_forgot_is_written_anew_by_the_next_opening() {
    let (disk, clock) = (Disk::new(), StepClock::new());
    let sync_fails =
        failing(ErrorKind::Other, |operation| operation.what == What::SyncFile && operation.path.ends_with("sled/db"));
    drop(open(&disk, works(), &clock).unwrap().close());
    let mut store = open(&disk, works(), &clock).unwrap();
    grant(&mut store, "a");
    store.close().unwrap();
    // Its last checkpoint fails.
    let (first, second) = (Arc::new(std::sync::atomic::AtomicBool::new(false)), sync_fails);
    let begins = Arc::clone(&first);
    let hook: Hook =
        Arc::new(move |operation| if begins.load(std::sync::atomic::Ordering::SeqCst) { second(operation) } else { Fate::Done });
    let mut store = open(&disk, hook, &clock).unwrap();
    grant(&mut store, "b");
    first.store(true, std::sync::atomic::Ordering::SeqCst);
    store.close().unwrap_err();
    disk.kill();
    let mut store = open(&disk, works(), &clock).unwrap();
    // Over the record of b.
    grant(&mut store, "c");
    let known = store.content();
    crash(&disk);
    assert_eq!(open(&disk, works(), &clock).unwrap().content(), known);
}

/// The journal has a mark of a group that is in sled alone.
#[test]
fn an_older_log_without_a_group_that_did_not_fit_the_journal_is_refused() {
    let (disk, clock) = (Disk::new(), StepClock::new());
    let mut store = open(&disk, works(), &clock).unwrap();
    grant(&mut store, "a");
    store.close().unwrap();
    let sled = Path::new(DIR).join("sled");
    let older = disk.image(&sled);
    let mut store = open(&disk, works(), &clock).unwrap();
    make(&mut store, Call::Swap(1, Some(vec![b'x'; 200_000])));
    let known = store.content();
    store.close().unwrap();
    let newest = disk.image(&sled);
    disk.restore(&sled, &older);
    let error = open(&disk, works(), &clock).map(drop).unwrap_err();
    assert!(error.code() == Code::StoreDamaged && error.message().contains("batch 2 is missing"), "{error}");
    disk.restore(&sled, &newest);
    let mut store = open(&disk, works(), &clock).unwrap();
    assert_eq!(store.content(), known);
    // What comes behind the mark is completed from the journal, and what came before undoes nothing.
    grant(&mut store, "b");
    let known = store.content();
    crash(&disk);
    assert_eq!(open(&disk, works(), &clock).unwrap().content(), known);
}

/// The opening that made the folder ended before the folder's name was durable.
#[test]
fn a_folder_that_an_earlier_opening_made_is_durable_before_it_is_used() {
    let (disk, clock) = (Disk::new(), StepClock::new());
    let sync_fails =
        failing(ErrorKind::Other, |operation| operation.what == What::SyncFolder && operation.path.ends_with("data"));
    assert_eq!(open(&disk, sync_fails, &clock).map(drop).unwrap_err().code(), Code::StoreNotWritable);
    let mut store = open(&disk, works(), &clock).unwrap();
    grant(&mut store, "a");
    let known = store.content();
    crash(&disk);
    assert_eq!(open(&disk, works(), &clock).unwrap().content(), known);
}

/// Who is told that a store is damaged may throw its locks away.
#[test]
fn a_disk_that_is_full_while_the_journal_is_replayed_is_no_damage() {
    let (disk, clock) = (Disk::new(), StepClock::new());
    let mut store = open(&disk, works(), &clock).unwrap();
    grant(&mut store, "a");
    let known = store.content();
    crash(&disk);
    let is_full = failing(ErrorKind::StorageFull, |operation| operation.what == What::Append);
    assert_eq!(open(&disk, is_full, &clock).map(drop).unwrap_err().code(), Code::StoreNotWritable);
    assert_eq!(open(&disk, works(), &clock).unwrap().content(), known);
}

/// sled panics when it cannot write what is left while it is closed.
#[test]
fn an_opening_whose_last_step_fails_is_an_error_and_no_panic() {
    let (disk, clock) = (Disk::new(), StepClock::new());
    let mut store = open(&disk, works(), &clock).unwrap();
    grant(&mut store, "a");
    drop(store);
    let fails = failing(ErrorKind::Other, |operation| operation.what == What::Rename && operation.path.ends_with("sled.saving"));
    assert_eq!(open(&disk, fails, &clock).map(drop).unwrap_err().code(), Code::StoreNotWritable);
    open(&disk, works(), &clock).unwrap();
}

/// A hook that panics is a crash: nothing that the process does afterwards reaches the disk.
#[test]
fn a_hook_that_panics_ends_its_process() {
    let (disk, clock) = (Disk::new(), StepClock::new());
    let hook: Hook = Arc::new(|operation| if operation.what == What::WriteBlocks { panic!("crash") } else { Fate::Done });
    let process = disk.process(hook);
    let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| Store::open(&process, &clock).map(drop)));
    assert!(opened.is_err() && process.is_dead());
    disk.kill();
    open(&disk, works(), &clock).unwrap();
    assert!(clock.unix_micros() > 0);
}

/// An opening cannot make durable that it forgets what it laid aside, and ends. The next one, on this disk, is the machine's last before a power
/// loss, of which each folder and file keeps all or nothing.
fn after_what_was_laid_aside(next: impl Fn() -> Hook) {
    /// Each bit: whether a crash keeps all or nothing of one folder's or file's changes.
    const CHOICES: u32 = 8;
    for keeps in 0_u32..1 << CHOICES {
        let (disk, clock) = (Disk::new(), StepClock::new());
        let mut store = open(&disk, works(), &clock).unwrap();
        grant(&mut store, "a");
        let known = store.content();
        store.close().unwrap();
        let forgets: Hook = Arc::new(|operation| {
            let is_meant = operation.what == What::Rename && operation.path.ends_with("sled.saving");
            if is_meant { Fate::Fails(ErrorKind::Other, u8::MAX) } else { Fate::Done }
        });
        assert!(open(&disk, forgets, &clock).is_err());
        disk.kill();
        assert!(open(&disk, next(), &clock).is_err());
        let mut choice = 0;
        disk.crash(&mut |end| {
            let keeps_all = end > 1 && keeps >> (choice % CHOICES) & 1 == 1;
            choice += u32::from(end > 1);
            if keeps_all { end - 1 } else { 0 }
        });
        let found = open(&disk, works(), &clock).map(|store| store.content());
        assert_eq!(found.as_ref().ok(), Some(&known), "{keeps:b}: {:?}", found.as_ref().err());
    }
}

/// The name of the copy that was laid aside does not come back once the copy is half removed, whatever a power loss keeps.
#[test]
fn a_copy_that_is_being_removed_is_never_put_back() {
    after_what_was_laid_aside(|| {
        Arc::new(|operation| {
            let is_meant = operation.what == What::RemoveFolder && operation.path.ends_with("sled.saving");
            if is_meant { Fate::Dies(u8::MAX) } else { Fate::Done }
        })
    });
}

/// While its name may come back, the copy is not removed: not by the opening that finds that the disk fails, either.
#[test]
fn what_was_laid_aside_is_not_removed_while_its_name_may_come_back() {
    after_what_was_laid_aside(|| {
        failing(ErrorKind::Other, |operation| operation.what == What::SyncFolder && operation.path == Path::new(DIR))
    });
}
