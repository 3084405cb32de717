//! The embedded store without sled and without a disk, for simulations: the same groups over a map, and a crash that loses what
//! nobody waited for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use sled::IVec;

use super::group::Group;
use super::history;
use super::meta::Meta;
use super::operations;
use super::record::{self, LINK_KEY, PROJECT_PREFIX, Stored, key_of};
use super::transaction::{Entries, Transaction};
use crate::clock::{Call, Clock};
use crate::error::Result;
use crate::model::{ProjectLock, PullRef};
use crate::store::mirror::{Change, Conflict, EntryKey, HostLacks, Link, Local, Mirror, PullRelease, Ticket};
use crate::store::{Expected, Grant, Granted, Listing, LockKey, Release, Store, Swap};

type Map = BTreeMap<Vec<u8>, IVec>;

/// Called before each group; it may crash the process, by a panic.
pub(crate) type Hook = Box<dyn Fn() + Send + Sync>;

pub(crate) struct Imitation {
    state: Arc<Mutex<State>>,
    clock: Arc<dyn Clock>,
    hook: Hook,
}

#[derive(Clone, Default)]
struct State {
    /// What a crash leaves.
    durable: Map,
    /// Groups that are applied and not yet durable.
    waiting: Vec<Group>,
    /// What a reader sees.
    visible: Map,
    meta: Meta,
    made: usize,
}

impl Entries for Map {
    fn get(&self, key: &[u8]) -> Result<Option<IVec>> {
        Ok(BTreeMap::get(self, key).cloned())
    }

    fn scan(&self, prefix: &[u8]) -> Result<Vec<(IVec, IVec)>> {
        let found = self.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
        Ok(found.map(|(key, value)| (key.as_slice().into(), value.clone())).collect())
    }
}

fn apply(map: &mut Map, group: &Group) {
    for (key, value) in &group.writes {
        match value {
            Some(value) => drop(map.insert(key.clone(), value.clone())),
            None => drop(map.remove(key)),
        }
    }
}

impl State {
    fn make_durable(&mut self, up_to: usize) {
        let first = self.made - self.waiting.len();
        let count = up_to.saturating_sub(first).min(self.waiting.len());
        for group in self.waiting.drain(..count) {
            apply(&mut self.durable, &group);
        }
    }
}

impl Imitation {
    pub(crate) fn new(clock: Arc<dyn Clock>, hook: Hook) -> Imitation {
        Imitation { state: Arc::default(), clock, hook }
    }

    /// What the next process finds: everything durable, and the first `luck` of the groups that were not yet.
    pub(crate) fn after_crash(&self, luck: usize, hook: Hook) -> Imitation {
        let mut state = self.state.lock().clone();
        let survived = (state.made - state.waiting.len() + luck).min(state.made);
        state.make_durable(survived);
        state.waiting.clear();
        state.visible = state.durable.clone();
        Imitation { state: Arc::new(Mutex::new(state)), clock: Arc::clone(&self.clock), hook }
    }

    /// How many groups are not durable yet.
    pub(crate) fn waiting(&self) -> usize {
        self.state.lock().waiting.len()
    }

    fn make<T>(&self, f: impl FnOnce(&mut Transaction<'_>) -> Result<T>) -> Result<(T, usize)> {
        (self.hook)();
        let mut state = self.state.lock();
        let visible = state.visible.clone();
        let mut tx = Transaction::new(&visible, state.meta, self.clock.unix_micros());
        let answer = f(&mut tx)?;
        if let Some(group) = tx.into_group() {
            state.meta = group.meta;
            apply(&mut state.visible, &group);
            state.waiting.push(group);
            state.made += 1;
        }
        Ok((answer, state.made))
    }

    fn commit<T>(&self, f: impl FnOnce(&mut Transaction<'_>) -> Result<T>) -> Result<T> {
        let (answer, made) = self.make(f)?;
        self.state.lock().make_durable(made);
        Ok(answer)
    }

    fn view<T>(&self, f: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        let visible = self.state.lock().visible.clone();
        f(&Transaction::new(&visible, Meta::default(), 0))
    }

    fn value(&self, tree_key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.view(|tx| Ok(tx.entry(tree_key)?.map(|(_, value)| value)))
    }
}

impl std::fmt::Debug for Imitation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Imitation")
    }
}

impl Store for Imitation {
    fn grant(&self, grant: &Grant<'_>, _call: &Call) -> Result<Granted> {
        let prefix = grant.pull.and_then(|_| operations::index_prefix(grant.value));
        self.commit(|tx| operations::grant(tx, &EntryKey::from(grant.key), grant.value, prefix.as_deref()))
    }

    fn release(&self, release: &Release<'_>, _call: &Call) -> Result<Option<Vec<u8>>> {
        self.commit(|tx| operations::release(tx, release))
    }

    fn discard(&self, key: LockKey<'_>, _call: &Call) -> Result<Option<Vec<u8>>> {
        self.commit(|tx| operations::discard(tx, &EntryKey::from(key)))
    }

    fn get(&self, key: LockKey<'_>, _call: &Call) -> Result<Option<Vec<u8>>> {
        self.value(&record::lock_key(key))
    }

    fn list(&self, _call: &Call) -> Result<Listing> {
        let mut listing = Listing::default();
        let visible = self.state.lock().visible.clone();
        for (key, bytes) in visible.range(PROJECT_PREFIX.to_vec()..).take_while(|(key, _)| key.starts_with(PROJECT_PREFIX)) {
            let value = Stored::decode(key, bytes.clone())?.value(key, |key| Entries::get(&visible, key))?;
            if ProjectLock::parse(&value).is_ok() {
                listing.push(&value);
            }
        }
        Ok(listing)
    }

    fn release_by_pull(&self, pull: PullRef<'_>, _call: &Call) -> Result<Listing> {
        self.commit(|tx| operations::release_by_pull(tx, &record::pull_prefix(pull)))
    }

    fn pull_status(&self, key: &str, _call: &Call) -> Result<Option<Vec<u8>>> {
        self.value(&key_of(&EntryKey::Status(key.to_owned())))
    }

    fn swap_pull_status(&self, key: &str, expected: Expected<'_>, new: Option<&[u8]>, _call: &Call) -> Result<Swap> {
        self.commit(|tx| operations::swap_status(tx, &EntryKey::Status(key.to_owned()), expected, new))
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

impl Mirror for Imitation {
    fn local(&self, key: &EntryKey) -> Result<Local> {
        self.view(|tx| history::local(tx, key))
    }

    fn held_by(&self, repo: &str, num: i64) -> Result<Vec<EntryKey>> {
        self.view(|tx| history::held_by(tx, PullRef { repo, num }))
    }

    fn submit(&self, first: Vec<Change>, changes: Vec<Change>, _deadline: Instant) -> Result<Ticket> {
        self.make(|tx| first.iter().try_for_each(|change| history::apply(tx, change)))?;
        let ((), made) = self.make(|tx| changes.iter().try_for_each(|change| history::apply(tx, change)))?;
        let state = Arc::clone(&self.state);
        Ok(Ticket::new(move |_| {
            state.lock().make_durable(made);
            Ok(())
        }))
    }

    fn everything(&self) -> Result<Vec<(EntryKey, Local)>> {
        self.view(history::everything)
    }

    fn link(&self) -> Result<Option<Link>> {
        let visible = self.state.lock().visible.clone();
        history::link(Entries::get(&visible, LINK_KEY)?)
    }

    fn conflicts(&self) -> Result<Vec<Conflict>> {
        self.view(history::conflicts)
    }

    fn pull_releases(&self) -> Result<Vec<PullRelease>> {
        self.view(history::pull_releases)
    }

    fn host_lacks(&self, most: usize) -> Result<Vec<HostLacks>> {
        self.view(|tx| history::all_host_lacks(tx, most))
    }
}
