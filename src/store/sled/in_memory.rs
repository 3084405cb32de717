//! The embedded store without sled and without a disk, for simulations: the same groups over a map, and a crash that loses what
//! nobody waited for. Its disk may be late, or fail, in the ways of the real one (`committer.rs`, `health.rs`).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use crate::sync::{Mutex, MutexGuard};
use sled::IVec;

use super::changes;
use super::group::Group;
use super::host_marks;
use super::key_state;
use super::meta::Meta;
use super::record::{self, PROJECT_PREFIX, REDIS_KEY, Stored, key_of};
use super::remembered;
use super::transaction::{Entries, Transaction};
use crate::call::Call;
use crate::clock::Clock;
use crate::domain::lock::{ProjectLock, PullRef};
use crate::error::{Code, Error, Result};
use crate::store::contract::local::{
    Change, Conflict, EntryKey, HostCopy, HostLacks, KeyState, LocalStore, PullRelease, RedisRecord, Ticket,
};
use crate::store::{Expected, Grant, Granted, Listing, LockKey, Release, Store, Swap};

type Map = BTreeMap<Vec<u8>, IVec>;

/// What becomes of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    Works,
    /// It is not taken: too many wait.
    IsFull,
    /// It is not begun before whoever waits for it gives up.
    IsLate,
    /// It is begun, and not made before whoever waits for it gives up.
    ConfirmsLate,
    /// It is not begun: the store has failed.
    HasFailed,
    /// It is begun, and may be stored: the store fails.
    Fails,
}

/// Called before each group; it may crash the process, by a panic.
pub(crate) type Hook = Box<dyn Fn() -> Disk + Send + Sync>;

pub(crate) struct InMemoryStore {
    state: Arc<Mutex<SyncState>>,
    clock: Arc<dyn Clock>,
    hook: Hook,
    is_frozen: std::sync::atomic::AtomicBool,
    has_failed: std::sync::atomic::AtomicBool,
    /// What happens when the releases by pull are read, once: a recovery does so when it has looked at all keys.
    pub(crate) at_pull_releases: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

#[derive(Clone, Default)]
struct SyncState {
    /// What a crash leaves.
    durable: Map,
    /// Groups that are applied and not yet durable.
    waiting: Vec<Group>,
    /// What a reader sees.
    visible: Map,
    meta: Meta,
    made: usize,
    /// What was submitted to a late disk, each with its number: a reader does not see it yet.
    queue: VecDeque<(usize, Vec<Change>)>,
    queued: usize,
    /// The last number that was begun: a crash may leave what was, and nobody can withdraw it.
    begun: usize,
    failed: bool,
}

fn apply(map: &mut Map, group: &Group) {
    for (key, value) in &group.writes {
        match value {
            Some(value) => drop(map.insert(key.clone(), value.clone())),
            None => drop(map.remove(key)),
        }
    }
}

impl SyncState {
    fn make<T>(&mut self, now: u64, f: impl FnOnce(&mut Transaction<'_>) -> Result<T>) -> Result<T> {
        let visible = self.visible.clone();
        let mut tx = Transaction::new(&visible, self.meta, now);
        let answer = f(&mut tx)?;
        if let Some(group) = tx.into_group() {
            self.meta = group.meta;
            apply(&mut self.visible, &group);
            self.waiting.push(group);
            self.made += 1;
        }
        Ok(answer)
    }

    fn make_changes(&mut self, now: u64, changes: &[Change]) -> Result<()> {
        self.make(now, |tx| changes.iter().try_for_each(|change| key_state::apply(tx, change)))
    }

    /// The disk has caught up: what was queued is durable before it is seen.
    fn make_queued(&mut self, now: u64) -> Result<()> {
        if self.queue.is_empty() {
            return Ok(());
        }
        while let Some((_, changes)) = self.queue.pop_front() {
            self.make_changes(now, &changes)?;
        }
        self.make_durable(self.made);
        Ok(())
    }

    /// The number of what was queued.
    fn enqueue(&mut self, changes: Vec<Change>) -> usize {
        self.queued += 1;
        self.queue.push_back((self.queued, changes));
        self.queued
    }

    fn make_durable(&mut self, up_to: usize) {
        let first = self.made - self.waiting.len();
        let count = up_to.saturating_sub(first).min(self.waiting.len());
        for group in self.waiting.drain(..count) {
            apply(&mut self.durable, &group);
        }
    }
}

impl InMemoryStore {
    pub(crate) fn new(clock: Arc<dyn Clock>, hook: Hook) -> InMemoryStore {
        InMemoryStore {
            state: Arc::default(),
            clock,
            hook,
            is_frozen: false.into(),
            has_failed: false.into(),
            at_pull_releases: Mutex::default(),
        }
    }

    /// What the next process finds: everything durable, and the first `luck` of the groups that were not yet.
    pub(crate) fn after_crash(&self, luck: usize, hook: Hook) -> InMemoryStore {
        let mut state = self.state.lock().clone();
        let applied = state.waiting.len();
        let durable = state.made - applied;
        state.make_durable(durable + luck.min(applied));
        state.waiting.clear();
        state.visible = state.durable.clone();
        state.queue.truncate(luck.saturating_sub(applied));
        state.make_queued(self.clock.unix_micros()).expect("is made");
        state.failed = false;
        let state = Arc::new(Mutex::new(state));
        InMemoryStore {
            state,
            clock: Arc::clone(&self.clock),
            hook,
            is_frozen: false.into(),
            has_failed: false.into(),
            at_pull_releases: Mutex::default(),
        }
    }

    /// How many groups are not durable yet, and may be after a crash.
    pub(crate) fn waiting(&self) -> usize {
        let state = self.state.lock();
        state.waiting.len() + state.queue.iter().filter(|(number, _)| *number <= state.begun).count()
    }

    /// The process dies: nothing that it still does reaches the disk.
    pub(crate) fn freeze(&self) {
        self.is_frozen.store(true, std::sync::atomic::Ordering::SeqCst);
    }

    /// Whether it answers nothing until the process starts again.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// What the disk does with the next group.
    fn begin(&self) -> (MutexGuard<'_, SyncState>, Disk) {
        let disk = if self.is_frozen.load(std::sync::atomic::Ordering::SeqCst) { Disk::HasFailed } else { (self.hook)() };
        let mut state = self.state.lock();
        let disk = if state.failed || self.is_frozen.load(std::sync::atomic::Ordering::SeqCst) { Disk::HasFailed } else { disk };
        state.failed = matches!(disk, Disk::HasFailed | Disk::Fails);
        self.has_failed.store(state.failed, std::sync::atomic::Ordering::SeqCst);
        (state, disk)
    }

    fn commit<T>(&self, call: &Call, f: impl FnOnce(&mut Transaction<'_>) -> Result<T>) -> Result<T> {
        let (mut state, disk) = self.begin();
        let now = self.clock.unix_micros();
        match disk {
            Disk::HasFailed => return Err(has_failed()),
            Disk::IsFull | Disk::IsLate => {
                pass(&*self.clock, call.deadline);
                return Err(too_late());
            }
            Disk::Works | Disk::ConfirmsLate | Disk::Fails => {}
        }
        state.make_queued(now)?;
        let answer = state.make(now, f)?;
        let made = state.made;
        match disk {
            Disk::Fails => return Err(unknown()),
            Disk::ConfirmsLate => {
                pass(&*self.clock, call.deadline);
                state.make_durable(made);
                return Err(unknown());
            }
            _ => state.make_durable(made),
        }
        Ok(answer)
    }

    fn view<T>(&self, f: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let visible = self.visible()?;
        f(&Transaction::new(&visible, Meta::default(), 0))
    }

    fn visible(&self) -> Result<Map> {
        let state = self.state.lock();
        if state.failed { Err(has_failed()) } else { Ok(state.visible.clone()) }
    }

    fn value(&self, tree_key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.view(|tx| Ok(tx.entry(tree_key)?.map(|(_, value)| value)))
    }
}

/// Waits in vain.
fn pass(clock: &dyn Clock, deadline: Instant) {
    clock.sleep(deadline.saturating_duration_since(clock.now()));
}

fn has_failed() -> Error {
    Error::new(Code::StoreFailed, "the disk failed")
}

fn too_late() -> Error {
    Error::new(Code::Timeout, "the disk is late; nothing was changed")
}

fn unknown() -> Error {
    Error::new(Code::OutcomeUnknown, "the disk is late, or failed")
}

impl std::fmt::Debug for InMemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InMemoryStore")
    }
}

impl Store for InMemoryStore {
    fn grant(&self, grant: &Grant<'_>, call: &Call) -> Result<Granted> {
        let prefix = grant.pull().map(record::pull_prefix);
        self.commit(call, |tx| changes::grant(tx, &EntryKey::from(grant.key), grant.value, prefix.as_deref()))
    }

    fn release(&self, release: &Release<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        self.commit(call, |tx| changes::release(tx, release))
    }

    fn discard(&self, key: LockKey<'_>, call: &Call) -> Result<Option<Vec<u8>>> {
        self.commit(call, |tx| changes::discard(tx, &EntryKey::from(key)))
    }

    fn get(&self, key: LockKey<'_>, _call: &Call) -> Result<Option<Vec<u8>>> {
        self.value(&record::lock_key(key))
    }

    fn list(&self, _call: &Call) -> Result<Listing> {
        let mut listing = Listing::default();
        let visible = self.visible()?;
        for (key, bytes) in visible.range(PROJECT_PREFIX.to_vec()..).take_while(|(key, _)| key.starts_with(PROJECT_PREFIX)) {
            let value = Stored::decode(key, bytes.clone())?.value(key, |key| Entries::get(&visible, key))?;
            if ProjectLock::parse(&value).is_ok() {
                listing.push(&value);
            }
        }
        Ok(listing)
    }

    fn release_by_pull(&self, pull: PullRef<'_>, call: &Call) -> Result<Listing> {
        self.commit(call, |tx| changes::release_by_pull(tx, &record::pull_prefix(pull)))
    }

    fn pull_status(&self, key: &str, _call: &Call) -> Result<Option<Vec<u8>>> {
        self.value(&key_of(&EntryKey::Status(key.to_owned())))
    }

    fn swap_pull_status(&self, key: &str, expected: Expected<'_>, new: Option<&[u8]>, call: &Call) -> Result<Swap> {
        self.commit(call, |tx| changes::swap_status(tx, &EntryKey::Status(key.to_owned()), expected, new))
    }

    fn ping(&self, _call: &Call) -> Result<()> {
        Ok(())
    }

    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    fn close(&self) -> Result<()> {
        let made = self.state.lock().made;
        self.state.lock().make_durable(made);
        Ok(())
    }
}

impl LocalStore for InMemoryStore {
    fn local(&self, key: &EntryKey) -> Result<KeyState> {
        self.view(|tx| key_state::local(tx, key))
    }

    fn held_by(&self, repo: &str, num: i64) -> Result<Vec<EntryKey>> {
        self.view(|tx| key_state::held_by(tx, PullRef { repo, num }))
    }

    fn submit(&self, first: Vec<Change>, changes: Vec<Change>, deadline: Instant) -> Result<Ticket> {
        let (mut state, disk) = self.begin();
        let now = self.clock.unix_micros();
        let (all, clock) = (Arc::clone(&self.state), Arc::clone(&self.clock));
        match disk {
            Disk::HasFailed => return Ok(Ticket::new(|_| Err(has_failed()))),
            Disk::IsFull => {
                pass(&*clock, deadline);
                return Err(too_late());
            }
            Disk::IsLate | Disk::ConfirmsLate => {
                state.enqueue(first);
                let number = state.enqueue(changes);
                if disk == Disk::ConfirmsLate {
                    state.begun = number;
                }
                return Ok(Ticket::new(move |deadline| {
                    let mut state = all.lock();
                    // Others may have waited for it.
                    let Some(place) = state.queue.iter().position(|(queued, _)| *queued == number) else { return Ok(()) };
                    pass(&*clock, deadline);
                    if number <= state.begun {
                        return Err(unknown());
                    }
                    state.queue.remove(place);
                    Err(too_late())
                }));
            }
            Disk::Works | Disk::Fails => {}
        }
        state.make_queued(now)?;
        state.make_changes(now, &first)?;
        state.make_changes(now, &changes)?;
        let made = state.made;
        Ok(Ticket::new(move |_| {
            if disk == Disk::Fails {
                return Err(unknown());
            }
            all.lock().make_durable(made);
            Ok(())
        }))
    }

    fn everything(&self) -> Result<Vec<(EntryKey, KeyState)>> {
        self.view(key_state::everything)
    }

    fn redis_record(&self) -> Result<Option<RedisRecord>> {
        let visible = self.visible()?;
        remembered::redis_record(Entries::get(&visible, REDIS_KEY)?)
    }

    fn conflicts(&self) -> Result<Vec<Conflict>> {
        self.view(remembered::conflicts)
    }

    fn pull_releases(&self) -> Result<Vec<PullRelease>> {
        let then = self.at_pull_releases.lock().take();
        if let Some(then) = then {
            then();
        }
        self.view(remembered::pull_releases)
    }

    fn host_lacks(&self, most: usize) -> Result<Vec<HostLacks>> {
        self.view(|tx| host_marks::all_host_lacks(tx, most))
    }

    fn host_copy(&self) -> Result<Option<HostCopy>> {
        self.view(host_marks::host_copy)
    }
}
