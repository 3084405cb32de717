//! The servers' disks, each under one local store: the real store's logic over a map (`store::sled::in_memory`).
//!
//! A disk is late, full or fails before a group of changes, as a whole, and a crash leaves some of the groups that nobody waited
//! for. The store's files are not here: no write is torn or comes in another order, and opening, journal and committer do not run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use super::random::Random;
use crate::store::sled::in_memory::{Disk, Hook, InMemoryStore};

pub(super) struct Disks {
    stores: Mutex<Vec<Arc<InMemoryStore>>>,
    pub(super) may_fail: AtomicBool,
    /// How the next write ends.
    pub(super) next: Mutex<Option<Disk>>,
}

impl Disks {
    pub(super) fn new(may_fail: bool) -> Disks {
        Disks { stores: Mutex::default(), may_fail: AtomicBool::new(may_fail), next: Mutex::default() }
    }

    pub(super) fn add(&self, store: InMemoryStore) {
        self.stores.lock().push(Arc::new(store));
    }

    pub(super) fn store(&self, me: usize) -> Arc<InMemoryStore> {
        Arc::clone(&self.stores.lock()[me])
    }

    /// Those whose process must begin anew.
    pub(super) fn failed(&self) -> Vec<usize> {
        let stores = self.stores.lock();
        (0..stores.len()).filter(|me| stores[*me].has_failed()).collect()
    }

    /// The process dies: nothing that it still does reaches the disk.
    pub(super) fn freeze(&self, me: usize) {
        self.store(me).freeze();
    }

    pub(super) fn crash(&self, me: usize, random: &Random, hook: Hook) {
        let mut stores = self.stores.lock();
        let luck = random.index(stores[me].waiting() + 1);
        stores[me] = Arc::new(stores[me].after_crash(luck, hook));
    }

    /// What becomes of a write.
    pub(super) fn fate(&self, random: &Random) -> Disk {
        if let Some(disk) = self.next.lock().take() {
            return disk;
        }
        if !self.may_fail.load(Ordering::SeqCst) || !random.percent(5) {
            return Disk::Works;
        }
        match random.below(10) {
            0 => Disk::IsFull,
            1..=4 => Disk::IsLate,
            5..=7 => Disk::ConfirmsLate,
            8 => Disk::HasFailed,
            _ => Disk::Fails,
        }
    }
}
