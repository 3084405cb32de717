//! A crash, a kill or a failure at each operation on a file of `atlock compact`.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::compact::compact;
use super::super::files::Files;
use super::super::simulated::{Disk, Fate, Hook};
use super::super::store::SledStore;
use super::world::{DIR, StepClock};
use crate::call::{Call, RequestId};
use crate::clock::Clock;
use crate::domain::lock::ProjectLock;
use crate::domain::token::FencingToken;
use crate::error::Result;
use crate::sealing::MasterKeys;
use crate::store::contract::local::{EntryKey, KeyState, LocalStore as _};
use crate::store::{DocumentKey, Expected, Grant, LockKey, Store as _};

fn works() -> Hook {
    Arc::new(|_| Fate::Done)
}

fn opened(disk: &Arc<Disk>, clock: &Arc<StepClock>, masters: Option<&MasterKeys>) -> Result<SledStore> {
    let clock: Arc<dyn Clock> = Arc::clone(clock) as Arc<dyn Clock>;
    SledStore::open_on(Arc::new(disk.process(works())), Path::new(DIR), clock, Arc::new(|_| Ok(())), masters)
}

fn call(clock: &StepClock) -> Call {
    Call::new(RequestId::from_text("compacting"), clock.now() + std::time::Duration::from_secs(60))
}

fn grant(store: &SledStore, clock: &StepClock, project: &str, padding: usize) {
    let title = "x".repeat(padding);
    let value = format!(
        r#"{{"Project":{{"ProjectName":"{project}","RepoFullName":"a/b","Path":"."}},"Pull":{{"Num":1,"Title":"{title}"}},"Workspace":"default"}}"#
    );
    let lock = ProjectLock::parse(value.as_bytes()).unwrap();
    let key = lock.fields().key();
    let grant = Grant { key: LockKey::Project(&key), lock: Some(&lock), value: value.as_bytes(), in_order: false };
    store.grant(&grant, &call(clock)).unwrap();
}

type Content = (Vec<(EntryKey, KeyState)>, FencingToken);

fn content(store: &SledStore) -> Content {
    (store.everything().unwrap(), store.last_token().unwrap())
}

/// A store with locks, long and short, and what was released.
fn filled(disk: &Arc<Disk>, clock: &Arc<StepClock>, masters: Option<&MasterKeys>) -> Content {
    let store = opened(disk, clock, masters).unwrap();
    for (project, padding) in [("one", 0), ("two", 9_000), ("three", 300)] {
        grant(&store, clock, project, padding);
    }
    store.discard(LockKey::Project("a/b/./default/three"), &call(clock)).unwrap().unwrap();
    // It does not fit into the journal.
    let status = vec![b'"'; 140_000];
    store.swap_document(DocumentKey::PullStatus("h::a/b::1"), Expected::Any, Some(&status), &call(clock)).unwrap();
    let known = content(&store);
    store.close().unwrap();
    known
}

fn compacted(disk: &Arc<Disk>, clock: &StepClock, hook: Hook, masters: Option<&MasterKeys>) -> Result<()> {
    let files: Arc<dyn Files> = Arc::new(disk.process(hook));
    compact(&files, Path::new(DIR), clock, masters).map(drop)
}

fn at_each_operation(masters: Option<&MasterKeys>) {
    let mut operations = 0;
    for fate in [Fate::Dies(0), Fate::Dies(128), Fate::Dies(u8::MAX), Fate::Fails(ErrorKind::StorageFull, 0)] {
        for nth in 0.. {
            let (disk, clock) = (Disk::new(), StepClock::new());
            let known = filled(&disk, &clock, masters);
            let count = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&count);
            let hook: Hook = Arc::new(move |_| if counted.fetch_add(1, Ordering::SeqCst) == nth { fate } else { Fate::Done });
            // A failure may end sled by a panic, as the real one's does.
            let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| compacted(&disk, &clock, hook, masters)));
            if count.load(Ordering::SeqCst) <= nth {
                ended.expect("does not panic").expect("is done");
                operations = operations.max(nth);
                break;
            }
            if nth % 2 == 0 {
                disk.crash(&mut |_| 0)
            } else {
                disk.kill()
            }
            let store = opened(&disk, &clock, masters).unwrap_or_else(|e| panic!("{fate:?} at {nth}: {e}"));
            assert_eq!(content(&store), known, "{fate:?} at {nth}");
            store.close().unwrap();
            compacted(&disk, &clock, works(), masters).unwrap_or_else(|e| panic!("{fate:?} at {nth}, again: {e}"));
            let store = opened(&disk, &clock, masters).unwrap();
            assert_eq!(content(&store), known, "{fate:?} at {nth}, compacted");
            grant(&store, &clock, "four", 0);
            let next = content(&store);
            assert!(next.1 > known.1 && next.0.len() == known.0.len() + 1, "{fate:?} at {nth}");
            store.close().unwrap();
            disk.crash(&mut |_| 0);
            assert_eq!(content(&opened(&disk, &clock, masters).unwrap()), next, "{fate:?} at {nth}, after power loss");
        }
    }
    assert!(operations > 30, "{operations} operations were met");
}

#[test]
fn a_crash_at_any_operation_of_compacting_loses_nothing() {
    at_each_operation(None);
}

#[test]
fn a_crash_at_any_operation_of_compacting_a_sealed_store_loses_nothing() {
    at_each_operation(Some(&MasterKeys::parse("ab".repeat(32).as_bytes(), "test").unwrap()));
}
