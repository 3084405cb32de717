//! The embedded store as one that follows Redis (`store::contract::local`).

use std::time::Instant;

use super::host_marks;
use super::key_state;
use super::meta::Meta;
use super::record::{REDIS_KEY, VALUE_LIMIT, check_length};
use super::remembered;
use super::store::SledStore;
use super::transaction::Transaction;
use crate::domain::lock::PullRef;
use crate::error::Result;
use crate::store::contract::local::{
    Change, Conflict, EntryKey, Held, HostCopy, HostLacks, KeyState, LocalStore, PullRelease, RedisRecord, Ticket,
};

impl SledStore {
    /// Reads by what a group would see.
    fn view<T>(&self, f: impl FnOnce(&Transaction<'_>) -> Result<T>) -> Result<T> {
        self.tree.read(|view| f(&Transaction::new(&view, Meta::default(), 0)))
    }
}

impl SledStore {
    /// What is at a key, with its token.
    pub(super) fn held_at(&self, key: &EntryKey) -> Result<Option<Held>> {
        self.view(|tx| tx.held(key))
    }
}

impl LocalStore for SledStore {
    fn local(&self, key: &EntryKey) -> Result<KeyState> {
        self.view(|tx| key_state::local(tx, key))
    }

    fn held_by(&self, repo: &str, num: i64) -> Result<Vec<EntryKey>> {
        self.view(|tx| key_state::held_by(tx, PullRef { repo, num }))
    }

    fn submit(&self, first: Vec<Change>, changes: Vec<Change>, deadline: Instant) -> Result<Ticket> {
        // A group must not fail half-way.
        first.iter().chain(&changes).try_for_each(|change| check_length("a value", value_bytes(change), VALUE_LIMIT))?;
        let bytes = |changes: &[Change]| changes.iter().map(size).sum();
        let make = |changes: Vec<Change>| {
            move |tx: &mut Transaction<'_>| changes.iter().try_for_each(|change| key_state::apply(tx, change))
        };
        let (first_bytes, bytes) = (bytes(&first), bytes(&changes));
        let first = (!first.is_empty()).then(|| (first_bytes, make(first)));
        let slot = self.committer.submit_after(first, bytes, deadline, make(changes))?;
        Ok(Ticket::new(move |deadline| slot.wait(deadline)))
    }

    fn everything(&self) -> Result<Vec<(EntryKey, KeyState)>> {
        self.view(key_state::everything)
    }

    fn redis_record(&self) -> Result<Option<RedisRecord>> {
        self.tree.read(|view| remembered::redis_record(view.get(REDIS_KEY)?))
    }

    fn conflicts(&self) -> Result<Vec<Conflict>> {
        self.view(remembered::conflicts)
    }

    fn pull_releases(&self) -> Result<Vec<PullRelease>> {
        self.view(remembered::pull_releases)
    }

    fn host_lacks(&self, most: usize) -> Result<Vec<HostLacks>> {
        self.view(|tx| host_marks::all_host_lacks(tx, most))
    }

    fn host_copy(&self) -> Result<Option<HostCopy>> {
        self.view(host_marks::host_copy)
    }
}

/// How long the value is that a change stores.
fn value_bytes(change: &Change) -> usize {
    match change {
        Change::Intend(_, held) | Change::SetHere(_, held) | Change::Set(_, held) | Change::Adopt(_, held, _) => {
            held.as_ref().map_or(0, |held| held.value.len())
        }
        Change::Conflict(_, held) => held.value.len(),
        _ => 0,
    }
}

/// About how many bytes a change holds.
fn size(change: &Change) -> usize {
    match change {
        Change::Intend(key, _)
        | Change::SetHere(key, _)
        | Change::Set(key, _)
        | Change::Adopt(key, _, _)
        | Change::Conflict(key, _) => key.name().len() + value_bytes(change),
        Change::Decide(key) | Change::Confirm(key, _) | Change::EndConflict(key) => key.name().len(),
        Change::ReleaseLater(release) | Change::ReleasedPull(release) => release.repo.len(),
        Change::Redis(link) => link.server_name.len(),
        // What it is compared with is stored already.
        Change::Copying(key, _) | Change::Copied(key, _) => key.name().len(),
        Change::CopyBegins | Change::HostCopy(_) | Change::Forget(..) => 0,
    }
}
